//! Times whole search steps and prints one JSON line: what `benches/compare.sh` sets against
//! PyTorch.
//!
//! ```text
//! cargo run --release --example time_step -- --step first --kernels fused
//! ```
//!
//! A step is one on alpha and one on the weights, as in the interleaved search.

use std::time::Instant;

use burn::optim::GradientsParams;
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use clap::{Parser, ValueEnum};
use ec_darts::architect::{Architect, ArchitectOrder, BilevelBatch, RelaxedModel, cross_entropy};
use ec_darts::architecture::{ArchitectureParameters, Strength};
use ec_darts::data::{Purpose, stream_rng};
use ec_darts::memory::peak_bytes;
use ec_darts::network::{StemKind, SupernetConfig};
use ec_darts::ops::{Kernels, Memory};
use ec_darts::optim::{AdamSettings, SgdSettings, WeightOptimizer};
use ec_darts::relaxation::{Mixing, Relaxation};
use ec_darts::tensors::ImageBatch;
use ec_darts::transition::induce;
use ec_darts_space::{Primitive, SearchSpace};

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
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Way {
    /// Fused kernels that keep the maps.
    Fused,
    /// Fused kernels that compute them again.
    Recompute,
    /// One operation of Burn after the other.
    Reference,
}

#[derive(Parser)]
struct Arguments {
    #[arg(long, value_enum, default_value = "first")]
    step: Step,
    #[arg(long, value_enum, default_value = "fused")]
    kernels: Way,
    #[arg(long, default_value_t = 2)]
    threads: usize,
    #[arg(long, default_value_t = 5)]
    samples: usize,
    /// Of alpha, from which the auxiliary model's genotype comes.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The auxiliary model's, in JSON as a search writes it, instead of alpha's.
    #[arg(long)]
    genotype: Option<String>,
    #[arg(long, default_value_t = 64)]
    batch: usize,
    #[arg(long, default_value_t = 16)]
    channels: usize,
    #[arg(long, default_value_t = 8)]
    cells: usize,
    /// Height and width of the images, in pixels.
    #[arg(long, default_value_t = 32)]
    size: usize,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    rayon::ThreadPoolBuilder::new().num_threads(arguments.threads).build_global()?;
    let device = Device::flex().autodiff();
    let space = SearchSpace::darts();
    let network = SupernetConfig {
        space: space.clone(),
        stem: StemKind::Cifar,
        init_channels: arguments.channels,
        num_cells: arguments.cells,
        num_classes: 10,
    };
    let kernels = match arguments.kernels {
        Way::Fused => Kernels::Fused(Memory::Save),
        Way::Recompute => Kernels::Fused(Memory::Recompute),
        Way::Reference => Kernels::Reference,
    };
    let weights = &mut stream_rng(0, Purpose::Weights, 0, 0);
    let mut supernet = network.init(weights, &device).with_kernels(kernels);
    let rng = &mut stream_rng(arguments.seed, Purpose::Alpha, 0, 0);
    let mut alpha = ArchitectureParameters::new(&space, 1e-3, rng, &device);
    let batch = || {
        let shape = [arguments.batch, 3, arguments.size, arguments.size];
        let labels: Vec<i32> = (0..arguments.batch as i32).map(|image| image % 10).collect();
        ImageBatch {
            images: Tensor::random(shape, Distribution::Normal(0.0, 1.0), &device),
            labels: Tensor::<1, Int>::from_data(TensorData::new(labels, [shape[0]]), &device),
        }
    };
    let batches = BilevelBatch { train: Some(batch()), valid: batch() };
    let train = batches.train.clone().expect("made on the line above");
    let sgd = SgdSettings { momentum: 0.9, weight_decay: 3e-4, clip_norm: Some(5.0) };
    let mut optimizer = WeightOptimizer::new(&sgd);
    let order = match arguments.step {
        Step::Second => ArchitectOrder::Second,
        _ => ArchitectOrder::First,
    };
    let adam = AdamSettings { beta1: 0.5, beta2: 0.999, weight_decay: 1e-3 };
    let mut architect = Architect::new(order, 3e-4, &adam);
    let genotype = match &arguments.genotype {
        Some(text) => serde_json::from_str(text)?,
        None => alpha.genotype(&space, Relaxation::CrossEdge, Strength::Mixing)?,
    };
    let picks = [&genotype.normal, &genotype.reduction].map(|cell| cell.nodes.iter().flatten());
    let convolutions = picks.into_iter().flatten().filter(|pick| {
        use Primitive::{DilConv3x3, DilConv5x5, SepConv3x3, SepConv5x5};
        matches!(pick.primitive, DilConv3x3 | DilConv5x5 | SepConv3x3 | SepConv5x5)
    });
    let convolutions = convolutions.count();
    let mut auxiliary = induce(&supernet, &genotype);
    let mut seconds = Vec::new();
    for sample in 0..=arguments.samples {
        let start = Instant::now();
        if matches!(arguments.step, Step::First | Step::Second) {
            let model = RelaxedModel { space: &space, relaxation: Relaxation::CrossEdge };
            alpha = architect.step(&model, alpha, &supernet, &batches, &mut optimizer, 0.025).0;
        }
        if arguments.step == Step::Auxiliary {
            let loss = cross_entropy(auxiliary.forward(train.images.clone()), &train);
            let gradients = GradientsParams::from_grads(loss.backward(), &auxiliary);
            auxiliary = optimizer.step(0.025, auxiliary, gradients).0;
        } else {
            let mixing = Mixing::new(&alpha, Relaxation::CrossEdge, space.topology()).detach();
            let loss = cross_entropy(supernet.forward(train.images.clone(), &mixing), &train);
            let gradients = GradientsParams::from_grads(loss.backward(), &supernet);
            supernet = optimizer.step(0.025, supernet, gradients).0;
        }
        // The first one takes memory from the system.
        if sample > 0 {
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    seconds.sort_by(f64::total_cmp);
    println!(
        "{}",
        serde_json::json!({
            "mode": format!("ec-darts {:?}", arguments.kernels).to_lowercase(),
            "step": format!("{:?}", arguments.step).to_lowercase(),
            "median_s": seconds[seconds.len() / 2],
            "fastest_s": seconds[0],
            "slowest_s": seconds[seconds.len() - 1],
            "convolutions": convolutions,
            "peak_mib": peak_bytes().map(|bytes| bytes >> 20),
        })
    );
    Ok(())
}
