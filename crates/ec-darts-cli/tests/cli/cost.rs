//! Costs of published genotypes, compared with those of an independent PyTorch model.

use serde_json::Value;

use crate::program::{Folder, told};

#[test]
fn published_genotypes_cost_what_the_reference_counts() {
    let folder = Folder::new();
    let reference: Value =
        serde_json::from_str(include_str!("../fixtures/costs.json")).expect("JSON");
    let genotypes = reference["genotypes"].as_object().expect("genotypes");
    assert_eq!(genotypes.len(), 2);
    for (name, entry) in genotypes {
        for (setting, counted) in entry["counted"].as_object().expect("settings") {
            let mut arguments = vec!["cost", "--genotype", name, "--json", "--network"];
            match setting.as_str() {
                "cifar10" => arguments.push("cifar"),
                "cifar100" => arguments.extend(["cifar", "--classes", "100"]),
                "imagenet" => arguments.push("imagenet"),
                other => panic!("{other}"),
            }
            let (code, out, err) = told(&folder.run(&arguments));
            assert_eq!(code, Some(0), "{err}");
            let found: Value = serde_json::from_str(&out).expect("JSON");
            for (key, expected) in counted.as_object().expect("counts") {
                assert_eq!(&found[key], expected, "{name}, {setting}: {key}");
            }
        }
    }
}

#[test]
fn wrong_costs_say_what_is_allowed() {
    let folder = Folder::new();
    for (arguments, code, text) in [
        (["--genotype", "NONE", "--network", "cifar"], 2, "NONE"),
        (["--genotype", "DARTS_V2", "--network", "mnist"], 2, "tiny-imagenet"),
    ] {
        let all = [&["cost"][..], &arguments[..]].concat();
        let (found, _, err) = told(&folder.run(&all));
        assert_eq!(found, Some(code), "{err}");
        assert!(err.contains(text), "{err}");
    }
    let odd = ["cost", "--genotype", "DARTS_V2", "--network", "cifar", "--channels", "7"];
    let (code, _, err) = told(&folder.run(&odd));
    assert!(code == Some(2) && err.contains("--channels 7: allowed: an even number"), "{err}");
}

#[test]
fn memory_and_latency_are_in_json_too() {
    let folder = Folder::new();
    let small = ["--network", "cifar", "--channels", "4", "--cells", "3", "--json"];
    let run = |more: &[&str]| -> Value {
        let all = [&["cost", "--genotype", "darts_v2"][..], &small, more].concat();
        let (code, out, err) = told(&folder.run(&all));
        assert_eq!(code, Some(0), "{err}");
        serde_json::from_str(&out).expect("JSON")
    };
    let counted = run(&[]);
    assert!(counted.get("latency").is_none());
    let cells = counted["cells"].as_array().expect("cells").iter();
    let cells: u64 = cells.map(|cell| cell["activation_bytes"].as_u64().expect("bytes")).sum();
    let all = counted["activation_bytes"].as_u64().expect("bytes");
    // The image, both maps of the stem, and the mean of 4 nodes of 16 channels.
    assert_eq!(all, cells + 4 * (3 * 1024 + 2 * 12 * 1024 + 64));
    let measured = run(&["--latency", "--device", "flex", "--threads", "1", "--batch", "2"]);
    let latency = &measured["latency"];
    let seconds = |key: &str| latency[key].as_f64().expect("seconds");
    assert!(seconds("percentile10_s") > 0.0 && latency["batch"] == 2);
    assert!(seconds("percentile10_s") <= seconds("median_s"));
    assert!(seconds("median_s") <= seconds("percentile90_s"));
    assert_eq!(latency["device"], "flex (CPU, 1 threads)");
    let (code, _, err) = told(&folder.run(&[
        "cost",
        "--genotype",
        "darts_v2",
        "--network",
        "cifar",
        "--batch",
        "2",
    ]));
    assert!(code == Some(2) && err.contains("--latency"), "{err}");
}
