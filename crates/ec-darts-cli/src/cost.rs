//! `ec-darts cost`.

use ec_darts::Error;
use ec_darts::cost::{Cost, NetworkCost};
use ec_darts::latency::Latency;
use ec_darts::network::{EvaluationConfig, Skeleton, StemKind};
use ec_darts_space::Genotype;

use crate::args::{CostArguments, NetworkArguments, NetworkKind};
use crate::given::read;
use crate::print;
use crate::session::open;

/// The network that the arguments describe, and its image size; the defaults are those of the
/// paper.
///
/// # Errors
/// [`Error::ConfigSyntax`] for a number of channels or cells that is not allowed.
pub fn network(arguments: &NetworkArguments) -> anyhow::Result<(EvaluationConfig, usize)> {
    let (base, image_size) = match arguments.kind {
        NetworkKind::Cifar => (EvaluationConfig::new(StemKind::Cifar, 10), 32),
        NetworkKind::TinyImagenet => (EvaluationConfig::new(StemKind::Stride2, 200), 64),
        NetworkKind::Imagenet => (EvaluationConfig::new(StemKind::Imagenet, 1000), 224),
        NetworkKind::NasBench201 => (EvaluationConfig::nas_bench_201(10), 32),
    };
    let config = EvaluationConfig {
        init_channels: arguments.channels.map_or(base.init_channels, usize::from),
        num_cells: arguments.cells.map_or(base.num_cells, usize::from),
        num_classes: arguments.classes.map_or(base.num_classes, |classes| classes as usize),
        ..base
    };
    anyhow::ensure!(
        config.init_channels.is_multiple_of(2),
        Error::ConfigSyntax {
            origin: format!("--channels {}", config.init_channels),
            reason: "allowed: an even number".into(),
        }
    );
    anyhow::ensure!(
        config.skeleton == Skeleton::Darts || config.num_cells.is_multiple_of(3),
        Error::ConfigSyntax {
            origin: format!("--cells {}", config.num_cells),
            reason: "allowed with --network nas-bench-201: a multiple of 3, as many in each of \
                     three stages"
                .into(),
        }
    );
    Ok((config, image_size))
}

/// Returns an error unless the cells of a genotype fit into a network.
///
/// # Errors
/// [`Error::ConfigSyntax`] with the reason.
pub fn fits(config: &EvaluationConfig, genotype: &Genotype) -> anyhow::Result<()> {
    match config.skeleton.fault(genotype) {
        None => Ok(()),
        Some(reason) => anyhow::bail!(Error::ConfigSyntax {
            origin: "--network".into(),
            reason: format!("does not fit: {reason}"),
        }),
    }
}

pub fn run(arguments: CostArguments) -> anyhow::Result<()> {
    let genotype = read(&arguments.genotype)?;
    let (config, image_size) = network(&arguments.network)?;
    fits(&config, &genotype)?;
    let cost = NetworkCost::new(&genotype, &config, image_size);
    let latency = match arguments.latency {
        true => Some(measure(&arguments, &genotype, &config, image_size)?),
        false => None,
    };
    if arguments.json {
        let mut json = serde_json::to_value(&cost)?;
        if let Some((device, latency)) = latency {
            json["latency"] = serde_json::to_value(latency)?;
            json["latency"]["device"] = device.into();
        }
        return print(&format!("{}\n", serde_json::to_string_pretty(&json)?));
    }
    let mut text = format!(
        "{} cells, {} channels, {} classes, {image_size}x{image_size} images\n\n",
        config.num_cells, config.init_channels, config.num_classes
    );
    text += &format!(
        "{:34} {:>12} {:>16} {:>18}\n",
        "", "parameters", "multiply-adds", "with elementwise"
    );
    text += &line("whole network", &cost.cost);
    if cost.parameters_with_auxiliary > cost.cost.parameters {
        text += &format!("{:34} {:>12}\n", "with auxiliary head", cost.parameters_with_auxiliary);
    }
    text += &line("stem", &cost.stem);
    for (position, cell) in cost.cells.iter().enumerate() {
        let name = format!("cell {position}, {}, {} channels", cell.kind, cell.num_channels);
        text += &line(&name, &cell.cost);
        if arguments.operations {
            text += &line("  preprocessing", &cell.preprocess);
            for (pick, each) in &cell.operations {
                text += &line(&format!("  {} from {}", pick.primitive, pick.from), each);
            }
        }
    }
    for (number, block) in cost.residuals.iter().enumerate() {
        text += &line(&format!("residual block {number}"), block);
    }
    text += &line("classifier", &cost.classifier);
    text += &format!(
        "\na training step keeps maps of {:.1} MiB for each image\n",
        cost.activation_bytes as f64 / f64::from(1 << 20)
    );
    if let Some((device, latency)) = latency {
        let Latency { batch, passes, images_per_s, .. } = latency;
        let [median, low, high] =
            [latency.median_s, latency.percentile10_s, latency.percentile90_s]
                .map(|seconds| 1e3 * seconds);
        text += &format!(
            "latency of {batch} image(s) on {device}: {median:.1} ms, the median of {passes} passes; \
             {low:.1} to {high:.1} ms for 8 of 10; {images_per_s:.1} images/s\n"
        );
    }
    print(&text)
}

/// The device and the latency measured on it.
fn measure(
    arguments: &CostArguments,
    genotype: &Genotype,
    config: &EvaluationConfig,
    image_size: usize,
) -> anyhow::Result<(String, Latency)> {
    let opened = open(arguments.device, arguments.threads)?;
    let batch = arguments.batch.map_or(1, usize::from);
    let latency = Latency::measure(genotype, config, image_size, batch, &opened.device);
    Ok((opened.description, latency))
}

fn line(name: &str, cost: &Cost) -> String {
    let Cost { parameters, multiply_adds, multiply_adds_elementwise } = cost;
    format!("{name:34} {parameters:>12} {multiply_adds:>16} {multiply_adds_elementwise:>18}\n")
}
