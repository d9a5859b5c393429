//! What a retraining tells whoever listens.

use serde::{Deserialize, Serialize};

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum RetrainEvent {
    /// One batch went through.
    Step(RetrainStepReport),
    /// An epoch ended.
    Epoch(Box<RetrainEpochReport>),
}

impl From<RetrainEpochReport> for RetrainEvent {
    fn from(report: RetrainEpochReport) -> Self {
        Self::Epoch(Box::new(report))
    }
}

/// Part of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RetrainPhase {
    /// Steps on the weights.
    Train,
    /// Accuracy on images that were not trained on.
    Measure,
}

impl RetrainPhase {
    /// A word for an error and a trace.
    pub fn label(self) -> &'static str {
        match self {
            Self::Train => "training",
            Self::Measure => "measurement",
        }
    }
}

impl From<RetrainPhase> for &'static str {
    fn from(phase: RetrainPhase) -> Self {
        phase.label()
    }
}

/// One batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetrainStepReport {
    /// Counted from 0 here, from 1 in JSON.
    #[serde(with = "crate::train::event::from_one")]
    pub epoch: usize,
    /// Whether this step measured accuracy; else it moved the weights.
    pub measuring: bool,
    /// Counted from 0, within the training or the measurement of the epoch.
    pub step: usize,
    /// Steps since the retraining began, this one included.
    pub total_step: u64,
    /// Steps of the whole retraining.
    pub total_steps: u64,
    /// Images that went through.
    pub images: usize,
    /// Mean loss of the classifier, where weights moved.
    pub train_loss: Option<f64>,
    /// Per step.
    pub learning_rate: f64,
}

/// One epoch of the retraining.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetrainEpochReport {
    /// Counted from 0 here, from 1 in JSON.
    #[serde(with = "crate::train::event::from_one")]
    pub epoch: usize,
    /// Epochs of the whole retraining.
    pub epochs: usize,
    /// In this epoch, per step.
    pub learning_rate: f64,
    /// Probability of drop path in this epoch.
    pub drop_path: f64,
    /// Mean loss of the classifier, with label smoothing, without the auxiliary head's.
    pub train_loss: f64,
    /// Fraction in [0, 1], on augmented training images while they are trained on.
    pub train_accuracy: f64,
    /// Fraction in [0, 1], in evaluation mode, in epochs that are measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_accuracy: Option<f64>,
    /// The same for the right class among the first five.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_top5: Option<f64>,
    /// Which images these are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured_on: Option<MeasuredOn>,
}

/// The images on which accuracy is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MeasuredOn {
    /// The data set's test images.
    Test,
    /// Training images that were held out.
    Validation,
}

/// Accuracy of the network in evaluation mode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// After this epoch, counted from 0.
    pub epoch: usize,
    /// Fraction in [0, 1].
    pub accuracy: f64,
    /// Fraction in [0, 1] with the right class among the first five.
    pub top5: f64,
    /// Images measured.
    pub images: u64,
    /// Which images these are.
    pub on: MeasuredOn,
}
