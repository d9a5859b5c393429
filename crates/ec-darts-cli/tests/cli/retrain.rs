//! `ec-darts retrain`: its files and its refusals.

use crate::program::{Folder, project, sample, told};

/// A retraining of a second or two: two epochs of three steps.
pub fn tiny(more: &[&str]) -> Vec<String> {
    let (config, data) = (project("configs/retrain_quick.toml"), project("data/cifar10-mini"));
    let mut arguments = vec!["retrain", "--device", "flex", "--threads", "1"];
    arguments.extend(["--config", &config, "--data", &data]);
    for set in [
        "network.init_channels=2",
        "network.num_cells=3",
        "retrain.epochs=2",
        "retrain.batch_size=4",
        "retrain.steps_per_epoch=3",
        "retrain.validation_fraction=0.008",
        "run.checkpoint_steps=1",
    ] {
        arguments.extend(["--set", set]);
    }
    arguments.extend(more);
    arguments.into_iter().map(String::from).collect()
}

fn run(folder: &Folder, more: &[&str]) -> (Option<i32>, String, String) {
    let arguments = tiny(more);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    told(&folder.run(&arguments))
}

#[test]
fn what_cannot_be_retrained() {
    let folder = Folder::new();
    let check = |more: &[&str], code: i32, expected: &[&str]| {
        let (found, _, err) = run(&folder, more);
        println!("exit {found:?}: {}", err.trim_end());
        assert_eq!(found, Some(code), "{err}");
        assert!(!err.contains("panicked") && !err.contains("stack backtrace"), "{err}");
        for text in expected {
            assert!(err.contains(text), "{text:?} in: {err}");
        }
    };
    let with = |genotype: &'static str, more: &[&'static str]| {
        [&["--genotype", genotype, "--out", "r"], more].concat()
    };
    check(&with("nothing", &[]), 2, &["nothing: no such file"]);
    folder.write("g.txt", "Genotype(normal=[('sep_conv_9x9', 1)]");
    check(&with("g.txt", &[]), 1, &["g.txt", "unknown primitive `sep_conv_9x9`"]);
    let momentum = ["--set", "weights.momentum=2"];
    check(&with("darts_v2", &momentum), 2, &["weights.momentum", "2", "allowed"]);
    let stem = ["--set", "network.stem=imagenet"];
    check(&with("darts_v2", &stem), 2, &["imagenet with images of 32x32", "multiples of 32"]);
    assert!(!folder.path("r/config.toml").exists(), "nothing is made before the settings fit");

    assert_eq!(run(&folder, &with("darts_v2", &["--max-steps", "2"])).0, Some(3));
    check(&with("darts_v2", &[]), 1, &["holds a run already", "--resume"]);
    let resume = ["--resume"];
    check(&with("darts_v1", &resume), 1, &["a checkpoint of another network", "Genotype("]);
    let other = ["--resume", "--set", "weights.momentum=0.5"];
    check(&with("darts_v2", &other), 1, &["weights.momentum is 0.5 here and 0.9 there"]);

    let arguments = sample(&["--out", "r", "--resume"]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (code, _, err) = told(&folder.run(&arguments));
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("not") && err.contains("r/checkpoints"), "a retraining's folder: {err}");
}

#[test]
fn events_are_lines_of_json() {
    let folder = Folder::new();
    let (code, out, err) = run(&folder, &["--genotype", "darts_v1", "--out", "r", "--json"]);
    assert_eq!(code, Some(0), "{err}");
    let lines: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let count = |name: &str| lines.iter().filter(|line| line["event"] == name).count();
    // Two epochs of three steps and two measured batches.
    assert_eq!((count("setup"), count("step"), count("epoch")), (1, 10, 2));
    assert!(folder.path("r/model.safetensors").exists());
}

/// Settings of a retraining are checked and printed like those of a search.
#[test]
fn settings_are_checked_and_printed() {
    let folder = Folder::new();
    let config = project("configs/retrain_cifar10.toml");
    let (code, out, err) = told(&folder.run(&["config", "print", &config]));
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("[retrain]") && out.contains("drop_path_prob = 0.2"), "{out}");
    let set = ["config", "check", &config, "--set", "retrain.epochs=0"];
    let (code, _, err) = told(&folder.run(&set));
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("`retrain.epochs` is 0, allowed: 1 to 100000"), "{err}");
}
