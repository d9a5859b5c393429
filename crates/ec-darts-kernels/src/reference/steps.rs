//! Steps of SGD and Adam.

use std::ops::Range;

use burn::tensor::{Bool, Tensor, TensorData};

use crate::numbers::{AdamNumbers, SgdNumbers};

/// The factor by which gradients are clipped, if they are, `[1]`.
pub(crate) fn clip_factor(norm: Option<Tensor<1>>, numbers: SgdNumbers) -> Option<Tensor<1>> {
    let (norm, clip) = (norm?, numbers.clip_norm?);
    Some(((norm + 1e-6).recip() * clip).clamp_max(1.0))
}

/// As [`crate::sgd`].
pub fn sgd<const D: usize>(
    weights: Tensor<D>,
    mut gradient: Tensor<D>,
    velocity: Option<Tensor<D>>,
    norm: Option<Tensor<1>>,
    numbers: SgdNumbers,
    moved: Option<&[Range<usize>]>,
) -> [Tensor<D>; 2] {
    let before = moved.map(|_| [Some(weights.clone()), velocity.clone()]);
    if let Some(factor) = clip_factor(norm, numbers) {
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
    keep_others([weights - step * numbers.learning_rate, velocity], before, moved)
}

/// As [`crate::adam`].
pub fn adam<const D: usize>(
    weights: Tensor<D>,
    gradient: Tensor<D>,
    moments: Option<[Tensor<D>; 2]>,
    numbers: AdamNumbers,
    moved: Option<&[Range<usize>]>,
) -> [Tensor<D>; 3] {
    let before = moved.map(|_| before(&weights, &moments));
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
    keep_others([weights - step * numbers.learning_rate, first, second], before, moved)
}

/// The values before a step of Adam.
pub(crate) fn before<const D: usize>(
    weights: &Tensor<D>,
    moments: &Option<[Tensor<D>; 2]>,
) -> [Option<Tensor<D>>; 3] {
    let moments = moments.clone().map_or([None, None], |moments| moments.map(Some));
    let [first, second] = moments;
    [Some(weights.clone()), first, second]
}

/// The new values in the moved ranges, elsewhere those before the step, or zero where there were
/// none.
pub(crate) fn keep_others<const D: usize, const N: usize>(
    new: [Tensor<D>; N],
    before: Option<[Option<Tensor<D>>; N]>,
    moved: Option<&[Range<usize>]>,
) -> [Tensor<D>; N] {
    let (Some(before), Some(moved)) = (before, moved) else { return new };
    let shape = new[0].shape();
    let mut is_in = vec![false; shape.num_elements()];
    for range in moved {
        is_in[range.clone()].fill(true);
    }
    let data = TensorData::new(is_in, shape);
    let is_in = Tensor::<D, Bool>::from_data(data, &new[0].device());
    let mut before = before.into_iter();
    new.map(|new| {
        let before = before.next().flatten().unwrap_or_else(|| new.zeros_like());
        before.mask_where(is_in.clone(), new)
    })
}
