//! Modules that share their parameters, and ranges of packed tensors.

use std::ops::Range;

use burn::module::Module;
use burn::tensor::{Tensor, s};

/// A module with the same parameters but its own running statistics.
///
/// The parameters share their storage with the original until one of the two is written, so this
/// allocates no memory for parameters. A plain `clone` would share the running statistics too, and
/// a forward pass on the clone would change those of the original.
pub fn separate<M: Module>(module: &M) -> M {
    module.valid().train()
}

/// Some ranges of a tensor's first dimension, joined in order.
///
/// # Panics
/// Where `ranges` is empty.
pub(crate) fn pick<const D: usize>(tensor: &Tensor<D>, ranges: &[Range<usize>]) -> Tensor<D> {
    let part = |range: &Range<usize>| tensor.clone().slice([range.clone()]);
    Tensor::cat(ranges.iter().map(part).collect(), 0)
}

/// Replaces the ranges that [`pick`] returns; all other values stay the same, bit for bit.
pub(crate) fn put<const D: usize>(
    tensor: Tensor<D>,
    ranges: &[Range<usize>],
    values: &Tensor<D>,
) -> Tensor<D> {
    let mut start = 0;
    ranges.iter().fold(tensor, |tensor, range| {
        let part = values.clone().slice(s![start..start + range.len()]);
        start += range.len();
        tensor.slice_assign([range.clone()], part)
    })
}
