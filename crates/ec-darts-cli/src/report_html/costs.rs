//! The cost of the genotype's network, with the settings of the retraining and with those of the
//! paper.

use ec_darts::cost::NetworkCost;
use ec_darts::network::{EvaluationConfig, Skeleton, StemKind};
use maud::{Markup, html};

use super::html::{cell, count, details, none, table};
use super::read::Material;

/// The limit of multiply-adds in the mobile setting of ImageNet.
const MOBILE: u64 = 600_000_000;

pub fn tables(material: &Material) -> Markup {
    let Some(genotype) = material.genotype() else {
        return none("No genotype yet.");
    };
    let paper = |stem, init_channels, num_cells, num_classes, side| {
        (
            EvaluationConfig {
                skeleton: Skeleton::Darts,
                stem,
                init_channels,
                num_cells,
                num_classes,
            },
            side,
        )
    };
    let retrained = material.retrained();
    let cifar = paper(StemKind::Cifar, 36, 20, 10, 32);
    let imagenet = paper(StemKind::Imagenet, 48, 14, 1000, 224);
    let benchmark = (EvaluationConfig::nas_bench_201(10), 32);
    let fits = |network: &(EvaluationConfig, usize)| network.0.skeleton.fault(genotype).is_none();
    let [cifar, imagenet, benchmark] =
        [cifar, imagenet, benchmark].map(|each| Some(each).filter(fits));
    let networks = [
        ("as retrained here", retrained.as_ref()),
        ("the paper's on CIFAR-10", cifar.as_ref()),
        ("the paper's on ImageNet", imagenet.as_ref()),
        ("NAS-Bench-201's on CIFAR-10", benchmark.as_ref()),
    ];
    let row = |name: &str, (config, side): &(EvaluationConfig, usize)| {
        let cost = NetworkCost::new(genotype, config, *side);
        vec![
            cell(name),
            cell(format!(
                "{} cells, {} channels, {side}×{side}, {} classes",
                config.num_cells, config.init_channels, config.num_classes
            )),
            cell(count(cost.cost.parameters)),
            cell(count(cost.parameters_with_auxiliary)),
            cell(count(cost.cost.multiply_adds)),
            cell(format!("{:.1} MiB", cost.activation_bytes as f64 / f64::from(1 << 20))),
        ]
    };
    let rows: Vec<Vec<Markup>> =
        networks.iter().filter_map(|(name, network)| Some(row(name, network.as_ref()?))).collect();
    let head = [
        "network",
        "shape",
        "parameters",
        "with auxiliary head",
        "multiply-adds",
        "maps kept by a training step, one image",
    ];
    let keeps = imagenet.as_ref().map(|(config, side)| {
        let multiply_adds = NetworkCost::new(genotype, config, *side).cost.multiply_adds;
        if multiply_adds <= MOBILE { "keeps" } else { "exceeds" }
    });
    html! {
        (table(&head, &rows))
        @if retrained.is_none() { (none("Not retrained, or its shape is not known.")) }
        p {
            @if let Some(keeps) = keeps {
                "On ImageNet it " (keeps) " the mobile setting of 600 M multiply-adds. "
            }
            "Multiply-adds are the \
             products of convolutions and linear layers for one image, without the auxiliary head."
        }
        @if let Some((config, side)) = &retrained {
            (details("Cell by cell, as retrained here", by_cell(&NetworkCost::new(genotype, config, *side))))
        }
    }
}

fn by_cell(cost: &NetworkCost) -> Markup {
    let rows: Vec<Vec<Markup>> = cost
        .cells
        .iter()
        .enumerate()
        .map(|(number, each)| {
            vec![
                cell(number),
                cell(each.kind),
                cell(each.num_channels),
                cell(count(each.cost.parameters)),
                cell(count(each.cost.multiply_adds)),
            ]
        })
        .collect();
    table(&["cell", "kind", "channels", "parameters", "multiply-adds"], &rows)
}
