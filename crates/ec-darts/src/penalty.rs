//! Terms that a rule adds to the loss of alpha.
//!
//! Entry point: [`Penalties::loss`]. Invariant: a term depends on alpha and the mixing weights, never on the
//! weights of the network.

use burn::tensor::activation::sigmoid;
use burn::tensor::{Tensor, TensorData};
use ec_darts_space::{PerKind, SearchSpace};
use serde::{Deserialize, Serialize};

use crate::architecture::ArchitectureParameters;
use crate::dirichlet::divergence;

/// The terms of one epoch, each with its weight; zero is off.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Penalties {
    /// Of [`zero_one`], and its form.
    pub zero_one: (f64, ZeroOne),
    /// Of [`log_sum_exp`].
    pub log_sum_exp: f64,
    /// Of [`divergence`].
    pub dirichlet_kl: f64,
    /// The expected cost of the architecture.
    pub cost: Option<Cost>,
}

/// How FairDARTS measures the distance of a mixing weight from one half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ZeroOne {
    /// Its square.
    #[default]
    L2,
    /// Its size.
    L1,
}

/// How an expected cost enters the loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CostForm {
    /// The cost itself.
    #[default]
    Linear,
    /// Its natural logarithm.
    Log,
}

/// The expected cost of an architecture, as [`CostTable::term`](crate::cost::CostTable::term) makes it.
///
/// ```text
/// E = fixed + sum over kinds, edges, operations of mixing * table
/// linear:  weight * E        log:  weight * ln E
/// ```
///
/// # Source
/// SNAS, section 3.3 and its public code (`log`); ProxylessNAS, Eq. (6) (`linear`).
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    /// Cost of each operation on each edge, summed over the cells of the kind,
    /// `[num_edges][num_primitives]`.
    pub table: PerKind<Vec<f32>>,
    /// Cost of what every architecture has.
    pub fixed: f64,
    /// How it enters the loss.
    pub form: CostForm,
    /// Of the term.
    pub weight: f64,
}

impl Penalties {
    /// The sum of the terms, `[1]`, or nothing where all are off.
    pub fn loss(
        &self,
        space: &SearchSpace,
        alpha: &ArchitectureParameters,
        mixing: &PerKind<Tensor<2>>,
    ) -> Option<Tensor<1>> {
        let (weight, form) = self.zero_one;
        let alphas = || alpha.operations().map(|param| param.val());
        let terms = [
            (weight != 0.0).then(|| zero_one(alphas(), form) * (weight * of_all(space))),
            (self.log_sum_exp != 0.0)
                .then(|| log_sum_exp(alpha.competing(space)) * self.log_sum_exp),
            (self.dirichlet_kl != 0.0).then(|| divergence(alphas()) * self.dirichlet_kl),
            self.cost.as_ref().map(|cost| cost.loss(mixing)),
        ];
        terms.into_iter().flatten().reduce(|sum, term| sum + term)
    }
}

/// Values of a matrix over a space for each that is one of a candidate: alpha of the others is zero, where the
/// zero-one loss is zero too, so that its mean is one of candidates.
fn of_all(space: &SearchSpace) -> f64 {
    let edges = space.all_candidates().0.iter().flat_map(|(_, edges)| edges);
    let candidates: usize = edges.map(Vec::len).sum();
    (2 * space.topology().num_edges() * space.primitives().len()) as f64 / candidates as f64
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
    let distance = sigmoid(Tensor::cat(alpha.into_array().into(), 0)) - 0.5;
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
    let alpha: Tensor<2> = Tensor::cat(alpha.into_array().into(), 0);
    let most = alpha.clone().detach().max_dim(1);
    ((alpha - most.clone()).exp().sum_dim(1).log() + most).mean()
}

impl Cost {
    /// The term, `[1]`.
    ///
    /// # Shapes
    /// - `mixing`: `[num_edges, num_primitives]` each
    pub fn loss(&self, mixing: &PerKind<Tensor<2>>) -> Tensor<1> {
        let of_kind = |(mixing, costs): (&Tensor<2>, &Vec<f32>)| {
            let costs = TensorData::new(costs.clone(), mixing.dims());
            (mixing.clone() * Tensor::from_data(costs, &mixing.device())).sum()
        };
        let [normal, reduction] =
            mixing.as_ref().zip(self.table.as_ref()).map(of_kind).into_array();
        let expected = normal + reduction + self.fixed;
        let term = match self.form {
            CostForm::Linear => expected,
            CostForm::Log => expected.log(),
        };
        term * self.weight
    }
}
