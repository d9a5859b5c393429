//! The presets, and random text as settings.

use std::collections::BTreeSet;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample;

use super::{PRESETS, RetrainConfig, SearchConfig, Settings, SettingsKind, Source};

#[test]
fn every_file_is_a_preset_and_every_preset_is_valid() {
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/presets"));
    let files = files.expect("the folder is there").map(|file| file.expect("an entry").path());
    let names: BTreeSet<String> = files
        .map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    assert_eq!(names, PRESETS.iter().map(|preset| preset.name.to_string()).collect());
    for preset in PRESETS {
        let source = Source::open(Path::new(preset.name)).expect("built in");
        match source.kind().expect("valid").expect("of a kind") {
            SettingsKind::Search => check_preset::<SearchConfig>(&source),
            SettingsKind::Retrain => check_preset::<RetrainConfig>(&source),
            // These name two other presets; the tests of the command line read them.
            SettingsKind::WholeRun => {}
        }
    }
}

/// Checks that the resolved text gives the same settings.
fn check_preset<C: Settings + PartialEq + std::fmt::Debug>(source: &Source) {
    let config = C::from_source(source).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(C::from_toml(&config.to_toml(), &source.name).expect("its own text"), config);
}

#[test]
fn presets_differ_in_what_they_are_about() {
    let search = |name: &str| SearchConfig::preset(name).expect("built in");
    let (paper, mut expected) = (SearchConfig::cifar10(), search("darts"));
    assert_eq!(search("search_cifar10"), paper);
    expected.search.relaxation = crate::relaxation::Relaxation::CrossEdge;
    assert_eq!(search("darts_cen"), expected);
    expected.transition.enabled = true;
    assert_eq!(expected, paper);
    let imagenet = RetrainConfig::preset("retrain_imagenet").expect("built in");
    assert_eq!((imagenet.data.cutout, imagenet.weights.clip_norm), (None, Some(5.0)));
    // The search and the retraining of a whole run read the same images.
    let folder = RetrainConfig::preset("retrain_folder").expect("built in");
    assert_eq!(search("search_folder").data.source("x"), folder.data.source("x"));
}

/// If serde skipped a field that is off, its key would be unknown. The reader lists all keys.
#[test]
fn every_field_is_a_key() {
    fn check<C: Settings>() {
        let known = C::paper().settings();
        let mut sections: Vec<&str> =
            known.keys().filter_map(|key| key.split('.').next()).collect();
        sections.dedup();
        for section in sections {
            let mut table = toml::Table::try_from(C::paper()).expect("plain values");
            let names = table[section].as_table_mut().expect("a section");
            names.insert("nonsense".into(), true.into());
            let Err(error) = table.try_into::<C>() else { panic!("a key that does not exist") };
            let listed = error.message().split_once("expected ").expect("a list of names").1;
            for name in listed.split('`').skip(1).step_by(2) {
                assert!(known.contains_key(&format!("{section}.{name}")), "{section}.{name}");
            }
        }
    }
    check::<SearchConfig>();
    check::<RetrainConfig>();
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

/// Words of valid settings, and some words that are never valid.
fn word() -> impl Strategy<Value = String> {
    let lines = PRESETS.iter().flat_map(|preset| preset.text.lines()).map(str::to_string);
    let lines: Vec<String> = lines.collect();
    let keys: Vec<String> = SearchConfig::cifar10().settings().into_keys().collect();
    let values = [
        "0",
        "-1",
        "1e400",
        "nan",
        "-inf",
        "9223372036854775807",
        "18446744073709551616",
        "1e-320",
        "true",
        "none",
        "'none'",
        "''",
        "[]",
        "[[",
        "{}",
        "{a = 1}",
        "1979-05-27",
        "\"\\u0000\"",
        "\u{1b}[2J",
        "'quick'",
        "'darts_v2'",
        "['none']",
        "0x7fffffffffffffff",
        "\u{feff}",
    ];
    let deep = ["[".repeat(20_000), format!("{}=1", "a.".repeat(20_000)), "{a=".repeat(20_000)];
    let value = || sample::select(values.to_vec());
    prop_oneof![
        8 => sample::select(lines),
        8 => (sample::select(keys.clone()), value()).prop_map(|(key, value)| {
            let (section, name) = key.split_once('.').expect("a section");
            format!("[{section}]\n{name} = {value}")
        }),
        8 => (sample::select(keys), value()).prop_map(|(key, value)| format!("{key} = {value}")),
        4 => value().prop_map(|value| format!("base = {value}")),
        4 => "\\PC{0,20}",
        1 => sample::select(deep.to_vec()),
    ]
}

/// Settings that are not refused are valid, and their text gives the same settings.
fn check_read<C: Settings + PartialEq + std::fmt::Debug>(read: crate::Result<C>) {
    match read {
        Ok(config) => {
            config.validate("again").expect("validated");
            let text = config.to_toml();
            assert_eq!(C::from_toml(&text, "again").expect("its own text"), config, "{text}");
        }
        Err(error) => assert!(error.to_string().contains(": "), "{error}"),
    }
}

proptest! {
    // PROPTEST_CASES sets a larger number of cases.
    #[test]
    fn any_text_is_settings_or_an_error(words in vec(word(), 0..12), start in any::<bool>()) {
        let start = if start { "base = 'search_cifar10'\n" } else { "" };
        let text = format!("{start}{}", words.join("\n"));
        check_read(SearchConfig::from_toml(&text, "text"));
        check_read(RetrainConfig::from_toml(&text.replace("search_", "retrain_"), "text"));
        let _ = Source::of_text(&text, "text").kind();
    }

    #[test]
    fn any_override_is_a_setting_or_an_error(words in vec(word(), 1..4)) {
        let sets: Vec<String> = words.iter().map(|word| {
            word.strip_prefix('[').unwrap_or(word).replacen("]\n", ".", 1)
        }).collect();
        check_read(SearchConfig::cifar10().with(&sets));
        check_read(RetrainConfig::cifar10().with(&sets));
    }
}
