//! Networks of stacked cells: the supernet, and networks of one genotype.
//!
//! Entry points: [`SupernetConfig::init`], [`EvaluationConfig::init`]. Invariant: every network is
//! stem, cells, mean over the map, linear classifier; a cell reads the two outputs before it.

mod by_edges;
mod cell;
mod discrete;
mod evaluation;
mod mixed;
mod parts;
mod plan;
mod stem;
mod supernet;

pub use cell::{CellForm, CellWeights, SearchCell};
pub use discrete::DiscreteCell;
pub use evaluation::{AuxiliaryHead, EvaluationConfig, EvaluationNetwork};
pub use mixed::MixedOperation;
pub use plan::{CellPlan, check_size, is_reduction, plan_cells};
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
