//! What the batches of each phase do to a search.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use tracing::debug_span;

use super::{Auxiliary, Best, Search};
use crate::architect::{BilevelBatch, RelaxedModel};
use crate::data::Batch;
use crate::network::Supernet;
use crate::relaxation::Mixing;
use crate::tensors::ImageBatch;
use crate::train::event::{Phase, TransitionReport};
use crate::train::score::loss_and_correct;
use crate::transition::{AuxiliaryModel, return_weights};

/// What a phase measures, in evaluation mode.
#[allow(clippy::large_enum_variant, reason = "one of them in a search")]
pub(super) enum Measured {
    Supernet(Supernet, Mixing),
    Auxiliary(AuxiliaryModel),
}

impl Search {
    pub(super) fn alpha_step(&mut self, valid: Batch, train: Option<Batch>, xi: f64) -> Tensor<1> {
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

    pub(super) fn supernet_step(&mut self, batch: Batch, learning_rate: f64) -> [Tensor<1>; 3] {
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

    /// Loss and accuracy in evaluation mode, by the running statistics.
    pub(super) fn measure(&mut self, batch: Batch) -> [Tensor<1>; 2] {
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

    /// Whether the auxiliary model is measured and the gate is still to decide.
    pub(super) fn must_decide(&self) -> bool {
        let is_measured =
            self.course.place().phase == Phase::MeasureAuxiliary && self.course.is_phase_over();
        is_measured && self.course.progress.transition.is_none()
    }

    /// The gate: the auxiliary model's weights go back into the supernet where its validation
    /// accuracy beats the best so far, else they are dropped.
    pub(super) fn decide(&mut self) -> TransitionReport {
        let auxiliary = self.auxiliary.take().expect("a measured auxiliary model");
        let epoch = self.course.epoch();
        let progress = &mut self.course.progress;
        let genotype = progress.induced.take().expect("the genotype it was induced from");
        let valid_accuracy = progress.auxiliary.accuracy();
        let best_before = progress.best.as_ref().and_then(|best| best.accuracy);
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
