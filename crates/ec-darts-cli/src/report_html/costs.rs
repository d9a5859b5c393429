//! What the genotype's network costs, as it was retrained and in the paper's settings.

use ec_darts::cost::NetworkCost;
use ec_darts::network::{EvaluationConfig, StemKind};

use super::html::{count, details, table};
use super::read::{Material, Run};

/// Multiply-adds of ImageNet's mobile setting.
const MOBILE: u64 = 600_000_000;

pub fn tables(material: &Material) -> String {
    let Some(genotype) = material.genotype() else {
        return "<p class=\"none\">No genotype yet.</p>\n".into();
    };
    let paper = |stem, init_channels, num_cells, num_classes| EvaluationConfig {
        stem,
        init_channels,
        num_cells,
        num_classes,
    };
    let networks = [
        ("as retrained here", retrained(material)),
        ("the paper's on CIFAR-10", Some(paper(StemKind::Cifar, 36, 20, 10))),
        ("the paper's on ImageNet", Some(paper(StemKind::Imagenet, 48, 14, 1000))),
    ];
    let row = |name: &str, config: &EvaluationConfig| {
        let size = image_size(config.stem);
        let cost = NetworkCost::new(genotype, config, size);
        vec![
            name.to_string(),
            format!(
                "{} cells, {} channels, {size}×{size}, {} classes",
                config.num_cells, config.init_channels, config.num_classes
            ),
            count(cost.cost.parameters),
            count(cost.parameters_with_auxiliary),
            count(cost.cost.multiply_adds),
            format!("{:.1} MiB", cost.activation_bytes as f64 / f64::from(1 << 20)),
        ]
    };
    let known = networks.iter().filter_map(|(name, config)| Some(row(name, config.as_ref()?)));
    let mut text = table(
        &[
            "network",
            "shape",
            "parameters",
            "with auxiliary head",
            "multiply-adds",
            "maps kept by a training step, one image",
        ],
        &known.collect::<Vec<_>>(),
    );
    if networks[0].1.is_none() {
        text += "<p class=\"none\">Not retrained, or its shape is not known.</p>\n";
    }
    let imagenet = networks[2].1.as_ref().expect("the paper's");
    let multiply_adds = NetworkCost::new(genotype, imagenet, 224).cost.multiply_adds;
    let keeps = if multiply_adds <= MOBILE { "keeps" } else { "exceeds" };
    text += &format!(
        "<p>On ImageNet it {keeps} the mobile setting of 600 M multiply-adds. Multiply-adds are the \
         products of convolutions and linear layers for one image, without the auxiliary head.</p>\n"
    );
    if let Some(config) = &networks[0].1 {
        let cost = NetworkCost::new(genotype, config, image_size(config.stem));
        let cells = cost.cells.iter().enumerate().map(|(number, cell)| {
            vec![
                number.to_string(),
                cell.kind.to_string(),
                cell.num_channels.to_string(),
                count(cell.cost.parameters),
                count(cell.cost.multiply_adds),
            ]
        });
        let head = ["cell", "kind", "channels", "parameters", "multiply-adds"];
        text +=
            &details("Cell by cell, as retrained here", &table(&head, &cells.collect::<Vec<_>>()));
    }
    text
}

/// The network of the retraining, by its settings.
pub fn retrained(material: &Material) -> Option<EvaluationConfig> {
    let run: &Run = material.retrain.as_ref()?;
    let stem = match run.setting("network.stem")?.as_str()? {
        "cifar" => StemKind::Cifar,
        "stride2" => StemKind::Stride2,
        "imagenet" => StemKind::Imagenet,
        _ => return None,
    };
    Some(EvaluationConfig {
        stem,
        init_channels: run.integer("network.init_channels")? as usize,
        num_cells: run.integer("network.num_cells")? as usize,
        num_classes: material.num_classes()?,
    })
}

/// The side of the images that a stem is for.
pub fn image_size(stem: StemKind) -> usize {
    match stem {
        StemKind::Cifar => 32,
        StemKind::Stride2 => 64,
        StemKind::Imagenet => 224,
    }
}
