//! The classifier after the last cell, its loss, and the number of correct images.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};

use crate::Loss;

/// As [`crate::classify`].
pub fn classify(map: Tensor<4>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<2> {
    let [batch, channels, height, width] = map.dims();
    let pooled = map.reshape([batch, channels, height * width]).mean_dim(2);
    pooled.reshape([batch, channels]).matmul(weight) + bias.unsqueeze()
}

/// As [`crate::cross_entropy`].
pub fn cross_entropy(logits: Tensor<2>, labels: Tensor<1, Int>, smoothing: f64) -> Loss {
    let [count, classes] = logits.dims();
    let is_tracked = logits.device().is_autodiff();
    let correct = ranks(logits.clone(), labels.clone()).equal_elem(0).float().sum();
    let correct = if is_tracked { Tensor::from_inner(correct) } else { correct };
    let places = labels.reshape([count, 1]);
    let logs = log_softmax(logits, 1);
    let mut loss = logs.clone().gather(1, places).mean().neg();
    if smoothing > 0.0 {
        let all = logs.sum_dim(1).mean().neg() / classes as f64;
        loss = loss * (1.0 - smoothing) + all * smoothing;
    }
    Loss { loss, correct }
}

/// The number of classes ahead of each image's own: those of a larger logit, and of equal ones those before it.
///
/// An image with a logit that is NaN has no order of classes; its rank is 2^30 or more, so that it
/// counts as wrong for any number of classes.
///
/// # Shapes
/// - `logits`: `[batch, num_classes]`
/// - `labels`, output: `[batch]`, the output on the device without autodiff
pub fn ranks(logits: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1, Int> {
    let logits = logits.without_autodiff();
    let labels = labels.without_autodiff();
    let (shape, device) = (logits.dims(), logits.device());
    let [count, classes] = shape;
    let places = labels.reshape([count, 1]);
    let own = logits.clone().gather(1, places.clone()).expand(shape);
    let numbers = Tensor::<1, Int>::arange(0..classes as i64, &device).reshape([1, classes]);
    let before = numbers.expand(shape).lower(places.expand(shape));
    let ahead =
        logits.clone().greater(own.clone()).bool_or(logits.clone().equal(own).bool_and(before));
    // A comparison with NaN is false, even with itself.
    let unknown = logits.clone().not_equal(logits).any_dim(1).int() * (1 << 30);
    (ahead.int().sum_dim(1) + unknown).reshape([count])
}
