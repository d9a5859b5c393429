//! From a cell and the shapes of its inputs to the tables and offsets of its launches.

use super::gather::{Gather, Source, block_row, gathers, place};
use super::table::{NONE, block, gather, kind, norm, part, source, term};
use super::tile::{Tile, WeightTile};
use crate::edge::{Cell, Edge, EdgeOperation};

/// Rows of one launch in the table.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rows {
    pub first: usize,
    pub count: usize,
}

/// A state, and all that is launched for the edges into it.
#[derive(Debug)]
pub struct Target {
    /// The input that its edge reads; a node reads states.
    pub input: Option<usize>,
    /// Height and width of the state.
    pub size: [usize; 2],
    /// Blocks that read a source, with the pools whose moments are wanted, and blocks behind them.
    pub blocks: [Rows; 2],
    /// The normalizations behind them.
    pub norms: [Rows; 2],
    /// The node's own row.
    pub node: Rows,
    pub terms: Rows,
    /// The same columns for the normalizations between two blocks.
    pub inner_terms: Rows,
    /// Last blocks, and the first ones of two; together all with weights, one after the other.
    pub last: Rows,
    pub first: Rows,
    /// What first blocks of two made, and what the edges read.
    pub inner_sources: Rows,
    pub sources: Rows,
    /// Largest height and width, and channels, of what the edges read.
    pub source_size: [usize; 2],
    pub source_channels: usize,
    /// Values of all maps.
    pub maps_len: usize,
    /// Most channels that a block gathers and makes.
    pub inputs: usize,
    pub outputs: usize,
    pub tile: Tile,
    pub weights: WeightTile,
    pub has_depthwise: bool,
}

/// All launches of a cell at one shape.
#[derive(Debug)]
pub struct Plan {
    pub table: Vec<u32>,
    pub targets: Vec<Target>,
    pub batch: usize,
    pub channels: usize,
    pub num_norms: usize,
    /// Values of all states, and of the scratch that a backward pass needs behind them.
    pub states_len: usize,
    pub scratch_len: usize,
    /// Most coefficients of a target.
    pub num_coefficients: usize,
    /// Shape of the output.
    pub output: [usize; 4],
    /// States for the gradient of the output.
    pub parts: Rows,
    /// Sums of the partial weight gradients, how many values these have, and the most of a sum.
    pub weight_parts: Rows,
    pub partials_len: usize,
    pub largest_part: usize,
    /// All normalizations in order, and where their statistics are packed.
    pub norms: Rows,
    pub places: usize,
    /// Of each packed statistic, which channel of all normalizations it is; of each of these, how many values a
    /// channel has.
    pub packed_numbers: usize,
    pub counts: usize,
    pub largest_size: usize,
    /// Whether every packed parameter gets its gradient.
    pub covers_parameters: bool,
}

/// Rows of a target while they are gathered.
#[derive(Default)]
struct Builder {
    firsts: Vec<[u32; block::LEN]>,
    lasts: Vec<[u32; block::LEN]>,
    seconds: Vec<[u32; block::LEN]>,
    pools: Vec<[u32; block::LEN]>,
    norms: [Vec<[u32; norm::LEN]>; 2],
    terms: Vec<[u32; term::LEN]>,
    inner_terms: Vec<[u32; term::LEN]>,
    /// Of each block that reads a source: the number of the source.
    maps_len: usize,
    gathered_len: usize,
}

/// Whether the kernels have all operations of a cell.
pub fn serves(cell: &Cell) -> bool {
    let has = |edge: &Edge| {
        edge.channels[1] <= 256
            && edge.operations.iter().all(|operation| match *operation {
                EdgeOperation::Separable { kernel, dilation, repeats } => {
                    (kernel == 3 || kernel == 5)
                        && (repeats == 1 || repeats == 2)
                        && dilation * (kernel - 1) / 2 < 256
                }
                _ => true,
            })
    };
    cell.edges().all(has)
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
        let mut mixing = 0;
        let joined = |state| cell.concat.iter().position(|&each| each == state);
        for state in 0..states.len() {
            let to = states[state];
            let (input, edges) = match state.checked_sub(cell.inputs.len()) {
                None => {
                    let [_, channels, height, width] = shapes[state];
                    assert_eq!(channels, cell.inputs[state].channels[0], "the edge's channels");
                    let from = Source { place: 0, channels, size: [height, width], gradient: 0 };
                    (Some(state), vec![(from, &cell.inputs[state])])
                }
                Some(node) => {
                    let edges = cell.nodes[node].iter().map(|(from, edge)| {
                        assert!(*from < state, "edges come from earlier states");
                        assert_eq!(edge.channels, [channels; 2], "nodes have one width");
                        (states[*from], edge)
                    });
                    (None, edges.collect())
                }
            };
            for (from, edge) in &edges {
                assert_eq!(out_size(from.size, edge), to.size, "edges of a node make one size");
            }
            let output = joined(state).map(|number| number * channels);
            let (builder, inner) = plan.gather(to, &edges, &mut mixing, &mut all_norms);
            plan.add_target(input, to, output, &edges, builder, inner, &mut weight_parts);
        }
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
        states.push(Source { place: at, channels, size, gradient: at });
        self.states_len += self.batch * channels * size[0] * size[1];
    }

    fn rows<const N: usize>(&mut self, rows: &[[u32; N]]) -> Rows {
        let first = self.table.len();
        self.table.extend(rows.iter().flatten());
        Rows { first, count: rows.len() }
    }

    /// The rows of all that is launched for the edges into a state.
    fn gather(
        &mut self,
        to: Source,
        edges: &[(Source, &Edge)],
        mixing: &mut usize,
        all_norms: &mut Vec<([u32; norm::LEN], usize, usize)>,
    ) -> (Builder, Vec<[u32; source::LEN]>) {
        let (batch, channels) = (self.batch, self.channels);
        let size: usize = to.size.iter().product();
        let mut builder = Builder::default();
        let mut inner: Vec<[u32; source::LEN]> = Vec::new();
        let mut coefficients = 0;
        let mut coefficient = || {
            coefficients += 1;
            place(coefficients - 1)
        };
        let count = batch * size;
        for (from, edge) in edges {
            let mut parameters = edge.parameters;
            let mut statistics = edge.statistics;
            // The next normalization: its number, and the place of its gamma.
            let mut next_norm = |parameters: &mut usize| {
                let gamma = if edge.affine { place(*parameters) } else { NONE };
                *parameters += if edge.affine { 2 * channels } else { 0 };
                let number = place(all_norms.len());
                all_norms.push(([number, gamma], statistics, count));
                statistics += channels;
                (number, gamma)
            };
            for &operation in &edge.operations {
                let weight = place(*mixing);
                *mixing += 1;
                let mut row = [0; term::LEN];
                row[term::VALUE] = place(from.place);
                row[term::HEIGHT] = place(from.size[0]);
                row[term::WIDTH] = place(from.size[1]);
                row[term::STRIDE] = place(edge.stride);
                row[term::NORM] = NONE;
                row[term::MIXING] = weight;
                row[term::GRADIENT] = place(to.gradient);
                row[term::COEFFICIENTS] = coefficient();
                row[term::GAMMA] = NONE;
                let alike = from.channels == channels;
                match operation {
                    EdgeOperation::Identity => {
                        assert!(alike && edge.stride == 1, "an identity keeps its shape");
                        row[term::KIND] = kind::IDENTITY;
                    }
                    EdgeOperation::MaxPool { norm } | EdgeOperation::AvgPool { norm } => {
                        assert!(alike, "a pool keeps its channels");
                        let is_max = matches!(operation, EdgeOperation::MaxPool { .. });
                        row[term::KIND] = if is_max { kind::MAX_POOL } else { kind::MEAN_POOL };
                        if norm {
                            let way = if is_max { gather::MAX_POOL } else { gather::MEAN_POOL };
                            let mut pool = block_row(from, &Gather::pool(way, edge.stride));
                            let (number, gamma) = next_norm(&mut parameters);
                            pool[block::OUTPUTS] = place(channels);
                            pool[block::SLOT] = place(builder.norms[0].len());
                            builder.norms[0].push([number, gamma]);
                            (row[term::NORM], row[term::GAMMA]) = (number, gamma);
                            builder.pools.push(pool);
                        }
                    }
                    _ => {
                        row[term::KIND] = kind::MAP;
                        let blocks = gathers(operation, edge.stride, from);
                        let num_blocks = blocks.len();
                        let mut source = *from;
                        let mut source_norm = NONE;
                        for (number, halves) in blocks.into_iter().enumerate() {
                            let is_last = number + 1 == num_blocks;
                            let reads_map = number > 0;
                            let slots = &mut builder.norms[usize::from(reads_map)];
                            let slot = place(slots.len());
                            let map = builder.maps_len;
                            builder.maps_len += batch * channels * size;
                            let of_norm =
                                if is_last { row[term::COEFFICIENTS] } else { coefficient() };
                            let mut rows = Vec::new();
                            let outputs = channels / halves.len();
                            for (half, gather) in halves.iter().enumerate() {
                                let inputs = match gather.way {
                                    gather::WINDOW => 9 * source.channels,
                                    _ => source.channels,
                                };
                                let mut block = block_row(&source, gather);
                                block[block::SOURCE_NORM] = source_norm;
                                block[block::DEPTHWISE] = place(parameters);
                                parameters += gather.taps() * source.channels;
                                block[block::POINTWISE] = place(parameters);
                                parameters += inputs * outputs;
                                block[block::INPUTS] = place(inputs);
                                block[block::OUTPUTS] = place(outputs);
                                block[block::MAP] = place(map);
                                block[block::FIRST] = place(half * outputs);
                                block[block::SLOT] = slot;
                                block[block::COEFFICIENTS] = of_norm;
                                block[block::MIXING] = if is_last { weight } else { NONE };
                                block[block::GRADIENT] = place(to.gradient);
                                block[block::GATHERED] =
                                    place(self.states_len + builder.gathered_len);
                                builder.gathered_len += batch * inputs * size;
                                rows.push(block);
                            }
                            let (norm, gamma) = next_norm(&mut parameters);
                            builder.norms[usize::from(reads_map)].push([norm, gamma]);
                            if is_last {
                                (row[term::NORM], row[term::GAMMA]) = (norm, gamma);
                            } else {
                                let gradient = self.states_len + builder.gathered_len;
                                builder.gathered_len += batch * channels * size;
                                for block in &mut rows {
                                    block[block::GRADIENT] = place(gradient);
                                }
                                let mut inner_row = row;
                                inner_row[term::NORM] = norm;
                                inner_row[term::GAMMA] = gamma;
                                inner_row[term::MIXING] = NONE;
                                inner_row[term::COEFFICIENTS] = of_norm;
                                builder.inner_terms.push(inner_row);
                                let mut made = [0; source::LEN];
                                made[source::PLACE] = place(map);
                                made[source::HEIGHT] = place(to.size[0]);
                                made[source::WIDTH] = place(to.size[1]);
                                made[source::GRADIENT] = place(gradient);
                                made[source::NORM] = norm;
                                inner.push(made);
                                source = Source { place: map, channels, size: to.size, gradient };
                                source_norm = norm;
                            }
                            row[term::VALUE] = place(map);
                            match (reads_map, is_last) {
                                (true, _) => builder.seconds.extend(rows),
                                (false, true) => builder.lasts.extend(rows),
                                (false, false) => builder.firsts.extend(rows),
                            }
                        }
                    }
                }
                builder.terms.push(row);
            }
        }
        self.num_coefficients = self.num_coefficients.max(coefficients);
        self.scratch_len = self.scratch_len.max(builder.gathered_len);
        (builder, inner)
    }

    fn add_target(
        &mut self,
        input: Option<usize>,
        to: Source,
        output: Option<usize>,
        edges: &[(Source, &Edge)],
        mut builder: Builder,
        mut inner: Vec<[u32; source::LEN]>,
        parts: &mut Vec<[u32; part::LEN]>,
    ) {
        let channels = self.channels;
        let with_weights = || builder.firsts.iter().chain(&builder.lasts).chain(&builder.seconds);
        let most =
            |column: usize| with_weights().map(|row| row[column]).max().unwrap_or(1) as usize;
        let (inputs, outputs) = (most(block::INPUTS), most(block::OUTPUTS));
        let weights = WeightTile::new(outputs, inputs, self.batch);
        let (firsts, lasts, seconds) =
            (&mut builder.firsts, &mut builder.lasts, &mut builder.seconds);
        let mut has_depthwise = false;
        for row in firsts.iter_mut().chain(lasts).chain(seconds) {
            let [inputs, outputs] = [block::INPUTS, block::OUTPUTS].map(|at| row[at] as usize);
            let mut add = |to: u32, num: usize, size: usize| {
                let from = self.partials_len;
                parts.push([place(from), place(num), place(size), to]);
                self.partials_len += num * size;
                place(from)
            };
            row[block::POINTWISE_PARTIALS] =
                add(row[block::POINTWISE], weights.chunks * weights.splits, inputs * outputs);
            if row[block::GATHER] == gather::DEPTHWISE {
                has_depthwise = true;
                let taps = (row[block::KERNEL] * row[block::KERNEL]) as usize;
                row[block::DEPTHWISE_PARTIALS] =
                    add(row[block::DEPTHWISE], weights.chunks, inputs * taps);
            }
        }
        let pools = self.rows(&builder.pools);
        let firsts = self.rows(&builder.firsts);
        let lasts = self.rows(&builder.lasts);
        let seconds = self.rows(&builder.seconds);
        for (number, made) in inner.iter_mut().enumerate() {
            (made[source::NUM_BLOCKS], made[source::BLOCKS]) = (1, place(self.table.len()));
            self.table.push(place(seconds.first + number * block::LEN));
        }
        let mut distinct: Vec<Source> = Vec::new();
        for (from, _) in edges {
            if !distinct.contains(from) {
                distinct.push(*from);
            }
        }
        let mut sources = Vec::new();
        for from in &distinct {
            let reads = |row: &[u32; block::LEN]| row[block::SOURCE] == place(from.place);
            let numbered = |rows: Rows, all: &[[u32; block::LEN]]| -> Vec<u32> {
                let places = all.iter().enumerate().filter(|(_, row)| reads(row));
                places.map(|(number, _)| place(rows.first + number * block::LEN)).collect()
            };
            let mut blocks = numbered(firsts, &builder.firsts);
            blocks.extend(numbered(lasts, &builder.lasts));
            let terms: Vec<_> = builder
                .terms
                .iter()
                .filter(|row| row[term::KIND] != kind::MAP && row[term::VALUE] == place(from.place))
                .copied()
                .collect();
            let mut row = [0; source::LEN];
            row[source::PLACE] = place(from.place);
            row[source::HEIGHT] = place(from.size[0]);
            row[source::WIDTH] = place(from.size[1]);
            row[source::GRADIENT] = place(from.gradient);
            row[source::NORM] = NONE;
            row[source::NUM_BLOCKS] = place(blocks.len());
            row[source::BLOCKS] = place(self.table.len());
            self.table.extend(blocks);
            let rows = self.rows(&terms);
            (row[source::NUM_TERMS], row[source::TERMS]) = (place(rows.count), place(rows.first));
            sources.push(row);
        }
        let terms = self.rows(&builder.terms);
        let output = output.map_or(NONE, place);
        let node = [place(terms.count), place(terms.first), place(to.place), output];
        let largest = |at: usize| distinct.iter().map(|from| from.size[at]).max().unwrap_or(0);
        let target = Target {
            input,
            size: to.size,
            blocks: [
                Rows { first: pools.first, count: pools.count + firsts.count + lasts.count },
                seconds,
            ],
            norms: [self.rows(&builder.norms[0]), self.rows(&builder.norms[1])],
            node: self.rows(&[node]),
            terms,
            inner_terms: self.rows(&builder.inner_terms),
            last: Rows { first: lasts.first, count: lasts.count + seconds.count },
            first: firsts,
            inner_sources: self.rows(&inner),
            sources: self.rows(&sources),
            source_size: [largest(0), largest(1)],
            source_channels: distinct[0].channels,
            maps_len: builder.maps_len,
            inputs,
            outputs,
            tile: Tile::new(to.size, channels),
            weights,
            has_depthwise,
        };
        self.targets.push(target);
    }
}
