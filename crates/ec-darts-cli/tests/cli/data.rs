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
    assert_eq!((&told["dataset"], &told["train_images"]), (&"folder".into(), &15.into()));
    assert_eq!(told["classes"][2]["test_images"], 1);
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
    assert!(code == Some(1) && err.contains("broken.jpg: neither JPEG nor PNG"), "{err}");
    let (code, out, err) = as_text(&arguments);
    assert_eq!(code, Some(3), "{err}");
    for expected in ["1 files skipped", "broken.jpg", "10 images of 2 classes", "step 2"] {
        assert!(out.contains(expected), "{expected:?} in: {out}");
    }
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
