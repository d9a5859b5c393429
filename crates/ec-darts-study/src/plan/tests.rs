use std::sync::atomic::AtomicBool;

use super::*;
use crate::analysis::{Analysis, Question};
use crate::fake::{Fake, Folder, STUDY};
use crate::results::Results;
use crate::run::{Choice, Worked, run};
use crate::statistics::Nested;

fn names(plan: &Plan) -> Vec<&str> {
    plan.trials.iter().map(|trial| trial.name.as_str()).collect()
}

/// The candidates of a study after a worker without costs has finished it.
fn candidates(text: &str) -> Vec<Candidate> {
    let folder = Folder::new(text);
    let (study, stop) = (folder.study().expect("a study"), AtomicBool::new(false));
    let act = |_: &Trial| Ok(Worked::Finished);
    let mut worker = Fake::new(&act);
    run(&study, &folder.out(), &Choice::default(), &stop, &mut worker).expect("done");
    Results::read(&study, &folder.out()).expect("results").candidates
}

#[test]
fn trials_follow_from_the_file() {
    let study = Folder::new(STUDY).study().expect("a study");
    let plan = Plan::of(&study, None).expect("a plan");
    let all = names(&plan);
    assert_eq!(&all[..2], ["searches/darts-s0", "searches/darts-s1"]);
    assert_eq!((all.len(), plan.candidates.len()), (2 + 2 * 3, 3));
    assert!(all[2..5].iter().all(|name| name.starts_with("trainings/") && name.ends_with("-s0")));
    assert_eq!(plan.waiting, all[..2]);
}

/// As searches are, and not the trainings of each.
#[test]
fn several_given_genotypes_are_a_sample() {
    let given = "genotypes = [\"darts_v1\", \"darts_v2\", \"other.json\"]";
    let folder = Folder::new(&STUDY.replace("search = \"darts\"", given));
    let other = folder.study().expect_err("no such file").to_string();
    assert!(other.contains("`variants.darts.genotypes` is \"other.json\""), "{other}");
    let text = ec_darts_space::Preset::find("ec_darts_cifar").expect("there").genotype().to_json();
    folder.write("other.json", &text);
    let (study, stop) = (folder.study().expect("a study"), AtomicBool::new(false));
    let act = |_: &Trial| Ok(Worked::Finished);
    let run = |choice| run(&study, &folder.out(), &choice, &stop, &mut Fake::new(&act));
    run(Choice { max_trials: Some(11), ..Choice::default() }).expect("nearly done");
    let results = || Results::read(&study, &folder.out()).expect("results");
    assert_eq!(results().best(), None, "a training is left");
    run(Choice::default()).expect("done");
    let results = results();
    let name = |one: &Candidate| match &one.place {
        Place::Given { name } => name.clone(),
        _ => None,
    };
    let names: Vec<_> = results.candidates.iter().filter_map(name).collect();
    assert_eq!(names, ["darts_v1", "darts_v2", "other.json"]);
    let analysis = Analysis::of(&results, Question::default());
    let accuracies: Vec<f64> = results.candidates[..3].iter().map(Candidate::accuracy).collect();
    let expected = Nested::distinct(accuracies.into_iter().map(|one| vec![one])).estimate();
    let (estimate, expected) = (analysis.variants[0].estimate.clone(), expected.expect("three"));
    let estimate = estimate.expect("a sample").interval();
    assert!((estimate.low - expected.interval().low).abs() < 1e-12, "{estimate:?}, {expected:?}");
    let best = results.best().expect("all are trained");
    assert!(results.candidates.iter().all(|one| one.accuracy() <= best.accuracy()));
}

#[test]
fn epochs_are_spread_evenly_and_end_with_the_last() {
    assert_eq!(spread(25, 10), [1, 4, 6, 9, 11, 14, 16, 19, 21, 24]);
    assert_eq!((spread(10, 10), spread(3, 10)), ((0..10).collect(), vec![0, 1, 2]));
    let text = STUDY.replace("ablation", "epochs").replace("protocol", "epochs = 4\nprotocol");
    let text = text.replace("[[variants]]\nname = \"random\"\nrandom = [0, 1, 2]\n", "");
    let candidates = candidates(&text);
    let epochs: Vec<_> = candidates
        .iter()
        .map(|one| match one.place {
            Place::Epoch { seed, epoch } => (seed, epoch, one.supernet_accuracy),
            _ => panic!("{one:?}"),
        })
        .collect();
    let of = |seed, epoch: usize| (seed, epoch, Some(0.3 + 0.01 * (epoch - 1) as f64));
    assert_eq!(
        epochs,
        [6, 12, 18, 25]
            .map(|e| of(0, e))
            .into_iter()
            .chain([6, 12, 18, 25].map(|e| of(1, e)))
            .collect::<Vec<_>>()
    );
    assert!(candidates.iter().all(|one| one.trainings.len() == 2));
}

#[test]
fn ten_genotypes_differ_in_the_edges_into_the_last_node() {
    let text = STUDY.replace("ablation", "edges").replace("seeds = [0, 1]", "seeds = [0]");
    let text = text.replace("[[variants]]\nname = \"random\"\nrandom = [0, 1, 2]\n", "");
    let candidates = candidates(&text);
    let choices: Vec<_> = candidates
        .iter()
        .map(|one| match &one.place {
            Place::Edges { from, kept, .. } => (from.clone(), *kept, one.operation_weight),
            _ => panic!("{one:?}"),
        })
        .collect();
    assert_eq!(choices.len(), 10);
    let mut sources: Vec<_> = choices.iter().map(|(from, ..)| from.clone()).collect();
    sources.dedup();
    assert_eq!((sources.len(), &sources[0], &sources[9]), (10, &vec![0, 1], &vec![3, 4]));
    let kept: Vec<_> = choices.iter().filter(|(_, kept, _)| *kept).collect();
    assert_eq!(kept.len(), 1);
    // The edges that a search keeps are the strongest.
    assert!(choices.iter().all(|(_, _, weight)| *weight <= kept[0].2));
    // Softmax weights of eight primitives, two edges.
    assert!(choices.iter().all(|(_, _, weight)| (0.2..0.5).contains(&weight.expect("one"))));
    let mut keys: Vec<_> = candidates.iter().map(|one| one.genotype.clone()).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 10);
}
