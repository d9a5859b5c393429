use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use super::*;
use crate::fake::{Act, Fake, Folder, PROTOCOL, STUDY};
use crate::results::Results;

fn go_on(folder: &Folder, choice: &Choice, act: Act) -> Result<(Ending, Vec<String>)> {
    let mut worker = Fake::new(act);
    let ending =
        run(&folder.study()?, &folder.out(), choice, &AtomicBool::new(false), &mut worker)?;
    Ok((ending, worker.worked))
}

fn finish(_: &Trial) -> Result<Worked> {
    Ok(Worked::Finished)
}

/// Results without their costs.
fn table(folder: &Folder) -> Results {
    let mut results =
        Results::read(&folder.study().expect("a study"), &folder.out()).expect("results");
    let trainings = results.candidates.iter_mut().flat_map(|candidate| &mut candidate.trainings);
    trainings.for_each(|training| training.cost = Cost::default());
    results.searches.iter_mut().for_each(|search| search.cost = Cost::default());
    results
}

#[test]
fn equal_genotypes_are_trained_once() {
    let folder = Folder::new(STUDY);
    let (ending, worked) = go_on(&folder, &Choice::default(), &finish).expect("done");
    // Two searches that find one genotype, and three random ones; two training seeds.
    assert_eq!(worked.len(), 2 + 2 * (1 + 3), "{worked:?}");
    assert_eq!(ending, Ending::Nothing { running: 0, failed: 0, left: 0, finished: 10 });
    let results = table(&folder);
    assert!(results.unfinished.is_empty());
    assert_eq!(results.searches.len(), 2);
    let [one, two, ..] = &results.candidates[..] else { panic!("candidates") };
    assert_eq!((one.genotype.clone(), &one.trainings), (two.genotype.clone(), &two.trainings));
    assert_eq!(results.candidates.iter().map(|one| one.trainings.len()).sum::<usize>(), 10);
    let (ending, worked) = go_on(&folder, &Choice::default(), &finish).expect("done");
    assert_eq!(ending, Ending::Nothing { running: 0, failed: 0, left: 0, finished: 0 });
    assert!(worked.is_empty());
}

#[test]
fn more_seeds_and_variants_keep_what_is_done() {
    let folder = Folder::new(STUDY);
    go_on(&folder, &Choice::default(), &finish).expect("done");
    let before = table(&folder);
    let more = STUDY.replace("[0, 1]", "[0, 1, 2]");
    let more = format!("{more}[[variants]]\nname = \"known\"\ngenotype = \"darts_v2\"\n");
    folder.write("s.toml", &more);
    let (_, worked) = go_on(&folder, &Choice::default(), &finish).expect("done");
    assert_eq!((worked.len(), worked[0].as_str()), (1 + 2 + 2, "searches/darts-s2"), "{worked:?}");
    let after = table(&folder);
    assert!(before.candidates.iter().all(|candidate| after.candidates.contains(candidate)));
}

#[test]
fn changed_settings_are_refused() {
    let folder = Folder::new(STUDY);
    go_on(&folder, &Choice::default(), &finish).expect("done");
    let check = |name: &str, text: &str, expected: &str| {
        folder.write(name, text);
        let error = go_on(&folder, &Choice::default(), &finish).expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
        folder.write("s.toml", STUDY);
        folder.write("p.toml", PROTOCOL);
    };
    let other = format!("{PROTOCOL}[retrain.retrain]\nepochs = 3\n");
    check(
        "p.toml",
        &other,
        "holds a trial with other settings: retrain.epochs is 3 here and 10 there",
    );
    let other = format!("{PROTOCOL}[search.search]\nepochs = 3\n");
    check(
        "p.toml",
        &other,
        "searches/darts-s0: holds a trial with other settings: search.epochs is 3",
    );
    let other = STUDY.replace("search = \"darts\"", "search = \"darts_cen\"");
    check("s.toml", &other, "search.relaxation is \"cross-edge\" here and \"softmax\" there");
    // Settings of the machine change no result.
    folder.write("p.toml", &format!("{PROTOCOL}[search.run]\nworkers = 1\n"));
    let (_, worked) = go_on(&folder, &Choice::default(), &finish).expect("the same trials");
    assert!(worked.is_empty());
}

/// Each file is replaced in turn; the error names its folder and what to do.
#[test]
fn finished_trials_with_damaged_files_are_refused() {
    let folder = Folder::new(STUDY);
    go_on(&folder, &Choice::default(), &finish).expect("finished");
    let study = folder.study().expect("valid");
    let whole = Results::read(&study, &folder.out()).expect("results");
    let training = whole.candidates[0].trainings[0].folder.clone();
    let [search, other] =
        ["searches/darts-s0", "searches/darts-s1"].map(|name| folder.out().join(name));
    let (training, metrics) = (folder.out().join(training), "metrics.jsonl");
    let random = folder.out().join(&whole.candidates[2].trainings[0].folder);
    let first_line = |path: &Path| {
        let text = std::fs::read_to_string(path.join(metrics)).expect("metrics");
        text.lines().next().expect("a line").to_string()
    };
    let copied = |from: &Path| std::fs::read_to_string(from.join("genotype.json")).expect("there");
    let cases = [
        (&search, metrics, first_line(&search), "metrics.jsonl has 1 of"),
        (&search, metrics, String::new(), "metrics.jsonl has 0 of"),
        (&search, "genotype.json", copied(&random), "genotype.json is not that of the best epoch"),
        (&search, "config.toml", "epochs = ".into(), "config.toml"),
        (&training, metrics, String::new(), "metrics.jsonl does not end with the accuracy"),
        (&training, metrics, "{".into(), "line 1"),
        (&training, "genotype.json", copied(&random), "genotype.json is that of another training"),
    ];
    for (run, file, content, expected) in cases {
        let path = run.join(file);
        let before = std::fs::read(&path).expect(file);
        std::fs::write(&path, content).expect("written");
        let error = Results::read(&study, &folder.out()).expect_err(expected).to_string();
        let run = run.display().to_string();
        for said in [&*run, expected, "remove trial.json there"] {
            assert!(error.contains(said), "{file}, {said}: {error}");
        }
        std::fs::write(&path, before).expect("written");
    }
    assert!(other.is_dir() && Results::read(&study, &folder.out()).expect("as before") == whole);
}

#[test]
fn a_study_that_dies_at_every_trial_has_the_same_results() {
    let whole = Folder::new(STUDY);
    go_on(&whole, &Choice::default(), &finish).expect("done");
    let folder = Folder::new(STUDY);
    let deaths = AtomicUsize::new(0);
    let die = |trial: &Trial| match deaths.fetch_add(1, Ordering::SeqCst) % 2 {
        0 => Err(Error::Device { device: "flex", reason: format!("dies in {}", trial.name) }),
        _ => Ok(Worked::Finished),
    };
    let mut starts = 1;
    while let Err(error) = go_on(&folder, &Choice::default(), &die) {
        assert!(error.to_string().contains("dies in"), "{error}");
        starts += 1;
    }
    assert_eq!((starts, table(&folder)), (11, table(&whole)));
}

#[test]
fn a_trial_that_fails_is_told_and_tried_again_when_asked() {
    let folder = Folder::new(STUDY);
    let fails = |trial: &Trial| match trial.name.starts_with("searches/darts-s1") {
        true => Ok(Worked::Failed("no luck".into())),
        false => Ok(Worked::Finished),
    };
    let (ending, _) = go_on(&folder, &Choice::default(), &fails).expect("goes on with others");
    assert_eq!(ending, Ending::Nothing { running: 0, failed: 1, left: 0, finished: 9 });
    let unfinished = table(&folder).unfinished;
    assert_eq!((unfinished.len(), unfinished[0].error.as_deref()), (1, Some("no luck")));
    let (_, worked) = go_on(&folder, &Choice::default(), &fails).expect("nothing to do");
    assert!(worked.is_empty());
    let again = Choice { retry_failed: true, ..Choice::default() };
    let (ending, worked) = go_on(&folder, &again, &fails).expect("fails again");
    assert_eq!(worked, ["searches/darts-s1"]);
    assert_eq!(ending, Ending::Nothing { running: 0, failed: 1, left: 0, finished: 0 });
    let (_, worked) = go_on(&folder, &again, &finish).expect("done");
    assert_eq!((worked, table(&folder).unfinished), (vec!["searches/darts-s1".into()], vec![]));
}

#[test]
fn limits_and_choices() {
    let folder = Folder::new(STUDY);
    let most = Choice { max_trials: Some(3), ..Choice::default() };
    let (ending, worked) = go_on(&folder, &most, &finish).expect("stops");
    assert_eq!((ending, worked.len()), (Ending::Stopped, 3));
    let only = Choice { only: vec!["searches/darts-s1".into()], ..Choice::default() };
    let (ending, worked) = go_on(&folder, &only, &finish).expect("nothing to do");
    assert_eq!(ending, Ending::Nothing { running: 0, failed: 0, left: 7, finished: 0 });
    assert!(worked.is_empty());
    let all = Choice { max_trials: Some(7), ..Choice::default() };
    let (ending, _) = go_on(&folder, &all, &finish).expect("as many as there are");
    assert_eq!(ending, Ending::Nothing { running: 0, failed: 0, left: 0, finished: 7 });
}

/// Several workers at once; a file lock works between two openings of the file, in one process as
/// in two.
#[test]
fn no_trial_is_run_twice_and_trainings_are_waited_for() {
    let folder = Folder::new(&STUDY.replace("seeds = [0, 1]", "seeds = [0, 1, 2, 3, 4, 5]"));
    let under_way: Mutex<BTreeMap<String, bool>> = Mutex::default();
    let act = |trial: &Trial| {
        let before = under_way.lock().expect("a lock").insert(trial.name.clone(), true);
        assert_eq!(before, None, "{} is run twice", trial.name);
        std::thread::sleep(Duration::from_millis(20));
        Ok(Worked::Finished)
    };
    let act: Act = &act;
    let worked: Vec<Vec<String>> = std::thread::scope(|scope| {
        let start = || go_on(&folder, &Choice::default(), act).expect("done").1;
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert_eq!(worked.iter().map(Vec::len).sum::<usize>(), 6 + 2 * (3 + 3), "{worked:?}");
    assert!(worked.iter().all(|each| !each.is_empty()), "{worked:?}");
    assert!(table(&folder).unfinished.is_empty());
}

#[test]
fn cost_adds_up_over_sessions() {
    let folder = Folder::new(STUDY);
    let slow = |_: &Trial| {
        std::thread::sleep(Duration::from_millis(150));
        Ok(Worked::Stopped)
    };
    for _ in 0..2 {
        go_on(&folder, &Choice::default(), &slow).expect("stops");
    }
    let record = Record::read(&folder.out().join("searches/darts-s0")).expect("a record");
    assert!((0.2..3.0).contains(&record.cost.seconds), "{record:?}");
    assert_eq!(record.ending, None);
}
