//! Batches for each phase of the search, prepared ahead by other threads.

use std::sync::Arc;

use super::event::Phase;
use crate::architect::ArchitectOrder;
use crate::config::{Order, SearchConfig};
use crate::data::{
    Augmentation, Batch, Batches, ImageDataset, Loader, Purpose, sample_per_class, split,
};
use crate::{Error, Result};

/// The source of the batches of every phase.
///
/// The batches of an epoch and step are a pure function of both, so a resumed search reads the same
/// batches as an unbroken one.
pub(super) struct Feed {
    /// The phase whose steps move alpha with their own batch, if any.
    alpha_phase: Option<Phase>,
    config: SearchConfig,
    train: Loader,
    valid: Loader,
    auxiliary: Loader,
    measure: Loader,
    data_digest: String,
    open: Option<Open>,
}

/// The batches of one phase from some step on.
struct Open {
    next: (Phase, usize, usize),
    model: Option<Batches>,
    valid: Option<Batches>,
    train_of_alpha: Option<Batches>,
}

/// The batches of one step.
pub(super) struct StepBatches {
    /// The batch for the step on the weights, or for the measurement.
    pub model: Option<Batch>,
    /// The batch for the step on alpha.
    pub valid: Option<Batch>,
    /// The batch for the virtual step of the second order, where it is not `model`.
    pub train_of_alpha: Option<Batch>,
}

/// The phase whose steps move alpha with their own batch.
pub(super) fn alpha_phase(order: Order) -> Option<Phase> {
    match order {
        Order::Interleaved | Order::WeightsFirst => Some(Phase::Supernet),
        Order::Sequential => Some(Phase::Alpha),
        Order::SingleLevel => None,
    }
}

impl Feed {
    /// Splits the training set into the half for the weights and the half for alpha.
    pub fn new(config: &SearchConfig, data: Arc<ImageDataset>) -> Result<Self> {
        let seed = config.search.seed;
        let search = &config.search;
        let rest = search.valid_fraction.unwrap_or(1.0 - search.train_fraction);
        let (mut train, mut valid) = match search.per_class {
            true => sample_per_class(data.labels(), [search.train_fraction, rest], seed),
            false => split(data.len(), search.train_fraction, seed),
        };
        if search.valid_fraction.is_some() && !search.per_class {
            valid.truncate((data.len() as f64 * rest).round() as usize);
        }
        if let Some(limit) = config.data.train_images {
            let share = (limit as f64 * search.train_fraction).round() as usize;
            train.truncate(share);
            valid.truncate(match search.valid_fraction {
                Some(rest) => (limit as f64 * rest).round() as usize,
                None => limit.saturating_sub(share),
            });
        }
        if train.is_empty() || valid.is_empty() {
            return Err(Error::ConfigValue {
                origin: "the settings".into(),
                key: "search.train_fraction".into(),
                value: config.search.train_fraction.to_string(),
                allowed: format!("a fraction that leaves images on both sides of {}", data.len()),
            });
        }
        let mut measured = valid.clone();
        measured.truncate(config.search.measured_images.unwrap_or(usize::MAX));
        let augmentation = config.data.augmentation();
        let loader = |indices: Vec<u32>, augmentation, order| Loader {
            dataset: data.clone(),
            indices: indices.into(),
            batch_size: config.search.batch_size,
            augmentation,
            normalization: data.normalization(),
            order,
            seed,
            num_workers: config.run.workers,
        };
        Ok(Self {
            alpha_phase: alpha_phase(config.search.order),
            auxiliary: loader(train.clone(), augmentation, Some(Purpose::Auxiliary)),
            train: loader(train, augmentation, Some(Purpose::Train)),
            valid: loader(valid, augmentation, Some(Purpose::Valid)),
            measure: loader(measured, Augmentation::NONE, None),
            data_digest: data.digest(),
            config: config.clone(),
            open: None,
        })
    }

    /// SHA-256 over the training images and labels.
    pub fn data_digest(&self) -> &str {
        &self.data_digest
    }

    /// The first images of the measurement, without augmentation; always the same ones.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub fn first_measured(&self, images: usize) -> Result<Batch> {
        Loader { batch_size: images, ..self.measure.clone() }.batch(0, 0).and_then(Batch::not_empty)
    }

    /// Number of steps of a phase in every epoch.
    pub fn num_steps(&self, phase: Phase) -> usize {
        let capped =
            |steps: usize| steps.min(self.config.search.steps_per_epoch.unwrap_or(usize::MAX));
        match phase {
            Phase::Supernet | Phase::Auxiliary => capped(self.train.steps_per_epoch()),
            Phase::MeasureSupernet | Phase::MeasureAuxiliary => self.measure.steps_per_epoch(),
            Phase::Alpha => capped(self.valid.steps_per_epoch()),
        }
    }

    /// The batches of one step.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Data`] where the file of an image cannot be read.
    pub fn next(&mut self, phase: Phase, epoch: usize, step: usize) -> Result<StepBatches> {
        let place = (phase, epoch, step);
        let mut open = match self.open.take() {
            Some(open) if open.next == place => open,
            _ => self.open(place),
        };
        open.next.2 += 1;
        let take = |batches: &mut Option<Batches>| {
            let next = |batches: &mut Batches| {
                batches.next().expect("the phase has more steps").and_then(Batch::not_empty)
            };
            batches.as_mut().map(next).transpose()
        };
        let mut batches =
            StepBatches { model: take(&mut open.model)?, valid: None, train_of_alpha: None };
        if self.config.alpha.moves_at(self.config.in_stage(epoch).epoch, step) {
            batches.valid = take(&mut open.valid)?;
            batches.train_of_alpha = take(&mut open.train_of_alpha)?;
        }
        self.open = Some(open);
        Ok(batches)
    }

    fn open(&self, place: (Phase, usize, usize)) -> Open {
        let (phase, epoch, step) = place;
        let mut open = Open { next: place, model: None, valid: None, train_of_alpha: None };
        // The halves may differ in size: alpha's batches continue from epoch to epoch.
        let run_on = |loader: &Loader| {
            loader.endless(self.config.alpha_steps_before(epoch, step, self.num_steps(phase)))
        };
        if self.alpha_phase == Some(phase) {
            open.valid = Some(run_on(&self.valid));
        }
        match phase {
            Phase::Supernet => open.model = Some(self.train.epoch(epoch as u64, step)),
            Phase::Alpha if self.config.search.architect == ArchitectOrder::Second => {
                open.train_of_alpha = Some(run_on(&self.train));
            }
            Phase::Alpha => {}
            Phase::Auxiliary => open.model = Some(self.auxiliary.epoch(epoch as u64, step)),
            Phase::MeasureSupernet | Phase::MeasureAuxiliary => {
                open.model = Some(self.measure.epoch(0, step));
            }
        }
        open
    }
}
