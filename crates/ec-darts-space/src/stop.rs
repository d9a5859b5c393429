//! Early stopping of a search: rules over the records of its epochs.
//!
//! Entry point: [`Stop::verdict`]. Invariant: a verdict depends on the [`History`] alone, so that a
//! resumed search stops in the same epoch as an unbroken one.

use serde::{Deserialize, Serialize};

use crate::{PerKind, SearchSpace};

/// A rule that ends a search early, against its collapse to skip connections.
///
/// ```
/// use ec_darts_space::{History, Stop, Verdict};
///
/// let history = History { skips: vec![0, 1, 1, 2], ..History::default() };
/// let verdict = Stop::Skips { at_least: 2 }.verdict(&history);
/// assert_eq!(verdict, Some(Verdict { noticed: 3, genotype: 3 }));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Stop {
    /// The first epoch whose normal cell has at least `at_least` skip connections.
    ///
    /// # Source
    /// DARTS+, criterion 1, with two skips. No official code is known.
    Skips {
        /// The number of skip connections of the normal cell.
        at_least: usize,
    },
    /// The first epoch after a given one whose normal cell has more than `at_most` skip
    /// connections.
    ///
    /// # Source
    /// confopt, its early stopper for skip connections.
    LateSkips {
        /// The last epoch, counted from 0, in which the number of skip connections does not matter.
        after: usize,
        /// The number of skip connections that the normal cell may have.
        at_most: usize,
    },
    /// The first epoch in which the [`Ranking`] has equalled the ranking of the epoch before it
    /// `patience` times in a row.
    ///
    /// # Source
    /// DARTS+, criterion 2, with ten. The paper leaves open which rankings are compared; we compare
    /// all rankings of both cells.
    Ranking {
        /// The number of equal comparisons in a row.
        patience: usize,
    },
    /// The first measurement in which the mean eigenvalue has grown by a factor; see
    /// [`Eigenvalue`].
    Eigenvalue(Eigenvalue),
}

/// The early stop of RobustDARTS by the dominant eigenvalue of the Hessian of the validation loss
/// in alpha.
///
/// ```text
/// a_i = mean of the last `window` of v_0, ..., v_i      from the middle of the first window on
/// stop at the first i with   a_i > factor a_(i - delta)   and   t >= first_epoch
/// t   = the epoch of v_(i - window / 2 - delta)          (rounded down)
/// ```
/// `v_i` is the eigenvalue of measurement `i`. The mean `a_i` belongs to the measurement in the
/// middle of its window. The result is the genotype of epoch `t`, the epoch from which the growth
/// is counted.
///
/// # Source
/// RobustDARTS (DARTS-ES), `src/utils.py`, `EVLocalAvg`. There the last epoch never triggers a
/// stop, because the search ends in any case.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Eigenvalue {
    /// The number of measurements in a mean.
    pub window: usize,
    /// The factor of growth that stops the search.
    pub factor: f64,
    /// The first epoch, counted from 0, whose genotype may be the result.
    pub first_epoch: usize,
    /// The number of measurements between the two compared means.
    pub delta: usize,
}

impl Default for Eigenvalue {
    fn default() -> Self {
        Self { window: 5, factor: 1.3, first_epoch: 10, delta: 4 }
    }
}

/// The decision to stop a search; epochs are counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Verdict {
    /// The epoch after which the rule holds.
    pub noticed: usize,
    /// The epoch whose genotype is the result.
    pub genotype: usize,
}

/// Records of the epochs of a search, the input of a rule.
///
/// A rule reads one of the lists; the others may stay empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct History {
    /// The number of skip connections of the normal cell's genotype, per epoch.
    pub skips: Vec<usize>,
    /// The rankings of the convolutions, per epoch.
    pub rankings: Vec<Ranking>,
    /// The epochs, ascending, after which the dominant eigenvalue was measured, and the eigenvalue.
    pub eigenvalues: Vec<(usize, f64)>,
}

/// The order of the operations with weights on each edge of all kinds of cell, the strongest first.
///
/// Pools and skip connections do not count, because they have nothing to learn. A ranking that no
/// longer changes says that the search has told the convolutions apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranking(Vec<Vec<usize>>);

impl Ranking {
    /// The ranking by alpha, or by mixing weights that grow with alpha on each edge.
    ///
    /// # Shapes
    /// - `alpha`: `[num_edges, num_primitives]` per kind, row-major
    pub fn new(space: &SearchSpace, alpha: PerKind<&[f32]>) -> Self {
        let primitives = space.primitives();
        let learned = || (0..primitives.len()).filter(|&at| !primitives[at].is_parameter_free());
        let rows = alpha.into_values().flat_map(|all| all.chunks(primitives.len()));
        let order = |row: &[f32]| {
            let mut columns: Vec<usize> = learned().collect();
            columns.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
            columns
        };
        Self(rows.map(order).collect())
    }
}

impl Stop {
    /// The epoch at which this rule stops a search with this history, if it does.
    pub fn verdict(&self, history: &History) -> Option<Verdict> {
        let at = |epoch: usize| Verdict { noticed: epoch, genotype: epoch };
        match *self {
            Self::Skips { at_least } => {
                history.skips.iter().position(|&skips| skips >= at_least).map(at)
            }
            Self::LateSkips { after, at_most } => {
                let late = history.skips.iter().enumerate().skip(after.saturating_add(1));
                late.into_iter().find(|&(_, &skips)| skips > at_most).map(|(epoch, _)| at(epoch))
            }
            Self::Ranking { patience } => {
                let mut quiet = 0;
                let rankings = &history.rankings;
                let rests = (0..rankings.len()).find(|&epoch| {
                    let rests = epoch > 0 && rankings[epoch] == rankings[epoch - 1];
                    quiet = if rests { quiet + 1 } else { 0 };
                    quiet >= patience
                });
                rests.map(at)
            }
            Self::Eigenvalue(rule) => rule.verdict(&history.eigenvalues),
        }
    }
}

impl Eigenvalue {
    /// The means `a_i` of a list of eigenvalues, each with the number `i` of the last eigenvalue in
    /// it.
    pub fn averages(&self, values: &[f64]) -> Vec<(usize, f64)> {
        let first = self.window.div_ceil(2).max(1) - 1;
        let mean = |last: usize| {
            let seen = &values[(last + 1).saturating_sub(self.window.max(1))..=last];
            (last, seen.iter().sum::<f64>() / seen.len() as f64)
        };
        (first..values.len()).map(mean).collect()
    }

    fn verdict(&self, measured: &[(usize, f64)]) -> Option<Verdict> {
        let values: Vec<f64> = measured.iter().map(|&(_, value)| value).collect();
        let averages = self.averages(&values);
        averages.iter().enumerate().find_map(|(number, &(last, mean))| {
            let (_, before) = averages[number.checked_sub(self.delta)?];
            let (genotype, _) = measured[last.checked_sub(self.window / 2 + self.delta)?];
            let stops = genotype >= self.first_epoch && mean / before > self.factor;
            stops.then_some(Verdict { noticed: measured[last].0, genotype })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(stop: Stop, history: &History) -> Option<usize> {
        stop.verdict(history).map(|verdict| verdict.noticed)
    }

    #[test]
    fn skips() {
        let history = History { skips: vec![0, 3, 1, 2, 2, 3], ..History::default() };
        assert_eq!(verdict(Stop::Skips { at_least: 2 }, &history), Some(1));
        assert_eq!(verdict(Stop::Skips { at_least: 4 }, &history), None);
        assert_eq!(verdict(Stop::LateSkips { after: 1, at_most: 2 }, &history), Some(5));
        assert_eq!(verdict(Stop::LateSkips { after: 2, at_most: 1 }, &history), Some(3));
        assert_eq!(verdict(Stop::LateSkips { after: usize::MAX, at_most: 0 }, &history), None);
        assert_eq!(verdict(Stop::Skips { at_least: 1 }, &History::default()), None);
    }

    #[test]
    fn rankings_rest() {
        let space = SearchSpace::darts();
        let ranking = |column: usize, place: usize, pool: f32| {
            let mut alpha = [0.1; 112];
            alpha[place * 8 + column] = 1.0;
            // Pools do not count.
            alpha[1] = pool;
            Ranking::new(&space, PerKind::both(&[0.2; 112], &alpha))
        };
        let rest = (0..4).map(|epoch| ranking(5, 13, epoch as f32));
        let history = |first: Ranking, rest: &dyn Fn() -> Vec<Ranking>| {
            let rankings = std::iter::once(first).chain(rest()).collect();
            History { rankings, ..History::default() }
        };
        let rest: Vec<Ranking> = rest.collect();
        let moved = history(ranking(6, 13, 0.0), &|| rest.clone());
        assert_eq!(verdict(Stop::Ranking { patience: 3 }, &moved), Some(4));
        assert_eq!(verdict(Stop::Ranking { patience: 4 }, &moved), None);
        let rested = history(rest[0].clone(), &|| rest.clone());
        assert_eq!(verdict(Stop::Ranking { patience: 4 }, &rested), Some(4));
        assert_eq!(verdict(Stop::Ranking { patience: 1 }, &History::default()), None);
    }

    #[test]
    fn the_worked_number_of_the_eigenvalue() {
        let values = [0.2, 0.2, 0.22, 0.2, 0.21, 0.22, 0.2, 0.23, 0.25, 0.3, 0.35, 0.4];
        let rule = Eigenvalue::default();
        let averages = rule.averages(&values);
        assert_eq!(averages.len(), 10);
        assert!((averages[9].1 - 0.306).abs() < 1e-12 && (averages[5].1 - 0.212).abs() < 1e-12);
        assert!((averages[9].1 / averages[5].1 - 1.4434).abs() < 5e-5);
        let eigenvalues = values.iter().enumerate().map(|(i, &value)| (2 * i, value)).collect();
        let mut history = History { eigenvalues, ..History::default() };
        let stop = Stop::Eigenvalue(rule);
        assert_eq!(stop.verdict(&history), Some(Verdict { noticed: 22, genotype: 10 }));
        history.eigenvalues.pop();
        assert_eq!(stop.verdict(&history), None);
        // Windows and distances of zero.
        for (window, delta) in [(0, 0), (1, 0), (0, 3)] {
            let rule = Eigenvalue { window, delta, ..rule };
            assert_eq!(rule.averages(&[1.0, 2.0]).len(), 2);
            Stop::Eigenvalue(rule).verdict(&history);
        }
    }

    #[test]
    fn text_forms() {
        for (stop, text) in [
            (Stop::Skips { at_least: 2 }, r#"{"skips":{"at_least":2}}"#),
            (Stop::Ranking { patience: 10 }, r#"{"ranking":{"patience":10}}"#),
            (Stop::Eigenvalue(Eigenvalue::default()), r#"{"eigenvalue":{}}"#),
        ] {
            assert_eq!(serde_json::from_str::<Stop>(text).unwrap(), stop);
            let printed = serde_json::to_string(&stop).unwrap();
            assert_eq!(serde_json::from_str::<Stop>(&printed).unwrap(), stop);
        }
        assert!(serde_json::from_str::<Stop>(r#"{"skips":{"least":2}}"#).is_err());
    }
}
