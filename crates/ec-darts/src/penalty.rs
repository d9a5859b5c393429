//! The loss of alpha in addition to its cross entropy: terms, and a factor by the cost of the
//! architecture.
//!
//! Entry point: [`Penalties::loss`]. Invariant: terms and factor depend on alpha and the mixing weights; the weights of
//! the network enter through the cross entropy alone.

use burn::tensor::activation::sigmoid;
use burn::tensor::{Tensor, TensorData};
use ec_darts_space::{PerKind, SearchSpace};
use serde::{Deserialize, Serialize};

use crate::architecture::ArchitectureParameters;
use crate::dirichlet::divergence;

/// The terms of one epoch with their weights; a weight of zero is off.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Penalties {
    /// Weight of [`zero_one`].
    pub zero_one: f64,
    /// Form of [`zero_one`].
    pub zero_one_form: ZeroOne,
    /// Weight of [`log_sum_exp`].
    pub log_sum_exp: f64,
    /// Weight of [`divergence`].
    pub dirichlet_kl: f64,
    /// The expected cost of the architecture.
    pub cost: Option<ExpectedCost>,
}

/// The measure of FairDARTS for the distance of a mixing weight from one half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ZeroOne {
    /// The squared distance.
    #[default]
    L2,
    /// The absolute distance.
    L1,
}

/// The way in which an expected cost enters the loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CostForm {
    /// The cost itself.
    #[default]
    Linear,
    /// Its natural logarithm.
    Log,
    /// A power of its logarithm, as a factor of the cross entropy.
    Product,
}

/// The influence of an expected cost on the loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CostWeighting {
    /// The way in which the cost enters the loss.
    pub form: CostForm,
    /// Weight of the term, or of the product.
    pub weight: f64,
    /// A medium cost, in the unit of the cost.
    pub reference: f64,
    /// Exponent of [`CostForm::Product`].
    pub exponent: f64,
}

/// The expected cost of an architecture, made by [`CostTable::term`](crate::cost::CostTable::term).
///
/// ```text
/// E = fixed + sum over kinds, edges, operations of mixing * table           in parts of the reference
/// linear:   L + weight * E                log:   L + weight * ln E
/// product:  weight * L * (1 + ln E / ln reference)^exponent
/// ```
/// The product has the factor `(ln cost / ln reference)^exponent`, so its unit matters: reference
/// and cost must be above 1.
///
/// # Source
/// SNAS, section 3.3 and its public code (`log`); ProxylessNAS, Eq. (6) (`linear`) and
/// `nas_manager.py` (`add#linear`, which subtracts 1 from `E`, and `mul#log`).
#[derive(Clone, Debug, PartialEq)]
pub struct ExpectedCost {
    /// Cost of each operation on each edge, summed over the cells of the kind,
    /// `[num_edges][num_primitives]`.
    pub table: PerKind<Vec<f32>>,
    /// The cost that every architecture has, in parts of the reference.
    pub fixed: f64,
    /// The influence on the loss.
    pub weighting: CostWeighting,
}

impl Penalties {
    /// The loss of alpha with all terms, `[1]`; the plain cross entropy where all terms are off.
    pub fn loss(
        &self,
        cross_entropy: Tensor<1>,
        space: &SearchSpace,
        alpha: &ArchitectureParameters,
        mixing: &PerKind<Tensor<2>>,
    ) -> Tensor<1> {
        let alphas = || alpha.operations().map(|param| param.val());
        let terms = [
            (self.zero_one != 0.0)
                .then(|| zero_one(alphas(), self.zero_one_form) * (self.zero_one * of_all(space))),
            (self.log_sum_exp != 0.0)
                .then(|| log_sum_exp(alpha.competing(space)) * self.log_sum_exp),
            (self.dirichlet_kl != 0.0).then(|| divergence(alphas()) * self.dirichlet_kl),
        ];
        let loss = match &self.cost {
            Some(cost) => cost.loss(cross_entropy, mixing),
            None => cross_entropy,
        };
        terms.into_iter().flatten().fold(loss, |sum, term| sum + term)
    }
}

/// The number of matrix entries per entry of a candidate. Alpha of other entries is zero and adds
/// nothing to the zero-one loss, so this factor makes its mean one over candidates.
fn of_all(space: &SearchSpace) -> f64 {
    let edges = space.all_candidates().0.iter().flat_map(|(_, edges)| edges);
    let candidates: usize = edges.map(Vec::len).sum();
    let topology = space.topology();
    let all = topology.kinds().len() * topology.num_edges() * space.primitives().len();
    all as f64 / candidates as f64
}

/// FairDARTS' zero-one loss, `[1]`.
///
/// ```text
/// -mean over edges and operations of both kinds of (sigmoid(alpha) - 1/2)^2        L2
/// -mean of |sigmoid(alpha) - 1/2|                                                  L1
/// ```
///
/// # Shapes
/// - `alpha`: `[num_edges, num_primitives]` each
///
/// # Source
/// FairDARTS, Eq. (4) and (5); `fairdarts/architect.py`.
pub fn zero_one(alpha: PerKind<Tensor<2>>, form: ZeroOne) -> Tensor<1> {
    let distance = sigmoid(Tensor::cat(alpha.into_values().collect(), 0)) - 0.5;
    let size = match form {
        ZeroOne::L2 => distance.clone() * distance,
        ZeroOne::L1 => distance.abs(),
    };
    -size.mean()
}

/// beta-DARTS' regularization of alpha, `[1]`.
///
/// ```text
/// mean over the edges of both kinds of ln sum over o of exp(alpha[edge, o])
/// ```
///
/// # Shapes
/// - `alpha`: `[num_edges, num_primitives]` each
///
/// # Source
/// beta-DARTS, Eq. (14); `optimizers/darts/architect.py`.
pub fn log_sum_exp(alpha: PerKind<Tensor<2>>) -> Tensor<1> {
    let alpha: Tensor<2> = Tensor::cat(alpha.into_values().collect(), 0);
    let most = alpha.clone().detach().max_dim(1);
    ((alpha - most.clone()).exp().sum_dim(1).log() + most).mean()
}

impl ExpectedCost {
    /// The cross entropy with the cost term or factor, `[1]`.
    ///
    /// # Shapes
    /// - `mixing`: `[num_edges, num_primitives]` each
    pub fn loss(&self, cross_entropy: Tensor<1>, mixing: &PerKind<Tensor<2>>) -> Tensor<1> {
        let of_kind = |(mixing, costs): (&Tensor<2>, &Vec<f32>)| {
            let costs = TensorData::new(costs.clone(), mixing.dims());
            (mixing.clone() * Tensor::from_data(costs, &mixing.device())).sum()
        };
        let of_kinds = mixing.as_ref().zip(self.table.as_ref()).map(of_kind);
        let of_kinds = of_kinds.into_values().reduce(|sum, of_kind| sum + of_kind);
        let expected = of_kinds.expect("a normal cell") + self.fixed;
        let CostWeighting { form, weight, reference, exponent } = self.weighting;
        match form {
            CostForm::Linear => cross_entropy + expected * weight,
            CostForm::Log => cross_entropy + expected.log() * weight,
            CostForm::Product => {
                // A cost below 1 has no positive logarithm, and a negative number no power.
                let logarithms = (expected.log() / reference.ln() + 1.0).clamp_min(1e-3);
                cross_entropy * logarithms.powf_scalar(exponent as f32) * weight
            }
        }
    }
}
