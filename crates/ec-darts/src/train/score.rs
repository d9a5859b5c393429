//! Loss and accuracy of logits, as tensors of one element that wait on the device.

use burn::tensor::Tensor;
use ec_darts_kernels::reference::ranks;
use ec_darts_kernels::{Loss, cross_entropy};

use crate::batch::ImageBatch;

/// Mean cross entropy against targets mixed with the uniform distribution, and the number of images
/// with the right class, `[1]` each.
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

/// Number of images with the right class.
pub(super) fn correct(logits: &Tensor<2>, batch: &ImageBatch) -> Tensor<1> {
    loss_and_correct(logits, batch, 0.0).1
}

/// Number of images whose class is among the `k` largest logits; of equal logits the first counts.
pub(super) fn correct_in_top(k: i64, logits: &Tensor<2>, batch: &ImageBatch) -> Tensor<1> {
    // Exact in single precision, because a batch has fewer than 2^24 images.
    ranks(logits.clone(), batch.labels.clone()).lower_elem(k).float().sum()
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

    #[test]
    fn of_equal_logits_the_first_counts_and_no_number_counts_for_nothing() {
        let (zero, nan, infinite) = (0.0, f32::NAN, f32::INFINITY);
        for device in [Device::flex(), Device::flex().autodiff()] {
            let check = |row: [f32; 3], label: i32, rank: Option<i64>| {
                let logits = Tensor::<2>::from_floats([row], &device);
                let batch =
                    Batch { images: vec![0.0; 3], labels: vec![label], shape: [1, 3, 1, 1] };
                let batch = ImageBatch::new(batch, &device);
                let hit = |k: i64| f64::from(u8::from(rank.is_some_and(|rank| rank < k)));
                assert_eq!(scalar(correct(&logits, &batch)), hit(1), "{row:?}, {label}");
                for k in 1..5 {
                    assert_eq!(scalar(correct_in_top(k, &logits, &batch)), hit(k), "{row:?} {k}");
                }
            };
            check([zero, zero, zero], 0, Some(0));
            check([zero, -zero, zero], 2, Some(2));
            check([1.0, 2.0, 2.0], 2, Some(1));
            check([infinite, 1.0, infinite], 2, Some(1));
            check([nan, nan, nan], 0, None);
            check([nan, 1.0, 0.0], 1, None);
            check([1.0, nan, 0.0], 0, None);
        }
    }
}
