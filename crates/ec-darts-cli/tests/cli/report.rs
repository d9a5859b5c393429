//! The page about a run: made from the existing files; it names every missing one.

use ec_darts::config::{RetrainConfig, Settings};
use ec_darts::cost::NetworkCost;
use ec_darts_space::Genotype;
use serde_json::{Value, json};

use crate::program::{Folder, project, sample, told};

/// A search of two epochs in `all/search`.
fn searched() -> Folder {
    let folder = Folder::new();
    let measured = "rule.eigenvalue_every=1";
    let search = sample(&["--out", "all/search", "--quiet", "--set", measured]);
    let search: Vec<&str> = search.iter().map(String::as_str).collect();
    let (code, _, err) = told(&folder.run(&search));
    assert_eq!(code, Some(0), "{err}");
    folder
}

/// Makes the report, and expects all of these texts in it.
fn check(folder: &Folder, path: &str, expected: &[&str]) -> String {
    let (code, out, err) = told(&folder.run(&["report", path]));
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("report.html"), "{out}");
    let page = std::fs::read_to_string(folder.path(path).join("report.html")).expect("a page");
    for text in expected {
        assert!(page.contains(text), "{text:?} in {page}");
    }
    for tag in ["section", "figure", "table", "svg", "ul", "div", "details"] {
        let count = |text: String| page.matches(&text).count();
        let opened = count(format!("<{tag} ")) + count(format!("<{tag}>"));
        assert_eq!(opened, count(format!("</{tag}>")), "{tag}");
    }
    // Nothing is loaded from elsewhere; a namespace is an address that no browser visits.
    let addresses = page.replace("http://www.w3.org/2000/svg", "").replace("src=\"data:", "");
    assert!(page.chars().all(|each| each == '\n' || !each.is_control()));
    for outside in ["http", "<script", "@import", "url(", "<link", "src="] {
        assert!(!addresses.contains(outside), "{outside}");
    }
    page
}

#[test]
fn a_search_alone_has_no_result() {
    let folder = searched();
    let absent = ["there is no result", "The retraining.", "An evaluation", "Other seeds"];
    let page = check(&folder, "all", &absent);
    let shown =
        ["2 of 2 epochs", "seed 2", "Validation accuracy in the search", "★", "Normal cell"];
    for text in shown.into_iter().chain(["Dominant eigenvalue of the Hessian in alpha"]) {
        assert!(page.contains(text), "{text}");
    }
    // Both epochs, both kinds of cells, two nodes with two picks each.
    assert_eq!(page.matches("<td><b class=\"pick").count(), 2 * 2 * 4);
    let table = std::fs::read_to_string(folder.path("all/search/results.csv")).expect("a table");
    assert!(table.lines().next().is_some_and(|names| names.contains("eigenvalue")), "{table}");
    // The run folder alone, and again over the old page.
    check(&folder, "all/search", &absent);
    check(&folder, "all/search", &absent);
}

/// A retraining of three epochs beside the search; one epoch is measured.
fn retrained(folder: &Folder) -> RetrainConfig {
    let genotype = std::fs::read(folder.path("all/search/genotype.json")).expect("a genotype");
    folder.write("all/retrain/genotype.json", genotype);
    // Its images are smaller than the usual ones of its stem.
    let path = project("configs/retrain_cifar10_cpu.toml");
    let set = ["retrain.epochs=3", "retrain.seed=7"].map(String::from);
    let config = RetrainConfig::load(path.as_ref(), &set).expect("settings");
    folder.write("all/retrain/config.toml", config.to_toml());
    let line = |epoch: u64, accuracy: Option<f64>| {
        let line = json!({
            "epoch": epoch, "epochs": 3, "learning_rate": 0.01, "drop_path": 0.1,
            "train_loss": 2.0, "train_accuracy": 0.3,
            "valid_accuracy": accuracy, "valid_top5": accuracy, "measured_on": "test",
        });
        line.to_string()
    };
    let metrics = [line(1, Some(0.625)), line(2, None), "cut off {".into()].join("\n");
    folder.write("all/retrain/metrics.jsonl", metrics);
    config
}

/// The file as `evaluate` writes it; the name of one class has control characters for a terminal.
fn evaluated() -> Value {
    json!({
        "model": "m", "data": "d", "set": "test", "device": "flex",
        "evaluation": {
            "top1": 0.75, "balanced_accuracy": 0.75, "loss": 0.5, "num_images": 4,
            "classes": [
                {"name": "<cat>\u{1b}[31m", "num_images": 2, "accuracy": 0.5},
                {"name": "dog", "num_images": 2, "accuracy": 1.0},
            ],
            "confusion": [[1, 1], [0, 2]],
        },
        "latency": {
            "batch": 1, "passes": 10, "median_s": 0.002, "percentile10_s": 0.001,
            "percentile90_s": 0.003, "images_per_s": 500.0,
        },
        "mistakes": [
            {"image": "a/1.png", "class": "<cat>\u{1b}[31m", "predicted": "dog",
             "probability": 0.9, "picture": "mistakes/01.png"},
            {"image": "a/2.png", "class": "dog", "predicted": "cat",
             "probability": 0.8, "picture": "../../secret.png"},
        ],
    })
}

#[test]
fn retraining_and_evaluation_are_shown() {
    let folder = searched();
    let config = retrained(&folder);
    let page = check(
        &folder,
        "all",
        &[
            "<strong>62.5 %</strong> top-1 on test images, after epoch 1",
            "The rest of the retraining: 2 of 3 epochs",
            "retrain/metrics.jsonl: line 3 is no report of an epoch",
            "as retrained here",
            "seed 7",
        ],
    );
    let text = std::fs::read_to_string(folder.path("all/search/genotype.txt")).expect("text");
    let genotype: Genotype = text.parse().expect("a genotype");
    let network = config.network.evaluation(10);
    let cost = NetworkCost::new(&genotype, &network, 32).cost.multiply_adds;
    let shown = page.replace('\u{202f}', "");
    assert!(shown.contains(&format!("<td>{cost}</td>")), "{cost} in {shown}");
    assert!(shown.contains("32×32") && !shown.contains("64×64"), "{shown}");

    folder.write("all/evaluation.json", evaluated().to_string());
    let mut picture = std::io::Cursor::new(Vec::new());
    let image = image::RgbImage::from_pixel(4, 4, image::Rgb([200, 10, 10]));
    image.write_to(&mut picture, image::ImageFormat::Png).expect("a PNG");
    folder.write("all/mistakes/01.png", picture.get_ref());
    folder.write("secret.png", picture.get_ref());
    let page = check(
        &folder,
        "all",
        &[
            "<strong>75.0 %</strong> top-1 on the test set, 4 images",
            "&lt;cat&gt;\\u001b[31m",
            "2.0 ms",
            "Mean over the classes",
            "The surest mistakes",
            "<strong>dog</strong> 90.0 %",
        ],
    );
    // With two classes there is no top-5; one picture, and none from outside the folder.
    assert!(!page.contains("Top-5") && page.matches("src=\"data:image/png;base64,").count() == 1);
    assert!(page.contains("<td>dog</td><td>1</td>") && !page.contains("An evaluation on"));
}

#[test]
fn what_cannot_be_read_is_named() {
    let folder = searched();
    retrained(&folder);
    for other in ["{", "{}", "[1]", "{\"confusion\": [[1, 2]]}"] {
        folder.write("all/evaluation.json", other);
        check(&folder, "all", &["evaluation.json: cannot be read: ", "An evaluation on"]);
    }
    let mut few = evaluated();
    few["evaluation"]["confusion"] = json!([[1]]);
    folder.write("all/evaluation.json", few.to_string());
    check(&folder, "all", &["Accuracy by class"]);
    for (file, content) in [
        ("config.toml", "[network]\nstem = \"cifar\"\n"),
        ("sessions.json", "[{\"started\": 3}]"),
        ("genotype.json", "Genotype("),
    ] {
        folder.write(&format!("all/retrain/{file}"), content);
        check(&folder, "all", &[&format!("retrain/{file}: ")]);
    }
}

#[test]
fn nothing_to_report_on() {
    let folder = Folder::new();
    folder.write("empty/notes.txt", "x");
    for (path, expected) in [("nowhere", "no such folder"), ("empty", "nothing to report on")] {
        let (code, _, err) = told(&folder.run(&["report", path]));
        assert!(code == Some(1) && err.contains(expected) && err.contains(path), "{err}");
    }
}
