//! The mixed sum of a differentiable search space, behind one function.
//!
//! Entry point: [`mixed_sum`]. Everything that mixes candidate operations goes through it, so a
//! fused kernel replaces one function; the plain-tensor [`mod@reference`] stays beside it and is what
//! tests compare with. Invariant: value and gradients of both agree.
#![deny(missing_docs, clippy::print_stdout, clippy::print_stderr)]

use burn::tensor::Tensor;

pub mod reference;

/// Sum of the candidate operations' outputs, each scaled by its mixing weight.
///
/// ```text
/// y = sum over o of weights[o] * outputs[o]
/// ```
///
/// # Shapes
/// - `outputs`: `num_terms` tensors `[batch, channels, height, width]`, all alike
/// - `weights`: `[num_terms]`
/// - output: `[batch, channels, height, width]`
///
/// # Panics
/// Where there is no output, or not one weight for each.
///
/// # Source
/// EC-DARTS, Eq. (1) and (5).
pub fn mixed_sum(outputs: Vec<Tensor<4>>, weights: Tensor<1>) -> Tensor<4> {
    reference::mixed_sum(outputs, weights)
}
