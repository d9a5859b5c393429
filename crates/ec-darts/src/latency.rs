//! Measured latency of a network for a batch of images.
//!
//! Entry point: [`Latency::measure`].

use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor, TensorData};
use ec_darts_space::{Genotype, Primitive};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::data::{Purpose, stream_rng};
use crate::network::{EvaluationConfig, EvaluationNetwork};
use crate::ops::{Form, Kernels, Operation};

/// Number of warm-up passes.
const WARM_UP: usize = 3;
/// Smallest number of measured passes.
const LEAST: usize = 10;
/// Time for which passes are measured, if the limits of their number allow it.
const LONG_ENOUGH: Duration = Duration::from_secs(3);
/// Largest number of measured passes.
const MOST: usize = 200;

/// Number of measured passes of a single operation, after two warm-up passes.
const OF_OPERATION: usize = 15;

/// Median time of one operation for a batch of one image in evaluation mode, in s.
///
/// # Panics
/// Where the operation cannot have these channels or size.
pub fn of_operation(
    primitive: Primitive,
    num_channels: usize,
    stride: usize,
    size: [usize; 2],
    device: &Device,
) -> f64 {
    let Some(operation) = Operation::new(primitive, num_channels, stride, Form::Retrain, device)
    else {
        return 0.0;
    };
    let input = Tensor::<4>::ones([1, num_channels, size[0], size[1]], device);
    let pass = || {
        let start = Instant::now();
        operation.forward_by(input.clone(), Kernels::default()).into_data();
        start.elapsed().as_secs_f64()
    };
    for _ in 0..2 {
        pass();
    }
    let mut times: Vec<f64> = (0..OF_OPERATION).map(|_| pass()).collect();
    times.sort_by(f64::total_cmp);
    times[OF_OPERATION / 2]
}

/// Forward passes of one batch in evaluation mode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Number of images per batch.
    pub batch: usize,
    /// Number of measured passes, after three warm-up passes.
    pub passes: usize,
    /// Median time of a pass, in s.
    pub median_s: f64,
    /// The tenth percentile of the times of passes, in s.
    pub percentile10_s: f64,
    /// The ninetieth percentile of the times of passes, in s.
    pub percentile90_s: f64,
    /// Images per second at the median time.
    pub images_per_s: f64,
}

impl Latency {
    /// Builds the network with random weights and times its forward pass, from images on the device
    /// to logits in memory, without the auxiliary head. It uses fused kernels where the device has
    /// them.
    ///
    /// # Panics
    /// Where `batch` is 0.
    pub fn measure(
        genotype: &Genotype,
        config: &EvaluationConfig,
        image_size: usize,
        batch: usize,
        device: &Device,
    ) -> Self {
        let mut rng = stream_rng(0, Purpose::Weights, 0, 0);
        let network = config.init(genotype, &mut rng, device).with_kernels(Kernels::default());
        Self::of(&network, [image_size; 2], batch, device)
    }

    /// Times the forward pass of a network, as [`Self::measure`] does.
    ///
    /// # Panics
    /// Where `batch` is 0, or the network is on another device.
    pub fn of(
        network: &EvaluationNetwork,
        [height, width]: [usize; 2],
        batch: usize,
        device: &Device,
    ) -> Self {
        let mut rng = stream_rng(0, Purpose::Listed, 0, 0);
        let shape = [batch, 3, height, width];
        let values: Vec<f32> =
            (0..shape.iter().product()).map(|_| rng.random_range(-2.0..2.0)).collect();
        let images = Tensor::<4>::from_data(TensorData::new(values, shape), device);
        let pass = || {
            let start = Instant::now();
            // Reading the logits waits for the device.
            network.forward(images.clone()).into_data();
            start.elapsed()
        };
        for _ in 0..WARM_UP {
            pass();
        }
        let (mut times, mut total) = (Vec::new(), Duration::ZERO);
        while times.len() < LEAST || (total < LONG_ENOUGH && times.len() < MOST) {
            let time = pass();
            total += time;
            times.push(time.as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        let at = |fraction: f64| times[(fraction * (times.len() - 1) as f64).round() as usize];
        let median_s = at(0.5);
        Self {
            batch,
            passes: times.len(),
            median_s,
            percentile10_s: at(0.1),
            percentile90_s: at(0.9),
            images_per_s: batch as f64 / median_s,
        }
    }
}
