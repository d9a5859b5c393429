//! Networks of stacked cells: the supernet, and networks of one genotype.
//!
//! Entry points: [`SupernetConfig::init`], [`EvaluationConfig::init`]; [`Geometry`] has the layers
//! and the sizes of their maps. Invariant: every network is a stem, cells with the layers that its
//! [`Skeleton`] has between them, the mean over the map, and a linear classifier.

mod by_edges;
mod cell;
mod discrete;
mod evaluation;
mod geometry;
mod map;
mod mixed;
mod parts;
mod residual;
mod skeleton;
mod stem;
mod supernet;

pub use cell::{CellForm, CellWeights, SearchCell};
pub use discrete::DiscreteCell;
pub use evaluation::{AuxiliaryHead, EvaluationConfig, EvaluationNetwork};
pub use geometry::{
    CellPlan, Geometry, Preprocessing, ResidualPlan, Stack, check_size, is_reduction,
};
pub use map::Map;
pub use mixed::MixedOperation;
pub(crate) use residual::run_cells;
pub use residual::{ResidualBlock, Residuals};
pub use skeleton::Skeleton;
pub use stem::{Stem, StemKind};
pub use supernet::{Supernet, SupernetConfig};

use burn::nn::Linear;
use burn::tensor::Tensor;

/// Classifies the mean of a map.
///
/// # Shapes
/// - `map`: `[batch, channels, height, width]`
/// - output: `[batch, num_classes]`
pub(crate) fn classify(map: Tensor<4>, classifier: &Linear) -> Tensor<2> {
    let bias = classifier.bias.as_ref().expect("classifiers have a bias");
    ec_darts_kernels::classify(map, classifier.weight.val(), bias.val())
}
