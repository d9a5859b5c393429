//! The files in `configs/` and the table of keys, held against the presets.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{PRESETS, RETRAIN_PRESETS, RetrainConfig, SearchConfig, Settings};

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// Takes the preset of a file out and compares.
fn check_file<C: Settings + PartialEq + std::fmt::Debug>(
    path: &Path,
    presets: &mut BTreeMap<&'static str, fn() -> C>,
) {
    let name = path.file_stem().and_then(|name| name.to_str()).expect("a name").to_string();
    let preset = presets.remove(name.as_str()).unwrap_or_else(|| panic!("{name}: no preset"));
    let config = C::load(path, &[]).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config, preset(), "{name}");
    assert_eq!(C::from_toml(&config.to_toml(), &name).expect("its own text"), config);
}

#[test]
fn every_file_equals_its_preset() {
    let files = std::fs::read_dir(project("configs")).expect("the folder is there");
    let mut searches: BTreeMap<_, _> = PRESETS.iter().copied().collect();
    let mut retrainings: BTreeMap<_, _> = RETRAIN_PRESETS.iter().copied().collect();
    for file in files {
        let path = file.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        match name {
            // They name two of the others; the command line's tests read them.
            "quick_run.toml" | "folder_run.toml" => {}
            _ if name.starts_with("retrain_") => check_file(&path, &mut retrainings),
            _ => check_file(&path, &mut searches),
        }
    }
    assert!(searches.is_empty(), "without a file: {:?}", searches.keys());
    assert!(retrainings.is_empty(), "without a file: {:?}", retrainings.keys());
}

/// All keys of some sections, the optional ones too, as the reader of a section lists them when it
/// meets another.
fn keys<C: Settings + std::fmt::Debug>(config: &C, sections: &[&str]) -> BTreeSet<String> {
    let names = |section: &&str| -> Vec<String> {
        let wrong = format!("{section}.nonsense=1");
        let message = config.clone().with(&[wrong]).expect_err("no such key").to_string();
        let (_, names) = message.split_once("expected ").expect("a list of names");
        let names = names.split('`').skip(1).step_by(2);
        names.map(|name| format!("{section}.{name}")).collect()
    };
    sections.iter().flat_map(names).collect()
}

/// The rows of the tables of a page by key: type, paper, allowed, effect, source.
fn documented(page: &str) -> BTreeMap<String, Vec<String>> {
    let text = std::fs::read_to_string(project(page)).expect("it is there");
    let rows = text.lines().filter(|line| line.starts_with("| `")).map(|line| {
        let mut cells = line.trim_matches('|').split('|').map(|cell| cell.trim().to_string());
        let key = cells.next().expect("a first column").trim_matches('`').to_string();
        (key, cells.collect::<Vec<_>>())
    });
    rows.filter(|(_, cells)| cells.len() == 5).collect()
}

/// A page has every key of these sections, with the values of the paper.
fn check_page<C: Settings + std::fmt::Debug>(page: &str, paper: &C, sections: &[&str]) {
    let (documented, settings) = (documented(page), paper.settings());
    let found: BTreeSet<String> = documented.keys().cloned().collect();
    assert_eq!(found, keys(paper, sections), "{page}");
    for (key, cells) in documented {
        assert!(cells.iter().all(|cell| !cell.is_empty()), "{key}: {cells:?}");
        let expected = match settings.get(&key) {
            None => "off".to_string(),
            Some(serde_json::Value::Array(all)) => format!("all {}", all.len()),
            Some(value) => format!("`{value}`"),
        };
        assert_eq!(cells[1], expected, "{key}");
    }
}

#[test]
fn the_documentation_has_every_key_and_the_values_of_the_paper() {
    let search = ["data", "network", "search", "transition", "weights", "alpha", "run"];
    check_page("docs/configuration.md", &SearchConfig::cifar10(), &search);
    let retrain = ["network", "retrain", "weights"];
    check_page("docs/retraining.md", &RetrainConfig::cifar10(), &retrain);
}

#[test]
fn runs_differ_by_what_matters_for_the_result() {
    let check = |change: fn(&mut SearchConfig), expected: Option<&str>| {
        let mut other = SearchConfig::cifar10();
        change(&mut other);
        assert_eq!(SearchConfig::cifar10().difference(&other).as_deref(), expected);
    };
    check(|_| (), None);
    check(|other| (other.run.workers, other.run.checkpoint_steps) = (0, 7), None);
    check(|other| other.run.memory = super::MemorySetting::Recompute, None);
    check(
        |other| other.run.kernels = super::KernelSetting::Reference,
        Some("run.kernels is \"fused\" here and \"reference\" there"),
    );
    check(
        |other| other.search.seed = u64::MAX,
        Some("search.seed is 2 here and 18446744073709551615 there"),
    );
    check(|other| other.data.cutout = Some(16), Some("data.cutout is not set here and 16 there"));
    check(
        |other| other.search.order = super::Order::Sequential,
        Some("search.order is \"interleaved\" here and \"sequential\" there"),
    );
}
