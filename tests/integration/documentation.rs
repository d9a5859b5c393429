//! The tables of keys in the documentation, compared with the code.

use std::collections::BTreeMap;
use std::path::Path;

use ec_darts::config::{RetrainConfig, SearchConfig, Settings};

/// The rows of the tables of a page by key: type, paper, allowed, effect, source.
fn documented(page: &str) -> BTreeMap<String, Vec<String>> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page))
        .expect("it is there");
    let rows = text.lines().filter(|line| line.starts_with("| `")).map(|line| {
        let mut cells = line.trim_matches('|').split('|').map(|cell| cell.trim().to_string());
        let key = cells.next().expect("a first column").trim_matches('`').to_string();
        (key, cells.collect::<Vec<_>>())
    });
    rows.filter(|(_, cells)| cells.len() == 5).collect()
}

/// Checks that a page has every key of these sections, with the values of the paper.
fn check_page<C: Settings + std::fmt::Debug>(page: &str, paper: &C, sections: &[&str]) {
    let (documented, settings) = (documented(page), paper.settings());
    let of_page = |key: &&String| sections.iter().any(|name| key.starts_with(&format!("{name}.")));
    let expected: Vec<&String> = settings.keys().filter(of_page).collect();
    assert_eq!(documented.keys().collect::<Vec<_>>(), expected, "{page}");
    for (key, cells) in documented {
        assert!(cells.iter().all(|cell| !cell.is_empty()), "{key}: {cells:?}");
        let expected = match settings.get(&key) {
            None | Some(serde_json::Value::Null) => "off".to_string(),
            Some(serde_json::Value::Array(all)) if !all.is_empty() => {
                format!("the {} of DARTS", all.len())
            }
            Some(value) => format!("`{value}`"),
        };
        assert_eq!(cells[1], expected, "{key}");
    }
}

#[test]
fn the_documentation_has_every_key_and_the_values_of_the_paper() {
    let search =
        ["data", "network", "search", "transition", "stages", "rule", "weights", "alpha", "run"];
    check_page("docs/configuration.md", &SearchConfig::cifar10(), &search);
    let retrain = ["network", "retrain", "weights"];
    check_page("docs/retraining.md", &RetrainConfig::cifar10(), &retrain);
}
