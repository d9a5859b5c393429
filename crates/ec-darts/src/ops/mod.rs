//! The candidate operations of the search space, and the packed values of cells made of them.
//!
//! Entry points: [`operation()`], [`Packed`], [`Kernels`]. Invariant: an operation maps `[batch, C,
//! H, W]` to `[batch, C, ceil(H / stride), ceil(W / stride)]`; `none` has no operation and is never
//! computed.

mod drop_path;
mod init;
mod kernels;
mod norm;
mod packed;
mod path;
mod views;

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ec_darts_kernels::{Cell, Edge, EdgeOperation};
use ec_darts_space::{Primitive, Recipe};

pub use drop_path::DropPath;
pub(crate) use ec_darts_kernels::EPSILON;
pub use ec_darts_kernels::Memory;
pub use init::draw_parameters;
pub use kernels::Kernels;
pub use norm::Norm;
pub(crate) use packed::Name;
pub use packed::{Layout, Packed, Packs, Part, Parts, Role};
pub(crate) use path::{Met, Path};
pub use views::separate;
pub(crate) use views::{pick, put};

/// The network of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The supernet: no affine part in any batch normalization, and a batch normalization behind
    /// each pool.
    Search,
    /// The supernet of NAS-Bench-201: the same without batch normalization behind the pools.
    SearchBarePools,
    /// The network of a retraining: affine batch normalization, none behind the pools.
    Retrain,
}

impl Form {
    /// Whether batch normalization has scale and shift.
    pub fn affine(self) -> bool {
        self == Self::Retrain
    }
}

/// The operation of a primitive; none for `none`.
///
/// # Source
/// DARTS, `cnn/operations.py`, `OPS`.
pub fn operation(primitive: Primitive, stride: usize, form: Form) -> Option<EdgeOperation> {
    let norm = form == Form::Search;
    Some(match primitive.recipe() {
        Recipe::Zero => return None,
        Recipe::Identity if stride == 1 => EdgeOperation::Identity,
        Recipe::Identity => EdgeOperation::FactorizedReduce,
        Recipe::MaxPool { kernel: 3 } => EdgeOperation::MaxPool { norm },
        Recipe::AvgPool { kernel: 3 } => EdgeOperation::AvgPool { norm },
        Recipe::Convolution { kernel: 1 } => EdgeOperation::Pointwise,
        Recipe::Convolution { kernel: 3 } => EdgeOperation::Convolution { relu: true },
        Recipe::Separable { kernel, dilation, repeats } => {
            EdgeOperation::Separable { kernel, dilation, repeats }
        }
        Recipe::MaxPool { .. } | Recipe::AvgPool { .. } | Recipe::Convolution { .. } => {
            unreachable!("no primitive has another window")
        }
    })
}

/// An edge with these operations, whose places are not set yet.
///
/// # Panics
/// Where a factorized reduction would have an odd number of channels.
pub(crate) fn edge(
    operations: Vec<EdgeOperation>,
    channels: [usize; 2],
    stride: usize,
    affine: bool,
) -> Edge {
    let to = channels[1];
    assert!(
        to.is_multiple_of(2) || !operations.contains(&EdgeOperation::FactorizedReduce),
        "a factorized reduction makes an even number of channels, not {to}"
    );
    Edge { operations, channels, stride, affine, parameters: 0, statistics: 0 }
}

/// A single primitive with its weights.
#[derive(Module, Debug)]
pub struct Operation {
    /// The weights and running statistics.
    pub packed: Packed,
    #[module(skip)]
    cell: Arc<Cell>,
}

impl Operation {
    /// The operation of a primitive; none for `none`.
    pub fn new(
        primitive: Primitive,
        num_channels: usize,
        stride: usize,
        form: Form,
        device: &Device,
    ) -> Option<Self> {
        let operation = operation(primitive, stride, form)?;
        let edge = edge(vec![operation], [num_channels; 2], stride, form.affine());
        let mut cells = [Cell::from(edge)];
        let layout = Layout::place(&mut cells, &[Name::of_candidate("", operation)]);
        let [cell] = cells;
        Some(Self { packed: Packed::new(layout, device), cell: Arc::new(cell) })
    }

    /// One operation of a cell on its own edge, at its place in the cell's packed tensors, which
    /// are shared.
    pub(crate) fn part(packed: &Packed, edge: Edge) -> Self {
        let names = [Name::of_candidate("", edge.operations[0])];
        let lengths = [packed.layout.weights.len, packed.layout.statistics.len];
        let layout = Layout::of(std::iter::once(&edge), &names, lengths);
        Self { packed: packed.part(layout), cell: Arc::new(Cell::from(edge)) }
    }

    /// # Shapes
    /// - `input`: `[batch, num_channels, height, width]`
    /// - output: `[batch, num_channels, ceil(height / stride), ceil(width / stride)]`
    ///
    /// # Panics
    /// For `skip_connect` at stride 2 where height or width is odd.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        self.forward_by(input, Kernels::Reference)
    }

    /// As [`Self::forward`], with a chosen implementation.
    pub fn forward_by(&self, input: Tensor<4>, kernels: Kernels) -> Tensor<4> {
        let one = Tensor::ones([1], &input.device());
        kernels.run(&self.cell, &self.packed, vec![input], one, None)
    }
}

impl Packs for Operation {
    fn packs(&self) -> Vec<&Packed> {
        vec![&self.packed]
    }
}
