//! The memory of a search besides its tensors and its place.

use ec_darts_space::{Candidates, Genotype, SearchSpace};
use serde::{Deserialize, Serialize};

use crate::cost::CostTable;
use crate::train::course::Progress;
use crate::train::event::{EpochReport, Event, Phase, StepReport, TransitionReport};
use crate::train::mean::Mean;
use crate::train::plan::LoopPlace;
use crate::{Error, Result};

/// The sums since the epoch began, and the best genotype so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SearchProgress {
    /// Sums of the supernet's steps in this epoch.
    pub train: Mean,
    /// Sums of the steps on alpha in this epoch.
    pub valid_loss: Mean,
    /// Sums of the measurement of the supernet.
    pub supernet: Mean,
    /// Sums of the auxiliary model's steps in this epoch.
    pub auxiliary_train: Mean,
    /// Sums of the measurement of the auxiliary model.
    pub auxiliary: Mean,
    /// This epoch's transition, after its decision.
    pub transition: Option<TransitionReport>,
    /// Genotype of the auxiliary model during its training and measurement.
    pub induced: Option<Genotype>,
    /// The best genotype, the result of the search.
    pub best: Option<Best>,
    /// The candidates of each edge in the current stage; none in the first stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidates: Option<Candidates>,
    /// Costs of the operations, measured once, where the loss of alpha contains a cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub costs: Option<CostTable>,
}

/// The genotype of the best epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// The epoch, counted from 0.
    pub epoch: usize,
    /// Validation accuracy of the auxiliary model, a fraction in [0, 1]; absent without transition,
    /// where the last epoch is the best.
    pub accuracy: Option<f64>,
    /// The genotype of that epoch.
    pub genotype: Genotype,
}

/// A step that was queued on the device, and the meaning of its figures.
///
/// The figure of a step on alpha is its validation loss. The figures of a step on weights are the
/// training loss, the number of images with the right class and the norm of the gradient; those of
/// a measured batch are the loss and the number of images with the right class.
pub(crate) struct QueuedStep {
    /// The report, complete except for the losses.
    pub report: StepReport,
    /// Number of images of the step on alpha, if there was one.
    pub alpha_images: Option<usize>,
    /// Number of images that moved weights or were measured, if any.
    pub model_images: Option<usize>,
    /// A tensor that is not finite after the step.
    pub broken: Option<String>,
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

impl Progress for SearchProgress {
    type Phase = Phase;
    type Step = QueuedStep;
    type Report = EpochReport;
    type Event = Event;

    /// Adds the figures of a step, and completes its report.
    ///
    /// # Errors
    /// [`Error::NonFinite`] where a loss or the gradient of a step is not finite.
    fn settle(&mut self, step: &QueuedStep, figures: &[f32]) -> Result<Event> {
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
        let Some(images) = step.model_images else { return Ok(Event::Step(report)) };
        let (loss, correct) = (next(), next() as u64);
        let (model, mean) = match report.phase {
            Phase::Supernet => ("supernet", &mut self.train),
            Phase::Auxiliary => ("auxiliary model", &mut self.auxiliary_train),
            // The running statistics of the first steps can be far off. This is no reason to stop,
            // but the report then has no loss.
            Phase::MeasureSupernet | Phase::MeasureAuxiliary | Phase::Alpha => {
                let measured = match report.phase {
                    Phase::MeasureSupernet => &mut self.supernet,
                    _ => &mut self.auxiliary,
                };
                measured.count(correct, images);
                report.valid_loss = Some(loss).filter(|loss| loss.is_finite());
                return Ok(Event::Step(report));
            }
        };
        let loss = finite(&format!("the training loss of the {model}"), loss)?;
        finite(&format!("the gradient of the {model}"), next())?;
        if let Some(name) = &step.broken {
            return Err(non_finite(&step.report, name));
        }
        mean.add(loss, correct, images);
        report.train_loss = Some(loss);
        Ok(Event::Step(report))
    }

    fn next_epoch(self) -> Self {
        Self { best: self.best, candidates: self.candidates, costs: self.costs, ..Self::default() }
    }
}

impl SearchProgress {
    /// The reason why this memory is impossible at a place of a search, if so; `spaces` are those
    /// of the search and of its stage, `images` the number of images.
    pub fn fault(
        &self,
        place: &LoopPlace<Phase>,
        spaces: [&SearchSpace; 2],
        images: u64,
    ) -> Option<String> {
        let means = [self.train, self.supernet, self.auxiliary_train, self.auxiliary];
        let transition = self.transition.as_ref();
        let [whole, of_stage] = spaces;
        let genotypes = [
            (of_stage, self.induced.as_ref()),
            // The best epoch may belong to an earlier stage.
            (whole, self.best.as_ref().map(|best| &best.genotype)),
            (of_stage, transition.map(|transition| &transition.genotype)),
        ];
        let is_induced = match place.phase {
            Phase::Auxiliary => place.step > 0,
            Phase::MeasureAuxiliary => transition.is_none(),
            Phase::Supernet | Phase::MeasureSupernet | Phase::Alpha => false,
        };
        let fault = |is_wrong: bool, what: &str| is_wrong.then(|| what.to_string());
        let epoch_of_best = self.best.as_ref().map(|best| best.epoch);
        // Steps on alpha use validation images again and again.
        (means.iter().find_map(|mean| mean.fault(images)))
            .or_else(|| self.valid_loss.fault(u64::MAX))
            .or_else(|| {
                let mut genotypes =
                    genotypes.into_iter().filter_map(|(space, each)| Some((space, each?)));
                let foreign = genotypes.find(|(space, each)| !space.contains(each));
                foreign.map(|(_, genotype)| format!("a genotype of another space: {genotype}"))
            })
            .or_else(|| {
                let size = whole.topology().num_edges() * whole.primitives().len();
                let fits =
                    |costs: &CostTable| costs.operations.iter().all(|(_, row)| row.len() == size);
                fault(!self.costs.as_ref().is_none_or(fits), "costs of another space")
            })
            .or_else(|| {
                fault(is_induced != self.induced.is_some(), "no auxiliary model, or one too many")
            })
            .or_else(|| {
                fault(epoch_of_best > Some(place.epoch), "a best epoch that is still to come")
            })
            .or_else(|| fault(place.epoch > 0 && self.best.is_none(), "no best epoch"))
    }
}
