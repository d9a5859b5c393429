//! The steps of a search: weights, alpha in both orders, auxiliary model.
//!
//! ```text
//! cargo bench --bench search_step
//! EC_DARTS_BENCH_PAPER=1 cargo bench --bench search_step -- --sample-count 1     minutes on a CPU
//! EC_DARTS_DEVICE=wgpu cargo bench --features wgpu --bench search_step
//! ```
//!
//! Batches are made outside the timed part, which waits for the device. Items are the images of one
//! batch, whatever the number of passes over it.

use std::fmt;
use std::sync::{Mutex, OnceLock};

use burn::optim::GradientsParams;
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use divan::Bencher;
use divan::counter::ItemsCount;
use ec_darts::architect::{Architect, ArchitectOrder, Unrolled};
use ec_darts::architecture::{ArchitectureParameters, Strength};
use ec_darts::batch::ImageBatch;
use ec_darts::data::{Purpose, stream_rng};
use ec_darts::device::{DeviceName, Opened};
use ec_darts::memory::peak_bytes;
use ec_darts::network::{CellForm, StemKind, Supernet, SupernetConfig};
use ec_darts::objective::{Objective, cross_entropy};
use ec_darts::ops::{Kernels, Memory};
use ec_darts::optim::{AdamSettings, SgdSettings, WeightOptimizer};
use ec_darts::relaxation::Relaxation;
use ec_darts::rule::Rule;
use ec_darts::transition::induce;
use ec_darts_space::SearchSpace;

const LEARNING_RATE: f64 = 0.025;
const RELAXATION: Relaxation = Relaxation::CrossEdge;

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
    name: &'static str,
    stem: StemKind,
    init_channels: usize,
    num_cells: usize,
    batch: usize,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let device = std::env::var("EC_DARTS_DEVICE").unwrap_or_else(|_| "flex".into());
        let Self { name, init_channels, num_cells, batch, .. } = self;
        write!(f, "{device} f32 [{batch}, 3, 32, 32] C {init_channels} L {num_cells} {name}")
    }
}

fn cases() -> Vec<Case> {
    // The supernets of configs/search_cifar10_cpu.toml and configs/search_cifar10.toml.
    let small =
        Case { name: "small", stem: StemKind::Stride2, init_channels: 8, num_cells: 5, batch: 16 };
    let paper =
        Case { name: "paper", stem: StemKind::Cifar, init_channels: 16, num_cells: 8, batch: 64 };
    let all = std::env::var_os("EC_DARTS_BENCH_PAPER").is_some();
    if all { vec![small, paper] } else { vec![small] }
}

/// The inputs of a step and the state that it changes.
struct Setup {
    device: Device,
    space: SearchSpace,
    supernet: Supernet,
    alpha: ArchitectureParameters,
    optimizer: WeightOptimizer,
    train: ImageBatch,
    valid: ImageBatch,
}

impl Setup {
    fn new(case: &Case) -> Self {
        let device = opened().device.clone().autodiff();
        let space = SearchSpace::darts();
        let network = SupernetConfig {
            space: space.clone(),
            stem: case.stem,
            init_channels: case.init_channels,
            num_cells: case.num_cells,
            num_classes: 10,
            form: CellForm::default(),
        };
        let sgd = SgdSettings {
            momentum: 0.9,
            weight_decay: 3e-4,
            clip_norm: Some(5.0),
            nesterov: false,
        };
        let batch = || {
            let normal = Distribution::Normal(0.0, 1.0);
            let labels: Vec<i32> = (0..case.batch as i32).map(|image| image % 10).collect();
            ImageBatch {
                images: Tensor::random([case.batch, 3, 32, 32], normal, &device),
                labels: Tensor::<1, Int>::from_data(TensorData::new(labels, [case.batch]), &device),
            }
        };
        Self {
            supernet: network
                .init(&mut stream_rng(0, Purpose::Weights, 0, 0), &device)
                .with_kernels(kernels()),
            alpha: ArchitectureParameters::new(
                &space,
                1e-3,
                &mut stream_rng(0, Purpose::Alpha, 0, 0),
                &device,
            ),
            optimizer: WeightOptimizer::new(&sgd),
            train: batch(),
            valid: batch(),
            device,
            space,
        }
    }
}

/// Times a step that changes its setup, after one step that compiles kernels and reserves memory.
fn time(bencher: Bencher, case: &Case, what: &str, device: &Device, mut step: impl FnMut()) {
    let mut step = || {
        step();
        device.sync().expect("the device answers");
    };
    step();
    bencher.counter(ItemsCount::new(case.batch)).bench_local(&mut step);
    let name = format!("{what}, {case}");
    PEAKS.lock().expect("no bench panicked").push((name, peak_bytes()));
}

#[divan::bench(args = cases(), sample_count = 5, sample_size = 1)]
fn weight_step(bencher: Bencher, case: &Case) {
    let mut setup = Setup::new(case);
    let (device, rule) = (setup.device.clone(), Rule::from(RELAXATION));
    time(bencher, case, "weight_step", &device, || {
        let objective = Objective::new(&setup.space, &rule);
        let mixing = objective.mixing(&setup.alpha).detach();
        let train = &setup.train;
        let loss = cross_entropy(setup.supernet.forward(train.images.clone(), &mixing), train);
        let gradients = GradientsParams::from_grads(loss.backward(), &setup.supernet);
        let supernet = setup.supernet.clone();
        setup.supernet = setup.optimizer.step(LEARNING_RATE, supernet, gradients).0;
    });
}

#[divan::bench(args = cases(), sample_count = 5, sample_size = 1)]
fn alpha_step_first_order(bencher: Bencher, case: &Case) {
    alpha_step(bencher, case, "alpha_step_first_order", ArchitectOrder::First);
}

#[divan::bench(args = cases(), sample_count = 5, sample_size = 1)]
fn alpha_step_second_order(bencher: Bencher, case: &Case) {
    alpha_step(bencher, case, "alpha_step_second_order", ArchitectOrder::Second);
}

fn alpha_step(bencher: Bencher, case: &Case, what: &str, order: ArchitectOrder) {
    let mut setup = Setup::new(case);
    let device = setup.device.clone();
    let adam = AdamSettings { beta1: 0.5, beta2: 0.999, weight_decay: 1e-3 };
    let mut architect = Architect::new(3e-4, &adam);
    let rule = Rule::from(RELAXATION);
    time(bencher, case, what, &device, || {
        let objective = Objective::new(&setup.space, &rule);
        let unrolled = (order == ArchitectOrder::Second).then_some(Unrolled {
            train: &setup.train,
            optimizer: &mut setup.optimizer,
            learning_rate: LEARNING_RATE,
        });
        let alpha = setup.alpha.clone();
        let (alpha, _) = architect.step(&objective, alpha, &setup.supernet, &setup.valid, unrolled);
        setup.alpha = alpha;
    });
}

#[divan::bench(args = cases(), sample_count = 5, sample_size = 1)]
fn auxiliary_step(bencher: Bencher, case: &Case) {
    let mut setup = Setup::new(case);
    let device = setup.device.clone();
    let genotype = Rule::from(RELAXATION).genotype(&setup.space, &setup.alpha, Strength::Mixing);
    let mut auxiliary = induce(&setup.supernet, &genotype.expect("alpha is finite"));
    time(bencher, case, "auxiliary_step", &device, || {
        let train = &setup.train;
        let loss = cross_entropy(auxiliary.forward(train.images.clone()), train);
        let gradients = GradientsParams::from_grads(loss.backward(), &auxiliary);
        auxiliary = setup.optimizer.step(LEARNING_RATE, auxiliary.clone(), gradients).0;
    });
}

fn main() {
    println!("device: {}", opened().description);
    divan::main();
    println!("\npeak resident memory of the process so far (run one step alone for its own)");
    for (name, peak) in PEAKS.lock().expect("no bench panicked").iter() {
        match peak {
            Some(bytes) => println!("  {name:<68} {:>8.1} MiB", *bytes as f64 / f64::from(1 << 20)),
            None => println!("  {name:<68} not known on this system"),
        }
    }
}
