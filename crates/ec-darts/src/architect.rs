//! The step on alpha: gradients of the validation loss in first and second order.
//!
//! Entry point: [`Architect::step`]. Invariant: the architect changes alpha only. Its extra passes
//! run on a separated view of the supernet, so weights and running statistics stay as they are.

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use crate::architecture::{ArchitectureGradient, ArchitectureParameters};
use crate::batch::ImageBatch;
use crate::network::Supernet;
use crate::objective::{AlphaLoss, Objective};
use crate::ops::Packs;
use crate::ops::separate;
use crate::optim::{Adam, AdamSettings, Stepper, WeightOptimizer, clip, global_norm};

/// The order of the gradient of alpha.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArchitectOrder {
    /// The gradient at the current weights.
    First,
    /// The gradient through one unrolled step of the weights, by finite differences.
    Second,
}

/// The step of the weights that the second order unrolls.
pub struct Unrolled<'a> {
    /// The training batch of that step.
    pub train: &'a ImageBatch,
    /// The optimizer of the weights; its state does not change.
    pub optimizer: &'a mut WeightOptimizer,
    /// Its learning rate, `xi` in the equations.
    pub learning_rate: f64,
}

/// A gradient of alpha, and the validation loss at the same point.
#[derive(Clone, Debug)]
pub struct AlphaGradient {
    /// Mean cross entropy on the validation batch, `[1]`, on the device; in second order, at the
    /// virtual weights.
    pub valid_loss: Tensor<1>,
    /// The gradient of the validation loss with the rule's terms.
    pub gradient: ArchitectureGradient,
}

/// The second-order gradient and its parts.
#[derive(Clone, Debug)]
pub struct SecondOrderGradient {
    /// `direct - xi * implicit`.
    pub alpha: AlphaGradient,
    /// Gradient of the validation loss at the virtual weights.
    pub direct: ArchitectureGradient,
    /// Difference quotient of the training loss' gradient.
    pub implicit: ArchitectureGradient,
    /// The radius of the difference, `[1]`.
    pub epsilon: Tensor<1>,
}

/// Gradient of the validation loss at the current weights.
///
/// ```text
/// grad_alpha L_val(w, alpha)
/// ```
///
/// # Source
/// DARTS, section 2.3, first-order approximation. EC-DARTS names no order; this is our default.
pub fn first_order_gradient(
    objective: &Objective,
    supernet: &Supernet,
    alpha: &ArchitectureParameters,
    valid: &ImageBatch,
) -> AlphaGradient {
    // Without gradients of the weights, which are not used.
    let frozen = separate(supernet).no_grad();
    let loss = objective.alpha_loss(&frozen, alpha, valid);
    let gradients = GradientsParams::from_grads(loss.total.backward(), alpha);
    AlphaGradient {
        valid_loss: loss.cross_entropy.inner(),
        gradient: ArchitectureGradient::read(&gradients, alpha),
    }
}

/// Gradient through one unrolled step of the weights, by a difference quotient.
///
/// ```text
/// w'       = w - xi (momentum * v + grad_w L_train(w, alpha) + decay * w)
/// direct   = grad_alpha L_val(w', alpha)
/// d        = grad_w' L_val(w', alpha)
/// epsilon  = 0.01 / |d|                         one norm over all weights
/// implicit = (grad_alpha L_train(w + epsilon d) - grad_alpha L_train(w - epsilon d)) / (2 epsilon)
/// gradient = direct - xi * implicit
/// ```
/// `xi` is the learning rate of the weights, `v` their velocity. The training gradient is not
/// clipped. With ReLU and maximum pooling, the quotient does not converge to the exact
/// Hessian-vector product; the method uses the quotient as it is (docs/method.md).
///
/// # Source
/// DARTS, Eq. (6)-(8), `cnn/architect.py`.
pub fn second_order_gradient(
    objective: &Objective,
    supernet: &Supernet,
    alpha: &ArchitectureParameters,
    valid: &ImageBatch,
    unrolled: Unrolled<'_>,
) -> SecondOrderGradient {
    let Unrolled { train, optimizer, learning_rate } = unrolled;
    let train_loss = |supernet: &Supernet, alpha: &_| objective.loss(supernet, alpha, train);
    let valid_loss = |supernet: &Supernet, alpha: &_| objective.alpha_loss(supernet, alpha, valid);
    through_a_step((supernet, alpha), train_loss, valid_loss, (optimizer, learning_rate))
}

/// [`second_order_gradient`] for any two losses of weights and alpha.
fn through_a_step<M: Packs>(
    (weights, alpha): (&M, &ArchitectureParameters),
    train_loss: impl Fn(&M, &ArchitectureParameters) -> Tensor<1>,
    valid_loss: impl Fn(&M, &ArchitectureParameters) -> AlphaLoss,
    (optimizer, xi): (&mut WeightOptimizer, f64),
) -> SecondOrderGradient {
    let virtual_weights = {
        let scratch = separate(weights);
        let constant = separate(alpha).no_grad();
        let loss = train_loss(&scratch, &constant);
        let gradients = GradientsParams::from_grads(loss.backward(), &scratch);
        optimizer.virtual_step(xi, scratch, &gradients)
    };

    let loss = valid_loss(&virtual_weights, alpha);
    let mut all = loss.total.backward();
    let direct = ArchitectureGradient::read(&GradientsParams::from_module(&mut all, alpha), alpha);
    let direction = GradientsParams::from_module(&mut all, &virtual_weights);
    let epsilon = global_norm(&virtual_weights, &direction).recip() * 0.01;

    let side = |radius: Tensor<1>| {
        let moved = shift(separate(weights).no_grad(), &direction, radius);
        let loss = train_loss(&moved, alpha);
        let gradients = GradientsParams::from_grads(loss.backward(), alpha);
        ArchitectureGradient::read(&gradients, alpha)
    };
    let (plus, minus) = (side(epsilon.clone()), side(-epsilon.clone()));
    let width = (epsilon.clone() * 2.0).reshape([1, 1]);
    let implicit = plus.zip_with(minus, |plus, minus| (plus - minus) / width.clone());
    let gradient =
        direct.clone().zip_with(implicit.clone(), |direct, implicit| direct - implicit * xi);
    let valid_loss = loss.cross_entropy.inner();
    SecondOrderGradient { alpha: AlphaGradient { valid_loss, gradient }, direct, implicit, epsilon }
}

/// Moves alpha against the gradient of the validation loss.
pub struct Architect {
    learning_rate: f64,
    clip_norm: Option<f64>,
    pub(crate) optimizer: Stepper<Adam>,
}

impl Architect {
    /// Adam with empty moments.
    pub fn new(learning_rate: f64, settings: &AdamSettings) -> Self {
        Self { learning_rate, clip_norm: None, optimizer: settings.init() }
    }

    /// The same architect with the gradient clipped to this norm, over both kinds of cells.
    ///
    /// # Source
    /// PC-DARTS, `train_search_imagenet.py`.
    pub fn with_clip_norm(self, clip_norm: Option<f64>) -> Self {
        Self { clip_norm, ..self }
    }

    /// One step of Adam on alpha, in second order where a step of the weights is unrolled. Returns
    /// the updated alpha and the validation loss before the update, `[1]`, on the device.
    pub fn step(
        &mut self,
        objective: &Objective,
        alpha: ArchitectureParameters,
        supernet: &Supernet,
        valid: &ImageBatch,
        unrolled: Option<Unrolled<'_>>,
    ) -> (ArchitectureParameters, Tensor<1>) {
        let AlphaGradient { valid_loss, gradient } = match unrolled {
            None => first_order_gradient(objective, supernet, &alpha, valid),
            Some(unrolled) => {
                second_order_gradient(objective, supernet, &alpha, valid, unrolled).alpha
            }
        };
        (self.descend(alpha, gradient), valid_loss)
    }

    /// One step of Adam along a gradient.
    pub fn descend(
        &mut self,
        alpha: ArchitectureParameters,
        gradient: ArchitectureGradient,
    ) -> ArchitectureParameters {
        let gradients = self.clipped(&alpha, gradient);
        self.optimizer.step(self.learning_rate, alpha, &gradients)
    }

    /// The gradient of a step, after clipping.
    pub fn clipped(
        &self,
        alpha: &ArchitectureParameters,
        gradient: ArchitectureGradient,
    ) -> GradientsParams {
        let gradients = gradient.register(alpha);
        let Some(most) = self.clip_norm else { return gradients };
        let norm = global_norm(alpha, &gradients);
        clip(alpha, gradients, norm, most)
    }
}

/// `w + radius * direction`.
fn shift<M: Module>(module: M, direction: &GradientsParams, radius: Tensor<1>) -> M {
    struct Shift<'a> {
        direction: &'a GradientsParams,
        radius: Tensor<1>,
    }
    impl ModuleMapper for Shift<'_> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            match self.direction.get::<D>(param.id) {
                Some(direction) => param.map(|tensor| {
                    let radius = self.radius.clone().reshape([1; D]);
                    let moved = tensor.inner() + direction * radius;
                    Tensor::from_inner(moved)
                }),
                None => param,
            }
        }
    }
    module.map(&mut Shift { direction, radius })
}

#[cfg(test)]
mod tests {
    use burn::nn::LinearConfig;
    use burn::tensor::Device;
    use ec_darts_space::{CellTopology, Primitive, SearchSpace};
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::optim::SgdSettings;

    /// One weight and one alpha, computed by hand.
    ///
    /// ```text
    /// L_train = (w alpha - 1)^2 / 2,  L_val = (w + alpha - 2)^2 / 2
    /// w = 1.5, alpha = 0.5, xi = 0.1, v = 0.2, momentum 0.9, decay 0.01
    /// ```
    #[test]
    fn the_second_order_of_two_numbers() {
        let device = Device::flex().autodiff();
        let topology = CellTopology::new(1, 1).expect("a topology");
        let space = SearchSpace::new(vec![Primitive::SkipConnect], topology).expect("a space");
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let mut alpha = ArchitectureParameters::new(&space, 0.0, &mut rng, &device);
        alpha.normal = alpha.normal.map(|alpha| (alpha + 0.5).detach().require_grad());
        let mut weights = LinearConfig::new(1, 1).with_bias(false).init(&device);
        weights.weight = weights.weight.map(|weight| (weight * 0.0 + 1.5).detach().require_grad());

        let settings =
            SgdSettings { momentum: 0.9, weight_decay: 0.01, clip_norm: None, nesterov: false };
        let mut optimizer = WeightOptimizer::new(&settings);
        // A step with learning rate 0 moves no weight; it sets the velocity to 0.185 + 0.01 * 1.5.
        let loss = (weights.weight.val() * 0.185).sum();
        let gradients = GradientsParams::from_grads(loss.backward(), &weights);
        let weights = optimizer.step(0.0, weights, gradients).0;

        let number = |tensor: Tensor<2>| tensor.slice([0..1, 0..1]).reshape([1]);
        let half_square = |of: Tensor<1>| of.clone() * of * 0.5;
        let train = |weights: &burn::nn::Linear, alpha: &ArchitectureParameters| {
            half_square(number(weights.weight.val()) * number(alpha.normal.val()) - 1.0)
        };
        let valid = |weights: &burn::nn::Linear, alpha: &ArchitectureParameters| {
            let sum = number(weights.weight.val()) + number(alpha.normal.val());
            let loss = half_square(sum - 2.0);
            AlphaLoss { cross_entropy: loss.clone(), total: loss }
        };
        let found = through_a_step((&weights, &alpha), train, valid, (&mut optimizer, 0.1));
        let check = |found: &ArchitectureGradient, expected: f32, tolerance: f32| {
            let found = number(found.operations.normal.clone()).into_scalar::<f32>();
            assert!((found - expected).abs() < tolerance, "{found}, not {expected}");
        };
        check(&found.direct, -0.007, 1e-6);
        // A quotient of two losses in single precision.
        check(&found.implicit, -0.0035, 2e-5);
        check(&found.alpha.gradient, -0.006_65, 3e-6);
        let epsilon = found.epsilon.into_scalar::<f32>();
        assert!((epsilon - 0.01 / 0.007).abs() < 1e-3, "{epsilon}");
    }
}
