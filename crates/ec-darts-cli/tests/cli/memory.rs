//! The estimate of memory, compared with the memory that the process takes.

use crate::program::{Folder, project, told};

/// The number after a word, in MiB.
fn number(text: &str, before: &str) -> f64 {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("no {before:?} in {text}"));
    rest.split_whitespace().next().expect("a word").parse().expect("a number")
}

/// Runs two steps of a command on the sample; the estimated memory must match the memory taken.
fn check(command: &[&str], settings: &[&str]) -> String {
    let folder = Folder::new();
    let data = project("data/cifar10-mini");
    let mut arguments = command.to_vec();
    arguments.extend(["--device", "flex", "--max-steps", "2", "--out", "r", "--data", &data]);
    for setting in settings {
        arguments.extend(["--set", setting]);
    }
    let (code, out, err) = told(&folder.run(&arguments));
    assert_eq!(code, Some(3), "{err}");
    let (told, measured) = (number(&out, "about "), number(&out, "peak memory "));
    let ratio = told / measured;
    assert!((0.7..1.4).contains(&ratio), "{told} MiB were told, {measured} taken: {settings:?}");
    out
}

/// Each way of computing, as a setting and as the words that name it.
const WAYS: [(&str, &str); 3] = [
    ("run.memory=save", "maps kept"),
    ("run.memory=recompute", "maps computed again"),
    ("run.kernels=reference", "reference kernels"),
];

#[test]
fn the_estimate_of_a_search_meets_the_peak() {
    if !cfg!(target_os = "linux") {
        eprintln!("skipped: only Linux tells the peak of a process");
        return;
    }
    let config = project("configs/quick.toml");
    for (way, words) in WAYS {
        let channels = if words.starts_with("reference") { 8 } else { 16 };
        let channels = format!("network.init_channels={channels}");
        let settings = [&channels, "network.num_cells=4", "search.batch_size=48", way];
        assert!(check(&["search", "--config", &config], &settings).contains(words), "{words}");
    }
}

#[test]
fn the_estimate_of_a_retraining_meets_the_peak() {
    if !cfg!(target_os = "linux") {
        eprintln!("skipped: only Linux tells the peak of a process");
        return;
    }
    let config = project("configs/retrain_quick.toml");
    let command = ["retrain", "--genotype", "ec_darts_cifar", "--config", &config];
    // The steps are of two epochs: drop path acts in the second only.
    let network = ["network.num_cells=8", "network.init_channels=24", "network.stem=cifar"];
    let steps =
        ["retrain.batch_size=48", "retrain.steps_per_epoch=1", "network.drop_path_prob=0.2"];
    for (way, words) in WAYS {
        let settings = [&network[..], &steps, &[way]].concat();
        assert!(check(&command, &settings).contains(words), "{words}");
    }
}
