//! The classifier after a network: mean over the map, linear layer. Products of the backend would
//! run in reduced precision on tensor cores.

use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, cubecl};
use cubecl::prelude::*;

use super::launch::Values;
use super::moments::total;
use super::sums::UNITS;
use crate::classifier::{ClassifierGradients, ClassifierKernels, LossTensors};

/// Means over planes.
#[cube(launch_unchecked)]
fn means(map: &[f32], pooled: &mut [f32], size: usize) {
    if ABSOLUTE_POS < pooled.len() {
        let mut sum = f32::new(0.0);
        for at in 0..size {
            sum += map[ABSOLUTE_POS * size + at];
        }
        pooled[ABSOLUTE_POS] = sum / size as f32;
    }
}

/// `logits[n, k] = sum over c of pooled[n, c] weight[c, k] + bias[k]`.
#[cube(launch_unchecked)]
fn logits(
    pooled: &[f32],
    weight: &[f32],
    bias: &[f32],
    logits: &mut [f32],
    channels: usize,
    classes: usize,
) {
    if ABSOLUTE_POS < logits.len() {
        let image = ABSOLUTE_POS / classes;
        let class = ABSOLUTE_POS % classes;
        let mut sum = f32::new(0.0);
        for channel in 0..channels {
            sum += pooled[image * channels + channel] * weight[channel * classes + class];
        }
        logits[ABSOLUTE_POS] = sum + bias[class];
    }
}

/// `dmap[n, c, p] = sum over k of gradient[n, k] weight[c, k] / size`.
#[cube(launch_unchecked)]
fn map_gradient(
    gradient: &[f32],
    weight: &[f32],
    of_map: &mut [f32],
    channels: usize,
    classes: usize,
    size: usize,
) {
    if ABSOLUTE_POS < of_map.len() / size {
        let image = ABSOLUTE_POS / channels;
        let channel = ABSOLUTE_POS % channels;
        let mut sum = f32::new(0.0);
        for class in 0..classes {
            sum += gradient[image * classes + class] * weight[channel * classes + class];
        }
        let value = sum / size as f32;
        for at in 0..size {
            of_map[ABSOLUTE_POS * size + at] = value;
        }
    }
}

/// `dweight[c, k] = sum over n of pooled[n, c] gradient[n, k]`, and after them `dbias[k]`, with one
/// in place of `pooled`.
#[cube(launch_unchecked)]
fn weight_gradients(
    gradient: &[f32],
    pooled: &[f32],
    of_weight: &mut [f32],
    of_bias: &mut [f32],
    channels: usize,
    classes: usize,
    images: usize,
) {
    let channel = ABSOLUTE_POS / classes;
    let class = ABSOLUTE_POS % classes;
    if channel <= channels {
        let mut sum = f32::new(0.0);
        for image in 0..images {
            let mut value = f32::new(1.0);
            if channel < channels {
                value = pooled[image * channels + channel];
            }
            sum += value * gradient[image * classes + class];
        }
        if channel < channels {
            of_weight[ABSOLUTE_POS] = sum;
        } else {
            of_bias[class] = sum;
        }
    }
}

/// The largest logit of an image, and the logarithm of the sum of their exponentials.
#[cube]
fn log_sum(logits: &[f32], first: usize, classes: usize) -> f32 {
    let mut largest = logits[first];
    for class in 1..classes {
        largest = max(largest, logits[first + class]);
    }
    let mut sum = f32::new(0.0);
    for class in 0..classes {
        sum += (logits[first + class] - largest).exp();
    }
    largest + sum.ln()
}

/// Mean over the images of `-(1 - s) log p[label] - s / K sum over k of log p[k]`, and the number
/// of images whose label has the largest logit. One cube.
#[cube(launch_unchecked)]
fn losses(
    logits: &[f32],
    labels: &[i32],
    loss: &mut [f32],
    correct: &mut [f32],
    images: usize,
    classes: usize,
    smoothing: f32,
) {
    let mut scratch = Shared::<[f32]>::new_slice(UNITS);
    let mut sum = f32::new(0.0);
    let mut hits = f32::new(0.0);
    let mut image = UNIT_POS as usize;
    while image < images {
        let first = image * classes;
        let label = labels[image] as usize;
        let norm = log_sum(logits, first, classes);
        let of_label = logits[first + label];
        let mut all = f32::new(0.0);
        let mut is_hit = !of_label.is_nan();
        for class in 0..classes {
            let other = logits[first + class];
            all += other - norm;
            // Of equal logits the first counts; an image with NaN is not correct.
            if other > of_label || (other == of_label && class < label) || other.is_nan() {
                is_hit = false;
            }
        }
        sum -= (1.0 - smoothing) * (of_label - norm) + smoothing / classes as f32 * all;
        hits += select(is_hit, f32::new(1.0), f32::new(0.0));
        image += UNITS;
    }
    let sum = total(&mut scratch, sum, UNITS);
    let hits = total(&mut scratch, hits, UNITS);
    if UNIT_POS == 0 {
        loss[0] = sum / images as f32;
        correct[0] = hits;
    }
}

/// `dlogits[n, k] = gradient / n (p[k] - (1 - s) [k = label] - s / K)`.
#[cube(launch_unchecked)]
fn loss_gradients(
    gradient: &[f32],
    logits: &[f32],
    labels: &[i32],
    of_logits: &mut [f32],
    images: usize,
    classes: usize,
    smoothing: f32,
) {
    if ABSOLUTE_POS < of_logits.len() {
        let image = ABSOLUTE_POS / classes;
        let class = ABSOLUTE_POS % classes;
        let norm = log_sum(logits, image * classes, classes);
        let mut value = (logits[ABSOLUTE_POS] - norm).exp() - smoothing / classes as f32;
        if labels[image] as usize == class {
            value -= 1.0 - smoothing;
        }
        of_logits[ABSOLUTE_POS] = gradient[0] / images as f32 * value;
    }
}

fn launch(len: usize) -> (CubeCount, CubeDim) {
    let cubes = u32::try_from(len.div_ceil(UNITS)).expect("cubes of a launch");
    (CubeCount::Static(cubes, 1, 1), CubeDim::new_1d(UNITS as u32))
}

fn empty(like: &CubeTensor, shape: impl Into<Shape>) -> CubeTensor {
    let shape = shape.into();
    let handle = like.client.empty(shape.num_elements() * size_of::<f32>());
    CubeTensor::new_contiguous(like.client.clone(), like.device.clone(), shape, handle, DType::F32)
}

impl ClassifierKernels for CubeBackend {
    fn forward(map: CubeTensor, weight: CubeTensor, bias: CubeTensor) -> [CubeTensor; 2] {
        let [map, weight, bias] = [map, weight, bias].map(into_contiguous);
        let [images, channels, height, width] = map.meta.shape().dims();
        let [_, classes] = weight.meta.shape().dims();
        let pooled = empty(&map, [images, channels]);
        let output = empty(&map, [images, classes]);
        // SAFETY: the buffers are as long as their shapes, and the launches stay within these.
        unsafe {
            let (count, dim) = launch(images * channels);
            means::launch_unchecked(
                &map.client,
                count,
                dim,
                Values::of(&map).arg(),
                Values::of(&pooled).arg(),
                height * width,
            );
            let (count, dim) = launch(images * classes);
            logits::launch_unchecked(
                &map.client,
                count,
                dim,
                Values::of(&pooled).arg(),
                Values::of(&weight).arg(),
                Values::of(&bias).arg(),
                Values::of(&output).arg(),
                channels,
                classes,
            );
        }
        [output, pooled]
    }

    fn backward(
        gradient: CubeTensor,
        pooled: CubeTensor,
        weight: CubeTensor,
        map: [usize; 4],
        wants_weights: bool,
    ) -> ClassifierGradients<Self> {
        let [gradient, weight] = [gradient, weight].map(into_contiguous);
        let [images, channels, height, width] = map;
        let [_, classes] = weight.meta.shape().dims();
        let of_map = empty(&gradient, map);
        // SAFETY: as in `forward`.
        unsafe {
            let (count, dim) = launch(images * channels);
            map_gradient::launch_unchecked(
                &gradient.client,
                count,
                dim,
                Values::of(&gradient).arg(),
                Values::of(&weight).arg(),
                Values::of(&of_map).arg(),
                channels,
                classes,
                height * width,
            );
        }
        let weights = wants_weights.then(|| {
            let of_weight = empty(&gradient, [channels, classes]);
            let of_bias = empty(&gradient, [classes]);
            // SAFETY: as in `forward`.
            unsafe {
                let (count, dim) = launch((channels + 1) * classes);
                weight_gradients::launch_unchecked(
                    &gradient.client,
                    count,
                    dim,
                    Values::of(&gradient).arg(),
                    Values::of(&pooled).arg(),
                    Values::of(&of_weight).arg(),
                    Values::of(&of_bias).arg(),
                    channels,
                    classes,
                    images,
                );
            }
            [of_weight, of_bias]
        });
        ClassifierGradients { map: of_map, weights }
    }

    fn loss(logits: CubeTensor, labels: CubeTensor, smoothing: f32) -> LossTensors<Self> {
        let [logits, labels] = [logits, labels].map(into_contiguous);
        assert_eq!(labels.dtype, DType::I32, "labels of a batch");
        let [images, classes] = logits.meta.shape().dims();
        let (loss, correct) = (empty(&logits, [1]), empty(&logits, [1]));
        // SAFETY: as in `forward`; labels are classes of the logits.
        unsafe {
            let (count, dim) = launch(UNITS);
            losses::launch_unchecked(
                &logits.client,
                count,
                dim,
                Values::of(&logits).arg(),
                Values::of(&labels).arg(),
                Values::of(&loss).arg(),
                Values::of(&correct).arg(),
                images,
                classes,
                smoothing,
            );
        }
        LossTensors { loss, correct }
    }

    fn loss_backward(
        gradient: CubeTensor,
        logits: CubeTensor,
        labels: CubeTensor,
        smoothing: f32,
    ) -> CubeTensor {
        let [gradient, logits, labels] = [gradient, logits, labels].map(into_contiguous);
        let [images, classes] = logits.meta.shape().dims();
        let of_logits = empty(&logits, [images, classes]);
        // SAFETY: as in `loss`.
        unsafe {
            let (count, dim) = launch(images * classes);
            loss_gradients::launch_unchecked(
                &logits.client,
                count,
                dim,
                Values::of(&gradient).arg(),
                Values::of(&logits).arg(),
                Values::of(&labels).arg(),
                Values::of(&of_logits).arg(),
                images,
                classes,
                smoothing,
            );
        }
        of_logits
    }
}
