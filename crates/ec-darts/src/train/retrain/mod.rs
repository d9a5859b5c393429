//! The retraining loop: the network of one genotype, trained from scratch, without I/O.

mod checkpoint;
mod event;
mod feed;

use std::collections::VecDeque;
use std::num::NonZeroUsize;

use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Tensor};
use ec_darts_space::Genotype;
use serde::{Deserialize, Serialize};
use tracing::debug_span;

pub use event::{Measured, MeasuredOn, RetrainEpochReport, RetrainEvent, RetrainStepReport};

use self::feed::RetrainFeed;
use super::event::Done;
use super::ledger::Ledger;
use super::score::{correct, correct_in_top, loss_and_correct};
use super::state::Mean;
use crate::config::{RetrainConfig, Settings};
use crate::data::{Batch, Datasets, Purpose, stream_rng};
use crate::model::{ModelDescription, TrainedModel};
use crate::network::{EvaluationNetwork, check_size};
use crate::ops::DropPath;
use crate::optim::{SgdSettings, WeightAverage, WeightOptimizer, warmup};
use crate::preflight::{MemoryNeed, Room};
use crate::tensors::ImageBatch;
use crate::{Error, Result};

/// Trains the network of a genotype from scratch: what gives the genotype its accuracy.
///
/// ```text
/// for each epoch:
///     for each training batch:
///         loss = L(classifier) + auxiliary_loss_weight * L(auxiliary head)
///         w <- w - SGD(grad_w loss)
///     accuracy on images that were not trained on, in evaluation mode
/// ```
/// `L` is the cross entropy with label smoothing; drop path rises over the epochs.
///
/// ```
/// use burn::tensor::Device;
/// use ec_darts::config::{DataConfig, RetrainConfig};
/// use ec_darts::data::{DatasetKind, Datasets, ImageDataset};
/// use ec_darts::train::{Done, Retraining};
/// use ec_darts_space::Preset;
///
/// let set = |count: usize| {
///     let pixels = [[10; 3 * 64], [250; 3 * 64]].concat().repeat(count);
///     let names = ["dark", "bright"].map(String::from).to_vec();
///     ImageDataset::new([8, 8], pixels, [0, 1].repeat(count), names)
/// };
/// let data = Datasets::new(set(8)?, set(2)?)?;
/// let mut config = RetrainConfig::quick();
/// config.data = DataConfig::new(DatasetKind::Memory);
/// (config.network.init_channels, config.network.num_cells) = (2, 3);
/// (config.retrain.epochs, config.retrain.batch_size) = (1, 8);
/// let genotype = Preset::find("darts_v2").expect("a preset").genotype();
/// let mut retraining = Retraining::new(config, &genotype, &data, &Device::flex())?;
/// while retraining.work()? != Done::Everything {}
/// let bytes = retraining.model().to_bytes()?;
/// # assert!(!bytes.is_empty());
/// # Ok::<(), ec_darts::Error>(())
/// ```
///
/// # Source
/// EC-DARTS, section 5.3; DARTS, `cnn/train.py` and `cnn/train_imagenet.py`.
pub struct Retraining {
    config: RetrainConfig,
    genotype: Genotype,
    device: Device,
    network: EvaluationNetwork,
    average: Option<WeightAverage<EvaluationNetwork>>,
    optimizer: WeightOptimizer,
    progress: Progress,
    feed: RetrainFeed,
    ledger: Ledger<QueuedStep>,
    told: VecDeque<RetrainEvent>,
    /// In evaluation mode: built for the first measured batch of an epoch, dropped after the last.
    evaluated: Option<EvaluationNetwork>,
}

/// A step that was queued on the device, and what its figures are.
///
/// In their order: of each part of a training batch its loss and the images with the right class, then
/// the norm of the gradient; of a measured batch the images with the right class, and those with it
/// among the first five.
struct QueuedStep {
    /// Complete but for the loss.
    report: RetrainStepReport,
    /// Fraction of the batch in each of its parts.
    shares: Vec<f64>,
}

/// The place in the retraining, and what was summed up since the epoch began.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Progress {
    /// Counted from 0.
    epoch: usize,
    /// Whether the epoch's training steps are done.
    measuring: bool,
    /// Next step of training or measurement.
    step: usize,
    /// Steps taken since the retraining began, measurements included.
    total_step: u64,
    /// Steps on the weights since the retraining began.
    weight_steps: u64,
    train: Mean,
    /// In evaluation mode.
    valid: Mean,
    valid_top5: u64,
    /// At the last measurement.
    measured: Option<Measured>,
}

impl Retraining {
    /// A retraining at its first step; the same weights on every device.
    ///
    /// # Errors
    /// [`Error::ConfigValue`] where a setting is out of range or does not fit the images.
    pub fn new(
        config: RetrainConfig,
        genotype: &Genotype,
        data: &Datasets,
        device: &Device,
    ) -> Result<Self> {
        config.validate("the settings")?;
        config.data.check_images(&data.train)?;
        check_size(config.network.stem, data.train.size(), true)?;
        let device = device.clone().autodiff();
        let shape = config.network.evaluation(data.train.num_classes());
        let need = MemoryNeed::retraining(&config, genotype, &data.train);
        let kernels = need.kernels(&config.run, &Room::of(&device));
        let rng = &mut stream_rng(config.retrain.seed, Purpose::Weights, 0, 0);
        let network = shape.init(genotype, rng, &device).with_kernels(kernels);
        let decay = config.retrain.average_decay;
        let weights = &config.weights;
        let settings = SgdSettings {
            momentum: weights.momentum,
            weight_decay: weights.weight_decay,
            clip_norm: weights.clip_norm,
        };
        Ok(Self {
            average: decay.map(|decay| WeightAverage::new(&network, decay)),
            optimizer: WeightOptimizer::new(&settings),
            progress: Progress::default(),
            feed: RetrainFeed::new(&config, data)?,
            ledger: Ledger::new(&device),
            told: VecDeque::new(),
            evaluated: None,
            genotype: genotype.clone(),
            config,
            device,
            network,
        })
    }

    /// The next event, or nothing when the retraining is over; works until there is one.
    ///
    /// # Errors
    /// As [`Self::work`].
    pub fn advance(&mut self) -> Result<Option<RetrainEvent>> {
        loop {
            if let Some(event) = self.told.pop_front() {
                return Ok(Some(event));
            }
            let done = self.work();
            // Steps before the one that failed are told first; the error comes again.
            if self.told.is_empty() && done? == Done::Everything {
                return Ok(None);
            }
        }
    }

    /// Does the next piece of work: one step, or the end of an epoch.
    ///
    /// What there is to tell then is in [`Self::take_events`].
    ///
    /// # Errors
    /// [`Error::NonFinite`] where a loss was no number in this step or one of those before whose figures
    /// are read only now; the retraining must not go on. [`Error::Io`] and [`Error::Data`] where the
    /// file of an image cannot be read.
    pub fn work(&mut self) -> Result<Done> {
        if self.ledger.is_due() {
            self.settle()?;
        }
        if self.progress.epoch == self.config.retrain.epochs {
            return Ok(Done::Everything);
        }
        if !self.progress.measuring {
            if self.progress.step < self.feed.train_steps() {
                self.train_step()?;
                return self.after_step(self.feed.train_steps());
            }
            (self.progress.measuring, self.progress.step) = (true, 0);
        }
        if self.measures() && self.progress.step < self.feed.measure_steps() {
            self.measure_step()?;
            return self.after_step(self.feed.measure_steps());
        }
        let report = self.close_epoch();
        self.told.push_back(RetrainEvent::Epoch(Box::new(report)));
        Ok(Done::Epoch)
    }

    /// Settles where it is time to, and always after the last of so many steps.
    fn after_step(&mut self, num_steps: usize) -> Result<Done> {
        let over = self.progress.step == num_steps;
        if over {
            self.evaluated = None;
        }
        if over || self.ledger.is_due() {
            self.settle()?;
        }
        Ok(Done::Step)
    }

    /// The events since the last call, in their order. A saved retraining does not hold them.
    pub fn take_events(&mut self) -> Vec<RetrainEvent> {
        self.told.drain(..).collect()
    }

    /// Reads losses from the device every so many steps instead of what suits the device.
    ///
    /// Neither the retraining nor its events depend on it, but for when the events come.
    pub fn with_read_every(mut self, steps: NonZeroUsize) -> Self {
        self.ledger.set_read_every(steps);
        self
    }

    /// Whether the next step measures.
    pub(super) fn is_measuring(&self) -> bool {
        self.progress.measuring || self.progress.step == self.feed.train_steps()
    }

    /// Reads the figures of all steps so far, adds them up and tells them.
    fn settle(&mut self) -> Result<()> {
        let _span = debug_span!("read figures").entered();
        let (progress, told) = (&mut self.progress, &mut self.told);
        self.ledger.settle(|step, figures| {
            told.push_back(RetrainEvent::Step(progress.settle(step, figures)?));
            Ok(())
        })
    }

    /// The trained network: the average of the weights where the settings ask for one.
    pub fn network(&self) -> &EvaluationNetwork {
        self.average.as_ref().map_or(&self.network, |average| &average.module)
    }

    /// The trained network, and all that is needed to use it.
    pub fn model(&self) -> TrainedModel {
        let (network, data) = (self.network().valid(), self.feed.train_data());
        let shape = self.config.network.evaluation(data.num_classes());
        let (genotype, name) = (self.genotype.clone(), self.config.data.dataset.name());
        let description = ModelDescription::of_images(genotype, &shape, data, name);
        let (data, digests) = (Some(self.config.data.clone()), Some(self.feed.digests().clone()));
        TrainedModel { description: ModelDescription { data, digests, ..description }, network }
    }

    /// Accuracy at the last measurement, if there was one.
    pub fn measured(&self) -> Option<&Measured> {
        self.progress.measured.as_ref()
    }

    /// The genotype that is retrained.
    pub fn genotype(&self) -> &Genotype {
        &self.genotype
    }

    /// Settings of this retraining.
    pub fn config(&self) -> &RetrainConfig {
        &self.config
    }

    /// Steps taken, also those that are not told yet, and steps of the whole retraining.
    pub fn position(&self) -> (u64, u64) {
        let retrain = &self.config.retrain;
        let measured = (0..retrain.epochs).filter(|&epoch| self.is_measured(epoch)).count();
        let train = retrain.epochs * self.feed.train_steps();
        let all = train + measured * self.feed.measure_steps();
        (self.progress.total_step, all as u64)
    }

    /// The epoch under way, counted from 0.
    pub fn epoch(&self) -> usize {
        self.progress.epoch
    }

    fn is_measured(&self, epoch: usize) -> bool {
        let retrain = &self.config.retrain;
        (epoch + 1).is_multiple_of(retrain.measure_every) || epoch + 1 == retrain.epochs
    }

    fn measures(&self) -> bool {
        self.is_measured(self.progress.epoch)
    }

    /// Learning rate of the epoch under way, per step.
    ///
    /// ```text
    /// schedule(epoch) * min(1, (epoch + 1) / warmup_epochs)
    /// ```
    ///
    /// # Source
    /// Warm-up: PC-DARTS, `train_imagenet.py`.
    fn learning_rate(&self) -> f64 {
        let (weights, epoch) = (&self.config.weights, self.progress.epoch);
        let (max, min) = (weights.learning_rate, weights.min_learning_rate);
        let rate = weights.schedule.learning_rate(max, min, epoch, self.config.retrain.epochs);
        rate * warmup(epoch, weights.warmup_epochs)
    }

    /// Probability of drop path in the epoch under way.
    ///
    /// # Source
    /// DARTS, `cnn/train.py`: `drop_path_prob * epoch / epochs`.
    fn drop_path_prob(&self) -> f64 {
        let ramp = self.progress.epoch as f64 / self.config.retrain.epochs as f64;
        self.config.network.drop_path_prob * ramp
    }

    fn train_step(&mut self) -> Result<()> {
        let _span = debug_span!("step", step = self.progress.step).entered();
        let batch = self.feed.train_batch(self.progress.epoch, self.progress.step)?;
        let images = batch.labels.len();
        let rng = stream_rng(
            self.config.retrain.seed,
            Purpose::DropPath,
            self.progress.epoch as u64,
            self.progress.step as u64,
        );
        let mut drop_path = DropPath::new(self.drop_path_prob(), rng);
        let smoothing = self.config.retrain.label_smoothing;
        let mut gradients = GradientsAccumulator::new();
        let (mut shares, mut figures) = (Vec::new(), Vec::new());
        for part in parts(batch, self.config.retrain.accumulation) {
            let part = ImageBatch::new(part, &self.device);
            let share = part.len() as f64 / images as f64;
            let forward = || self.network.forward_training(part.images.clone(), &mut drop_path);
            let (logits, side) = debug_span!("forward").in_scope(forward);
            let (mut loss, hits) = loss_and_correct(&logits, &part, smoothing);
            shares.push(share);
            figures.extend([loss.clone().inner(), hits]);
            if let Some(weight) = self.config.network.auxiliary_loss_weight {
                loss = loss + loss_and_correct(&side, &part, smoothing).0 * weight;
            }
            let backward = || GradientsParams::from_grads((loss * share).backward(), &self.network);
            gradients.accumulate(&self.network, debug_span!("backward").in_scope(backward));
        }
        let rate = self.learning_rate();
        let step = || self.optimizer.step(rate, self.network.clone(), gradients.grads());
        let (network, norm) = debug_span!("optimizer").in_scope(step);
        figures.push(norm);
        self.network = network;
        if let Some(average) = &mut self.average {
            average.update(&self.network, self.progress.weight_steps);
        }
        self.progress.weight_steps += 1;
        self.queue(images, shares, figures);
        Ok(())
    }

    fn measure_step(&mut self) -> Result<()> {
        let _span = debug_span!("step", step = self.progress.step).entered();
        let batch = self.feed.measure_batch(self.progress.step)?;
        let images = batch.labels.len();
        let batch = ImageBatch::new(batch, &self.device.clone().inner());
        let network = match self.evaluated.take() {
            Some(network) => network,
            None => self.network().valid(),
        };
        let logits = debug_span!("measure").in_scope(|| network.forward(batch.images.clone()));
        self.evaluated = Some(network);
        let figures = vec![correct(&logits, &batch), correct_in_top(5, &logits, &batch)];
        self.queue(images, Vec::new(), figures);
        Ok(())
    }

    /// Leaves the figures of a step in the ledger.
    fn queue(&mut self, images: usize, shares: Vec<f64>, figures: Vec<Tensor<1>>) {
        self.progress.step += 1;
        self.progress.total_step += 1;
        let (total_step, total_steps) = self.position();
        let report = RetrainStepReport {
            epoch: self.progress.epoch,
            measuring: self.progress.measuring,
            step: self.progress.step - 1,
            total_step,
            total_steps,
            images,
            train_loss: None,
            learning_rate: self.learning_rate(),
        };
        self.ledger.push(QueuedStep { report, shares }, figures);
    }

    fn close_epoch(&mut self) -> RetrainEpochReport {
        let epoch = self.progress.epoch;
        let measured = self.measures().then(|| Measured {
            epoch,
            accuracy: self.progress.valid.accuracy(),
            top5: self.progress.valid_top5 as f64 / self.progress.valid.images.max(1) as f64,
            images: self.progress.valid.images,
            on: self.feed.measured_on(),
        });
        let report = RetrainEpochReport {
            epoch,
            epochs: self.config.retrain.epochs,
            learning_rate: self.learning_rate(),
            drop_path: self.drop_path_prob(),
            train_loss: self.progress.train.loss(),
            train_accuracy: self.progress.train.accuracy(),
            valid_accuracy: measured.as_ref().map(|measured| measured.accuracy),
            valid_top5: measured.as_ref().map(|measured| measured.top5),
            measured_on: measured.as_ref().map(|measured| measured.on),
        };
        self.progress = Progress {
            epoch: epoch + 1,
            total_step: self.progress.total_step,
            weight_steps: self.progress.weight_steps,
            measured: measured.or(self.progress.measured.take()),
            ..Progress::default()
        };
        report
    }
}

impl Progress {
    /// Adds what a step came to, and completes its report.
    fn settle(&mut self, step: &QueuedStep, figures: &[f32]) -> Result<RetrainStepReport> {
        let mut report = step.report.clone();
        if report.measuring {
            self.valid.count(figures[0] as u64, report.images);
            self.valid_top5 += figures[1] as u64;
            return Ok(report);
        }
        let (parts, norm) = figures.split_at(2 * step.shares.len());
        let (mut loss, mut hits) = (0.0, 0);
        for (part, share) in parts.chunks(2).zip(&step.shares) {
            loss += share * f64::from(part[0]);
            hits += part[1] as u64;
        }
        for (what, value) in [("the training loss", loss), ("the gradient", f64::from(norm[0]))] {
            if !value.is_finite() {
                return Err(Error::NonFinite {
                    what: what.to_string(),
                    epoch: report.epoch,
                    phase: "training",
                    step: report.step,
                    learning_rate: report.learning_rate,
                });
            }
        }
        self.train.add(loss, hits, report.images);
        report.train_loss = Some(loss);
        Ok(report)
    }
}

/// A batch in up to `count` parts of almost equal size, in order.
fn parts(batch: Batch, count: usize) -> Vec<Batch> {
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
    use crate::tensors::scalar;

    /// By hand: logits 2, 1, 0 have the log softmax -0.407606, -1.407606, -2.407606. With label 1
    /// and smoothing 0.3 the targets are 0.1, 0.8, 0.1, so the loss is 0.1 * 0.407606 + 0.8 *
    /// 1.407606 + 0.1 * 2.407606.
    #[test]
    fn label_smoothing_by_hand() {
        let device = Device::flex();
        let batch = Batch { images: vec![0.0; 3], labels: vec![1], shape: [1, 3, 1, 1] };
        let batch = ImageBatch::new(batch, &device);
        let logits = Tensor::<2>::from_floats([[2.0, 1.0, 0.0]], &device);
        let loss = |smoothing| scalar(loss_and_correct(&logits, &batch, smoothing).0);
        assert!((loss(0.3) - 1.407606).abs() < 1e-5, "{}", loss(0.3));
        assert!((loss(0.0) - 1.407606).abs() < 1e-5);
        let skewed = ImageBatch { labels: batch.labels.clone() - 1, ..batch.clone() };
        let found = scalar(loss_and_correct(&logits, &skewed, 0.3).0);
        let expected = 0.8 * 0.407606 + 0.1 * 1.407606 + 0.1 * 2.407606;
        assert!((found - expected).abs() < 1e-5, "{found}");
    }

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
