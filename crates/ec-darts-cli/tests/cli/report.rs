//! The page about a run: made from what is there, silent about nothing that is not.

use serde_json::json;

use crate::program::{Folder, sample, told};

/// A search of two epochs in `all/search`.
fn searched() -> Folder {
    let folder = Folder::new();
    let search = sample(&["--out", "all/search", "--quiet"]);
    let search: Vec<&str> = search.iter().map(String::as_str).collect();
    let (code, _, err) = told(&folder.run(&search));
    assert_eq!(code, Some(0), "{err}");
    folder
}

/// Makes the report, and wants all of these texts in it.
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
    // Nothing is loaded from elsewhere; a namespace is no address that is visited.
    let addresses = page.replace("http://www.w3.org/2000/svg", "");
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
    for text in ["2 of 2 epochs", "seed 2", "Validation accuracy in the search", "★", "Normal cell"]
    {
        assert!(page.contains(text), "{text}");
    }
    // Both epochs, both kinds of cells, two nodes with two picks each.
    assert_eq!(page.matches("<td><b class=\"pick").count(), 2 * 2 * 4);
    // The run folder by itself, and again over the old page.
    check(&folder, "all/search", &absent);
    check(&folder, "all/search", &absent);
}

#[test]
fn retraining_and_evaluation_are_shown() {
    let folder = searched();
    let genotype = std::fs::read(folder.path("all/search/genotype.json")).expect("a genotype");
    folder.write("all/retrain/genotype.json", genotype);
    let config = "[data]\ndataset = \"cifar10\"\n[network]\nstem = \"cifar\"\n\
                  init_channels = 4\nnum_cells = 3\n[retrain]\nepochs = 3\nseed = 7\n";
    folder.write("all/retrain/config.toml", config);
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
    check(
        &folder,
        "all",
        &[
            "<strong>62.5 %</strong> top-1 on test images, after epoch 1",
            "The rest of the retraining: 2 of 3 epochs",
            "retrain/metrics.jsonl: line 3 is not JSON",
            "as retrained here",
            "seed 7",
        ],
    );
    let evaluation = json!({
        "evaluation": {
            "top1": 0.75, "top5": 1.0, "loss": 0.5, "num_images": 4,
            "classes": [
                {"name": "<cat>", "num_images": 2, "accuracy": 0.5},
                {"name": "dog", "num_images": 2, "accuracy": 1.0},
            ],
            "confusion": [[1, 1], [0, 2]],
        },
        "latency": {"median_s": 0.002},
    });
    folder.write("all/evaluation.json", evaluation.to_string());
    let page = check(
        &folder,
        "all",
        &["<strong>75.0 %</strong> top-1 on the test set, 4 images", "&lt;cat&gt;", "2.0 ms"],
    );
    assert!(
        page.contains("<td>dog</td><td>1</td>") && !page.contains("An evaluation on"),
        "{page}"
    );
    // Other shapes of the same file leave gaps, not errors.
    for other in
        ["{}", "[1]", "{\"confusion\": [[1, 2]]}", "{\"classes\": 3, \"per_class\": [0.5]}"]
    {
        folder.write("all/evaluation.json", other);
        check(&folder, "all", &["No confusion matrix"]);
    }
    folder.write("all/evaluation.json", "{");
    check(&folder, "all", &["evaluation.json: not JSON"]);
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
