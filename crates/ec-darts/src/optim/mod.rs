//! Optimizers, learning rate and gradient clipping, with PyTorch's meaning of every number.
//!
//! Invariant: Burn's optimizers are built here and nowhere else, because their defaults differ
//! from the paper's (docs/deviations.md, `optimizers`).

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{Adam, AdamConfig, GradientsParams, Sgd, SgdConfig};
use burn::tensor::{Tensor, s};

use crate::ops::Packs;

pub use average::WeightAverage;
pub use schedule::{Schedule, cosine_learning_rate, warmup};
pub use stepper::Stepper;

mod average;
mod schedule;
mod stepper;

/// Settings of SGD on the weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdSettings {
    /// Share of the old velocity.
    pub momentum: f64,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
    /// Largest global norm of the gradient, or none.
    pub clip_norm: Option<f64>,
}

/// Settings of Adam on alpha.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamSettings {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
}

impl AdamSettings {
    /// Adam with epsilon 1e-8; Burn's default is 1e-5.
    pub fn init(&self) -> Stepper<Adam> {
        let config = AdamConfig::new()
            .with_beta_1(self.beta1 as f32)
            .with_beta_2(self.beta2 as f32)
            .with_epsilon(1e-8)
            .with_weight_decay(Some(WeightDecayConfig::new(self.weight_decay as f32)));
        Stepper::new(config.build())
    }
}

/// SGD with momentum, weight decay and clipping by the global norm.
///
/// ```text
/// g <- g * min(1, clip / (|g| + 1e-6))      |g| over all parameters at once
/// v <- momentum * v + g + decay * w         v = g + decay * w in the first step
/// w <- w - lr * v
/// ```
///
/// # Source
/// PyTorch, `torch.optim.SGD` and `clip_grad_norm_`, as in DARTS, `cnn/train_search.py`.
pub struct WeightOptimizer {
    /// Burn's SGD and the velocities.
    pub stepper: Stepper<Sgd>,
    clip_norm: Option<f64>,
}

impl WeightOptimizer {
    /// Without velocity: the first step takes the gradient as it is.
    pub fn new(settings: &SgdSettings) -> Self {
        // Burn's momentum dampens the gradient by 0.1 unless told not to.
        let momentum = MomentumConfig::new().with_momentum(settings.momentum).with_dampening(0.0);
        let config = SgdConfig::new()
            .with_momentum(Some(momentum))
            .with_weight_decay(Some(WeightDecayConfig::new(settings.weight_decay as f32)));
        Self { stepper: Stepper::new(config.build()), clip_norm: settings.clip_norm }
    }

    /// One step; returns the moved module and the global norm of the gradient before clipping, `[1]`.
    ///
    /// The norm stays on the device, so that no step waits for it.
    pub fn step<M: Packs>(
        &mut self,
        learning_rate: f64,
        module: M,
        mut gradients: GradientsParams,
    ) -> (M, Tensor<1>) {
        let norm = global_norm(&module, &gradients);
        if let Some(most) = self.clip_norm {
            gradients = clip(&module, gradients, norm.clone(), most);
        }
        (self.stepper.step(learning_rate, module, &gradients), norm)
    }

    /// Where a step without clipping would lead; the optimizer itself does not move.
    ///
    /// ```text
    /// w' = w - xi (momentum * v + g + decay * w)
    /// ```
    pub fn virtual_step<M: Packs>(&mut self, xi: f64, module: M, gradients: &GradientsParams) -> M {
        self.stepper.virtual_step(xi, module, gradients)
    }
}

/// Values of a gradient that are summed in one operation: more are summed by several threads of the
/// CPU, in no fixed order.
const SUM: usize = 1 << 20;

/// Euclidean norm over the gradients of all parameters of a module at once, `[1]`, on the device.
///
/// Squares are summed in single precision, at most 2^20 at a time, then these sums, in the order of the
/// parameters.
///
/// # Panics
/// Where no parameter has a gradient.
pub fn global_norm<M: Module>(module: &M, gradients: &GradientsParams) -> Tensor<1> {
    struct Norm<'a> {
        gradients: &'a GradientsParams,
        squares: Vec<Tensor<1>>,
    }
    impl ModuleVisitor for Norm<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.gradients.get::<D>(param.id) {
                let squares = gradient.square().flatten::<1>(0, D - 1);
                let [len] = squares.dims();
                if len <= SUM {
                    return self.squares.push(squares.sum());
                }
                for start in (0..len).step_by(SUM) {
                    let part = squares.clone().slice(s![start..len.min(start + SUM)]);
                    self.squares.push(part.sum());
                }
            }
        }
    }
    let mut visitor = Norm { gradients, squares: Vec::new() };
    module.visit(&mut visitor);
    assert!(!visitor.squares.is_empty(), "a step has gradients");
    Tensor::cat(visitor.squares, 0).sum().sqrt()
}

/// Gradients whose global norm is `most` where it was more.
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
