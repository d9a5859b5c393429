//! The analysis of a study's results: means with intervals, comparisons, rank correlations,
//! verdicts.
//!
//! Entry point: [`Analysis::of`]. Invariant: everything follows from [`Results`]. A figure that
//! they cannot give is a [`CannotTell`], and every figure is based on candidates whose trainings
//! name their run folders.
//!
//! [`CannotTell`]: crate::statistics::CannotTell

mod claims;
mod ranks;

pub use claims::{Claim, Verdict};
pub use ranks::{RankGroup, RankMean, RankPoint, Score, name as place};

use std::collections::BTreeMap;
use std::path::Path;

use crate::results::{Candidate, Cost, Kind, Place, Results, TrainingResult};
use crate::statistics::bootstrap::{self, SAMPLES};
use crate::statistics::compare::{self, PValue};
use crate::statistics::kendall::Correlation;
use crate::statistics::{
    CannotTell, Components, Design, Estimate, Interval, Nested, Reliability, Told, deviation, mean,
    searches_needed, smallest_difference, variance,
};

/// The question about the power of a comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Question {
    /// A difference of accuracies that matters, as a fraction.
    pub difference: f64,
    /// The probability of its detection.
    pub power: f64,
}

impl Default for Question {
    /// One point of accuracy, with a probability of four in five.
    fn default() -> Self {
        Self { difference: 0.01, power: 0.8 }
    }
}

/// The content of a report.
#[derive(Clone, Debug)]
pub struct Analysis {
    /// The accuracies of every variant, in the order of the file. For the kinds `epochs` and
    /// `edges`, whose candidates are no random sample, without an interval.
    pub variants: Vec<Summary>,
    /// Every variant compared with those before it.
    pub comparisons: Vec<Comparison>,
    /// Search scores compared with accuracies after training.
    pub ranks: Vec<RankGroup>,
    /// The means of these correlations over the searches of a variant.
    pub rank_means: Vec<RankMean>,
    /// The agreement of a genotype's trainings.
    pub agreement: Agreement,
    /// The paper's claims.
    pub claims: Vec<Claim>,
    /// The cost of all finished trials, each counted once.
    pub cost: Costs,
    /// The cost of failed and unfinished trials so far.
    pub unfinished_cost: Costs,
    /// Parts of the study that were not run, in sentences.
    pub gaps: Vec<String>,
}

/// The accuracies of one variant.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The name of the variant.
    pub variant: String,
    /// Number of searches, draws or epochs with a training.
    pub candidates: usize,
    /// Number of different genotypes among them.
    pub genotypes: usize,
    /// Number of trainings; a training that candidates share counts once.
    pub trainings: usize,
    /// Mean over the candidates of the mean of their trainings.
    pub mean: Option<f64>,
    /// Standard deviation of these means.
    pub deviation: Option<f64>,
    /// The mean with its error, and the interval around it.
    pub estimate: Told<Estimate>,
    /// Interval of the nested percentile bootstrap.
    pub bootstrap: Told<Interval>,
    /// Standard deviation between searches and between trainings.
    pub components: Told<Components>,
    /// Improvement over the random genotypes of the study, in percent; none where there are none.
    pub improvement: Option<Told<Estimate>>,
    /// The cost of searches and trainings.
    pub cost: Costs,
}

/// The comparison of two variants.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The later variant in the file.
    pub variant: String,
    /// The earlier variant.
    pub against: String,
    /// Number of common seeds.
    pub pairs: usize,
    /// Mean difference of accuracies: by seed; or between independent means where one side has no
    /// searches.
    pub difference: Told<Estimate>,
    /// Its probability under exchangeable signs; only for pairs.
    pub chance: Told<PValue>,
    /// Number of pairs, or of searches and draws of each, that detect the [`Question`]'s
    /// difference.
    pub needed: Told<usize>,
    /// The smallest difference that the existing ones detect; with unequal numbers, that of the
    /// smaller number.
    pub smallest: Told<f64>,
}

/// The agreement of a genotype's trainings, over all genotypes of the study.
#[derive(Clone, Debug)]
pub struct Agreement {
    /// The correlation between the first two training seeds.
    pub correlation: Told<Correlation>,
    /// The reliability of one training.
    pub reliability: Told<Reliability>,
    /// The trainings with the first two training seeds, of each genotype that has both.
    pub pairs: Vec<[TrainingResult; 2]>,
}

/// The cost of trials.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Costs {
    /// The cost of searches.
    pub searches: Cost,
    /// The cost of trainings.
    pub trainings: Cost,
}

impl Analysis {
    /// The analysis of results.
    pub fn of(results: &Results, question: Question) -> Self {
        let variants: Vec<Summary> =
            results.variants.iter().map(|name| summary(results, name)).collect();
        let comparisons = match results.kind {
            Kind::Ablation | Kind::Searches => comparisons(results, question),
            Kind::Epochs | Kind::Edges => Vec::new(),
        };
        let ranks = ranks::groups(results);
        let rank_means = ranks::means(results, &ranks);
        let claims = claims::of(results, &variants, &comparisons, &rank_means);
        let agreement = agreement(results);
        let cost = costs(results, None);
        let unfinished_cost = unfinished_costs(results);
        let gaps = gaps(results);
        Self {
            variants,
            comparisons,
            ranks,
            rank_means,
            agreement,
            claims,
            cost,
            unfinished_cost,
            gaps,
        }
    }
}

/// Candidates of a variant with a training.
fn trained<'a>(results: &'a Results, variant: &'a str) -> impl Iterator<Item = &'a Candidate> {
    let of = results.candidates.iter().filter(move |candidate| candidate.variant == variant);
    of.filter(|candidate| !candidate.trainings.is_empty())
}

/// Accuracies of a candidate's trainings.
pub(crate) fn accuracies(candidate: &Candidate) -> Vec<f64> {
    candidate.trainings.iter().map(|training| training.accuracy).collect()
}

fn nested<'a>(candidates: impl IntoIterator<Item = &'a Candidate>) -> Nested {
    let units = candidates.into_iter();
    Nested::new(units.map(|candidate| (candidate.genotype.clone(), accuracies(candidate))))
}

/// The accuracies of a variant by its units: searches, draws, given genotypes, or trainings of a single given one.
fn units(results: &Results, variant: &str) -> Nested {
    let candidates: Vec<&Candidate> = trained(results, variant).collect();
    match candidates[..] {
        [one] if one.place == Place::Given { name: None } => {
            Nested::distinct(accuracies(one).into_iter().map(|accuracy| vec![accuracy]))
        }
        _ => nested(candidates),
    }
}

fn is_random(results: &Results, variant: &str) -> bool {
    let mut all = results.candidates.iter().filter(|candidate| candidate.variant == variant);
    all.any(|candidate| matches!(candidate.place, Place::Random { .. }))
}

/// Whether a variant has searches. Draws and given genotypes are known from the start, so a variant
/// without candidates waits for its searches.
fn is_searched(results: &Results, variant: &str) -> bool {
    let mut all = results.candidates.iter().filter(|candidate| candidate.variant == variant);
    all.all(|candidate| !matches!(candidate.place, Place::Random { .. } | Place::Given { .. }))
}

/// The accuracies of all random genotypes.
fn random(results: &Results) -> Nested {
    let drawn = |candidate: &&Candidate| matches!(candidate.place, Place::Random { .. });
    nested(results.candidates.iter().filter(drawn))
}

fn summary(results: &Results, variant: &str) -> Summary {
    let accuracies = units(results, variant);
    let means = accuracies.means();
    let is_sample = matches!(results.kind, Kind::Ablation | Kind::Searches);
    let no_sample = || CannotTell::NoSample;
    let estimate = accuracies.estimate();
    let random = random(results);
    let compared = !random.is_empty() && !is_random(results, variant);
    let improvement = compared.then(|| {
        let (method, random) = (estimate.clone()?, random.estimate()?);
        compare::relative_improvement(method, random)
    });
    let keys: BTreeMap<_, _> = trained(results, variant).map(|c| (&c.genotype, c)).collect();
    Summary {
        variant: variant.into(),
        candidates: trained(results, variant).count(),
        genotypes: keys.len(),
        trainings: keys.values().map(|candidate| candidate.trainings.len()).sum(),
        mean: mean(&means),
        deviation: deviation(&means),
        estimate: if is_sample { estimate } else { Err(no_sample()) },
        bootstrap: match is_sample {
            true => bootstrap::nested(&accuracies, SAMPLES, 0),
            false => Err(no_sample()),
        },
        components: accuracies.components(),
        improvement,
        cost: costs(results, Some(variant)),
    }
}

/// Each variant compared with those before it; a search is compared with random genotypes at any
/// place.
fn comparisons(results: &Results, question: Question) -> Vec<Comparison> {
    let names = &results.variants;
    let pairs = (0..names.len()).flat_map(|later| (0..later).map(move |earlier| (later, earlier)));
    let ordered = pairs.map(|(later, earlier)| (&names[later], &names[earlier]));
    let turned = ordered.map(|(a, b)| if is_random(results, a) { (b, a) } else { (a, b) });
    turned.map(|(variant, against)| comparison(results, question, variant, against)).collect()
}

fn comparison(results: &Results, question: Question, variant: &str, against: &str) -> Comparison {
    let (a, b) = (units(results, variant), units(results, against));
    let is_paired = is_searched(results, variant) && is_searched(results, against);
    let [own, other] =
        if is_paired { by_seed(results, variant, against) } else { Default::default() };
    let pairs: Vec<(f64, f64)> = own.means().into_iter().zip(other.means()).collect();
    let difference = match is_paired {
        true => own.difference_by_seed(&other),
        false => a.estimate().and_then(|mean| compare::difference(mean, b.estimate()?)),
    };
    let (design, searches) = match is_paired {
        true => (Design::Paired, pairs.len()),
        false => (Design::Independent, a.len().min(b.len())),
    };
    let spread = |of: &[f64]| variance(of).unwrap_or(0.0);
    let deviation = difference.clone().map(|_| match is_paired {
        true => spread(&pairs.iter().map(|(a, b)| a - b).collect::<Vec<_>>()).sqrt(),
        false => (0.5 * (spread(&a.means()) + spread(&b.means()))).sqrt(),
    });
    let Question { difference: wanted, power } = question;
    Comparison {
        variant: variant.into(),
        against: against.into(),
        pairs: pairs.len(),
        chance: if is_paired { compare::sign_flip(&pairs) } else { Err(CannotTell::NoPairs) },
        difference,
        needed: deviation.clone().and_then(|of| searches_needed(design, wanted, of, power)),
        smallest: deviation.and_then(|of| smallest_difference(design, searches, of, power)),
    }
}

/// The searches of both variants under each common seed, in the order of seeds.
fn by_seed(results: &Results, variant: &str, against: &str) -> [Nested; 2] {
    let of = |name| -> BTreeMap<u64, &Candidate> {
        trained(results, name).filter_map(|each| Some((each.place.seed()?, each))).collect()
    };
    let (own, other) = (of(variant), of(against));
    let common = own.into_iter().filter_map(|(seed, own)| Some((own, *other.get(&seed)?)));
    let (own, other): (Vec<&Candidate>, Vec<&Candidate>) = common.unzip();
    [nested(own), nested(other)]
}

/// One candidate of each genotype of the study.
fn genotypes(results: &Results) -> Vec<&Candidate> {
    let all = results.candidates.iter().map(|candidate| (&candidate.genotype[..], candidate));
    all.collect::<BTreeMap<&str, &Candidate>>().into_values().collect()
}

/// The agreement over all genotypes of the study, each once.
fn agreement(results: &Results) -> Agreement {
    let all = genotypes(results);
    let of = |candidate: &Candidate, seed: u64| {
        candidate.trainings.iter().find(|training| training.seed == seed).cloned()
    };
    let pairs: Vec<[TrainingResult; 2]> = match results.training_seeds[..] {
        [first, second, ..] => all
            .iter()
            .filter_map(|candidate| Some([of(candidate, first)?, of(candidate, second)?]))
            .collect(),
        _ => Vec::new(),
    };
    let (first, second): (Vec<f64>, Vec<f64>) =
        pairs.iter().map(|[first, second]| (first.accuracy, second.accuracy)).unzip();
    let correlation = Correlation::of(&first, &second);
    let reliability = Reliability::of(&nested(all));
    Agreement { correlation, reliability, pairs }
}

/// The cost of the trials of one variant, or of all; each folder counts once.
fn costs(results: &Results, variant: Option<&str>) -> Costs {
    let is_asked = |name: &str| variant.is_none_or(|variant| variant == name);
    let searches = results.searches.iter().filter(|search| is_asked(&search.variant));
    let candidates = results.candidates.iter().filter(|candidate| is_asked(&candidate.variant));
    let trainings = candidates.flat_map(|candidate| &candidate.trainings);
    Costs {
        searches: sum(searches.map(|search| (&*search.folder, search.cost))),
        trainings: sum(trainings.map(|training| (&*training.folder, training.cost))),
    }
}

fn unfinished_costs(results: &Results) -> Costs {
    let of = |is_search: bool| {
        let trials = results.unfinished.iter();
        let trials = trials.filter(move |it| it.trial.starts_with("searches/") == is_search);
        sum(trials.map(|trial| (Path::new(&trial.trial), trial.cost)))
    };
    Costs { searches: of(true), trainings: of(false) }
}

fn sum<'a>(costs: impl Iterator<Item = (&'a Path, Cost)>) -> Cost {
    let once: BTreeMap<&Path, Cost> = costs.collect();
    once.into_values().fold(Cost::default(), |sum, cost| Cost {
        seconds: sum.seconds + cost.seconds,
        processor_seconds: sum.processor_seconds + cost.processor_seconds,
    })
}

fn gaps(results: &Results) -> Vec<String> {
    let mut gaps: Vec<String> = Vec::new();
    let failed = results.unfinished.iter().filter(|trial| trial.error.is_some()).count();
    let open = results.unfinished.len() - failed;
    if open > 0 {
        let trials = if open == 1 { "trial that is" } else { "trials that are" };
        gaps.push(format!("{open} {trials} not done."));
    }
    for trial in &results.unfinished {
        gaps.extend(trial.error.as_ref().map(|error| format!("{} failed: {error}.", trial.trial)));
    }
    for variant in &results.variants {
        let all: Vec<_> = results.candidates.iter().filter(|c| c.variant == *variant).collect();
        let seeds = results.training_seeds.len();
        let short = all.iter().filter(|candidate| candidate.trainings.len() < seeds).count();
        if all.is_empty() {
            gaps.push(format!("{variant}: no genotype is known yet."));
        } else if short > 0 {
            let count = all.len();
            gaps.push(format!("{variant}: {short} of {count} genotypes lack trainings."));
        }
    }
    if !results.variants.iter().any(|variant| is_random(results, variant)) {
        gaps.push("Random genotypes: this study cannot say whether a search beats chance.".into());
    }
    if results.training_seeds.len() < 2 {
        gaps.push(
            "A second training seed: how far trainings agree, which bounds every tau.".into(),
        );
    }
    let held_out = results.candidates.iter().flat_map(|candidate| &candidate.trainings);
    if held_out.clone().any(|training| !training.on_test) {
        gaps.push("Measurements on test images: some accuracies are of images held out.".into());
    }
    gaps
}

#[cfg(test)]
mod tests;
