//! Genotypes within a budget, derived from the checkpoint of a search.

use serde_json::Value;

use crate::program::{Folder, sample, told};

#[test]
fn a_budget_is_kept_and_says_what_it_took() {
    let folder = Folder::new();
    let search = sample(&["--out", "r", "--quiet"]);
    let search: Vec<&str> = search.iter().map(String::as_str).collect();
    assert_eq!(told(&folder.run(&search)).0, Some(0));
    let discretize = |more: &[&str]| {
        let network = ["genotype", "discretize", "--run", "r", "--network", "imagenet"];
        told(&folder.run(&[&network[..], more].concat()))
    };
    let multiply_adds = |genotype: &str| {
        let network = ["--genotype", genotype, "--network", "imagenet", "--json"];
        let (_, out, err) = told(&folder.run(&[&["cost"][..], &network].concat()));
        let cost: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{err}"));
        cost["multiply_adds"].as_u64().expect("a count")
    };

    // Without a budget, this is the genotype that the search wrote for the epoch.
    let (code, out, err) = discretize(&["--epoch", "2", "--out", "free.json"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("end of epoch 2 of 2") && out.contains("nothing was given up"), "{out}");
    let read = |name: &str| std::fs::read_to_string(folder.path(name)).expect("a genotype");
    let json = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    assert_eq!(json(&read("free.json")), json(&read("r/genotypes/epoch-002.json")));

    let free = multiply_adds("free.json");
    let budget = free - 1_000_000;
    let (code, out, err) =
        discretize(&["--max-multiply-adds", &budget.to_string(), "--out", "kept.json"]);
    assert_eq!(code, Some(0), "{err}");
    let kept = multiply_adds("kept.json");
    assert!(kept <= budget, "{kept}");
    for text in [&free.to_string(), &kept.to_string(), "given up for", "strength lost"] {
        assert!(out.contains(text), "{text} in {out}");
    }

    let (code, _, err) = discretize(&["--max-multiply-adds", "1M", "--max-parameters", "0.5G"]);
    assert!(code == Some(1) && err.contains("at most 1000000 multiply-adds (smallest"), "{err}");
    let (code, _, err) = discretize(&["--max-parameters", "5MB"]);
    assert!(code == Some(2) && err.contains("such as 600M"), "{err}");
    // Every epoch, also one whose checkpoint was deleted long ago.
    std::fs::remove_dir_all(folder.path("r/checkpoints")).expect("removed");
    for epoch in [1, 2] {
        let (code, out, err) = discretize(&["--epoch", &epoch.to_string(), "--out", "again.json"]);
        assert_eq!(code, Some(0), "{err}");
        assert!(out.contains(&format!("alpha at the end of epoch {epoch} of 2")), "{out}");
        let then = format!("r/genotypes/epoch-{epoch:03}.json");
        assert_eq!(json(&read("again.json")), json(&read(&then)));
    }
    for file in ["r/config.toml", "r/metrics.jsonl"] {
        let before = read(file);
        let (code, _, err) = discretize(&["--out", file]);
        assert!(code == Some(2) && err.contains(&format!("{file}: this command reads")), "{err}");
        assert_eq!(read(file), before);
    }
    let (code, _, err) = discretize(&["--epoch", "3"]);
    assert!(
        code == Some(1) && err.contains("epoch 3 is not over, there is alpha of epochs 1 to 2")
    );
    let metrics = read("r/metrics.jsonl");
    folder.write(
        "r/metrics.jsonl",
        metrics.replacen("\"alpha\":{\"normal\":[[", "\"alpha\":{\"normal\":[[7,", 1),
    );
    let (code, _, err) = discretize(&[]);
    assert_eq!(code, Some(0), "{err}");
    let (code, _, err) = discretize(&["--epoch", "1"]);
    assert!(
        code == Some(1) && err.contains("alpha of epoch 1 in metrics.jsonl is not 5 edges"),
        "{err}"
    );
    folder.write("r/metrics.jsonl", &metrics[..metrics.len() - 9]);
    let (code, _, err) = discretize(&[]);
    assert!(code == Some(1) && err.contains("metrics.jsonl: line 2: EOF"), "{err}");
}
