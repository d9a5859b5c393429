//! What a search remembers besides its tensors.

use ec_darts_space::Genotype;
use serde::{Deserialize, Serialize};

use super::event::{Phase, StepReport, TransitionReport};
use crate::{Error, Result};

/// The place in the search, and what was summed up since the epoch began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Counted from 0.
    pub epoch: usize,
    pub phase: Phase,
    /// Next step of the phase.
    pub step: usize,
    /// Steps taken since the search began.
    pub total_step: u64,
    /// Of the supernet's steps in this epoch.
    pub train: Mean,
    /// Of the steps on alpha in this epoch.
    pub valid_loss: Mean,
    /// Of the measured supernet.
    pub supernet: Mean,
    /// Of the auxiliary model's steps in this epoch.
    pub auxiliary_train: Mean,
    /// Of the measured auxiliary model.
    pub auxiliary: Mean,
    /// This epoch's transition, once it is decided.
    pub transition: Option<TransitionReport>,
    /// Genotype of the auxiliary model in training or measurement.
    pub induced: Option<Genotype>,
    /// What the search returns.
    pub best: Option<Best>,
}

/// Genotype of the best epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Counted from 0.
    pub epoch: usize,
    /// Validation accuracy of the auxiliary model, fraction in [0, 1]; absent without transition,
    /// where the last epoch counts.
    pub accuracy: Option<f64>,
    /// The genotype of that epoch.
    pub genotype: Genotype,
}

/// Mean loss and accuracy over images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Mean {
    /// Loss times images, summed.
    pub loss: f64,
    /// Images with the right class.
    pub correct: u64,
    pub images: u64,
}

impl Mean {
    pub fn add(&mut self, loss: f64, correct: u64, images: usize) {
        self.loss += loss * images as f64;
        self.count(correct, images);
    }

    /// Accuracy alone.
    pub fn count(&mut self, correct: u64, images: usize) {
        self.correct += correct;
        self.images += images as u64;
    }

    pub fn loss(&self) -> f64 {
        self.loss / self.images.max(1) as f64
    }

    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.images.max(1) as f64
    }
}

/// A step that was queued on the device, and what its figures are.
///
/// In their order: of a step on alpha its validation loss; of a step on weights the training loss, the
/// images with the right class and the norm of the gradient; of a measured batch loss and images.
pub(super) struct QueuedStep {
    /// Complete but for the losses.
    pub report: StepReport,
    /// Images of the step on alpha, where there was one.
    pub alpha_images: Option<usize>,
    /// Images that moved weights or were measured, where there were any.
    pub model_images: Option<usize>,
}

fn non_finite(step: &StepReport, what: &str) -> Error {
    Error::NonFinite {
        what: what.to_string(),
        epoch: step.epoch,
        phase: step.phase.label(),
        step: step.step,
        learning_rate: step.learning_rate,
    }
}

impl Progress {
    pub fn new() -> Self {
        Self {
            epoch: 0,
            phase: Phase::Supernet,
            step: 0,
            total_step: 0,
            train: Mean::default(),
            valid_loss: Mean::default(),
            supernet: Mean::default(),
            auxiliary_train: Mean::default(),
            auxiliary: Mean::default(),
            transition: None,
            induced: None,
            best: None,
        }
    }

    /// Adds what a step came to, and completes its report.
    ///
    /// # Errors
    /// [`Error::NonFinite`] where a loss or the gradient of a step is no number.
    pub(super) fn settle(&mut self, step: &QueuedStep, figures: &[f32]) -> Result<StepReport> {
        let mut report = step.report.clone();
        let mut figures = figures.iter().map(|&figure| f64::from(figure));
        let mut next = || figures.next().expect("the figures that the step left");
        let finite = |what: &str, value: f64| match value.is_finite() {
            true => Ok(value),
            false => Err(non_finite(&step.report, what)),
        };
        if let Some(images) = step.alpha_images {
            let loss = finite("the validation loss of the step on alpha", next())?;
            self.valid_loss.add(loss, 0, images);
            report.valid_loss = Some(loss);
        }
        let Some(images) = step.model_images else { return Ok(report) };
        let (loss, correct) = (next(), next() as u64);
        let (model, mean) = match report.phase {
            Phase::Supernet => ("supernet", &mut self.train),
            Phase::Auxiliary => ("auxiliary model", &mut self.auxiliary_train),
            // The running statistics of the first steps can be far off: no reason to stop, but
            // there is no loss then.
            Phase::MeasureSupernet | Phase::MeasureAuxiliary | Phase::Alpha => {
                let measured = match report.phase {
                    Phase::MeasureSupernet => &mut self.supernet,
                    _ => &mut self.auxiliary,
                };
                measured.count(correct, images);
                report.valid_loss = Some(loss).filter(|loss| loss.is_finite());
                return Ok(report);
            }
        };
        let loss = finite(&format!("the training loss of the {model}"), loss)?;
        finite(&format!("the gradient of the {model}"), next())?;
        mean.add(loss, correct, images);
        report.train_loss = Some(loss);
        Ok(report)
    }

    /// The first step of the next epoch.
    pub fn next_epoch(&mut self) {
        *self = Self {
            epoch: self.epoch + 1,
            total_step: self.total_step,
            best: self.best.take(),
            ..Self::new()
        };
    }
}
