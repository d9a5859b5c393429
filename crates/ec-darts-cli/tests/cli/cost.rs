//! Costs of published genotypes against those of an independent PyTorch model.

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
        (["--genotype", "NONE", "--network", "cifar"], 1, "NONE"),
        (["--genotype", "DARTS_V2", "--network", "mnist"], 2, "tiny-imagenet"),
    ] {
        let all = [&["cost"][..], &arguments[..]].concat();
        let (found, _, err) = told(&folder.run(&all));
        assert_eq!(found, Some(code), "{err}");
        assert!(err.contains(text), "{err}");
    }
    let odd = ["cost", "--genotype", "DARTS_V2", "--network", "cifar", "--channels", "7"];
    let (code, _, err) = told(&folder.run(&odd));
    assert!(code == Some(1) && err.contains("an even number"), "{err}");
}
