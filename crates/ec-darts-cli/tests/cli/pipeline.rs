//! `ec-darts run`: from images to a report, at once or in parts.

use std::process::Command;

use crate::program::{Folder, project, told};

fn run(folder: &Folder, more: &[&str]) -> (Option<i32>, String, String) {
    told(&command(folder, more).output().expect("the binary runs"))
}

pub fn command(folder: &Folder, more: &[&str]) -> Command {
    let arguments = tiny();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    folder.command(&[&arguments[..], &["--out", "r"], more].concat())
}

/// Both stages as short as they can be.
pub fn tiny() -> Vec<String> {
    let (config, data) = (project("configs/quick_run.toml"), project("data/cifar10-mini"));
    let mut arguments = vec!["run", "--device", "flex", "--threads", "1"];
    arguments.extend(["--config", &config, "--data", &data]);
    for set in [
        "search.network.init_channels=2",
        "search.network.num_cells=3",
        "search.network.num_nodes=2",
        "search.search.epochs=1",
        "search.search.batch_size=4",
        "search.search.steps_per_epoch=2",
        "search.search.measured_images=4",
        "retrain.network.init_channels=2",
        "retrain.network.num_cells=3",
        "retrain.retrain.epochs=1",
        "retrain.retrain.steps_per_epoch=2",
    ] {
        arguments.extend(["--set", set]);
    }
    arguments.into_iter().map(String::from).collect()
}

/// Search with transitions, retraining, evaluation and report with one kind of cell.
#[test]
fn a_run_in_the_space_of_nas_bench_201() {
    let folder = Folder::new();
    let primitives =
        "[\"none\",\"skip_connect\",\"nor_conv_1x1\",\"nor_conv_3x3\",\"avg_pool_3x3\"]";
    let primitives = format!("search.network.primitives={primitives}");
    let more: Vec<&str> = [
        "search.network.skeleton=nas-bench-201",
        "search.network.num_nodes=3",
        "search.network.edges_kept=3",
        &primitives,
        "retrain.network.skeleton=nas-bench-201",
        "retrain.network.auxiliary_loss_weight=none",
    ]
    .into_iter()
    .flat_map(|set| ["--set", set])
    .collect();
    let (code, out, err) = run(&folder, &more);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("of 500 test images"), "{out}");
    let read = |file: &str| std::fs::read_to_string(folder.path(file)).expect(file);
    let genotype = read("r/search/genotype.json");
    assert!(genotype.contains("normal") && !genotype.contains("reduction"), "{genotype}");
    let page = read("r/report.html");
    assert!(page.contains("Normal cell") && !page.contains("Reduction cell"));
    assert!(page.contains("NAS-Bench-201's on CIFAR-10") && !page.contains("mobile setting"));
    // The same genotype is refused in the paper's network.
    let data = project("data/cifar10-mini");
    let other = ["--genotype", "r/search/genotype.json", "--config", "retrain_quick"];
    let other = [&["retrain"], &other[..], &["--data", &data, "--out", "other"]].concat();
    let (code, _, err) = told(&folder.run(&other));
    assert!(code == Some(2) && err.contains("`network.skeleton` is darts"), "{err}");
}

#[test]
fn a_run_ends_in_a_report() {
    let folder = Folder::new();
    let (code, _, err) = run(&folder, &["--resume"]);
    assert!(code == Some(1) && err.contains("r/search: there is no run to resume"), "{err}");
    let (code, out, err) = run(&folder, &["--max-steps", "3"]);
    assert_eq!(code, Some(3), "{err}");
    assert!(out.contains("--resume goes on") && !out.contains("2 of 4"), "{out}");
    let (code, _, err) = run(&folder, &[]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("holds a run already"), "{err}");
    let (code, out, err) = run(&folder, &["--resume"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("4 of 4") && out.contains("of 500 test images"), "{out}");
    for file in [
        "search/genotype.json",
        "retrain/model.safetensors",
        "evaluation.json",
        "confusion.csv",
        "report.html",
    ] {
        assert!(folder.path("r").join(file).exists(), "{file}");
    }
    let report = std::fs::read_to_string(folder.path("r/report.html")).expect("a report");
    let whole = report.contains("<svg") && report.contains("</html>") && report.len() > 10_000;
    assert!(whole, "{} bytes", report.len());
    // For a finished run, the result is only printed again.
    let (code, out, err) = run(&folder, &["--resume"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("4 of 4"), "{out}");
    let (code, out, err) = run(&folder, &["--resume", "--quiet"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("of 500 test images") && !out.contains(" of 4: "), "{out}");
}

/// The search has 6 steps and the retraining 18; the limit is that of both together.
#[test]
fn the_steps_of_both_stages_are_limited_together() {
    let stopped = |folder: &Folder, more: &[&str], expected: &str| {
        let (code, out, err) = run(folder, more);
        assert_eq!(code, Some(3), "{err}");
        assert!(out.contains(expected), "{expected} in {out}");
        out
    };
    let folder = Folder::new();
    stopped(&folder, &["--max-steps", "8"], "stopped at step 2, saved r/retrain/");
    stopped(&folder, &["--resume", "--max-steps", "3"], "stopped at step 5, saved r/retrain/");

    // The limit is reached with the last step of the search.
    let folder = Folder::new();
    let out = stopped(&folder, &["--max-steps", "6"], "stopped at step 6, saved r/search/");
    assert!(!out.contains("2 of 4") && !folder.path("r/retrain").exists(), "{out}");
    stopped(&folder, &["--resume", "--max-steps", "2"], "stopped at step 2, saved r/retrain/");
    let (code, out, err) = run(&folder, &["--resume"]);
    assert!(code == Some(0) && out.contains("of 500 test images"), "{out} {err}");
}

#[test]
fn settings_name_their_stage() {
    let folder = Folder::new();
    let check = |set: &str, expected: &[&str]| {
        let (code, _, err) = run(&folder, &["--set", set]);
        assert_eq!(code, Some(2), "{err}");
        expected.iter().for_each(|text| assert!(err.contains(text), "{text:?} in {err}"));
        assert!(!folder.path("r").exists());
    };
    check("weights.momentum=0.5", &["begin with their stage", "retrain.SECTION.NAME"]);
    check("retrain.weights.momentum=2", &["`retrain.weights.momentum` is 2", "allowed"]);
    check(
        "search.data.dataset=cifar100",
        &["`data` is cifar10 read in another way", "quick (cifar100)"],
    );
}
