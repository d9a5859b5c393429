//! The steps of a search on the batches of each phase.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};
use ec_darts_space::PerKind;
use rand_chacha::ChaCha8Rng;
use tracing::debug_span;

use super::{Auxiliary, Best, Search};
use crate::architect::{ArchitectOrder, Unrolled};
use crate::architecture::ArchitectureGradient;
use crate::batch::ImageBatch;
use crate::config::Order;
use crate::cost::{CostTable, Shares};
use crate::data::{Batch, Purpose, stream_rng};
use crate::network::{EvaluationConfig, Supernet};
use crate::objective::Objective;
use crate::penalty::CostWeighting;
use crate::perturbation::{Attacked, Matrix, Perturbation};
use crate::rule::{Mixing, Rule};
use crate::sampling::{Draw, Sampling};
use crate::skip_dropout::{SkipDropout, SkipMasks};
use crate::tensors::to_vec;
use crate::train::event::{Phase, TransitionReport};
use crate::train::score::loss_and_correct;
use crate::transition::{AuxiliaryModel, return_weights};

/// The model that a phase measures, in evaluation mode.
#[allow(clippy::large_enum_variant, reason = "one of them in a search")]
pub(super) enum Measured {
    Supernet(Supernet, Mixing),
    Auxiliary(AuxiliaryModel),
}

impl Search {
    /// The random numbers of a pass of the current step.
    fn draw(&self, sampling: Option<Sampling>, purpose: Purpose) -> Draw {
        let Some(sampling) = sampling else { return Draw::Mode };
        let mut rng = self.rng(purpose);
        let num_primitives = self.space.primitives().len();
        let alpha = match sampling {
            _ if sampling.is_gated() => self.alpha.competing(&self.space).map(to_vec),
            _ if sampling.reads_alpha() => self.alpha.values(),
            _ => {
                let count = self.space.topology().num_edges() * num_primitives;
                self.space.topology().per_kind(|_| vec![0.0; count])
            }
        };
        sampling.draw(&alpha, num_primitives, &mut rng)
    }

    /// The dropout masks of skip connections in a pass of the current step, where it has dropout.
    fn skip_dropout(&self, purpose: Purpose) -> Option<SkipDropout> {
        let rate = self.config.skip_dropout_at(self.course.epoch());
        let masks = || SkipMasks::Drawn(Box::new(self.rng(purpose)));
        (rate > 0.0).then(|| SkipDropout { rate, masks: masks() })
    }

    /// The random stream of a purpose at the current step.
    fn rng(&self, purpose: Purpose) -> ChaCha8Rng {
        let place = self.course.place();
        stream_rng(self.config.search.seed, purpose, place.epoch as u64, place.step as u64)
    }

    /// The rule of a step on alpha. It contains the cost of the architecture where its genotype
    /// costs too much.
    ///
    /// # Source
    /// The switch between loss and constraint is the switching subgradient method: B. Polyak, 1967.
    /// Here the loss stays when the constraint is added.
    fn rule_of_alpha(&mut self) -> Rule {
        let mut rule = self.rule();
        let settings = &self.config.rule;
        let Some(measure) = settings.cost else { return rule };
        let weight = settings.cost_weight.at(self.stage().epoch, self.config.search.epochs);
        let (space, device) = (&self.space, &self.device);
        let network = EvaluationConfig {
            skeleton: self.config.network.skeleton,
            stem: self.config.network.stem,
            init_channels: settings.cost_channels,
            num_cells: settings.cost_cells,
            num_classes: self.num_classes,
        };
        let side = self.image_side;
        let costs = self.course.progress.costs.get_or_insert_with(|| {
            CostTable::counted(measure, space, &network, side).unwrap_or_else(|| {
                CostTable::measured(space, &network, side, &device.clone().inner())
            })
        });
        let shares = Shares::new(space, &rule, settings.edge_weights);
        let reference = match settings.cost_target {
            None => costs.even(&shares),
            Some(target) => {
                let strength = self.config.search.strength;
                // An alpha that is not finite is reported at the end of the epoch.
                let found = rule.genotype_or_edges(space, &self.alpha, strength).ok();
                if found.is_none_or(|(genotype, _)| costs.of(space, &genotype) <= target) {
                    return rule;
                }
                target
            }
        };
        let (form, exponent) = (settings.cost_form, settings.cost_exponent);
        let weighting = CostWeighting { form, weight, reference, exponent };
        rule.penalties.cost = Some(costs.term(space, &shares, weighting));
        rule
    }

    /// Moves alpha; returns the validation loss before the step, `[1]`.
    pub(super) fn alpha_step(
        &mut self,
        valid: Batch,
        train: Option<&Batch>,
        learning_rate: f64,
    ) -> Tensor<1> {
        let _span = debug_span!("alpha step").entered();
        let valid = ImageBatch::new(valid, &self.device);
        let is_second = self.config.search.architect == ArchitectOrder::Second;
        let train = train.filter(|_| is_second);
        let train = train.map(|train| ImageBatch::new(train.clone(), &self.device));
        let rule = self.rule_of_alpha();
        let draw = self.draw(rule.sampling, Purpose::AlphaDraw);
        let skip_dropout = self.skip_dropout(Purpose::AlphaDropout);
        let skip_dropout = skip_dropout.as_ref();
        let objective = Objective { space: &self.space, rule: &rule, draw: &draw, skip_dropout };
        let unrolled = train.as_ref().map(|train| Unrolled {
            train,
            optimizer: &mut self.weight_optimizer,
            learning_rate,
        });
        let before = self.alpha.clone();
        let (alpha, loss) =
            self.architect.step(&objective, before.clone(), &self.supernet, &valid, unrolled);
        self.alpha = rule.settle(&before, alpha, &draw);
        loss
    }

    /// Moves the weights, in single-level order alpha too; returns the training loss, the number of
    /// images with the right class and the norm of the gradient.
    pub(super) fn supernet_step(&mut self, batch: Batch, learning_rate: f64) -> [Tensor<1>; 3] {
        let _span = debug_span!("weight step").entered();
        let batch = ImageBatch::new(batch, &self.device);
        let (epoch, step) = (self.stage().epoch, self.course.place().step);
        let moves_alpha = self.config.search.order == Order::SingleLevel
            && self.config.alpha.moves_at(epoch, step);
        let rule = if moves_alpha { self.rule_of_alpha() } else { self.rule().of_weights() };
        let draw = self.draw(rule.sampling, Purpose::WeightDraw);
        let skip_dropout = self.skip_dropout(Purpose::WeightDropout);
        let skip_dropout = skip_dropout.as_ref();
        let objective = Objective { space: &self.space, rule: &rule, draw: &draw, skip_dropout };
        let mut mixing = objective.mixing(&self.alpha);
        let weights = moves_alpha.then(|| mixing.weights.clone());
        if !moves_alpha {
            mixing = mixing.detach();
        }
        if let Some(perturbation) = self.config.rule.perturbation {
            mixing.weights = self.perturbed(perturbation, &mixing, &batch);
        }
        let forward = || self.supernet.forward(batch.images.clone(), &mixing);
        let logits = debug_span!("forward").in_scope(forward);
        let (loss, correct) = loss_and_correct(&logits, &batch, 0.0);
        let value = loss.clone().inner();
        let total = match weights {
            Some(weights) => rule.penalties.loss(loss, &self.space, &self.alpha, &weights),
            None => loss,
        };
        let mut gradients = debug_span!("backward").in_scope(|| total.backward());
        let of_alpha =
            moves_alpha.then(|| GradientsParams::from_module(&mut gradients, &self.alpha));
        let of_weights = GradientsParams::from_module(&mut gradients, &self.supernet);
        let ran = mixing.path.as_ref().map(|path| self.supernet.parameters_along(path));
        let supernet = self.supernet.clone();
        let optimizer = &mut self.weight_optimizer;
        let step = || optimizer.step_of(learning_rate, supernet, of_weights, ran.as_ref());
        let (supernet, norm) = debug_span!("optimizer").in_scope(step);
        self.supernet = supernet;
        if let Some(of_alpha) = of_alpha {
            let gradient = ArchitectureGradient::read(&of_alpha, &self.alpha);
            self.alpha = self.architect.descend(self.alpha.clone(), gradient);
        }
        [value, correct, norm]
    }

    /// The mixing weights for a step on the weights.
    fn perturbed(
        &self,
        perturbation: Perturbation,
        mixing: &Mixing,
        batch: &ImageBatch,
    ) -> PerKind<Tensor<2>> {
        let epsilon = self.config.rule.epsilon.at(self.stage().epoch, self.config.search.epochs);
        let matrix = Matrix { space: &self.space, relaxation: self.config.search.relaxation };
        let noise = matrix.noise(epsilon, &mut self.rng(Purpose::WeightDraw));
        let values = mixing.weights.clone().map(to_vec);
        let perturbed = match perturbation {
            Perturbation::Random => matrix.random(&values, &noise),
            Perturbation::Adversarial => {
                let attacked = Attacked::new(&self.supernet, mixing, batch);
                matrix.adversarial(&values, &noise, epsilon, |at| attacked.loss(at)).mixing
            }
        };
        let shape = mixing.weights.normal.dims();
        perturbed.map(|values| Tensor::from_data(TensorData::new(values, shape), &self.device))
    }

    pub(super) fn auxiliary_step(&mut self, batch: Batch, learning_rate: f64) -> [Tensor<1>; 3] {
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

    /// Loss and number of images with the right class in evaluation mode, by the running
    /// statistics.
    pub(super) fn measure(&mut self, batch: Batch) -> [Tensor<1>; 2] {
        let _span = debug_span!("measure").entered();
        let batch = ImageBatch::new(batch, &self.device.clone().inner());
        let images = batch.images.clone();
        let rule = self.rule();
        let measured = self.measured.get_or_insert_with(|| match &self.auxiliary {
            Some(auxiliary) => Measured::Auxiliary(auxiliary.model.valid()),
            None => {
                // No random numbers, so that two measurements agree.
                let mixing = rule.mixing(&self.space, &self.alpha.valid(), &Draw::Mode);
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

    /// Whether the auxiliary model is measured and the gate has not decided yet.
    pub(super) fn must_decide(&self) -> bool {
        let is_measured =
            self.course.place().phase == Phase::MeasureAuxiliary && self.course.is_phase_over();
        is_measured && self.course.progress.transition.is_none()
    }

    /// The gate: the auxiliary model's weights are returned into the supernet where its validation
    /// accuracy beats the best so far; otherwise they are dropped.
    pub(super) fn decide(&mut self) -> TransitionReport {
        let auxiliary = self.auxiliary.take().expect("a measured auxiliary model");
        let epoch = self.course.epoch();
        let first = epoch - self.stage().epoch;
        let progress = &mut self.course.progress;
        let genotype = progress.induced.take().expect("the genotype it was induced from");
        let valid_accuracy = progress.auxiliary.accuracy();
        // The gate compares models of one stage: models of another stage have other cells.
        let best = progress.best.as_ref().filter(|best| best.epoch >= first);
        let best_before = best.and_then(|best| best.accuracy);
        let accepted = best_before.is_none_or(|best| valid_accuracy > best);
        if accepted {
            self.supernet = return_weights(&self.supernet, &auxiliary.model);
            let accuracy = Some(valid_accuracy);
            progress.best = Some(Best { epoch, accuracy, genotype: genotype.clone() });
        }
        let report = TransitionReport {
            epoch,
            genotype,
            train_loss: progress.auxiliary_train.loss(),
            train_accuracy: progress.auxiliary_train.accuracy(),
            valid_accuracy,
            best_before,
            accepted,
        };
        progress.transition = Some(report.clone());
        report
    }
}
