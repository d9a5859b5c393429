//! The events of a search for its listeners. The search itself prints and writes nothing.
//!
//! The event of a step comes when its figures are known. Figures stay on the device and are read
//! together: after every step on the CPU, every 20 steps elsewhere, and always at the end of a
//! phase and before a search is saved. So several events may come at once, in the order of their
//! steps, each with its own figures, and the position of a search can be ahead of its events.

use burn::module::Param;
use burn::tensor::Tensor;
use ec_darts_space::{Candidates, CellGenotype, CellKind, Genotype, PerKind, Primitive};
use serde::{Deserialize, Serialize};

use crate::architecture::ArchitectureParameters;
use crate::tensors::to_vec;

/// The fraction of the largest entropy from which on mixing weights count as uniform: they then
/// differ by less than about a twelfth of their mean.
const UNIFORM_ENTROPY: f64 = 0.999;

/// Part of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Steps on the supernet's weights, each after a step on alpha in the interleaved order.
    Supernet,
    /// Accuracy of the supernet on the validation half.
    MeasureSupernet,
    /// Steps on the auxiliary model's weights.
    Auxiliary,
    /// Accuracy of the auxiliary model on the validation half, by which the gate decides.
    MeasureAuxiliary,
    /// Steps on alpha, in the sequential order.
    Alpha,
}

impl Phase {
    /// A short name for a progress bar.
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

/// The kind of a finished piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// A batch was queued; its event follows when its figures are read.
    Step,
    /// The gate made its decision.
    Transition,
    /// An epoch was closed.
    Epoch,
    /// All work was finished.
    Everything,
}

/// An event of a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A batch was processed.
    Step(StepReport),
    /// The auxiliary model was measured, and its weights were returned or dropped.
    Transition(TransitionReport),
    /// An epoch ended.
    Epoch(Box<EpochReport>),
}

/// The report of one batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// The epoch, counted from 0 here, from 1 in JSON.
    #[serde(with = "from_one")]
    pub epoch: usize,
    /// The stage, counted from 1, in a search with several stages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<usize>,
    /// Part of the epoch.
    pub phase: Phase,
    /// The step within the phase, counted from 0.
    pub step: usize,
    /// Number of steps of the phase.
    pub num_steps: usize,
    /// Steps since the search began, this one included.
    pub total_step: u64,
    /// Steps of the whole search.
    pub total_steps: u64,
    /// Number of images in forward and backward passes.
    pub images: usize,
    /// Mean training loss of the batch, where weights moved.
    pub train_loss: Option<f64>,
    /// Mean validation loss of the batch, where alpha moved or accuracy was measured; absent where
    /// the loss in evaluation mode was not finite.
    pub valid_loss: Option<f64>,
    /// Learning rate of the weights, per step.
    pub learning_rate: f64,
}

/// The report of one Induced Structural Transition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TransitionReport {
    /// The epoch, counted from 0 here, from 1 in JSON.
    #[serde(with = "from_one")]
    pub epoch: usize,
    /// The auxiliary model's genotype.
    pub genotype: Genotype,
    /// Mean training loss of the auxiliary model.
    pub train_loss: f64,
    /// Training accuracy of the auxiliary model, a fraction in [0, 1].
    pub train_accuracy: f64,
    /// Accuracy of the auxiliary model on the validation half in evaluation mode, a fraction in [0,
    /// 1]: a search accuracy, not the result of an architecture.
    pub valid_accuracy: f64,
    /// Best validation accuracy of the epochs before, if any.
    pub best_before: Option<f64>,
    /// Whether the weights were returned into the supernet.
    pub accepted: bool,
}

/// The report of one epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochReport {
    /// The epoch, counted from 0 here, from 1 in JSON.
    #[serde(with = "from_one")]
    pub epoch: usize,
    /// Number of epochs of the whole search.
    pub epochs: usize,
    /// The stage, counted from 1, in a search with several stages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<usize>,
    /// Learning rate of the weights in this epoch, per step.
    pub learning_rate: f64,
    /// Mean training loss of the supernet.
    pub train_loss: f64,
    /// Accuracy of the supernet on its training batches, a fraction in [0, 1].
    pub train_accuracy: f64,
    /// Mean validation loss of the steps on alpha.
    ///
    /// Absent where no step of the epoch moved alpha with its own batch.
    pub valid_loss: Option<f64>,
    /// Accuracy of the supernet on the validation half in evaluation mode, a fraction in [0, 1].
    pub supernet_accuracy: f64,
    /// The report of the transition, if the epoch had one.
    pub transition: Option<TransitionReport>,
    /// The genotype derived from the mixing weights.
    pub genotype_mixing: Genotype,
    /// The genotype derived from alpha itself.
    pub genotype_alpha: Genotype,
    /// A summary of alpha in normal cells.
    pub normal: CellReport,
    /// A summary of alpha in reduction cells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reduction: Option<CellReport>,
    /// Dominant eigenvalue of the Hessian of the validation loss in alpha, with alpha's weight decay, where it was
    /// measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eigenvalue: Option<f64>,
    /// Cost of the epoch's genotype, where the loss of alpha contains a cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
    /// Epoch whose genotype the search would return now; counted from 0 here, from 1 in JSON.
    #[serde(with = "from_one")]
    pub best_epoch: usize,
    /// Warnings for a person.
    pub warnings: Vec<String>,
    /// Alpha at the end of the epoch, from which every genotype of it can be derived again.
    pub alpha: AlphaValues,
}

impl EpochReport {
    /// The summary of alpha in cells of a kind.
    pub fn cell(&self, kind: CellKind) -> &CellReport {
        match kind {
            CellKind::Normal => &self.normal,
            CellKind::Reduction => {
                self.reduction.as_ref().expect("a network with a reduction cell")
            }
        }
    }
}

/// The values of alpha: one per edge of a cell and primitive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlphaValues {
    /// Alpha of normal cells, `[num_edges][num_primitives]`.
    pub normal: Vec<Vec<f32>>,
    /// Alpha of reduction cells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reduction: Option<Vec<Vec<f32>>>,
    /// Beta, `[num_edges]` each, where edges have their own weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edges: Option<PerKind<Vec<f32>>>,
    /// The candidates of each edge, where a stage has dropped some; alpha of dropped primitives is
    /// zero.
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

/// A summary of alpha in one kind of cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellReport {
    /// Number of picks of `skip_connect` in the genotype.
    pub num_skips: usize,
    /// Number of picks of a pool in the genotype.
    pub num_pools: usize,
    /// Mean entropy of the mixing weights as a fraction of the largest possible.
    pub entropy: f64,
    /// The largest mixing weight.
    pub largest_mixing: f64,
}

impl CellReport {
    /// Whether the cell of a genotype keeps more parameter-free operations than others, by mixing
    /// weights that are no longer uniform: from uniform weights the picks would be random.
    ///
    /// # Source
    /// The collapse described in EC-DARTS, section 1, and DARTS+; the thresholds are ours.
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

/// A number that is counted from 0 in memory, and from 1 in files for people.
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
