use std::sync::atomic::AtomicBool;

use super::*;
use crate::fake::{Fake, Folder, STUDY};
use crate::results::Results;
use crate::run::{Choice, Worked, run};

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
