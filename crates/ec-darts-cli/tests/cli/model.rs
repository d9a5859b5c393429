//! Trained networks: evaluate, classify, export, import, and what they refuse.

use std::path::PathBuf;

use ec_darts::data::{self, DatasetKind, Source};
use ec_darts::device::DeviceName;
use ec_darts::model::{ModelDescription, TrainedModel};
use ec_darts::network::{EvaluationConfig, StemKind};
use ec_darts_space::Preset;
use serde_json::Value;

use crate::program::{Folder, project, sample, told};

const DATA: &str = "data/cifar10-mini";

/// A small untrained network of the sample's classes, saved in the folder.
pub fn save(folder: &Folder, name: &str, change: impl FnOnce(&mut ModelDescription)) -> PathBuf {
    let kind = DatasetKind::Cifar10;
    let images = data::load(&Source::new(kind, project(DATA))).expect("the sample").test;
    let genotype = Preset::find("EC_DARTS_CIFAR").expect("a preset").genotype();
    let config =
        EvaluationConfig { stem: StemKind::Cifar, init_channels: 4, num_cells: 3, num_classes: 10 };
    let mut description = ModelDescription::new(
        genotype,
        &config,
        images.class_names().to_vec(),
        [32; 2],
        &kind.normalization().expect("published"),
        kind.name(),
    );
    change(&mut description);
    let device = DeviceName::Flex.open().expect("the CPU").device;
    let network = description.build(&device);
    let path = folder.path(name);
    TrainedModel::new(description, network).expect("they fit").save(&path).expect("written");
    path
}

/// Standard output of a command that succeeds.
fn run(folder: &Folder, arguments: &[&str]) -> String {
    let (code, out, err) = told(&folder.run(arguments));
    assert_eq!(code, Some(0), "{err}");
    out
}

/// A command that fails with exit code 1 and all of these texts.
fn check(folder: &Folder, arguments: &[&str], expected: &[&str]) {
    let (code, _, err) = told(&folder.run(arguments));
    println!("exit {code:?}: {}", err.trim_end());
    assert_eq!(code, Some(1), "{err}");
    assert!(!err.contains("panicked"), "{err}");
    for text in expected {
        assert!(err.contains(text), "{text:?} in: {err}");
    }
}

#[test]
fn evaluation_of_the_sample() {
    let folder = Folder::new();
    save(&folder, "m.safetensors", |_| {});
    let data = project(DATA);
    let common = ["evaluate", "--model", "m.safetensors", "--data", &data, "--device", "flex"];
    let text = run(&folder, &[&common[..], &["--out", "report"]].concat());
    for part in ["top-1", "top-5", "latency", "airplane", "report/confusion.svg", "test set"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let text = std::fs::read_to_string(folder.path("report/evaluation.json")).expect("a report");
    let all: Value = serde_json::from_str(&text).expect("JSON");
    let found = &all["evaluation"];
    let num_images = found["num_images"].as_u64().expect("a number");
    let rows: Vec<Vec<u64>> = serde_json::from_value(found["confusion"].clone()).expect("counts");
    assert_eq!(rows.iter().flatten().sum::<u64>(), num_images);
    let correct: u64 = rows.iter().enumerate().map(|(class, row)| row[class]).sum();
    assert_eq!(found["top1"].as_f64(), Some(correct as f64 / num_images as f64));
    assert!(found["top5"].as_f64() > found["top1"].as_f64());
    assert!(all["latency"]["median_s"].as_f64() > Some(0.0));

    let csv = std::fs::read_to_string(folder.path("report/confusion.csv")).expect("a table");
    let first = rows[0].iter().map(u64::to_string).collect::<Vec<_>>().join(",");
    assert_eq!(csv.lines().nth(1), Some(format!("airplane,{first}").as_str()));
    let svg = std::fs::read_to_string(folder.path("report/confusion.svg")).expect("a picture");
    let drawn = svg.matches("<rect").count();
    let fields = rows.iter().flatten().filter(|&&count| count > 0).count();
    assert_eq!(drawn, fields + 2, "a field for each count, background and frame");

    // Batches do not matter in evaluation mode, but for rounding.
    let other = run(&folder, &[&common[..], &["--batch-size", "7", "--json"]].concat());
    let other: Value = serde_json::from_str(&other).expect("JSON");
    assert_eq!(other["evaluation"]["confusion"], found["confusion"]);
}

#[test]
fn images_are_classified_and_broken_ones_named() {
    let folder = Folder::new();
    save(&folder, "m.safetensors", |_| {});
    let picture = image::RgbImage::from_fn(50, 40, |x, y| image::Rgb([x as u8 * 5, y as u8, 90]));
    picture.save(folder.path("wide.png")).expect("a PNG");
    picture.save(folder.path("photo.jpg")).expect("a JPEG");
    image::imageops::crop_imm(&picture, 5, 0, 40, 40)
        .to_image()
        .save(folder.path("middle.png"))
        .expect("a PNG");
    let png = std::fs::read(folder.path("wide.png")).expect("read");
    folder.write("cut.png", &png[..png.len() / 2]);
    let common =
        ["classify", "--model", "m.safetensors", "--device", "flex", "--json", "--top", "3"];
    let out = run(&folder, &[&common[..], &["wide.png", "photo.jpg", "middle.png"]].concat());
    let lines: Vec<Value> =
        out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 3);
    let of = |line: &Value| -> Vec<f64> {
        let classes = line["classes"].as_array().expect("classes").iter();
        classes.map(|class| class["probability"].as_f64().expect("a number")).collect()
    };
    let found = of(&lines[0]);
    assert!(found.len() == 3 && found[0] >= found[1] && found[1] >= found[2] && found[2] > 0.0);
    for (wide, middle) in found.iter().zip(of(&lines[2])) {
        assert!((wide - middle).abs() < 1e-3, "the middle of the picture is what counts");
    }

    let arguments = [&common[..], &["cut.png", "wide.png", "none.png"]].concat();
    let (code, out, err) = told(&folder.run(&arguments));
    assert_eq!(code, Some(1), "{err}");
    for part in ["cut.png", "none.png", "2 of 3 images"] {
        assert!(err.contains(part), "{part} in {err}");
    }
    let good = out.lines().filter(|line| line.contains("probability")).count();
    assert_eq!((good, out.lines().count()), (1, 3), "{out}");
}

#[test]
fn an_export_comes_back() {
    let folder = Folder::new();
    let path = save(&folder, "m.safetensors", |_| {});
    let export = |format, out| {
        let arguments = ["export", "--model", "m.safetensors", "--format", format, "--out", out];
        run(&folder, &arguments)
    };
    assert!(export("torch", "torch").contains("model.py"));
    export("burnpack", "m.bpk");
    export("safetensors", "plain.safetensors");
    run(&folder, &["import", "torch/model.safetensors", "--out", "back.safetensors"]);
    let read = |path: PathBuf| std::fs::read(path).expect("read");
    assert!(read(path) == read(folder.path("back.safetensors")), "bit for bit");

    // The same weights, with the network said on the command line.
    let arguments = ["import", "torch/model.safetensors", "--out", "said.safetensors"];
    let said = ["--genotype", "ec_darts_cifar", "--channels", "4", "--cells", "3"];
    run(&folder, &[&arguments[..], &said].concat());
    let wrong = [&arguments[..], &said[..], &["--classes", "7"]].concat();
    check(&folder, &wrong, &["torch/model.safetensors", "classifier", "expected [7"]);
    let wrong = [&arguments[..], &["--genotype", "darts_v1"], &said[2..]].concat();
    check(&folder, &wrong, &["torch/model.safetensors", "_ops", "expected", "found"]);
    check(
        &folder,
        &["import", "plain.safetensors", "--out", "x"],
        &["plain.safetensors", "auxiliary_head.features.3.bias", "found nothing"],
    );
    check(&folder, &["import", "m.bpk", "--out", "x"], &["m.bpk", "neither safetensors"]);
    assert!(!folder.path("x").exists());
}

#[test]
fn what_is_no_model_for_these_images() {
    let folder = Folder::new();
    save(&folder, "m.safetensors", |_| {});
    save(&folder, "other.safetensors", |description| {
        description.class_names[3] = "lion".into();
    });
    save(&folder, "set.safetensors", |description| description.dataset = "mnist".into());
    let data = project(DATA);
    let on = |model: &str, data: &str, expected: &[&str]| {
        check(
            &folder,
            &["evaluate", "--device", "flex", "--model", model, "--data", data],
            expected,
        );
    };
    on("none.safetensors", &data, &["cannot read none.safetensors"]);
    on("other.safetensors", &data, &["class 3 is cat, in the model it is lion"]);
    on("set.safetensors", &data, &["data set `mnist`"]);
    on("m.safetensors", "nowhere", &["nowhere", "no such folder"]);
    folder.write("text.safetensors", "hello");
    on("text.safetensors", &data, &["text.safetensors", "not a trained model"]);
    let bytes = std::fs::read(folder.path("m.safetensors")).expect("read");
    folder.write("cut.safetensors", &bytes[..bytes.len() / 2]);
    on("cut.safetensors", &data, &["cut.safetensors", "not a trained model"]);

    let search: Vec<String> = sample(&["--out", "run", "--max-steps", "1"]);
    let search: Vec<&str> = search.iter().map(String::as_str).collect();
    assert_eq!(folder.run(&search).status.code(), Some(3));
    let checkpoint = "run/checkpoints/step-000000001.safetensors";
    on(checkpoint, &data, &[checkpoint, "a checkpoint of a run, not a trained model"]);
}
