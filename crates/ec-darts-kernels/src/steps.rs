//! Steps of SGD and Adam, and the norm of gradients: on the devices of CubeCL one kernel for each
//! parameter, on the CPU one pass over the values for SGD and the norm, else the plain composition.
//!
//! Entry points: [`norm`], [`sgd`] and [`adam`].

use std::ops::Range;

#[cfg(any(feature = "flex", feature = "cube"))]
use burn::backend::tensor::FloatTensor;
#[cfg(any(feature = "flex", feature = "cube"))]
use burn::backend::{Backend, Dispatch, ExtensionType, backend_extension};
use burn::tensor::{Tensor, s};

#[cfg(feature = "cube")]
use crate::is_cube;
#[cfg(feature = "flex")]
use crate::is_flex;
use crate::numbers::{AdamNumbers, SgdNumbers};
use crate::reference;

/// The results of a step of SGD.
#[cfg(any(feature = "flex", feature = "cube"))]
#[derive(ExtensionType, Debug)]
pub struct SgdTensors<B: Backend> {
    /// The new weights, of the same shape.
    pub weights: FloatTensor<B>,
    /// The velocity, of the weights' shape.
    pub velocity: FloatTensor<B>,
}

/// The results of a step of Adam.
#[cfg(feature = "cube")]
#[derive(ExtensionType, Debug)]
pub struct AdamTensors<B: Backend> {
    /// The new weights, of the same shape.
    pub weights: FloatTensor<B>,
    /// The first moment, of the weights' shape.
    pub moment_1: FloatTensor<B>,
    /// The second moment, of the weights' shape.
    pub moment_2: FloatTensor<B>,
}

/// Steps on the CPU; without gradient.
#[cfg(feature = "flex")]
#[backend_extension(Flex)]
pub trait CpuSteps: Backend {
    /// The sum of squares, `[1]`.
    fn squares(gradient: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`sgd()`]; `velocity` is zero before the first step, and `factor`, `[1]`, is that of the
    /// gradient.
    fn sgd_of(
        weights: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        velocity: FloatTensor<Self>,
        factor: FloatTensor<Self>,
        numbers: SgdNumbers,
        moved: Option<Vec<Range<usize>>>,
    ) -> SgdTensors<Self>;
}

/// Steps on the backends of CubeCL; without gradient.
#[cfg(feature = "cube")]
#[backend_extension(Cube)]
pub trait StepOps: Backend {
    /// A buffer for the sums of squares of this number of gradients.
    fn sums_of_squares(like: FloatTensor<Self>, num_gradients: usize) -> FloatTensor<Self>;

    /// Writes the sums of one gradient, and returns all sums.
    fn add_squares(
        gradient: FloatTensor<Self>,
        sums: FloatTensor<Self>,
        number: usize,
    ) -> FloatTensor<Self>;

    /// The norm, `[1]`.
    fn root_of_sums(sums: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`sgd()`].
    fn sgd(
        weights: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        velocity: FloatTensor<Self>,
        norm: FloatTensor<Self>,
        numbers: SgdNumbers,
        is_first: bool,
    ) -> SgdTensors<Self>;

    /// See [`adam()`].
    fn adam(
        weights: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        moment_1: FloatTensor<Self>,
        moment_2: FloatTensor<Self>,
        numbers: AdamNumbers,
        is_first: bool,
    ) -> AdamTensors<Self>;
}

/// Number of values of a gradient that one operation of Burn sums: a larger sum may use several
/// threads, in no fixed order.
const SUM: usize = 1 << 20;

/// Euclidean norm over all gradients at once, `[1]`.
///
/// Squares are summed in a fixed order, those of a part of a gradient in single precision.
///
/// # Panics
/// Where `gradients` is empty.
pub fn norm(gradients: Vec<Tensor<1>>) -> Tensor<1> {
    assert!(!gradients.is_empty(), "a step has gradients");
    #[cfg(feature = "cube")]
    if is_cube(&gradients[0].device()) {
        let like = gradients[0].clone().into_dispatch();
        let sums = <Dispatch as StepOps>::sums_of_squares(like, gradients.len());
        let sums = gradients.into_iter().enumerate().fold(sums, |sums, (number, gradient)| {
            <Dispatch as StepOps>::add_squares(gradient.into_dispatch(), sums, number)
        });
        return Tensor::from_dispatch(<Dispatch as StepOps>::root_of_sums(sums));
    }
    #[cfg(feature = "flex")]
    if gradients.iter().all(is_flex) {
        let squares = |gradient: Tensor<1>| {
            Tensor::from_dispatch(<Dispatch as CpuSteps>::squares(gradient.into_dispatch()))
        };
        return Tensor::<1>::cat(gradients.into_iter().map(squares).collect(), 0).sum().sqrt();
    }
    let sums = gradients.into_iter().flat_map(|gradient| {
        let [len] = gradient.dims();
        let squares = gradient.square();
        let part = |start: usize| match len <= SUM {
            true => squares.clone().sum(),
            false => squares.clone().slice(s![start..len.min(start + SUM)]).sum(),
        };
        (0..len).step_by(SUM).map(part).collect::<Vec<_>>()
    });
    Tensor::cat(sums.collect(), 0).sum().sqrt()
}

/// A step of SGD; returns the new weights and the velocity.
///
/// ```text
/// g <- g * min(1, clip / (norm + 1e-6))
/// v <- momentum * v + g + decay * w         v = g + decay * w in the first step
/// w <- w - rate * v
/// w <- w - rate * (g + decay * w + momentum * v)      Nesterov, in place of the line before
/// ```
/// `norm`, `[1]`, is that of all gradients. Where it or `clip_norm` is absent, there is no
/// clipping. Where there are `moved` ranges of the values in row-major order, none of which overlap,
/// all other values keep their weight and their velocity, which is zero before their first step.
pub fn sgd<const D: usize>(
    weights: Tensor<D>,
    gradient: Tensor<D>,
    velocity: Option<Tensor<D>>,
    norm: Option<Tensor<1>>,
    numbers: SgdNumbers,
    moved: Option<&[Range<usize>]>,
) -> [Tensor<D>; 2] {
    #[cfg(feature = "flex")]
    if is_flex(&weights) && is_flex(&gradient) {
        let factor = reference::clip_factor(norm, numbers)
            .unwrap_or_else(|| Tensor::ones([1], &weights.device()))
            .into_dispatch();
        let velocity = velocity.unwrap_or_else(|| weights.zeros_like());
        let [weights, gradient, velocity] =
            [weights, gradient, velocity].map(Tensor::into_dispatch);
        let moved = moved.map(<[_]>::to_vec);
        let all =
            <Dispatch as CpuSteps>::sgd_of(weights, gradient, velocity, factor, numbers, moved);
        return [all.weights, all.velocity].map(Tensor::from_dispatch);
    }
    #[cfg(feature = "cube")]
    if is_cube(&weights.device()) {
        let clip_norm = numbers.clip_norm.filter(|_| norm.is_some());
        let numbers = SgdNumbers { clip_norm, ..numbers };
        let is_first = velocity.is_none();
        let before = moved.map(|_| [Some(weights.clone()), velocity.clone()]);
        let velocity = velocity.unwrap_or_else(|| gradient.clone()).into_dispatch();
        let gradient = gradient.into_dispatch();
        let norm = norm.map_or_else(|| gradient.clone(), Tensor::into_dispatch);
        let weights = weights.into_dispatch();
        let all = <Dispatch as StepOps>::sgd(weights, gradient, velocity, norm, numbers, is_first);
        let all = [all.weights, all.velocity].map(Tensor::from_dispatch);
        return reference::keep_others(all, before, moved);
    }
    reference::sgd(weights, gradient, velocity, norm, numbers, moved)
}

/// A step of Adam, step `t`; returns the new weights, then both moments.
///
/// ```text
/// g <- g + decay * w
/// m <- beta1 * m + (1 - beta1) * g          m = 0 before the first step, v too
/// v <- beta2 * v + (1 - beta2) * g^2
/// w <- w - rate * m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon)
/// ```
/// `moved` is as in [`sgd()`].
pub fn adam<const D: usize>(
    weights: Tensor<D>,
    gradient: Tensor<D>,
    moments: Option<[Tensor<D>; 2]>,
    numbers: AdamNumbers,
    moved: Option<&[Range<usize>]>,
) -> [Tensor<D>; 3] {
    #[cfg(feature = "cube")]
    if is_cube(&weights.device()) {
        let is_first = moments.is_none();
        let before = moved.map(|_| reference::before(&weights, &moments));
        let moments = moments.unwrap_or_else(|| [gradient.clone(), gradient.clone()]);
        let [first, second] = moments.map(Tensor::into_dispatch);
        let (weights, gradient) = (weights.into_dispatch(), gradient.into_dispatch());
        let all = <Dispatch as StepOps>::adam(weights, gradient, first, second, numbers, is_first);
        let all = [all.weights, all.moment_1, all.moment_2].map(Tensor::from_dispatch);
        return reference::keep_others(all, before, moved);
    }
    reference::adam(weights, gradient, moments, numbers, moved)
}
