//! The search loop: one batch at a time, without I/O.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use ec_darts_space::{CellKind, Genotype, Primitive, SearchSpace};
use tracing::debug_span;

use super::event::{CellReport, Done, EpochReport, Event, Phase, StepReport, TransitionReport};
use super::feed::Feed;
use super::ledger::Ledger;
use super::score::loss_and_correct;
use super::state::{Best, Progress, QueuedStep};
use crate::architect::{Architect, BilevelBatch, RelaxedModel};
use crate::architecture::{ArchitectureParameters, Strength};
use crate::config::{Order, SearchConfig, Settings};
use crate::data::{Batch, ImageDataset, Purpose, stream_rng};
use crate::network::{Supernet, SupernetConfig, check_size};
use crate::optim::{AdamSettings, SgdSettings, WeightOptimizer, cosine_learning_rate, warmup};
use crate::preflight::{MemoryNeed, Room};
use crate::relaxation::Mixing;
use crate::tensors::{ImageBatch, to_vec};
use crate::transition::{AuxiliaryModel, induce, return_weights};
use crate::{Error, Result};

/// EC-DARTS' bilevel search, and with other settings DARTS'.
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
/// A search does not depend on the thread that takes a step: it may move between threads at any time.
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
    pub(super) config: SearchConfig,
    pub(super) space: SearchSpace,
    pub(super) device: Device,
    pub(super) supernet: Supernet,
    pub(super) alpha: ArchitectureParameters,
    pub(super) architect: Architect,
    pub(super) weight_optimizer: WeightOptimizer,
    pub(super) auxiliary: Option<Auxiliary>,
    pub(super) progress: Progress,
    pub(super) feed: Feed,
    ledger: Ledger<QueuedStep>,
    told: VecDeque<Event>,
    measured: Option<Measured>,
}

/// What a phase measures, in evaluation mode: built for its first batch, dropped after its last.
#[allow(clippy::large_enum_variant, reason = "one of them in a search")]
enum Measured {
    Supernet(Supernet, Mixing),
    Auxiliary(AuxiliaryModel),
}

/// The auxiliary model of a transition under way.
pub(super) struct Auxiliary {
    pub model: AuxiliaryModel,
    pub optimizer: WeightOptimizer,
}

impl Search {
    /// A search at its first step; the same weights and alpha on every device.
    ///
    /// # Errors
    /// [`Error::ConfigValue`] where a setting is out of range or does not fit the data.
    pub fn new(config: SearchConfig, data: Arc<ImageDataset>, device: &Device) -> Result<Self> {
        config.validate("the settings")?;
        config.data.check_images(&data)?;
        check_size(config.network.stem, data.size(), false)?;
        let space = config.network.space()?;
        let device = device.clone().autodiff();
        let network = SupernetConfig {
            space: space.clone(),
            stem: config.network.stem,
            init_channels: config.network.init_channels,
            num_cells: config.network.num_cells,
            num_classes: data.num_classes(),
        };
        let seed = config.search.seed;
        let need = MemoryNeed::new(&config, &data)?;
        let kernels = need.kernels(&config.run, &Room::of(&device));
        let supernet = network
            .init(&mut stream_rng(seed, Purpose::Weights, 0, 0), &device)
            .with_kernels(kernels);
        let mut rng = stream_rng(seed, Purpose::Alpha, 0, 0);
        let alpha = ArchitectureParameters::new(&space, config.alpha.init_scale, &mut rng, &device);
        let adam = AdamSettings {
            beta1: config.alpha.beta1,
            beta2: config.alpha.beta2,
            weight_decay: config.alpha.weight_decay,
        };
        let architect = Architect::new(config.search.architect, config.alpha.learning_rate, &adam)
            .with_clip_norm(config.alpha.clip_norm);
        Ok(Self {
            weight_optimizer: WeightOptimizer::new(&sgd(&config)),
            feed: Feed::new(&config, data)?,
            progress: Progress::new(),
            auxiliary: None,
            ledger: Ledger::new(&device),
            told: VecDeque::new(),
            measured: None,
            config,
            space,
            device,
            supernet,
            alpha,
            architect,
        })
    }

    /// The next event, or nothing when the search is over; works until there is one.
    ///
    /// # Errors
    /// As [`Self::work`].
    pub fn advance(&mut self) -> Result<Option<Event>> {
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

    /// Does the next piece of work: one step, the gate's decision, or the end of an epoch.
    ///
    /// What there is to tell then is in [`Self::take_events`].
    ///
    /// # Errors
    /// [`Error::NonFinite`] where a loss was no number in this step or one of those before whose figures
    /// are read only now; the search must not go on.
    pub fn work(&mut self) -> Result<Done> {
        if self.ledger.is_due() {
            self.settle()?;
        }
        while self.progress.epoch < self.config.search.epochs {
            let phase = self.progress.phase;
            if self.progress.step < self.num_steps(phase) {
                self.step(phase)?;
                let over = self.progress.step == self.num_steps(phase);
                if over {
                    self.measured = None;
                }
                if over || self.ledger.is_due() {
                    self.settle()?;
                }
                return Ok(Done::Step);
            }
            if phase == Phase::MeasureAuxiliary && self.progress.transition.is_none() {
                let report = self.decide()?;
                self.told.push_back(Event::Transition(report));
                return Ok(Done::Transition);
            }
            match self.next_phase() {
                Some(next) => self.enter(next)?,
                None => {
                    let report = self.close_epoch()?;
                    self.told.push_back(Event::Epoch(Box::new(report)));
                    return Ok(Done::Epoch);
                }
            }
        }
        Ok(Done::Everything)
    }

    /// The events since the last call, in their order. A saved search does not hold them.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.told.drain(..).collect()
    }

    /// Reads losses from the device every so many steps instead of what suits the device.
    ///
    /// Neither the search nor its events depend on it, but for when the events come.
    pub fn with_read_every(mut self, steps: NonZeroUsize) -> Self {
        self.ledger.set_read_every(steps);
        self
    }

    /// Reads the figures of all steps so far, adds them up and tells them.
    pub(super) fn settle(&mut self) -> Result<()> {
        let _span = debug_span!("read figures").entered();
        let (progress, told) = (&mut self.progress, &mut self.told);
        self.ledger.settle(|step, figures| {
            told.push_back(Event::Step(progress.settle(step, figures)?));
            Ok(())
        })
    }

    /// The genotype that the search would return now: of the best epoch, or the last one.
    pub fn best(&self) -> Option<&Best> {
        self.progress.best.as_ref()
    }

    /// The genotype of the current alpha.
    ///
    /// # Errors
    /// [`Error::NonFinite`] where alpha is no number any more.
    pub fn genotype(&self, strength: Strength) -> Result<Genotype> {
        self.alpha
            .genotype(&self.space, self.config.search.relaxation, strength)
            .map_err(|_| self.non_finite("alpha"))
    }

    /// Settings of this search.
    pub fn config(&self) -> &SearchConfig {
        &self.config
    }

    /// Primitives and topology searched over.
    pub fn space(&self) -> &SearchSpace {
        &self.space
    }

    /// The supernet as it stands.
    pub fn supernet(&self) -> &Supernet {
        &self.supernet
    }

    /// Alpha as it stands.
    pub fn alpha(&self) -> &ArchitectureParameters {
        &self.alpha
    }

    /// Steps taken, also those that are not told yet, and steps of the whole search.
    pub fn position(&self) -> (u64, u64) {
        (self.progress.total_step, self.total_steps())
    }

    /// The epoch under way, counted from 0.
    pub fn epoch(&self) -> usize {
        self.progress.epoch
    }

    pub(super) fn sgd(&self) -> SgdSettings {
        sgd(&self.config)
    }

    fn interleaved(&self) -> bool {
        self.config.search.order == Order::Interleaved
    }

    fn num_steps(&self, phase: Phase) -> usize {
        self.feed.num_steps(phase)
    }

    fn phases(&self) -> impl Iterator<Item = Phase> {
        let (transition, interleaved) = (self.config.transition.enabled, self.interleaved());
        let all = [
            (Phase::Supernet, true),
            (Phase::MeasureSupernet, true),
            (Phase::Auxiliary, transition),
            (Phase::MeasureAuxiliary, transition),
            (Phase::Alpha, !interleaved),
        ];
        all.into_iter().filter(|&(_, present)| present).map(|(phase, _)| phase)
    }

    /// The phase of the next step.
    pub(super) fn upcoming(&self) -> Phase {
        match self.progress.step < self.num_steps(self.progress.phase) {
            true => self.progress.phase,
            false => self.next_phase().unwrap_or(self.progress.phase),
        }
    }

    fn next_phase(&self) -> Option<Phase> {
        let current = self.progress.phase;
        self.phases().skip_while(|&phase| phase != current).nth(1)
    }

    fn total_steps(&self) -> u64 {
        let epoch: usize = self.phases().map(|phase| self.num_steps(phase)).sum();
        (epoch * self.config.search.epochs) as u64
    }

    fn learning_rate(&self) -> f64 {
        let weights = &self.config.weights;
        let (max, min) = (weights.learning_rate, weights.min_learning_rate);
        let epoch = self.progress.epoch;
        cosine_learning_rate(max, min, epoch, self.config.search.epochs)
            * warmup(epoch, weights.warmup_epochs)
    }

    fn non_finite(&self, what: &str) -> Error {
        Error::NonFinite {
            what: what.to_string(),
            epoch: self.progress.epoch,
            phase: self.progress.phase.label(),
            step: self.progress.step,
            learning_rate: self.learning_rate(),
        }
    }

    fn enter(&mut self, phase: Phase) -> Result<()> {
        self.progress.phase = phase;
        self.progress.step = 0;
        if phase == Phase::Auxiliary {
            let genotype = self.genotype(self.config.search.strength)?;
            self.auxiliary = Some(Auxiliary {
                model: induce(&self.supernet, &genotype),
                optimizer: WeightOptimizer::new(&self.sgd()),
            });
            self.progress.induced = Some(genotype);
        }
        Ok(())
    }

    /// Queues one step on the device and leaves its figures in the ledger.
    fn step(&mut self, phase: Phase) -> Result<()> {
        let _span = debug_span!("step", step = self.progress.step).entered();
        let batches = self.feed.next(phase, self.progress.epoch, self.progress.step)?;
        let learning_rate = self.learning_rate();
        let count = |batch: &Batch| batch.labels.len();
        let alpha_images = batches.valid.as_ref().map(count);
        let model_images = batches.model.as_ref().map(count);
        let mut figures = Vec::new();
        if let Some(valid) = batches.valid {
            // The second order unrolls the very weight step that follows.
            let train = batches.train_of_alpha.or_else(|| batches.model.clone());
            figures.push(self.alpha_step(valid, train, learning_rate));
        }
        if let Some(batch) = batches.model {
            match phase {
                Phase::Supernet => figures.extend(self.supernet_step(batch, learning_rate)),
                Phase::Auxiliary => figures.extend(self.auxiliary_step(batch, learning_rate)),
                _ => figures.extend(self.measure(batch)),
            }
        }
        let report = StepReport {
            epoch: self.progress.epoch,
            phase,
            step: self.progress.step,
            num_steps: self.num_steps(phase),
            total_step: self.progress.total_step + 1,
            total_steps: self.total_steps(),
            images: alpha_images.unwrap_or(0) + model_images.unwrap_or(0),
            train_loss: None,
            valid_loss: None,
            learning_rate,
        };
        self.ledger.push(QueuedStep { report, alpha_images, model_images }, figures);
        self.progress.step += 1;
        self.progress.total_step += 1;
        Ok(())
    }

    fn alpha_step(&mut self, valid: Batch, train: Option<Batch>, xi: f64) -> Tensor<1> {
        let _span = debug_span!("alpha step").entered();
        let batches = BilevelBatch {
            valid: ImageBatch::new(valid, &self.device),
            train: train.map(|train| ImageBatch::new(train, &self.device)),
        };
        let model = RelaxedModel { space: &self.space, relaxation: self.config.search.relaxation };
        let (alpha, loss) = self.architect.step(
            &model,
            self.alpha.clone(),
            &self.supernet,
            &batches,
            &mut self.weight_optimizer,
            xi,
        );
        self.alpha = alpha;
        loss
    }

    fn supernet_step(&mut self, batch: Batch, learning_rate: f64) -> [Tensor<1>; 3] {
        let _span = debug_span!("weight step").entered();
        let batch = ImageBatch::new(batch, &self.device);
        let relaxation = self.config.search.relaxation;
        let mixing = Mixing::new(&self.alpha, relaxation, self.space.topology()).detach();
        let forward = || self.supernet.forward(batch.images.clone(), &mixing);
        let logits = debug_span!("forward").in_scope(forward);
        let (loss, correct) = loss_and_correct(&logits, &batch, 0.0);
        let value = loss.clone().inner();
        let backward = || GradientsParams::from_grads(loss.backward(), &self.supernet);
        let gradients = debug_span!("backward").in_scope(backward);
        let step = || self.weight_optimizer.step(learning_rate, self.supernet.clone(), gradients);
        let (supernet, norm) = debug_span!("optimizer").in_scope(step);
        self.supernet = supernet;
        [value, correct, norm]
    }

    fn auxiliary_step(&mut self, batch: Batch, learning_rate: f64) -> [Tensor<1>; 3] {
        let _span = debug_span!("weight step").entered();
        let batch = ImageBatch::new(batch, &self.device);
        let Auxiliary { model, mut optimizer } =
            self.auxiliary.take().expect("the auxiliary phase begins with a model");
        let logits = debug_span!("forward").in_scope(|| model.forward(batch.images.clone()));
        let (loss, correct) = loss_and_correct(&logits, &batch, 0.0);
        let value = loss.clone().inner();
        let backward = || GradientsParams::from_grads(loss.backward(), &model);
        let gradients = debug_span!("backward").in_scope(backward);
        let step = || optimizer.step(learning_rate, model, gradients);
        let (model, norm) = debug_span!("optimizer").in_scope(step);
        self.auxiliary = Some(Auxiliary { model, optimizer });
        [value, correct, norm]
    }

    /// Loss and accuracy in evaluation mode, by the running statistics.
    fn measure(&mut self, batch: Batch) -> [Tensor<1>; 2] {
        let _span = debug_span!("measure").entered();
        let batch = ImageBatch::new(batch, &self.device.clone().inner());
        let images = batch.images.clone();
        let measured = self.measured.get_or_insert_with(|| match &self.auxiliary {
            Some(auxiliary) => Measured::Auxiliary(auxiliary.model.valid()),
            None => {
                let (alpha, relaxation) = (self.alpha.valid(), self.config.search.relaxation);
                let mixing = Mixing::new(&alpha, relaxation, self.space.topology());
                Measured::Supernet(self.supernet.valid(), mixing)
            }
        });
        let logits = match measured {
            Measured::Supernet(supernet, mixing) => supernet.forward(images, mixing),
            Measured::Auxiliary(model) => model.forward(images),
        };
        let (loss, correct) = loss_and_correct(&logits, &batch, 0.0);
        [loss, correct]
    }

    /// The gate: the auxiliary model's weights go back into the supernet where its validation
    /// accuracy beats the best so far, else they are dropped.
    fn decide(&mut self) -> Result<TransitionReport> {
        let auxiliary = self.auxiliary.take().expect("a measured auxiliary model");
        let genotype = self.progress.induced.take().expect("the genotype it was induced from");
        let valid_accuracy = self.progress.auxiliary.accuracy();
        let best_before = self.progress.best.as_ref().and_then(|best| best.accuracy);
        let accepted = best_before.is_none_or(|best| valid_accuracy > best);
        if accepted {
            self.supernet = return_weights(&self.supernet, &auxiliary.model);
            self.progress.best = Some(Best {
                epoch: self.progress.epoch,
                accuracy: Some(valid_accuracy),
                genotype: genotype.clone(),
            });
        }
        let report = TransitionReport {
            epoch: self.progress.epoch,
            genotype,
            train_loss: self.progress.auxiliary_train.loss(),
            train_accuracy: self.progress.auxiliary_train.accuracy(),
            valid_accuracy,
            best_before,
            accepted,
        };
        self.progress.transition = Some(report.clone());
        Ok(report)
    }

    fn close_epoch(&mut self) -> Result<EpochReport> {
        let genotype_mixing = self.genotype(Strength::Mixing)?;
        let genotype_alpha = self.genotype(Strength::Alpha)?;
        let read = match self.config.search.strength {
            Strength::Mixing => &genotype_mixing,
            Strength::Alpha => &genotype_alpha,
        };
        if !self.config.transition.enabled {
            let (epoch, genotype) = (self.progress.epoch, read.clone());
            self.progress.best = Some(Best { epoch, accuracy: None, genotype });
        }
        let kinds = [CellKind::Normal, CellKind::Reduction];
        let [normal, reduction] = kinds.map(|kind| self.cell_report(kind, read));
        let best = self.progress.best.as_ref().expect("an epoch without a transition sets it");
        let report = EpochReport {
            epoch: self.progress.epoch,
            epochs: self.config.search.epochs,
            learning_rate: self.learning_rate(),
            train_loss: self.progress.train.loss(),
            train_accuracy: self.progress.train.accuracy(),
            valid_loss: self.progress.valid_loss.loss(),
            supernet_accuracy: self.progress.supernet.accuracy(),
            transition: self.progress.transition.clone(),
            warnings: [(CellKind::Normal, &normal), (CellKind::Reduction, &reduction)]
                .into_iter()
                .filter(|(kind, report)| report.is_collapsing(read.cell(*kind)))
                .map(|(kind, _)| CellReport::warning(kind, read.cell(kind)))
                .collect(),
            normal,
            reduction,
            best_epoch: best.epoch,
            genotype_mixing,
            genotype_alpha,
        };
        self.progress.next_epoch();
        Ok(report)
    }

    fn cell_report(&self, kind: CellKind, genotype: &Genotype) -> CellReport {
        let (relaxation, topology) = (self.config.search.relaxation, self.space.topology());
        let mixing = to_vec(relaxation.mixing(self.alpha.cell(kind), topology));
        CellReport {
            num_skips: genotype.cell(kind).count(|primitive| primitive == Primitive::SkipConnect),
            num_pools: genotype.cell(kind).count(Primitive::is_pool),
            entropy: relaxation.entropy(&mixing, topology),
            largest_mixing: mixing.iter().copied().fold(0.0, f32::max).into(),
        }
    }
}

fn sgd(config: &SearchConfig) -> SgdSettings {
    SgdSettings {
        momentum: config.weights.momentum,
        weight_decay: config.weights.weight_decay,
        clip_norm: config.weights.clip_norm,
    }
}
