//! The architecture parameters: alpha, kept in one place.
//!
//! Invariant: mixing, gradient, optimizer and genotype all read the tensors of this module; there
//! is no second store of alpha.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use ec_darts_space::{CellKind, Genotype, PerKind, SearchSpace, discretize};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::ops::{Packed, Packs};
use crate::relaxation::{Mixing, Relaxation};

/// What the genotype is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strength {
    /// The mixing weights, normalized by the relaxation.
    Mixing,
    /// Alpha itself. Under Cross-Edge Normalization the two can differ: every column is scaled by
    /// a sum of its own.
    Alpha,
}

/// Alpha: one value per edge and primitive, for each kind of cell.
#[derive(Module, Debug)]
pub struct ArchitectureParameters {
    /// Of the normal cells, `[num_edges, num_primitives]`.
    pub normal: Param<Tensor<2>>,
    /// Of the reduction cells, `[num_edges, num_primitives]`.
    pub reduction: Param<Tensor<2>>,
}

impl Packs for ArchitectureParameters {
    fn packs(&self) -> Vec<&Packed> {
        Vec::new()
    }
}

impl ArchitectureParameters {
    /// Draws `alpha ~ scale * N(0, 1)`.
    ///
    /// # Source
    /// DARTS, `cnn/model_search.py`, `_initialize_alphas` (scale 1e-3).
    pub fn new(space: &SearchSpace, scale: f64, rng: &mut impl Rng, device: &Device) -> Self {
        let shape = [space.topology().num_edges(), space.primitives().len()];
        let mut draw = || {
            let values: Vec<f32> = (0..shape[0] * shape[1])
                .map(|_| {
                    let normal: f64 = StandardNormal.sample(rng);
                    (scale * normal) as f32
                })
                .collect();
            Param::from_data(TensorData::new(values, shape), device)
        };
        Self { normal: draw(), reduction: draw() }
    }

    /// Alpha of one kind of cell, `[num_edges, num_primitives]`.
    pub fn cell(&self, kind: CellKind) -> Tensor<2> {
        match kind {
            CellKind::Normal => self.normal.val(),
            CellKind::Reduction => self.reduction.val(),
        }
    }

    /// The genotype of these parameters.
    ///
    /// # Errors
    /// [`ec_darts_space::Error`] where a value is not finite.
    pub fn genotype(
        &self,
        space: &SearchSpace,
        relaxation: Relaxation,
        strength: Strength,
    ) -> Result<Genotype, ec_darts_space::Error> {
        discretize(space, self.strengths(space, relaxation, strength).as_deref())
    }

    /// What the genotype is read from, of normal and of reduction cells.
    ///
    /// # Shapes
    /// - output: `[num_edges, num_primitives]` each, row-major
    pub fn strengths(
        &self,
        space: &SearchSpace,
        relaxation: Relaxation,
        strength: Strength,
    ) -> PerKind<Vec<f32>> {
        let Mixing { normal, reduction } = match strength {
            Strength::Mixing => Mixing::new(self, relaxation, space.topology()),
            Strength::Alpha => {
                Mixing { normal: self.normal.val(), reduction: self.reduction.val() }
            }
        };
        PerKind { normal, reduction }.map(values)
    }
}

/// A matrix as row-major values.
pub(crate) fn values(matrix: Tensor<2>) -> Vec<f32> {
    matrix.into_data().try_to_vec().expect("alpha is stored in single precision")
}
/// A genotype drawn at random: a yardstick for a search.
///
/// Every set of edges that a node can keep, and every primitive but `none` on each of them, is as
/// likely as any other: they are read from strengths that are independent and equally distributed.
pub fn random_genotype(space: &SearchSpace, rng: &mut impl Rng) -> Genotype {
    let count = space.topology().num_edges() * space.primitives().len();
    let mut strengths = || -> Vec<f32> {
        // 24 bits: all of them fit into single precision.
        (0..count).map(|_| (rng.next_u32() >> 8) as f32).collect()
    };
    let strengths = PerKind::from_fn(|_| strengths());
    discretize(space, strengths.as_deref()).expect("finite strengths of the space")
}

#[cfg(test)]
mod tests {
    use ec_darts_space::Primitive;

    use super::*;
    use crate::data::{Purpose, stream_rng};

    #[test]
    fn random_genotypes_are_even() {
        let space = SearchSpace::darts();
        let primitives = space.primitives();
        let place = |of| primitives.iter().position(|&each| each == of).expect("a candidate");
        let (mut picks, mut sources) = ([0; 8], [0; 5]);
        for seed in 0..2000 {
            let genotype = random_genotype(&space, &mut stream_rng(seed, Purpose::Genotype, 0, 0));
            genotype.validate().expect("a genotype");
            for pick in genotype.normal.nodes.iter().flatten() {
                picks[place(pick.primitive)] += 1;
            }
            genotype.reduction.nodes[3].iter().for_each(|pick| sources[pick.from] += 1);
        }
        let none = place(Primitive::None);
        for (place, count) in picks.into_iter().enumerate() {
            // 16,000 picks of 7 primitives, and 4,000 of 5 sources: five deviations.
            let expected = if place == none { 0..1 } else { 2064..2508 };
            assert!(expected.contains(&count), "{picks:?}");
        }
        assert!(sources.iter().all(|count| (645..955).contains(count)), "{sources:?}");
    }
}
