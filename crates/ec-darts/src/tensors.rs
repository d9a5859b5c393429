//! Small bridges between tensors, modules and plain values.

use std::ops::Range;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData, s};

use crate::data::Batch;

/// A module with the same parameters but running statistics of its own.
///
/// The parameters share their storage with the original until one of the two is written, so this
/// allocates no parameter memory. A plain `clone` would share the running statistics too, and a
/// forward pass on the clone would move those of the original.
pub fn separate<M: Module>(module: &M) -> M {
    module.valid().train()
}

/// A labelled batch of images on a device.
#[derive(Clone, Debug)]
pub struct ImageBatch {
    /// `[batch, 3, height, width]`, normalized.
    pub images: Tensor<4>,
    /// `[batch]`, class numbers.
    pub labels: Tensor<1, Int>,
}

impl ImageBatch {
    /// Images in the batch.
    #[expect(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        self.labels.dims()[0]
    }

    /// Moves a prepared batch to a device.
    pub fn new(batch: Batch, device: &Device) -> Self {
        let count = batch.labels.len();
        Self {
            images: Tensor::from_data(TensorData::new(batch.images, batch.shape), device),
            labels: Tensor::from_data(TensorData::new(batch.labels, [count]), device),
        }
    }
}

/// Some ranges of a tensor's first dimension, one after the other.
///
/// # Panics
/// Where there is no range.
pub(crate) fn pick<const D: usize>(tensor: &Tensor<D>, ranges: &[Range<usize>]) -> Tensor<D> {
    let part = |range: &Range<usize>| tensor.clone().slice([range.clone()]);
    Tensor::cat(ranges.iter().map(part).collect(), 0)
}

/// Replaces what [`pick`] picks; all else stays as it is, bit for bit.
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

/// The values of a tensor in single precision, row-major.
pub(crate) fn to_vec<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("tensors of this crate are single precision")
}

/// The value of a tensor of one element.
#[cfg(test)]
pub(crate) fn scalar<const D: usize>(tensor: Tensor<D>) -> f64 {
    f64::from(to_vec(tensor)[0])
}
