//! Coverage of 95 % intervals in simulated studies of the sizes of ours.
//!
//! `cargo run --release -p ec-darts-study --example coverage -- [STUDIES]` prints the tables of docs/statistics.md;
//! 10,000 studies of each kind take a minute.

mod draw;
mod others;

use draw::{MEAN, Ranks, Spread, Tally, tally};
use ec_darts_study::statistics::kendall::{self, Correlation};
use ec_darts_study::statistics::{
    Estimate, Interval, Nested, Reliability, Told, bootstrap, compare,
};

fn main() {
    let studies = std::env::args().nth(1).map_or(10_000, |count| {
        count.parse().unwrap_or_else(|_| panic!("{count}: expected a number of studies"))
    });
    means(studies);
    improvements(studies);
    differences(studies);
    taus(studies);
    differences_of_taus(studies);
    reliabilities(studies);
}

fn head(title: &str, studies: u64, ways: &[&str]) {
    println!("\n{title} ({studies} studies): coverage in %, mean width in brackets\n");
    println!("| simulated | {} |", ways.join(" | "));
    println!("| --- |{}", " --- |".repeat(ways.len()));
}

fn row(name: &str, tallies: &[Tally], digits: usize) {
    let cells = tallies
        .iter()
        .map(|tally| format!(" {:.1} ({:.digits$}) |", 100.0 * tally.coverage(), tally.width()));
    println!("| {name} |{}", cells.collect::<String>());
}

fn means(studies: u64) {
    let ways = [
        "**t over searches, with shared trainings**",
        "t over searches",
        "t over all trainings",
        "normal over searches",
        "percentile bootstrap of searches",
        "nested percentile bootstrap",
        "bootstrap-t of searches",
    ];
    head("Mean of a variant", studies, &ways);
    let sizes = [(5, 2), (10, 1), (20, 2), (3, 2)];
    let spreads = [Spread::Normal, Spread::Collapsing, Spread::Shared];
    for (spread, (searches, trainings)) in
        spreads.into_iter().flat_map(|spread| sizes.map(|size| (spread, size)))
    {
        let tallies = tally(studies, MEAN, |rng| {
            let drawn = draw::variant(rng, searches, trainings, spread);
            [
                drawn.estimate().map(|estimate| estimate.interval()),
                others::sharing_ignored(&drawn),
                others::all_trainings(&drawn),
                drawn.estimate().map(others::normal),
                others::percentile(&drawn),
                bootstrap::nested(&drawn, others::SAMPLES, 7),
                others::studentized(&drawn),
            ]
        });
        row(&format!("{spread:?}, {searches} x {trainings}"), &tallies, 2);
    }
}

fn improvements(studies: u64) {
    let ways = ["**delta, t**", "Fieller, t", "delta, normal", "nested percentile bootstrap"];
    head("Relative improvement over 20 random x 2", studies, &ways);
    for (spread, (searches, trainings)) in [Spread::Normal, Spread::Collapsing]
        .into_iter()
        .flat_map(|s| [(5, 2), (10, 1)].map(|n| (s, n)))
    {
        // The method is 1.5 points better.
        let truth = 100.0 * 1.5 / MEAN;
        let tallies = tally(studies, truth, |rng| {
            let method = draw::variant(rng, searches, trainings, spread);
            let method = Nested::distinct(
                method.trainings().map(|each| each.iter().map(|value| value + 1.5).collect()),
            );
            let random = draw::variant(rng, 20, 2, Spread::Normal);
            let told = method.estimate().and_then(|m| Ok((m, random.estimate()?)));
            let by = |interval: &dyn Fn(Estimate, Estimate) -> Told<Interval>| {
                told.clone().and_then(|(method, random)| interval(method, random))
            };
            let delta = |m, r| compare::relative_improvement(m, r);
            [
                by(&|m, r| Ok(delta(m, r)?.interval())),
                by(&|m, r| {
                    let told = delta(m, r)?;
                    others::fieller(m, r, told.interval().width() / 2.0 / told.variance.sqrt())
                }),
                by(&|m, r| Ok(others::normal(delta(m, r)?))),
                others::bootstrapped_ratio(&method, &random),
            ]
        });
        row(&format!("{spread:?}, {searches} x {trainings}"), &tallies, 2);
    }
}

fn differences(studies: u64) {
    let ways = ["**paired t, with shared trainings**", "paired t", "Welch's t"];
    head("Difference of two variants", studies, &ways);
    let all_ways = |a: &Nested, b: &Nested| {
        let (of_a, of_b) = (a.means(), b.means());
        let pairs: Vec<(f64, f64)> = of_a.iter().copied().zip(of_b.iter().copied()).collect();
        let welch = Estimate::of("a", &of_a)
            .and_then(|a| compare::difference(a, Estimate::of("b", &of_b)?));
        [a.difference_by_seed(b), compare::paired(&pairs), welch]
            .map(|told| told.map(|estimate| estimate.interval()))
    };
    for (count, correlation) in
        [5, 10].into_iter().flat_map(|count| [0.0, 0.5, -0.3].map(|c| (count, c)))
    {
        let tallies = tally(studies, 0.0, |rng| {
            let (a, b): (Vec<f64>, Vec<f64>) =
                draw::pairs(rng, count, correlation).into_iter().unzip();
            let [a, b] =
                [a, b].map(|means| Nested::distinct(means.into_iter().map(|each| vec![each])));
            all_ways(&a, &b)
        });
        row(&format!("{count} seeds, correlation {correlation}"), &tallies, 2);
    }
    for (name, of_b) in [("both", Spread::Shared), ("one", Spread::Normal)] {
        for size in [[5, 2], [10, 2], [10, 1]] {
            let tallies = tally(studies, 0.0, |rng| {
                let a = draw::named(rng, "a", size, Spread::Shared);
                all_ways(&a, &draw::named(rng, "b", size, of_b))
            });
            let [count, trainings] = size;
            row(&format!("Shared in {name}, {count} x {trainings}"), &tallies, 2);
        }
    }
}

fn taus(studies: u64) {
    let ways = [
        "**Esscher's variance, inverted**",
        "the same of tau without noise",
        "Fisher's z, Fieller's variance",
        "Fieller's variance, untransformed",
        "variance under independence",
        "percentile bootstrap",
        "BCa bootstrap",
        "jackknife of z",
    ];
    head("Kendall's tau", studies, &ways);
    let settings = [10, 20].into_iter().flat_map(|count| {
        [0.0, 0.3, 0.6, 0.8].into_iter().flat_map(move |tau| [1.0, 0.6].map(|r| (count, tau, r)))
    });
    for (count, tau, reliability) in settings {
        let ranks = Ranks { tau, reliability };
        let truth = ranks.measured();
        let interval = |rng: &mut _| {
            let (a, b) = ranks.draw(rng, count);
            let told = Correlation::of(&a, &b);
            let (chosen, tau) = (told.clone().and_then(|c| c.interval), told.map(|c| c.tau));
            (a, b, chosen, tau)
        };
        let tallies = tally(studies, truth, |rng| {
            let (a, b, chosen, own) = interval(rng);
            let resampled = others::bootstrapped_tau(&a, &b);
            [
                chosen.clone(),
                // Shifted, so that the true value is the tau without noise.
                chosen.map(|Interval { low, high }| Interval {
                    low: low - tau + truth,
                    high: high - tau + truth,
                }),
                own.clone().map(|tau| others::transformed(tau, count)),
                own.clone().map(|tau| others::untransformed(tau, count)),
                own.map(|tau| others::null_variance(tau, count)),
                resampled.clone().map(|[plain, _]| plain),
                resampled.map(|[_, corrected]| corrected),
                others::jackknife(&a, &b),
            ]
        });
        row(&format!("n = {count}, tau {tau}, reliability {reliability}"), &tallies, 2);
    }
}

fn differences_of_taus(studies: u64) {
    head("Difference of two taus", studies, &["**one each, Zou**", "**five each, t of pairs**"]);
    for (a, b) in [(0.0, 0.0), (0.6, 0.0), (0.6, 0.3)] {
        let ranks = [a, b].map(|tau| Ranks { tau, reliability: 0.6 });
        let truth = ranks[0].measured() - ranks[1].measured();
        let tallies = tally(studies, truth, |rng| {
            let mut one = |of: usize| {
                let (a, b) = ranks[of].draw(rng, 10);
                Correlation::of(&a, &b)
            };
            let zou = one(0).and_then(|a| kendall::difference(&a, &one(1)?)).map(|(_, i)| i);
            let pairs: Told<Vec<(f64, f64)>> =
                (0..5).map(|_| Ok((one(0)?.tau, one(1)?.tau))).collect();
            [zou, pairs.and_then(|pairs| Ok(compare::paired(&pairs)?.interval()))]
        });
        row(&format!("tau {a} and {b}, n = 10, reliability 0.6"), &tallies, 2);
    }
}

fn reliabilities(studies: u64) {
    head("Reliability of a training", studies, &["**F**"]);
    // For genotypes with a standard deviation of 1.5 and trainings with one of 1.0.
    let truth = 2.25 / 3.25;
    for (count, trainings) in [(20, 2), (10, 2), (5, 2)] {
        let tallies = tally(studies, truth, |rng| {
            let drawn = draw::variant(rng, count, trainings, Spread::Normal);
            [Reliability::of(&drawn).map(|told| told.interval)]
        });
        row(&format!("{count} x {trainings}"), &tallies, 2);
    }
}
