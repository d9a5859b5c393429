//! The architecture parameters: alpha, stored in one place.
//!
//! Invariant: mixing, gradient, optimizer and genotype all read the tensors of this module; there
//! is no second store of alpha.

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Bool, Device, Tensor, TensorData};
use ec_darts_space::{
    CellKind, Discretization, Error as SpaceError, Genotype, PerKind, SearchSpace,
};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::ops::{Packed, Packs};
use crate::tensors::to_vec;

/// The values from which the genotype is derived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strength {
    /// The mixing weights, normalized by the relaxation.
    Mixing,
    /// Alpha itself. Under Cross-Edge Normalization the two can give different genotypes: every
    /// column has its own normalizer.
    Alpha,
}

/// Alpha: one value per edge and primitive, for each kind of cell. Where a rule weighs edges, also
/// one value per edge.
#[derive(Module, Debug)]
pub struct ArchitectureParameters {
    /// Alpha of the normal cells, `[num_edges, num_primitives]`.
    pub normal: Param<Tensor<2>>,
    /// Alpha of the reduction cells, `[num_edges, num_primitives]`, where the network has any.
    pub reduction: Option<Param<Tensor<2>>>,
    /// Weights of the edges, where the rule has any.
    pub edges: Option<EdgeParameters>,
}

/// Beta: one value per edge, for each kind of cell.
///
/// # Source
/// PC-DARTS, section 3.3, edge normalization.
#[derive(Module, Debug)]
pub struct EdgeParameters {
    /// Beta of the normal cells, `[num_edges, 1]`.
    pub normal: Param<Tensor<2>>,
    /// Beta of the reduction cells, `[num_edges, 1]`, where the network has any.
    pub reduction: Option<Param<Tensor<2>>>,
}

impl Packs for ArchitectureParameters {
    fn packs(&self) -> Vec<&Packed> {
        Vec::new()
    }
}

impl ArchitectureParameters {
    /// Draws `alpha ~ scale * N(0, 1)`, without weights of edges; alpha is zero for primitives that
    /// are not candidates of their edge.
    ///
    /// # Source
    /// DARTS, `cnn/model_search.py`, `_initialize_alphas` (scale 1e-3).
    pub fn new(space: &SearchSpace, scale: f64, rng: &mut impl Rng, device: &Device) -> Self {
        let columns = space.primitives().len();
        let drawn = draw(space, columns, scale, rng, device).zip(left_out(space, device));
        let PerKind { normal, reduction } = drawn.map(|(drawn, left_out)| match left_out {
            Some(left_out) => Param::from_tensor(drawn.val().mask_fill(left_out, 0.0).detach()),
            None => drawn,
        });
        Self { normal, reduction, edges: None }
    }

    /// The same alpha with weights of edges, `beta ~ scale * N(0, 1)`.
    ///
    /// # Source
    /// PC-DARTS, `model_search.py`, `_initialize_alphas` (scale 1e-3).
    pub fn with_edges(self, space: &SearchSpace, scale: f64, rng: &mut impl Rng) -> Self {
        let PerKind { normal, reduction } = draw(space, 1, scale, rng, &self.normal.device());
        Self { edges: Some(EdgeParameters { normal, reduction }), ..self }
    }

    /// Alpha of one kind of cell, `[num_edges, num_primitives]`.
    pub fn cell(&self, kind: CellKind) -> Tensor<2> {
        self.operations().cell(kind).val()
    }

    /// Alpha of both kinds.
    pub fn operations(&self) -> PerKind<&Param<Tensor<2>>> {
        PerKind { normal: &self.normal, reduction: self.reduction.as_ref() }
    }

    /// The same parameters with other values of alpha.
    pub(crate) fn with_operations(self, values: PerKind<Tensor<2>>) -> Self {
        let put = |(param, values): (Param<Tensor<2>>, Tensor<2>)| {
            let tracked = param.is_require_grad();
            param.map(|_| values.detach().set_require_grad(tracked))
        };
        let own = PerKind { normal: self.normal, reduction: self.reduction };
        let PerKind { normal, reduction } = own.zip(values).map(put);
        Self { normal, reduction, edges: self.edges }
    }

    /// Beta of both kinds, where the rule has it.
    pub fn edge_weights(&self) -> Option<PerKind<&Param<Tensor<2>>>> {
        let edges = self.edges.as_ref()?;
        Some(PerKind { normal: &edges.normal, reduction: edges.reduction.as_ref() })
    }

    /// Alpha, with such a low value for primitives that are not candidates of their edge that no
    /// candidate loses weight to them.
    pub(crate) fn competing(&self, space: &SearchSpace) -> PerKind<Tensor<2>> {
        // The value is finite: the gradient of a primitive that is no candidate on any edge into a
        // node is then zero instead of NaN.
        self.filled(space, -1e20)
    }

    /// Alpha, with a constant for primitives that are not candidates of their edge.
    pub(crate) fn filled(&self, space: &SearchSpace, constant: f64) -> PerKind<Tensor<2>> {
        let left_out = left_out(space, &self.normal.device());
        self.operations().zip(left_out).map(|(param, left_out)| match left_out {
            Some(left_out) => param.val().mask_fill(left_out, constant),
            None => param.val(),
        })
    }

    /// The values of alpha, row-major; this waits for the device.
    pub fn values(&self) -> PerKind<Vec<f32>> {
        self.operations().map(|param| to_vec(param.val()))
    }
}

/// The columns of each edge that are not its candidates, `[num_edges, num_primitives]`; none where
/// all are candidates.
pub(crate) fn left_out(space: &SearchSpace, device: &Device) -> PerKind<Option<Tensor<2, Bool>>> {
    let primitives = space.primitives();
    let num_edges = space.topology().num_edges();
    space.topology().per_kind(|kind| {
        let of_edge = |edge| {
            let candidates = space.candidates(kind, edge);
            primitives.iter().map(move |each| !candidates.contains(each))
        };
        let flags: Vec<bool> = (0..num_edges).flat_map(of_edge).collect();
        let shape = [num_edges, primitives.len()];
        let any = flags.contains(&true);
        any.then(|| Tensor::from_data(TensorData::new(flags, shape), device))
    })
}

/// Draws `scale * N(0, 1)` for each edge and column of both kinds.
fn draw(
    space: &SearchSpace,
    columns: usize,
    scale: f64,
    rng: &mut impl Rng,
    device: &Device,
) -> PerKind<Param<Tensor<2>>> {
    let shape = [space.topology().num_edges(), columns];
    space.topology().per_kind(|_| {
        let mut value = || {
            let normal: f64 = StandardNormal.sample(rng);
            (scale * normal) as f32
        };
        let values: Vec<f32> = (0..shape[0] * shape[1]).map(|_| value()).collect();
        Param::from_data(TensorData::new(values, shape), device)
    })
}

/// One value for each architecture parameter, such as a gradient.
#[derive(Clone, Debug)]
pub struct ArchitectureGradient {
    /// Values for alpha, `[num_edges, num_primitives]`.
    pub operations: PerKind<Tensor<2>>,
    /// Values for beta, `[num_edges, 1]`.
    pub edges: Option<PerKind<Tensor<2>>>,
}

impl ArchitectureGradient {
    /// Takes the gradients of alpha and beta. A gradient is zero for parameters that the loss did
    /// not reach, as in a network without cells of a kind.
    pub fn read(gradients: &GradientsParams, alpha: &ArchitectureParameters) -> Self {
        let read = |param: &Param<Tensor<2>>| {
            let zeros = || Tensor::zeros(param.dims(), &param.device().inner());
            gradients.get::<2>(param.id).unwrap_or_else(zeros)
        };
        Self {
            operations: alpha.operations().map(read),
            edges: alpha.edge_weights().map(|edges| edges.map(read)),
        }
    }

    /// The gradients under the names of their parameters.
    pub fn register(self, alpha: &ArchitectureParameters) -> GradientsParams {
        let mut gradients = GradientsParams::new();
        let edges = alpha.edge_weights().into_iter().zip(self.edges);
        for (params, values) in std::iter::once((alpha.operations(), self.operations)).chain(edges)
        {
            for (param, value) in params.zip(values).into_values() {
                gradients.register(param.id, value);
            }
        }
        gradients
    }

    /// The results of a function on the values of both, one pair after the other.
    pub fn zip_with(self, other: Self, of: impl Fn(Tensor<2>, Tensor<2>) -> Tensor<2>) -> Self {
        let pairs = |one: PerKind<_>, two| one.zip(two).map(|(one, two)| of(one, two));
        Self {
            operations: pairs(self.operations, other.operations),
            edges: self.edges.zip(other.edges).map(|(one, two)| pairs(one, two)),
        }
    }
}

/// A random genotype, a baseline for a search.
///
/// The genotype is derived from independent, equally distributed strengths. By [`Discretization::Edges`] all sets of
/// edges that a node can keep have the same probability, and so have all primitives but `none` on each of them; by
/// [`Discretization::EveryEdge`] all primitives of each edge have, also `none`; what has no way to the output is drawn
/// again.
///
/// # Panics
/// By a threshold, which such strengths have nothing to do with.
pub fn random_genotype(
    space: &SearchSpace,
    discretization: Discretization,
    rng: &mut impl Rng,
) -> Genotype {
    let count = space.topology().num_edges() * space.primitives().len();
    // 24 bits fit exactly into single precision.
    let mut draw = |_| (0..count).map(|_| (rng.next_u32() >> 8) as f32).collect::<Vec<f32>>();
    loop {
        let strengths = space.topology().per_kind(&mut draw);
        match discretization.genotype(space, strengths.as_deref()) {
            // No way from the input to the output.
            Err(SpaceError::NothingKept { .. }) => {}
            drawn => return drawn.expect("finite strengths of the space"),
        }
    }
}

#[cfg(test)]
mod tests {
    use ec_darts_space::Primitive;

    use super::*;
    use crate::data::{Purpose, stream_rng};

    #[test]
    fn random_cells_of_nas_bench_201_have_none_too() {
        let space = SearchSpace::nas_bench_201();
        let mut picks = 0;
        for seed in 0..200 {
            let rng = &mut stream_rng(seed, Purpose::Genotype, 0, 0);
            let genotype = random_genotype(&space, Discretization::EveryEdge, rng);
            picks += genotype.normal.nodes.iter().map(Vec::len).sum::<usize>();
        }
        // Of 1,200 edges one in five has `none`, somewhat less as a way to the output is left: 960, with five
        // deviations of 13.9, and some more.
        assert!((890..=1060).contains(&picks), "{picks}");
    }

    #[test]
    fn random_genotypes_are_even() {
        let space = SearchSpace::darts();
        let primitives = space.primitives();
        let place = |of| primitives.iter().position(|&each| each == of).expect("a candidate");
        let (mut picks, mut sources) = ([0; 8], [0; 5]);
        for seed in 0..2000 {
            let genotype = random_genotype(
                &space,
                Discretization::Edges,
                &mut stream_rng(seed, Purpose::Genotype, 0, 0),
            );
            genotype.validate().expect("a genotype");
            for pick in genotype.normal.nodes.iter().flatten() {
                picks[place(pick.primitive)] += 1;
            }
            genotype.cell(CellKind::Reduction).nodes[3]
                .iter()
                .for_each(|pick| sources[pick.from] += 1);
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
