//! The classifier behind a network: mean over the map, linear layer. Products of the backend's own would run
//! in reduced precision on tensor cores.

use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, cubecl};
use cubecl::prelude::*;

use super::run::Values;
use crate::classifier::{ClassifierGradients, ClassifierKernels};

/// Units of a cube.
const UNITS: usize = 64;

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

/// `dweight[c, k] = sum over n of pooled[n, c] gradient[n, k]`, and behind them `dbias[k]`, where `pooled` is one.
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
        // SAFETY: the buffers are as long as their shapes, which the launches stay within.
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
}
