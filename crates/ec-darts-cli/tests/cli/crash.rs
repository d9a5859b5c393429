//! A binary that is killed at many moments reaches the same result, byte for byte.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::program::{Folder, sample, told};

/// The result of a finished run: the last checkpoint of each stage, and the named files.
fn end(run: &Path, stages: &[&str], files: &[&str]) -> Vec<(PathBuf, Vec<u8>)> {
    let last = |stage: &&str| {
        let entries = std::fs::read_dir(run.join(stage).join("checkpoints")).expect("checkpoints");
        let mut all: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
        all.retain(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
        all.sort();
        all.pop().expect("a checkpoint")
    };
    let read = |path: PathBuf| {
        let bytes = std::fs::read(&path).expect("readable");
        (path.strip_prefix(run).expect("inside").to_path_buf(), bytes)
    };
    let files = files.iter().map(|name| run.join(name));
    stages.iter().map(last).chain(files).map(read).collect()
}

/// Kills a program at many moments, a part of them inside a write, and expects the result of a run
/// without kills. The number of kills is `EC_DARTS_KILLS`, or else `kills`.
fn check_kills(arguments: &[String], kills: u32, stages: &[&str], files: &[&str]) {
    let folder = Folder::new();
    let command = |out: &str| {
        let arguments = arguments.iter().map(String::as_str);
        let more = ["--resume=auto", "--quiet", "--out", out];
        folder.command(&arguments.chain(more).collect::<Vec<_>>())
    };
    let begin = std::time::Instant::now();
    let (code, _, err) = told(&command("unbroken").output().expect("runs"));
    assert_eq!(code, Some(0), "{err}");
    let whole = begin.elapsed();
    let expected = end(&folder.path("unbroken"), stages, files);

    let kills =
        std::env::var("EC_DARTS_KILLS").map_or(kills, |text| text.parse().expect("a number"));
    let (mut killed, mut ends) = (0, 0);
    for number in 1..=kills {
        // Each run is killed after another fraction of the time of a whole run.
        let part = f64::from(number * 7 % 24 + 1) / 32.0;
        let mut child = command("killed").spawn().expect("runs");
        std::thread::sleep(whole.mul_f64(part).max(Duration::from_millis(2)));
        // This is SIGKILL on Unix; a child that was faster is no failure.
        killed += u32::from(child.try_wait().expect("a child").is_none());
        child.kill().expect("killed");
        let status = child.wait().expect("ended");
        if status.success() {
            assert_eq!(
                end(&folder.path("killed"), stages, files),
                expected,
                "after {killed} kills"
            );
            std::fs::remove_dir_all(folder.path("killed")).expect("begins anew");
            ends += 1;
        }
    }
    assert!(killed > 0, "no run lasted long enough to be killed");
    let (code, _, err) = told(&command("killed").output().expect("runs"));
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(end(&folder.path("killed"), stages, files), expected, "after {killed} kills");
    println!("{killed} kills, {} runs that ended, all in the same bytes", ends + 1);
}

#[test]
fn a_killed_search_goes_on_to_the_same_end() {
    check_kills(&sample(&[]), 24, &["."], &["metrics.jsonl", "genotype.json"]);
}

#[test]
fn a_killed_retraining_goes_on_to_the_same_end() {
    let arguments = crate::retrain::tiny(&["--genotype", "darts_v2"]);
    check_kills(&arguments, 16, &["."], &["metrics.jsonl", "model.safetensors"]);
}

#[test]
fn a_killed_whole_run_goes_on_to_the_same_end() {
    let mut arguments = crate::pipeline::tiny();
    for set in ["search.run.checkpoint_steps=1", "retrain.run.checkpoint_steps=1"] {
        arguments.extend(["--set".into(), set.into()]);
    }
    let files = ["search/metrics.jsonl", "search/genotype.json", "retrain/metrics.jsonl"];
    let files = [&files[..], &["retrain/model.safetensors", "confusion.csv"]].concat();
    check_kills(&arguments, 12, &["search", "retrain"], &files);
}

/// A kill during the write of a checkpoint leaves a partial sibling file like this one.
#[test]
fn a_partial_checkpoint_is_no_checkpoint() {
    let folder = Folder::new();
    let run = |more: &[&str]| {
        let arguments = sample(&[&["--out", "r", "--resume=auto", "--quiet"], more].concat());
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        told(&folder.run(&arguments))
    };
    assert_eq!(run(&["--max-steps", "3"]).0, Some(3));
    let whole = folder.path("r/checkpoints/step-000000003.safetensors");
    let half = std::fs::read(&whole).expect("a checkpoint");
    let partial = "r/checkpoints/step-000000004.safetensors.partial";
    folder.write(partial, &half[..half.len() / 2]);
    assert_eq!(run(&[]).0, Some(0));
    assert!(!folder.path(partial).exists(), "overwritten and renamed");
}
