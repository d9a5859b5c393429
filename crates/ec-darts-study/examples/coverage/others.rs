//! Intervals that reports do not use.

use ec_darts_study::statistics::bootstrap::{quantile, rng};
use ec_darts_study::statistics::kendall::tau_b;
use ec_darts_study::statistics::{CannotTell, Estimate, Interval, Nested, Told, mean, variance};
use rand::RngExt;
use statrs::distribution::{ContinuousCDF, Normal};

/// Number of samples of each bootstrap.
pub const SAMPLES: usize = 499;
/// Quantile of the normal distribution at 0.975.
const Z: f64 = 1.959_964;

/// The interval over all trainings as if they were independent.
pub fn all_trainings(accuracies: &Nested) -> Told<Interval> {
    Ok(Estimate::of("trainings", &accuracies.trainings().collect::<Vec<_>>().concat())?.interval())
}

/// Student's interval as if no two searches shared trainings.
pub fn sharing_ignored(accuracies: &Nested) -> Told<Interval> {
    Ok(Estimate::of("searches", &accuracies.means())?.interval())
}

/// The interval with the normal quantile in place of Student's.
pub fn normal(estimate: Estimate) -> Interval {
    let half = Z * estimate.variance.sqrt();
    Interval { low: estimate.value - half, high: estimate.value + half }
}

/// Percentiles of means of searches, drawn with replacement.
pub fn percentile(accuracies: &Nested) -> Told<Interval> {
    let (means, mut rng) = (accuracies.means(), rng(3));
    let mut one = || (0..means.len()).map(|_| means[rng.random_range(0..means.len())]).sum::<f64>();
    let mut sums: Vec<f64> = (0..SAMPLES).map(|_| one() / means.len() as f64).collect();
    Ok(Interval { low: quantile(&mut sums, 0.025), high: quantile(&mut sums, 0.975) })
}

/// Bootstrap-t: quantiles of the studentized mean (Davison and Hinkley 1997, section 5.2).
pub fn studentized(accuracies: &Nested) -> Told<Interval> {
    let (means, mut rng) = (accuracies.means(), rng(4));
    let own = Estimate::of("searches", &means)?;
    let mut ratios: Vec<f64> = (0..SAMPLES)
        .filter_map(|_| {
            let sample: Vec<f64> =
                means.iter().map(|_| means[rng.random_range(0..means.len())]).collect();
            let drawn = Estimate::of("searches", &sample).ok()?;
            Some((drawn.value - own.value) / drawn.variance.sqrt())
        })
        .collect();
    let error = own.variance.sqrt();
    let mut end = |share: f64| own.value - quantile(&mut ratios, share) * error;
    Ok(Interval { low: end(0.975), high: end(0.025) })
}

/// Fieller's interval of 100 (a / b - 1), with Satterthwaite's degrees of freedom of the numerator's difference.
pub fn fieller(a: Estimate, b: Estimate, quantile: f64) -> Told<Interval> {
    let g = quantile.powi(2) * b.variance / b.value.powi(2);
    if g >= 1.0 {
        return Err(CannotTell::NoBase);
    }
    let ratio = a.value / b.value;
    let root = (a.variance + ratio.powi(2) * b.variance - g * a.variance).sqrt();
    let half = quantile / b.value * root;
    let end = |sign: f64| 100.0 * ((ratio + sign * half) / (1.0 - g) - 1.0);
    Ok(Interval { low: end(-1.0), high: end(1.0) })
}

/// Nested percentiles of 100 (a / b - 1).
pub fn bootstrapped_ratio(a: &Nested, b: &Nested) -> Told<Interval> {
    let mut rng = rng(5);
    let mut draw = |of: &Nested| {
        let units: Vec<&[f64]> = of.trainings().collect();
        let mut sum = 0.0;
        for _ in 0..units.len() {
            let unit = units[rng.random_range(0..units.len())];
            let drawn = unit.iter().map(|_| unit[rng.random_range(0..unit.len())]);
            sum += drawn.sum::<f64>() / unit.len() as f64;
        }
        sum / units.len() as f64
    };
    let mut ratios: Vec<f64> = (0..SAMPLES).map(|_| 100.0 * (draw(a) / draw(b) - 1.0)).collect();
    Ok(Interval { low: quantile(&mut ratios, 0.025), high: quantile(&mut ratios, 0.975) })
}

/// Fisher's transformation with the variance of Fieller, Hartley and Pearson 1957:
/// tanh(atanh(tau) +- z sqrt(0.437 / (n - 4))); a tau of 1 or -1 counts as half a pair less.
pub fn transformed(tau: f64, count: usize) -> Interval {
    let most = 1.0 - 2.0 / (count * (count - 1)) as f64;
    let half = Z * (0.437 / (count as f64 - 4.0)).sqrt();
    let end = |sign: f64| (tau.clamp(-most, most).atanh() + sign * half).tanh();
    let low = if tau > -most { end(-1.0) } else { -1.0 };
    let high = if tau < most { end(1.0) } else { 1.0 };
    Interval { low, high }
}

/// Fieller's variance on the scale of tau itself: tau +- z (1 - tau^2) sqrt(0.437 / (n - 4)).
pub fn untransformed(tau: f64, count: usize) -> Interval {
    let half = Z * (1.0 - tau.powi(2)) * (0.437 / (count as f64 - 4.0)).sqrt();
    Interval { low: tau - half, high: tau + half }
}

/// Variance under independence: tau +- z sqrt(2 (2 n + 5) / (9 n (n - 1))).
pub fn null_variance(tau: f64, count: usize) -> Interval {
    let n = count as f64;
    let half = Z * (2.0 * (2.0 * n + 5.0) / (9.0 * n * (n - 1.0))).sqrt();
    Interval { low: tau - half, high: tau + half }
}

/// Percentiles of tau over pairs drawn with replacement, and the same bias-corrected and
/// accelerated (Efron 1987).
pub fn bootstrapped_tau(a: &[f64], b: &[f64]) -> Told<[Interval; 2]> {
    let (count, mut rng) = (a.len(), rng(6));
    let own = tau_b(a, b).ok_or(CannotTell::NoSpread("values"))?;
    let mut taus: Vec<f64> = (0..SAMPLES)
        .filter_map(|_| {
            let places: Vec<usize> = (0..count).map(|_| rng.random_range(0..count)).collect();
            let pick = |side: &[f64]| places.iter().map(|&at| side[at]).collect::<Vec<f64>>();
            tau_b(&pick(a), &pick(b))
        })
        .collect();
    let plain = Interval { low: quantile(&mut taus, 0.025), high: quantile(&mut taus, 0.975) };
    let below = taus
        .iter()
        .map(|tau| f64::from(u8::from(*tau < own)) + 0.5 * f64::from(u8::from(*tau == own)));
    let share = (below.sum::<f64>() / taus.len() as f64).clamp(1e-3, 1.0 - 1e-3);
    let standard = Normal::standard();
    let bias = standard.inverse_cdf(share);
    let left_out = jackknifed(a, b);
    let center = mean(&left_out).expect("ten values");
    let power = |exponent| left_out.iter().map(|tau| (center - tau).powi(exponent)).sum::<f64>();
    let acceleration = power(3) / (6.0 * power(2).powf(1.5)).max(1e-12);
    let mut end = |z: f64| {
        let moved = bias + (bias + z) / (1.0 - acceleration * (bias + z));
        quantile(&mut taus, standard.cdf(moved).clamp(0.0, 1.0))
    };
    Ok([plain, Interval { low: end(-Z), high: end(Z) }])
}

/// Tau without each pair.
fn jackknifed(a: &[f64], b: &[f64]) -> Vec<f64> {
    let without = |side: &[f64], at: usize| [&side[..at], &side[at + 1..]].concat();
    (0..a.len()).filter_map(|at| tau_b(&without(a, at), &without(b, at))).collect()
}

/// Jackknife of Fisher's transformation, with Student's quantile for n = 10.
pub fn jackknife(a: &[f64], b: &[f64]) -> Told<Interval> {
    let own = tau_b(a, b).ok_or(CannotTell::NoSpread("values"))?;
    let most = |tau: f64| tau.clamp(-0.99, 0.99).atanh();
    let left_out: Vec<f64> = jackknifed(a, b).into_iter().map(most).collect();
    let n = a.len() as f64;
    let spread = variance(&left_out).expect("ten values") * (n - 1.0).powi(2) / n;
    let half = 2.262_157 * spread.sqrt();
    Ok(Interval { low: (most(own) - half).tanh(), high: (most(own) + half).tanh() })
}
