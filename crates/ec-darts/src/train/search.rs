//! The search loop: one batch at a time, without I/O.

use std::sync::Arc;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Device;
use ec_darts_space::{CellKind, Genotype, Primitive, SearchSpace};

use super::event::{CellReport, EpochReport, Event, Phase, StepReport, TransitionReport};
use super::feed::Feed;
use super::score::loss_and_correct;
use super::state::{Best, Progress};
use crate::architect::{Architect, BilevelBatch, RelaxedModel};
use crate::architecture::{ArchitectureParameters, Strength};
use crate::config::{Order, SearchConfig, Settings};
use crate::data::{Batch, ImageDataset, Purpose, stream_rng};
use crate::network::{Supernet, SupernetConfig, check_size};
use crate::optim::{AdamSettings, SgdSettings, WeightOptimizer, cosine_learning_rate};
use crate::preflight::{MemoryNeed, Room};
use crate::relaxation::Mixing;
use crate::tensors::{ImageBatch, scalar, to_vec};
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
        let architect = Architect::new(config.search.architect, config.alpha.learning_rate, &adam);
        Ok(Self {
            weight_optimizer: WeightOptimizer::new(&sgd(&config)),
            feed: Feed::new(&config, data)?,
            progress: Progress::new(),
            auxiliary: None,
            config,
            space,
            device,
            supernet,
            alpha,
            architect,
        })
    }

    /// Does the next piece of work, or nothing when the search is over.
    ///
    /// # Errors
    /// [`Error::NonFinite`] where a loss is no number any more; the search must not go on.
    pub fn advance(&mut self) -> Result<Option<Event>> {
        while self.progress.epoch < self.config.search.epochs {
            let phase = self.progress.phase;
            if self.progress.step < self.num_steps(phase) {
                let report = self.step(phase)?;
                return Ok(Some(Event::Step(report)));
            }
            if phase == Phase::MeasureAuxiliary && self.progress.transition.is_none() {
                return Ok(Some(Event::Transition(self.decide()?)));
            }
            match self.next_phase() {
                Some(next) => self.enter(next)?,
                None => return Ok(Some(Event::Epoch(Box::new(self.close_epoch()?)))),
            }
        }
        Ok(None)
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

    /// Steps taken, and steps of the whole search.
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
        cosine_learning_rate(max, min, self.progress.epoch, self.config.search.epochs)
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

    /// The loss' value.
    fn finite(&self, what: &str, value: f64) -> Result<f64> {
        if value.is_finite() { Ok(value) } else { Err(self.non_finite(what)) }
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

    fn step(&mut self, phase: Phase) -> Result<StepReport> {
        let batches = self.feed.next(phase, self.progress.epoch, self.progress.step)?;
        let learning_rate = self.learning_rate();
        let (mut train_loss, mut valid_loss) = (None, None);
        let mut images = 0;
        if let Some(valid) = batches.valid {
            images += valid.labels.len();
            // The second order unrolls the very weight step that follows.
            let train = batches.train_of_alpha.or_else(|| batches.model.clone());
            valid_loss = Some(self.alpha_step(valid, train, learning_rate)?);
        }
        if let Some(batch) = batches.model {
            images += batch.labels.len();
            match phase {
                Phase::Supernet => train_loss = Some(self.supernet_step(batch, learning_rate)?),
                Phase::Auxiliary => train_loss = Some(self.auxiliary_step(batch, learning_rate)?),
                _ => valid_loss = self.measure(phase, batch),
            }
        }
        let report = StepReport {
            epoch: self.progress.epoch,
            phase,
            step: self.progress.step,
            num_steps: self.num_steps(phase),
            total_step: self.progress.total_step + 1,
            total_steps: self.total_steps(),
            images,
            train_loss,
            valid_loss,
            learning_rate,
        };
        self.progress.step += 1;
        self.progress.total_step += 1;
        Ok(report)
    }

    fn alpha_step(&mut self, valid: Batch, train: Option<Batch>, xi: f64) -> Result<f64> {
        let count = valid.labels.len();
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
        let loss = self.finite("the validation loss of the step on alpha", loss)?;
        self.alpha = alpha;
        self.progress.valid_loss.add(loss, 0, count);
        Ok(loss)
    }

    fn supernet_step(&mut self, batch: Batch, learning_rate: f64) -> Result<f64> {
        let batch = ImageBatch::new(batch, &self.device);
        let relaxation = self.config.search.relaxation;
        let mixing = Mixing::new(&self.alpha, relaxation, self.space.topology()).detach();
        let logits = self.supernet.forward(batch.images.clone(), &mixing);
        let (loss, correct) = loss_and_correct(&logits, &batch);
        let value = self.finite("the training loss of the supernet", scalar(loss.clone()))?;
        let gradients = GradientsParams::from_grads(loss.backward(), &self.supernet);
        let (supernet, norm) =
            self.weight_optimizer.step(learning_rate, self.supernet.clone(), gradients);
        self.finite("the gradient of the supernet", norm)?;
        self.supernet = supernet;
        self.progress.train.add(value, correct, batch.len());
        Ok(value)
    }

    fn auxiliary_step(&mut self, batch: Batch, learning_rate: f64) -> Result<f64> {
        let batch = ImageBatch::new(batch, &self.device);
        let Auxiliary { model, mut optimizer } =
            self.auxiliary.take().expect("the auxiliary phase begins with a model");
        let logits = model.forward(batch.images.clone());
        let (loss, correct) = loss_and_correct(&logits, &batch);
        let value =
            self.finite("the training loss of the auxiliary model", scalar(loss.clone()))?;
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        let (model, norm) = optimizer.step(learning_rate, model, gradients);
        self.finite("the gradient of the auxiliary model", norm)?;
        self.auxiliary = Some(Auxiliary { model, optimizer });
        self.progress.auxiliary_train.add(value, correct, batch.len());
        Ok(value)
    }

    /// Loss and accuracy in evaluation mode, by the running statistics.
    ///
    /// Those of the first steps can be far off: no reason to stop, but there is no loss then.
    fn measure(&mut self, phase: Phase, batch: Batch) -> Option<f64> {
        let batch = ImageBatch::new(batch, &self.device.clone().inner());
        let (images, relaxation) = (batch.images.clone(), self.config.search.relaxation);
        let logits = match &self.auxiliary {
            Some(auxiliary) => auxiliary.model.valid().forward(images),
            None => {
                let alpha = self.alpha.valid();
                let mixing = Mixing::new(&alpha, relaxation, self.space.topology());
                self.supernet.valid().forward(images, &mixing)
            }
        };
        let (loss, correct) = loss_and_correct(&logits, &batch);
        let mean = match phase {
            Phase::MeasureSupernet => &mut self.progress.supernet,
            _ => &mut self.progress.auxiliary,
        };
        mean.count(correct, batch.len());
        Some(scalar(loss)).filter(|loss| loss.is_finite())
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
            warnings: kinds
                .into_iter()
                .filter_map(|kind| CellReport::warning(kind, read.cell(kind)))
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
