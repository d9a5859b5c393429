//! A figure with its own variance, and Student's interval around it.

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::{CannotTell, LEVEL, Told, is_zero, mean, variance};

/// A range that contains the true value with probability [`LEVEL`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// Whether a value lies in the interval.
    pub fn holds(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }

    /// Distance between its ends.
    pub fn width(&self) -> f64 {
        self.high - self.low
    }
}

/// An estimate, the variance of its error, and the degrees of freedom of that variance.
///
/// ```text
/// value +- t(0.975, freedom) sqrt(variance)
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The estimate.
    pub value: f64,
    /// The variance of its error: the squared standard error.
    pub variance: f64,
    /// Degrees of freedom of the variance.
    pub freedom: f64,
}

impl Estimate {
    /// The mean of independent values.
    ///
    /// # Errors
    /// [`CannotTell`] for fewer than two values, for equal ones, and for values that are not
    /// finite.
    pub fn of(what: &'static str, values: &[f64]) -> Told<Self> {
        let count = values.len();
        let too_few = CannotTell::TooFew { what, needed: 2, found: count };
        let (value, spread) = mean(values).zip(variance(values)).ok_or(too_few)?;
        let freedom = count as f64 - 1.0;
        Self { value, variance: spread / count as f64, freedom }.checked(what)
    }

    /// The estimate itself, where it is meaningful.
    pub(super) fn checked(self, what: &'static str) -> Told<Self> {
        if !self.value.is_finite() || !self.variance.is_finite() {
            return Err(CannotTell::NotFinite);
        }
        if is_zero(self.variance, self.value) {
            return Err(CannotTell::NoSpread(what));
        }
        Ok(self)
    }

    /// Student's interval.
    pub fn interval(&self) -> Interval {
        let half = student(self.freedom) * self.variance.sqrt();
        Interval { low: self.value - half, high: self.value + half }
    }

    /// A value that depends on two independent estimates, by its slopes at this point.
    ///
    /// ```text
    /// variance = slope_a^2 variance_a + slope_b^2 variance_b
    /// freedom  = variance^2 / sum of (each summand)^2 / (its freedom)
    /// ```
    ///
    /// # Source
    /// Propagation of error to first order; degrees of freedom by Satterthwaite 1946 and Welch 1947.
    pub(super) fn of_two(value: f64, parts: [(f64, Self); 2]) -> Self {
        let shares = parts.map(|(slope, part)| (slope.powi(2) * part.variance, part.freedom));
        let variance: f64 = shares.iter().map(|(share, _)| share).sum();
        Self { value, variance, freedom: satterthwaite(&shares) }
    }
}

/// Degrees of freedom of a sum of variances, each with its own.
///
/// # Source
/// Satterthwaite 1946, Eq. (17).
pub(super) fn satterthwaite(shares: &[(f64, f64)]) -> f64 {
    let sum: f64 = shares.iter().map(|(share, _)| share).sum();
    let parts = shares.iter().filter(|(share, _)| *share > 0.0);
    sum.powi(2) / parts.map(|(share, freedom)| share.powi(2) / freedom).sum::<f64>()
}

/// Upper quantile of Student's distribution for a two-sided interval at [`LEVEL`].
pub(super) fn student(freedom: f64) -> f64 {
    let distribution = StudentsT::new(0.0, 1.0, freedom).expect("freedom above 0");
    distribution.inverse_cdf(0.5 + 0.5 * LEVEL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_by_hand() {
        // Mean 3, s^2 = 2.5, standard error sqrt(0.5), t(0.975, 4) = 2.776445.
        let estimate = Estimate::of("values", &[1.0, 2.0, 3.0, 4.0, 5.0]).expect("a spread");
        let Interval { low, high } = estimate.interval();
        assert!((low - (3.0 - 2.776445 * 0.5_f64.sqrt())).abs() < 1e-6, "{low}");
        assert!((high - (3.0 + 2.776445 * 0.5_f64.sqrt())).abs() < 1e-6, "{high}");
    }

    #[test]
    fn what_cannot_be_told() {
        let told = |values: &[f64]| Estimate::of("searches", values).expect_err("no spread");
        assert_eq!(told(&[]).to_string(), "too few searches: 0, at least 2 are needed");
        assert_eq!(told(&[0.5]).to_string(), "too few searches: 1, at least 2 are needed");
        assert_eq!(told(&[0.1; 7]).to_string(), "all searches are equal");
        assert_eq!(told(&[0.1, f64::NAN]), CannotTell::NotFinite);
        assert_eq!(told(&[0.1, f64::INFINITY]), CannotTell::NotFinite);
    }

    #[test]
    fn freedom_of_two_variances() {
        // Welch's example by hand: equal shares of 4 and 8: 4 / (1/4 + 1/8) = 10.67.
        let freedom = satterthwaite(&[(1.0, 4.0), (1.0, 8.0)]);
        assert!((freedom - 4.0 / 0.375).abs() < 1e-12, "{freedom}");
        assert_eq!(satterthwaite(&[(1.0, 4.0), (0.0, 8.0)]), 4.0);
    }
}
