//! Kendall's rank correlation: its value, its interval, and its exact probability under chance.

use std::f64::consts::{FRAC_2_PI, FRAC_PI_2};

use rand::seq::SliceRandom;
use statrs::distribution::{ContinuousCDF, Normal};

use super::bootstrap::rng;
use super::compare::{DRAWS, PValue};
use super::{CannotTell, Interval, LEVEL, Told};

/// Largest number of values with ties whose permutations are counted.
const MOST_TIED: usize = 12;

/// Rank correlation of two values of the same items.
#[derive(Clone, Debug, PartialEq)]
pub struct Correlation {
    /// Kendall's tau-b, in [-1, 1].
    pub tau: f64,
    /// Number of items.
    pub count: usize,
    /// The interval of tau in the population of the items.
    pub interval: Told<Interval>,
    /// The probability of a tau at least as far from zero, if one side had a random order.
    pub chance: PValue,
}

impl Correlation {
    /// Tau-b of two sides, with its interval and its probability under chance.
    ///
    /// # Errors
    /// [`CannotTell`] where there are fewer than two values, one side is all ties, or a value is not finite.
    ///
    /// # Panics
    /// Where the sides differ in length.
    pub fn of(a: &[f64], b: &[f64]) -> Told<Self> {
        if a.iter().chain(b).any(|value| !value.is_finite()) {
            return Err(CannotTell::NotFinite);
        }
        if a.len() < 2 {
            return Err(CannotTell::TooFew { what: "values", needed: 2, found: a.len() });
        }
        let tau = tau_b(a, b).ok_or(CannotTell::NoSpread("values of one side"))?;
        let (count, interval) = (a.len(), interval(tau, a.len()));
        Ok(Self { tau, count, interval, chance: chance(a, b) })
    }
}

/// Kendall's tau-b of two rankings; nothing where one side is all ties.
///
/// ```text
/// tau_b = (concordant - discordant) / sqrt((pairs - ties_a) (pairs - ties_b))
/// ```
///
/// # Panics
/// Where the two do not have the same number of values.
///
/// # Source
/// Kendall 1938 and 1945 (ties); EC-DARTS, section 5.6.
pub fn tau_b(a: &[f64], b: &[f64]) -> Option<f64> {
    let score = score(a, b);
    let pairs = (a.len() * a.len().saturating_sub(1) / 2) as i64;
    let scale = (((pairs - ties(a)) * (pairs - ties(b))) as f64).sqrt();
    (scale > 0.0).then(|| score as f64 / scale)
}

/// Number of concordant pairs minus number of discordant pairs.
fn score(a: &[f64], b: &[f64]) -> i64 {
    assert_eq!(a.len(), b.len(), "two rankings of the same things");
    let mut score = 0;
    for i in 0..a.len() {
        score += (0..i).map(|j| order(a[i], a[j]) * order(b[i], b[j])).sum::<i64>();
    }
    score
}

fn order(a: f64, b: f64) -> i64 {
    i64::from(a > b) - i64::from(a < b)
}

/// Number of pairs of equal values.
fn ties(values: &[f64]) -> i64 {
    let equal = |i: usize| values[..i].iter().filter(|value| **value == values[i]).count();
    (0..values.len()).map(equal).sum::<usize>() as i64
}

/// Interval of tau: all values of the population's tau for which the observed tau is not
/// surprising.
///
/// ```text
/// |tau - t| <= z(0.975) deviation(t, n),  with r = sin(pi t / 2) and
/// deviation^2 = 2 / (n (n - 1)) (1 - t^2 + 2 (n - 2) (1 / 9 - (2 / pi asin(r / 2))^2))
/// ```
///
/// # Source
/// The variance of tau between two normal variables: Esscher 1924, in Kendall and Gibbons, Rank
/// Correlation Methods, 1990, chapter 10; the inversion is that of Wilson 1927. docs/statistics.md
/// compares its coverage with that of other intervals.
///
/// # Errors
/// [`CannotTell`] for fewer than five values, for which tau has too few possible values.
pub fn interval(tau: f64, count: usize) -> Told<Interval> {
    if count < 5 {
        return Err(CannotTell::TooFew { what: "values", needed: 5, found: count });
    }
    let quantile = Normal::standard().inverse_cdf(0.5 + 0.5 * LEVEL);
    let end = |bound: f64| {
        let (mut near, mut far) = (tau, bound);
        for _ in 0..60 {
            let middle = 0.5 * (near + far);
            let surprises = (tau - middle).abs() > quantile * deviation(middle, count);
            if surprises { far = middle } else { near = middle }
        }
        near
    };
    Ok(Interval { low: end(-1.0), high: end(1.0) })
}

/// Standard deviation of the measured tau where the population's is `tau`; see [`interval`].
fn deviation(tau: f64, count: usize) -> f64 {
    let n = count as f64;
    let correlation = (FRAC_PI_2 * tau).sin();
    let triples = 1.0 / 9.0 - (FRAC_2_PI * (0.5 * correlation).asin()).powi(2);
    let bracket = 1.0 - tau.powi(2) + 2.0 * (n - 2.0) * triples;
    (2.0 / (n * (n - 1.0)) * bracket.max(0.0)).sqrt()
}

/// The difference `a - b` of two correlations of different items, and its interval.
///
/// ```text
/// low  = a - b - sqrt((a - a_low)^2 + (b_high - b)^2)
/// high = a - b + sqrt((a_high - a)^2 + (b - b_low)^2)
/// ```
///
/// # Source
/// Zou 2007, Eq. (15).
///
/// # Errors
/// [`CannotTell`] where one of the two has no interval.
pub fn difference(a: &Correlation, b: &Correlation) -> Told<(f64, Interval)> {
    let (of_a, of_b) = (a.interval.clone()?, b.interval.clone()?);
    let value = a.tau - b.tau;
    let low = value - (a.tau - of_a.low).hypot(of_b.high - b.tau);
    let high = value + (of_a.high - a.tau).hypot(b.tau - of_b.low);
    Ok((value, Interval { low, high }))
}

/// Two-sided probability of a score at least as far from zero, if one side had a random order.
///
/// It is exact for up to 12 values, and for any number without ties. Otherwise it comes from
/// [`DRAWS`] permutations with a fixed seed, among which the observed order counts (Phipson and
/// Smyth 2010).
fn chance(a: &[f64], b: &[f64]) -> PValue {
    let observed = score(a, b).abs();
    let far = |counts: Vec<f64>| {
        let middle = (counts.len() / 2) as i64;
        let as_far = |&(at, _): &(usize, &f64)| (at as i64 - middle).abs() >= observed;
        let far: f64 = counts.iter().enumerate().filter(as_far).map(|(_, count)| count).sum();
        let value = (far / counts.iter().sum::<f64>()).min(1.0);
        PValue { value, draws: None }
    };
    if ties(a) + ties(b) == 0 {
        return far(scores_without_ties(a.len()));
    }
    if a.len() <= MOST_TIED {
        return far(scores(a, b));
    }
    let (mut rng, mut order) = (rng(0), b.to_vec());
    let mut count = 0_u32;
    for _ in 0..DRAWS {
        order.shuffle(&mut rng);
        count += u32::from(score(a, &order).abs() >= observed);
    }
    PValue { value: f64::from(count + 1) / f64::from(DRAWS + 1), draws: Some(DRAWS) }
}

/// The share of each score among all orders, from `-pairs` to `pairs`.
///
/// ```text
/// the k-th value goes before 0 ... k - 1 of those placed, each with probability 1 / k
/// ```
///
/// # Source
/// Kendall 1938, section 4.
fn scores_without_ties(count: usize) -> Vec<f64> {
    let pairs = count * (count - 1) / 2;
    let mut shares = vec![1.0];
    for placed in 2..=count {
        let mut next = vec![0.0; shares.len() + placed - 1];
        for (at, share) in shares.iter().enumerate() {
            next[at..at + placed].iter_mut().for_each(|each| *each += share / placed as f64);
        }
        shares = next;
    }
    // `shares` is indexed by the number of discordant pairs, each of which lowers the score by 2.
    let mut scores = vec![0.0; 2 * pairs + 1];
    shares.iter().enumerate().for_each(|(discordant, share)| scores[2 * discordant] = *share);
    scores
}

/// The number of orders of `b` with each score, from `-pairs` to `pairs`, up to a common factor.
///
/// Groups of equal values of `a` are placed in ascending order. Of the earlier groups, only the set
/// of values of `b` that they took matters, so the orders are counted by set: `2^n` sets instead of
/// `n!` orders.
fn scores(a: &[f64], b: &[f64]) -> Vec<f64> {
    let (count, middle) = (a.len(), a.len() * (a.len() - 1) / 2);
    let mut sorted = a.to_vec();
    sorted.sort_by(f64::total_cmp);
    // Whatever the values of one group, each pick against each taken one adds its order.
    let below: Vec<[u32; 2]> = b.iter().map(|value| sides(b, *value)).collect();
    let mut sets = vec![Vec::new(); 1 << count];
    sets[0] = vec![0.0; 2 * middle + 1];
    sets[0][middle] = 1.0;
    let mut taken = 0;
    for group in sorted.chunk_by(|x, y| x == y) {
        for set in (0_usize..1 << count).filter(|set| set.count_ones() == taken) {
            let counts = std::mem::take(&mut sets[set]);
            for pick in picks(!set & ((1 << count) - 1), group.len() as u32) {
                let picked = (0..count).filter(|at| pick >> at & 1 == 1);
                let added = |at: usize| {
                    let [less, more] = below[at];
                    let ones = |side: u32| (set as u32 & side).count_ones() as i64;
                    ones(less) - ones(more)
                };
                let added: i64 = picked.map(added).sum();
                let next = &mut sets[set | pick];
                next.resize(2 * middle + 1, 0.0);
                for (at, orders) in counts.iter().enumerate().filter(|(_, orders)| **orders > 0.0) {
                    next[(at as i64 + added) as usize] += orders;
                }
            }
        }
        taken += group.len() as u32;
    }
    sets.swap_remove((1 << count) - 1)
}

/// The sets of values below and above one.
fn sides(values: &[f64], value: f64) -> [u32; 2] {
    let set = |wanted: i64| {
        let found = values.iter().enumerate().filter(|(_, each)| order(value, **each) == wanted);
        found.map(|(at, _)| 1 << at).sum()
    };
    [set(1), set(-1)]
}

/// The subsets of a set with `size` elements.
fn picks(set: usize, size: u32) -> impl Iterator<Item = usize> {
    let next = move |subset: &usize| (*subset > 0).then(|| (subset - 1) & set);
    std::iter::successors(Some(set), next).filter(move |subset| subset.count_ones() == size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn correlation(a: &[f64], b: &[f64]) -> Correlation {
        Correlation::of(a, b).expect("a spread")
    }

    /// The share by enumeration of all orders.
    fn by_enumeration(a: &[f64], b: &[f64]) -> f64 {
        fn permute(a: &[f64], b: &mut Vec<f64>, from: usize, all: &mut Vec<i64>) {
            if from == b.len() {
                return all.push(score(a, b).abs());
            }
            for at in from..b.len() {
                b.swap(from, at);
                permute(a, b, from + 1, all);
                b.swap(from, at);
            }
        }
        let (observed, mut all) = (score(a, b).abs(), Vec::new());
        permute(a, &mut b.to_vec(), 0, &mut all);
        all.iter().filter(|score| **score >= observed).count() as f64 / all.len() as f64
    }

    #[test]
    fn tau_with_ties_by_hand() {
        // Ten pairs, two ties in a, one in b; 2 concordant and 6 discordant: -4 / sqrt(8 * 9).
        let (a, b) = ([12.0, 2.0, 1.0, 12.0, 2.0], [1.0, 4.0, 7.0, 1.0, 0.0]);
        let tau = tau_b(&a, &b).expect("a spread");
        assert!((tau + 4.0 / 72.0_f64.sqrt()).abs() < 1e-12, "{tau}");
        let (a, b) = ([1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 4.0]);
        assert!((tau_b(&a, &b).expect("a spread") - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(tau_b(&[1.0, 1.0], &[1.0, 2.0]), None);
    }

    #[test]
    fn chance_without_ties_is_that_of_the_tables() {
        // Kendall, Rank Correlation Methods, table of S: n = 4, S = 6: 1/24 a side; n = 10, S = 27: 0.0083; n = 10,
        // S = 45: 1 in 10!.
        let up: Vec<f64> = (0..10).map(f64::from).collect();
        let p = correlation(&up[..4], &up[..4]).chance;
        assert!((p.value - 2.0 / 24.0).abs() < 1e-12 && p.draws.is_none(), "{p:?}");
        let whole = correlation(&up, &up).chance.value;
        assert!((whole - 2.0 / 3_628_800.0).abs() < 1e-18, "{whole}");
        let some = [3.0, 0.0, 1.0, 4.0, 2.0, 8.0, 5.0, 9.0, 6.0, 7.0];
        let told = correlation(&up, &some);
        assert!((told.tau - 27.0 / 45.0).abs() < 1e-12, "{told:?}");
        assert!((told.chance.value - 0.016_666).abs() < 1e-5, "{told:?}");
    }

    #[test]
    fn chance_with_ties_is_that_of_all_orders() {
        let cases: [(&[f64], &[f64]); 5] = [
            (&[1.0, 1.0, 2.0, 3.0, 3.0, 3.0, 4.0], &[2.0, 1.0, 1.0, 5.0, 5.0, 3.0, 4.0]),
            (&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[1.0, 1.0, 2.0, 2.0, 3.0, 3.0]),
            (&[1.0, 1.0, 1.0, 2.0], &[1.0, 2.0, 2.0, 2.0]),
            (&[12.0, 2.0, 1.0, 12.0, 2.0], &[1.0, 4.0, 7.0, 1.0, 0.0]),
            (&[1.0, 2.0], &[2.0, 1.0]),
        ];
        for (a, b) in cases {
            let (told, all) = (correlation(a, b).chance, by_enumeration(a, b));
            assert!((told.value - all).abs() < 1e-12, "{a:?} {b:?}: {told:?}, {all}");
            let other = correlation(b, a).chance.value;
            assert!((other - all).abs() < 1e-12, "{a:?} {b:?} the other way: {other}, {all}");
        }
        // The recursion and the count by sets agree where both are possible.
        let up: Vec<f64> = (0..8).map(f64::from).collect();
        let shares = scores(&up, &up);
        let all: f64 = shares.iter().sum();
        for (by_set, share) in shares.iter().zip(scores_without_ties(8)) {
            assert!((by_set / all - share).abs() < 1e-12);
        }
    }

    #[test]
    fn many_values_with_ties_are_drawn_and_say_so() {
        let up: Vec<f64> = (0..13).map(f64::from).collect();
        let tied: Vec<f64> = up.iter().map(|value| value.min(10.0)).collect();
        let told = correlation(&up, &tied).chance;
        assert_eq!(told, PValue { value: 1e-5, draws: Some(DRAWS) });
        assert_eq!(correlation(&up, &up).chance.draws, None);
    }

    #[test]
    fn an_interval_by_hand() {
        // Under independence the variance is 2 (2 n + 5) / (9 n (n - 1)).
        assert!((deviation(0.0, 10) - (50.0_f64 / 810.0).sqrt()).abs() < 1e-12);
        assert!(deviation(1.0, 10) < 1e-6);
        let told = interval(0.5, 10).expect("ten values");
        for end in [told.low, told.high] {
            let surprise = (0.5 - end).abs() / deviation(end, 10);
            assert!((surprise - 1.959_964).abs() < 1e-5, "{told:?}");
        }
        assert!(told.low < 0.5 && 0.5 < told.high, "{told:?}");
        let whole = interval(1.0, 10).expect("ten values");
        assert!(whole.high == 1.0 && whole.low > 0.5 && whole.low < 0.95, "{whole:?}");
        let against = interval(-1.0, 10).expect("ten values");
        assert!((against.high + whole.low).abs() < 1e-9 && against.low == -1.0, "{against:?}");
    }

    #[test]
    fn a_difference_by_hand() {
        let of = |tau, low, high| {
            let chance = PValue { value: 1.0, draws: None };
            Correlation { tau, count: 10, interval: Ok(Interval { low, high }), chance }
        };
        let (value, told) = difference(&of(0.5, 0.2, 0.9), &of(0.1, -0.3, 0.4)).expect("intervals");
        // sqrt(0.3^2 + 0.3^2) below, sqrt(0.4^2 + 0.4^2) above.
        assert!((value - 0.4).abs() < 1e-12);
        assert!((told.low - (0.4 - 0.18_f64.sqrt())).abs() < 1e-12, "{told:?}");
        assert!((told.high - (0.4 + 0.32_f64.sqrt())).abs() < 1e-12, "{told:?}");
    }

    #[test]
    fn what_ranks_cannot_tell() {
        assert!(Correlation::of(&[], &[]).is_err() && Correlation::of(&[1.0], &[1.0]).is_err());
        let tied = Correlation::of(&[1.0; 3], &[1.0, 2.0, 3.0]).expect_err("ties");
        assert_eq!(tied.to_string(), "all values of one side are equal");
        assert!(Correlation::of(&[1.0, f64::NAN], &[1.0, 2.0]).is_err());
        let four = correlation(&[1.0, 2.0, 3.0, 4.0], &[1.0, 2.0, 3.0, 4.0]);
        assert!(four.interval.is_err() && four.tau == 1.0, "{four:?}");
    }
}
