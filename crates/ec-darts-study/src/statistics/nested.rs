//! Accuracies of one variant: searches are the units, and trainings are nested in them.

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
        let shares = [(spread / means.len() as f64, between), (shared * noise, freedom)];
        // Rounding leaves a spread of equal means, which has no degrees of freedom.
        let shares = shares
            .map(|(share, freedom)| (if is_zero(share, value) { 0.0 } else { share }, freedom));
        let variance = shares.iter().map(|(share, _)| share).sum();
        let estimate = Estimate { value, variance, freedom: satterthwaite(&shares) };
        estimate.checked("searches")
    }
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
