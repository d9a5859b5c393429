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
    /// How alpha competes.
    pub relaxation: Relaxation,
    /// How a pass draws, where it does.
    pub sampling: Option<Sampling>,
    /// Of [`Sampling::Concrete`] and [`Sampling::StraightThrough`].
    pub temperature: f64,
    /// Weight of the skip beside every mixed operation, where the supernet has one.
    pub auxiliary_skip: f64,
    /// Terms of the loss of alpha.
    pub penalties: Penalties,
    /// From strengths to a genotype.
    pub discretization: Discretization,
}

impl From<Relaxation> for Rule {
    /// A relaxation, and nothing beside it.
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

/// What the operations of a supernet are weighted with in one pass.
#[derive(Clone, Debug)]
pub struct Mixing {
    /// Of each operation, `[num_edges, num_primitives]`.
    pub weights: PerKind<Tensor<2>>,
    /// Of each edge, `[num_edges, 1]`, where a rule weighs them; part of `weights` too.
    pub edges: Option<PerKind<Tensor<2>>>,
    /// The column of the one operation of each edge that is computed, where it is not all.
    pub path: Option<PerKind<Vec<usize>>>,
    /// Of the skip beside every mixed operation, where the supernet has one.
    pub auxiliary_skip: f64,
    /// Elements of skips that are left out, where some are.
    pub skip_dropout: Option<SkipDropout>,
}

impl Mixing {
    /// Of these weights alone.
    pub fn of(weights: PerKind<Tensor<2>>) -> Self {
        Self { weights, edges: None, path: None, auxiliary_skip: 0.0, skip_dropout: None }
    }

    /// The same weights without their history: a step on the weights moves no alpha.
    pub fn detach(self) -> Self {
        Self {
            weights: self.weights.map(Tensor::detach),
            edges: self.edges.map(|edges| edges.map(Tensor::detach)),
            ..self
        }
    }

    /// The same weights with every operation computed, also those of weight zero.
    pub fn whole(self) -> Self {
        Self { path: None, ..self }
    }
}

impl Rule {
    /// The rule of a step on the weights.
    pub fn of_weights(self) -> Self {
        Self { sampling: self.sampling.map(Sampling::of_weights), ..self }
    }

    /// The rule whose mixing weights are those of this one on average over its draws, without terms of the loss.
    ///
    /// What draws one operation of each edge draws it by the softmax of alpha, whatever the temperature. Of
    /// [`Sampling::Concrete`], which has no mean in closed form, the weights without noise.
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
    /// Where the draw is none of this rule's, or has another number of edges.
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

    /// Weights of the operations without those of the edges, and the path where only one operation of each
    /// edge is computed.
    fn sampled(
        &self,
        space: &SearchSpace,
        alpha: &ArchitectureParameters,
        draw: &Draw,
    ) -> (PerKind<Tensor<2>>, Option<PerKind<Vec<usize>>>) {
        let alphas = match self.sampling {
            // A sample is restricted as a whole.
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
                    (straight_through(&path, soft), path)
                };
                sampled_pair(alphas.zip(noise.as_ref()).map(pass))
            }
            (Some(Sampling::Gates), Draw::Path(path)) => {
                let pass = |(alpha, path): (Tensor<2>, &Vec<usize>)| {
                    let passes = gradient_passes(space, path, &alpha.device());
                    (straight_through(path, softmax(alpha, 1) * passes), path.clone())
                };
                sampled_pair(alphas.zip(path.as_ref()).map(pass))
            }
            (Some(Sampling::GatePairs), Draw::Pairs(pairs)) => {
                let pass = |(alpha, pairs): (Tensor<2>, &Vec<[usize; 2]>)| {
                    let open: Vec<usize> = pairs.iter().map(|&[open, _]| open).collect();
                    let passes = gradient_passes(space, &open, &alpha.device());
                    let is_drawn = drawn(pairs, &alpha);
                    let of_pair = softmax(alpha.mask_fill(is_drawn.bool_not(), -1e20), 1);
                    (straight_through(&open, of_pair * passes), open)
                };
                sampled_pair(alphas.zip(pairs.as_ref()).map(pass))
            }
            (Some(sampling), Draw::Mode) if sampling.is_one_each() => {
                let pass = |alpha: Tensor<2>| {
                    let path = largest(&to_vec(alpha.clone()), num_primitives);
                    (one_hot(&path, alpha.dims(), &alpha.device()), path)
                };
                sampled_pair(alphas.map(pass))
            }
            (Some(Sampling::Dirichlet), Draw::Simplex(sample)) => {
                let pass = |(alpha, sample): (Tensor<2>, &Vec<f32>)| passed_on(alpha, sample);
                (alphas.zip(sample.as_ref()).map(pass), None)
            }
            (Some(Sampling::Dirichlet), Draw::Mode) => (alphas.map(dirichlet::mean), None),
            (sampling, draw) => panic!("{draw:?} is no draw of {sampling:?}"),
        }
    }

    /// Alpha as a step of this rule leaves it: under [`Sampling::GatePairs`] the two of each edge that were drawn
    /// are shifted by one number.
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

    /// Mixing weights of zero where an edge has no candidate.
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

    /// The relaxation of both kinds.
    fn relaxed(&self, space: &SearchSpace, alphas: PerKind<Tensor<2>>) -> PerKind<Tensor<2>> {
        let topology = space.topology();
        let one_by_one = self.relaxation != Relaxation::CrossEdge
            || alphas.reduction.is_none()
            || in_one_kernel(&alphas.normal.device());
        if one_by_one {
            return alphas.map(|alpha| self.relaxation.mixing(alpha, topology));
        }
        // Columns are relaxed each for itself, so both kinds are relaxed at once.
        let [num_edges, num_primitives] = alphas.normal.dims();
        let both = Tensor::cat(alphas.into_values().collect(), 1);
        let both = self.relaxation.mixing(both, topology);
        let columns = [0..num_primitives, num_primitives..2 * num_primitives];
        columns.map(|columns| both.clone().slice([0..num_edges, columns])).into()
    }

    /// The genotype of alpha.
    ///
    /// # Errors
    /// [`ec_darts_space::Error`] where a value is not finite, or nothing reaches a threshold.
    pub fn genotype(
        &self,
        space: &SearchSpace,
        alpha: &ArchitectureParameters,
        strength: Strength,
    ) -> Result<Genotype, ec_darts_space::Error> {
        let strengths = self.strengths(space, alpha, strength);
        let discretization = match (self.discretization, strength) {
            // A threshold is one of mixing weights.
            (Discretization::Threshold { .. }, Strength::Alpha) => Discretization::Edges,
            (discretization, _) => discretization,
        };
        discretization.genotype(space, strengths.as_deref())
    }

    /// As [`Self::genotype`]; where nothing reaches the threshold, or there are too many skips, that of the
    /// strongest edges with the reason.
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

    /// What the genotype is read from.
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

/// Whether a column of each row is one of those that were drawn.
fn drawn(pairs: &[[usize; 2]], like: &Tensor<2>) -> Tensor<2, Bool> {
    let [rows, columns] = like.dims();
    let mut values = vec![false; rows * columns];
    for (row, pair) in pairs.iter().enumerate() {
        pair.iter().for_each(|column| values[row * columns + column] = true);
    }
    Tensor::from_data(TensorData::new(values, [rows, columns]), &like.device())
}

/// One for each edge whose open operation is any but `none`, else zero, `[num_edges, 1]`.
fn gradient_passes(space: &SearchSpace, path: &[usize], device: &Device) -> Tensor<2> {
    let none = space.primitives().iter().position(|&each| each == Primitive::None);
    let passes: Vec<f32> = path.iter().map(|&k| if Some(k) == none { 0.0 } else { 1.0 }).collect();
    Tensor::from_data(TensorData::new(passes, [path.len(), 1]), device)
}

/// Weight one at a column of each row.
fn one_hot(path: &[usize], [rows, columns]: [usize; 2], device: &Device) -> Tensor<2> {
    assert_eq!(path.len(), rows, "one column for each edge");
    let mut values = vec![0.0_f32; rows * columns];
    for (row, &column) in path.iter().enumerate() {
        values[row * columns + column] = 1.0;
    }
    Tensor::from_data(TensorData::new(values, [rows, columns]), device)
}

/// The value of a path, the gradient of soft weights.
fn straight_through(path: &[usize], soft: Tensor<2>) -> Tensor<2> {
    let hard = one_hot(path, soft.dims(), &soft.device());
    // Zero exactly, so that the weight of what is computed is one exactly.
    hard + (soft.clone() - soft.detach())
}

fn sampled_pair(
    both: PerKind<(Tensor<2>, Vec<usize>)>,
) -> (PerKind<Tensor<2>>, Option<PerKind<Vec<usize>>>) {
    let path = both.as_ref().map(|(_, path)| path.clone());
    (both.map(|(weights, _)| weights), Some(path))
}
