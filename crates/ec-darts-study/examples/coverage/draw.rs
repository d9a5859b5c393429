//! Simulated studies with a known true value, and the fraction of intervals that contain it.

use std::f64::consts::PI;

use ec_darts_study::statistics::{Interval, Nested, Told};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// Points of accuracy: the mean of random genotypes, the standard deviation between genotypes and
/// between trainings of one; about as in our pilot.
pub const MEAN: f64 = 67.0;
const SEARCH: f64 = 1.5;
const TRAINING: f64 = 1.0;

/// The distribution of the accuracies of a variant's searches around [`MEAN`].
#[derive(Clone, Copy, Debug)]
pub enum Spread {
    /// Normal; each search has its own genotype.
    Normal,
    /// One search of five collapses: five points below the others.
    Collapsing,
    /// Half of the searches find the same genotype, whose trainings they share.
    Shared,
}

pub fn normal(rng: &mut ChaCha8Rng) -> f64 {
    StandardNormal.sample(rng)
}

/// Accuracies of a variant, searches by trainings.
pub fn variant(rng: &mut ChaCha8Rng, searches: usize, trainings: usize, spread: Spread) -> Nested {
    named(rng, "", [searches, trainings], spread)
}

/// As [`variant`]; variants of different names have no genotype in common.
pub fn named(
    rng: &mut ChaCha8Rng,
    name: &str,
    [searches, trainings]: [usize; 2],
    spread: Spread,
) -> Nested {
    let train = |rng: &mut ChaCha8Rng, center: f64| -> Vec<f64> {
        (0..trainings).map(|_| center + TRAINING * normal(rng)).collect()
    };
    let shared = train(rng, MEAN - SEARCH);
    Nested::new((0..searches).map(|number| {
        let center = MEAN + SEARCH * normal(rng);
        let own = format!("{name}{number}");
        match spread {
            Spread::Normal => (own, train(rng, center)),
            Spread::Collapsing => {
                let fall = if rng.random_bool(0.2) { -4.0 } else { 1.0 };
                (own, train(rng, center + fall))
            }
            Spread::Shared if rng.random_bool(0.5) => (format!("{name}shared"), shared.clone()),
            Spread::Shared => (own, train(rng, center + SEARCH)),
        }
    }))
}

/// Two variants under the same seeds, whose searches have this correlation: means of two trainings.
pub fn pairs(rng: &mut ChaCha8Rng, count: usize, correlation: f64) -> Vec<(f64, f64)> {
    let noise = (SEARCH.powi(2) + TRAINING.powi(2) / 2.0).sqrt();
    let one = |rng: &mut ChaCha8Rng| {
        let a = normal(rng);
        let b = correlation * a + (1.0 - correlation.powi(2)).sqrt() * normal(rng);
        (MEAN + noise * a, MEAN + noise * b)
    };
    (0..count).map(|_| one(rng)).collect()
}

/// Scores of a search, and accuracies after training, which are noisy.
pub struct Ranks {
    /// Tau in the population, between scores and true accuracies.
    pub tau: f64,
    /// Share of a genotype's true variance in the variance of a measured accuracy.
    pub reliability: f64,
}

impl Ranks {
    pub fn draw(&self, rng: &mut ChaCha8Rng, count: usize) -> (Vec<f64>, Vec<f64>) {
        let correlation = (PI / 2.0 * self.tau).sin();
        let one = |_| {
            let score = normal(rng);
            let truth = correlation * score + (1.0 - correlation.powi(2)).sqrt() * normal(rng);
            let noise = ((1.0 - self.reliability) / self.reliability).sqrt();
            (score, truth + noise * normal(rng))
        };
        (0..count).map(one).unzip()
    }

    /// Tau in the population, between scores and measured accuracies.
    pub fn measured(&self) -> f64 {
        2.0 / PI * ((PI / 2.0 * self.tau).sin() * self.reliability.sqrt()).asin()
    }
}

/// The counts of one method for intervals.
#[derive(Clone, Copy, Default)]
pub struct Tally {
    held: usize,
    told: usize,
    width: f64,
}

impl Tally {
    pub fn add(&mut self, truth: f64, interval: Told<Interval>) {
        if let Ok(interval) = interval {
            self.told += 1;
            self.held += usize::from(interval.holds(truth));
            self.width += interval.width();
        }
    }

    /// Fraction of the intervals that contain the true value.
    pub fn coverage(&self) -> f64 {
        self.held as f64 / self.told as f64
    }

    /// Mean width.
    pub fn width(&self) -> f64 {
        self.width / self.told as f64
    }
}

/// Draws this number of studies; `one` returns the interval of each method.
pub fn tally<const N: usize>(
    studies: u64,
    truth: f64,
    one: impl Fn(&mut ChaCha8Rng) -> [Told<Interval>; N],
) -> [Tally; N] {
    let mut tallies = [Tally::default(); N];
    for study in 0..studies {
        let mut rng = ChaCha8Rng::seed_from_u64(study);
        for (tally, interval) in tallies.iter_mut().zip(one(&mut rng)) {
            tally.add(truth, interval);
        }
    }
    tallies
}
