//! Steps of SGD and Adam.

use burn::tensor::Tensor;

use crate::steps::{AdamNumbers, SgdNumbers};

/// As [`crate::sgd`].
pub fn sgd<const D: usize>(
    weights: Tensor<D>,
    mut gradient: Tensor<D>,
    velocity: Option<Tensor<D>>,
    norm: Option<Tensor<1>>,
    numbers: SgdNumbers,
) -> [Tensor<D>; 2] {
    if let (Some(norm), Some(clip)) = (norm, numbers.clip_norm) {
        let factor = ((norm + 1e-6).recip() * clip).clamp_max(1.0);
        gradient = gradient * factor.reshape([1; D]);
    }
    let gradient = weights.clone() * numbers.weight_decay + gradient;
    let velocity = match velocity {
        Some(velocity) => gradient.clone() + velocity * numbers.momentum,
        None => gradient.clone(),
    };
    let step = match numbers.nesterov {
        true => gradient + velocity.clone() * numbers.momentum,
        false => velocity.clone(),
    };
    [weights - step * numbers.learning_rate, velocity]
}

/// As [`crate::adam`].
pub fn adam<const D: usize>(
    weights: Tensor<D>,
    gradient: Tensor<D>,
    moments: Option<[Tensor<D>; 2]>,
    numbers: AdamNumbers,
) -> [Tensor<D>; 3] {
    let gradient = weights.clone() * numbers.weight_decay + gradient;
    let news =
        [gradient.clone() * (1.0 - numbers.beta1), gradient.square() * (1.0 - numbers.beta2)];
    let [first, second] = match moments {
        Some([first, second]) => {
            let [of_first, of_second] = news;
            [first * numbers.beta1 + of_first, second * numbers.beta2 + of_second]
        }
        None => news,
    };
    let root = numbers.second_correction().sqrt();
    let step = first.clone() * (root / numbers.first_correction())
        / (second.clone().sqrt() + numbers.epsilon * root);
    [weights - step * numbers.learning_rate, first, second]
}
