//! `ec-darts data`, and a search on a folder of images.

use crate::program::{Folder, project, tiny, told};

fn run(folder: &Folder, arguments: &[&str]) -> (Option<i32>, String, String) {
    told(&folder.run(arguments))
}

#[test]
fn a_folder_is_inspected() {
    let folder = Folder::new();
    let sample = project("tests/fixtures/tiny-imagenet-tiny");
    let (code, out, err) = run(&folder, &["data", "inspect", &sample]);
    assert_eq!(code, Some(0), "{err}");
    for expected in [
        "tiny-imagenet, as it looks",
        "18 for training, 9 for testing",
        "64x64 to 64x64",
        "as published",
        "6        3  oboe, hautboy, hautbois",
    ] {
        assert!(out.contains(expected), "{expected:?} in: {out}");
    }
    let train = project("tests/fixtures/tiny-imagenet-tiny/train");
    let (code, out, err) = run(&folder, &["data", "inspect", &train, "--json"]);
    assert_eq!(code, Some(0), "{err}");
    let told: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let count = |key: &str| told[key].as_u64().expect("a count");
    assert_eq!(told["dataset"], "folder");
    assert_eq!(count("train_images") + count("test_images"), 18);
    assert_eq!(told["notices"][0]["kind"], "ignored");
    let (code, _, err) = run(&folder, &["data", "inspect", &train, "--dataset", "mnist"]);
    assert!(code == Some(2) && err.contains("cifar10, cifar100, fashion-mnist"), "{err}");
    let (code, _, err) = run(&folder, &["data", "inspect", &train, "--dataset", "imagenet"]);
    assert!(code == Some(1) && err.contains("no imagenet here"), "{err}");
}

#[test]
fn a_search_runs_on_a_folder_and_names_what_it_skips() {
    let folder = Folder::new();
    let train = project("tests/fixtures/tiny-imagenet-tiny/train");
    for class in ["n02124075", "n07695742"] {
        for image in 0..6 {
            let name = format!("{class}/images/{class}_{image}.JPEG");
            let bytes = std::fs::read(format!("{train}/{name}")).expect("the sample");
            folder.write(&format!("images/{name}"), bytes);
        }
    }
    folder.write("images/n02124075/broken.jpg", "no image");
    let mut arguments = tiny("images");
    for set in ["data.dataset=folder", "data.image_size=16", "data.random_resized_crop=0.5"] {
        arguments.extend(["--set".into(), set.into()]);
    }
    arguments.extend(["--out", "r", "--max-steps", "2"].map(String::from));
    let strict = ["--set", "data.broken_images=fail"].map(String::from);
    let as_text = |arguments: &[String]| -> (Option<i32>, String, String) {
        run(&folder, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let (code, _, err) = as_text(&[arguments.clone(), strict.to_vec()].concat());
    assert!(
        code == Some(1) && err.contains("broken.jpg: none of JPEG, PNG, WebP and BMP"),
        "{err}"
    );
    let (code, out, err) = as_text(&arguments);
    assert_eq!(code, Some(3), "{err}");
    for expected in
        ["warning: skipped 1: none of JPEG", "broken.jpg", "images of 2 classes", "step 2"]
    {
        assert!(out.contains(expected), "{expected:?} in: {out}");
    }
    let log = std::fs::read_to_string(folder.path("r/log.txt")).expect("a log");
    assert_eq!(log.matches(" warn skipped 1: none of JPEG").count(), 1, "{log}");
}

#[cfg(feature = "fetch")]
#[test]
fn fetching_from_nobody_fails() {
    let folder = Folder::new();
    let nobody = ["data", "fetch", "cifar10", "--out", "d", "--mirror", "http://127.0.0.1:9"];
    let (code, _, err) = run(&folder, &nobody);
    assert!(code == Some(1) && err.contains("cifar-10-binary.tar.gz"), "{err}");
    let (code, _, err) = run(&folder, &["data", "fetch", "imagenet", "--out", "d"]);
    assert!(code == Some(2) && err.contains("tiny-imagenet"), "{err}");
}

/// Photographs of the sample: classes `a` and `b`, four of each in `images/train` and two in
/// `images/test`.
fn photographs(folder: &Folder) {
    let train = project("tests/fixtures/tiny-imagenet-tiny/train");
    for (name, class) in [("a", "n02124075"), ("b", "n07695742")] {
        for image in 0..6 {
            let bytes = std::fs::read(format!("{train}/{class}/images/{class}_{image}.JPEG"));
            let part = if image < 4 { "train" } else { "test" };
            let path = format!("images/{part}/{name}/{image}.jpg");
            folder.write(&path, bytes.expect("the sample"));
        }
    }
}

#[test]
fn an_evaluation_knows_the_images_that_were_set_apart() {
    let folder = Folder::new();
    photographs(&folder);
    let config = project("configs/retrain_quick.toml");
    let mut retrain =
        vec!["retrain", "--device", "flex", "--threads", "1", "--genotype", "darts_v2"];
    retrain.extend(["--config", &config, "--data", "images", "--out", "r"]);
    for set in [
        "data.dataset=folder",
        "data.image_size=16",
        "network.init_channels=2",
        "network.num_cells=3",
        "retrain.epochs=1",
        "retrain.batch_size=4",
    ] {
        retrain.extend(["--set", set]);
    }
    let (code, _, err) = run(&folder, &retrain);
    assert_eq!(code, Some(0), "{err}");
    let evaluate = || {
        let model = "r/model.safetensors";
        let arguments = ["evaluate", "--model", model, "--data", "images", "--device", "flex"];
        let (code, out, err) = run(&folder, &[&arguments[..], &["--out", "e"]].concat());
        assert_eq!(code, Some(0), "{err}");
        let written = std::fs::read_to_string(folder.path("e/evaluation.json")).expect("written");
        (out, serde_json::from_str::<serde_json::Value>(&written).expect("JSON"))
    };
    let (out, written) = evaluate();
    assert_eq!((written["same_images"].as_bool(), out.contains("warning")), (Some(true), false));
    // A broken image is reported and not measured.
    folder.write("images/test/b/broken.jpg", "no image");
    let (out, written) = evaluate();
    assert!(out.contains("warning: skipped 1: none of JPEG"), "{out}");
    assert_eq!(written["evaluation"]["num_images"], 4);
    assert_eq!(written["images"]["notices"][0]["paths"][0], "test/b/broken.jpg");
    assert_eq!(written["same_images"], true);
    // One of the classes of the model's training.
    std::fs::rename(folder.path("images/train/a/0.jpg"), folder.path("images/test/a/0.jpg"))
        .expect("moved");
    let (out, written) = evaluate();
    assert!(out.contains("warning: these are not the test images that were set apart"), "{out}");
    assert_eq!(written["same_images"], false);
    // Another name of a class, also where both names are numbers.
    std::fs::rename(folder.path("images/train/a"), folder.path("images/train/0")).expect("moved");
    std::fs::rename(folder.path("images/test/a"), folder.path("images/test/0")).expect("moved");
    let arguments = ["evaluate", "--model", "r/model.safetensors", "--data", "images"];
    let (code, _, err) = run(&folder, &arguments);
    assert!(code == Some(1) && err.contains("class 0 is 0, in the model it is a"), "{err}");
}

#[test]
fn a_search_does_not_begin_without_test_images() {
    let folder = Folder::new();
    photographs(&folder);
    for name in ["a/4", "a/5", "b/4", "b/5"] {
        folder.write(&format!("images/test/{name}.jpg"), "no image");
    }
    let mut arguments = tiny("images");
    for set in ["data.dataset=folder", "data.image_size=16"] {
        arguments.extend(["--set".into(), set.into()]);
    }
    arguments.extend(["--out", "r"].map(String::from));
    let (code, _, err) = run(&folder, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(code == Some(1) && err.contains("no image for testing is left"), "{err}");
    assert!(err.contains("test/a/4.jpg") && !folder.path("r/checkpoints").exists(), "{err}");
}

#[test]
fn notices_are_events_and_part_of_the_report() {
    let folder = Folder::new();
    photographs(&folder);
    folder.write("images/train/a/<b>.jpg", "no image");
    folder.write("images/valid/a/1.jpg", "passed over");
    let mut arguments = tiny("images");
    for set in ["data.dataset=folder", "data.image_size=16", "search.epochs=1"] {
        arguments.extend(["--set".into(), set.into()]);
    }
    arguments.extend(["--out", "all/search", "--json"].map(String::from));
    let (code, out, err) = run(&folder, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(code, Some(0), "{err}");
    let events: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    let kinds: Vec<&str> = events
        .iter()
        .filter(|event| event["event"] == "data-notice")
        .map(|event| event["kind"].as_str().expect("a kind"))
        .collect();
    assert_eq!(kinds, ["skipped", "not-chosen"]);
    let (code, _, err) = run(&folder, &["report", "all"]);
    assert_eq!(code, Some(0), "{err}");
    let page = std::fs::read_to_string(folder.path("all/report.html")).expect("a page");
    for expected in
        ["8 images for training and 4 for testing", "&lt;b&gt;.jpg", "not chosen", "valid"]
    {
        assert!(page.contains(expected), "{expected:?} in {page}");
    }
}
