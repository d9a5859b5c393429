//! The binary killed at many moments goes on to the same end, byte for byte.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::program::{Folder, sample, told};

/// The last checkpoint, metrics and genotype of a finished run.
fn end(run: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(run.join("checkpoints"))
        .expect("checkpoints")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"))
        .collect();
    files.sort();
    let last = files.pop().expect("a checkpoint");
    [last, run.join("metrics.jsonl"), run.join("genotype.json")]
        .into_iter()
        .map(|path| {
            let bytes = std::fs::read(&path).expect("readable");
            (path.strip_prefix(run).expect("inside").to_path_buf(), bytes)
        })
        .collect()
}

#[test]
fn a_killed_run_goes_on_to_the_same_end() {
    let folder = Folder::new();
    let arguments = |out: &'static str| sample(&["--resume", "--quiet", "--out", out]);
    let run = |out| {
        let arguments = arguments(out);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        folder.command(&arguments)
    };
    let begin = std::time::Instant::now();
    let (code, _, err) = told(&run("unbroken").output().expect("runs"));
    assert_eq!(code, Some(0), "{err}");
    let whole = begin.elapsed();

    // Checkpoints are written after every step, so many of these fall inside a write.
    let mut kills = 0;
    for delay in (1..=24).map(|part| whole * part / 32) {
        let mut child = run("killed").spawn().expect("runs");
        std::thread::sleep(delay.max(Duration::from_millis(2)));
        // SIGKILL on Unix; a child that was faster is no failure.
        kills += usize::from(child.try_wait().expect("a child").is_none());
        child.kill().expect("killed");
        child.wait().expect("ended");
    }
    assert!(kills > 0, "no run lasted long enough to be killed");
    let (code, _, err) = told(&run("killed").output().expect("runs"));
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(end(&folder.path("unbroken")), end(&folder.path("killed")), "after {kills} kills");
}

/// A kill inside a checkpoint's write leaves a partial sibling, as here.
#[test]
fn a_partial_checkpoint_is_no_checkpoint() {
    let folder = Folder::new();
    let run = |more: &[&str]| {
        let arguments = sample(&[&["--out", "r", "--resume", "--quiet"], more].concat());
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
