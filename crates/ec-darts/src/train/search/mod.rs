//! The search loop: one batch at a time, without I/O.

mod checkpoint;
mod job;
mod progress;
mod report;
mod stage;
mod steps;
mod widen;

use std::num::NonZeroUsize;
use std::sync::Arc;

use burn::tensor::Device;
use ec_darts_space::{Genotype, SearchSpace};
use tracing::debug_span;

pub use self::progress::Best;
use self::progress::{QueuedStep, SearchProgress};
use self::stage::Start;
use self::steps::Measured;
use super::course::{Course, Next};
use super::event::{Done, EpochReport, Event, Phase, StepReport};
use super::feed::Feed;
use super::job::Job;
use super::plan::{LoopPlan, PlannedPhase};
use crate::Result;
use crate::architect::Architect;
use crate::architecture::{ArchitectureParameters, Strength};
use crate::config::{Order, SearchConfig, Settings};
use crate::data::{Batch, ImageDataset};
use crate::network::{Supernet, check_size};
use crate::optim::WeightOptimizer;
use crate::preflight::{MemoryNeed, Room};
use crate::rule::Rule;
use crate::snapshot::Snapshot;
use crate::transition::{AuxiliaryModel, induce};

/// The bilevel search of EC-DARTS; with other settings, that of DARTS and of other rules.
///
/// ```text
/// for each epoch:
///     for each training batch:                                      phase Supernet
///         alpha <- alpha - Adam(grad_alpha L_val(w, alpha))         interleaved order
///         w <- w - SGD(grad_w L_train(w, alpha))
///     auxiliary model <- supernet restricted to genotype(alpha)
///     for each training batch: w_aux <- w_aux - SGD(grad L_train)   phase Auxiliary
///     if its validation accuracy beats the best: w <- w_aux
///     for each validation batch: alpha step                         sequential order only
/// ```
///
/// A search does not depend on the threads of its steps: it may move between threads at any time.
///
/// ```
/// use std::sync::Arc;
///
/// use burn::tensor::Device;
/// use ec_darts::config::{DataConfig, SearchConfig};
/// use ec_darts::data::{DatasetKind, ImageDataset};
/// use ec_darts::train::{Done, Search};
///
/// let pixels = [[10; 3 * 64], [250; 3 * 64]].concat().repeat(8);
/// let names = ["dark", "bright"].map(String::from).to_vec();
/// let images = Arc::new(ImageDataset::new([8, 8], pixels, [0, 1].repeat(8), names)?);
/// let mut config = SearchConfig::quick();
/// config.data = DataConfig::new(DatasetKind::Memory);
/// (config.network.init_channels, config.network.num_cells) = (2, 3);
/// (config.search.epochs, config.search.batch_size) = (1, 8);
///
/// let device = Device::flex();
/// let mut search = Search::new(config.clone(), images.clone(), &device)?;
/// search.work()?;
/// // Stopped after a step, and resumed from bytes.
/// let bytes = search.save()?;
/// let mut search = Search::from_bytes(config, images, &device, &bytes)?;
/// while search.work()? != Done::Everything {}
/// println!("{}", search.best().expect("an epoch is over").genotype);
/// # Ok::<(), ec_darts::Error>(())
/// ```
///
/// # Source
/// EC-DARTS, Algorithm 1; the order of alpha and weights as in DARTS, Algorithm 1
/// (docs/deviations.md, `order`).
pub struct Search {
    config: SearchConfig,
    space: SearchSpace,
    device: Device,
    num_classes: usize,
    /// The larger side of the images, in pixels.
    image_side: usize,
    supernet: Supernet,
    alpha: ArchitectureParameters,
    architect: Architect,
    weight_optimizer: WeightOptimizer,
    auxiliary: Option<Auxiliary>,
    course: Course<SearchProgress>,
    feed: Feed,
    /// The model in evaluation mode: built for the first measured batch of a phase, dropped after
    /// the last.
    measured: Option<Measured>,
}

/// The auxiliary model of the current transition.
struct Auxiliary {
    model: AuxiliaryModel,
    optimizer: WeightOptimizer,
}

impl Search {
    /// A search at its first step; the same weights and alpha on every device.
    ///
    /// # Errors
    /// [`crate::Error::ConfigValue`] where a setting is out of range or does not fit the data.
    pub fn new(config: SearchConfig, data: Arc<ImageDataset>, device: &Device) -> Result<Self> {
        config.validate("the settings")?;
        config.data.check_images(&data)?;
        check_size(config.network.stem, data.size(), false)?;
        let space = config.network.space()?;
        let device = device.clone().autodiff();
        let num_classes = data.num_classes();
        let [height, width] = data.size();
        let image_side = height.max(width);
        let need = MemoryNeed::new(&config, &data)?;
        let kernels = need.kernels(&config.run, &Room::of(&device));
        let start = Start::new(&config, 0, &space, num_classes, &device);
        let Start { supernet, alpha, architect, weight_optimizer } = start.with_kernels(kernels);
        let feed = Feed::new(&config, data)?;
        let plan = plan(&config, &feed);
        Ok(Self {
            course: Course::new(plan, SearchProgress::default(), &device),
            feed,
            auxiliary: None,
            measured: None,
            config,
            space,
            device,
            num_classes,
            image_side,
            supernet,
            alpha,
            architect,
            weight_optimizer,
        })
    }

    /// The next event, or none when the search is over; works until there is one.
    ///
    /// # Errors
    /// As [`Self::work`].
    pub fn advance(&mut self) -> Result<Option<Event>> {
        Job::advance(self)
    }

    /// Does the next piece of work: one step, the gate's decision, or the end of an epoch.
    ///
    /// [`Self::take_events`] returns the events of the work.
    ///
    /// # Errors
    /// [`crate::Error::NonFinite`] where a loss was not finite, in this step or in earlier steps
    /// whose figures are read only now, or where a phase left weights that are not finite; the
    /// search must not continue.
    pub fn work(&mut self) -> Result<Done> {
        self.course.settle_if_due()?;
        if self.must_decide() {
            let report = self.decide();
            self.course.tell(Event::Transition(report));
            return Ok(Done::Transition);
        }
        match self.course.next() {
            Next::Step(phase) => self.step(phase).map(|()| Done::Step),
            Next::EndOfEpoch => {
                let report = self.epoch_report()?;
                self.course.close_epoch(report);
                self.stop_early();
                if self.begins_stage() {
                    self.next_stage()?;
                }
                Ok(Done::Epoch)
            }
            Next::Nothing => Ok(Done::Everything),
        }
    }

    /// The events since the last call, in their order. A saved search does not contain them.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.course.take_events()
    }

    /// Reads losses from the device every `steps` steps, in place of the default for the device.
    ///
    /// This changes only when events come; the search and the events themselves stay the same.
    pub fn with_read_every(mut self, steps: NonZeroUsize) -> Self {
        self.course.set_read_every(steps);
        self
    }

    /// The genotype that the search would return now: that of the best epoch, or of the last one.
    pub fn best(&self) -> Option<&Best> {
        self.course.progress.best.as_ref()
    }

    /// The genotype of the current alpha.
    ///
    /// # Errors
    /// [`crate::Error::NonFinite`] where alpha is not finite.
    pub fn genotype(&self, strength: Strength) -> Result<Genotype> {
        let found = self.rule().genotype_or_edges(&self.space, &self.alpha, strength);
        let found = found.map(|(genotype, _)| genotype);
        found.map_err(|_| self.course.non_finite("alpha", self.learning_rate()))
    }

    /// The genotype of an epoch by the strength that this search uses.
    fn genotype_of<'a>(&self, report: &'a EpochReport) -> &'a Genotype {
        match self.config.search.strength {
            Strength::Mixing => &report.genotype_mixing,
            Strength::Alpha => &report.genotype_alpha,
        }
    }

    /// Settings of this search.
    pub fn config(&self) -> &SearchConfig {
        &self.config
    }

    /// Primitives and topology of the search, with the candidates of the current stage.
    pub fn space(&self) -> &SearchSpace {
        &self.space
    }

    /// The current supernet.
    pub fn supernet(&self) -> &Supernet {
        &self.supernet
    }

    /// The current alpha.
    pub fn alpha(&self) -> &ArchitectureParameters {
        &self.alpha
    }

    /// Number of finished steps, including those not told yet, and number of all steps of the
    /// search.
    pub fn position(&self) -> (u64, u64) {
        self.course.position()
    }

    /// The current epoch, counted from 0.
    pub fn epoch(&self) -> usize {
        self.course.epoch()
    }

    /// Reports of the finished epochs.
    pub fn history(&self) -> &[EpochReport] {
        self.course.history()
    }

    /// The rule in the current epoch.
    pub fn rule(&self) -> Rule {
        self.config.rule_at(self.course.epoch())
    }

    fn learning_rate(&self) -> f64 {
        self.config.learning_rate_at(self.course.epoch())
    }

    /// Queues one step on the device and stores its figures, to be read later.
    fn step(&mut self, phase: Phase) -> Result<()> {
        let place = *self.course.place();
        let _span = debug_span!("step", step = place.step).entered();
        let batches = self.feed.next(phase, place.epoch, place.step)?;
        if phase == Phase::Auxiliary && place.step == 0 {
            self.induce()?;
        }
        let learning_rate = self.learning_rate();
        let count = |batch: &Batch| batch.labels.len();
        let alpha_images = batches.valid.as_ref().map(count);
        let model_images = batches.model.as_ref().map(count);
        let mut figures = Vec::new();
        // The second order unrolls a step on the batch for the weights.
        let train = batches.train_of_alpha.or_else(|| batches.model.clone());
        let mut of_model = Vec::new();
        let weights_first = self.config.search.order == Order::WeightsFirst;
        let mut alpha = batches.valid;
        if let Some(valid) = alpha.take_if(|_| !weights_first) {
            figures.push(self.alpha_step(valid, train.as_ref(), learning_rate));
        }
        if let Some(batch) = batches.model {
            match phase {
                Phase::Supernet => of_model.extend(self.supernet_step(batch, learning_rate)),
                Phase::Auxiliary => of_model.extend(self.auxiliary_step(batch, learning_rate)),
                _ => of_model.extend(self.measure(batch)),
            }
        }
        if let Some(valid) = alpha {
            figures.push(self.alpha_step(valid, train.as_ref(), learning_rate));
        }
        figures.extend(of_model);
        let (steps_before, total_steps) = self.course.position();
        let report = StepReport {
            epoch: place.epoch,
            stage: self.stage_number(),
            phase,
            step: place.step,
            num_steps: self.course.plan().steps_at(&place),
            total_step: steps_before + 1,
            total_steps,
            images: alpha_images.unwrap_or(0) + model_images.unwrap_or(0),
            train_loss: None,
            valid_loss: None,
            learning_rate,
        };
        let broken = if self.course.is_last_step() { self.broken(phase) } else { None };
        let step = QueuedStep { report, alpha_images, model_images, broken };
        let settled = self.course.took(step, figures);
        if self.course.is_phase_over() {
            self.measured = None;
        }
        settled
    }

    /// Induces the auxiliary model from the current alpha.
    fn induce(&mut self) -> Result<()> {
        let genotype = self.genotype(self.config.search.strength)?;
        self.auxiliary = Some(Auxiliary {
            model: induce(&self.supernet, &genotype),
            optimizer: WeightOptimizer::new(&self.config.weights.sgd()),
        });
        self.course.progress.induced = Some(genotype);
        Ok(())
    }

    /// The name of a weight tensor, moved by a phase, that is not finite. The last step's loss was
    /// computed before its update and cannot show this.
    fn broken(&self, phase: Phase) -> Option<String> {
        let mut snapshot = Snapshot::default();
        match (phase, &self.auxiliary) {
            (Phase::Supernet, _) => snapshot.save(&self.supernet, "supernet"),
            (Phase::Auxiliary, Some(auxiliary)) => snapshot.save(&auxiliary.model, "auxiliary"),
            _ => {}
        }
        snapshot.non_finite().map(str::to_string)
    }
}

/// The phases of every epoch, in their order.
fn plan(config: &SearchConfig, feed: &Feed) -> LoopPlan<Phase> {
    let (transition, sequential) =
        (config.transition.enabled, config.search.order == Order::Sequential);
    let all = [
        (Phase::Supernet, true),
        (Phase::MeasureSupernet, true),
        (Phase::Auxiliary, transition),
        (Phase::MeasureAuxiliary, transition),
        (Phase::Alpha, sequential),
    ];
    let planned = |(phase, _)| PlannedPhase { phase, steps: feed.num_steps(phase), every: 1 };
    let phases = all.into_iter().filter(|&(_, present)| present).map(planned).collect();
    LoopPlan { epochs: config.num_epochs(), phases }
}
