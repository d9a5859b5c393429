//! Claims about the paper's experiments, and the verdicts of a study on them.

use super::ranks::{RankMean, Score, bounded};
use super::{Comparison, Summary, is_random, is_searched};
use crate::results::{Kind, Results};
use crate::statistics::{Interval, Told, compare, kendall};

/// The verdict of a study on a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The whole interval lies above zero.
    Holds,
    /// The whole interval lies below zero.
    DoesNotHold,
    /// Zero lies in the interval, or there is none.
    CannotBeTold,
}

impl Verdict {
    /// The rule of verdicts.
    pub const RULE: &'static str = "A claim says that a figure is above zero. It holds where the figure's whole 95 % \
        interval lies above zero, does not hold where the whole interval lies below, and cannot be told where zero \
        lies within or there is no interval. Each verdict stands alone: of twenty claims without any truth one comes \
        out by chance.";

    /// The name for readers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::DoesNotHold => "does not hold",
            Self::CannotBeTold => "cannot be told",
        }
    }

    fn of(figure: &Told<(f64, Interval)>) -> Self {
        match figure {
            Ok((_, interval)) if interval.low > 0.0 => Self::Holds,
            Ok((_, interval)) if interval.high < 0.0 => Self::DoesNotHold,
            _ => Self::CannotBeTold,
        }
    }
}

/// A claim, its figure and its verdict.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The claim in a sentence.
    pub text: String,
    /// The paper's experiment that asks about it. The paper's own answer may be the opposite, such as
    /// for the ranks of DARTS.
    pub source: &'static str,
    /// The figure's name, with its unit.
    pub figure: &'static str,
    /// The value and its interval, in this unit.
    pub value: Told<(f64, Interval)>,
    /// The verdict of the study.
    pub verdict: Verdict,
}

impl Claim {
    fn new(
        text: String,
        source: &'static str,
        figure: &'static str,
        value: Told<(f64, Interval)>,
    ) -> Self {
        let verdict = Verdict::of(&value);
        Self { text, source, figure, value, verdict }
    }
}

/// The claims of a study of this kind. The first searched variant is the baseline.
pub(super) fn of(
    results: &Results,
    variants: &[Summary],
    comparisons: &[Comparison],
    ranks: &[RankMean],
) -> Vec<Claim> {
    let searched: Vec<&String> = match results.kind {
        Kind::Ablation | Kind::Searches => {
            results.variants.iter().filter(|variant| is_searched(results, variant)).collect()
        }
        Kind::Epochs | Kind::Edges => results.variants.iter().collect(),
    };
    let mut claims = accuracy(results, &searched, comparisons);
    claims.extend(over_random(results, variants));
    if results.kind != Kind::Ablation {
        claims.extend(correlations(results.kind, &searched, ranks));
    }
    claims
}

fn accuracy(results: &Results, searched: &[&String], comparisons: &[Comparison]) -> Vec<Claim> {
    let Some((baseline, others)) = searched.split_first() else { return Vec::new() };
    let source = match results.kind {
        Kind::Searches => "Figure 5",
        _ => "Table 4",
    };
    let found = others.iter().filter_map(|variant| {
        let told =
            comparisons.iter().find(|c| c.variant == **variant && c.against == **baseline)?;
        let value = told.difference.clone().map(|difference| {
            let Interval { low, high } = difference.interval();
            (100.0 * difference.value, Interval { low: 100.0 * low, high: 100.0 * high })
        });
        let text = format!("Genotypes of {variant} are more accurate than those of {baseline}.");
        Some(Claim::new(text, source, "difference of accuracies, points", value))
    });
    found.collect()
}

fn over_random(results: &Results, variants: &[Summary]) -> Vec<Claim> {
    let compared = variants.iter().filter(|summary| !is_random(results, &summary.variant));
    let found = compared.filter_map(|summary| {
        let told = summary.improvement.clone()?;
        let value = told.map(|estimate| (estimate.value, estimate.interval()));
        let text = format!("Genotypes of {} are more accurate than random ones.", summary.variant);
        let source = "not in the paper";
        Some(Claim::new(text, source, "relative improvement over random, %", value))
    });
    found.collect()
}

fn correlations(kind: Kind, searched: &[&String], ranks: &[RankMean]) -> Vec<Claim> {
    let (source, follows) = match kind {
        Kind::Edges => ("Figure 3", "Accuracy after training follows the operation weights"),
        Kind::Searches => ("Figure 5", "The rank after training follows the rank in the search"),
        _ => ("Figures 1 and 4", "The rank after training follows the rank in the search"),
    };
    let mut claims = Vec::new();
    let of = |variant: &String| {
        let own = ranks.iter().filter(|rank| rank.variant == *variant);
        own.max_by_key(|rank| preference(rank.score))
    };
    for variant in searched {
        claims.extend(of(variant).map(|rank| {
            let text = match rank.score {
                Score::OperationWeight => format!("{follows} of {variant}."),
                score => format!("{follows} of {variant} ({}).", score.name()),
            };
            Claim::new(text, source, "Kendall's tau", rank.tau.clone())
        }));
    }
    let Some((baseline, others)) = searched.split_first() else { return claims };
    for variant in others {
        let both = of(variant).zip(of(baseline));
        claims.extend(both.map(|(rank, base)| {
            let text = format!("It does so more closely in {variant} than in {baseline}.");
            Claim::new(text, source, "difference of Kendall's taus", difference(rank, base))
        }));
    }
    claims
}

/// The order of preference of scores: the paper's search accuracy is that of the auxiliary model
/// where there is one.
fn preference(score: Score) -> u8 {
    match score {
        Score::Supernet => 0,
        Score::Auxiliary => 1,
        Score::OperationWeight => 2,
    }
}

/// The difference by seed where there are several searches, else that of two single taus.
fn difference(a: &RankMean, b: &RankMean) -> Told<(f64, Interval)> {
    if let (Some(a), Some(b)) = (&a.single, &b.single) {
        return kendall::difference(a, b);
    }
    let pair = |(seed, tau): &(Option<u64>, f64)| {
        Some((*tau, b.taus.iter().find(|(other, _)| other == seed)?.1))
    };
    let pairs: Vec<(f64, f64)> = a.taus.iter().filter_map(pair).collect();
    // A difference of two taus is within -2 and 2.
    compare::paired(&pairs).map(|told| (told.value, bounded(told.interval(), 2.0)))
}
