//! The accuracy of a trained network.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::TrainedModel;
use crate::batch::ImageBatch;
use crate::data::{Augmentation, ImageDataset, Loader, Purpose, stream_rng};
use crate::network::EvaluationNetwork;
use crate::tensors::to_vec;
use crate::{Error, Result};

/// Number of mistakes that are kept, the most confident ones.
const MISTAKES: usize = 24;
/// Largest number of classes for which top-5 has no meaning.
const FIVE: usize = 5;

/// The performance of a network on labelled images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Number of images.
    pub num_images: usize,
    /// Mean cross entropy, in nats.
    pub loss: f64,
    /// Fraction of images whose class has the largest logit; of equal logits the first counts.
    pub top1: f64,
    /// Fraction of images whose class is among the five largest logits; none with five classes or
    /// fewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top5: Option<f64>,
    /// Mean accuracy of the classes that have images: equal to `top1` if all have the same number
    /// of images.
    pub balanced_accuracy: f64,
    /// The accuracy of each class, in the order of the labels.
    pub classes: Vec<ClassAccuracy>,
    /// Number of images by true class (row) and predicted class (column).
    pub confusion: Vec<Vec<u64>>,
    /// Wrongly classified images with the largest probabilities, most confident first. They are in
    /// no file, because they mean nothing without the images.
    #[serde(skip)]
    pub mistakes: Vec<Mistake>,
}

/// A wrongly classified image.
#[derive(Clone, Debug, PartialEq)]
pub struct Mistake {
    /// The number of the image; the numbers of a second set follow those of the first.
    pub image: usize,
    /// The true class.
    pub class: usize,
    /// The predicted class.
    pub predicted: usize,
    /// The probability of the predicted class.
    pub probability: f64,
}

/// The performance of a network on the images of one class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassAccuracy {
    /// The name of the class.
    pub name: String,
    /// Number of images of the class.
    pub num_images: u64,
    /// Fraction of them that was classified correctly; none without images.
    pub accuracy: Option<f64>,
}

/// Classifies all images of a set, without augmentation; `each` receives the number of images done.
///
/// An image that cannot be read is left out where the set skips broken images;
/// [`ImageDataset::replaced`] names them afterwards.
///
/// # Errors
/// [`Error::Images`] where the set is empty, or has another size or other classes than the model;
/// [`Error::Model`] where a logit is not finite; [`Error::Io`] and [`Error::Data`] where the file
/// of an image cannot be read.
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
    evaluate_parts(model, &[Loader::new(dataset, batch_size)], device, each)
}

/// As [`evaluate`], for parts of several sets: the images and the batch size of each loader,
/// without its random changes, and with the normalization of the model.
///
/// A set may have only some of the model's classes, by their names; the prediction is still among
/// all classes of the model.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_parts(
    model: &TrainedModel,
    parts: &[Loader],
    device: &Device,
    each: &mut dyn FnMut(usize),
) -> Result<Evaluation> {
    if parts.iter().all(|part| part.indices.is_empty()) {
        return Err(Error::Images { reason: "none to evaluate on".into() });
    }
    let num_classes = model.description.num_classes;
    let mut tally =
        Tally { confusion: vec![vec![0; num_classes]; num_classes], ..Tally::default() };
    let mut before = 0;
    for part in parts {
        let classes = model.fit(&part.dataset).map_err(|reason| Error::Images { reason })?;
        let normalization = model.description.normalization();
        let augmentation = Augmentation::NONE;
        let loader = Loader { normalization, augmentation, order: None, ..part.clone() };
        for (batch, images) in loader.epoch(0, 0).zip(part.indices.chunks(part.batch_size)) {
            let batch = batch?;
            // Broken images were left out; the position of the remaining images in the batch is
            // unknown.
            let is_whole = batch.labels.len() == images.len();
            if batch.labels.is_empty() {
                continue;
            }
            let labelled = batch.labels.clone().into_iter().zip(images);
            let logits = to_vec(model.logits(ImageBatch::new(batch, device).images));
            for (logits, (label, image)) in logits.chunks_exact(num_classes).zip(labelled) {
                if logits.iter().any(|logit| logit.is_nan()) {
                    let done = tally.done;
                    return Err(Error::model(format!("a logit of image {done} is no number")));
                }
                let class = classes[usize::try_from(label).expect("labels count from 0")];
                tally.add(logits, class, is_whole.then_some(before + *image as usize));
            }
            each(tally.done);
        }
        before += part.dataset.len();
    }
    Ok(tally.evaluation(&model.description.class_names))
}

/// The counts during a classification.
#[derive(Default)]
struct Tally {
    loss: f64,
    first: usize,
    among_five: usize,
    done: usize,
    confusion: Vec<Vec<u64>>,
    mistakes: Vec<Mistake>,
}

impl Tally {
    fn add(&mut self, logits: &[f32], class: usize, image: Option<usize>) {
        let order = ranked(logits);
        let rank = order.iter().position(|&other| other == class).expect("a class");
        self.loss -= log_softmax(logits, class);
        self.first += usize::from(rank == 0);
        self.among_five += usize::from(rank < FIVE);
        self.confusion[class][order[0]] += 1;
        self.done += 1;
        if let (Some(image), true) = (image, rank > 0) {
            let (predicted, probability) = (order[0], log_softmax(logits, order[0]).exp());
            self.mistakes.push(Mistake { image, class, predicted, probability });
        }
        // Sorted from time to time, so that a large set of mistakes needs little memory.
        if self.mistakes.len() >= 64 * MISTAKES {
            self.keep_the_surest();
        }
    }

    /// The sort is stable: mistakes with equal confidence stay in the order of the images.
    fn keep_the_surest(&mut self) {
        self.mistakes.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        self.mistakes.truncate(MISTAKES);
    }

    fn evaluation(mut self, class_names: &[String]) -> Evaluation {
        self.keep_the_surest();
        let share = |count: usize| count as f64 / self.done as f64;
        let classes = class_names.iter().zip(&self.confusion).enumerate();
        let classes: Vec<ClassAccuracy> = classes
            .map(|(class, (name, row))| {
                let num_images: u64 = row.iter().sum();
                let accuracy = (num_images > 0).then(|| row[class] as f64 / num_images as f64);
                ClassAccuracy { name: name.clone(), num_images, accuracy }
            })
            .collect();
        let accuracies: Vec<f64> = classes.iter().filter_map(|class| class.accuracy).collect();
        Evaluation {
            num_images: self.done,
            loss: self.loss / self.done as f64,
            top1: share(self.first),
            top5: (class_names.len() > FIVE).then(|| share(self.among_five)),
            balanced_accuracy: accuracies.iter().sum::<f64>() / accuracies.len() as f64,
            classes,
            confusion: self.confusion,
            mistakes: self.mistakes,
        }
    }
}

/// Classes by falling logit, equal logits in their order; none where a logit is NaN. This is the
/// order of `ec_darts_kernels::reference::ranks`, which counts on the device.
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
    /// The logits by the running statistics, without gradient, on the device of the images: the
    /// model does not change.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`, normalized
    /// - output: `[batch, num_classes]`, on the device of the images
    pub fn logits(&self, images: Tensor<4>) -> Tensor<2> {
        self.infer(images, EvaluationNetwork::forward)
    }

    /// [`EvaluationNetwork::features`] of the unchanged model, as in [`Self::logits`].
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
        // A pass on an autodiff device would change the running statistics, also those of clones.
        let output = match self.network.classifier.weight.device().is_autodiff() {
            true => forward(&self.network.valid(), images),
            false => forward(&self.network, images),
        };
        if is_tracked { Tensor::from_inner(output) } else { output }
    }

    /// One image, normalized, as a batch.
    ///
    /// # Shapes
    /// - `pixels`: `[3, height, width]`, row-major, of the model's image size
    /// - output: `[1, 3, height, width]`
    ///
    /// # Panics
    /// Where `pixels` does not have the length of an image of this size.
    pub fn input(&self, pixels: &[u8], device: &Device) -> Tensor<4> {
        self.inputs(&[pixels], device)
    }

    /// A batch of images, normalized.
    ///
    /// # Shapes
    /// - `images`: each as the pixels of [`Self::input`]
    /// - output: `[images.len(), 3, height, width]`
    ///
    /// # Panics
    /// As [`Self::input`].
    pub fn inputs(&self, images: &[impl AsRef<[u8]>], device: &Device) -> Tensor<4> {
        let size = self.description.image_size;
        let length = 3 * size[0] * size[1];
        let mut values = vec![0.0; images.len() * length];
        let normalization = self.description.normalization();
        for (pixels, values) in images.iter().zip(values.chunks_exact_mut(length)) {
            let pixels = pixels.as_ref();
            assert_eq!(pixels.len(), length, "pixels of the model's image size");
            // Without augmentation no random number is drawn.
            let mut rng = stream_rng(0, Purpose::Listed, 0, 0);
            Augmentation::NONE.apply(pixels, size, &normalization, &mut rng, values);
        }
        Tensor::from_data(TensorData::new(values, [images.len(), 3, size[0], size[1]]), device)
    }

    /// The most probable classes of each image and their probabilities, most probable first; none
    /// where a logit is NaN.
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
