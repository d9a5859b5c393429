//! A step of SGD and the squares of a gradient, in one pass over the values.

use std::ops::Range;

use rayon::prelude::*;

use super::in_pool;
use crate::numbers::SgdNumbers;

/// Number of values that a thread takes at a time.
const PART: usize = 1 << 14;
/// Number of parallel sums: a single one would wait for itself.
const SUMS: usize = 32;

/// The sum of squares, in single precision for at most [`PART`] values, then in double; it does not
/// depend on the number of threads.
pub fn squares(values: &[f32]) -> f32 {
    let of_part = |part: &[f32]| {
        let mut sums = [0.0f32; SUMS];
        let whole = part.chunks_exact(SUMS);
        let rest: f64 = whole.remainder().iter().map(|value| f64::from(value * value)).sum();
        for values in whole {
            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value * value);
        }
        rest + sums.into_iter().map(f64::from).sum::<f64>()
    };
    let parts: Vec<f64> = in_pool(|| values.par_chunks(PART).map(of_part).collect());
    parts.into_iter().sum::<f64>() as f32
}

/// As [`crate::sgd`], in place, for the values of the ranges; `factor` is that of the gradient.
/// Every value is rounded as in the plain composition; a zero may have another sign.
pub fn sgd(
    [weights, velocity]: [&mut [f32]; 2],
    gradient: &[f32],
    factor: f32,
    numbers: SgdNumbers,
    moved: &[Range<usize>],
) {
    let SgdNumbers { learning_rate, momentum, weight_decay, nesterov, .. } = numbers;
    let step = |((weight, velocity), gradient): ((&mut f32, &mut f32), &f32)| {
        let gradient = *weight * weight_decay + gradient * factor;
        *velocity = gradient + *velocity * momentum;
        let step = if nesterov { gradient + *velocity * momentum } else { *velocity };
        *weight -= step * learning_rate;
    };
    let mut one = |range: &Range<usize>| {
        let (weights, velocity) = (&mut weights[range.clone()], &mut velocity[range.clone()]);
        let parts = weights.par_chunks_mut(PART).zip(velocity.par_chunks_mut(PART));
        parts.zip(gradient[range.clone()].par_chunks(PART)).for_each(
            |((weights, velocity), gradient)| {
                weights.iter_mut().zip(velocity).zip(gradient).for_each(step);
            },
        );
    };
    in_pool(|| moved.iter().for_each(&mut one));
}
