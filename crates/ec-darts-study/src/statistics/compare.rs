//! Comparisons of two variants.

use rand::RngExt;

use super::{CannotTell, Estimate, Told};
use crate::statistics::bootstrap::rng;

/// Largest number of pairs whose sign changes are all counted.
const MOST_EXACT: usize = 20;
/// Number of permutations drawn where they are not all counted.
pub const DRAWS: u32 = 99_999;

/// A probability under exchangeability, and the method of its computation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PValue {
    /// The probability, in (0, 1].
    pub value: f64,
    /// Number of drawn permutations; none where all were counted.
    pub draws: Option<u32>,
}

/// The relative improvement over random genotypes, in percent.
///
/// ```text
/// 100 (method - random) / random
/// ```
/// Both are means over searches (or random genotypes), independent of each other.
///
/// # Source
/// Yang, Esperanca and Carlucci, NAS evaluation is frustratingly hard, ICLR 2020, section 4; the error by the delta
/// method, with Satterthwaite's degrees of freedom. docs/statistics.md compares it with Fieller's interval.
///
/// # Errors
/// [`CannotTell::NoBase`] where the mean of random genotypes is zero.
pub fn relative_improvement(method: Estimate, random: Estimate) -> Told<Estimate> {
    if random.value == 0.0 {
        return Err(CannotTell::NoBase);
    }
    let ratio = method.value / random.value;
    let by_method = 100.0 / random.value;
    let by_random = -100.0 * ratio / random.value;
    let parts = [(by_method, method), (by_random, random)];
    Estimate::of_two(100.0 * (ratio - 1.0), parts).checked("accuracies")
}

/// The difference `a - b` of independent estimates.
///
/// # Source
/// Welch 1947.
///
/// # Errors
/// [`CannotTell`] where neither has a spread.
pub fn difference(a: Estimate, b: Estimate) -> Told<Estimate> {
    Estimate::of_two(a.value - b.value, [(1.0, a), (-1.0, b)]).checked("values")
}

/// Mean of the differences `a - b` within pairs: two variants under the same seed.
///
/// # Errors
/// [`CannotTell`] for fewer than two pairs, and for equal differences.
pub fn paired(pairs: &[(f64, f64)]) -> Told<Estimate> {
    let differences: Vec<f64> = pairs.iter().map(|(a, b)| a - b).collect();
    Estimate::of("pairs", &differences)
}

/// Two-sided probability of a mean difference at least as far from zero as this one, if the sign of
/// each pair's difference were random: the share of all `2^n` sign combinations whose sum is at
/// least as far away.
///
/// The smallest possible value is `2 / 2^n`, so at least 6 pairs are needed to reach 0.05.
///
/// # Source
/// Fisher, The Design of Experiments, 1935, section 21. Above 20 pairs, [`DRAWS`] sign combinations
/// are drawn, and the observed one counts among them (Phipson and Smyth 2010).
///
/// # Errors
/// [`CannotTell`] where no pair differs.
pub fn sign_flip(pairs: &[(f64, f64)]) -> Told<PValue> {
    let differences: Vec<f64> = pairs.iter().map(|(a, b)| a - b).collect();
    if differences.iter().any(|difference| !difference.is_finite()) {
        return Err(CannotTell::NotFinite);
    }
    let size: f64 = differences.iter().map(|difference| difference.abs()).sum();
    if size == 0.0 {
        return Err(match pairs.len() {
            0 => CannotTell::TooFew { what: "pairs", needed: 1, found: 0 },
            _ => CannotTell::NoSpread("pairs"),
        });
    }
    // Sums of the same numbers in another order differ by rounding.
    let observed = differences.iter().sum::<f64>().abs() - 1e-9 * size;
    let as_far = |sign: &dyn Fn(usize) -> bool| {
        let signed = differences.iter().enumerate();
        let sum: f64 = signed.map(|(at, each)| if sign(at) { *each } else { -each }).sum();
        sum.abs() >= observed
    };
    if pairs.len() > MOST_EXACT {
        let mut rng = rng(0);
        let mut count = 0_u32;
        for _ in 0..DRAWS {
            let signs: Vec<bool> = differences.iter().map(|_| rng.random()).collect();
            count += u32::from(as_far(&|at| signs[at]));
        }
        let value = f64::from(count + 1) / f64::from(DRAWS + 1);
        return Ok(PValue { value, draws: Some(DRAWS) });
    }
    let all = 1_u32 << pairs.len();
    let count = (0..all).filter(|mask| as_far(&|at| mask >> at & 1 == 1)).count();
    Ok(PValue { value: count as f64 / f64::from(all), draws: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(differences: &[f64]) -> Vec<(f64, f64)> {
        differences.iter().map(|&each| (each, 0.0)).collect()
    }

    #[test]
    fn relative_improvement_by_hand() {
        let method = Estimate { value: 0.69, variance: 0.0004, freedom: 4.0 };
        let random = Estimate { value: 0.60, variance: 0.0001, freedom: 19.0 };
        let told = relative_improvement(method, random).expect("a spread");
        assert!((told.value - 15.0).abs() < 1e-9, "{told:?}");
        // 100^2 (0.0004 / 0.36 + 0.4761 * 0.0001 / 0.1296)
        let (by_method, by_random) = (11.111111111, 3.673611111);
        assert!((told.variance - by_method - by_random).abs() < 1e-6, "{told:?}");
        let freedom = (by_method + by_random) * (by_method + by_random)
            / (by_method * by_method / 4.0 + by_random * by_random / 19.0);
        assert!((told.freedom - freedom).abs() < 1e-6, "{told:?}");
        let zero = Estimate { value: 0.0, ..random };
        assert_eq!(relative_improvement(method, zero), Err(CannotTell::NoBase));
    }

    #[test]
    fn sign_flips_by_hand() {
        // All of one sign: 2 of 2^5. One small difference against: 4 of 2^5.
        let p = |differences: &[f64]| sign_flip(&pairs(differences)).expect("differences").value;
        assert_eq!(p(&[1.0, 2.0, 3.0, 4.0, 5.0]), 2.0 / 32.0);
        assert_eq!(p(&[-1.0, 2.0, 3.0, 4.0, 5.0]), 4.0 / 32.0);
        assert_eq!(p(&[1.0, -1.0]), 1.0);
        assert_eq!(p(&[0.3]), 1.0);
        // A zero never changes the sum: each of the 2 of 2^2 counts twice.
        assert_eq!(p(&[0.0, 0.1, 0.2]), 4.0 / 8.0);
    }

    #[test]
    fn many_pairs_are_drawn_and_say_so() {
        let told = sign_flip(&pairs(&[0.1; 21])).expect("differences");
        // 2 / 2^21 would be exact.
        assert!(told.value < 5e-5 && told.draws == Some(DRAWS), "{told:?}");
        let mixed: Vec<f64> = (0..24).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
        assert_eq!(sign_flip(&pairs(&mixed)).expect("differences").value, 1.0);
    }

    #[test]
    fn what_pairs_cannot_tell() {
        assert!(sign_flip(&[]).is_err() && sign_flip(&pairs(&[0.0, 0.0])).is_err());
        assert!(paired(&pairs(&[0.1])).is_err() && paired(&pairs(&[0.1, 0.1])).is_err());
        assert_eq!(sign_flip(&pairs(&[f64::NAN, 1.0])), Err(CannotTell::NotFinite));
        let told = paired(&[(3.0, 1.0), (5.0, 1.0)]).expect("a spread");
        assert_eq!(told, Estimate { value: 3.0, variance: 1.0, freedom: 1.0 });
    }
}
