//! The content of a report, in the order of a reader's questions.

use ec_darts_study::analysis::{Analysis, Comparison, Costs, Question, Summary, Verdict, place};
use ec_darts_study::statistics::{Estimate, Interval, LEVEL, Told};
use ec_darts_study::{Candidate, Cost, Kind, Results};

use super::blocks::{Block, Cell, Picture, Section, Table, number};
use super::pictures::{self, Band, Links, Row};
use super::ranks;

pub fn sections(
    results: &Results,
    analysis: &Analysis,
    question: Question,
    links: Links,
) -> Vec<Section> {
    let section = |id, title, blocks| Section { id, title, blocks };
    let mut all = vec![
        section("not-run", "What was not run", vec![Block::List(gaps(results, analysis))]),
        section("accuracy", "Accuracy after training", accuracy(results, analysis, links)),
    ];
    if !analysis.claims.is_empty() {
        all.insert(0, section("claims", "The claims", claims(analysis)));
    }
    if !analysis.comparisons.is_empty() {
        all.push(section("differences", "Differences", differences(analysis, question)));
    }
    if !analysis.ranks.is_empty() {
        all.push(section(
            "ranks",
            "Rank in the search and after training",
            ranks::ranks(analysis, links),
        ));
    }
    all.push(section(
        "agreement",
        "How far trainings agree",
        ranks::agreement(results, analysis, links),
    ));
    all.push(section("costs", "Costs", costs(analysis)));
    all.push(section("trials", "Every trial", trials(results)));
    all
}

/// The question, in a sentence.
pub fn lead(results: &Results) -> String {
    let asked = match results.kind {
        Kind::Ablation if results.variants.len() == 1 => "How accurate are the genotypes?",
        Kind::Ablation => {
            "Which variant finds more accurate genotypes, and does any beat random ones?"
        }
        Kind::Epochs => {
            "Does the rank of one search's genotypes in the search agree with that after training?"
        }
        Kind::Searches => {
            "Does the rank of independent searches agree with that of their genotypes after training?"
        }
        Kind::Edges => "Do the operation weights of edges agree with accuracy after training?",
    };
    let seeds = results.training_seeds.len();
    let times = if seeds == 1 { "once".into() } else { format!("{seeds} times") };
    format!("{asked} Protocol {}: every genotype is trained {times}.", results.protocol)
}

fn gaps(results: &Results, analysis: &Analysis) -> Vec<String> {
    let mut gaps = analysis.gaps.clone();
    if results.protocol != "paper" {
        gaps.push(format!(
            "The paper's own scale: this is the protocol {}, whose accuracies cannot be compared with the paper's.",
            results.protocol
        ));
    }
    gaps
}

fn claims(analysis: &Analysis) -> Vec<Block> {
    let rows = analysis.claims.iter().map(|claim| {
        let value = claim.value.clone();
        vec![
            Cell::text(&claim.text),
            Cell::text(claim.source),
            Cell::Verdict(claim.verdict),
            Cell::text(claim.figure),
            Cell::number(&value.clone().map(|(value, _)| value), 2),
            Cell::range(&value.map(|(_, interval)| interval), 2),
        ]
    });
    let head = vec!["claim", "experiment", "verdict", "figure", "value", "95 % interval"];
    vec![
        Block::Table(Table { name: "claims", head, rows: rows.collect() }),
        Block::Text(Verdict::RULE.into()),
    ]
}

fn accuracy(results: &Results, analysis: &Analysis, links: Links) -> Vec<Block> {
    let is_sample = matches!(results.kind, Kind::Ablation | Kind::Searches);
    let mut head = vec!["variant", "genotypes", "trainings", "mean, %", "deviation, points"];
    if is_sample {
        head.extend(["95 % interval", "by bootstrap", "between searches", "between trainings"]);
    }
    if analysis.variants.iter().any(|summary| summary.improvement.is_some()) {
        head.extend(["over random, %", "95 % interval of that"]);
    }
    let count = head.len();
    let rows = analysis.variants.iter().map(|summary| summary_row(summary, is_sample, count));
    let table = Table { name: "accuracy", head, rows: rows.collect() };
    let mut blocks = vec![Block::Table(table)];
    if is_sample {
        blocks.push(Block::Text(format!(
            "Searches are the unit: the mean is over the means of each one's trainings, and Student's interval around \
             it holds the mean of all such searches {:.0} times of 100. The nested percentile bootstrap stands beside \
             it; with few searches it is too narrow. Between searches, between trainings: the two parts of the \
             deviation, in points.",
            100.0 * LEVEL
        )));
    }
    let bands = bands(results, analysis);
    if !bands.is_empty() {
        blocks.push(Block::Pictures(vec![Picture {
            name: "dots".into(),
            title: "Every training".into(),
            caption: match is_sample {
                true => "A dot for each training, a line for each genotype; below them the mean and its interval.",
                false => "A dot for each training, a line for each genotype.",
            }
            .into(),
            is_wide: true,
            svg: pictures::dots(&bands, links),
        }]));
    }
    let count = results.num_genotypes();
    blocks.extend(results.best().filter(|_| count > 1).map(|best| {
        let file = if links.0.is_some() { " (`best.json`)" } else { "" };
        Block::Text(format!(
            "The most accurate genotype{file} is that of {}, {}: {:.2} % on average. As it was chosen among {count} for \
             this figure, the figure is too high for it; other images or other training seeds measure it.",
            best.variant,
            place(&best.place),
            100.0 * best.accuracy(),
        ))
    }));
    blocks
}

fn summary_row(summary: &Summary, is_sample: bool, count: usize) -> Vec<Cell> {
    let percent = |value: Option<f64>| match value {
        Some(value) => Cell::Number { value: 100.0 * value, digits: 2 },
        None => Cell::text("none"),
    };
    let candidates = match summary.candidates == summary.genotypes {
        true => summary.genotypes.to_string(),
        false => format!("{} of {}", summary.genotypes, summary.candidates),
    };
    let mut row = vec![
        Cell::text(&summary.variant),
        Cell::text(candidates),
        Cell::text(summary.trainings),
        percent(summary.mean),
        percent(summary.deviation),
    ];
    if is_sample {
        let interval = summary.estimate.clone().map(|estimate| estimate.interval());
        row.push(Cell::range(&points(interval), 2));
        row.push(Cell::range(&points(summary.bootstrap.clone()), 2));
        let parts = summary.components.clone();
        let deviation = |variance: f64| 100.0 * variance.sqrt();
        row.push(Cell::number(&parts.clone().map(|parts| deviation(parts.search)), 2));
        row.push(Cell::number(&parts.map(|parts| deviation(parts.training)), 2));
    }
    if let Some(improvement) = &summary.improvement {
        row.push(Cell::number(&improvement.clone().map(|told| told.value), 2));
        row.push(Cell::range(&improvement.clone().map(|told| told.interval()), 2));
    }
    row.resize(count, Cell::text("is the base"));
    row
}

/// The interval in percent, or in points of accuracy.
fn points(interval: Told<Interval>) -> Told<Interval> {
    interval.map(|Interval { low, high }| Interval { low: 100.0 * low, high: 100.0 * high })
}

/// The bands: one per variant; for epochs and edges one per search.
fn bands(results: &Results, analysis: &Analysis) -> Vec<Band> {
    let by_search = matches!(results.kind, Kind::Epochs | Kind::Edges);
    let mut bands: Vec<(Option<u64>, Band)> = Vec::new();
    for candidate in results.candidates.iter().filter(|candidate| !candidate.trainings.is_empty()) {
        let seed = candidate.place.seed().filter(|_| by_search);
        let name = match seed {
            Some(seed) => format!("{}, search {seed}", candidate.variant),
            None => candidate.variant.clone(),
        };
        let row = row(candidate);
        match bands.iter_mut().find(|(other, band)| *other == seed && band.name == name) {
            Some((_, band)) => band.rows.push(row),
            None => {
                let summary = analysis.variants.iter().find(|s| s.variant == candidate.variant);
                let summary = summary.filter(|_| !by_search);
                let interval = summary.and_then(|s| Some(s.estimate.as_ref().ok()?.interval()));
                let interval = interval.and_then(|interval| points(Ok(interval)).ok());
                let mean = summary.and_then(|summary| summary.mean).map(|mean| 100.0 * mean);
                bands.push((seed, Band { name, rows: vec![row], mean, interval }));
            }
        }
    }
    bands.into_iter().map(|(_, band)| band).collect()
}

fn row(candidate: &Candidate) -> Row {
    let dots = candidate.trainings.iter().map(|training| {
        (100.0 * training.accuracy, training.folder.to_string_lossy().into_owned())
    });
    Row { name: place(&candidate.place), dots: dots.collect() }
}

fn differences(analysis: &Analysis, question: Question) -> Vec<Block> {
    let rows = analysis.comparisons.iter().map(|comparison| {
        let Comparison { variant, against, difference, chance, .. } = comparison;
        let estimate = |of: fn(&Estimate) -> f64| difference.clone().map(|told| 100.0 * of(&told));
        let interval = points(difference.clone().map(|told| told.interval()));
        vec![
            Cell::text(format!("{variant} \u{2212} {against}")),
            Cell::text(comparison.pairs),
            Cell::number(&estimate(|told| told.value), 2),
            Cell::range(&interval, 2),
            Cell::chance(chance),
            match &comparison.needed {
                Ok(needed) => Cell::Number { value: *needed as f64, digits: 0 },
                Err(error) => Cell::Untold(error.to_string()),
            },
            Cell::number(&comparison.smallest.clone().map(|smallest| 100.0 * smallest), 2),
        ]
    });
    let head = vec![
        "difference",
        "pairs",
        "mean, points",
        "95 % interval",
        "p of sign flips",
        "seeds needed",
        "smallest told",
    ];
    vec![
        Block::Table(Table { name: "differences", head, rows: rows.collect() }),
        Block::Text(format!(
            "Searches are paired by seed; variants without searches are compared as independent. Seeds needed: as \
             many of both variants, to tell a difference of {} points with a probability of {} %; smallest told: the \
             difference that these seeds tell so often. Both take the deviation of the differences for what was \
             measured. A sign-flip p of n pairs is never below 2 / 2^n.",
            number(100.0 * question.difference, 2),
            number(100.0 * question.power, 0),
        )),
    ]
}

fn costs(analysis: &Analysis) -> Vec<Block> {
    let row = |name: &str, costs: &Costs| {
        let hours = |cost: Cost| [cost.processor_seconds, cost.seconds].map(|s| s / 3600.0);
        let [searches, trainings] = [hours(costs.searches), hours(costs.trainings)];
        let numbers =
            [searches[0], trainings[0], searches[0] + trainings[0], searches[1] + trainings[1]];
        let cells = numbers.map(|value| Cell::Number { value, digits: 2 });
        [Cell::text(name)].into_iter().chain(cells).collect()
    };
    let mut rows: Vec<Vec<Cell>> =
        analysis.variants.iter().map(|summary| row(&summary.variant, &summary.cost)).collect();
    rows.push(row("all finished trials", &analysis.cost));
    if analysis.unfinished_cost != Costs::default() {
        rows.push(row("failed and unfinished trials so far", &analysis.unfinished_cost));
    }
    let head = vec!["variant", "searches", "trainings", "both", "both, hours by the clock"];
    vec![
        Block::Table(Table { name: "costs", head, rows }),
        Block::Text(
            "Processor hours, but for the last column, which adds up the trials' own times. Trainings that variants \
             share count for each of them, and once among all."
                .into(),
        ),
    ]
}

fn trials(results: &Results) -> Vec<Block> {
    let searches = results.searches.iter().map(|search| {
        let returned = search.returned();
        let accuracy = |value: Option<f64>| match value {
            Some(value) => Cell::Number { value: 100.0 * value, digits: 2 },
            None => Cell::text("none"),
        };
        vec![
            Cell::Folders(vec![(
                format!("{}, seed {}", search.variant, search.seed),
                search.folder.clone(),
            )]),
            accuracy(returned.map(|scores| scores.supernet_accuracy)),
            accuracy(returned.and_then(|scores| scores.auxiliary_accuracy)),
            Cell::text(&search.genotype),
            Cell::Number { value: search.cost.processor_seconds / 60.0, digits: 1 },
        ]
    });
    let trainings = results.candidates.iter().map(|candidate| {
        let accuracy = |training: &ec_darts_study::TrainingResult| {
            (number(100.0 * training.accuracy, 2), training.folder.clone())
        };
        vec![
            Cell::text(&candidate.variant),
            Cell::text(place(&candidate.place)),
            Cell::text(&candidate.genotype),
            match candidate.trainings.is_empty() {
                true => Cell::text("not trained"),
                false => Cell::Folders(candidate.trainings.iter().map(accuracy).collect()),
            },
        ]
    });
    let of_searches = Table {
        name: "searches",
        head: vec!["search", "supernet, %", "auxiliary model, %", "genotype", "processor minutes"],
        rows: searches.collect(),
    };
    let of_trainings = Table {
        name: "trainings",
        head: vec!["variant", "from", "genotype", "accuracy of each training, %"],
        rows: trainings.collect(),
    };
    let mut blocks = vec![Block::Text(
        "Every figure above is made of these. Each leads to its run folder, which has its settings, metrics and \
         sessions. The accuracies of a search are those of the epoch whose genotype it returned."
            .into(),
    )];
    if !of_searches.rows.is_empty() {
        blocks.push(Block::Folded(of_searches));
    }
    blocks.push(Block::Folded(of_trainings));
    blocks
}
