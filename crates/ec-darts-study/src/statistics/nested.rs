//! Accuracies of one variant: searches are the units, and trainings are nested in them.

use std::collections::{BTreeMap, BTreeSet};

use super::estimate::satterthwaite;
use super::{CannotTell, Estimate, Told, is_zero, mean, variance};

/// Searches of one variant, or genotypes of a baseline, with the accuracies of their trainings.
///
/// Searches that found the same genotype share its trainings: a genotype is trained once.
///
/// ```text
/// accuracy[i, j] = mean + search[i] + training[i, j]
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Nested {
    units: Vec<Unit>,
}

#[derive(Clone, Debug, PartialEq)]
struct Unit {
    genotype: String,
    trainings: Vec<f64>,
}

/// The sources of the variance of an accuracy, in squared units of the accuracy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Components {
    /// Between searches.
    pub search: f64,
    /// Between trainings of one genotype.
    pub training: f64,
    /// Degrees of freedom of `training`.
    pub freedom: f64,
}

impl Nested {
    /// Takes the genotype of each search and the accuracies of its trainings; a search without
    /// trainings is left out.
    pub fn new<K: Into<String>>(units: impl IntoIterator<Item = (K, Vec<f64>)>) -> Self {
        let units =
            units.into_iter().map(|(key, trainings)| Unit { genotype: key.into(), trainings });
        Self { units: units.filter(|unit| !unit.trainings.is_empty()).collect() }
    }

    /// The same for searches with different genotypes.
    pub fn distinct(trainings: impl IntoIterator<Item = Vec<f64>>) -> Self {
        Self::new(
            trainings.into_iter().enumerate().map(|(number, each)| (number.to_string(), each)),
        )
    }

    /// Number of searches with a training.
    pub fn len(&self) -> usize {
        self.units.len()
    }

    /// Whether no search has a training.
    pub fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// The mean of each search's trainings.
    pub fn means(&self) -> Vec<f64> {
        self.units.iter().filter_map(|unit| mean(&unit.trainings)).collect()
    }

    /// Trainings of each search.
    pub fn trainings(&self) -> impl Iterator<Item = &[f64]> {
        self.units.iter().map(|unit| &unit.trainings[..])
    }

    /// Trainings of each genotype, each genotype once.
    pub(super) fn genotypes(&self) -> Vec<&[f64]> {
        let first = |at: usize| {
            self.units[..at].iter().all(|unit| unit.genotype != self.units[at].genotype)
        };
        let firsts = (0..self.len()).filter(|&at| first(at));
        firsts.map(|at| &self.units[at].trainings[..]).collect()
    }

    /// The share of pairs of searches with the same genotype.
    pub fn shared(&self) -> f64 {
        let (mut same, mut pairs) = (0, 0);
        for (at, unit) in self.units.iter().enumerate() {
            pairs += at;
            same += self.units[..at].iter().filter(|u| u.genotype == unit.genotype).count();
        }
        if pairs == 0 { 0.0 } else { same as f64 / pairs as f64 }
    }

    /// Variance components, from the spread within genotypes and that of the searches' means.
    ///
    /// ```text
    /// training = sum over genotypes, trainings of (accuracy - genotype's mean)^2 / (trainings - genotypes)
    /// search   = max(0, s^2 of the means - (1 - shared) training / trainings per search)
    /// ```
    /// Trainings per search are their harmonic mean.
    ///
    /// # Source
    /// One-way random effects by unweighted means: Searle, Casella and McCulloch, Variance Components, 1992,
    /// section 3.6; the factor of shared trainings is derived in docs/statistics.md.
    ///
    /// # Errors
    /// [`CannotTell`] for fewer than two searches, and where no genotype has a second training.
    pub fn components(&self) -> Told<Components> {
        let found = self.len();
        let spread = variance(&self.means()).ok_or(CannotTell::TooFew {
            what: "searches",
            needed: 2,
            found,
        })?;
        let genotypes = self.genotypes();
        let freedom: usize = genotypes.iter().map(|trainings| trainings.len() - 1).sum();
        if freedom == 0 {
            let what = "trainings of each genotype";
            return Err(CannotTell::TooFew { what, needed: 2, found: 1 });
        }
        let squares = |trainings: &&[f64]| {
            variance(trainings).map_or(0.0, |each| each * (trainings.len() - 1) as f64)
        };
        let training = genotypes.iter().map(squares).sum::<f64>() / freedom as f64;
        if !(training.is_finite() && spread.is_finite()) {
            return Err(CannotTell::NotFinite);
        }
        let search = spread - (1.0 - self.shared()) * training * self.per_training();
        Ok(Components { search: search.max(0.0), training, freedom: freedom as f64 })
    }

    /// Mean over the searches of 1 / trainings: the remaining share of the variance of one
    /// training.
    pub(super) fn per_training(&self) -> f64 {
        let sum: f64 = self.units.iter().map(|unit| 1.0 / unit.trainings.len() as f64).sum();
        sum / self.len() as f64
    }

    /// The mean over the searches, with the error due to other searches and other trainings.
    ///
    /// ```text
    /// variance = s^2 / searches + shared * training / trainings per search
    /// ```
    /// `s^2` is that of the searches' means. It includes the noise of trainings already, except of
    /// those that two searches share. Where no genotype has a second training, `s^2` is assumed to
    /// be all noise.
    ///
    /// # Source
    /// The t interval over the means of clusters; docs/statistics.md has the derivation of the second summand and the
    /// coverage.
    ///
    /// # Errors
    /// [`CannotTell`] for one search, and for searches whose means and trainings have no spread.
    pub fn estimate(&self) -> Told<Estimate> {
        let plain = Estimate::of("searches", &self.means());
        let shared = self.shared();
        if shared == 0.0 || matches!(plain, Err(CannotTell::TooFew { .. } | CannotTell::NotFinite))
        {
            return plain;
        }
        let means = self.means();
        let (value, spread) = mean(&means).zip(variance(&means)).expect("two searches");
        let between = (self.genotypes().len() as f64 - 1.0).max(1.0);
        let (noise, freedom) = match self.components() {
            Ok(parts) => (parts.training * self.per_training(), parts.freedom),
            Err(_) if shared < 1.0 => (spread / (1.0 - shared), between),
            Err(error) => return Err(error),
        };
        let parts = [(spread / means.len() as f64, between), (shared * noise, freedom)];
        of_parts(value, parts, "searches")
    }

    /// The mean difference to another variant under the same seeds: both have one search for each
    /// seed, in the same order.
    ///
    /// ```text
    /// variance = s^2 / n + max(0, (n v - u) / (n - 1)) training
    /// v        = sum over genotypes of ((searches that found it - those of the other) / n)^2 / trainings
    /// u        = mean over the seeds of (1 / trainings + 1 / trainings of the other), 0 for a common genotype
    /// ```
    /// `s^2` is that of the `n` differences. Of the noise of the mean difference, `v training`, it
    /// includes all but that of trainings that searches share. Where no genotype has a second
    /// training, `s^2` is assumed to be all noise.
    ///
    /// # Source
    /// The t interval over pairs; docs/statistics.md has the derivation of the second summand and the
    /// coverage.
    ///
    /// # Errors
    /// [`CannotTell`] for one pair, and for equal differences of searches without spread.
    ///
    /// # Panics
    /// Where the variants have different numbers of searches.
    pub fn difference_by_seed(&self, other: &Self) -> Told<Estimate> {
        assert_eq!(self.len(), other.len(), "one search of each for every seed");
        let pairs = self.means().into_iter().zip(other.means());
        let differences: Vec<f64> = pairs.map(|(own, other)| own - other).collect();
        let plain = Estimate::of("pairs", &differences);
        let count = self.len() as f64;
        let [of_mean, of_pair] = self.noise_by_seed(other);
        let excess = (count * of_mean - of_pair) / (count - 1.0);
        // Sums of shares of searches are exact but for rounding.
        let is_shared = excess > 1e-12;
        if !is_shared || matches!(plain, Err(CannotTell::TooFew { .. } | CannotTell::NotFinite)) {
            return plain;
        }
        let (value, spread) = mean(&differences).zip(variance(&differences)).expect("two pairs");
        let both = || self.units.iter().zip(&other.units);
        let names: BTreeSet<_> = both().map(|(a, b)| (&a.genotype, &b.genotype)).collect();
        let between = (names.len() as f64 - 1.0).max(1.0);
        let all = Self { units: [&self.units[..], &other.units].concat() };
        let (noise, freedom) = match all.components() {
            Ok(parts) => (parts.training, parts.freedom),
            Err(_) if of_pair - of_mean > 1e-12 => {
                (spread * (count - 1.0) / (count * (of_pair - of_mean)), between)
            }
            Err(error) => return Err(error),
        };
        of_parts(value, [(spread / count, between), (excess * noise, freedom)], "pairs")
    }

    /// The noise of the mean difference to another variant, and of the difference under one seed on
    /// average, each in units of the variance of one training: `v` and `u` of
    /// [`Self::difference_by_seed`].
    fn noise_by_seed(&self, other: &Self) -> [f64; 2] {
        let share = 1.0 / self.len() as f64;
        let mut weights: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
        for (units, share) in [(&self.units, share), (&other.units, -share)] {
            for unit in units {
                let noise = 1.0 / unit.trainings.len() as f64;
                weights.entry(&unit.genotype).or_insert((0.0, noise)).0 += share;
            }
        }
        let of_mean = weights.values().map(|(weight, noise)| weight.powi(2) * noise).sum();
        let pairs = self.units.iter().zip(&other.units);
        let of_pairs = pairs.filter(|(own, other)| own.genotype != other.genotype).map(|pair| {
            share * (1.0 / pair.0.trainings.len() as f64 + 1.0 / pair.1.trainings.len() as f64)
        });
        [of_mean, of_pairs.sum()]
    }
}

/// An estimate whose variance has two parts, each with its degrees of freedom.
fn of_parts(value: f64, parts: [(f64, f64); 2], what: &'static str) -> Told<Estimate> {
    // Rounding leaves a spread of equal means, which has no degrees of freedom.
    let parts =
        parts.map(|(part, freedom)| (if is_zero(part, value) { 0.0 } else { part }, freedom));
    let variance = parts.iter().map(|(part, _)| part).sum();
    Estimate { value, variance, freedom: satterthwaite(&parts) }.checked(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_by_hand() {
        // Means 2, 6, 10 with s^2 = 16; within (1, 3), (5, 7), (9, 11): 6 squares over 3.
        let nested = Nested::distinct([vec![1.0, 3.0], vec![5.0, 7.0], vec![9.0, 11.0]]);
        let parts = nested.components().expect("a spread");
        assert_eq!((parts.training, parts.search, parts.freedom), (2.0, 15.0, 3.0));
        let estimate = nested.estimate().expect("a spread");
        assert_eq!(estimate, Estimate { value: 6.0, variance: 16.0 / 3.0, freedom: 2.0 });
    }

    #[test]
    fn noise_alone_leaves_nothing_to_the_searches() {
        let nested = Nested::distinct([vec![1.0, 5.0], vec![2.0, 4.0], vec![0.0, 6.5]]);
        assert_eq!(nested.components().expect("a spread").search, 0.0);
    }

    #[test]
    fn one_genotype_of_all_searches_is_as_sure_as_its_trainings() {
        let nested = Nested::new((0..5).map(|_| ("g", vec![1.0, 3.0])));
        let estimate = nested.estimate().expect("two trainings");
        // One mean of two trainings with s^2 = 2.
        assert_eq!(estimate, Estimate { value: 2.0, variance: 1.0, freedom: 1.0 });
        let once = Nested::new((0..5).map(|_| ("g", vec![1.0])));
        assert!(once.estimate().is_err(), "{once:?}");
    }

    #[test]
    fn shared_trainings_widen_the_interval() {
        let values = || [vec![1.0, 3.0], vec![1.0, 3.0], vec![5.0, 7.0], vec![9.0, 11.0]];
        let keys = ["a", "a", "b", "c"];
        let shared = Nested::new(keys.into_iter().zip(values()));
        assert_eq!(shared.shared(), 1.0 / 6.0);
        let (wide, narrow) = (shared.estimate(), Nested::distinct(values()).estimate());
        let (wide, narrow) = (wide.expect("a spread"), narrow.expect("a spread"));
        assert!((wide.variance - narrow.variance - 1.0 / 6.0).abs() < 1e-12, "{wide:?}");
        let once: Vec<_> = keys.into_iter().zip([1.0, 1.0, 5.0, 9.0].map(|v| vec![v])).collect();
        let guarded = Nested::new(once).estimate().expect("a spread");
        assert!(guarded.variance > narrow.variance, "{guarded:?}");
    }

    #[test]
    fn shared_trainings_widen_a_difference_by_hand() {
        let values = || [vec![1.0, 3.0], vec![1.0, 3.0], vec![9.0, 11.0]];
        let other = Nested::new(["d", "e", "f"].into_iter().zip((0..3).map(|_| vec![0.0, 2.0])));
        let own = |keys: [&'static str; 3]| Nested::new(keys.into_iter().zip(values()));
        // Differences 1, 1, 9 with s^2 = 64 / 3; every genotype has a training variance of 2.
        let apart = own(["a", "b", "c"]).difference_by_seed(&other).expect("a spread");
        assert!((apart.variance - 64.0 / 9.0).abs() < 1e-12, "{apart:?}");
        // v = (4 / 9 + 1 / 9 + 3 / 9) / 2 = 4 / 9, u = 1, so (3 * 4 / 9 - 1) / 2 * 2 = 1 / 3 more.
        let shared = own(["a", "a", "c"]).difference_by_seed(&other).expect("a spread");
        assert!((shared.variance - apart.variance - 1.0 / 3.0).abs() < 1e-12, "{shared:?}");
        // A genotype that both found under one seed has no noise in their difference.
        let same = own(["a", "b", "c"]);
        let told = same.difference_by_seed(&own(["a", "b", "g"]));
        assert!(told.is_err(), "all differences are equal: {told:?}");
        // One genotype each: as sure as its trainings, 2 / 2 + 2 / 2.
        let [one, two] = ["g", "h"].map(|g| Nested::new((0..4).map(|_| (g, vec![1.0, 3.0]))));
        let told = one.difference_by_seed(&two).expect("trainings have a spread");
        assert_eq!((told.value, told.variance, told.freedom), (0.0, 2.0, 2.0));
        let [one, two] = ["g", "h"].map(|g| Nested::new((0..4).map(|_| (g, vec![1.0]))));
        assert!(one.difference_by_seed(&two).is_err(), "trained once");
        // Trained once, with all of the spread taken for noise.
        let once = Nested::new(["a", "a", "b"].into_iter().zip([1.0, 1.0, 5.0].map(|v| vec![v])));
        let base = Nested::new(["c", "d", "e"].into_iter().zip([0.0, 1.0, 2.0].map(|v| vec![v])));
        let plain = Estimate::of("pairs", &[1.0, 0.0, 3.0]).expect("a spread");
        let told = once.difference_by_seed(&base).expect("a spread");
        assert!(told.variance > plain.variance && told.value == plain.value, "{told:?}");
    }

    #[test]
    fn missing_trials() {
        let nested = Nested::distinct([vec![1.0, 3.0], vec![], vec![6.0]]);
        assert_eq!((nested.len(), nested.means()), (2, vec![2.0, 6.0]));
        assert!(nested.components().is_ok());
        let one = Nested::distinct([vec![1.0, 3.0], vec![]]);
        assert_eq!(
            one.estimate().expect_err("one").to_string(),
            "too few searches: 1, at least 2 are needed"
        );
        assert!(Nested::default().estimate().is_err());
        assert!(Nested::distinct([vec![1.0], vec![2.0]]).components().is_err());
    }
}
