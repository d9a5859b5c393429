//! From a cell and the shapes of its inputs to the tables and offsets of its launches.

use std::collections::HashMap;

use super::gather::{Source, place};
use super::launches::{Plan, Rows};
use super::rows::Builder;
use super::table::{NONE, kind, norm, part, term};
use crate::CellBytes;
use crate::edge::{Cell, Edge, EdgeOperation};

/// Whether the kernels support all operations of a cell.
pub fn serves(cell: &Cell) -> bool {
    let has = |edge: &Edge| {
        edge.channels[1] <= 256
            && edge.operations.iter().all(|operation| match *operation {
                EdgeOperation::Separable { kernel, dilation, repeats } => {
                    edge.channels[0] == edge.channels[1]
                        && (kernel == 3 || kernel == 5)
                        && (repeats == 1 || repeats == 2)
                        && dilation * (kernel - 1) / 2 < 256
                }
                EdgeOperation::Pointwise => edge.stride == 1,
                EdgeOperation::MaxPool { .. } | EdgeOperation::AvgPool { .. } => edge.stride <= 2,
                _ => true,
            })
    };
    // The plain composition runs a cell of several parts.
    cell.parts == 1 && cell.edges().all(has)
}

/// Bytes of the buffers of a cell's launches.
pub fn cell_bytes(cell: &Cell, shapes: &[[usize; 4]]) -> CellBytes {
    let end = |range: fn(&Edge) -> std::ops::Range<usize>| {
        cell.edges().map(|edge| range(edge).end).max().unwrap_or(0)
    };
    let lengths = [end(Edge::parameter_range), end(Edge::statistic_range)];
    let plan = Plan::new(cell, shapes, lengths);
    let bytes = |values: usize| (values * size_of::<f32>()) as u64;
    let output: usize = plan.output.iter().product();
    let inputs: usize = shapes.iter().map(|shape| shape.iter().product::<usize>()).sum();
    let maps = || plan.targets.iter().map(|target| bytes(target.maps_len));
    let work = plan.states_len + plan.scratch_len + plan.pooled_len + plan.partials_len;
    CellBytes {
        kept: bytes(output + plan.states_len + plan.norms_len()),
        maps: maps().sum(),
        maps_at_once: maps().max().unwrap_or(0),
        passing: bytes(output + work + inputs + lengths[0]),
    }
}

/// The states of each target: both inputs where one launch can do them, and each of the other
/// states alone.
fn groups(cell: &Cell, states: &[Source]) -> Vec<Vec<usize>> {
    // Pools and identities read a source where they are added up; that code knows only one input.
    let has_maps = |edge: &Edge| {
        let blocks = |operation: &EdgeOperation| operation.blocks(edge.channels);
        edge.operations.iter().all(|each| blocks(each).iter().any(|block| !block.is_empty()))
    };
    let alike = cell.inputs.len() == 2 && states[0].size == states[1].size;
    let first = if alike && cell.inputs.iter().all(has_maps) { 2 } else { 0 };
    let both = (first > 0).then(|| (0..first).collect());
    both.into_iter().chain((first..states.len()).map(|state| vec![state])).collect()
}

impl Plan {
    /// `lengths` are those of the packed parameters and statistics.
    ///
    /// # Panics
    /// Where edges and shapes do not fit each other.
    pub fn new(cell: &Cell, shapes: &[[usize; 4]], lengths: [usize; 2]) -> Self {
        assert_eq!(shapes.len(), cell.inputs.len(), "one shape for each input");
        let batch = shapes[0][0];
        let channels = cell.inputs[0].channels[1];
        let mut plan = Self {
            table: Vec::new(),
            targets: Vec::new(),
            batch,
            channels,
            num_norms: 0,
            states_len: 0,
            scratch_len: 0,
            num_coefficients: 0,
            num_inner_sources: 0,
            mixed: Rows::default(),
            output: [0; 4],
            parts: Rows::default(),
            weight_parts: Rows::default(),
            partials_len: 0,
            largest_part: 1,
            norms: Rows::default(),
            places: 0,
            packed_numbers: 0,
            counts: 0,
            largest_size: 0,
            whole: false,
            pooled: HashMap::new(),
            pooled_len: 0,
            pools: Vec::new(),
            covers_parameters: false,
        };
        let out_size = |[height, width]: [usize; 2], edge: &Edge| {
            [height.div_ceil(edge.stride), width.div_ceil(edge.stride)]
        };
        let mut states: Vec<Source> = Vec::new();
        for (edge, &[images, _, height, width]) in cell.inputs.iter().zip(shapes) {
            assert_eq!(images, batch, "all inputs have one batch");
            plan.add_state(&mut states, out_size([height, width], edge));
        }
        for edges in &cell.nodes {
            let (state, edge) = edges.first().expect("every node has an edge");
            let size = out_size(states[*state].size, edge);
            plan.add_state(&mut states, size);
        }
        let mut all_norms: Vec<([u32; norm::LEN], usize, usize)> = Vec::new();
        let mut weight_parts = Vec::new();
        let mut all_mixed = Vec::new();
        let joined = |state| cell.concat.iter().position(|&each| each == state);
        let groups = groups(cell, &states);
        let mut state_terms = Vec::new();
        let mut all_pools = Vec::new();
        let mut all_whole = true;
        for group in &groups {
            let mut builder = Builder::default();
            let mut edges: Vec<(Source, &Edge)> = Vec::new();
            let mut inputs_read = Vec::new();
            for &state in group {
                let of_state: Vec<(Source, &Edge)> = match state.checked_sub(cell.inputs.len()) {
                    None => {
                        let [_, channels, height, width] = shapes[state];
                        assert_eq!(channels, cell.inputs[state].channels[0], "the edge's channels");
                        let (input, size) = (inputs_read.len(), [height, width]);
                        inputs_read.push(state);
                        let from = Source { input, place: 0, channels, size, gradient: 0 };
                        vec![(from, &cell.inputs[state])]
                    }
                    Some(node) => {
                        let edges = cell.nodes[node].iter().map(|(from, edge)| {
                            assert!(*from < state, "edges come from earlier states");
                            assert_eq!(edge.channels, [channels; 2], "nodes have one width");
                            (states[*from], edge)
                        });
                        edges.collect()
                    }
                };
                let to = states[state];
                for (from, edge) in &of_state {
                    all_whole &= from.size[1].is_multiple_of(4 * edge.stride);
                    all_whole &= to.size[1].is_multiple_of(4);
                    assert_eq!(out_size(from.size, edge), to.size, "edges of a node make one size");
                }
                let first_term = builder.terms.len();
                let input = (state < cell.inputs.len()).then_some(state);
                plan.gather(to, input, &of_state, &mut builder, all_mixed.len(), &mut all_norms);
                all_mixed.append(&mut builder.mixed);
                let output = joined(state).map_or(NONE, |number| place(number * channels));
                let terms = &mut builder.terms[first_term..];
                let is_map = |row: &[u32; term::LEN]| row[term::KIND] == kind::MAP;
                terms.sort_by_key(|row| !is_map(row));
                let num_maps = terms.iter().filter(|row| is_map(row)).count();
                let [count, num_maps] = [terms.len(), num_maps].map(place);
                builder.nodes.push([count, place(first_term), place(to.place), output, num_maps]);
                edges.extend(of_state);
            }
            let size = states[group[0]].size;
            if inputs_read.is_empty() {
                // Later targets read these maps; a target cannot read what it makes itself.
                for (key, pooled) in builder.made_pools.drain(..) {
                    plan.pooled.entry(key).or_insert(pooled);
                }
                state_terms.extend(builder.terms.iter().chain(&builder.pool_terms).copied());
                all_pools.extend(builder.pools.iter().map(|row| (size, *row)));
            }
            plan.add_target(inputs_read, size, &edges, builder, &mut weight_parts);
        }
        for (number, group) in groups.iter().enumerate() {
            let made: Vec<Source> = group.iter().map(|&state| states[state]).collect();
            plan.targets[number].state_pools = plan.pools_of(&made, &state_terms);
        }
        all_pools.sort_by_key(|(size, _)| *size);
        for of_size in all_pools.chunk_by(|(one, _), (other, _)| one == other) {
            let rows: Vec<_> = of_size.iter().map(|(_, row)| *row).collect();
            let rows = plan.rows(&rows);
            plan.pools.push((of_size[0].0, rows));
        }
        plan.whole = all_whole;
        plan.mixed = plan.rows(&all_mixed);
        plan.weight_parts = plan.rows(&weight_parts);
        let sizes = weight_parts.iter().map(|row| row[part::SIZE] as usize);
        plan.largest_part = sizes.max().unwrap_or(1);
        let [height, width] = states[cell.concat[0]].size;
        for &state in &cell.concat {
            assert_eq!(states[state].size, [height, width], "joined states have one size");
        }
        plan.output = [batch, cell.concat.len() * channels, height, width];
        let parts = states.iter().enumerate().map(|(number, state)| {
            let from = joined(number).map_or(NONE, |number| place(number * channels));
            let size = state.size.iter().product();
            [from, 0, place(size), place(state.gradient)]
        });
        let parts: Vec<_> = parts.collect();
        plan.largest_size = parts.iter().map(|row| row[part::SIZE] as usize).max().unwrap_or(0);
        plan.parts = plan.rows(&parts);
        plan.num_norms = all_norms.len();
        let rows: Vec<_> = all_norms.iter().map(|(row, ..)| *row).collect();
        plan.norms = plan.rows(&rows);
        plan.places = plan.table.len();
        plan.table.extend(all_norms.iter().map(|(_, at, _)| place(*at)));
        plan.packed_numbers = plan.table.len();
        let mut packed = vec![NONE; lengths[1]];
        for (number, (_, at, _)) in all_norms.iter().enumerate() {
            for (channel, value) in packed[*at..at + channels].iter_mut().enumerate() {
                *value = place(number * channels + channel);
            }
        }
        plan.table.extend(packed);
        plan.counts = plan.table.len();
        plan.table.extend(all_norms.iter().map(|(.., count)| place(*count)));
        let covered: usize = cell.edges().map(Edge::num_parameters).sum();
        plan.covers_parameters = covered == lengths[0];
        plan
    }

    fn add_state(&mut self, states: &mut Vec<Source>, size: [usize; 2]) {
        let (at, channels) = (self.states_len, self.channels);
        states.push(Source { input: 0, place: at, channels, size, gradient: at });
        self.states_len += self.batch * channels * size[0] * size[1];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A 1x1 convolution from 3 to 4 channels, two images of 4x4, by hand.
    #[test]
    fn bytes_are_those_of_the_buffers() {
        let edge = Edge {
            operations: vec![EdgeOperation::Pointwise],
            channels: [3, 4],
            stride: 1,
            affine: false,
            parameters: 0,
            statistics: 0,
        };
        let bytes = cell_bytes(&Cell::from(edge), &[[2, 3, 4, 4]]);
        // Output, state and map; four values of each channel's normalization and of its
        // coefficients.
        let (output, norms) = (2 * 4 * 16, 2 * 4 * 4);
        assert_eq!(bytes.kept, 4 * (2 * output + norms));
        assert_eq!([bytes.maps, bytes.maps_at_once], [4 * output; 2]);
        // Gradients of output and state, of gathered values, parts of the weights' gradients and
        // their sums, the input's gradient.
        let (input, weights) = (2 * 3 * 16, 3 * 4);
        let parts = 2 * weights;
        assert_eq!(bytes.passing, 4 * (2 * output + input + parts + weights + input));
    }
}
