//! What a trained network gets right.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use ec_darts_kernels::reference::ranks;
use serde::Serialize;

use super::TrainedModel;
use crate::data::{Augmentation, ImageDataset, Loader, Purpose, stream_rng};
use crate::network::EvaluationNetwork;
use crate::tensors::{ImageBatch, to_vec};
use crate::{Error, Result};

/// How well a network does on labelled images.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// Images.
    pub num_images: usize,
    /// Mean cross entropy, in nats.
    pub loss: f64,
    /// Fraction of images whose class has the largest logit; of equal ones the first counts.
    pub top1: f64,
    /// Fraction of images whose class is among the five largest logits.
    pub top5: f64,
    /// Per class, in the order of the labels.
    pub classes: Vec<ClassAccuracy>,
    /// Images by true class (row) and predicted class (column).
    pub confusion: Vec<Vec<u64>>,
}

/// How well a network does on the images of one class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassAccuracy {
    /// The class.
    pub name: String,
    /// Images of it.
    pub num_images: u64,
    /// Fraction that was recognized; none without images.
    pub accuracy: Option<f64>,
}

/// Classifies all images of a set, without augmentation; `each` is told how many are done.
///
/// An image that cannot be read is left out where the set skips those; [`ImageDataset::replaced`] names
/// them afterwards.
///
/// # Errors
/// [`Error::Images`] where the set is empty, or of another size or other classes than the model;
/// [`Error::Model`] where a logit is no number; [`Error::Io`] and [`Error::Data`] where the file of an image cannot
/// be read.
///
/// # Panics
/// Where `batch_size` is 0.
pub fn evaluate(
    model: &TrainedModel,
    dataset: Arc<ImageDataset>,
    batch_size: usize,
    device: &Device,
    each: &mut dyn FnMut(usize),
) -> Result<Evaluation> {
    assert!(batch_size > 0, "`batch_size` is 0, allowed: 1 and more");
    if dataset.is_empty() {
        return Err(Error::Images { reason: "none to evaluate on".into() });
    }
    if let Some(reason) = model.mismatch(&dataset) {
        return Err(Error::Images { reason });
    }
    let num_classes = model.description.num_classes;
    let normalization = model.description.normalization();
    let loader = Loader { normalization, ..Loader::new(dataset, batch_size) };
    let (mut loss, mut first, mut among_five, mut done) = (0.0, 0, 0, 0);
    let mut confusion = vec![vec![0_u64; num_classes]; num_classes];
    for batch in loader.epoch(0, 0) {
        let batch = batch?;
        // Broken images were left out, all of this batch.
        if batch.labels.is_empty() {
            continue;
        }
        let labels = batch.labels.clone();
        let batch = ImageBatch::new(batch, device);
        let logits = model.logits(batch.images);
        let ranks: Vec<i64> = ranks(logits.clone(), batch.labels).into_data().iter().collect();
        let logits = to_vec(logits);
        for ((logits, label), rank) in logits.chunks_exact(num_classes).zip(labels).zip(ranks) {
            if logits.iter().any(|logit| logit.is_nan()) {
                return Err(Error::model(format!("a logit of image {done} is no number")));
            }
            let label = usize::try_from(label).expect("labels count from 0");
            loss -= log_softmax(logits, label);
            first += usize::from(rank == 0);
            among_five += usize::from(rank < 5);
            confusion[label][ranked(logits)[0]] += 1;
            done += 1;
        }
        each(done);
    }
    let share = |count: usize| count as f64 / done as f64;
    let classes = model.description.class_names.iter().zip(&confusion).enumerate();
    let classes = classes.map(|(class, (name, row))| {
        let num_images: u64 = row.iter().sum();
        let accuracy = (num_images > 0).then(|| row[class] as f64 / num_images as f64);
        ClassAccuracy { name: name.clone(), num_images, accuracy }
    });
    Ok(Evaluation {
        num_images: done,
        loss: loss / done as f64,
        top1: share(first),
        top5: share(among_five),
        classes: classes.collect(),
        confusion,
    })
}

/// Classes by falling logit, equal ones in their order; none where a logit is no number. This is the order of
/// [`ranks`], which counts on the device.
fn ranked(logits: &[f32]) -> Vec<usize> {
    if logits.iter().any(|logit| logit.is_nan()) {
        return Vec::new();
    }
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].partial_cmp(&logits[a]).expect("numbers"));
    order
}

/// Logarithm of the probability of a class, in nats.
fn log_softmax(logits: &[f32], class: usize) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let relative = |logit: f32| f64::from(logit) - f64::from(largest);
    let sum: f64 = logits.iter().map(|&logit| relative(logit).exp()).sum();
    relative(logits[class]) - sum.ln()
}

impl TrainedModel {
    /// By the running statistics, on whatever device the images are, and without gradient: the model stays as it is.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`, normalized
    /// - output: `[batch, num_classes]`, on the device of the images
    pub fn logits(&self, images: Tensor<4>) -> Tensor<2> {
        self.infer(images, EvaluationNetwork::forward)
    }

    /// [`EvaluationNetwork::features`] of a body that stays as it is, as [`Self::logits`].
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`, normalized
    /// - output: `[batch, channels]`, on the device of the images
    pub fn features(&self, images: Tensor<4>) -> Tensor<2> {
        self.infer(images, EvaluationNetwork::features)
    }

    fn infer(
        &self,
        images: Tensor<4>,
        forward: impl FnOnce(&EvaluationNetwork, Tensor<4>) -> Tensor<2>,
    ) -> Tensor<2> {
        let is_tracked = images.device().is_autodiff();
        let images = images.without_autodiff();
        // A pass on an autodiff device would move the running statistics, also those of clones.
        let output = match self.network.classifier.weight.device().is_autodiff() {
            true => forward(&self.network.valid(), images),
            false => forward(&self.network, images),
        };
        if is_tracked { Tensor::from_inner(output) } else { output }
    }

    /// An image, normalized and alone in a batch.
    ///
    /// # Shapes
    /// - `pixels`: `[3, height, width]`, row-major, of the model's image size
    /// - output: `[1, 3, height, width]`
    ///
    /// # Panics
    /// Where `pixels` has another length.
    pub fn input(&self, pixels: &[u8], device: &Device) -> Tensor<4> {
        let size = self.description.image_size;
        let mut values = vec![0.0; pixels.len()];
        let normalization = self.description.normalization();
        // Without augmentation nothing is drawn.
        let mut rng = stream_rng(0, Purpose::Listed, 0, 0);
        Augmentation::NONE.apply(pixels, size, &normalization, &mut rng, &mut values);
        Tensor::from_data(TensorData::new(values, [1, 3, size[0], size[1]]), device)
    }

    /// The likeliest classes of each image and their probabilities, the likeliest first; none where a logit is no
    /// number.
    ///
    /// # Shapes
    /// - `images`: as for [`Self::logits`]
    pub fn classify(&self, images: Tensor<4>, top: usize) -> Vec<Vec<(&str, f64)>> {
        let logits = to_vec(self.logits(images));
        let named = |logits: &[f32]| {
            let order = ranked(logits).into_iter().take(top);
            let name = |class: usize| self.description.class_names[class].as_str();
            order.map(|class| (name(class), log_softmax(logits, class).exp())).collect()
        };
        logits.chunks_exact(self.description.num_classes).map(named).collect()
    }
}
