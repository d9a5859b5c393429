//! The events of a retraining for its listeners.

use serde::{Deserialize, Serialize};

/// An event of a retraining.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum RetrainEvent {
    /// A batch was processed.
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
    /// Measurement of the accuracy on images that were not trained on.
    Measure,
}

impl RetrainPhase {
    /// The name in an error and a trace.
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

/// The report of one batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetrainStepReport {
    /// The epoch, counted from 0 here, from 1 in JSON.
    #[serde(with = "crate::train::event::from_one")]
    pub epoch: usize,
    /// Whether this step measured accuracy; otherwise it moved the weights.
    pub measuring: bool,
    /// The step within the training or the measurement of the epoch, counted from 0.
    pub step: usize,
    /// Steps since the retraining began, this one included.
    pub total_step: u64,
    /// Steps of the whole retraining.
    pub total_steps: u64,
    /// Number of images.
    pub images: usize,
    /// Mean loss of the classifier, where weights moved.
    pub train_loss: Option<f64>,
    /// Learning rate, per step.
    pub learning_rate: f64,
}

/// The report of one epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetrainEpochReport {
    /// The epoch, counted from 0 here, from 1 in JSON.
    #[serde(with = "crate::train::event::from_one")]
    pub epoch: usize,
    /// Number of epochs of the whole retraining.
    pub epochs: usize,
    /// Learning rate in this epoch, per step.
    pub learning_rate: f64,
    /// Probability of drop path in this epoch.
    pub drop_path: f64,
    /// Mean loss of the classifier, with label smoothing, without the auxiliary head's.
    pub train_loss: f64,
    /// Accuracy on the augmented training images during training, a fraction in [0, 1].
    pub train_accuracy: f64,
    /// Accuracy in evaluation mode, a fraction in [0, 1]; absent in epochs without measurement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_accuracy: Option<f64>,
    /// Fraction of these images whose class is among the five largest logits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_top5: Option<f64>,
    /// The set of measured images.
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

/// The accuracy of the network in evaluation mode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The epoch of the measurement, counted from 0.
    pub epoch: usize,
    /// The accuracy, a fraction in [0, 1].
    pub accuracy: f64,
    /// The fraction in [0, 1] of images whose class is among the five largest logits.
    pub top5: f64,
    /// Number of measured images.
    pub images: u64,
    /// The set of measured images.
    pub on: MeasuredOn,
}
