//! Cells in parts: a part of the channels goes through the operations, the others go by.
//!
//! The states of such a cell are no sums of its edges' operations alone, so its edges are computed one by one, each
//! by the kernels of an edge.

use std::sync::Arc;

use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Tensor, s};
use ec_darts_kernels::{Cell, Edge};

use super::SearchCell;
use super::cell::CellWeights;
use super::parts::candidate;

impl SearchCell {
    /// ```text
    /// z[e] = shuffle(join(sum over o of mixing[e, o] o(x[first part]), bypass(x[other parts]) * beta[e]))
    /// node = sum over the edges e into it of z[e]
    /// ```
    /// `bypass` is the identity, at stride 2 a 2x2 maximum. `mixing` has `beta` in it. The shuffle takes one
    /// channel of each part in turn; a sum of shuffled maps is the shuffled sum.
    ///
    /// # Source
    /// PC-DARTS, section 3.2 and 3.3; `model_search.py`, `MixedOp`.
    pub(super) fn forward_in_parts(
        &self,
        older: Tensor<4>,
        newer: Tensor<4>,
        weights: &CellWeights,
    ) -> Tensor<4> {
        let mut first = 0;
        let mut next = |count: usize| {
            let range = first..first + count;
            first = range.end;
            weights.operations.clone().slice(s![range])
        };
        let inputs = self.cell.inputs.iter().zip([older, newer]);
        let mut states: Vec<Tensor<4>> = inputs
            .map(|(edge, input)| {
                let cell = Cell { fixed_inputs: true, ..Cell::from(edge.clone()) };
                self.kernels.run(&Arc::new(cell), &self.packed, vec![input], next(1), None)
            })
            .collect();
        let num_channels = states[0].dims()[1];
        let mixed_channels = num_channels / self.parts;
        for (node, edges) in self.cell.nodes.iter().enumerate() {
            let numbers = self.topology.edges_into(node);
            let (mut mixed, mut by) = (None, None);
            let mut runs_on_path = 0;
            for (number, (from, edge)) in numbers.zip(edges) {
                let state = states[*from].clone();
                let around = state.clone().slice(s![.., mixed_channels..]);
                let around = match edge.stride {
                    1 => around,
                    stride => {
                        max_pool2d(around, MaxPoolOptions::new([2; 2]).with_stride([stride; 2]))
                    }
                };
                let around = match &weights.edges {
                    Some(of_edges) => {
                        around * of_edges.clone().slice(s![number..number + 1]).reshape([1; 4])
                    }
                    None => around,
                };
                add(&mut by, around);
                let Some(edge) = self.edge_along(edge, number, weights) else { continue };
                runs_on_path += 1;
                let of_edge = next(edge.operations.len());
                let through = state.slice(s![.., ..mixed_channels]);
                let cell = Arc::new(Cell::from(edge));
                add(
                    &mut mixed,
                    self.kernels.run(&cell, &self.packed, vec![through], of_edge, None),
                );
            }
            if runs_on_path == 0 {
                // The weights hold a place for a node without operations.
                next(1);
            }
            let by = by.expect("a node has edges");
            let [batch, _, height, width] = by.dims();
            let like = (&by.device(), by.dtype());
            let zeros = || Tensor::zeros([batch, mixed_channels, height, width], like);
            let joined = Tensor::cat(vec![mixed.unwrap_or_else(zeros), by.clone()], 1);
            states.push(shuffle(joined, self.parts));
        }
        let joined = self.cell.concat.iter().map(|&state| states[state].clone());
        Tensor::cat(joined.collect(), 1)
    }

    /// An edge with the operations that run, if any do.
    fn edge_along(&self, edge: &Edge, number: usize, weights: &CellWeights) -> Option<Edge> {
        match &weights.path {
            None => Some(edge.clone()),
            Some(path) => Some(candidate(edge, self.position_of_column(path[number])?)),
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
