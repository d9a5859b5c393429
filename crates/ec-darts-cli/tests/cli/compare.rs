//! `ec-darts compare` on real runs.

use serde_json::Value;

use crate::program::{Folder, sample, told};
use crate::retrain;

/// A search and a retraining of seconds each, and a search with another seed and batch.
fn runs() -> Folder {
    let folder = Folder::new();
    let searches: [(&str, &[&str]); 2] =
        [("a", &[]), ("b", &["--seed", "5", "--set", "search.measured_images=4"])];
    for (name, more) in searches {
        let arguments = sample(&[&["--out", name, "--quiet"], more].concat());
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let (code, _, err) = told(&folder.run(&arguments));
        assert_eq!(code, Some(0), "{err}");
    }
    let retrain = retrain::tiny(&["--genotype", "a/genotype.json", "--out", "r", "--quiet"]);
    let retrain: Vec<&str> = retrain.iter().map(String::as_str).collect();
    let (code, _, err) = told(&folder.run(&retrain));
    assert_eq!(code, Some(0), "{err}");
    folder
}

#[test]
fn runs_side_by_side() {
    let folder = runs();
    let (code, out, err) = told(&folder.run(&["compare", "a", "b", "r"]));
    assert_eq!((code, &err[..]), (Some(0), ""), "{out}");
    let line = |name: &str| -> Vec<String> {
        let found = out.lines().find(|line| line.trim_start().starts_with(name));
        let found = found.unwrap_or_else(|| panic!("{name} in {out}"));
        found.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(String::from).collect()
    };
    assert_eq!(
        line("search.search.measured_images"),
        ["search.search.measured_images", "8", "4", "-"]
    );
    assert_eq!(line("search.search.seed")[2..], ["5", "-"]);
    assert_eq!(line("search.epochs done")[1..], ["2 of 2", "2 of 2", "-"]);
    assert_eq!(line("retrain.epochs done")[1..], ["-", "-", "2 of 2"]);
    // Settings that are the same, and those of a stage that only one run has, are left out.
    assert!(
        !out.contains("search.search.batch_size") && !out.contains("retrain.retrain."),
        "{out}"
    );
    let (code, out, _) = told(&folder.run(&["compare", "a", "b", "r", "--json"]));
    assert_eq!(code, Some(0));
    let all: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(all["runs"], serde_json::json!(["a", "b", "r"]));
    assert_eq!(all["settings"]["search.search.measured_images"], serde_json::json!([8, 4, null]));
    assert_eq!(all["problems"], serde_json::json!([]));
    assert!(all["costs"]["search.time"][0].as_f64() > Some(0.0), "{all}");
    assert!(all["costs"]["parameters"][2].as_u64() > Some(100), "{all}");
    assert_eq!(all["results"]["genotype"][0], all["results"]["genotype"][2], "{all}");
    // A damaged file leaves a gap that is told.
    folder.write("b/metrics.jsonl", "no JSON\n");
    let (code, out, err) = told(&folder.run(&["compare", "a", "b"]));
    assert_eq!(code, Some(0), "{out}");
    assert!(err.contains("warning: b: ") && err.contains("metrics.jsonl"), "{err}");
}

#[test]
fn missing_files_are_told() {
    let folder = runs();
    let compare = |runs: &[&str]| {
        let (code, out, err) = told(&folder.run(&[&["compare"][..], runs].concat()));
        assert_eq!(code, Some(0), "{err}");
        (out, err)
    };
    // A stage that has not begun has no files, and lacks none.
    std::fs::create_dir(folder.path("a/retrain")).expect("created");
    let (out, err) = compare(&["a", "b"]);
    assert!(err.is_empty() && !out.contains("cannot be compared"), "{out} {err}");

    // The settings are missing, then empty.
    let remove = |file: &str| std::fs::remove_file(folder.path(file)).expect("removed");
    remove("b/config.toml");
    for expected in ["b/config.toml: is missing", "b: ./config.toml: "] {
        let (out, err) = compare(&["a", "b"]);
        assert!(err.contains(&format!("warning: {expected}")), "{err}");
        let line = out.lines().nth(2);
        assert_eq!(line, Some("  cannot be compared: b/config.toml"), "{out}");
        assert!(!out.contains("  none"), "{out}");
        folder.write("b/config.toml", "");
    }

    // Finished runs without the figures of their epochs.
    remove("a/metrics.jsonl");
    folder.write("r/metrics.jsonl", "");
    let (_, err) = compare(&["a", "r"]);
    for file in ["a/metrics.jsonl", "r/metrics.jsonl"] {
        let expected = format!("warning: {file}: is missing or empty");
        assert!(err.contains(&expected), "{expected} in {err}");
    }
}

#[test]
fn what_cannot_be_compared() {
    let folder = Folder::new();
    folder.write("empty/other.txt", "");
    for (run, said) in [("nowhere", "nowhere: no such folder"), ("empty", "empty: nothing to")] {
        let (code, _, err) = told(&folder.run(&["compare", run]));
        assert!(code == Some(1) && err.contains(said), "{code:?} {err}");
    }
    let (code, _, err) = told(&folder.run(&["compare"]));
    assert!(code == Some(2) && err.contains("<RUN>"), "{err}");
}
