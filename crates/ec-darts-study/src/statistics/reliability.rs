//! The agreement of rankings by different trainings, which limits every tau with a retraining.

use std::f64::consts::PI;

use statrs::distribution::{ContinuousCDF, FisherSnedecor};

use super::{CannotTell, Interval, LEVEL, Nested, Told, mean, variance};

/// The share of the genotype in the variance of one training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reliability {
    /// Intraclass correlation of single trainings; below zero where genotypes differ less than by
    /// chance.
    pub single: f64,
    /// Interval of `single`.
    pub interval: Interval,
    /// Number of genotypes.
    pub genotypes: usize,
    /// Number of trainings of each genotype; with unequal numbers, their effective number.
    pub trainings: f64,
}

impl Reliability {
    /// Intraclass correlation ICC(1, 1) of genotypes, each once, and its interval.
    ///
    /// ```text
    /// single = (between - within) / (between + (k - 1) within)
    /// F = between / within,  F_low = F / F(0.975; n - 1, N - n),  F_high = F * F(0.975; N - n, n - 1)
    /// ends   = (F_end - 1) / (F_end + k - 1)
    /// ```
    /// `between` and `within` are mean squares, `n` genotypes, `N` trainings,
    /// `k = (N - sum of k_i^2 / N) / (n - 1)` trainings each.
    ///
    /// # Source
    /// Shrout and Fleiss 1979, ICC(1, 1); `k` of unequal numbers: Searle et al. 1992, section 3.6.
    ///
    /// # Errors
    /// [`CannotTell`] for one genotype, for genotypes with one training each, and where no
    /// trainings of the same genotype differ.
    pub fn of(accuracies: &Nested) -> Told<Self> {
        let genotypes = accuracies.genotypes();
        let (count, all) = (genotypes.len() as f64, genotypes.concat());
        if genotypes.len() < 2 {
            let found = genotypes.len();
            return Err(CannotTell::TooFew { what: "genotypes", needed: 2, found });
        }
        if all.len() == genotypes.len() {
            let what = "trainings of each genotype";
            return Err(CannotTell::TooFew { what, needed: 2, found: 1 });
        }
        let total = all.len() as f64;
        let center = mean(&all).expect("two genotypes");
        let (mut between, mut within, mut squares) = (0.0, 0.0, 0.0);
        for trainings in &genotypes {
            let own = mean(trainings).expect("a training");
            let size = trainings.len() as f64;
            between += size * (own - center).powi(2);
            within += trainings.iter().map(|each| (each - own).powi(2)).sum::<f64>();
            squares += size.powi(2);
        }
        if !(between.is_finite() && within.is_finite()) {
            return Err(CannotTell::NotFinite);
        }
        if super::is_zero(within, center) {
            return Err(CannotTell::NoSpread("trainings of a genotype"));
        }
        let (above, below) = (count - 1.0, total - count);
        let trainings = (total - squares / total) / above;
        let ratio = (between / above) / (within / below);
        let share = |ratio: f64| (ratio - 1.0) / (ratio + trainings - 1.0);
        let low = share(ratio / fisher(above, below));
        let high = share(ratio * fisher(below, above));
        // With few second trainings, a bound of F gives no possible correlation.
        let interval = Interval { low: low.max(-1.0), high: high.min(1.0) };
        Ok(Self { single: share(ratio), interval, genotypes: genotypes.len(), trainings })
    }
}

/// Upper quantile for a two-sided interval.
fn fisher(above: f64, below: f64) -> f64 {
    let distribution = FisherSnedecor::new(above, below).expect("freedom above 0");
    distribution.inverse_cdf(0.5 + 0.5 * LEVEL)
}

/// Reliability of the means of each genotype's trainings, where more genotypes than these give the
/// variance of one training; zero where genotypes differ less than trainings.
///
/// ```text
/// 1 - training / trainings per genotype / s^2 of the means
/// ```
///
/// # Source
/// Reliability as the share of true variance: Lord and Novick, Statistical Theories of Mental Test Scores, 1968,
/// section 3.4.
///
/// # Errors
/// [`CannotTell`] for fewer than two genotypes, and for equal means.
pub fn reliability_of_means(accuracies: &Nested, training: f64) -> Told<f64> {
    let means = accuracies.means();
    let found = means.len();
    let too_few = CannotTell::TooFew { what: "genotypes", needed: 2, found };
    let (center, spread) = mean(&means).zip(variance(&means)).ok_or(too_few)?;
    if super::is_zero(spread, center) {
        return Err(CannotTell::NoSpread("genotypes"));
    }
    Ok((1.0 - training * accuracies.per_training() / spread).max(0.0))
}

/// The average tau of a perfect predictor of the true accuracy with a measured accuracy of this
/// reliability.
///
/// ```text
/// 2 / pi * asin(sqrt(reliability))
/// ```
/// Two measurements with this reliability have a tau of `2 / pi * asin(reliability)` with each
/// other.
///
/// # Source
/// Tau of two normal variables: Greiner 1909; the correlation of a true with a measured value is the root of the
/// reliability: Spearman 1904.
pub fn ceiling_of_tau(reliability: f64) -> f64 {
    2.0 / PI * reliability.clamp(0.0, 1.0).sqrt().asin()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reliability_is_that_of_the_published_example() {
        // Shrout and Fleiss 1979, table 2: six targets, four judges; ICC(1, 1) = 0.17, and the
        // interval of the psych package of R: -0.13 to 0.72.
        let ratings = [
            [9.0, 2.0, 5.0, 8.0],
            [6.0, 1.0, 3.0, 2.0],
            [8.0, 4.0, 6.0, 8.0],
            [7.0, 1.0, 2.0, 6.0],
            [10.0, 5.0, 6.0, 9.0],
            [6.0, 2.0, 4.0, 7.0],
        ];
        let told = Reliability::of(&Nested::distinct(ratings.map(Vec::from))).expect("a spread");
        assert!((told.single - 0.165_7).abs() < 1e-4, "{told:?}");
        let Interval { low, high } = told.interval;
        assert!((low + 0.133).abs() < 1e-3 && (high - 0.723).abs() < 1e-3, "{told:?}");
        assert_eq!((told.genotypes, told.trainings), (6, 4.0));
    }

    #[test]
    fn ceilings_by_hand() {
        assert_eq!(
            (ceiling_of_tau(1.0), ceiling_of_tau(0.0), ceiling_of_tau(-0.2)),
            (1.0, 0.0, 0.0)
        );
        // asin(sqrt(0.5)) is a quarter of pi.
        assert!((ceiling_of_tau(0.5) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn reliability_of_means_by_hand() {
        // Means 2, 6, 10 with s^2 = 16, two trainings each.
        let of = |training| {
            let trainings = [vec![1.0, 3.0], vec![5.0, 7.0], vec![9.0, 11.0]];
            reliability_of_means(&Nested::distinct(trainings), training)
        };
        assert_eq!((of(8.0), of(100.0)), (Ok(0.75), Ok(0.0)));
        assert!(reliability_of_means(&Nested::distinct([vec![1.0, 2.0]]), 1.0).is_err());
        assert!(reliability_of_means(&Nested::distinct([vec![1.0], vec![1.0]]), 1.0).is_err());
    }

    #[test]
    fn what_trainings_cannot_tell() {
        let of = |trainings: &[&[f64]]| {
            Reliability::of(&Nested::distinct(trainings.iter().map(|each| each.to_vec())))
        };
        assert!(of(&[&[1.0, 2.0]]).is_err() && of(&[&[1.0], &[2.0]]).is_err());
        assert!(of(&[&[1.0, 1.0], &[2.0, 2.0]]).is_err());
        assert!(of(&[&[1.0, f64::NAN], &[2.0, 2.0]]).is_err());
        assert!(of(&[&[1.0, 2.0], &[2.0]]).is_ok());
    }
}
