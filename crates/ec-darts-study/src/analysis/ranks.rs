//! Scores of a search, compared with accuracies after training.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{accuracies, genotypes, nested, trained};
use crate::results::{Candidate, Kind, Place, Results, rounded};
use crate::statistics::kendall::Correlation;
use crate::statistics::{
    CannotTell, Estimate, Interval, Told, ceiling_of_tau, mean, reliability_of_means,
};

/// The score by which the search ranks genotypes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Score {
    /// Accuracy of the supernet.
    Supernet,
    /// Accuracy of the auxiliary model.
    Auxiliary,
    /// Sum of the operation weights of the edges in question.
    OperationWeight,
}

impl Score {
    /// The name for readers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Supernet => "supernet accuracy",
            Self::Auxiliary => "auxiliary model accuracy",
            Self::OperationWeight => "operation weight",
        }
    }

    fn of(self, candidate: &Candidate) -> Option<f64> {
        match self {
            Self::Supernet => candidate.supernet_accuracy,
            Self::Auxiliary => candidate.auxiliary_accuracy,
            Self::OperationWeight => candidate.operation_weight,
        }
    }
}

/// Genotypes that are ranked together: those of one search, or of all searches of a variant.
#[derive(Clone, Debug)]
pub struct RankGroup {
    /// Name of the variant.
    pub variant: String,
    /// Seed of the search; none where the genotypes come from several.
    pub seed: Option<u64>,
    /// The score of the ranking.
    pub score: Score,
    /// The genotypes.
    pub points: Vec<RankPoint>,
    /// The correlation of score and accuracy.
    pub correlation: Told<Correlation>,
    /// The tau that a perfect score would have, by the agreement of trainings.
    pub ceiling: Told<f64>,
}

/// One genotype.
#[derive(Clone, Debug)]
pub struct RankPoint {
    /// Its origin: `search 3`, `search 3, epoch 7`, `search 3, edges from 0 and 4 (kept)`.
    pub name: String,
    /// The score of the search.
    pub score: f64,
    /// Mean accuracy of its trainings.
    pub accuracy: f64,
    /// The run folders of its trainings.
    pub folders: Vec<PathBuf>,
}

/// Tau of a variant by one score: the mean over its searches, or the tau of its one group.
#[derive(Clone, Debug)]
pub struct RankMean {
    /// Name of the variant.
    pub variant: String,
    /// The score of the ranking.
    pub score: Score,
    /// Tau of each search, by its seed; for the kind `searches` one tau without a seed.
    pub taus: Vec<(Option<u64>, f64)>,
    /// The mean and its interval.
    pub tau: Told<(f64, Interval)>,
    /// The correlation of the group, where there is only one.
    pub single: Option<Correlation>,
}

/// One group for each score and search (`epochs`, `edges`) or variant (`searches`).
pub(super) fn groups(results: &Results) -> Vec<RankGroup> {
    // All genotypes of the study give the best estimate of the spread of trainings.
    let training = nested(genotypes(results)).components().map(|parts| parts.training);
    let mut groups = Vec::new();
    for variant in &results.variants {
        let mut by_seed: BTreeMap<Option<u64>, Vec<&Candidate>> = BTreeMap::new();
        for candidate in trained(results, variant) {
            let seed = match results.kind {
                Kind::Ablation | Kind::Searches => None,
                Kind::Epochs | Kind::Edges => candidate.place.seed(),
            };
            by_seed.entry(seed).or_default().push(candidate);
        }
        for (seed, candidates) in by_seed {
            let candidates = distinct(candidates);
            // The kind `edges` asks about weights, all others about accuracies.
            let scores = match results.kind {
                Kind::Edges => &[Score::OperationWeight][..],
                _ => &[Score::Supernet, Score::Auxiliary],
            };
            for &score in scores {
                groups.extend(group(variant, seed, score, &candidates, &training));
            }
        }
    }
    groups
}

/// Epochs of one search with the same genotype count once, as the last of these epochs.
fn distinct(candidates: Vec<&Candidate>) -> Vec<&Candidate> {
    let is_epoch = |candidate: &Candidate| matches!(candidate.place, Place::Epoch { .. });
    let again = |at: usize| {
        let later = candidates[at + 1..].iter();
        later.filter(|c| is_epoch(c)).any(|c| c.genotype == candidates[at].genotype)
    };
    (0..candidates.len()).filter(|&at| !again(at)).map(|at| candidates[at]).collect()
}

fn group(
    variant: &str,
    seed: Option<u64>,
    score: Score,
    candidates: &[&Candidate],
    training: &Told<f64>,
) -> Option<RankGroup> {
    let point = |candidate: &&Candidate| {
        Some(RankPoint {
            name: name(&candidate.place),
            score: score.of(candidate)?,
            accuracy: rounded(mean(&accuracies(candidate))?),
            folders: candidate.trainings.iter().map(|training| training.folder.clone()).collect(),
        })
    };
    let points: Vec<RankPoint> = candidates.iter().filter_map(point).collect();
    if points.is_empty() {
        return None;
    }
    let (scores, measured): (Vec<f64>, Vec<f64>) =
        points.iter().map(|point| (point.score, point.accuracy)).unzip();
    let ceiling = training
        .clone()
        .and_then(|training| reliability_of_means(&nested(candidates.iter().copied()), training))
        .map(ceiling_of_tau);
    let correlation = Correlation::of(&scores, &measured);
    Some(RankGroup { variant: variant.into(), seed, score, points, correlation, ceiling })
}

/// The origin of a genotype, for readers.
pub fn name(place: &Place) -> String {
    match place {
        Place::Search { seed } => format!("search {seed}"),
        Place::Epoch { seed, epoch } => format!("search {seed}, epoch {epoch}"),
        Place::Edges { seed, from, kept } => {
            let from: Vec<String> = from.iter().map(usize::to_string).collect();
            let kept = if *kept { " (kept)" } else { "" };
            format!("search {seed}, edges from {}{kept}", from.join(" and "))
        }
        Place::Random { seed } => format!("draw {seed}"),
        Place::Given { name } => name.clone().unwrap_or_else(|| "given".into()),
    }
}

/// The mean tau of each variant and score.
pub(super) fn means(results: &Results, groups: &[RankGroup]) -> Vec<RankMean> {
    let mut means: Vec<RankMean> = Vec::new();
    for variant in &results.variants {
        for score in [Score::Supernet, Score::Auxiliary, Score::OperationWeight] {
            let own: Vec<&RankGroup> =
                groups.iter().filter(|g| g.variant == *variant && g.score == score).collect();
            if !own.is_empty() {
                means.push(of_groups(variant, score, &own));
            }
        }
    }
    means
}

fn of_groups(variant: &str, score: Score, groups: &[&RankGroup]) -> RankMean {
    let taus: Vec<(Option<u64>, f64)> = groups
        .iter()
        .filter_map(|group| Some((group.seed, group.correlation.as_ref().ok()?.tau)))
        .collect();
    // Genotypes of one search are no sample of independent searches.
    let single = match groups {
        [one] if one.seed.is_none() => one.correlation.clone().ok(),
        _ => None,
    };
    let tau = match groups {
        [one] if one.seed.is_some() => Err(CannotTell::NoSample),
        [one] => one.correlation.clone().and_then(|told| Ok((told.tau, told.interval?))),
        [first, ..] if taus.is_empty() => Err(first.correlation.clone().expect_err("no tau")),
        _ => {
            let values: Vec<f64> = taus.iter().map(|(_, tau)| *tau).collect();
            Estimate::of("searches", &values)
                .map(|told| (told.value, bounded(told.interval(), 1.0)))
        }
    };
    RankMean { variant: variant.into(), score, taus, tau, single }
}

/// The part of an interval between `-most` and `most`.
pub(super) fn bounded(interval: Interval, most: f64) -> Interval {
    Interval { low: interval.low.max(-most), high: interval.high.min(most) }
}
