//! Steps of optimizers: each parameter in one launch.

use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, cubecl};
use cubecl::prelude::*;

use super::launch::{Values, empty, tensor};
use super::moments::total;
use super::sums::{UNITS, VALUES};
use crate::numbers::{AdamNumbers, SgdNumbers};
use crate::steps::{AdamTensors, SgdTensors, StepOps};

/// Number of sums to which the squares of one gradient are added, before all are added.
pub const NUM_SUMS: usize = 128;

/// Sums of squares of a gradient, after those of other gradients. Cubes: sums.
#[cube(launch_unchecked)]
fn squares(gradient: &[f32], sums: &mut [f32], first: usize) {
    let mut scratch = Shared::<[f32]>::new_slice(UNITS);
    let mut sum = f32::new(0.0);
    let mut at = CUBE_POS_X as usize * UNITS + UNIT_POS as usize;
    while at < gradient.len() {
        let value = gradient[at];
        sum += value * value;
        at += comptime!(NUM_SUMS * UNITS);
    }
    let sum = total(&mut scratch, sum, UNITS);
    if UNIT_POS == 0 {
        sums[first + CUBE_POS_X as usize] = sum;
    }
}

/// The square root of the sum of all sums. One cube.
#[cube(launch_unchecked)]
fn root(sums: &[f32], norm: &mut [f32]) {
    let mut scratch = Shared::<[f32]>::new_slice(UNITS);
    let mut sum = f32::new(0.0);
    let mut at = UNIT_POS as usize;
    while at < sums.len() {
        sum += sums[at];
        at += UNITS;
    }
    let sum = total(&mut scratch, sum, UNITS);
    if UNIT_POS == 0 {
        norm[0] = sum.sqrt();
    }
}

/// See [`crate::sgd`].
#[cube(launch_unchecked)]
fn sgd(
    weights: &[f32],
    gradient: &[f32],
    velocity: &[f32],
    norm: &[f32],
    moved: &mut [f32],
    new_velocity: &mut [f32],
    rate: f32,
    momentum: f32,
    decay: f32,
    clip: f32,
    is_first: u32,
    nesterov: u32,
) {
    let at = ABSOLUTE_POS;
    if at < moved.len() {
        let mut factor = f32::new(1.0);
        if clip > 0.0 {
            let share = clip / (norm[0] + 1e-6);
            // A value that is no number stays so.
            factor = select(share > 1.0, f32::new(1.0), share);
        }
        let weight = weights[at];
        let slope = gradient[at] * factor + weight * decay;
        let mut of_step = slope;
        if is_first == 0 {
            of_step += velocity[at] * momentum;
        }
        new_velocity[at] = of_step;
        if nesterov != 0 {
            of_step = slope + of_step * momentum;
        }
        moved[at] = weight - rate * of_step;
    }
}

/// See [`crate::adam`].
#[cube(launch_unchecked)]
fn adam(
    weights: &[f32],
    gradient: &[f32],
    moment_1: &[f32],
    moment_2: &[f32],
    moved: &mut [f32],
    new_moment_1: &mut [f32],
    new_moment_2: &mut [f32],
    rate: f32,
    beta_1: f32,
    beta_2: f32,
    decay: f32,
    epsilon: f32,
    is_first: u32,
) {
    let at = ABSOLUTE_POS;
    if at < moved.len() {
        let weight = weights[at];
        let gradient = gradient[at] + weight * decay;
        let mut first = gradient * (1.0 - beta_1);
        let mut second = gradient * gradient * (1.0 - beta_2);
        if is_first == 0 {
            first += moment_1[at] * beta_1;
            second += moment_2[at] * beta_2;
        }
        new_moment_1[at] = first;
        new_moment_2[at] = second;
        moved[at] = weight - rate * first / (second.sqrt() + epsilon);
    }
}

fn count(len: usize) -> CubeCount {
    CubeCount::Static(u32::try_from(len.div_ceil(VALUES)).expect("cubes of a launch"), 1, 1)
}

/// Tensors of the same shape as another.
fn alike<const N: usize>(like: &CubeTensor) -> [CubeTensor; N] {
    std::array::from_fn(|_| {
        let shape: Shape = like.meta.shape().clone();
        let handle = like.client.empty(shape.num_elements() * size_of::<f32>());
        let (client, device) = (like.client.clone(), like.device.clone());
        CubeTensor::new_contiguous(client, device, shape, handle, DType::F32)
    })
}

impl StepOps for CubeBackend {
    fn sums_of_squares(like: CubeTensor, num_gradients: usize) -> CubeTensor {
        let sums = empty(&like.client, num_gradients * NUM_SUMS);
        tensor(&like, sums, [num_gradients * NUM_SUMS])
    }

    fn add_squares(gradient: CubeTensor, sums: CubeTensor, number: usize) -> CubeTensor {
        let gradient = into_contiguous(gradient);
        // SAFETY: the launch writes the sums with its number, and reads within the gradient.
        unsafe {
            squares::launch_unchecked(
                &gradient.client,
                CubeCount::Static(NUM_SUMS as u32, 1, 1),
                CubeDim::new_1d(UNITS as u32),
                Values::of(&gradient).arg(),
                Values::of(&sums).arg(),
                number * NUM_SUMS,
            );
        }
        sums
    }

    fn root_of_sums(sums: CubeTensor) -> CubeTensor {
        let norm = tensor(&sums, empty(&sums.client, 1), [1]);
        // SAFETY: the launch writes one value.
        unsafe {
            root::launch_unchecked(
                &sums.client,
                CubeCount::Static(1, 1, 1),
                CubeDim::new_1d(UNITS as u32),
                Values::of(&sums).arg(),
                Values::of(&norm).arg(),
            );
        }
        norm
    }

    fn sgd(
        weights: CubeTensor,
        gradient: CubeTensor,
        velocity: CubeTensor,
        norm: CubeTensor,
        numbers: SgdNumbers,
        is_first: bool,
    ) -> SgdTensors<Self> {
        let [weights, gradient, velocity] = [weights, gradient, velocity].map(into_contiguous);
        let [moved, new_velocity] = alike(&weights);
        // SAFETY: all but the norm have the length of the weights.
        unsafe {
            sgd::launch_unchecked(
                &weights.client,
                count(weights.meta.num_elements()),
                CubeDim::new_1d(VALUES as u32),
                Values::of(&weights).arg(),
                Values::of(&gradient).arg(),
                Values::of(&velocity).arg(),
                Values::of(&norm).arg(),
                Values::of(&moved).arg(),
                Values::of(&new_velocity).arg(),
                numbers.learning_rate,
                numbers.momentum,
                numbers.weight_decay,
                numbers.clip_norm.unwrap_or(0.0),
                u32::from(is_first),
                u32::from(numbers.nesterov),
            );
        }
        SgdTensors { weights: moved, velocity: new_velocity }
    }

    fn adam(
        weights: CubeTensor,
        gradient: CubeTensor,
        moment_1: CubeTensor,
        moment_2: CubeTensor,
        numbers: AdamNumbers,
        is_first: bool,
    ) -> AdamTensors<Self> {
        let [weights, gradient, moment_1, moment_2] =
            [weights, gradient, moment_1, moment_2].map(into_contiguous);
        let [moved, new_moment_1, new_moment_2] = alike(&weights);
        let root = numbers.second_correction().sqrt();
        // SAFETY: all have the length of the weights.
        unsafe {
            adam::launch_unchecked(
                &weights.client,
                count(weights.meta.num_elements()),
                CubeDim::new_1d(VALUES as u32),
                Values::of(&weights).arg(),
                Values::of(&gradient).arg(),
                Values::of(&moment_1).arg(),
                Values::of(&moment_2).arg(),
                Values::of(&moved).arg(),
                Values::of(&new_moment_1).arg(),
                Values::of(&new_moment_2).arg(),
                numbers.learning_rate * root / numbers.first_correction(),
                numbers.beta1,
                numbers.beta2,
                numbers.weight_decay,
                numbers.epsilon * root,
                u32::from(is_first),
            );
        }
        AdamTensors { weights: moved, moment_1: new_moment_1, moment_2: new_moment_2 }
    }
}
