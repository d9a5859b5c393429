//! Cells of mixed operations of a differentiable search space as fused kernels for CPUs.
//!
//! Entry points: [`cell()`] and [`cell_given`], where [`serves`] says that the device has them. The
//! definition they follow is the plain composition of Burn's operations that the modules of
//! `ec-darts` give; tests compare value and every gradient of both. [`mixed_sum`] is the one place
//! where that plain composition scales and adds. Invariant: the result does not depend on the
//! number of threads.
#![deny(missing_docs, clippy::print_stdout, clippy::print_stderr)]

use std::sync::Arc;

#[cfg(feature = "flex")]
use burn::backend::Dispatch;
use burn::tensor::{Device, Tensor};

#[cfg(feature = "flex")]
#[allow(missing_docs, reason = "private")]
mod cpu;
mod edge;
#[cfg(feature = "flex")]
mod extension;
pub mod reference;

pub use edge::{Cell, Edge, EdgeOperation, Memory};
pub use reference::mixed_sum;

/// What a fused cell returns.
#[derive(Clone, Debug)]
pub struct CellOutput {
    /// `[batch, concat.len() * channels, height, width]`.
    pub output: Tensor<4>,
    /// Of the batch, `[num_norms * channels]`, without gradient.
    pub mean: Tensor<1>,
    /// Of the batch, biased, `[num_norms * channels]`, without gradient.
    pub variance: Tensor<1>,
}

/// Whether a device has the fused kernels.
pub fn serves(device: &Device) -> bool {
    #[cfg(feature = "flex")]
    return device.clone().inner() == Device::flex();
    #[cfg(not(feature = "flex"))]
    {
        let _ = device;
        false
    }
}

/// A cell whose edges are mixed sums, normalized by the statistics of the batch.
///
/// ```text
/// state = sum over edges into it, over o of mixing[edge, o] * o(x),  x what the edge reads
/// ```
///
/// # Shapes
/// - `inputs`: one or two, `[batch, cell.inputs[i].channels[0], height, width]`
/// - `parameters`: packed edge after edge, each as [`Edge`] says
/// - `mixing`: `[num_operations]` of all edges
///
/// Where only the gradients of the mixing weights are asked for, an input's own edge gets none unless
/// it is the whole cell.
///
/// # Panics
/// Where a shape does not fit the cell, or the device has no fused kernels ([`serves`]).
///
/// # Source
/// EC-DARTS, Eq. (5); DARTS, Eq. (1) and (2).
pub fn cell(
    inputs: Vec<Tensor<4>>,
    parameters: Tensor<1>,
    mixing: Tensor<1>,
    cell: Arc<Cell>,
    memory: Memory,
) -> CellOutput {
    #[cfg(feature = "flex")]
    {
        let tensors = <Dispatch as extension::CellOps>::cell(
            extension::CellInputs::new(inputs.into_iter().map(Tensor::into_dispatch)),
            parameters.into_dispatch(),
            mixing.into_dispatch(),
            cell,
            memory,
        );
        CellOutput {
            output: Tensor::from_dispatch(tensors.output),
            mean: Tensor::from_dispatch(tensors.mean),
            variance: Tensor::from_dispatch(tensors.variance),
        }
    }
    #[cfg(not(feature = "flex"))]
    {
        let _ = (inputs, parameters, mixing, cell, memory);
        unreachable!("no device has fused kernels without the feature flex")
    }
}

/// As [`cell()`], normalized by given statistics; without gradient.
///
/// # Shapes
/// - `mean`, `variance`: `[num_norms * channels]`
pub fn cell_given(
    inputs: Vec<Tensor<4>>,
    parameters: Tensor<1>,
    mixing: Tensor<1>,
    [mean, variance]: [Tensor<1>; 2],
    cell: Arc<Cell>,
) -> Tensor<4> {
    #[cfg(feature = "flex")]
    {
        Tensor::from_dispatch(<Dispatch as extension::CellOps>::cell_given(
            extension::CellInputs::new(inputs.into_iter().map(Tensor::into_dispatch)),
            parameters.into_dispatch(),
            mixing.into_dispatch(),
            mean.into_dispatch(),
            variance.into_dispatch(),
            cell,
        ))
    }
    #[cfg(not(feature = "flex"))]
    {
        let _ = (inputs, parameters, mixing, mean, variance, cell);
        unreachable!("no device has fused kernels without the feature flex")
    }
}

/// Compiles the example in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
