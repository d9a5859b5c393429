//! The estimate of memory against what the process takes.

use crate::program::{Folder, project, told};

/// The number behind a word, in MiB.
fn number(text: &str, before: &str) -> f64 {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("no {before:?} in {text}"));
    rest.split_whitespace().next().expect("a word").parse().expect("a number")
}

fn check(settings: &[&str]) -> String {
    let folder = Folder::new();
    let (config, data) = (project("configs/quick.toml"), project("data/cifar10-mini"));
    let mut arguments = vec!["search", "--device", "flex", "--max-steps", "2", "--out", "r"];
    arguments.extend(["--config", &config, "--data", &data]);
    for setting in settings {
        arguments.extend(["--set", setting]);
    }
    let (code, out, err) = told(&folder.run(&arguments));
    assert_eq!(code, Some(0), "{err}");
    let (told, measured) = (number(&out, "about "), number(&out, "peak memory "));
    let ratio = told / measured;
    assert!((0.7..1.5).contains(&ratio), "{told} MiB were told, {measured} taken: {settings:?}");
    out
}

#[test]
fn the_estimate_meets_the_peak() {
    if !cfg!(target_os = "linux") {
        eprintln!("skipped: only Linux tells the peak of a process");
        return;
    }
    let network = ["network.init_channels=16", "network.num_cells=4", "search.batch_size=48"];
    let with = |more: &[&'static str]| [&network[..], more].concat();
    assert!(check(&with(&["run.memory=save"])).contains("maps kept"));
    assert!(check(&with(&["run.memory=recompute"])).contains("maps computed again"));
    let small = ["network.init_channels=8", "run.kernels=reference"];
    assert!(check(&small).contains("reference kernels"));
}
