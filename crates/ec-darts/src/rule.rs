//! Rules of the family: from the architecture parameters and a draw to the mixing weights of all cells.
//!
//! Entry point: [`Rule::mixing`]. Invariant: a rule has no state; its mixing weights are a
//! function of alpha and of the draw.

use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{Bool, Device, Tensor, TensorData};
use ec_darts_kernels::in_one_kernel;
use ec_darts_space::{
    Discretization, Error as SpaceError, Genotype, PerKind, Primitive, SearchSpace,
};

use crate::architecture::{ArchitectureParameters, Strength, left_out};
use crate::dirichlet::{self, passed_on};
use crate::penalty::Penalties;
use crate::relaxation::{Relaxation, across_edges};
use crate::sampling::{Draw, Sampling, largest};
use crate::skip_dropout::SkipDropout;
use crate::tensors::to_vec;

/// A rule of the family in one epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// The relaxation of alpha.
    pub relaxation: Relaxation,
    /// The sampling of a pass, where the rule samples.
    pub sampling: Option<Sampling>,
    /// Temperature of [`Sampling::Concrete`] and [`Sampling::StraightThrough`].
    pub temperature: f64,
    /// Weight of the skip connection beside every mixed operation, where the supernet has one.
    pub auxiliary_skip: f64,
    /// Terms of the loss of alpha.
    pub penalties: Penalties,
    /// The rule by which strengths become a genotype.
    pub discretization: Discretization,
}

impl From<Relaxation> for Rule {
    /// The rule of a relaxation alone.
    fn from(relaxation: Relaxation) -> Self {
        Self {
            relaxation,
            sampling: None,
            temperature: 1.0,
            auxiliary_skip: 0.0,
            penalties: Penalties::default(),
            discretization: Discretization::Edges,
        }
    }
}

/// The columns of some operations of each edge, `[num_edges][num_operations]`.
pub type Paths = PerKind<Vec<Vec<usize>>>;

/// The weights of a supernet's operations in one pass.
#[derive(Clone, Debug)]
pub struct Mixing {
    /// The weight of each operation, `[num_edges, num_primitives]`.
    pub weights: PerKind<Tensor<2>>,
    /// The weight of each edge, `[num_edges, 1]`, where a rule weighs edges; `weights` already
    /// contains it.
    pub edges: Option<PerKind<Tensor<2>>>,
    /// The columns of the operations that are computed on each edge; none where all are computed.
    pub path: Option<Paths>,
    /// Weight of the skip connection beside every mixed operation, where the supernet has one.
    pub auxiliary_skip: f64,
    /// The dropout masks of skip connections, where they have dropout.
    pub skip_dropout: Option<SkipDropout>,
}

impl Mixing {
    /// These weights alone.
    pub fn of(weights: PerKind<Tensor<2>>) -> Self {
        Self { weights, edges: None, path: None, auxiliary_skip: 0.0, skip_dropout: None }
    }

    /// The same weights without their autodiff graph: a step on the weights does not move alpha.
    pub fn detach(self) -> Self {
        Self {
            weights: self.weights.map(Tensor::detach),
            edges: self.edges.map(|edges| edges.map(Tensor::detach)),
            ..self
        }
    }

    /// The same weights with every operation computed, also those with weight zero.
    pub fn whole(self) -> Self {
        Self { path: None, ..self }
    }
}

impl Rule {
    /// The rule for a step on the weights.
    pub fn of_weights(self) -> Self {
        Self { sampling: self.sampling.map(Sampling::of_weights), ..self }
    }

    /// The rule with the mean of this rule's mixing weights over its draws, without terms of the
    /// loss.
    ///
    /// A rule that draws one operation per edge draws it by the softmax of alpha, whatever the
    /// temperature. [`Sampling::Concrete`] has no mean in closed form; the weights without noise
    /// take its place.
    pub fn expected(&self) -> Self {
        let sampling = self.sampling.filter(|sampling| !sampling.is_one_each());
        Self { sampling, penalties: Penalties::default(), ..self.clone() }
    }

    /// Mixing weights of all cells.
    ///
    /// # Units
    /// Fractions in [0, 1].
    ///
    /// # Panics
    /// Where the draw does not belong to this rule, or has another number of edges.
    pub fn mixing(
        &self,
        space: &SearchSpace,
        alpha: &ArchitectureParameters,
        draw: &Draw,
    ) -> Mixing {
        let (weights, path) = self.sampled(space, alpha, draw);
        let weights = self.within(space, weights);
        let topology = space.topology();
        let of_node = |beta: PerKind<_>| beta.map(|param: &_| across_edges(value(param), topology));
        let edges = alpha.edge_weights().map(of_node);
        let weights = match edges.clone() {
            Some(edges) => weights.zip(edges).map(|(weights, edges)| weights * edges),
            None => weights,
        };
        Mixing { edges, path, auxiliary_skip: self.auxiliary_skip, ..Mixing::of(weights) }
    }

    /// Weights of the operations without those of the edges; and the path, where only one operation
    /// per edge is computed.
    fn sampled(
        &self,
        space: &SearchSpace,
        alpha: &ArchitectureParameters,
        draw: &Draw,
    ) -> (PerKind<Tensor<2>>, Option<Paths>) {
        let alphas = match self.sampling {
            // A Dirichlet sample covers all columns; `within` restricts it to the candidates.
            Some(Sampling::Dirichlet) => alpha.filled(space, 0.0),
            _ => alpha.competing(space),
        };
        let num_primitives = space.primitives().len();
        match (self.sampling, draw) {
            (None, Draw::Mode) => (self.relaxed(space, alphas), None),
            (Some(Sampling::Concrete), Draw::Mode) => {
                (self.relaxed(space, alphas.map(|alpha| alpha / self.temperature)), None)
            }
            (Some(Sampling::Concrete), Draw::Gumbel(noise)) => {
                let noisy = alphas
                    .zip(noise.as_ref())
                    .map(|(alpha, noise)| (alpha.clone() + like(noise, &alpha)) / self.temperature);
                (self.relaxed(space, noisy), None)
            }
            (Some(Sampling::StraightThrough), Draw::Gumbel(noise)) => {
                let pass = |(alpha, noise): (Tensor<2>, &Vec<f32>)| {
                    let noisy: Vec<f32> =
                        to_vec(alpha.clone()).iter().zip(noise).map(|(a, g)| a + g).collect();
                    let path = largest(&noisy, num_primitives);
                    let logits = log_softmax(alpha.clone(), 1) + like(noise, &alpha);
                    let soft = softmax(logits / self.temperature, 1);
                    (straight_through(&path, soft), alone(&path))
                };
                with_paths(alphas.zip(noise.as_ref()).map(pass))
            }
            (Some(Sampling::Gates), Draw::Path(path)) => {
                let pass = |(alpha, path): (Tensor<2>, &Vec<usize>)| {
                    let passes = gradient_passes(space, path, &alpha.device());
                    (straight_through(path, softmax(alpha, 1) * passes), alone(path))
                };
                with_paths(alphas.zip(path.as_ref()).map(pass))
            }
            (Some(Sampling::GatePairs), Draw::Pairs(pairs)) => {
                let pass = |(alpha, pairs): (Tensor<2>, &Vec<[usize; 2]>)| {
                    let open: Vec<usize> = pairs.iter().map(|&[open, _]| open).collect();
                    let passes = gradient_passes(space, &open, &alpha.device());
                    let is_drawn = drawn(pairs, &alpha);
                    let of_pair = softmax(alpha.mask_fill(is_drawn.bool_not(), -1e20), 1);
                    let path = pairs.iter().map(|pair| pair.to_vec()).collect();
                    (straight_through(&open, of_pair * passes), path)
                };
                with_paths(alphas.zip(pairs.as_ref()).map(pass))
            }
            (Some(sampling), Draw::Mode) if sampling.is_one_each() => {
                let pass = |alpha: Tensor<2>| {
                    let path = largest(&to_vec(alpha.clone()), num_primitives);
                    (one_hot(&path, alpha.dims(), &alpha.device()), alone(&path))
                };
                with_paths(alphas.map(pass))
            }
            (Some(Sampling::Dirichlet), Draw::Simplex(sample)) => {
                let pass = |(alpha, sample): (Tensor<2>, &Vec<f32>)| passed_on(alpha, sample);
                (alphas.zip(sample.as_ref()).map(pass), None)
            }
            (Some(Sampling::Dirichlet), Draw::Mode) => (alphas.map(dirichlet::mean), None),
            (sampling, draw) => panic!("{draw:?} is no draw of {sampling:?}"),
        }
    }

    /// Alpha after a step of this rule: under [`Sampling::GatePairs`], the two drawn values of each
    /// edge are shifted by the same number.
    ///
    /// ```text
    /// alpha[i, j] <- alpha[i, j] - ln((exp(alpha[i]) + exp(alpha[j])) after / before)
    /// ```
    ///
    /// # Source
    /// ProxylessNAS, `search/modules/mix_op.py`, `rescale_updated_arch_param`.
    pub fn settle(
        &self,
        before: &ArchitectureParameters,
        after: ArchitectureParameters,
        draw: &Draw,
    ) -> ArchitectureParameters {
        let (Some(Sampling::GatePairs), Draw::Pairs(pairs)) = (self.sampling, draw) else {
            return after;
        };
        let shift = |(before, after, pairs): (Tensor<2>, Tensor<2>, &Vec<[usize; 2]>)| {
            let is_drawn = drawn(pairs, &after);
            let sum = |alpha: Tensor<2>| {
                alpha.exp().mask_fill(is_drawn.clone().bool_not(), 0.0).sum_dim(1)
            };
            let shift = (sum(after.clone()) / sum(before)).log();
            after - shift * is_drawn.float()
        };
        let values = |alpha: &ArchitectureParameters| {
            alpha.operations().map(|param: &_| value(param).detach())
        };
        let both = values(before).zip(values(&after)).zip(pairs.as_ref());
        let shifted = both.map(|((before, after), pairs)| shift((before, after, pairs)));
        after.with_operations(shifted)
    }

    /// The mixing weights, set to zero for primitives that are not candidates of their edge.
    fn within(&self, space: &SearchSpace, weights: PerKind<Tensor<2>>) -> PerKind<Tensor<2>> {
        let device = weights.normal.device();
        weights.zip(left_out(space, &device)).map(|(weights, left_out)| {
            let Some(left_out) = left_out else { return weights };
            let kept = weights.mask_fill(left_out, 0.0);
            match self.sampling {
                Some(Sampling::Dirichlet) => kept.clone() / kept.sum_dim(1),
                _ => kept,
            }
        })
    }

    /// The mixing weights of the relaxation for both kinds.
    fn relaxed(&self, space: &SearchSpace, alphas: PerKind<Tensor<2>>) -> PerKind<Tensor<2>> {
        let topology = space.topology();
        let one_by_one = self.relaxation != Relaxation::CrossEdge
            || alphas.reduction.is_none()
            || in_one_kernel(&alphas.normal.device());
        if one_by_one {
            return alphas.map(|alpha| self.relaxation.mixing(alpha, topology));
        }
        // Columns are independent, so both kinds are relaxed at once.
        let [num_edges, num_primitives] = alphas.normal.dims();
        let both = Tensor::cat(alphas.into_values().collect(), 1);
        let both = self.relaxation.mixing(both, topology);
        let columns = [0..num_primitives, num_primitives..2 * num_primitives];
        columns.map(|columns| both.clone().slice([0..num_edges, columns])).into()
    }

    /// The genotype by alpha.
    ///
    /// # Errors
    /// [`ec_darts_space::Error`] where a value is not finite, or where no candidate reaches the
    /// threshold.
    pub fn genotype(
        &self,
        space: &SearchSpace,
        alpha: &ArchitectureParameters,
        strength: Strength,
    ) -> Result<Genotype, ec_darts_space::Error> {
        let strengths = self.strengths(space, alpha, strength);
        let discretization = match (self.discretization, strength) {
            // A threshold applies to mixing weights.
            (Discretization::Threshold { .. }, Strength::Alpha) => Discretization::Edges,
            (discretization, _) => discretization,
        };
        discretization.genotype(space, strengths.as_deref())
    }

    /// As [`Self::genotype`]. Where no candidate reaches the threshold, or where there are too many
    /// skip connections, the genotype of the strongest edges, and the reason.
    ///
    /// # Errors
    /// [`ec_darts_space::Error`] where a value is not finite.
    pub fn genotype_or_edges(
        &self,
        space: &SearchSpace,
        alpha: &ArchitectureParameters,
        strength: Strength,
    ) -> Result<(Genotype, Option<SpaceError>), SpaceError> {
        match self.genotype(space, alpha, strength) {
            Err(reason @ (SpaceError::NothingKept { .. } | SpaceError::ManySkips { .. })) => {
                let edges = Self { discretization: Discretization::Edges, ..self.clone() };
                Ok((edges.genotype(space, alpha, strength)?, Some(reason)))
            }
            found => Ok((found?, None)),
        }
    }

    /// The strengths from which the genotype is derived.
    ///
    /// The mixing weights are those of the relaxation, without noise and temperature.
    ///
    /// # Shapes
    /// - output: `[num_edges, num_primitives]` each, row-major
    pub fn strengths(
        &self,
        space: &SearchSpace,
        alpha: &ArchitectureParameters,
        strength: Strength,
    ) -> PerKind<Vec<f32>> {
        match strength {
            Strength::Mixing => {
                let plain = Self::from(self.relaxation);
                plain.mixing(space, alpha, &Draw::Mode).weights.map(to_vec)
            }
            Strength::Alpha => alpha.values(),
        }
    }
}

fn value(param: &burn::module::Param<Tensor<2>>) -> Tensor<2> {
    param.val()
}

/// Row-major values in the shape of a matrix and on its device.
fn like(values: &[f32], matrix: &Tensor<2>) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values.to_vec(), matrix.dims()), &matrix.device())
}

/// Whether each entry's column was drawn for its row.
fn drawn(pairs: &[[usize; 2]], like: &Tensor<2>) -> Tensor<2, Bool> {
    let [rows, columns] = like.dims();
    let mut values = vec![false; rows * columns];
    for (row, pair) in pairs.iter().enumerate() {
        pair.iter().for_each(|column| values[row * columns + column] = true);
    }
    Tensor::from_data(TensorData::new(values, [rows, columns]), &like.device())
}

/// One for each edge whose open operation is not `none`, else zero, `[num_edges, 1]`.
fn gradient_passes(space: &SearchSpace, path: &[usize], device: &Device) -> Tensor<2> {
    let none = space.primitives().iter().position(|&each| each == Primitive::None);
    let passes: Vec<f32> = path.iter().map(|&k| if Some(k) == none { 0.0 } else { 1.0 }).collect();
    Tensor::from_data(TensorData::new(passes, [path.len(), 1]), device)
}

/// A matrix with weight one in the given column of each row, else zero.
fn one_hot(path: &[usize], [rows, columns]: [usize; 2], device: &Device) -> Tensor<2> {
    assert_eq!(path.len(), rows, "one column for each edge");
    let mut values = vec![0.0_f32; rows * columns];
    for (row, &column) in path.iter().enumerate() {
        values[row * columns + column] = 1.0;
    }
    Tensor::from_data(TensorData::new(values, [rows, columns]), device)
}

/// The value of a path, with the gradient of soft weights.
fn straight_through(path: &[usize], soft: Tensor<2>) -> Tensor<2> {
    let hard = one_hot(path, soft.dims(), &soft.device());
    // The difference is exactly zero, so that the weight of the computed operation is exactly one.
    hard + (soft.clone() - soft.detach())
}

/// One operation of each edge.
fn alone(path: &[usize]) -> Vec<Vec<usize>> {
    path.iter().map(|&column| vec![column]).collect()
}

fn with_paths(both: PerKind<(Tensor<2>, Vec<Vec<usize>>)>) -> (PerKind<Tensor<2>>, Option<Paths>) {
    let path = both.as_ref().map(|(_, path)| path.clone());
    (both.map(|(weights, _)| weights), Some(path))
}
