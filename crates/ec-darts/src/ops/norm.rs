//! Batch normalization as PyTorch does it, the only place that knows Burn's differences.

use burn::module::{Module, Param, RunningState};
use burn::nn::Initializer;
use burn::tensor::module::{batch_norm, batch_norm_train};
use burn::tensor::{Device, Tensor};

/// Added to the variance, as in every network of the paper's recipe.
pub const EPSILON: f64 = 1e-5;
/// Share of the new batch in the running statistics.
pub const MOMENTUM: f64 = 0.1;

/// Batch normalization over batch, height and width, with or without scale and shift.
///
/// ```text
/// y = gamma * (x - mean) / sqrt(var + 1e-5) + beta
/// running_mean <- 0.9 running_mean + 0.1 mean
/// running_var  <- 0.9 running_var  + 0.1 var * n / (n - 1)
/// ```
/// `mean` and the biased `var` are those of the batch while training, the running ones otherwise;
/// `n` is batch times height times width. Without affine part, `gamma` is 1 and `beta` 0.
///
/// Burn's own `BatchNorm` always has an affine part and keeps the biased variance
/// (docs/deviations.md, `batch-norm`). As there, the batch statistics are used where the input is
/// on an autodiff device.
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
}

impl Norm {
    /// A fresh layer: running mean 0, running variance 1, `gamma` 1 and `beta` 0 where affine.
    pub fn new(num_channels: usize, affine: bool, device: &Device) -> Self {
        let parameter = |start: Initializer| affine.then(|| start.init([num_channels], device));
        Self {
            gamma: parameter(Initializer::Ones),
            beta: parameter(Initializer::Zeros),
            running_mean: RunningState::new(Tensor::zeros([num_channels], device)),
            running_var: RunningState::new(Tensor::ones([num_channels], device)),
        }
    }

    /// Normalizes; on an autodiff device also moves the running statistics.
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
        if !device.is_autodiff() {
            let (mean, var) = (self.running_mean.value(), self.running_var.value());
            return batch_norm(input, gamma, beta, mean, var, EPSILON);
        }
        let normalized = batch_norm_train(input, gamma, beta, EPSILON);
        let count = batch * height * width;
        observe(&[(self, count)], normalized.mean, normalized.variance);
        normalized.output
    }
}

/// Moves the running statistics of normalizations towards those of a batch: mean and biased
/// variance, `[channels of all of them]`; each comes with the values of a channel that it saw.
pub(crate) fn observe(norms: &[(&Norm, usize)], mean: Tensor<1>, variance: Tensor<1>) {
    // Plain tensors: nothing here has a gradient, and on an autodiff device every operation would
    // pay for the graph.
    let moved = |running: fn(&Norm) -> &RunningState<Tensor<1>>, new: Tensor<1>| {
        let old = norms.iter().map(|(norm, _)| running(norm).value_sync().without_autodiff());
        let old: Vec<Tensor<1>> = old.collect();
        let sizes: Vec<usize> = old.iter().map(|each| each.dims()[0]).collect();
        let moved = Tensor::cat(old, 0) * (1.0 - MOMENTUM) + new * MOMENTUM;
        for ((norm, _), moved) in norms.iter().zip(moved.split_with_sizes(sizes, 0)) {
            running(norm).update(Tensor::from_inner(moved));
        }
    };
    let unbiased: Vec<f32> = norms
        .iter()
        .flat_map(|(norm, count)| {
            let n = *count as f64;
            // A single value per channel has no unbiased variance; PyTorch refuses it.
            let factor = if n > 1.0 { n / (n - 1.0) } else { 1.0 };
            vec![factor as f32; norm.running_var.value().dims()[0]]
        })
        .collect();
    let (mean, variance) = (mean.without_autodiff(), variance.without_autodiff());
    let unbiased = variance.clone() * Tensor::from_data(&unbiased[..], &variance.device());
    moved(|norm| &norm.running_mean, mean);
    moved(|norm| &norm.running_var, unbiased);
}
