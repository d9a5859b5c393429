//! Optimizers, learning rate and gradient clipping, with PyTorch's meaning of every number.
//!
//! Burn's optimizers have other defaults than those of the paper (docs/deviations.md,
//! `optimizers`), and take about ten kernel launches per parameter on a GPU. Ours implement the
//! same trait ([`Sgd`], [`Adam`]).

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use crate::ops::Packs;

pub use average::WeightAverage;
pub use rules::{Adam, Moments, PartialStep, Sgd, Velocity};
pub use schedule::{Decay, cosine_learning_rate, warmup};
pub use stepper::{Ran, Stepper};

mod average;
mod rules;
mod schedule;
mod stepper;

/// Settings of SGD on the weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdSettings {
    /// Factor of the old velocity in the new one.
    pub momentum: f64,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
    /// Largest global norm of the gradient, or none.
    pub clip_norm: Option<f64>,
    /// Whether a step uses Nesterov momentum.
    pub nesterov: bool,
}

/// Settings of Adam on alpha.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamSettings {
    /// Decay rate of the first moment.
    pub beta1: f64,
    /// Decay rate of the second moment.
    pub beta2: f64,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
}

impl AdamSettings {
    /// Adam with epsilon 1e-8.
    pub fn init(&self) -> Stepper<Adam> {
        Stepper::new(Adam::new(*self))
    }
}

/// SGD with momentum, weight decay and clipping by the global norm.
///
/// ```text
/// g <- g * min(1, clip / (|g| + 1e-6))      |g| over all parameters at once
/// v <- momentum * v + g + decay * w         v = g + decay * w in the first step
/// w <- w - lr * v
/// w <- w - lr * (g + decay * w + momentum * v)      Nesterov, in place of the line before
/// ```
///
/// # Source
/// PyTorch, `torch.optim.SGD` and `clip_grad_norm_`, as in DARTS, `cnn/train_search.py`.
pub struct WeightOptimizer {
    /// SGD and the velocities of all parameters.
    pub stepper: Stepper<Sgd>,
    clips: bool,
}

impl WeightOptimizer {
    /// An optimizer without velocity: the first step uses the gradient as it is.
    pub fn new(settings: &SgdSettings) -> Self {
        Self { stepper: Stepper::new(Sgd::new(*settings)), clips: settings.clip_norm.is_some() }
    }

    /// One step; returns the updated module and the global norm of the gradient before clipping,
    /// `[1]`.
    ///
    /// The norm stays on the device, so that no step waits for it.
    pub fn step<M: Packs>(
        &mut self,
        learning_rate: f64,
        module: M,
        gradients: GradientsParams,
    ) -> (M, Tensor<1>) {
        self.step_of(learning_rate, module, gradients, None)
    }

    /// As [`Self::step`]. For the packed tensors named in `ran`, only these ranges and their
    /// velocity change.
    pub fn step_of<M: Packs>(
        &mut self,
        learning_rate: f64,
        module: M,
        gradients: GradientsParams,
        ran: Option<&Ran>,
    ) -> (M, Tensor<1>) {
        let norm = global_norm(&module, &gradients);
        self.stepper.optimizer.norm = self.clips.then(|| norm.clone());
        let module = self.stepper.step_of(learning_rate, module, &gradients, ran);
        self.stepper.optimizer.norm = None;
        (module, norm)
    }

    /// The weights after a step without clipping; the optimizer itself does not change.
    ///
    /// ```text
    /// w' = w - xi (momentum * v + g + decay * w)
    /// ```
    pub fn virtual_step<M: Packs>(&mut self, xi: f64, module: M, gradients: &GradientsParams) -> M {
        self.stepper.virtual_step(xi, module, gradients)
    }
}

/// Euclidean norm over the gradients of all parameters of a module at once, `[1]`, on the device.
///
/// The squares are summed in a fixed order.
///
/// # Panics
/// Where no parameter has a gradient.
pub fn global_norm<M: Module>(module: &M, gradients: &GradientsParams) -> Tensor<1> {
    struct Collect<'a> {
        gradients: &'a GradientsParams,
        all: Vec<Tensor<1>>,
    }
    impl ModuleVisitor for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.gradients.get::<D>(param.id) {
                self.all.push(gradient.flatten::<1>(0, D - 1));
            }
        }
    }
    let mut visitor = Collect { gradients, all: Vec::new() };
    module.visit(&mut visitor);
    ec_darts_kernels::norm(visitor.all)
}

/// The gradients, scaled so that their global norm is at most `most`.
///
/// # Source
/// PyTorch, `clip_grad_norm_`.
pub(crate) fn clip<M: Module>(
    module: &M,
    gradients: GradientsParams,
    norm: Tensor<1>,
    most: f64,
) -> GradientsParams {
    scale(module, gradients, ((norm + 1e-6).recip() * most).clamp_max(1.0))
}

fn scale<M: Module>(module: &M, gradients: GradientsParams, factor: Tensor<1>) -> GradientsParams {
    struct Scale {
        gradients: GradientsParams,
        factor: Tensor<1>,
    }
    impl ModuleVisitor for Scale {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.gradients.remove::<D>(param.id) {
                let factor = self.factor.clone().reshape([1; D]);
                self.gradients.register(param.id, gradient * factor);
            }
        }
    }
    let mut visitor = Scale { gradients, factor };
    module.visit(&mut visitor);
    visitor.gradients
}
