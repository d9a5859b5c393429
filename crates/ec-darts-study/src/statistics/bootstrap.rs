//! The nested percentile bootstrap, a comparison for Student's interval.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{CannotTell, Interval, LEVEL, Nested, Told};

/// Number of samples of [`nested`].
pub const SAMPLES: usize = 2_000;

/// A generator whose draws are always the same, so that a repeated report has the same figures.
pub fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// Interval of the mean: searches are drawn with replacement, then trainings of each; the interval lies between the
/// quantiles of their means.
///
/// With few searches it is too narrow: docs/statistics.md has its coverage. Reports show it beside
/// [`Nested::estimate`].
///
/// # Source
/// Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8.
///
/// # Errors
/// [`CannotTell`] for fewer than two searches, and for equal accuracies.
pub fn nested(accuracies: &Nested, samples: usize, seed: u64) -> Told<Interval> {
    let units: Vec<&[f64]> = accuracies.trainings().collect();
    if units.len() < 2 {
        return Err(CannotTell::TooFew { what: "searches", needed: 2, found: units.len() });
    }
    let mut rng = rng(seed);
    let mut one = |values: &[f64]| values[rng.random_range(0..values.len())];
    let mut places = self::rng(seed ^ 1);
    let mut means: Vec<f64> = (0..samples)
        .map(|_| {
            let picked = (0..units.len()).map(|_| units[places.random_range(0..units.len())]);
            let mean =
                |unit: &[f64]| unit.iter().map(|_| one(unit)).sum::<f64>() / unit.len() as f64;
            picked.map(mean).sum::<f64>() / units.len() as f64
        })
        .collect();
    let (low, high) =
        (quantile(&mut means, 0.5 - 0.5 * LEVEL), quantile(&mut means, 0.5 + 0.5 * LEVEL));
    if !(low.is_finite() && high.is_finite()) {
        return Err(CannotTell::NotFinite);
    }
    if high - low <= 1e-12 * high.abs() {
        return Err(CannotTell::NoSpread("searches"));
    }
    Ok(Interval { low, high })
}

/// The value below which a given share of the values lies.
///
/// # Panics
/// Where `values` is empty.
pub fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len() - 1;
    let place = share * last as f64;
    let (below, part) = (place.floor() as usize, place.fract());
    values[below] + part * (values[(below + 1).min(last)] - values[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bootstrap_by_hand() {
        // With two searches of one training each, a quarter of the samples is (0, 0), a quarter (1,
        // 1).
        let told = nested(&Nested::distinct([vec![0.0], vec![1.0]]), SAMPLES, 0);
        assert_eq!(told, Ok(Interval { low: 0.0, high: 1.0 }));
        let again = nested(&Nested::distinct([vec![0.0, 0.2], vec![1.0, 0.7]]), SAMPLES, 0);
        assert_eq!(again, nested(&Nested::distinct([vec![0.0, 0.2], vec![1.0, 0.7]]), SAMPLES, 0));
        assert!(nested(&Nested::distinct([vec![0.5, 0.6]]), SAMPLES, 0).is_err());
        assert!(nested(&Nested::distinct([vec![0.5], vec![0.5]]), SAMPLES, 0).is_err());
    }

    #[test]
    fn quantiles_lie_between_values() {
        let mut values = [3.0, 1.0, 2.0, 4.0];
        assert_eq!(quantile(&mut values, 0.5), 2.5);
        assert_eq!((quantile(&mut values, 0.0), quantile(&mut values, 1.0)), (1.0, 4.0));
    }
}
