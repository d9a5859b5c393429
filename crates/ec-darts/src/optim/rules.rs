//! SGD and Adam behind Burn's trait. The fields of their states are ours to read, and on a GPU a
//! step is one kernel per parameter; on the CPU, a step of SGD is one pass over its values.

use std::ops::Range;

use burn::optim::{LearningRate, Optimizer, RecordState, StateSink, StateSource};
use burn::tensor::{Device, Tensor};
use ec_darts_kernels::{AdamNumbers, SgdNumbers};

use super::{AdamSettings, SgdSettings};

/// An optimizer that can leave a part of the values and their state unchanged.
pub trait PartialStep: Optimizer {
    /// As [`Optimizer::step`]. Where there are `moved` ranges of the values in row-major order, none
    /// of which overlap, all other values and their state stay the same; a state is zero before the
    /// first step.
    fn step_of<const D: usize>(
        &self,
        learning_rate: LearningRate,
        weights: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<Self::State<D>>,
        moved: Option<&[Range<usize>]>,
    ) -> (Tensor<D>, Option<Self::State<D>>);
}

/// SGD with momentum, weight decay and clipping by a norm.
#[derive(Clone, Debug)]
pub struct Sgd {
    settings: SgdSettings,
    /// The global norm of all gradients, where they are clipped.
    pub(super) norm: Option<Tensor<1>>,
}

impl Sgd {
    /// SGD that clips no gradient until it gets a norm.
    pub(super) fn new(settings: SgdSettings) -> Self {
        Self { settings, norm: None }
    }
}

/// The velocity of a parameter.
#[derive(Clone, Debug)]
pub struct Velocity<const D: usize>(Tensor<D>);

impl<const D: usize> RecordState for Velocity<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        out.push_tensor(prefix, "momentum.velocity", self.0.to_data());
    }

    fn state_unflatten(prefix: &str, src: &mut StateSource, device: &Device) -> Option<Self> {
        let data = src.take_tensor(prefix, "momentum.velocity")?;
        Some(Self(Tensor::from_data(data, device)))
    }
}

impl Optimizer for Sgd {
    type State<const D: usize> = Velocity<D>;

    fn step<const D: usize>(
        &self,
        learning_rate: LearningRate,
        weights: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<Velocity<D>>,
    ) -> (Tensor<D>, Option<Velocity<D>>) {
        self.step_of(learning_rate, weights, gradient, state, None)
    }

    fn to_device<const D: usize>(state: Velocity<D>, device: &Device) -> Velocity<D> {
        Velocity(state.0.to_device(device))
    }
}

impl PartialStep for Sgd {
    fn step_of<const D: usize>(
        &self,
        learning_rate: LearningRate,
        weights: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<Velocity<D>>,
        moved: Option<&[Range<usize>]>,
    ) -> (Tensor<D>, Option<Velocity<D>>) {
        let SgdSettings { momentum, weight_decay, clip_norm, nesterov } = self.settings;
        let mut numbers = SgdNumbers::new(learning_rate, momentum, weight_decay);
        numbers.clip_norm = clip_norm.map(|clip| clip as f32);
        numbers.nesterov = nesterov;
        let (velocity, norm) = (state.map(|state| state.0), self.norm.clone());
        let [weights, velocity] =
            ec_darts_kernels::sgd(weights, gradient, velocity, norm, numbers, moved);
        (weights, Some(Velocity(velocity)))
    }
}

/// Adam with epsilon 1e-8.
#[derive(Clone, Debug)]
pub struct Adam {
    settings: AdamSettings,
}

impl Adam {
    pub(super) fn new(settings: AdamSettings) -> Self {
        Self { settings }
    }
}

/// Both moments of a parameter, and their number of steps.
#[derive(Clone, Debug)]
pub struct Moments<const D: usize> {
    time: usize,
    moments: [Tensor<D>; 2],
}

/// Names of the moments in files.
const MOMENTS: [&str; 2] = ["momentum.moment_1", "momentum.moment_2"];

impl<const D: usize> RecordState for Moments<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        out.push_scalar(prefix, "momentum.time", (self.time as u64).into());
        for (name, moment) in MOMENTS.iter().zip(&self.moments) {
            out.push_tensor(prefix, name, moment.to_data());
        }
    }

    fn state_unflatten(prefix: &str, src: &mut StateSource, device: &Device) -> Option<Self> {
        let time = src.take_scalar(prefix, "momentum.time")?;
        let time = u64::try_from(time).ok()? as usize;
        let [first, second] = MOMENTS.map(|name| src.take_tensor(prefix, name));
        let moments = [first?, second?].map(|data| Tensor::from_data(data, device));
        Some(Self { time, moments })
    }
}

impl Optimizer for Adam {
    type State<const D: usize> = Moments<D>;

    fn step<const D: usize>(
        &self,
        learning_rate: LearningRate,
        weights: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<Moments<D>>,
    ) -> (Tensor<D>, Option<Moments<D>>) {
        self.step_of(learning_rate, weights, gradient, state, None)
    }

    fn to_device<const D: usize>(state: Moments<D>, device: &Device) -> Moments<D> {
        Moments { moments: state.moments.map(|moment| moment.to_device(device)), ..state }
    }
}

impl PartialStep for Adam {
    fn step_of<const D: usize>(
        &self,
        learning_rate: LearningRate,
        weights: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<Moments<D>>,
        moved: Option<&[Range<usize>]>,
    ) -> (Tensor<D>, Option<Moments<D>>) {
        let AdamSettings { beta1, beta2, weight_decay } = self.settings;
        let time = 1 + state.as_ref().map_or(0, |state| state.time);
        let numbers = AdamNumbers::new(learning_rate, [beta1, beta2], weight_decay, time);
        let moments = state.map(|state| state.moments);
        let [weights, first, second] =
            ec_darts_kernels::adam(weights, gradient, moments, numbers, moved);
        (weights, Some(Moments { time, moments: [first, second] }))
    }
}
