//! A labelled batch of images on a device.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::data::Batch;

/// A labelled batch of images on a device.
#[derive(Clone, Debug)]
pub struct ImageBatch {
    /// `[batch, 3, height, width]`, normalized.
    pub images: Tensor<4>,
    /// `[batch]`, class numbers.
    pub labels: Tensor<1, Int>,
}

impl ImageBatch {
    /// Number of images in the batch.
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
