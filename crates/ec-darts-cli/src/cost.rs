//! `ec-darts cost`.

use ec_darts::cost::{Cost, NetworkCost};
use ec_darts::network::{EvaluationConfig, StemKind};

use crate::args::{CostArguments, NetworkKind};
use crate::genotype::read;
use crate::print;

/// Stem, channels, cells, classes and image size of the networks that the paper retrains.
pub fn defaults(network: NetworkKind) -> (EvaluationConfig, usize) {
    let (stem, init_channels, num_cells, num_classes, image_size) = match network {
        NetworkKind::Cifar => (StemKind::Cifar, 36, 20, 10, 32),
        NetworkKind::TinyImagenet => (StemKind::Stride2, 36, 20, 200, 64),
        NetworkKind::Imagenet => (StemKind::Imagenet, 48, 14, 1000, 224),
    };
    (EvaluationConfig { stem, init_channels, num_cells, num_classes }, image_size)
}

pub fn run(arguments: CostArguments) -> anyhow::Result<()> {
    let genotype = read(&arguments.genotype)?;
    let (mut config, image_size) = defaults(arguments.network);
    config.init_channels = arguments.channels.map_or(config.init_channels, usize::from);
    config.num_cells = arguments.cells.map_or(config.num_cells, usize::from);
    config.num_classes = arguments.classes.map_or(config.num_classes, |classes| classes as usize);
    anyhow::ensure!(
        config.init_channels.is_multiple_of(2),
        "--channels is {}, allowed: an even number",
        config.init_channels
    );
    let cost = NetworkCost::new(&genotype, &config, image_size);
    if arguments.json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&cost)?));
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
    text += &format!("{:34} {:>12}\n", "with auxiliary head", cost.parameters_with_auxiliary);
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
    text += &line("classifier", &cost.classifier);
    print(&text)
}

fn line(name: &str, cost: &Cost) -> String {
    let Cost { parameters, multiply_adds, multiply_adds_elementwise } = cost;
    format!("{name:34} {parameters:>12} {multiply_adds:>16} {multiply_adds_elementwise:>18}\n")
}
