//! Trained networks: evaluate, classify, export, import, and their refusals.

use std::path::PathBuf;

use ec_darts::config::DataConfig;
use ec_darts::data::{self, DatasetKind, Source};
use ec_darts::device::DeviceName;
use ec_darts::model::{ModelDescription, TrainedModel};
use ec_darts::network::{EvaluationConfig, Skeleton, StemKind};
use ec_darts_space::Preset;
use serde_json::Value;

use crate::program::{Folder, project, sample, told};

const DATA: &str = "data/cifar10-mini";

/// A small untrained network of the sample's classes, saved in the folder.
pub fn save(folder: &Folder, name: &str, change: impl FnOnce(&mut ModelDescription)) -> PathBuf {
    let kind = DatasetKind::Cifar10;
    let images = data::load(&Source::new(kind, project(DATA))).expect("the sample").test;
    let genotype = Preset::find("EC_DARTS_CIFAR").expect("a preset").genotype();
    let config = EvaluationConfig {
        skeleton: Skeleton::Darts,
        stem: StemKind::Cifar,
        init_channels: 4,
        num_cells: 3,
        num_classes: 10,
    };
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

/// The standard output of a command that succeeds.
fn run(folder: &Folder, arguments: &[&str]) -> String {
    let (code, out, err) = told(&folder.run(arguments));
    assert_eq!(code, Some(0), "{err}");
    out
}

/// Expects a command to fail with exit code 1 and all of these texts.
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
    let accuracies = found["classes"].as_array().expect("classes").iter();
    let sum: f64 = accuracies.filter_map(|class| class["accuracy"].as_f64()).sum();
    assert!((found["balanced_accuracy"].as_f64().expect("a number") - sum / 10.0).abs() < 1e-12);
    let mistakes = all["mistakes"].as_array().expect("mistakes");
    let probability = |at: usize| mistakes[at]["probability"].as_f64().expect("a number");
    assert!(mistakes.len() == 24 && probability(0) >= probability(23));
    for mistake in mistakes {
        assert_ne!(mistake["class"], mistake["predicted"]);
        let picture = folder.path("report").join(mistake["picture"].as_str().expect("a path"));
        assert_eq!(image::open(picture).expect("a picture").width(), 32);
    }
    assert!(all["latency"]["median_s"].as_f64() > Some(0.0));

    let csv = std::fs::read_to_string(folder.path("report/confusion.csv")).expect("a table");
    let first = rows[0].iter().map(u64::to_string).collect::<Vec<_>>().join(",");
    assert_eq!(csv.lines().nth(1), Some(format!("airplane,{first}").as_str()));
    let svg = std::fs::read_to_string(folder.path("report/confusion.svg")).expect("a picture");
    let drawn = svg.matches("<rect").count();
    let fields = rows.iter().flatten().filter(|&&count| count > 0).count();
    assert_eq!(drawn, fields + 2, "a field for each count, background and frame");

    // All images: the 1,000 of training and the 500 of testing.
    let text = run(&folder, &[&common[..], &["--all"]].concat());
    assert!(text.contains("those of training among them: 1500 images of 10 classes"), "{text}");

    // Only some classes: their rows of the confusion matrix, and no others.
    let some =
        [&common[..], &["--class", "cat", "--class", "ship", "--batch-size", "30", "--json"]];
    let some: Value = serde_json::from_str(&run(&folder, &some.concat())).expect("JSON");
    assert_eq!(some["only"], serde_json::json!(["cat", "ship"]));
    assert_eq!(some["evaluation"]["num_images"], 100);
    for (class, name) in found["classes"].as_array().expect("classes").iter().enumerate() {
        let is_chosen = name["name"] == "cat" || name["name"] == "ship";
        let expected = if is_chosen { rows[class].clone() } else { vec![0; 10] };
        assert_eq!(some["evaluation"]["confusion"][class], serde_json::json!(expected));
    }
    for mistake in some["mistakes"].as_array().expect("mistakes") {
        assert!(mistake["class"] == "cat" || mistake["class"] == "ship", "{mistake}");
    }
    let (code, _, err) = told(&folder.run(&[&common[..], &["--class", "cats"]].concat()));
    assert_eq!(code, Some(2), "{err}");
    assert!(
        err.contains("--class cats: `class` is cats, allowed: airplane, automobile, bird, cat"),
        "{err}"
    );

    // In evaluation mode, batches matter only for rounding.
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

/// Images of two classes below a folder, and other files that such folders contain.
fn pictures(folder: &Folder, root: &str) {
    for (number, class) in
        ["dog", "dog", "dog", "dog", "cat", "cat", "cat", "cat"].iter().enumerate()
    {
        let picture = image::RgbImage::from_fn(40, 36, |x, y| {
            image::Rgb([x as u8 * 6, y as u8 * 7, number as u8 * 30])
        });
        let path = folder.path(root).join(class);
        std::fs::create_dir_all(&path).expect("a folder");
        picture.save(path.join(format!("{number}.png"))).expect("a PNG");
    }
    folder.write(&format!("{root}/notes.txt"), "x");
    std::fs::copy(folder.path(root).join("cat/7.png"), folder.path(root).join("cat/noname"))
        .expect("copied");
}

#[test]
fn folders_are_classified_into_a_table() {
    let folder = Folder::new();
    save(&folder, "m.safetensors", |description| {
        description.class_names[3] = "a, \"b\"".into();
    });
    pictures(&folder, "some/where");
    folder.write("some/more/cut.jpg", [0xff, 0xd8, 0xff, 0xe0, 0]);
    #[cfg(unix)]
    std::os::unix::fs::symlink("..", folder.path("some/where/up")).expect("a link");
    let common = ["classify", "--model", "m.safetensors", "--device", "flex"];
    let arguments = ["some/where", "some/where/dog", "--csv", "new/table.csv", "--top", "2"];
    let out = run(&folder, &[&common[..], &arguments].concat());
    assert!(out.contains("wrote new/table.csv: 13 images"), "{out}");
    let table = std::fs::read_to_string(folder.path("new/table.csv")).expect("a table");
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[0], "image,class_1,probability_1,class_2,probability_2,error");
    assert!(lines.len() == 14 && lines[1].starts_with("some/where/cat/4.png,"), "{table}");
    assert_eq!(lines[6].split(',').next(), Some("some/where/dog/0.png"));
    assert_eq!(lines[6], lines[10], "one image, whatever is beside it");

    let arguments = ["some", "--csv", "table.csv", "--top", "1"];
    let (code, _, err) = told(&folder.run(&[&common[..], &arguments].concat()));
    assert!(code == Some(1) && err.contains("1 of 10 images"), "{err}");
    assert!(err.contains("passed over, as no images: 1: some/"), "{err}");
    let table = std::fs::read_to_string(folder.path("table.csv")).expect("a table");
    assert!(table.lines().nth(1).is_some_and(|line| line.starts_with("some/more/cut.jpg,,,")));

    folder.write("text/notes.txt", "x");
    check(&folder, &[&common[..], &["text"]].concat(), &["text: no image in this folder"]);
    let (code, _, err) =
        told(&folder.run(&[&common[..], &["some", "--json", "--csv", "t"]].concat()));
    assert!(code == Some(2) && err.contains("--csv"), "{err}");
}

#[test]
fn some_of_the_classes_are_evaluated() {
    let folder = Folder::new();
    save(&folder, "m.safetensors", |description| {
        description.dataset = "folder".into();
        let data = DataConfig { image_size: Some(32), ..DataConfig::new(DatasetKind::Folder) };
        description.data = Some(data);
    });
    pictures(&folder, "some");
    std::fs::remove_file(folder.path("some/cat/noname")).expect("removed");
    let common = ["evaluate", "--model", "m.safetensors", "--data", "some", "--device", "flex"];
    let text = run(&folder, &[&common[..], &["--all", "--out", "report"]].concat());
    assert!(text.contains(": 8 images of 2 of the model's 10 classes"), "{text}");
    let text = std::fs::read_to_string(folder.path("report/evaluation.json")).expect("a report");
    let all: Value = serde_json::from_str(&text).expect("JSON");
    let rows: Vec<Vec<u64>> =
        serde_json::from_value(all["evaluation"]["confusion"].clone()).expect("counts");
    let sums: Vec<u64> = rows.iter().map(|row| row.iter().sum()).collect();
    // Cats are class 3 and dogs class 5 of CIFAR-10.
    assert_eq!(sums, [0, 0, 0, 4, 0, 4, 0, 0, 0, 0]);
    assert_eq!(all["set"], "all");
    std::fs::rename(folder.path("some/dog"), folder.path("some/dragon")).expect("renamed");
    check(&folder, &common, &["some: 2 classes, the model knows 10, and no class dragon"]);
}

#[test]
fn a_picture_of_the_matrix_is_xml() {
    let folder = Folder::new();
    save(&folder, "m.safetensors", |description| {
        description.dataset = "folder".into();
        description.data =
            Some(DataConfig { image_size: Some(32), ..DataConfig::new(DatasetKind::Folder) });
        description.class_names[3] = "c\u{1b}[31m<&\u{fffe}".into();
    });
    pictures(&folder, "some");
    let odd = if cfg!(unix) { "some/c\u{1b}[31m<&\u{fffe}" } else { return };
    std::fs::rename(folder.path("some/cat"), folder.path(odd)).expect("renamed");
    let common = ["evaluate", "--model", "m.safetensors", "--data", "some", "--device", "flex"];
    let text = run(&folder, &[&common[..], &["--all", "--out", "report"]].concat());
    assert!(text.contains("c\\u001b[31m<&\\ufffe"), "{text}");
    let svg = std::fs::read_to_string(folder.path("report/confusion.svg")).expect("a picture");
    assert!(svg.contains("c\\u001b[31m&lt;&amp;\\ufffe"), "{svg}");
    assert!(svg.chars().all(|each| each == '\n' || !each.is_control()), "{svg}");
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
    // The command creates missing folders, as evaluate does.
    assert!(export("onnx", "some/new/m.onnx").contains("wrote some/new/m.onnx"));
    export("safetensors", "another/plain.safetensors");
    let arguments = ["import", "torch/model.safetensors", "--out", "a/b/back.safetensors"];
    run(&folder, &arguments);
    export("safetensors", "plain.safetensors");
    run(&folder, &["import", "torch/model.safetensors", "--out", "back.safetensors"]);
    let read = |path: PathBuf| std::fs::read(path).expect("read");
    assert!(read(path) == read(folder.path("back.safetensors")), "bit for bit");

    // The same weights; the command line describes the network.
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

/// Also through a link, and where the output is a folder with the file in it.
#[test]
fn files_that_are_read_are_not_written_over() {
    let folder = Folder::new();
    folder.write("t/note.txt", "");
    pictures(&folder, "some");
    let model = save(&folder, "t/model.safetensors", |_| {});
    let read = |path: &PathBuf| std::fs::read(path).expect("read");
    let (picture, before) = (folder.path("some/cat/4.png"), read(&model));
    let pixels = read(&picture);
    let refused = |arguments: &[&str], out: &str| {
        let (code, _, err) = told(&folder.run(arguments));
        assert_eq!(code, Some(2), "{arguments:?}: {err}");
        assert!(err.contains(&format!("{out}: this command reads the file")), "{err}");
        assert!(read(&model) == before && read(&picture) == pixels, "{arguments:?}");
    };
    let given = "t/model.safetensors";
    let export = |from: &str, format: &str, out: &str, named: &str| {
        refused(&["export", "--model", from, "--format", format, "--out", out], named);
    };
    export(given, "torch", "t", given);
    assert!(!folder.path("t/model.py").exists());
    for format in ["onnx", "burnpack", "safetensors"] {
        export(given, format, "./t/../t/model.safetensors", "./t/../t/model.safetensors");
    }
    #[cfg(unix)]
    {
        let link = "link.safetensors";
        std::os::unix::fs::symlink(given, folder.path(link)).expect("a link");
        export(given, "onnx", link, link);
        export(link, "torch", "t", given);
    }
    refused(&["import", given, "--out", given], given);
    let classify = ["classify", "--model", given, "--device", "flex", "some", "--csv"];
    for out in [given, "some/cat/4.png"] {
        refused(&[&classify[..], &[out]].concat(), out);
    }
}

#[test]
fn a_public_imagenet_network_reads_images_as_its_recipe_does() {
    let folder = Folder::new();
    save(&folder, "m.safetensors", |description| {
        (description.stem, description.image_size) = (StemKind::Imagenet, [64; 2]);
    });
    run(&folder, &["export", "--model", "m.safetensors", "--format", "torch", "--out", "t"]);
    let arguments = ["import", "t/model.safetensors", "--out", "i.safetensors"];
    let said = ["--genotype", "ec_darts_cifar", "--network", "imagenet", "--channels", "4"];
    let said = [&said[..], &["--cells", "3", "--classes", "10"]].concat();
    run(&folder, &[&arguments[..], &said].concat());
    let device = DeviceName::Flex.open().expect("the CPU").device;
    let model = TrainedModel::load(&folder.path("i.safetensors"), &device).expect("a model");
    let data = model.description.data.expect("a recipe");
    assert_eq!((model.description.image_size, data.resize), ([224; 2], Some(256)));

    // Of 256 pixels, the outer 16 on each side are cut off, whatever their content.
    let picture = |frame: u8| {
        image::RgbImage::from_fn(256, 256, |x, y| {
            match [x, y].iter().all(|at| (20..236).contains(at)) {
                true => image::Rgb([x as u8, y as u8, 90]),
                false if [x, y].iter().all(|at| (16..240).contains(at)) => image::Rgb([9, 9, 9]),
                false => image::Rgb([frame; 3]),
            }
        })
    };
    picture(0).save(folder.path("black.png")).expect("a PNG");
    picture(255).save(folder.path("white.png")).expect("a PNG");
    let common = ["classify", "--model", "i.safetensors", "--device", "flex", "--csv", "t.csv"];
    run(&folder, &[&common[..], &["black.png", "white.png"]].concat());
    let table = std::fs::read_to_string(folder.path("t.csv")).expect("a table");
    let rows: Vec<&str> =
        table.lines().map(|line| line.split_once(',').expect("cells").1).collect();
    assert_eq!(rows[1], rows[2]);
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
