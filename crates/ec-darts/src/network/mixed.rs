//! The mixed operation of a single edge.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ec_darts_kernels::{Cell, pick};
use ec_darts_space::{Primitive, SearchSpace};

use super::Skeleton;
use super::parts::{EdgeCandidates, candidate, names};
use crate::ops::{Kernels, Layout, Operation, Packed, Packs};

/// All candidate operations of one edge.
///
/// ```text
/// y = sum over o of mixing[o] * o(x)
/// ```
/// `none` has a mixing weight but no operation: it adds nothing and is not computed.
///
/// # Source
/// EC-DARTS, Eq. (5); DARTS, Eq. (2).
#[derive(Module, Debug)]
pub struct MixedOperation {
    /// Weights and running statistics of all operations.
    pub packed: Packed,
    #[module(skip)]
    cell: Arc<Cell>,
    #[module(skip)]
    candidates: Arc<EdgeCandidates>,
}

impl MixedOperation {
    /// The candidates of the search space at this width and stride.
    pub fn new(space: &SearchSpace, num_channels: usize, stride: usize, device: &Device) -> Self {
        let candidates = EdgeCandidates::new(space, space.primitives(), false);
        let form = Skeleton::of(space.topology()).search_form();
        let edge = candidates.edge(num_channels, stride, form);
        let names = names("", &edge, &candidates);
        let mut cells = [Cell::from(edge)];
        let layout = Layout::place(&mut cells, &names);
        let [cell] = cells;
        Self {
            packed: Packed::new(layout, device),
            cell: Arc::new(cell),
            candidates: Arc::new(candidates),
        }
    }

    /// # Shapes
    /// - `input`: `[batch, num_channels, height, width]`
    /// - `mixing`: `[num_primitives]`, the edge's row of the cell's mixing weights
    /// - output: `[batch, num_channels, ceil(height / stride), ceil(width / stride)]`
    pub fn forward(&self, input: Tensor<4>, mixing: Tensor<1>, kernels: Kernels) -> Tensor<4> {
        let places: Vec<Option<usize>> =
            self.candidates.columns.iter().copied().map(Some).collect();
        let mixing = pick(mixing.unsqueeze(), &places);
        kernels.run(&self.cell, &self.packed, vec![input], mixing, None)
    }

    /// The operation of a primitive with its weights here; none where it is not a candidate.
    pub fn operation(&self, primitive: Primitive) -> Option<Operation> {
        let position = self.candidates.position(primitive)?;
        Some(Operation::part(&self.packed, candidate(&self.cell.inputs[0], position)))
    }
}

impl Packs for MixedOperation {
    fn packs(&self) -> Vec<&Packed> {
        vec![&self.packed]
    }
}
