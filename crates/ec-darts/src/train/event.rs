//! What the search tells whoever listens. It prints and writes nothing itself.
//!
//! A step is told when its figures are known. They stay on the device and are read together: after
//! every step on the CPU, every 20 steps elsewhere, and always at the end of a phase and before a
//! search is saved. So several steps may be told at once, in their order, each with its own figures, and
//! the position of a search can be ahead of what was told.

use burn::module::Param;
use burn::tensor::Tensor;
use ec_darts_space::{Candidates, CellGenotype, CellKind, Genotype, PerKind, Primitive};
use serde::{Deserialize, Serialize};

use crate::architecture::ArchitectureParameters;
use crate::tensors::to_vec;

/// From this fraction of the largest entropy on, mixing weights count as uniform: they differ by less than
/// about a twelfth of their mean.
const UNIFORM_ENTROPY: f64 = 0.999;

/// Part of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Steps on the supernet's weights, each preceded by a step on alpha where interleaved.
    Supernet,
    /// Accuracy of the supernet on the validation half.
    MeasureSupernet,
    /// Steps on the auxiliary model's weights.
    Auxiliary,
    /// Accuracy of the auxiliary model on the validation half: the gate's decision.
    MeasureAuxiliary,
    /// Steps on alpha, in the sequential order.
    Alpha,
}

impl Phase {
    /// A few letters for a progress bar.
    pub fn label(self) -> &'static str {
        match self {
            Self::Supernet => "supernet",
            Self::MeasureSupernet => "measure supernet",
            Self::Auxiliary => "auxiliary model",
            Self::MeasureAuxiliary => "measure auxiliary model",
            Self::Alpha => "alpha",
        }
    }
}

impl From<Phase> for &'static str {
    fn from(phase: Phase) -> Self {
        phase.label()
    }
}

/// What one piece of work was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// A batch was sent through; its event follows when its figures are read.
    Step,
    /// The gate decided.
    Transition,
    /// An epoch was closed.
    Epoch,
    /// Nothing was left to do.
    Everything,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// One batch went through.
    Step(StepReport),
    /// The auxiliary model was measured and its weights were returned or dropped.
    Transition(TransitionReport),
    /// An epoch ended.
    Epoch(Box<EpochReport>),
}

/// One batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Counted from 0 here, from 1 in JSON.
    #[serde(with = "from_one")]
    pub epoch: usize,
    /// Counted from 1, in a search of several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<usize>,
    /// Part of the epoch.
    pub phase: Phase,
    /// Counted from 0, within the phase.
    pub step: usize,
    /// Steps of the phase.
    pub num_steps: usize,
    /// Steps since the search began, this one included.
    pub total_step: u64,
    /// Steps of the whole search.
    pub total_steps: u64,
    /// Images that went through, forward or back.
    pub images: usize,
    /// Mean training loss of the batch, where weights moved.
    pub train_loss: Option<f64>,
    /// Mean validation loss of the batch, where alpha moved or accuracy was measured; absent where
    /// evaluation mode gave none.
    pub valid_loss: Option<f64>,
    /// Learning rate of the weights, per step.
    pub learning_rate: f64,
}

/// The end of one Induced Structural Transition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TransitionReport {
    /// Counted from 0 here, from 1 in JSON.
    #[serde(with = "from_one")]
    pub epoch: usize,
    /// The auxiliary model's genotype.
    pub genotype: Genotype,
    /// Mean training loss of the auxiliary model.
    pub train_loss: f64,
    /// Fraction in [0, 1].
    pub train_accuracy: f64,
    /// Fraction in [0, 1], on the validation half, in evaluation mode: a search accuracy, not the
    /// result of an architecture.
    pub valid_accuracy: f64,
    /// Best validation accuracy of the epochs before, if there were any.
    pub best_before: Option<f64>,
    /// Whether the weights went back into the supernet.
    pub accepted: bool,
}

/// One epoch of the search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochReport {
    /// Counted from 0 here, from 1 in JSON.
    #[serde(with = "from_one")]
    pub epoch: usize,
    /// Epochs of the whole search.
    pub epochs: usize,
    /// Counted from 1, in a search of several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<usize>,
    /// Learning rate of the weights in this epoch, per step.
    pub learning_rate: f64,
    /// Mean training loss of the supernet.
    pub train_loss: f64,
    /// Fraction in [0, 1], of the supernet on its training batches.
    pub train_accuracy: f64,
    /// Mean validation loss of the steps on alpha.
    ///
    /// Nothing where no step of the epoch moved alpha by a batch of its own.
    pub valid_loss: Option<f64>,
    /// Fraction in [0, 1], of the supernet on the validation half, in evaluation mode.
    pub supernet_accuracy: f64,
    /// The transition, where there is one.
    pub transition: Option<TransitionReport>,
    /// Read from the mixing weights.
    pub genotype_mixing: Genotype,
    /// Read from alpha itself.
    pub genotype_alpha: Genotype,
    /// What alpha looks like, in normal cells.
    pub normal: CellReport,
    /// What alpha looks like, in reduction cells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reduction: Option<CellReport>,
    /// Dominant eigenvalue of the Hessian of the validation loss in alpha, with alpha's weight decay, where it was
    /// measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eigenvalue: Option<f64>,
    /// Cost of the epoch's genotype, where costs are in the loss of alpha.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
    /// Epoch whose genotype the search would return now; counted from 0 here, from 1 in JSON.
    #[serde(with = "from_one")]
    pub best_epoch: usize,
    /// What a person should look at.
    pub warnings: Vec<String>,
    /// At the end of the epoch: every genotype of it can be read again.
    pub alpha: AlphaValues,
}

impl EpochReport {
    /// What alpha looks like in cells of a kind.
    pub fn cell(&self, kind: CellKind) -> &CellReport {
        match kind {
            CellKind::Normal => &self.normal,
            CellKind::Reduction => {
                self.reduction.as_ref().expect("a network with a reduction cell")
            }
        }
    }
}

/// The values of alpha: for each edge of a cell, one for each primitive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlphaValues {
    /// Of normal cells, `[num_edges][num_primitives]`.
    pub normal: Vec<Vec<f32>>,
    /// Of reduction cells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reduction: Option<Vec<Vec<f32>>>,
    /// Beta, `[num_edges]` each, where edges have weights of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edges: Option<PerKind<Vec<f32>>>,
    /// Primitives that compete on each edge, where a stage has left some out; alpha of the others is zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidates: Option<Candidates>,
}

impl AlphaValues {
    pub(super) fn of(alpha: &ArchitectureParameters, candidates: Option<Candidates>) -> Self {
        let rows = |param: &Param<Tensor<2>>| {
            let [_, num_primitives] = param.dims();
            to_vec(param.val()).chunks(num_primitives).map(<[f32]>::to_vec).collect()
        };
        let PerKind { normal, reduction } = alpha.operations().map(rows);
        let edges = alpha.edge_weights();
        Self {
            normal,
            reduction,
            edges: edges.map(|edges| edges.map(|param| to_vec(param.val()))),
            candidates,
        }
    }
}

impl From<EpochReport> for Event {
    fn from(report: EpochReport) -> Self {
        Self::Epoch(Box::new(report))
    }
}

/// The state of one kind of cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellReport {
    /// Picks of `skip_connect` in the genotype.
    pub num_skips: usize,
    /// Picks of a pool in the genotype.
    pub num_pools: usize,
    /// Mean entropy of the mixing weights as a fraction of the largest possible.
    pub entropy: f64,
    /// Largest mixing weight.
    pub largest_mixing: f64,
}

impl CellReport {
    /// Whether the cell of a genotype keeps more parameter-free operations than others, by mixing weights
    /// that are no longer uniform: before that its picks are those of chance.
    ///
    /// # Source
    /// The collapse that EC-DARTS, section 1, and DARTS+ describe; the thresholds are ours.
    pub(crate) fn is_collapsing(&self, genotype: &CellGenotype) -> bool {
        let free = genotype.count(Primitive::is_parameter_free);
        2 * free > genotype.count(|_| true) && self.entropy < UNIFORM_ENTROPY
    }

    pub(crate) fn warning(kind: CellKind, genotype: &CellGenotype) -> String {
        let picks = genotype.count(|_| true);
        let free = genotype.count(Primitive::is_parameter_free);
        format!(
            "the {} cell is collapsing: {free} of {picks} kept operations have no parameters",
            kind.name()
        )
    }
}

/// A number that is counted from 0 in memory, and from 1 where people read it.
pub(super) mod from_one {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(number: &usize, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(*number as u64 + 1)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
        let number = usize::deserialize(deserializer)?;
        number.checked_sub(1).ok_or_else(|| D::Error::custom("0, but it is counted from 1"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_are_counted_from_one_in_json() {
        let report = StepReport {
            epoch: 0,
            stage: None,
            phase: Phase::Supernet,
            step: 0,
            num_steps: 1,
            total_step: 1,
            total_steps: 1,
            images: 2,
            train_loss: None,
            valid_loss: None,
            learning_rate: 0.1,
        };
        let json = serde_json::to_value(&report).expect("plain values");
        assert_eq!(json["epoch"], 1);
        assert_eq!(serde_json::from_value::<StepReport>(json.clone()).expect("its own"), report);
        let mut zero = json;
        zero["epoch"] = 0.into();
        let error = serde_json::from_value::<StepReport>(zero).expect_err("no such epoch");
        assert!(error.to_string().contains("counted from 1"), "{error}");
    }
}
