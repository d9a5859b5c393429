//! The part of a report about ranks, and about the agreement of trainings.

use ec_darts_study::Results;
use ec_darts_study::analysis::{Analysis, RankGroup, RankMean};
use ec_darts_study::statistics::Reliability;

use super::blocks::{Block, Cell, Picture, Table, number};
use super::pictures::{self, Links};

pub fn ranks(analysis: &Analysis, links: Links) -> Vec<Block> {
    let rows = analysis.ranks.iter().map(|group| {
        let told = &group.correlation;
        vec![
            Cell::text(format!("{} by {}", group_name(group), group.score.name())),
            Cell::text(group.points.len()),
            Cell::number(&told.clone().map(|told| told.tau), 2),
            Cell::range(&told.clone().and_then(|told| told.interval), 2),
            Cell::chance(&told.clone().map(|told| told.chance)),
            Cell::number(&group.ceiling, 2),
        ]
    });
    let head = vec!["rank in", "genotypes", "tau", "95 % interval", "p", "at most"];
    let mut blocks = vec![Block::Table(Table { name: "ranks", head, rows: rows.collect() })];
    let is_of_searches = |mean: &&RankMean| {
        let mut groups = analysis.ranks.iter().filter(|group| group.variant == mean.variant);
        groups.any(|group| group.seed.is_some())
    };
    let several: Vec<&RankMean> = analysis.rank_means.iter().filter(is_of_searches).collect();
    if !several.is_empty() {
        let rows = several.iter().map(|mean| {
            vec![
                Cell::text(format!("{} by {}", mean.variant, mean.score.name())),
                Cell::text(mean.taus.len()),
                Cell::number(&mean.tau.clone().map(|(tau, _)| tau), 2),
                Cell::range(&mean.tau.clone().map(|(_, interval)| interval), 2),
            ]
        });
        let head = vec!["rank in", "searches", "mean tau", "95 % interval"];
        blocks.push(Block::Table(Table { name: "mean ranks", head, rows: rows.collect() }));
    }
    blocks.push(Block::Text(
        "Kendall's tau-b of the score in the search and the mean accuracy after training; p: of a tau as far from \
         zero if ranks had nothing to do with each other, over all permutations. At most: the tau that a perfect \
         score would have on average, for trainings of the same genotype differ. A genotype of several epochs counts \
         once."
            .into(),
    ));
    let pictures = analysis.ranks.iter().enumerate().map(|(place, group)| Picture {
        name: format!("ranks-{}", place + 1),
        title: group_name(group),
        caption: match &group.correlation {
            Ok(told) => format!(
                "By {}: tau {} of {} genotypes.",
                group.score.name(),
                number(told.tau, 2),
                told.count
            ),
            Err(error) => format!("By {}: tau cannot be told: {error}.", group.score.name()),
        },
        is_wide: false,
        svg: pictures::ranks(group, links),
    });
    blocks.push(Block::Pictures(pictures.collect()));
    blocks
}

fn group_name(group: &RankGroup) -> String {
    match group.seed {
        Some(seed) => format!("{}, search {seed}", group.variant),
        None => group.variant.clone(),
    }
}

pub fn agreement(results: &Results, analysis: &Analysis, links: Links) -> Vec<Block> {
    let agreement = &analysis.agreement;
    let reliability = |of: fn(&Reliability) -> f64| agreement.reliability.clone().map(|r| of(&r));
    let told = &agreement.correlation;
    let rows = vec![
        vec![
            Cell::text("tau between the first two training seeds"),
            Cell::number(&told.clone().map(|told| told.tau), 2),
            Cell::range(&told.clone().and_then(|told| told.interval), 2),
            Cell::text(agreement.pairs.len()),
        ],
        vec![
            Cell::text("reliability of one training (intraclass correlation)"),
            Cell::number(&reliability(|told| told.single), 2),
            Cell::range(&agreement.reliability.clone().map(|told| told.interval), 2),
            Cell::text(agreement.reliability.as_ref().map_or(0, |told| told.genotypes)),
        ],
    ];
    let head = vec!["figure", "value", "95 % interval", "genotypes"];
    let mut blocks = vec![
        Block::Table(Table { name: "agreement", head, rows }),
        Block::Text(
            "Over all genotypes of the study, each once. Noise of trainings lowers the tau of every score, also of one \
             without error; a reliability near zero says that trainings of this protocol rank nothing."
                .into(),
        ),
    ];
    if agreement.pairs.len() > 1 {
        let leads = if links.0.is_some() { " A dot leads to the first training." } else { "" };
        blocks.push(Block::Pictures(vec![Picture {
            name: "agreement".into(),
            title: "The same genotypes trained twice".into(),
            caption: format!("Training seeds {:?}.{leads}", &results.training_seeds[..2]),
            is_wide: false,
            svg: pictures::agreement(&agreement.pairs, links),
        }]));
    }
    blocks
}
