//! The intervals of reports contain the true value in 93 to 97 of 100 simulated studies of the
//! sizes of ours.

#[path = "../examples/coverage/draw.rs"]
#[expect(dead_code, reason = "the example draws more kinds of studies than are tested")]
mod draw;

use draw::{MEAN, Ranks, Spread, tally};
use ec_darts_study::statistics::kendall::{self, Correlation};
use ec_darts_study::statistics::{Interval, Reliability, Told, compare};
use rand_chacha::ChaCha8Rng;

fn check(name: &str, truth: f64, one: impl Fn(&mut ChaCha8Rng) -> Told<Interval>) {
    let [tally] = tally(1_000, truth, |rng| [one(rng)]);
    let coverage = tally.coverage();
    assert!((0.93..=0.97).contains(&coverage), "{name}: {coverage}");
}

#[test]
fn mean_of_a_variant() {
    for (searches, trainings) in [(5, 2), (10, 1), (20, 2)] {
        let told = |spread| {
            tally(1_000, MEAN, |rng| {
                let drawn = draw::variant(rng, searches, trainings, spread);
                [drawn.estimate().map(|estimate| estimate.interval())]
            })[0]
                .coverage()
        };
        let (normal, shared) = (told(Spread::Normal), told(Spread::Shared));
        assert!((0.93..=0.97).contains(&normal), "{searches} x {trainings}: {normal}");
        // Few searches tell little about trainings when half of the searches share them: the
        // interval errs on the safe side.
        assert!(shared >= 0.93, "{searches} x {trainings}, shared: {shared}");
    }
}

#[test]
fn relative_improvement_over_random() {
    for (searches, trainings) in [(5, 2), (10, 1)] {
        check(&format!("{searches} x {trainings}"), 0.0, |rng| {
            let method = draw::variant(rng, searches, trainings, Spread::Normal).estimate()?;
            let random = draw::variant(rng, 20, 2, Spread::Normal).estimate()?;
            Ok(compare::relative_improvement(method, random)?.interval())
        });
    }
}

#[test]
fn difference_by_seed() {
    for correlation in [0.0, 0.5, -0.3] {
        check(&format!("correlation {correlation}"), 0.0, |rng| {
            Ok(compare::paired(&draw::pairs(rng, 5, correlation))?.interval())
        });
    }
    for of_other in [Spread::Shared, Spread::Normal] {
        for size in [[5, 2], [10, 2]] {
            let [tally] = tally(1_000, 0.0, |rng| {
                let own = draw::named(rng, "own", size, Spread::Shared);
                let other = draw::named(rng, "other", size, of_other);
                [own.difference_by_seed(&other).map(|told| told.interval())]
            });
            // As for means, the interval errs on the safe side.
            let coverage = tally.coverage();
            assert!(coverage >= 0.93, "{size:?}, shared and {of_other:?}: {coverage}");
        }
    }
}

#[test]
fn tau_of_ten_with_noise() {
    for (tau, reliability) in [(0.0, 0.6), (0.3, 0.6), (0.6, 0.6), (0.6, 1.0), (0.8, 1.0)] {
        let ranks = Ranks { tau, reliability };
        check(&format!("tau {tau}"), ranks.measured(), |rng| {
            let (a, b) = ranks.draw(rng, 10);
            Correlation::of(&a, &b)?.interval
        });
        let truth = ranks.measured();
        check(&format!("tau {tau} and 0"), truth, |rng| {
            let mut one = |ranks: &Ranks| {
                let (a, b) = ranks.draw(rng, 10);
                Correlation::of(&a, &b)
            };
            let (a, b) = (one(&ranks)?, one(&Ranks { tau: 0.0, reliability: 0.6 })?);
            Ok(kendall::difference(&a, &b)?.1)
        });
    }
}

#[test]
fn reliability_of_a_training() {
    check("20 x 2", 2.25 / 3.25, |rng| {
        Ok(Reliability::of(&draw::variant(rng, 20, 2, Spread::Normal))?.interval)
    });
}
