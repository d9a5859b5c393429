//! The step on alpha: gradients of the validation loss in first and second order.
//!
//! Entry point: [`Architect::step`]. Invariant: the architect changes alpha only. Its extra passes
//! run on a separated view of the supernet, so weights and running statistics stay as they are.

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};
use ec_darts_space::SearchSpace;

use crate::architecture::ArchitectureParameters;
use crate::network::Supernet;
use crate::optim::{Adam, AdamSettings, Stepper, WeightOptimizer, clip, global_norm};
use crate::relaxation::{Mixing, Relaxation};
use crate::tensors::{ImageBatch, separate};

/// How far the gradient of alpha looks ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArchitectOrder {
    /// At the current weights.
    First,
    /// Through one unrolled step of the weights, by finite differences.
    Second,
}

/// The two batches of one bilevel step.
#[derive(Clone, Debug)]
pub struct BilevelBatch {
    /// Moves the weights; the second order unrolls that step, the first needs none.
    pub train: Option<ImageBatch>,
    /// Moves alpha.
    pub valid: ImageBatch,
}

/// What the supernet is relaxed with: everything a pass needs besides weights and alpha.
#[derive(Clone, Debug)]
pub struct RelaxedModel<'a> {
    /// Primitives and topology.
    pub space: &'a SearchSpace,
    /// From alpha to mixing weights.
    pub relaxation: Relaxation,
}

impl RelaxedModel<'_> {
    /// Mean cross entropy of the relaxed supernet, `[1]`.
    pub fn loss(
        &self,
        supernet: &Supernet,
        alpha: &ArchitectureParameters,
        batch: &ImageBatch,
    ) -> Tensor<1> {
        let mixing = Mixing::new(alpha, self.relaxation, self.space.topology());
        cross_entropy(supernet.forward(batch.images.clone(), &mixing), batch)
    }
}

/// Mean cross entropy of logits against a batch's labels, `[1]`.
pub fn cross_entropy(logits: Tensor<2>, batch: &ImageBatch) -> Tensor<1> {
    ec_darts_kernels::cross_entropy(logits, batch.labels.clone(), 0.0).loss
}

/// A gradient of alpha, and the validation loss it was taken at.
#[derive(Clone, Debug)]
pub struct AlphaGradient {
    /// Mean validation loss, `[1]`, on the device; in second order at the virtual weights.
    pub valid_loss: Tensor<1>,
    /// Of the normal cells, `[num_edges, num_primitives]`.
    pub normal: Tensor<2>,
    /// Of the reduction cells, `[num_edges, num_primitives]`.
    pub reduction: Tensor<2>,
}

/// The second-order gradient and the parts it is made of.
#[derive(Clone, Debug)]
pub struct SecondOrderGradient {
    /// `direct - xi * implicit`.
    pub gradient: AlphaGradient,
    /// `[normal, reduction]` gradient of the validation loss at the virtual weights.
    pub direct: [Tensor<2>; 2],
    /// `[normal, reduction]` difference quotient of the training loss' gradient.
    pub implicit: [Tensor<2>; 2],
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
    model: &RelaxedModel,
    supernet: &Supernet,
    alpha: &ArchitectureParameters,
    valid: &ImageBatch,
) -> AlphaGradient {
    // Without gradients of the weights: nobody reads them.
    let frozen = separate(supernet).no_grad();
    let (valid_loss, [normal, reduction]) = alpha_gradient(model, &frozen, alpha, valid);
    AlphaGradient { valid_loss, normal, reduction }
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
/// clipped. With ReLU and maximum pooling the quotient does not converge to the exact
/// Hessian-vector product; it is what the method does (docs/method.md).
///
/// # Source
/// DARTS, Eq. (6)-(8), `cnn/architect.py`.
pub fn second_order_gradient(
    model: &RelaxedModel,
    supernet: &Supernet,
    alpha: &ArchitectureParameters,
    [train, valid]: [&ImageBatch; 2],
    optimizer: &mut WeightOptimizer,
    xi: f64,
) -> SecondOrderGradient {
    let virtual_supernet = {
        let scratch = separate(supernet);
        let constant = separate(alpha).no_grad();
        let loss = model.loss(&scratch, &constant, train);
        let gradients = GradientsParams::from_grads(loss.backward(), &scratch);
        optimizer.virtual_step(xi, scratch, &gradients)
    };

    let loss = model.loss(&virtual_supernet, alpha, valid);
    let mut all = loss.backward();
    let direct = read_gradient(&GradientsParams::from_module(&mut all, alpha), alpha);
    let direction = GradientsParams::from_module(&mut all, &virtual_supernet);
    let epsilon = global_norm(&virtual_supernet, &direction).recip() * 0.01;

    let side = |radius: Tensor<1>| {
        let moved = shift(separate(supernet).no_grad(), &direction, radius);
        alpha_gradient(model, &moved, alpha, train).1
    };
    let (plus, minus) = (side(epsilon.clone()), side(-epsilon.clone()));
    let width = (epsilon.clone() * 2.0).reshape([1, 1]);
    let [implicit_normal, implicit_reduction] =
        [0, 1].map(|kind: usize| (plus[kind].clone() - minus[kind].clone()) / width.clone());
    let [direct_normal, direct_reduction] = direct.clone();
    SecondOrderGradient {
        gradient: AlphaGradient {
            valid_loss: loss.inner(),
            normal: direct_normal - implicit_normal.clone() * xi,
            reduction: direct_reduction - implicit_reduction.clone() * xi,
        },
        direct,
        implicit: [implicit_normal, implicit_reduction],
        epsilon,
    }
}

/// Moves alpha against the gradient of the validation loss.
pub struct Architect {
    order: ArchitectOrder,
    learning_rate: f64,
    clip_norm: Option<f64>,
    pub(crate) optimizer: Stepper<Adam>,
}

impl Architect {
    /// Adam without moments.
    pub fn new(order: ArchitectOrder, learning_rate: f64, settings: &AdamSettings) -> Self {
        Self { order, learning_rate, clip_norm: None, optimizer: settings.init() }
    }

    /// The same with the gradient clipped to this norm, over both kinds of cells.
    ///
    /// # Source
    /// PC-DARTS, `train_search_imagenet.py`.
    pub fn with_clip_norm(self, clip_norm: Option<f64>) -> Self {
        Self { clip_norm, ..self }
    }

    /// One step of Adam on alpha; returns the moved alpha and the validation loss before it moved,
    /// `[1]`, on the device.
    ///
    /// `xi` is the learning rate of the weights, read in second order only, as are
    /// `weight_optimizer` and the training batch.
    ///
    /// # Panics
    /// In second order without a training batch.
    pub fn step(
        &mut self,
        model: &RelaxedModel,
        alpha: ArchitectureParameters,
        supernet: &Supernet,
        batches: &BilevelBatch,
        weight_optimizer: &mut WeightOptimizer,
        xi: f64,
    ) -> (ArchitectureParameters, Tensor<1>) {
        let gradient = match self.order {
            ArchitectOrder::First => first_order_gradient(model, supernet, &alpha, &batches.valid),
            ArchitectOrder::Second => {
                let train = batches.train.as_ref().expect("the second order has a training batch");
                let batches = [train, &batches.valid];
                second_order_gradient(model, supernet, &alpha, batches, weight_optimizer, xi)
                    .gradient
            }
        };
        let mut gradients = GradientsParams::new();
        gradients.register(alpha.normal.id, gradient.normal);
        gradients.register(alpha.reduction.id, gradient.reduction);
        if let Some(most) = self.clip_norm {
            let norm = global_norm(&alpha, &gradients);
            gradients = clip(&alpha, gradients, norm, most);
        }
        let alpha = self.optimizer.step(self.learning_rate, alpha, &gradients);
        (alpha, gradient.valid_loss)
    }
}

fn alpha_gradient(
    model: &RelaxedModel,
    supernet: &Supernet,
    alpha: &ArchitectureParameters,
    batch: &ImageBatch,
) -> (Tensor<1>, [Tensor<2>; 2]) {
    let loss = model.loss(supernet, alpha, batch);
    let gradients = GradientsParams::from_grads(loss.backward(), alpha);
    (loss.inner(), read_gradient(&gradients, alpha))
}

fn read_gradient(gradients: &GradientsParams, alpha: &ArchitectureParameters) -> [Tensor<2>; 2] {
    [&alpha.normal, &alpha.reduction].map(|param| {
        // A network without reduction cells (or of them only) has no gradient for the other kind.
        gradients.get::<2>(param.id).unwrap_or_else(|| {
            let dims = param.dims();
            let zeros = TensorData::zeros::<f32, _>(dims);
            Tensor::from_data(zeros, &param.device().inner())
        })
    })
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
