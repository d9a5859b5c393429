//! One mixed operation, forward and backward, at the sizes of the paper's supernet.
//!
//! ```text
//! cargo bench --bench mixed_operation
//! EC_DARTS_DEVICE=wgpu cargo bench --features wgpu --bench mixed_operation
//! ```
//!
//! The loss is a sum with fixed random factors; the gradients are those of the input, the mixing
//! weights and all parameters. Inputs are made outside the timed part, which waits for the device.
//! Items are images.

use std::fmt;
use std::sync::{Mutex, OnceLock};

use burn::tensor::{Distribution, Tensor, activation::softmax};
use divan::Bencher;
use divan::counter::ItemsCount;
use ec_darts::device::{DeviceName, Opened};
use ec_darts::memory::peak_bytes;
use ec_darts::network::MixedOperation;
use ec_darts::ops::Kernels;
use ec_darts::ops::Memory;
use ec_darts_space::SearchSpace;

/// Channels and side of the map before, between and after the two reductions.
const SIZES: [(usize, usize); 3] = [(16, 32), (32, 16), (64, 8)];

static PEAKS: Mutex<Vec<(String, Option<u64>)>> = Mutex::new(Vec::new());

/// The device that `EC_DARTS_DEVICE` names, by default Flex.
fn opened() -> &'static Opened {
    static OPENED: OnceLock<Opened> = OnceLock::new();
    OPENED.get_or_init(|| {
        let name = std::env::var("EC_DARTS_DEVICE").unwrap_or_else(|_| "flex".into());
        let name: DeviceName = name.parse().unwrap_or_else(|error| panic!("{name}: {error}"));
        name.open().unwrap_or_else(|error| panic!("{error}"))
    })
}

/// The value of `EC_DARTS_KERNELS`: `reference`, `fused` (the default) or `recompute`.
fn kernels() -> Kernels {
    match std::env::var("EC_DARTS_KERNELS").as_deref() {
        Ok("reference") => Kernels::Reference,
        Ok("recompute") => Kernels::Fused(Memory::Recompute),
        Ok("fused") | Err(_) => Kernels::default(),
        Ok(other) => panic!("EC_DARTS_KERNELS is {other}, allowed: reference, fused, recompute"),
    }
}

#[derive(Clone, Copy)]
struct Case {
    shape: [usize; 4],
    stride: usize,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let device = std::env::var("EC_DARTS_DEVICE").unwrap_or_else(|_| "flex".into());
        write!(f, "{device} f32 {:?} stride {}", self.shape, self.stride)
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for batch in [8, 64] {
        for (channels, side) in SIZES {
            for stride in [1, 2] {
                cases.push(Case { shape: [batch, channels, side, side], stride });
            }
        }
    }
    cases
}

#[divan::bench(args = cases(), sample_count = 5, sample_size = 1)]
fn forward_backward(bencher: Bencher, case: &Case) {
    let device = opened().device.clone().autodiff();
    let space = SearchSpace::darts();
    let [batch, channels, side, _] = case.shape;
    let operation = MixedOperation::new(&space, channels, case.stride, &device);
    let normal = Distribution::Normal(0.0, 1.0);
    let input = Tensor::<4>::random(case.shape, normal, &device).require_grad();
    let alpha = Tensor::<1>::random([space.primitives().len()], normal, &device).require_grad();
    let side = side / case.stride;
    let factors = Tensor::<4>::random([batch, channels, side, side], normal, &device);
    let pass = || {
        let output = operation.forward(input.clone(), softmax(alpha.clone(), 0), kernels());
        let gradients = (output * factors.clone()).sum().backward();
        device.sync().expect("the device answers");
        gradients
    };
    // The first pass compiles kernels and reserves memory.
    drop(pass());
    bencher.counter(ItemsCount::new(batch)).bench_local(pass);
    PEAKS.lock().expect("no bench panicked").push((case.to_string(), peak_bytes()));
}

fn main() {
    println!("device: {}", opened().description);
    divan::main();
    println!("\npeak resident memory of the process so far (run one case alone for its own)");
    for (name, peak) in PEAKS.lock().expect("no bench panicked").iter() {
        match peak {
            Some(bytes) => println!("  {name:<44} {:>8.1} MiB", *bytes as f64 / f64::from(1 << 20)),
            None => println!("  {name:<44} not known on this system"),
        }
    }
}
