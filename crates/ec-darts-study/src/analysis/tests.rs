use super::*;
use crate::results::{EpochScores, TrainingResult, Unfinished};

const SEEDS: [u64; 2] = [0, 1];

fn candidate(variant: &str, place: Place, accuracies: &[f64]) -> Candidate {
    let key = format!("{variant}-{}", ranks::name(&place));
    let training = |(seed, accuracy): (usize, &f64)| TrainingResult {
        seed: seed as u64,
        folder: format!("trainings/{key}-{seed}").into(),
        accuracy: *accuracy,
        on_test: true,
        cost: Cost { seconds: 100.0, processor_seconds: 180.0 },
    };
    Candidate {
        variant: variant.into(),
        genotype: key.clone(),
        supernet_accuracy: None,
        auxiliary_accuracy: None,
        operation_weight: None,
        trainings: accuracies.iter().enumerate().map(training).collect(),
        place,
    }
}

fn results(kind: Kind, variants: &[&str], candidates: Vec<Candidate>) -> Results {
    Results {
        study: "test".into(),
        kind,
        protocol: "cpu".into(),
        training_seeds: SEEDS.to_vec(),
        variants: variants.iter().map(|name| name.to_string()).collect(),
        searches: Vec::new(),
        candidates,
        unfinished: Vec::new(),
    }
}

fn ablation() -> Results {
    let mut all = Vec::new();
    for (seed, [darts, cen, random]) in
        [[0.60, 0.67, 0.61], [0.62, 0.68, 0.62], [0.61, 0.69, 0.60]].into_iter().enumerate()
    {
        let seed = seed as u64;
        let both = |mean: f64| [mean - 0.01, mean + 0.01];
        all.push(candidate("darts", Place::Search { seed }, &both(darts)));
        all.push(candidate("cen", Place::Search { seed }, &both(cen)));
        all.push(candidate("random", Place::Random { seed }, &both(random)));
    }
    results(Kind::Ablation, &["darts", "cen", "random"], all)
}

fn verdicts(analysis: &Analysis) -> Vec<(&str, Verdict)> {
    analysis.claims.iter().map(|claim| (&claim.text[..], claim.verdict)).collect()
}

#[test]
fn an_ablation_by_hand() {
    let analysis = Analysis::of(&ablation(), Question::default());
    let darts = &analysis.variants[0];
    assert_eq!((darts.candidates, darts.genotypes, darts.trainings), (3, 3, 6));
    assert!((darts.mean.expect("a mean") - 0.61).abs() < 1e-12);
    assert!((darts.deviation.expect("a deviation") - 0.01).abs() < 1e-12);
    let improvement = analysis.variants[1].improvement.clone().expect("random").expect("told");
    assert!((improvement.value - 100.0 * 0.07 / 0.61).abs() < 1e-9, "{improvement:?}");
    assert!(analysis.variants[2].improvement.is_none());
    // Differences by seed: 7, 6 and 8 points.
    let comparison = &analysis.comparisons[0];
    let told = comparison.difference.clone().expect("three pairs");
    assert!((told.value - 0.07).abs() < 1e-12 && told.freedom == 2.0, "{told:?}");
    assert_eq!(comparison.chance.clone().expect("pairs").value, 0.25);
    // One point with a standard deviation of one point: ten pairs, as in the tables of power.
    assert_eq!(comparison.needed, Ok(10));
    let expected = [
        ("Genotypes of cen are more accurate than those of darts.", Verdict::Holds),
        ("Genotypes of darts are more accurate than random ones.", Verdict::CannotBeTold),
        ("Genotypes of cen are more accurate than random ones.", Verdict::Holds),
    ];
    assert_eq!(verdicts(&analysis), expected);
}

#[test]
fn a_variant_without_results_leaves_gaps_and_no_numbers() {
    let mut missing = ablation();
    missing.variants.push("ist".into());
    missing.candidates.retain(|c| c.variant != "random" || c.place.seed() == Some(0));
    missing.candidates[0].trainings.clear();
    let error = Some("no memory".into());
    let cost = Cost { seconds: 7.0, processor_seconds: 9.0 };
    missing.unfinished.push(Unfinished { trial: "searches/ist-0".into(), error, cost });
    let analysis = Analysis::of(&missing, Question::default());
    assert_eq!(analysis.unfinished_cost.searches, cost);
    assert_eq!(analysis.unfinished_cost.trainings, Cost::default());
    assert!(analysis.variants[3].estimate.is_err() && analysis.variants[3].mean.is_none());
    // One random genotype is no sample.
    assert!(analysis.variants[1].improvement.clone().expect("random").is_err());
    let of_ist = analysis.claims.iter().find(|claim| claim.text.contains("of ist are"));
    assert_eq!(of_ist.expect("a claim").verdict, Verdict::CannotBeTold);
    for said in [
        "searches/ist-0 failed: no memory.",
        "ist: no genotype is known yet.",
        "darts: 1 of 3 genotypes lack trainings.",
    ] {
        assert!(analysis.gaps.iter().any(|gap| gap == said), "{said} in {:?}", analysis.gaps);
    }
    let empty = results(Kind::Edges, &["a", "b"], Vec::new());
    let analysis = Analysis::of(&empty, Question::default());
    assert!(analysis.ranks.is_empty() && analysis.cost == Costs::default());
}

#[test]
fn trainings_that_variants_share_are_paid_once() {
    let mut shared = ablation();
    let trainings = shared.candidates[0].trainings.clone();
    shared.candidates[1].genotype = shared.candidates[0].genotype.clone();
    shared.candidates[1].trainings = trainings;
    let analysis = Analysis::of(&shared, Question::default());
    assert_eq!(analysis.cost.trainings.seconds, 1_600.0);
    assert_eq!(analysis.variants[1].cost.trainings.seconds, 600.0);
}

fn ranked(kind: Kind, variants: &[(&str, &[u64], f64)]) -> Results {
    let mut all = Vec::new();
    for (variant, seeds, sign) in variants {
        for &seed in *seeds {
            for step in 0..10_usize {
                let place = match kind {
                    Kind::Epochs => Place::Epoch { seed, epoch: step + 1 },
                    Kind::Edges => Place::Edges { seed, from: vec![step, 9], kept: step == 0 },
                    _ => Place::Search { seed: step as u64 },
                };
                // One pair out of order, another one in each search.
                let order = if step == seed as usize { step + 1 } else { step } as f64;
                let noise = [0.0, 0.001];
                let accuracies = noise.map(|noise| 0.6 + sign * 0.01 * order + noise);
                let mut one = candidate(variant, place, &accuracies);
                one.supernet_accuracy = Some(0.3 + 0.01 * step as f64);
                one.operation_weight = Some(0.1 + 0.01 * step as f64);
                all.push(one);
            }
        }
    }
    let names: Vec<&str> = variants.iter().map(|(name, ..)| *name).collect();
    results(kind, &names, all)
}

#[test]
fn ranks_of_one_search_each() {
    let analysis = Analysis::of(
        &ranked(Kind::Epochs, &[("darts", &[0], -1.0), ("ist", &[0], 1.0)]),
        Question::default(),
    );
    let expected = [
        (
            "The rank after training follows the rank in the search of darts (supernet accuracy).",
            Verdict::CannotBeTold,
        ),
        (
            "The rank after training follows the rank in the search of ist (supernet accuracy).",
            Verdict::CannotBeTold,
        ),
        ("It does so more closely in ist than in darts.", Verdict::CannotBeTold),
    ];
    assert_eq!(verdicts(&analysis), expected);
    // Taus are shown, but epochs of one search are no sample of searches.
    assert_eq!(analysis.rank_means[0].tau, Err(CannotTell::NoSample));
    assert_eq!(analysis.ranks.len(), 2);
    assert!(analysis.comparisons.is_empty());
    assert_eq!(analysis.variants[0].estimate, Err(CannotTell::NoSample));
    let ceiling = analysis.ranks[0].ceiling.clone().expect("two trainings");
    assert!((0.9..1.0).contains(&ceiling), "{ceiling}");
}

#[test]
fn a_genotype_of_several_epochs_counts_once() {
    let mut all = ranked(Kind::Epochs, &[("darts", &[0], 1.0)]);
    for at in 0..3 {
        all.candidates[at].genotype = all.candidates[3].genotype.clone();
        all.candidates[at].trainings = all.candidates[3].trainings.clone();
    }
    let analysis = Analysis::of(&all, Question::default());
    assert_eq!(analysis.ranks[0].points.len(), 7);
    assert_eq!(analysis.ranks[0].points[0].name, "search 0, epoch 4");
}

#[test]
fn ranks_of_several_searches_are_averaged() {
    let all = ranked(Kind::Edges, &[("darts", &[0, 1, 2], -1.0), ("cen", &[0, 1, 2], 1.0)]);
    let analysis = Analysis::of(&all, Question::default());
    assert_eq!((analysis.ranks.len(), analysis.rank_means.len()), (6, 2));
    let cen = &analysis.rank_means[1];
    assert_eq!(cen.taus.len(), 3);
    // All three searches have the same tau, so their spread cannot be told.
    assert!(cen.tau.is_err(), "{cen:?}");
    assert!(analysis.claims.iter().all(|claim| claim.source == "Figure 3"));
}

#[test]
fn ten_searches_are_ranked_and_compared() {
    let all = ranked(Kind::Searches, &[("darts", &[0], -1.0), ("ec_darts", &[0], 1.0)]);
    let analysis = Analysis::of(&all, Question::default());
    assert_eq!(analysis.comparisons[0].pairs, 10);
    assert_eq!(analysis.claims.len(), 4);
    assert_eq!(analysis.ranks[1].seed, None);
}

#[test]
fn equal_means_are_a_tie() {
    // (0.7 + 0.7001) / 2 and (0.6999 + 0.7002) / 2 differ by rounding alone.
    let accuracies = [[0.7, 0.7001], [0.6999, 0.7002], [0.71, 0.71], [0.72, 0.721], [0.73, 0.7305]];
    let mut all = ranked(Kind::Epochs, &[("darts", &[0], 1.0)]);
    all.candidates.truncate(accuracies.len());
    for (candidate, own) in all.candidates.iter_mut().zip(accuracies) {
        candidate.trainings.truncate(2);
        let trainings = candidate.trainings.iter_mut().zip(own);
        trainings.for_each(|(training, accuracy)| training.accuracy = accuracy);
    }
    for (candidate, score) in all.candidates.iter_mut().zip([0.5, 0.4, 0.6, 0.7, 0.8]) {
        candidate.supernet_accuracy = Some(score);
    }
    let analysis = Analysis::of(&all, Question::default());
    let tau = analysis.ranks[0].correlation.as_ref().expect("a tau").tau;
    // 9 concordant pairs; one tied pair of 10 on one side.
    assert!((tau - 9.0 / 90_f64.sqrt()).abs() < 1e-12, "{tau}");
}

#[test]
fn a_search_returns_the_best_epoch_of_its_genotype() {
    let epoch = |epoch: usize, genotype: &str, auxiliary: Option<f64>| EpochScores {
        epoch,
        genotype: genotype.into(),
        supernet_accuracy: 0.1 * epoch as f64,
        auxiliary_accuracy: auxiliary,
        entropy: 1.0,
    };
    let of = |epochs: &[EpochScores]| EpochScores::returned(epochs, "a").map(|found| found.epoch);
    let some = |epochs: [(usize, &str, f64); 4]| {
        epochs.map(|(number, genotype, accuracy)| epoch(number, genotype, Some(accuracy)))
    };
    assert_eq!(of(&some([(1, "a", 0.2), (2, "a", 0.5), (3, "a", 0.5), (4, "b", 0.4)])), Some(2));
    assert_eq!(of(&[epoch(1, "a", None), epoch(2, "a", None), epoch(3, "b", None)]), Some(2));
    assert_eq!(of(&[epoch(1, "b", None)]), None);
}
