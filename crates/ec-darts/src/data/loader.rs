//! Batches, prepared by other threads ahead of the step.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use tracing::debug_span;

use super::random::{Purpose, shuffled, stream_rng};
use super::{Augmentation, ImageDataset, Normalization};
use crate::{Error, Result};

/// Number of batches that each worker prepares ahead, besides its current batch.
const AHEAD: usize = 1;

/// A batch in main memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Normalized images, row-major.
    pub images: Vec<f32>,
    /// Class numbers.
    pub labels: Vec<i32>,
    /// `[batch, 3, height, width]`.
    pub shape: [usize; 4],
}

impl Batch {
    /// # Errors
    /// [`Error::Data`] where all images of a measured batch are broken and were left out.
    pub(crate) fn not_empty(self) -> Result<Self> {
        if !self.labels.is_empty() {
            return Ok(self);
        }
        let reason = "no image of a batch that is measured can be read any more".into();
        Err(Error::Data { path: "the images".into(), reason })
    }
}

/// Makes the batches of a part of a data set.
#[derive(Clone, Debug)]
pub struct Loader {
    /// The whole data set.
    pub dataset: Arc<ImageDataset>,
    /// The numbers of the images of this part.
    pub indices: Arc<[u32]>,
    /// Images per batch, above 0; the last batch of an epoch has the remaining images.
    pub batch_size: usize,
    /// Random changes of each image.
    pub augmentation: Augmentation,
    /// Mean and standard deviation of the normalization.
    pub normalization: Normalization,
    /// The purpose of the random stream that orders and changes the images. None keeps the order of
    /// `indices` and leaves out images that turn out to be broken, so that a batch may be smaller,
    /// or empty.
    pub order: Option<Purpose>,
    /// Seed of all random streams.
    pub seed: u64,
    /// Number of threads that prepare batches; 0 prepares each batch on demand.
    pub num_workers: usize,
}

impl Loader {
    /// All images of a set in their order, unchanged, normalized as the set says, prepared on one
    /// thread.
    ///
    /// # Panics
    /// Where there are more than 2^32 images.
    pub fn new(dataset: Arc<ImageDataset>, batch_size: usize) -> Self {
        let count = u32::try_from(dataset.len()).expect("fewer images than 2^32");
        Self {
            indices: (0..count).collect(),
            normalization: dataset.normalization(),
            dataset,
            batch_size,
            augmentation: Augmentation::NONE,
            order: None,
            seed: 0,
            num_workers: 1,
        }
    }

    /// Largest number of batches that `num_workers` workers hold.
    pub(crate) fn most_ahead(num_workers: usize) -> usize {
        num_workers.max(1) * (AHEAD + 1)
    }

    /// Number of batches of an epoch, including the last, smaller one.
    pub fn steps_per_epoch(&self) -> usize {
        self.indices.len().div_ceil(self.batch_size)
    }

    /// The batches of one epoch from step `from_step` on; none where the epoch has no such step.
    pub fn epoch(&self, epoch: u64, from_step: usize) -> Batches {
        let steps = self.steps_per_epoch() as u64;
        let first = epoch * steps;
        Batches::new(self.clone(), first + from_step as u64, Some(first + steps))
    }

    /// Batches without end: batch `g` is batch `g % steps` of epoch `g / steps`.
    ///
    /// # Panics
    /// Where there is no image.
    pub fn endless(&self, from_batch: u64) -> Batches {
        assert!(!self.indices.is_empty(), "endless batches of no image");
        Batches::new(self.clone(), from_batch, None)
    }

    /// One batch, equal to that of [`Loader::epoch`] and [`Loader::endless`].
    ///
    /// This orders the whole epoch each time; the iterators order it once per epoch.
    ///
    /// # Errors
    /// [`crate::Error::Io`] and [`crate::Error::Data`] where the file of an image cannot be read.
    ///
    /// # Panics
    /// Where the epoch has no such step.
    pub fn batch(&self, epoch: u64, step: usize) -> Result<Batch> {
        assert!(step < self.steps_per_epoch(), "no step {step} in an epoch");
        self.cut(&self.order_of(epoch), epoch, step)
    }

    /// The images in the order of an epoch.
    fn order_of(&self, epoch: u64) -> Vec<u32> {
        match self.order {
            Some(purpose) => shuffled(&self.indices, self.seed, purpose, epoch),
            None => self.indices.to_vec(),
        }
    }

    /// One batch of an epoch whose order is known.
    fn cut(&self, order: &[u32], epoch: u64, step: usize) -> Result<Batch> {
        let first = step * self.batch_size;
        let images = &order[first..(first + self.batch_size).min(order.len())];
        let [height, width] = self.dataset.size();
        let length = 3 * height * width;
        let mut batch = Batch {
            images: Vec::with_capacity(images.len() * length),
            labels: Vec::with_capacity(images.len()),
            shape: [0, 3, height, width],
        };
        for (place, &image) in images.iter().enumerate() {
            let purpose = self.order.unwrap_or(Purpose::Listed);
            let mut rng = stream_rng(self.seed, purpose, epoch, (first + place) as u64);
            let size = self.dataset.size();
            let region = |stored| self.augmentation.region(stored, &mut rng);
            let (found, pixels) = self.dataset.view(image as usize, region)?;
            // No image is measured twice in place of a broken one.
            if self.order.is_none() && found != image as usize {
                continue;
            }
            let start = batch.images.len();
            batch.images.resize(start + length, 0.0);
            let output = &mut batch.images[start..];
            self.augmentation.apply(&pixels, size, &self.normalization, &mut rng, output);
            batch.labels.push(self.dataset.label(found).into());
        }
        batch.shape[0] = batch.labels.len();
        Ok(batch)
    }
}

/// Makes consecutive batches, and keeps the order of the current epoch.
struct Maker {
    loader: Loader,
    epoch: Option<u64>,
    order: Vec<u32>,
}

impl Maker {
    fn new(loader: Loader) -> Self {
        Self { loader, epoch: None, order: Vec::new() }
    }

    fn make(&mut self, number: u64) -> Result<Batch> {
        let _span = debug_span!("prepare batch", number).entered();
        let steps = self.loader.steps_per_epoch() as u64;
        let (epoch, step) = (number / steps, number % steps);
        if self.epoch != Some(epoch) {
            self.order = self.loader.order_of(epoch);
            self.epoch = Some(epoch);
        }
        self.loader.cut(&self.order, epoch, step as usize)
    }
}

/// An iterator of batches, prepared ahead by the loader's workers.
///
/// Worker `k` of `n` makes batches `k`, `k + n`, ... and sends them into its own channel. The
/// iterator takes turns, so that the order is that of one thread. Dropping the iterator ends each
/// worker after its current batch.
pub struct Batches {
    next: u64,
    end: Option<u64>,
    source: Source,
}

enum Source {
    Here(Box<Maker>),
    Workers { channels: Vec<Receiver<Result<Batch>>>, turn: usize },
}

impl Batches {
    fn new(loader: Loader, first: u64, end: Option<u64>) -> Self {
        let workers = loader.num_workers as u64;
        let source = if workers == 0 {
            Source::Here(Box::new(Maker::new(loader)))
        } else {
            let start = |worker: u64| {
                let (sender, receiver) = sync_channel(AHEAD);
                let mut maker = Maker::new(loader.clone());
                let thread = std::thread::Builder::new().name(format!("loader {worker}"));
                let work = move || {
                    let mut number = first + worker;
                    while end.is_none_or(|end| number < end)
                        && sender.send(maker.make(number)).is_ok()
                    {
                        number += workers;
                    }
                };
                thread.spawn(work).expect("the system has threads left");
                receiver
            };
            Source::Workers { channels: (0..workers).map(start).collect(), turn: 0 }
        };
        Self { next: first, end, source }
    }
}

impl Iterator for Batches {
    /// An error where the file of an image cannot be read.
    type Item = Result<Batch>;

    /// # Panics
    /// Where a worker panicked.
    fn next(&mut self) -> Option<Result<Batch>> {
        if self.end.is_some_and(|end| self.next >= end) {
            return None;
        }
        self.next += 1;
        let _span = debug_span!("wait for batch").entered();
        Some(match &mut self.source {
            Source::Here(maker) => maker.make(self.next - 1),
            Source::Workers { channels, turn } => {
                let batch = channels[*turn].recv();
                *turn = (*turn + 1) % channels.len();
                batch.expect("a thread that prepares batches panicked")
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(batches: impl Iterator<Item = Result<Batch>>) -> Vec<Batch> {
        batches.map(|batch| batch.expect("images in memory")).collect()
    }

    fn loader(num_workers: usize) -> Loader {
        let count = 23;
        let pixels = (0..count * 12).map(|value| value as u8).collect();
        let labels = (0..count as u16).collect();
        let names = (0..count).map(|class| class.to_string()).collect();
        Loader {
            dataset: Arc::new(ImageDataset::new([2, 2], pixels, labels, names).expect("a set")),
            indices: (0..21).collect(),
            batch_size: 4,
            augmentation: Augmentation {
                crop_padding: 1,
                flip: true,
                cutout: 2,
                ..Augmentation::NONE
            },
            normalization: Normalization { mean: [0.5; 3], std: [0.5; 3] },
            order: Some(Purpose::Train),
            seed: 5,
            num_workers,
        }
    }

    #[test]
    fn every_image_comes_once_in_an_epoch_in_a_new_order() {
        let order = |epoch| -> Vec<i32> {
            all(loader(2).epoch(epoch, 0)).into_iter().flat_map(|batch| batch.labels).collect()
        };
        let mut sorted = order(0);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..21).collect::<Vec<i32>>());
        assert_ne!(order(0), order(1));
        let sizes: Vec<_> = all(loader(0).epoch(0, 0)).iter().map(|batch| batch.shape[0]).collect();
        assert_eq!(sizes, [4, 4, 4, 4, 4, 1]);
    }

    #[test]
    fn batches_depend_on_place_alone() {
        let unbroken = all(loader(0).epoch(3, 0));
        for workers in [0, 1, 2, 5] {
            let resumed = all(loader(workers).epoch(3, 2));
            assert_eq!(resumed, unbroken[2..], "{workers} workers");
        }
        for (step, batch) in unbroken.iter().enumerate() {
            assert_eq!(&loader(0).batch(3, step).expect("in memory"), batch, "step {step}");
        }
        let endless = all(loader(3).endless(3 * 6 + 1).take(7));
        assert_eq!(endless[..5], unbroken[1..]);
        assert_eq!(endless[5..], all(loader(0).epoch(4, 0).take(2)));
    }

    #[test]
    fn changes_follow_the_place_in_the_epoch() {
        let loader = Loader { indices: vec![7; 10].into(), ..loader(0) };
        let Loader { dataset, augmentation, normalization, seed, .. } = &loader;
        let found: Vec<f32> =
            all(loader.epoch(2, 0)).into_iter().flat_map(|batch| batch.images).collect();
        for (place, found) in (0..).zip(found.chunks_exact(12)) {
            let mut expected = [0.0; 12];
            let mut rng = stream_rng(*seed, Purpose::Train, 2, place);
            let pixels = dataset.pixels(7).expect("in memory");
            augmentation.apply(&pixels, [2, 2], normalization, &mut rng, &mut expected);
            assert_eq!(found, expected, "place {place}");
        }
    }

    #[test]
    fn without_an_order_images_come_as_listed() {
        let loader = Loader { order: None, augmentation: Augmentation::NONE, ..loader(1) };
        let labels: Vec<i32> =
            all(loader.epoch(0, 0)).into_iter().flat_map(|batch| batch.labels).collect();
        assert_eq!(labels, (0..21).collect::<Vec<i32>>());
    }

    #[test]
    fn past_the_end_and_without_images_there_are_no_batches() {
        let empty = Loader { indices: Vec::new().into(), ..loader(2) };
        for workers in [0, 2] {
            assert_eq!(loader(workers).epoch(0, 6).count(), 0);
            assert_eq!(loader(workers).epoch(0, 100).count(), 0);
            assert_eq!(Loader { num_workers: workers, ..empty.clone() }.epoch(1, 0).count(), 0);
        }
    }

    #[test]
    fn dropped_batches_let_go_of_the_images() {
        let loader = Loader { indices: vec![0; 100_000].into(), ..loader(3) };
        let mut batches = loader.endless(0);
        batches.next().expect("endless").expect("in memory");
        drop(batches);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while Arc::strong_count(&loader.dataset) > 1 {
            assert!(std::time::Instant::now() < deadline, "a worker still holds the images");
            std::thread::yield_now();
        }
    }

    #[test]
    #[should_panic(expected = "a thread that prepares batches panicked")]
    fn a_panic_of_a_worker_reaches_the_caller() {
        // Image 23 does not exist.
        let loader =
            Loader { indices: vec![0, 23].into(), batch_size: 1, order: None, ..loader(2) };
        loader.epoch(0, 0).count();
    }

    proptest! {
        #[test]
        fn any_part_of_any_run_is_the_same(
            images in 1..40_u32,
            batch_size in 1..12_usize,
            num_workers in 0..5_usize,
            from in 0..30_u64,
            seed: u64,
        ) {
            let indices: Vec<u32> = (0..images).map(|image| image * 5 % 23).collect();
            let whole = Loader { indices: indices.into(), batch_size, seed, ..loader(0) };
            let steps = whole.steps_per_epoch() as u64;
            let part = Loader { num_workers, ..whole.clone() };
            for (number, batch) in (from..).zip(part.endless(from).take(5)) {
                let expected = whole.batch(number / steps, (number % steps) as usize);
                prop_assert_eq!(batch.expect("in memory"), expected.expect("in memory"));
            }
        }
    }
}
