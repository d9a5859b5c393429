//! Batches of a retraining, prepared ahead by other threads.

use std::sync::Arc;

use super::event::MeasuredOn;
use crate::config::RetrainConfig;
use crate::data::{
    Augmentation, Batch, Batches, DataDigests, Datasets, ImageDataset, Loader, Purpose, split,
};
use crate::{Error, Result};

/// The source of the batches; the batch of an epoch and step is a pure function of both.
pub(super) struct RetrainFeed {
    train: Loader,
    measure: Loader,
    measured_on: MeasuredOn,
    digests: DataDigests,
    steps_cap: Option<usize>,
    open: Option<Open>,
}

/// Batches from some step on.
struct Open {
    next: (bool, usize, usize),
    batches: Batches,
}

impl RetrainFeed {
    /// Trains on all training images except those held out; measures the images held out, or else
    /// the test images.
    pub fn new(config: &RetrainConfig, data: &Datasets) -> Result<Self> {
        let fraction = config.retrain.validation_fraction;
        let share = 1.0 - fraction.unwrap_or(0.0);
        let (mut train, held_out) = split(data.train.len(), share, config.retrain.seed);
        train.truncate(config.data.train_images.unwrap_or(usize::MAX));
        let (measured_on, dataset, measured) = match fraction {
            Some(_) => (MeasuredOn::Validation, &data.train, held_out),
            None => (MeasuredOn::Test, &data.test, (0..data.test.len() as u32).collect()),
        };
        if train.is_empty() || measured.is_empty() {
            let images = (data.train.len(), data.test.len());
            return Err(Error::ConfigValue {
                origin: "the settings".into(),
                key: "retrain.validation_fraction".into(),
                value: fraction.map_or("not set".into(), |fraction| fraction.to_string()),
                allowed: format!(
                    "a fraction that leaves images to train on and to measure: there are {} training and {} \
                     test images",
                    images.0, images.1
                ),
            });
        }
        let loader = |dataset: &Arc<ImageDataset>, indices: Vec<u32>, augmentation, order| Loader {
            dataset: dataset.clone(),
            indices: indices.into(),
            batch_size: config.retrain.batch_size,
            augmentation,
            normalization: data.train.normalization(),
            order,
            seed: config.retrain.seed,
            num_workers: config.run.workers,
        };
        let augmentation = config.data.augmentation();
        Ok(Self {
            train: loader(&data.train, train, augmentation, Some(Purpose::Retrain)),
            measure: loader(dataset, measured, Augmentation::NONE, None),
            measured_on,
            // Hashing all pixels takes a while: once, not for every checkpoint.
            digests: data.digests(),
            steps_cap: config.retrain.steps_per_epoch,
            open: None,
        })
    }

    pub fn measured_on(&self) -> MeasuredOn {
        self.measured_on
    }

    /// The digests of both sets, whichever is measured.
    pub fn digests(&self) -> &DataDigests {
        &self.digests
    }

    pub fn train_data(&self) -> &ImageDataset {
        &self.train.dataset
    }

    pub fn train_steps(&self) -> usize {
        self.train.steps_per_epoch().min(self.steps_cap.unwrap_or(usize::MAX))
    }

    pub fn measure_steps(&self) -> usize {
        self.measure.steps_per_epoch()
    }

    /// SHA-256 over all images of the training and the measurement.
    pub fn data_digest(&self) -> String {
        let DataDigests { train, test } = &self.digests;
        match self.measured_on {
            MeasuredOn::Test => format!("{train} {test}"),
            MeasuredOn::Validation => train.clone(),
        }
    }

    /// Number of training images, and of measured images.
    pub fn num_images(&self) -> [u64; 2] {
        [&self.train, &self.measure].map(|loader| loader.indices.len() as u64)
    }

    /// # Errors
    /// [`Error::Io`] and [`Error::Data`] where the file of an image cannot be read.
    pub fn train_batch(&mut self, epoch: usize, step: usize) -> Result<Batch> {
        self.next((false, epoch, step))
    }

    /// # Errors
    /// As [`Self::train_batch`].
    pub fn measure_batch(&mut self, step: usize) -> Result<Batch> {
        self.next((true, 0, step))
    }

    fn next(&mut self, place: (bool, usize, usize)) -> Result<Batch> {
        let (measuring, epoch, step) = place;
        let mut open = match self.open.take() {
            Some(open) if open.next == place => open,
            _ => {
                let loader = if measuring { &self.measure } else { &self.train };
                Open { next: place, batches: loader.epoch(epoch as u64, step) }
            }
        };
        open.next.2 += 1;
        let batch = open.batches.next().expect("the epoch has more steps")?.not_empty()?;
        self.open = Some(open);
        Ok(batch)
    }
}

/// A batch in at most `count` parts of almost equal size, in order.
pub(super) fn parts(batch: Batch, count: usize) -> Vec<Batch> {
    let [images, channels, height, width] = batch.shape;
    let (size, length) = (images.div_ceil(count), channels * height * width);
    let cut = |labels: &[i32], values: &[f32]| Batch {
        images: values.to_vec(),
        labels: labels.to_vec(),
        shape: [labels.len(), channels, height, width],
    };
    let labels = batch.labels.chunks(size);
    labels.zip(batch.images.chunks(size * length)).map(|(l, v)| cut(l, v)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_the_batch_in_order() {
        let batch = Batch {
            images: (0..7 * 3).map(|value| value as f32).collect(),
            labels: (0..7).collect(),
            shape: [7, 3, 1, 1],
        };
        let cut = parts(batch.clone(), 3);
        let sizes: Vec<usize> = cut.iter().map(|part| part.shape[0]).collect();
        assert_eq!(sizes, [3, 3, 1]);
        let images: Vec<f32> = cut.iter().flat_map(|part| part.images.clone()).collect();
        let labels: Vec<i32> = cut.iter().flat_map(|part| part.labels.clone()).collect();
        assert_eq!((images, labels), (batch.images.clone(), batch.labels.clone()));
        assert_eq!(parts(batch.clone(), 1), [batch]);
    }
}
