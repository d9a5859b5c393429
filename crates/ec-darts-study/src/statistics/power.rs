//! The number of searches that detect a difference.

use statrs::distribution::{ChiSquared, Continuous, ContinuousCDF, Normal};

use super::estimate::student;
use super::{CannotTell, Told};

/// Largest number of searches that is tried.
const MOST: usize = 100_000;

/// The design of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Design {
    /// Two variants under the same seeds: differences within pairs.
    Paired,
    /// Two variants with the same number of searches each.
    Independent,
}

impl Design {
    /// Standard error of the difference for a deviation of 1, and its degrees of freedom.
    fn error(self, searches: usize) -> (f64, f64) {
        let count = searches as f64;
        match self {
            Self::Paired => ((1.0 / count).sqrt(), count - 1.0),
            Self::Independent => ((2.0 / count).sqrt(), 2.0 * count - 2.0),
        }
    }
}

/// Probability that Student's interval excludes zero when the true difference is this one.
///
/// ```text
/// power = P(|T| > t(0.975, freedom)),  T of the noncentral distribution with
///     paired:       noncentrality difference / deviation * sqrt(n),      freedom n - 1
///     independent:  noncentrality difference / deviation * sqrt(n / 2),  freedom 2 n - 2
/// ```
/// `deviation` is that of the difference within a pair, or of one variant's searches. It includes
/// the part of the trainings: `sqrt(search + training / trainings per search)` by
/// [`super::Components`].
///
/// # Source
/// Cohen, Statistical Power Analysis, 1988, chapter 2.
pub fn power(design: Design, searches: usize, difference: f64, deviation: f64) -> f64 {
    if searches < 2 {
        return 0.0;
    }
    let (error, freedom) = design.error(searches);
    let (shift, bound) = ((difference / deviation / error).abs(), student(freedom));
    1.0 - noncentral(bound, freedom, shift) + noncentral(-bound, freedom, shift)
}

/// `P(T <= t)` of Student's noncentral distribution.
///
/// ```text
/// integral over u of Phi(t u - shift) f(u) du,  u = sqrt(chi^2 / freedom)
/// ```
fn noncentral(t: f64, freedom: f64, shift: f64) -> f64 {
    const PARTS: usize = 400;
    let chi_squared = ChiSquared::new(freedom).expect("freedom above 0");
    let normal = Normal::standard();
    // `u` has a mean near 1 and a standard deviation near this.
    let deviation = 1.0 / (2.0 * freedom).sqrt();
    let (from, to) = ((1.0 - 9.0 * deviation).max(1e-9), 1.0 + 9.0 * deviation);
    let step = (to - from) / PARTS as f64;
    let value = |u: f64| {
        // `pdf` of the crate overflows between 250 and 320 degrees of freedom.
        let density = 2.0 * freedom * u * chi_squared.ln_pdf(freedom * u * u).exp();
        normal.cdf(t * u - shift) * density
    };
    let simpson = (0..=PARTS).map(|at| {
        let weight = if at == 0 || at == PARTS { 1.0 } else { 2.0 + 2.0 * (at % 2) as f64 };
        weight * value(from + step * at as f64)
    });
    step / 3.0 * simpson.sum::<f64>()
}

/// The smallest number of searches (pairs, or searches of each variant) that detects a difference
/// with this [`power`].
///
/// # Errors
/// [`CannotTell`] for no difference, for no deviation, and where more than 100,000 would be needed.
pub fn searches_needed(
    design: Design,
    difference: f64,
    deviation: f64,
    wanted: f64,
) -> Told<usize> {
    let ratio = (difference / deviation).abs();
    if !ratio.is_finite() || deviation <= 0.0 {
        return Err(CannotTell::NoSpread("searches"));
    }
    if power(design, MOST, difference, deviation) < wanted {
        return Err(CannotTell::TooMany(MOST));
    }
    let enough = |searches: usize| power(design, searches, difference, deviation) >= wanted;
    let (mut few, mut many) = (1, 2);
    while !enough(many) {
        (few, many) = (many, 2 * many);
    }
    while many - few > 1 {
        let middle = few.midpoint(many);
        if enough(middle) { many = middle } else { few = middle }
    }
    Ok(many)
}

/// The smallest difference that this number of searches detects with this [`power`].
///
/// # Errors
/// [`CannotTell`] for fewer than two searches and for no deviation.
pub fn smallest_difference(
    design: Design,
    searches: usize,
    deviation: f64,
    wanted: f64,
) -> Told<f64> {
    if searches < 2 {
        return Err(CannotTell::TooFew { what: "searches", needed: 2, found: searches });
    }
    if !(deviation.is_finite() && deviation > 0.0) {
        return Err(CannotTell::NoSpread("searches"));
    }
    let (mut small, mut large) = (0.0, deviation);
    while power(design, searches, large, deviation) < wanted {
        large *= 2.0;
    }
    for _ in 0..50 {
        let middle = 0.5 * (small + large);
        let enough = power(design, searches, middle, deviation) >= wanted;
        if enough { large = middle } else { small = middle }
    }
    Ok(large)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn searches_needed_are_those_of_the_tables() {
        // Cohen 1988, table 2.4.1, and G*Power 3.1: alpha 0.05 two-sided, power 0.8.
        let needed = |design, size| searches_needed(design, size, 1.0, 0.8).expect("a difference");
        let independent = [(0.2, 394), (0.5, 64), (0.8, 26), (1.0, 17)];
        for (size, count) in independent {
            assert_eq!(needed(Design::Independent, size), count, "{size}");
        }
        for (size, count) in [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)] {
            assert_eq!(needed(Design::Paired, size), count, "{size}");
        }
        assert_eq!(needed(Design::Paired, -1.0), 10);
    }

    #[test]
    fn power_by_the_tables() {
        let told = power(Design::Paired, 34, 0.5, 1.0);
        assert!((told - 0.807_78).abs() < 1e-4, "{told}");
        let level = power(Design::Independent, 5, 0.0, 1.0);
        assert!((level - 0.05).abs() < 1e-6, "{level}");
        assert!((power(Design::Paired, 2, 0.0, 1.0) - 0.05).abs() < 1e-5);
        assert!(power(Design::Paired, 5, 50.0, 1.0) > 0.999_999);
        assert_eq!(power(Design::Paired, 1, 50.0, 1.0), 0.0);
    }

    #[test]
    fn the_smallest_difference_has_the_power() {
        let told = smallest_difference(Design::Paired, 5, 2.0, 0.8).expect("a deviation");
        assert!((power(Design::Paired, 5, told, 2.0) - 0.8).abs() < 1e-9, "{told}");
        assert_eq!(searches_needed(Design::Paired, told + 1e-9, 2.0, 0.8), Ok(5));
    }

    #[test]
    fn what_cannot_be_needed() {
        assert!(searches_needed(Design::Paired, 0.0, 1.0, 0.8).is_err());
        assert!(searches_needed(Design::Paired, 1.0, 0.0, 0.8).is_err());
        assert!(searches_needed(Design::Paired, f64::NAN, 1.0, 0.8).is_err());
        assert!(smallest_difference(Design::Paired, 1, 1.0, 0.8).is_err());
        assert!(smallest_difference(Design::Paired, 5, 0.0, 0.8).is_err());
    }
}
