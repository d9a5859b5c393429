//! A search in a run folder: its files, its stop and its resumption.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::Device;
use ec_darts::Error;
use ec_darts::config::{SearchConfig, Settings};
use ec_darts::device::DeviceName;
use ec_darts::train::run::{Notice, Outcome, RunOptions, search};
use ec_darts::train::{Best, EpochReport, Resume, RunFolder};
use ec_darts_space::Genotype;

use crate::tiny;

/// An empty place for a run folder, with the name of its test.
fn place(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if path.exists() {
        fs::remove_dir_all(&path).expect("an old run folder");
    }
    path
}

fn options(out: &Path, resume: Resume, max_steps: Option<u64>) -> RunOptions {
    let stop = Arc::new(AtomicBool::new(false));
    let (out, device) = (out.to_path_buf(), "flex".into());
    RunOptions { out, resume, max_steps, stop, device, read_every: None }
}

/// One session on the tiny data; returns its outcome and the number of skipped checkpoints.
fn session(config: SearchConfig, options: &RunOptions) -> (Result<Outcome<Best>, Error>, usize) {
    let mut skipped = 0;
    let outcome = search(config, tiny::data(1), &Device::flex(), options, &mut |notice| {
        skipped += usize::from(matches!(notice, Notice::Skipped(_)));
        assert!(!matches!(notice, Notice::Compiling), "the CPU compiles nothing");
    });
    (outcome, skipped)
}

fn finish(out: &Path, resume: Resume) {
    let (outcome, _) = session(tiny::config(), &options(out, resume, None));
    assert!(matches!(outcome, Ok(Outcome::Finished(_))), "{outcome:?}");
}

/// The checkpoints, newest first.
fn checkpoints(out: &Path) -> Vec<PathBuf> {
    RunFolder::open(out, Resume::Auto)
        .and_then(|folder| folder.checkpoints())
        .expect("a run folder")
}

/// Checks that two folders end with the same checkpoint, metrics and genotype.
fn check_same_end(a: &Path, b: &Path) {
    let newest = |out| checkpoints(out).swap_remove(0);
    let (ours, theirs) = (newest(a), newest(b));
    assert_eq!(ours.file_name(), theirs.file_name());
    let read = |path: &Path| fs::read(path).expect("a file");
    assert!(read(&ours) == read(&theirs), "the last checkpoints differ");
    for name in ["metrics.jsonl", "genotype.json", "genotypes/epoch-001.txt"] {
        assert!(read(&a.join(name)) == read(&b.join(name)), "{name} differs");
    }
}

#[test]
fn a_run_leaves_a_whole_folder() {
    let out = place("whole");
    finish(&out, Resume::Never);
    let read = |name: &str| fs::read_to_string(out.join(name)).expect(name);
    let metrics = read("metrics.jsonl");
    let reports: Vec<EpochReport> =
        metrics.lines().map(|line| serde_json::from_str(line).expect("a report")).collect();
    let epochs: Vec<usize> = reports.iter().map(|report| report.epoch).collect();
    assert_eq!(epochs, [0, 1]);
    let best: Genotype = read("genotype.json").parse().expect("JSON");
    assert_eq!(best, read("genotype.txt").parse().expect("Python text"));
    let last = reports.last().expect("an epoch");
    assert_eq!(best, reports[last.best_epoch].genotype_mixing);
    assert!(read("genotype.svg").starts_with("<svg"));
    assert_eq!(SearchConfig::from_toml(&read("config.toml"), "own").expect("own"), tiny::config());
    assert!(read("sessions.json").contains("flex"));
    assert_eq!(fs::read_dir(out.join("checkpoints")).expect("a folder").count(), 2);
}

#[test]
fn a_run_in_pieces_ends_as_the_unbroken_one() {
    let (unbroken, broken) = (place("unbroken"), place("broken"));
    finish(&unbroken, Resume::Never);
    let mut pieces = 0;
    loop {
        match session(tiny::config(), &options(&broken, Resume::Auto, Some(1)))
            .0
            .expect("a session")
        {
            Outcome::Finished(_) => break,
            Outcome::Stopped { total_step, checkpoint } => {
                pieces += 1;
                assert_eq!(total_step, pieces);
                assert_eq!(checkpoint, checkpoints(&broken)[0]);
                assert!(checkpoints(&broken).len() <= 2);
            }
        }
    }
    assert_eq!(pieces, 16, "steps of both epochs");
    check_same_end(&unbroken, &broken);
}

#[test]
fn a_damaged_checkpoint_is_passed_over() {
    let (unbroken, damaged) = (place("undamaged"), place("damaged"));
    finish(&unbroken, Resume::Never);
    for resume in [Resume::Never, Resume::Always] {
        session(tiny::config(), &options(&damaged, resume, Some(4))).0.expect("a session");
    }
    let newest = &checkpoints(&damaged)[0];
    let bytes = fs::read(newest).expect("a checkpoint");
    fs::write(newest, &bytes[..bytes.len() / 2]).expect("a shorter checkpoint");
    let (outcome, skipped) = session(tiny::config(), &options(&damaged, Resume::Always, None));
    assert!(matches!(outcome, Ok(Outcome::Finished(_))), "{outcome:?}");
    assert_eq!(skipped, 1);
    check_same_end(&unbroken, &damaged);
}

fn check_refused(out: &Path, resume: Resume, expected: &str) {
    match session(tiny::config(), &options(out, resume, None)).0 {
        Err(error @ (Error::Folder { .. } | Error::Busy { .. })) => {
            assert!(error.to_string().contains(expected), "{error}");
        }
        other => panic!("{other:?}, expected {expected:?}"),
    }
}

#[test]
fn a_folder_in_use_is_refused() {
    let out = place("in_use");
    let held = RunFolder::open(&out, Resume::Never).expect("a new folder");
    check_refused(&out, Resume::Always, "another process is running in this folder");
    drop(held);
    finish(&out, Resume::Never);
    check_refused(&out, Resume::Never, "holds a run already; add --resume");
    finish(&out, Resume::Always);
}

#[test]
fn a_request_to_stop_saves_first() {
    let out = place("stopped");
    let options = options(&out, Resume::Never, None);
    options.stop.store(true, Ordering::Relaxed);
    let outcome = session(tiny::config(), &options).0.expect("a session");
    let checkpoint = checkpoints(&out).swap_remove(0);
    assert_eq!(outcome, Outcome::Stopped { checkpoint, total_step: 1 });
}

#[test]
fn a_run_of_other_settings_is_refused_and_left_alone() {
    let out = place("other_settings");
    finish(&out, Resume::Never);
    let settings = || fs::read_to_string(out.join("config.toml")).expect("settings");
    let before = settings();
    let mut config = tiny::config();
    config.search.epochs = 3;
    match session(config, &options(&out, Resume::Always, None)).0 {
        Err(error @ Error::Checkpoint { .. }) => {
            let message = error.to_string();
            assert!(message.contains("search.epochs is 3 here and 2 there"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(settings(), before);
}

#[test]
fn a_search_that_diverges_stops() {
    let out = place("diverges");
    let mut config = tiny::config();
    config.weights.learning_rate = 1e30;
    config.weights.clip_norm = None;
    config.run.checkpoint_steps = 1;
    let error = session(config, &options(&out, Resume::Never, None))
        .0
        .expect_err("weights beyond single precision");
    let Error::Stopped { last_checkpoint, source } = error else { panic!("{error:?}") };
    assert_eq!(last_checkpoint, Some(checkpoints(&out)[0].clone()));
    match *source {
        Error::NonFinite { what, epoch: 0, phase: "supernet", step: 1, learning_rate: 1e30 } => {
            assert!(what.contains("loss"), "{what}");
        }
        other => panic!("{other:?}"),
    }
}

/// The figures of the bad step are read after later steps; the error still names the bad step.
#[test]
fn a_search_that_diverges_before_it_is_read_saves_nothing() {
    let out = place("diverges_unread");
    let mut config = tiny::config();
    config.search.batch_size = 1;
    config.weights.learning_rate = 1e30;
    config.weights.clip_norm = None;
    config.run.checkpoint_steps = 4;
    let options =
        RunOptions { read_every: NonZeroUsize::new(7), ..options(&out, Resume::Never, None) };
    let mut told = 0;
    let error = search(config, tiny::data(1), &Device::flex(), &options, &mut |notice| {
        if let Notice::Events(events) = notice {
            told += events.len();
        }
    });
    let Err(Error::Stopped { last_checkpoint: None, source }) = error else { panic!("{error:?}") };
    let found = matches!(*source, Error::NonFinite { epoch: 0, phase: "supernet", step: 1, .. });
    assert!(found, "{source:?}");
    assert_eq!(told, 1, "the step before the bad one");
    assert!(checkpoints(&out).is_empty());
}

/// The folder ends the same for any interval of reading losses, and a session stops at the given
/// step.
#[test]
fn a_run_read_seldom_ends_as_one_read_every_step() {
    let (often, seldom) = (place("read_often"), place("read_seldom"));
    finish(&often, Resume::Never);
    let read_every = NonZeroUsize::new(7);
    let first = RunOptions { read_every, ..options(&seldom, Resume::Never, Some(3)) };
    let outcome = session(tiny::config(), &first).0.expect("a session");
    assert!(matches!(outcome, Outcome::Stopped { total_step: 3, .. }), "{outcome:?}");
    let rest = RunOptions { read_every, ..options(&seldom, Resume::Always, None) };
    assert!(matches!(session(tiny::config(), &rest).0, Ok(Outcome::Finished(_))));
    check_same_end(&often, &seldom);
}

/// The first step waits for the kernels of a GPU; a notice comes before it.
#[test]
fn compiling_is_told_on_wgpu() {
    let Some(device) = crate::devices::gpu(DeviceName::Wgpu) else { return };
    let options = options(&place("compiling"), Resume::Never, Some(1));
    let mut told = Vec::new();
    let outcome = search(tiny::config(), tiny::data(1), &device, &options, &mut |notice| {
        told.push(match notice {
            Notice::Begin(_) => "begin",
            Notice::Compiling => "compiling",
            Notice::Skipped(_) | Notice::Renewed(_) => "skipped",
            Notice::Events(_) => "events",
        });
    });
    assert!(matches!(outcome, Ok(Outcome::Stopped { total_step: 1, .. })), "{outcome:?}");
    assert_eq!(told, ["begin", "compiling", "events"]);
}
