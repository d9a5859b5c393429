//! Loss and accuracy of logits, as tensors of one element that wait on the device.

use burn::tensor::{Int, Tensor};
use ec_darts_kernels::{Loss, cross_entropy};

use crate::tensors::ImageBatch;

/// Mean cross entropy against targets mixed with the uniform distribution, and how many images have the right class,
/// `[1]` each.
///
/// ```text
/// -sum over c of q[c] log softmax(logits)[c],  q = (1 - s) onehot(label) + s / num_classes
/// ```
/// `s` is the label smoothing.
///
/// # Source
/// DARTS, `cnn/train_imagenet.py`, `CrossEntropyLabelSmooth`.
pub(super) fn loss_and_correct(
    logits: &Tensor<2>,
    batch: &ImageBatch,
    smoothing: f64,
) -> (Tensor<1>, Tensor<1>) {
    let Loss { loss, correct } = cross_entropy(logits.clone(), batch.labels.clone(), smoothing);
    (loss, correct.inner())
}

/// How many images have the right class.
pub(super) fn correct(logits: &Tensor<2>, batch: &ImageBatch) -> Tensor<1> {
    loss_and_correct(logits, batch, 0.0).1
}

/// How many images have the right class among the `k` of largest logits.
pub(super) fn correct_in_top(k: i64, logits: &Tensor<2>, batch: &ImageBatch) -> Tensor<1> {
    let [count, _] = logits.dims();
    let right = logits.clone().gather(1, batch.labels.clone().reshape([count, 1]));
    let above = logits.clone().greater(right.expand(logits.dims())).int().sum_dim(1);
    sum(above.lower_elem(k).int())
}

/// Exact in single precision: a batch has fewer than 2^24 images.
fn sum<const D: usize>(hits: Tensor<D, Int>) -> Tensor<1> {
    hits.sum().float().inner()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::data::Batch;
    use crate::tensors::scalar;

    #[test]
    fn the_right_class_among_the_first() {
        let device = Device::flex();
        let logits = [[3.0, 2.0, 1.0, 0.0], [0.0, 1.0, 2.0, 3.0], [5.0, 1.0, 4.0, 0.0]];
        let logits = Tensor::<2>::from_floats(logits, &device);
        let batch = Batch { images: vec![0.0; 9], labels: vec![0, 0, 2], shape: [3, 3, 1, 1] };
        let batch = ImageBatch::new(batch, &device);
        assert_eq!(scalar(correct(&logits, &batch)), 1.0);
        let top = |k| scalar(correct_in_top(k, &logits, &batch));
        assert_eq!([1, 2, 3, 4].map(top), [1.0, 2.0, 2.0, 3.0]);
    }
}
