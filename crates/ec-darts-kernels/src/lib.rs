//! The mixed operation of a differentiable search space as fused kernels for CPUs.
//!
//! Entry points: [`edge`] and [`edge_given`], where [`serves`] says that the device has them. The
//! definition they follow is the plain composition of Burn's operations that the modules of
//! `ec-darts` give; tests compare value and every gradient of both. [`mixed_sum`] is the one place
//! where that plain composition scales and adds. Invariant: the result does not depend on the
//! number of threads.
#![deny(missing_docs, clippy::print_stdout, clippy::print_stderr)]

use std::sync::Arc;

#[cfg(feature = "flex")]
use burn::backend::Dispatch;
use burn::tensor::{Device, Tensor};

mod edge;
#[cfg(feature = "flex")]
mod extension;
#[cfg(feature = "flex")]
#[allow(missing_docs, reason = "private")]
mod fused;
pub mod reference;

pub use edge::{Edge, EdgeOperation, Memory};
pub use reference::mixed_sum;

/// What a fused edge returns.
#[derive(Clone, Debug)]
pub struct EdgeOutput {
    /// `[batch, channels, height / stride, width / stride]`.
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

/// The mixed sum of an edge's operations, normalized by the statistics of the batch.
///
/// ```text
/// y = sum over o of mixing[o] * o(x)
/// ```
///
/// # Shapes
/// - `input`: `[batch, edge.channels[0], height, width]`
/// - `parameters`: packed as [`Edge`] says
/// - `mixing`: `[num_operations]`
///
/// # Panics
/// Where a shape does not fit the edge, or the device has no fused kernels ([`serves`]).
///
/// # Source
/// EC-DARTS, Eq. (5); DARTS, Eq. (2).
pub fn edge(
    input: Tensor<4>,
    parameters: Tensor<1>,
    mixing: Tensor<1>,
    edge: Arc<Edge>,
    memory: Memory,
) -> EdgeOutput {
    #[cfg(feature = "flex")]
    {
        let tensors = <Dispatch as extension::EdgeOps>::edge(
            input.into_dispatch(),
            parameters.into_dispatch(),
            mixing.into_dispatch(),
            edge,
            memory,
        );
        EdgeOutput {
            output: Tensor::from_dispatch(tensors.output),
            mean: Tensor::from_dispatch(tensors.mean),
            variance: Tensor::from_dispatch(tensors.variance),
        }
    }
    #[cfg(not(feature = "flex"))]
    {
        let _ = (input, parameters, mixing, edge, memory);
        unreachable!("no device has fused kernels without the feature flex")
    }
}

/// As [`edge()`], normalized by given statistics; without gradient.
///
/// # Shapes
/// - `mean`, `variance`: `[num_norms * edge.channels[1]]`
pub fn edge_given(
    input: Tensor<4>,
    parameters: Tensor<1>,
    mixing: Tensor<1>,
    [mean, variance]: [Tensor<1>; 2],
    edge: Arc<Edge>,
) -> Tensor<4> {
    #[cfg(feature = "flex")]
    {
        Tensor::from_dispatch(<Dispatch as extension::EdgeOps>::edge_given(
            input.into_dispatch(),
            parameters.into_dispatch(),
            mixing.into_dispatch(),
            mean.into_dispatch(),
            variance.into_dispatch(),
            edge,
        ))
    }
    #[cfg(not(feature = "flex"))]
    {
        let _ = (input, parameters, mixing, mean, variance, edge);
        unreachable!("no device has fused kernels without the feature flex")
    }
}
