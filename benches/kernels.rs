//! Arithmetic speed of the fused kernels, operation by operation, compared with a matrix product.
//!
//! ```text
//! cargo bench --bench kernels
//! ```
//!
//! The benchmark counts useful operations: two per multiply-add; forward once, backward twice
//! (gradients of input and weights). It does not count the maps that the backward pass computes
//! again, ReLU, batch normalization and layout changes. Figures are medians of 9 passes at batch
//! 64, after one warm-up pass.

use std::sync::Arc;
use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};
use ec_darts_kernels::{Cell, Edge, EdgeOperation, Memory, cell};

const BATCH: usize = 64;
const SAMPLES: usize = 9;

/// Median time of a piece of work, in s.
fn median(mut work: impl FnMut()) -> f64 {
    work();
    let mut seconds: Vec<f64> = (0..SAMPLES)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[SAMPLES / 2]
}

/// Number of weights, and of multiply-adds for one image, of a separable convolution or a 1x1
/// convolution.
fn cost(operation: EdgeOperation, [from, to]: [usize; 2], positions: usize) -> (usize, usize) {
    match operation {
        EdgeOperation::Separable { kernel, repeats, .. } => {
            let weights = repeats * from * (kernel * kernel + to);
            (weights, weights * positions)
        }
        EdgeOperation::Pointwise => (from * to, from * to * positions),
        other => panic!("{other:?} has no multiply-adds to speak of"),
    }
}

fn main() {
    let device = Device::flex();
    let normal = Distribution::Normal(0.0, 1.0);
    let square = || Tensor::<2>::random([1024, 1024], normal, &device);
    let (a, b) = (square(), square());
    let seconds = median(|| drop(a.clone().matmul(b.clone())));
    let peak = 2.0 * 1024f64.powi(3) / seconds / 1e9;
    println!("matrix product 1024 x 1024 x 1024: {peak:.0} GFLOP/s\n");
    println!(
        "| operation | channels, map | forward ms | forward + backward ms | GFLOP/s | of the product |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    let separable =
        |kernel, dilation, repeats| EdgeOperation::Separable { kernel, dilation, repeats };
    let device = device.autodiff();
    for (channels, side) in [(16, 32), (32, 16), (64, 8)] {
        let cases = [
            ("sep_conv_3x3", separable(3, 1, 2), channels),
            ("sep_conv_5x5", separable(5, 1, 2), channels),
            ("dil_conv_3x3", separable(3, 2, 1), channels),
            ("dil_conv_5x5", separable(5, 2, 1), channels),
            ("relu, conv 1x1, norm", EdgeOperation::Pointwise, 4 * channels),
            ("max_pool_3x3", EdgeOperation::MaxPool { norm: true }, channels),
            ("avg_pool_3x3", EdgeOperation::AvgPool { norm: true }, channels),
        ];
        for (name, operation, from) in cases {
            let widths = [from, channels];
            let has_weights = !name.ends_with("pool_3x3");
            let (weights, multiply_adds) =
                if has_weights { cost(operation, widths, side * side) } else { (0, 0) };
            let description = Arc::new(Cell::from(Edge {
                operations: vec![operation],
                channels: widths,
                stride: 1,
                affine: false,
                parameters: 0,
                statistics: 0,
            }));
            let statistics = vec![0.0; description.inputs[0].num_statistics()];
            let running = Tensor::<1>::from_data(&statistics[..], &device);
            let shape = [BATCH, from, side, side];
            let input = Tensor::<4>::random(shape, normal, &device).require_grad();
            let parameters = match has_weights {
                true => Tensor::<1>::random([weights], normal, &device).require_grad(),
                false => Tensor::zeros([0], &device),
            };
            let one = Tensor::<1>::ones([1], &device);
            let run = || {
                let (inputs, parameters) = (vec![input.clone()], parameters.clone());
                let running = [running.clone(), running.clone()];
                let description = description.clone();
                cell(inputs, parameters, one.clone(), running, None, description, Memory::Save)
                    .output
            };
            let forward = median(|| drop(run()));
            let both = median(|| drop(run().sum().backward()));
            let speed = 3.0 * 2.0 * (BATCH * multiply_adds) as f64 / both / 1e9;
            let (speed, share) = match has_weights {
                true => (format!("{speed:.0}"), format!("{:.0} %", 100.0 * speed / peak)),
                false => ("-".into(), "-".into()),
            };
            println!(
                "| {name} | {from} to {channels}, {side}x{side} | {:.2} | {:.2} | {speed} | {share} |",
                1e3 * forward,
                1e3 * both
            );
        }
    }
}
