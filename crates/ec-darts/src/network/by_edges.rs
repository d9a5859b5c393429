//! Cells whose edges are computed one by one, with the kernels of a single edge.
//!
//! Two forms need this: cells with dropout behind skip connections, and cells of several parts on a
//! device without kernels for the whole cell.

use std::sync::Arc;

use burn::tensor::{Tensor, s};
use ec_darts_kernels::{Cell, Edge, EdgeOperation, reference};
use ec_darts_space::{NUM_INPUTS, Primitive};

use super::SearchCell;
use super::cell::CellWeights;

/// The mixing weights of a pass, taken one after the other.
struct Weights<'a> {
    all: &'a CellWeights,
    next: usize,
}

impl Weights<'_> {
    fn next(&mut self, count: usize) -> Tensor<1> {
        let range = self.next..self.next + count;
        self.next = range.end;
        self.all.mixing.clone().slice(s![range])
    }
}

impl SearchCell {
    /// The output as [`Cell`] defines it; `cell` is this cell, or the cell along the path of the
    /// pass.
    pub(super) fn forward_by_edges(
        &self,
        cell: &Cell,
        inputs: Vec<Tensor<4>>,
        weights: &CellWeights,
    ) -> Tensor<4> {
        let mut weights = Weights { all: weights, next: 0 };
        let missing = NUM_INPUTS - cell.inputs.len();
        let run = |edge: &Edge, input, weights| {
            let cell = Cell { fixed_inputs: true, ..Cell::from(edge.clone()) };
            self.kernels.run(&Arc::new(cell), &self.packed, vec![input], weights, None)
        };
        let inputs = cell.inputs.iter().zip(inputs);
        let mut states: Vec<Tensor<4>> =
            inputs.map(|(edge, input)| run(edge, input, weights.next(1))).collect();
        for (node, edges) in cell.nodes.iter().enumerate() {
            let (mut mixed, mut around) = (Vec::new(), Vec::new());
            for (from, edge) in edges {
                let (x, width) = (states[*from].clone(), edge.channels[0]);
                let through = match cell.parts {
                    1 => x.clone(),
                    _ => x.clone().slice(s![.., ..width]),
                };
                if !edge.operations.is_empty() {
                    let of_edge = weights.next(edge.operations.len());
                    mixed.push(run(edge, through.clone(), of_edge.clone()));
                    let number = self.topology.edge_number(*from + missing, node);
                    let skip = self.skip(number, edge);
                    mixed.extend(skip.zip(weights.all.skip_dropout.as_ref()).map(
                        |(skip, (dropout, cell))| {
                            let place = [*cell, number];
                            let factors = dropout.factors(place, through.dims(), &through.device());
                            // The skip connection itself is among the operations of the edge.
                            through
                                * (factors - 1.0)
                                * of_edge.slice(s![skip..skip + 1]).reshape([1; 4])
                        },
                    ));
                }
                if cell.parts > 1 {
                    let by = reference::around(x.slice(s![.., width..]), edge.stride);
                    around.push(by * weights.next(1).reshape([1; 4]));
                }
            }
            states.push(reference::join_parts(mixed, around, cell.parts));
        }
        let joined = cell.concat.iter().map(|&state| states[state].clone());
        Tensor::cat(joined.collect(), 1)
    }

    /// The index of a skip connection with dropout among the operations of an edge.
    fn skip(&self, number: usize, edge: &Edge) -> Option<usize> {
        self.candidates[number].position(Primitive::SkipConnect)?;
        edge.operations.iter().position(|&operation| operation == EdgeOperation::Identity)
    }
}
