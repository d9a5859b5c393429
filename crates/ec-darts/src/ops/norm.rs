//! Batch normalization as in PyTorch. Only this module knows Burn's differences.

use burn::module::{Flag, Module, ModuleMapper, Param, RunningState};
use burn::nn::Initializer;
use burn::tensor::module::{batch_norm, batch_norm_train};
use burn::tensor::{Device, Tensor};

pub(crate) use ec_darts_kernels::EPSILON;
use ec_darts_kernels::{MOMENTUM, unbiased};

/// Batch normalization over batch, height and width, with or without scale and shift.
///
/// ```text
/// y = gamma * (x - mean) / sqrt(var + 1e-5) + beta
/// running_mean <- 0.9 running_mean + 0.1 mean
/// running_var  <- 0.9 running_var  + 0.1 var * n / (n - 1)
/// ```
/// `mean` and the biased `var` are those of the batch in training, the running ones otherwise; `n`
/// is batch times height times width. Without affine part, `gamma` is 1 and `beta` 0.
///
/// Burn's own `BatchNorm` always has an affine part and keeps the biased variance
/// (docs/deviations.md, `batch-norm`). As in Burn, the batch statistics are used where the input is
/// on an autodiff device and the layer is not frozen.
#[derive(Module, Debug)]
pub struct Norm {
    /// Scale, `[num_channels]`; absent in the search cells.
    pub gamma: Option<Param<Tensor<1>>>,
    /// Shift, `[num_channels]`; absent in the search cells.
    pub beta: Option<Param<Tensor<1>>>,
    /// Running mean, `[num_channels]`.
    pub running_mean: RunningState<Tensor<1>>,
    /// Running unbiased variance, `[num_channels]`.
    pub running_var: RunningState<Tensor<1>>,
    /// Whether the layer is in training; [`Module::freeze`] switches this off.
    pub training: Param<Flag>,
}

/// Replaces a running value.
///
/// Burn stores an update under the thread that made it, and applies it at the next update of that
/// thread, so that a network that moves between threads would read old values; the average over
/// threads is a division, a launch of its own on a GPU. A mapper sets the value at once, in all
/// clones of the state.
pub(super) fn replace(running: &RunningState<Tensor<1>>, value: Tensor<1>) {
    struct Replace(Tensor<1>);
    impl ModuleMapper for Replace {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let shape = param.val().shape();
            Param::initialized(param.id, self.0.clone().reshape(shape))
        }
    }
    running.clone().map(&mut Replace(value));
}

impl Norm {
    /// A new layer: running mean 0, running variance 1, `gamma` 1 and `beta` 0 where affine.
    pub fn new(num_channels: usize, affine: bool, device: &Device) -> Self {
        let parameter = |start: Initializer| affine.then(|| start.init([num_channels], device));
        Self {
            gamma: parameter(Initializer::Ones),
            beta: parameter(Initializer::Zeros),
            running_mean: RunningState::new(Tensor::zeros([num_channels], device)),
            running_var: RunningState::new(Tensor::ones([num_channels], device)),
            training: Param::from_bool(true),
        }
    }

    /// Normalizes; on an autodiff device also updates the running statistics, unless the layer is
    /// frozen.
    ///
    /// # Shapes
    /// - `input`, output: `[batch, num_channels, height, width]`
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let [batch, num_channels, height, width] = input.dims();
        let device = input.device();
        let gamma = match &self.gamma {
            Some(gamma) => gamma.val(),
            None => Tensor::ones([num_channels], &device),
        };
        let beta = match &self.beta {
            Some(beta) => beta.val(),
            None => Tensor::zeros([num_channels], &device),
        };
        if !(device.is_autodiff() && self.training.is_enabled()) {
            let (mean, var) = (self.running_mean.value(), self.running_var.value());
            return batch_norm(input, gamma, beta, mean, var, EPSILON);
        }
        let normalized = batch_norm_train(input, gamma, beta, EPSILON);
        // Plain tensors: no gradient is needed here, and on an autodiff device every operation
        // would add to the graph.
        let moved = |running: &RunningState<Tensor<1>>, new: Tensor<1>| {
            let old = running.value().without_autodiff();
            let moved = old * (1.0 - MOMENTUM) + new.without_autodiff() * MOMENTUM;
            replace(running, Tensor::from_inner(moved));
        };
        let unbiased = f64::from(unbiased(batch * height * width));
        moved(&self.running_mean, normalized.mean);
        moved(&self.running_var, normalized.variance.without_autodiff() * unbiased);
        normalized.output
    }
}
