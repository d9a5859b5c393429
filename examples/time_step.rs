//! Times whole search or retraining steps on one device and prints one JSON line, which
//! `benches/compare.sh` and `benches/gpu/measure.sh` compare with PyTorch.
//!
//! ```text
//! cargo run --release --example time_step -- --step first --kernels fused
//! cargo run --release --example time_step --features cuda -- --device cuda --step retrain
//! ```
//!
//! A step of a search is one step on alpha and one on the weights, as in the interleaved search; a
//! step of a retraining has drop path and the auxiliary head. A GPU computes asynchronously: there,
//! steps are timed in blocks, and the program waits for the device at the end of each block.

use std::time::Instant;

use burn::optim::GradientsParams;
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use clap::{Parser, ValueEnum};
use ec_darts::architect::{Architect, Unrolled};
use ec_darts::architecture::{ArchitectureParameters, Strength};
use ec_darts::batch::ImageBatch;
use ec_darts::data::{Purpose, stream_rng};
use ec_darts::device::DeviceName;
use ec_darts::memory::peak_bytes;
use ec_darts::network::{CellForm, EvaluationConfig, Skeleton, StemKind, SupernetConfig};
use ec_darts::objective::{Objective, cross_entropy};
use ec_darts::ops::{DropPath, Kernels, Memory};
use ec_darts::optim::{AdamSettings, SgdSettings, WeightOptimizer};
use ec_darts::relaxation::Relaxation;
use ec_darts::rule::Rule;
use ec_darts::transition::induce;
use ec_darts_space::{Genotype, Preset, Primitive, SearchSpace};

const LEARNING_RATE: f64 = 0.025;
const SGD: SgdSettings =
    SgdSettings { momentum: 0.9, weight_decay: 3e-4, clip_norm: Some(5.0), nesterov: false };

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Step {
    /// Alpha in first order, then weights.
    First,
    /// Alpha in second order, then weights.
    Second,
    /// Weights alone.
    Weights,
    /// Weights of the auxiliary model.
    Auxiliary,
    /// Weights of a network that is retrained.
    Retrain,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Way {
    /// Fused kernels that keep the maps for the backward pass.
    Fused,
    /// Fused kernels that compute the maps again in the backward pass.
    Recompute,
    /// Operations of Burn, one after the other.
    Reference,
}

#[derive(Parser)]
struct Arguments {
    /// flex, wgpu, vulkan, metal, cuda or rocm.
    #[arg(long, default_value = "flex")]
    device: DeviceName,
    #[arg(long, value_enum, default_value = "first")]
    step: Step,
    #[arg(long, value_enum, default_value = "fused")]
    kernels: Way,
    /// Number of threads of the CPU.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Number of timed blocks of steps, after one warm-up block.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    samples: u64,
    /// Steps per block [default: 1 on the CPU, 20 elsewhere].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    steps_per_wait: Option<u64>,
    /// Seed of alpha, from which the auxiliary model's genotype is derived.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Genotype of the auxiliary model or of the retrained network, in JSON as a search writes it
    /// [default: from alpha, DARTS_V2].
    #[arg(long)]
    genotype: Option<String>,
    /// Images per batch [default: 64, for a retraining 96].
    #[arg(long)]
    batch: Option<usize>,
    /// Channels [default: 16, for a retraining 36].
    #[arg(long)]
    channels: Option<usize>,
    /// Number of cells [default: 8, for a retraining 20].
    #[arg(long)]
    cells: Option<usize>,
    /// Height and width of the images, in pixels.
    #[arg(long, default_value_t = 32)]
    size: usize,
}

/// The parts of a timed run, whatever the network.
struct Run {
    step: Step,
    kernels: Kernels,
    seed: u64,
    genotype: Option<Genotype>,
    batch: usize,
    channels: usize,
    cells: usize,
    size: usize,
    device: Device,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    rayon::ThreadPoolBuilder::new().num_threads(arguments.threads).build_global()?;
    let opened = arguments.device.open()?;
    let (batch, channels, cells) =
        if arguments.step == Step::Retrain { (96, 36, 20) } else { (64, 16, 8) };
    let run = Run {
        step: arguments.step,
        kernels: match arguments.kernels {
            Way::Fused => Kernels::Fused(Memory::Save),
            Way::Recompute => Kernels::Fused(Memory::Recompute),
            Way::Reference => Kernels::Reference,
        },
        seed: arguments.seed,
        genotype: arguments.genotype.as_deref().map(serde_json::from_str).transpose()?,
        batch: arguments.batch.unwrap_or(batch),
        channels: arguments.channels.unwrap_or(channels),
        cells: arguments.cells.unwrap_or(cells),
        size: arguments.size,
        device: opened.device.clone().autodiff(),
    };
    let (genotype, mut step) = match arguments.step {
        Step::Retrain => run.retraining(),
        _ => run.search()?,
    };
    let block = arguments.steps_per_wait.unwrap_or(if opened.is_cpu { 1 } else { 20 });
    let mut number = 0;
    let mut seconds_of = |steps: u64| -> anyhow::Result<f64> {
        let start = Instant::now();
        for _ in 0..steps {
            step(number);
            number += 1;
        }
        opened.device.sync()?;
        Ok(start.elapsed().as_secs_f64())
    };
    // The first block takes memory from the system, and compiles a GPU's kernels.
    let first = seconds_of(1)?;
    if !opened.is_cpu {
        seconds_of(block)?;
    }
    let mut seconds = Vec::new();
    for _ in 0..arguments.samples {
        seconds.push(seconds_of(block)? / block as f64);
    }
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    // The memory pool of a GPU never shrinks while the program runs, so its size now is its largest
    // size.
    let peak = match opened.is_cpu {
        true => peak_bytes(),
        false => opened.device.memory_pool_usage().map(|usage| usage.bytes_reserved),
    };
    println!(
        "{}",
        serde_json::json!({
            "mode": format!("ec-darts {:?}", arguments.kernels).to_lowercase(),
            "device": opened.description,
            "step": format!("{:?}", arguments.step).to_lowercase(),
            "first_s": first,
            "median_s": median,
            "fastest_s": seconds[0],
            "slowest_s": seconds[seconds.len() - 1],
            "steps": block * arguments.samples,
            "steps_per_wait": block,
            "convolutions": num_convolutions(&genotype),
            "peak_mib": peak.map(|bytes| bytes >> 20),
        })
    );
    Ok(())
}

/// Takes the step with a given number.
type StepFn = Box<dyn FnMut(u64)>;

impl Run {
    /// Random images; all labels are equally frequent.
    fn images(&self) -> ImageBatch {
        let shape = [self.batch, 3, self.size, self.size];
        let labels: Vec<i32> = (0..self.batch as i32).map(|image| image % 10).collect();
        ImageBatch {
            images: Tensor::random(shape, Distribution::Normal(0.0, 1.0), &self.device),
            labels: Tensor::<1, Int>::from_data(TensorData::new(labels, [shape[0]]), &self.device),
        }
    }

    fn search(self) -> anyhow::Result<(Genotype, StepFn)> {
        let space = SearchSpace::darts();
        let network = SupernetConfig {
            space: space.clone(),
            stem: StemKind::Cifar,
            init_channels: self.channels,
            num_cells: self.cells,
            num_classes: 10,
            form: CellForm::default(),
        };
        let weights = &mut stream_rng(0, Purpose::Weights, 0, 0);
        let supernet = network.init(weights, &self.device).with_kernels(self.kernels);
        let rng = &mut stream_rng(self.seed, Purpose::Alpha, 0, 0);
        let alpha = ArchitectureParameters::new(&space, 1e-3, rng, &self.device);
        let (train, valid) = (self.images(), self.images());
        let mut optimizer = WeightOptimizer::new(&SGD);
        let adam = AdamSettings { beta1: 0.5, beta2: 0.999, weight_decay: 1e-3 };
        let mut architect = Architect::new(3e-4, &adam);
        let rule = Rule::from(Relaxation::CrossEdge);
        let genotype = match self.genotype {
            Some(genotype) => genotype,
            None => rule.genotype(&space, &alpha, Strength::Mixing)?,
        };
        let auxiliary = induce(&supernet, &genotype);
        // The module is moved, not cloned: optimizers work in place where no other owner of a
        // tensor exists.
        let mut state = Some((alpha, supernet, auxiliary));
        let step = move |_| {
            let (mut alpha, mut supernet, mut auxiliary) = state.take().expect("put back below");
            let objective = Objective::new(&space, &rule);
            if matches!(self.step, Step::First | Step::Second) {
                let unrolled = (self.step == Step::Second).then_some(Unrolled {
                    train: &train,
                    optimizer: &mut optimizer,
                    learning_rate: LEARNING_RATE,
                });
                alpha = architect.step(&objective, alpha, &supernet, &valid, unrolled).0;
            }
            if self.step == Step::Auxiliary {
                let loss = cross_entropy(auxiliary.forward(train.images.clone()), &train);
                let gradients = GradientsParams::from_grads(loss.backward(), &auxiliary);
                auxiliary = optimizer.step(LEARNING_RATE, auxiliary, gradients).0;
            } else {
                let mixing = objective.mixing(&alpha).detach();
                let loss = cross_entropy(supernet.forward(train.images.clone(), &mixing), &train);
                let gradients = GradientsParams::from_grads(loss.backward(), &supernet);
                supernet = optimizer.step(LEARNING_RATE, supernet, gradients).0;
            }
            state = Some((alpha, supernet, auxiliary));
        };
        Ok((genotype, Box::new(step)))
    }

    /// The settings of the paper: drop path at its final value, 0.2, and an auxiliary loss of
    /// weight 0.4.
    fn retraining(mut self) -> (Genotype, StepFn) {
        let preset = || Preset::find("DARTS_V2").expect("a preset").genotype();
        let genotype = self.genotype.take().unwrap_or_else(preset);
        let network = EvaluationConfig {
            skeleton: Skeleton::Darts,
            stem: StemKind::Cifar,
            init_channels: self.channels,
            num_cells: self.cells,
            num_classes: 10,
        };
        let weights = &mut stream_rng(0, Purpose::Weights, 0, 0);
        let network = network.init(&genotype, weights, &self.device).with_kernels(self.kernels);
        let train = self.images();
        let mut optimizer = WeightOptimizer::new(&SGD);
        let mut state = Some(network);
        let step = move |number| {
            let network = state.take().expect("put back below");
            let mut drop_path = DropPath::new(0.2, stream_rng(0, Purpose::DropPath, 0, number));
            let (logits, side) = network.forward_training(train.images.clone(), &mut drop_path);
            let loss = cross_entropy(logits, &train)
                + cross_entropy(side.expect("an auxiliary head"), &train) * 0.4;
            let gradients = GradientsParams::from_grads(loss.backward(), &network);
            state = Some(optimizer.step(LEARNING_RATE, network, gradients).0);
        };
        (genotype, Box::new(step))
    }
}

fn num_convolutions(genotype: &Genotype) -> usize {
    use Primitive::{DilConv3x3, DilConv5x5, SepConv3x3, SepConv5x5};
    let picks = genotype.cells().flat_map(|(_, cell)| cell.nodes.iter().flatten());
    let convolutions = picks
        .filter(|pick| matches!(pick.primitive, DilConv3x3 | DilConv5x5 | SepConv3x3 | SepConv5x5));
    convolutions.count()
}
