//! Settings by name, by file and by option: the check and the run agree.

use crate::program::{Folder, project, told};

fn run(folder: &Folder, arguments: &[&str]) -> (Option<i32>, String, String) {
    told(&folder.run(arguments))
}

/// Expects a command to fail because of wrong settings, with this text on standard error.
fn refused(arguments: &[&str], expected: &str) {
    let folder = Folder::new();
    let (code, _, err) = run(&folder, arguments);
    assert_eq!(code, Some(2), "{arguments:?}: {err}");
    assert!(err.contains(expected), "{expected:?} in {err}");
    assert!(!folder.path("r").exists(), "nothing is made before the settings are right");
}

#[test]
fn presets_are_found_by_name_without_a_file() {
    let folder = Folder::new();
    let (code, list, _) = run(&folder, &["config", "list"]);
    assert_eq!(code, Some(0));
    for line in [
        "Settings of a whole run:",
        "folder_run A whole run on your own images, a folder per class",
        "search_folder A search on your own images",
        "retrain_quick A first retraining",
    ] {
        // As wide as the longest name.
        let words: Vec<&str> = list.split_whitespace().collect();
        assert!(words.join(" ").contains(line), "{line} in\n{list}");
    }
    let names = list.lines().filter(|line| line.starts_with("  "));
    let names: Vec<&str> = names.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        let (code, out, err) = run(&folder, &["config", "check", name]);
        assert_eq!((code, out), (Some(0), format!("{name}: valid\n")), "{err}");
    }
    let (_, by_name, _) = run(&folder, &["config", "print", "search_folder"]);
    let (_, by_path, _) =
        run(&folder, &["config", "print", &project("configs/search_folder.toml")]);
    assert_eq!(by_name, by_path);
    refused(&["config", "check", "serch_folder"], "did you mean the preset `search_folder`?");
    refused(&["config", "check", "configs/quick.toml"], "did you mean the preset `quick`?");
}

/// The library knows images in memory; the program reads images from folders.
#[test]
fn images_of_no_folder_are_refused_by_check_and_run() {
    let memory = ["--set", "data.dataset=memory"];
    let expected = "--set data.dataset=memory: `data.dataset` is memory, allowed: cifar10, \
                    cifar100, fashion-mnist";
    refused(&[&["config", "check", "quick"], &memory[..]].concat(), expected);
    let run = ["--config", "quick", "--data", ".", "--out", "r"];
    refused(&[&["search"], &run[..], &memory[..]].concat(), expected);
    let run = ["--config", "quick_run", "--data", ".", "--out", "r"];
    let set = ["--set", "search.data.dataset=memory", "--set", "retrain.data.dataset=memory"];
    let expected = "--set search.data.dataset=memory: `search.data.dataset` is memory, allowed: ";
    refused(&[&["run"], &run[..], &set[..]].concat(), expected);
    // Where no option sets the value, the file is named.
    let folder = Folder::new();
    folder.write("mine.toml", "base = 'quick'\n[data]\ndataset = 'memory'\n");
    let (code, _, err) = self::run(&folder, &["config", "check", "mine.toml"]);
    assert!(code == Some(2) && err.contains("mine.toml: `data.dataset` is memory"), "{err}");
}

#[test]
fn values_of_another_type_are_told_in_words() {
    let number =
        "`search.epochs`: invalid type: string \"many\", expected a whole number of 0 or more";
    refused(&["config", "check", "quick", "--set", "search.epochs=many"], number);
    let number = "`weights.momentum`: invalid type: boolean `true`, expected a number";
    refused(&["config", "check", "quick", "--set", "weights.momentum=true"], number);
}

#[test]
fn a_file_builds_on_a_preset_or_another_file() {
    let folder = Folder::new();
    folder.write("mine.toml", "base = 'search_folder'\n[search]\nepochs = 7\n");
    folder.write("sub/long.toml", "base = '../mine.toml'\n[weights]\nclip_norm = 'none'\n");
    let (code, out, err) = run(&folder, &["config", "print", "sub/long.toml"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("epochs = 7") && out.contains("image_size = 64"), "{out}");
    assert!(!out.contains("clip_norm"), "{out}");
    folder.write("circle.toml", "base = 'circle.toml'");
    let (code, _, err) = run(&folder, &["config", "check", "circle.toml"]);
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("build on each other in a circle: circle.toml"), "{err}");
    folder.write("whole.toml", "search = 'quick'\nretrain = 'gone.toml'");
    let (code, _, err) = run(&folder, &["config", "check", "whole.toml"]);
    assert_eq!(code, Some(2), "{err}");
    assert!(
        err.contains("whole.toml: `retrain` is \"gone.toml\": cannot read gone.toml: "),
        "{err}"
    );
    folder.write("wrong.toml", "base = 'mine.toml'\n[search]\nepoch = 7\n");
    let (code, _, err) = run(&folder, &["config", "check", "wrong.toml"]);
    assert_eq!(code, Some(2), "{err}");
    assert!(
        err.contains("wrong.toml: no setting `search.epoch`; did you mean `search.epochs`?"),
        "{err}"
    );
}

#[test]
fn options_change_both_stages() {
    let folder = Folder::new();
    let options = ["--image-size", "128", "--epochs", "5", "--batch-size", "16", "--seed", "9"];
    let (code, out, err) =
        run(&folder, &[&["config", "print", "folder_run"], &options[..]].concat());
    assert_eq!(code, Some(0), "{err}");
    for line in ["image_size = 128", "resize = 144", "epochs = 5", "batch_size = 16", "seed = 9"] {
        assert_eq!(out.lines().filter(|found| *found == line).count(), 2, "{line} in\n{out}");
    }
    let (_, out, err) = run(&folder, &["config", "print", "quick", "--epochs", "5"]);
    assert!(out.contains("epochs = 5"), "{out} {err}");
}

#[test]
fn errors_show_what_was_typed_and_what_was_meant() {
    let whole = ["run", "--config", "quick_run", "--data", ".", "--out", "r"];
    let set = |set: &str, expected: &str| {
        refused(&[&whole[..], &["--set", set]].concat(), expected);
    };
    set(
        "retrain.epochs=2",
        "--set retrain.epochs=2: no setting `retrain.epochs`; did you mean `retrain.retrain.epochs`?",
    );
    set(
        "search.search.epoch=2",
        "no setting `search.search.epoch`; did you mean `search.search.epochs`?",
    );
    set(
        "retrain.weights.momentum=2",
        "--set retrain.weights.momentum=2: `retrain.weights.momentum` is 2",
    );
    let expected = "--epochs 0: `search.search.epochs` is 0, allowed: 1 to 100000";
    refused(&[&whole[..], &["--epochs", "0"]].concat(), expected);
    refused(
        &["search", "--config", "retrain_quick", "--data", ".", "--out", "r"],
        "retrain_quick: settings of a retraining, not of a search",
    );
    refused(&["search", "--config", "quick_run", "--data", ".", "--out", "r"], "of a whole run");
    refused(&["run", "--config", "quick", "--data", ".", "--out", "r"], "not of a whole run");
}

/// Sizes that only the run used to refuse, or refused with another message.
#[test]
fn the_check_and_the_run_agree_on_sides() {
    let sides = ["8", "9", "15", "30", "32", "60", "63", "64", "100", "1024", "1025"];
    for stem in ["cifar", "stride2", "imagenet"] {
        let stem = format!("network.stem={stem}");
        for side in sides {
            let changes = ["--image-size", side, "--set", &stem, "--set", "data.resize=none"];
            let check = [&["config", "check", "quick"], &changes[..]].concat();
            let run_it = ["search", "--config", "quick", "--data", ".", "--out", "r"];
            let folder = Folder::new();
            let (checked, _, of_check) = run(&folder, &check);
            let (ran, _, of_run) = run(&folder, &[&run_it, &changes[..]].concat());
            // Valid settings lead on to the data, which do not exist.
            assert_eq!(checked == Some(0), ran == Some(1), "{side} {stem}: {of_check} {of_run}");
            assert!(checked == Some(0) || of_check == of_run, "{of_check} {of_run}");
        }
    }
}

#[test]
fn the_machine_is_not_asked_for_more_than_it_has() {
    let quick = ["search", "--config", "quick", "--data", ".", "--out", "r"];
    refused(&[&quick[..], &["--threads", "1024"]].concat(), "the processors of this machine");
    let folder = Folder::new();
    let data = project("data/cifar10-mini");
    let large = ["search", "--config", "quick", "--device", "cpu", "--data", &data, "--out", "r"];
    let large =
        [&large[..], &["--set", "network.init_channels=1024", "--set", "network.num_cells=64"]];
    let large = [&large.concat()[..], &["--set", "network.stem=cifar"]].concat();
    let (code, out, err) = run(&folder, &large);
    assert_eq!(code, Some(1), "{out} {err}");
    assert!(err.contains("not enough memory: about") && err.contains("--force"), "{err}");
    assert!(!folder.path("r").exists(), "nothing is made");
    let whole = ["run", "--config", "quick_run", "--device", "cpu", "--data", &data, "--out", "r"];
    let large = ["retrain.network.init_channels=4096", "retrain.network.num_cells=64"];
    let large = [&whole[..], &["--set", large[0], "--set", large[1]]].concat();
    let (code, out, err) = run(&folder, &large);
    assert_eq!(code, Some(1), "{out} {err}");
    assert!(err.contains("the retraining") && err.contains("not enough memory: about"), "{err}");
    assert!(!folder.path("r").exists(), "nothing is made");
}
