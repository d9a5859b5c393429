//! The memory of a retraining besides its tensors and its place.

use serde::{Deserialize, Serialize};

use super::event::{Measured, RetrainEpochReport, RetrainEvent, RetrainPhase, RetrainStepReport};
use crate::train::course::Progress;
use crate::train::mean::Mean;
use crate::train::plan::{LoopPlace, LoopPlan};
use crate::{Error, Result};

/// The sums since the epoch began, and the last measurement.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetrainProgress {
    pub train: Mean,
    /// Sums of the measurement in evaluation mode.
    pub valid: Mean,
    pub valid_top5: u64,
    /// The last measurement.
    pub measured: Option<Measured>,
}

/// A step that was queued on the device, and the meaning of its figures.
///
/// The figures of a training batch are, for each of its parts, the loss and the number of images
/// with the right class; then the norm of the gradient. The figures of a measured batch are the
/// number of images with the right class, and the number of those with it among the five largest
/// logits.
pub struct QueuedStep {
    /// The report, complete except for the loss.
    pub report: RetrainStepReport,
    /// The fraction of the batch in each of its parts.
    pub shares: Vec<f64>,
    /// A tensor that is not finite after the step.
    pub broken: Option<String>,
}

impl Progress for RetrainProgress {
    type Phase = RetrainPhase;
    type Step = QueuedStep;
    type Report = RetrainEpochReport;
    type Event = RetrainEvent;

    fn settle(&mut self, step: &QueuedStep, figures: &[f32]) -> Result<RetrainEvent> {
        let mut report = step.report.clone();
        if report.measuring {
            self.valid.count(figures[0] as u64, report.images);
            self.valid_top5 += figures[1] as u64;
            return Ok(RetrainEvent::Step(report));
        }
        let (parts, norm) = figures.split_at(2 * step.shares.len());
        let (mut loss, mut hits) = (0.0, 0);
        for (part, share) in parts.chunks(2).zip(&step.shares) {
            loss += share * f64::from(part[0]);
            hits += part[1] as u64;
        }
        let norm = f64::from(norm[0]);
        let figures = [("the training loss", loss.is_finite()), ("the gradient", norm.is_finite())];
        let broken = figures.into_iter().find(|(_, is_finite)| !is_finite).map(|(what, _)| what);
        if let Some(what) = broken.or(step.broken.as_deref()) {
            return Err(Error::NonFinite {
                what: what.to_string(),
                epoch: report.epoch,
                phase: RetrainPhase::Train.label(),
                step: report.step,
                learning_rate: report.learning_rate,
            });
        }
        self.train.add(loss, hits, report.images);
        report.train_loss = Some(loss);
        Ok(RetrainEvent::Step(report))
    }

    fn next_epoch(self) -> Self {
        Self { measured: self.measured, ..Self::default() }
    }
}

impl RetrainProgress {
    /// The reason why this memory is impossible at a place of a plan, if so; `images` are the
    /// numbers of training images and of measured images.
    pub fn fault(
        &self,
        plan: &LoopPlan<RetrainPhase>,
        place: &LoopPlace<RetrainPhase>,
        images: [u64; 2],
    ) -> Option<String> {
        let [trained_on, measured] = images;
        let is_end = place.epoch == plan.epochs;
        let fault = |is_wrong: bool, what: &str| is_wrong.then(|| what.to_string());
        (self.train.fault(trained_on))
            .or_else(|| self.valid.fault(measured))
            .or_else(|| {
                fault(self.valid_top5 > self.valid.images, "more right classes than images")
            })
            .or_else(|| fault(is_end && self.measured.is_none(), "no accuracy at its end"))
    }
}
