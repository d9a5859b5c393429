//! SGD and Adam behind Burn's trait. The fields of their states are ours to read, and on a GPU a
//! step is one kernel per parameter.

use burn::optim::{LearningRate, Optimizer, RecordState, StateSink, StateSource};
use burn::tensor::{Bool, Device, Tensor};
use ec_darts_kernels::{AdamNumbers, SgdNumbers};

use super::{AdamSettings, SgdSettings};

/// An optimizer that can leave parts of its state unchanged.
pub trait PartialState: Optimizer {
    /// The new state where the parameter moved, elsewhere the old one.
    ///
    /// # Shapes
    /// - `moved`: of the parameter
    fn keep<const D: usize>(
        state: Self::State<D>,
        before: Option<Self::State<D>>,
        moved: &Tensor<D, Bool>,
    ) -> Self::State<D>;
}

/// `new` where the parameter moved, elsewhere `old`, or zero where there is no old state.
fn keep<const D: usize>(
    new: Tensor<D>,
    old: Option<Tensor<D>>,
    moved: &Tensor<D, Bool>,
) -> Tensor<D> {
    old.unwrap_or_else(|| new.zeros_like()).mask_where(moved.clone(), new)
}

impl PartialState for Sgd {
    fn keep<const D: usize>(
        state: Velocity<D>,
        before: Option<Velocity<D>>,
        moved: &Tensor<D, Bool>,
    ) -> Velocity<D> {
        Velocity(keep(state.0, before.map(|before| before.0), moved))
    }
}

impl PartialState for Adam {
    fn keep<const D: usize>(
        state: Moments<D>,
        before: Option<Moments<D>>,
        moved: &Tensor<D, Bool>,
    ) -> Moments<D> {
        let before = before.map_or([None, None], |before| before.moments.map(Some));
        let [first, second] = state.moments;
        let [first_before, second_before] = before;
        let moments = [keep(first, first_before, moved), keep(second, second_before, moved)];
        Moments { moments, ..state }
    }
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
        let SgdSettings { momentum, weight_decay, clip_norm, nesterov } = self.settings;
        let mut numbers = SgdNumbers::new(learning_rate, momentum, weight_decay);
        numbers.clip_norm = clip_norm.map(|clip| clip as f32);
        numbers.nesterov = nesterov;
        let velocity = state.map(|state| state.0);
        let norm = self.norm.clone();
        let [weights, velocity] = ec_darts_kernels::sgd(weights, gradient, velocity, norm, numbers);
        (weights, Some(Velocity(velocity)))
    }

    fn to_device<const D: usize>(state: Velocity<D>, device: &Device) -> Velocity<D> {
        Velocity(state.0.to_device(device))
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
        let AdamSettings { beta1, beta2, weight_decay } = self.settings;
        let time = 1 + state.as_ref().map_or(0, |state| state.time);
        let numbers = AdamNumbers::new(learning_rate, [beta1, beta2], weight_decay, time);
        let moments = state.map(|state| state.moments);
        let [weights, first, second] = ec_darts_kernels::adam(weights, gradient, moments, numbers);
        (weights, Some(Moments { time, moments: [first, second] }))
    }

    fn to_device<const D: usize>(state: Moments<D>, device: &Device) -> Moments<D> {
        Moments { moments: state.moments.map(|moment| moment.to_device(device)), ..state }
    }
}
