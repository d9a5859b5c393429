//! Cells whose edges are computed one by one, each by the kernels of an edge: what a state adds up is then more than
//! its edges' operations.
//!
//! Two forms need it. In cells in parts, a part of the channels goes through the operations and the others go by.
//! Where skips are dropped, elements of them are left out.

use std::sync::Arc;

use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Tensor, s};
use ec_darts_kernels::{Cell, Edge};
use ec_darts_space::Primitive;

use super::SearchCell;
use super::cell::CellWeights;
use super::parts::{candidate, read_by};

/// The weights of a pass in the order of the operations.
struct Weights<'a> {
    all: &'a CellWeights,
    next: usize,
}

impl Weights<'_> {
    fn next(&mut self, count: usize) -> Tensor<1> {
        let range = self.next..self.next + count;
        self.next = range.end;
        self.all.operations.clone().slice(s![range])
    }
}

impl SearchCell {
    /// ```text
    /// z[e] = shuffle(join(sum over o of mixing[e, o] o(x[first part]), bypass(x[other parts]) * beta[e]))
    /// node = sum over the edges e into it of z[e]
    /// ```
    /// `bypass` is the identity, at stride 2 a 2x2 maximum. `mixing` has `beta` in it. The shuffle takes one
    /// channel of each part in turn; a sum of shuffled maps is the shuffled sum. In a cell of one part nothing goes
    /// by.
    ///
    /// # Source
    /// PC-DARTS, section 3.2 and 3.3; `model_search.py`, `MixedOp`.
    pub(super) fn forward_by_edges(
        &self,
        older: Tensor<4>,
        newer: Tensor<4>,
        weights: &CellWeights,
    ) -> Tensor<4> {
        let mut weights = Weights { all: weights, next: 0 };
        let inputs = self.cell.inputs.iter().zip(read_by(&self.cell, older, newer));
        let mut states: Vec<Tensor<4>> = inputs
            .map(|(edge, input)| {
                let cell = Cell { fixed_inputs: true, ..Cell::from(edge.clone()) };
                self.kernels.run(&Arc::new(cell), &self.packed, vec![input], weights.next(1), None)
            })
            .collect();
        for node in 0..self.cell.nodes.len() {
            let mixed = self.mixed(node, &states, &mut weights);
            let state = match self.parts {
                1 => mixed,
                parts => {
                    let by = self.around(node, &states, weights.all);
                    shuffle(Tensor::cat(vec![mixed, by], 1), parts)
                }
            };
            states.push(state);
        }
        let joined = self.cell.concat.iter().map(|&state| states[state].clone());
        Tensor::cat(joined.collect(), 1)
    }

    /// The first part of the channels of a node.
    fn mixed(&self, node: usize, states: &[Tensor<4>], weights: &mut Weights) -> Tensor<4> {
        let mixed_channels = states[0].dims()[1] / self.parts;
        let numbers = self.topology.edges_into(node);
        let mut sum = None;
        for (number, (from, edge)) in numbers.zip(&self.cell.nodes[node]) {
            let Some((edge, skip)) = self.edge_along(edge, number, weights.all) else { continue };
            let of_edge = weights.next(edge.operations.len());
            let through = states[*from].clone().slice(s![.., ..mixed_channels]);
            let cell = Arc::new(Cell::from(edge));
            let inputs = vec![through.clone()];
            let mixed = self.kernels.run(&cell, &self.packed, inputs, of_edge.clone(), None);
            let of_skip = skip.map(|skip| of_edge.slice(s![skip..skip + 1]).reshape([1; 4]));
            let dropped = of_skip
                .and_then(|weight| Some(self.dropped(number, through, weights.all)? * weight));
            add(
                &mut sum,
                match dropped {
                    Some(dropped) => mixed + dropped,
                    None => mixed,
                },
            );
        }
        sum.unwrap_or_else(|| {
            // The weights hold a place for a node without operations.
            weights.next(1);
            let (from, edge) = &self.cell.nodes[node][0];
            let [batch, _, height, width] = states[*from].dims();
            let [height, width] = [height, width].map(|side| side.div_ceil(edge.stride));
            let like = (&states[*from].device(), states[*from].dtype());
            Tensor::zeros([batch, mixed_channels, height, width], like)
        })
    }

    /// What dropout changes at the skip of an edge, `[batch, channels, height, width]`.
    ///
    /// ```text
    /// x * mask / (1 - rate) - x
    /// ```
    /// The skip itself is computed among the other operations of its edge.
    fn dropped(&self, edge: usize, x: Tensor<4>, weights: &CellWeights) -> Option<Tensor<4>> {
        let (dropout, cell) = weights.skip_dropout.as_ref()?;
        let factors = dropout.factors([*cell, edge], x.dims(), &x.device());
        Some(x * (factors - 1.0))
    }

    /// The other parts of the channels of a node.
    fn around(&self, node: usize, states: &[Tensor<4>], weights: &CellWeights) -> Tensor<4> {
        let mixed_channels = states[0].dims()[1] / self.parts;
        let numbers = self.topology.edges_into(node);
        let mut sum = None;
        for (number, (from, edge)) in numbers.zip(&self.cell.nodes[node]) {
            let around = states[*from].clone().slice(s![.., mixed_channels..]);
            let around = match edge.stride {
                1 => around,
                stride => max_pool2d(around, MaxPoolOptions::new([2; 2]).with_stride([stride; 2])),
            };
            add(
                &mut sum,
                match &weights.edges {
                    Some(of_edges) => {
                        around * of_edges.clone().slice(s![number..number + 1]).reshape([1; 4])
                    }
                    None => around,
                },
            );
        }
        sum.expect("a node has edges")
    }

    /// An edge with the operations that run, if any do, and the place among them of a skip that can be dropped.
    fn edge_along(
        &self,
        edge: &Edge,
        number: usize,
        weights: &CellWeights,
    ) -> Option<(Edge, Option<usize>)> {
        let skip = self.candidates[number].position(Primitive::SkipConnect);
        let skip = skip.filter(|_| edge.stride == 1);
        match &weights.path {
            None => Some((edge.clone(), skip)),
            Some(path) => {
                let position = self.position(number, path[number])?;
                Some((candidate(edge, position), skip.filter(|&skip| skip == position).map(|_| 0)))
            }
        }
    }
}

fn add(sum: &mut Option<Tensor<4>>, term: Tensor<4>) {
    *sum = Some(match sum.take() {
        Some(sum) => sum + term,
        None => term,
    });
}

/// Takes one channel of each part in turn.
///
/// # Source
/// PC-DARTS, `model_search.py`, `channel_shuffle`.
fn shuffle(map: Tensor<4>, parts: usize) -> Tensor<4> {
    let [batch, channels, height, width] = map.dims();
    map.reshape([batch, parts, channels / parts, height * width])
        .swap_dims(1, 2)
        .reshape([batch, channels, height, width])
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Int};

    use super::*;
    use crate::tensors::to_vec;

    /// Expected: a view as parts times channels of a part, turned.
    #[test]
    fn a_channel_of_each_part_in_turn() {
        let map = Tensor::<1, Int>::arange(0..8, &Device::flex()).float().reshape([1, 8, 1, 1]);
        assert_eq!(to_vec(shuffle(map, 4)), [0.0, 2.0, 4.0, 6.0, 1.0, 3.0, 5.0, 7.0]);
    }
}
