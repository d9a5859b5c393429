//! The retraining loop: the network of one genotype, trained from scratch, without I/O.

mod checkpoint;
mod event;
mod feed;
mod job;
mod progress;

use std::num::NonZeroUsize;

use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Tensor};
use ec_darts_space::Genotype;
use tracing::debug_span;

pub use event::{
    Measured, MeasuredOn, RetrainEpochReport, RetrainEvent, RetrainPhase, RetrainStepReport,
};

use self::feed::{RetrainFeed, parts};
use self::progress::{QueuedStep, RetrainProgress};
use super::course::{Course, Next};
use super::event::Done;
use super::job::Job;
use super::plan::{LoopPlan, PlannedPhase};
use super::score::{correct, correct_in_top, loss_and_correct};
use crate::Result;
use crate::batch::ImageBatch;
use crate::config::{RetrainConfig, Settings};
use crate::data::{Datasets, Purpose, stream_rng};
use crate::model::{ModelDescription, TrainedModel};
use crate::network::{EvaluationNetwork, check_size};
use crate::ops::DropPath;
use crate::optim::{WeightAverage, WeightOptimizer};
use crate::preflight::{MemoryNeed, Room};
use crate::snapshot::Snapshot;

/// Trains the network of a genotype from scratch, which gives the genotype its accuracy.
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
    course: Course<RetrainProgress>,
    feed: RetrainFeed,
    /// The network in evaluation mode: built for the first measured batch of an epoch, dropped
    /// after the last.
    evaluated: Option<EvaluationNetwork>,
}

impl Retraining {
    /// A retraining at its first step; the same weights on every device.
    ///
    /// # Errors
    /// [`crate::Error::ConfigValue`] where a setting is out of range or does not fit the images.
    pub fn new(
        config: RetrainConfig,
        genotype: &Genotype,
        data: &Datasets,
        device: &Device,
    ) -> Result<Self> {
        config.validate("the settings")?;
        config.data.check_images(&data.train)?;
        let skeleton = config.network.skeleton;
        check_size(config.network.stem, data.train.size(), skeleton.has_head())?;
        config.network.check_genotype(genotype)?;
        let device = device.clone().autodiff();
        let shape = config.network.evaluation(data.train.num_classes());
        let need = MemoryNeed::retraining(&config, genotype, &data.train);
        let kernels = need.kernels(&config.run, &Room::of(&device));
        let rng = &mut stream_rng(config.retrain.seed, Purpose::Weights, 0, 0);
        let network = shape.init(genotype, rng, &device).with_kernels(kernels);
        let decay = config.retrain.average_decay;
        let feed = RetrainFeed::new(&config, data)?;
        let plan = plan(&config, &feed);
        Ok(Self {
            average: decay.map(|decay| WeightAverage::new(&network, decay)),
            optimizer: WeightOptimizer::new(&config.weights.sgd()),
            course: Course::new(plan, RetrainProgress::default(), &device),
            feed,
            evaluated: None,
            genotype: genotype.clone(),
            config,
            device,
            network,
        })
    }

    /// The next event, or none when the retraining is over; works until there is one.
    ///
    /// # Errors
    /// As [`Self::work`].
    pub fn advance(&mut self) -> Result<Option<RetrainEvent>> {
        Job::advance(self)
    }

    /// Does the next piece of work: one step, or the end of an epoch.
    ///
    /// [`Self::take_events`] returns the events of the work.
    ///
    /// # Errors
    /// [`crate::Error::NonFinite`] where a loss was not finite, in this step or in earlier steps
    /// whose figures are read only now, or where an epoch left weights that are not finite; the
    /// retraining must not continue. [`crate::Error::Io`] and [`crate::Error::Data`] where the file
    /// of an image cannot be read.
    pub fn work(&mut self) -> Result<Done> {
        self.course.settle_if_due()?;
        match self.course.next() {
            Next::Step(RetrainPhase::Train) => self.train_step().map(|()| Done::Step),
            Next::Step(RetrainPhase::Measure) => self.measure_step().map(|()| Done::Step),
            Next::EndOfEpoch => {
                let report = self.epoch_report();
                self.course.close_epoch(report);
                Ok(Done::Epoch)
            }
            Next::Nothing => Ok(Done::Everything),
        }
    }

    /// The events since the last call, in their order. A saved retraining does not contain them.
    pub fn take_events(&mut self) -> Vec<RetrainEvent> {
        self.course.take_events()
    }

    /// Reads losses from the device every `steps` steps, in place of the default for the device.
    ///
    /// This changes only when events come; the retraining and the events themselves stay the same.
    pub fn with_read_every(mut self, steps: NonZeroUsize) -> Self {
        self.course.set_read_every(steps);
        self
    }

    /// The trained network: the average of the weights where the settings ask for one.
    pub fn network(&self) -> &EvaluationNetwork {
        self.average.as_ref().map_or(&self.network, |average| &average.module)
    }

    /// The trained network with its description.
    pub fn model(&self) -> TrainedModel {
        let (network, data) = (self.network().valid(), self.feed.train_data());
        let shape = self.config.network.evaluation(data.num_classes());
        let (genotype, name) = (self.genotype.clone(), self.config.data.dataset.name());
        let description = ModelDescription::of_images(genotype, &shape, data, name);
        let (data, digests) = (Some(self.config.data.clone()), Some(self.feed.digests().clone()));
        TrainedModel { description: ModelDescription { data, digests, ..description }, network }
    }

    /// The last measured accuracy, if any.
    pub fn measured(&self) -> Option<&Measured> {
        self.course.progress.measured.as_ref()
    }

    /// The genotype of the network.
    pub fn genotype(&self) -> &Genotype {
        &self.genotype
    }

    /// Settings of this retraining.
    pub fn config(&self) -> &RetrainConfig {
        &self.config
    }

    /// Number of finished steps, including those not told yet, and number of all steps of the
    /// retraining.
    pub fn position(&self) -> (u64, u64) {
        self.course.position()
    }

    /// The current epoch, counted from 0.
    pub fn epoch(&self) -> usize {
        self.course.epoch()
    }

    /// Reports of the finished epochs.
    pub fn history(&self) -> &[RetrainEpochReport] {
        self.course.history()
    }

    /// Learning rate of the current epoch, per step.
    fn learning_rate(&self) -> f64 {
        let epochs = self.config.retrain.epochs;
        self.config.weights.learning_rate_at(self.course.epoch(), epochs)
    }

    /// Probability of drop path in the current epoch.
    ///
    /// # Source
    /// DARTS, `cnn/train.py`: `drop_path_prob * epoch / epochs`.
    fn drop_path_prob(&self) -> f64 {
        let ramp = self.course.epoch() as f64 / self.config.retrain.epochs as f64;
        self.config.network.drop_path_prob * ramp
    }

    fn train_step(&mut self) -> Result<()> {
        let (epoch, step) = (self.course.place().epoch, self.course.place().step);
        let _span = debug_span!("step", step).entered();
        let batch = self.feed.train_batch(epoch, step)?;
        let images = batch.labels.len();
        let seed = self.config.retrain.seed;
        let rng = stream_rng(seed, Purpose::DropPath, epoch as u64, step as u64);
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
            if let (Some(weight), Some(side)) = (self.config.network.auxiliary_loss_weight, side) {
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
            average.update(&self.network, weight_steps(&self.course));
        }
        self.queue(images, shares, figures)
    }

    fn measure_step(&mut self) -> Result<()> {
        let step = self.course.place().step;
        let _span = debug_span!("step", step).entered();
        let batch = self.feed.measure_batch(step)?;
        let images = batch.labels.len();
        let batch = ImageBatch::new(batch, &self.device.clone().inner());
        let network = match self.evaluated.take() {
            Some(network) => network,
            None => self.network().valid(),
        };
        let logits = debug_span!("measure").in_scope(|| network.forward(batch.images.clone()));
        self.evaluated = Some(network);
        let figures = vec![correct(&logits, &batch), correct_in_top(5, &logits, &batch)];
        self.queue(images, Vec::new(), figures)
    }

    /// Stores the figures of a step, to be read later.
    fn queue(&mut self, images: usize, shares: Vec<f64>, figures: Vec<Tensor<1>>) -> Result<()> {
        let place = *self.course.place();
        let (steps_before, total_steps) = self.course.position();
        let report = RetrainStepReport {
            epoch: place.epoch,
            measuring: place.phase == RetrainPhase::Measure,
            step: place.step,
            total_step: steps_before + 1,
            total_steps,
            images,
            train_loss: None,
            learning_rate: self.learning_rate(),
        };
        let is_end = place.phase == RetrainPhase::Train && self.course.is_last_step();
        let broken = if is_end { self.broken() } else { None };
        let settled = self.course.took(QueuedStep { report, shares, broken }, figures);
        if self.course.is_phase_over() {
            self.evaluated = None;
        }
        settled
    }

    /// The name of a weight tensor that is not finite. The last step's loss was computed before its
    /// update and cannot show this.
    fn broken(&self) -> Option<String> {
        let mut snapshot = Snapshot::default();
        snapshot.save(&self.network, "network");
        snapshot.non_finite().map(str::to_string)
    }

    fn epoch_report(&mut self) -> RetrainEpochReport {
        let epoch = self.course.epoch();
        let progress = &self.course.progress;
        let measured = (self.course.place().phase == RetrainPhase::Measure).then(|| Measured {
            epoch,
            accuracy: progress.valid.accuracy(),
            top5: progress.valid_top5 as f64 / progress.valid.images.max(1) as f64,
            images: progress.valid.images,
            on: self.feed.measured_on(),
        });
        let report = RetrainEpochReport {
            epoch,
            epochs: self.config.retrain.epochs,
            learning_rate: self.learning_rate(),
            drop_path: self.drop_path_prob(),
            train_loss: progress.train.loss(),
            train_accuracy: progress.train.accuracy(),
            valid_accuracy: measured.as_ref().map(|measured| measured.accuracy),
            valid_top5: measured.as_ref().map(|measured| measured.top5),
            measured_on: measured.as_ref().map(|measured| measured.on),
        };
        if measured.is_some() {
            self.course.progress.measured = measured;
        }
        report
    }
}

/// Training in every epoch, measurement in some epochs and in the last.
fn plan(config: &RetrainConfig, feed: &RetrainFeed) -> LoopPlan<RetrainPhase> {
    let train = PlannedPhase { phase: RetrainPhase::Train, steps: feed.train_steps(), every: 1 };
    let every = config.retrain.measure_every;
    let measure = PlannedPhase { phase: RetrainPhase::Measure, steps: feed.measure_steps(), every };
    LoopPlan { epochs: config.retrain.epochs, phases: vec![train, measure] }
}

/// Number of steps on the weights since the retraining began.
fn weight_steps(course: &Course<RetrainProgress>) -> u64 {
    course.plan().steps_before(course.place(), |phase| phase == RetrainPhase::Train)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Batch;
    use crate::tensors::scalar;

    /// Computed by hand: logits 2, 1, 0 have the log softmax -0.407606, -1.407606, -2.407606. With
    /// label 1 and smoothing 0.3 the targets are 0.1, 0.8, 0.1, so the loss is 0.1 * 0.407606 + 0.8
    /// * 1.407606 + 0.1 * 2.407606.
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
}
