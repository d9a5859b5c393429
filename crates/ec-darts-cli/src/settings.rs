//! Settings by the command line: a preset or a file, and changes of single values.

use anyhow::ensure;
use ec_darts::Error;
use ec_darts::config::{
    Override, PRESETS, RetrainConfig, SearchConfig, Settings, SettingsKind, Source,
};
use ec_darts::data::DatasetKind;
use serde::Deserialize;

use crate::args::{ConfigCommand, SettingChanges};
use crate::print;

/// The settings of a whole run: the settings of its two stages, or presets or paths in their place.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stages {
    search: String,
    retrain: String,
}

/// `ec-darts config`.
pub fn run(command: ConfigCommand) -> anyhow::Result<()> {
    match command {
        ConfigCommand::List => print(&list()?),
        ConfigCommand::Check { config, changes } => {
            resolved(&Source::open(&config)?, &changes)?;
            print(&format!("{}: valid\n", config.display()))
        }
        ConfigCommand::Print { config, changes } => {
            print(&resolved(&Source::open(&config)?, &changes)?)
        }
    }
}

/// The presets, one per line, grouped by the stage that they configure.
fn list() -> anyhow::Result<String> {
    let width = PRESETS.iter().map(|preset| preset.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for kind in [SettingsKind::WholeRun, SettingsKind::Search, SettingsKind::Retrain] {
        text += &format!("Settings of {}:\n", kind.describe());
        for preset in PRESETS {
            if Source::of_text(preset.text, preset.name).kind()? == Some(kind) {
                text += &format!("  {:width$}  {}\n", preset.name, preset.summary());
            }
        }
    }
    Ok(text)
}

/// Settings of a search, a retraining or a whole run, complete with defaults and changes, as TOML.
fn resolved(source: &Source, changes: &SettingChanges) -> anyhow::Result<String> {
    Ok(match source.kind()? {
        Some(SettingsKind::WholeRun) => {
            let (search, retrain) = of_whole_run(source, changes)?;
            format!("# search\n{}\n# retraining\n{}", search.to_toml(), retrain.to_toml())
        }
        Some(SettingsKind::Retrain) => of_one::<RetrainConfig>(source, changes)?.to_toml(),
        Some(SettingsKind::Search) | None => of_one::<SearchConfig>(source, changes)?.to_toml(),
    })
}

/// The settings of a search or a retraining.
pub fn of_one<C: Settings>(source: &Source, changes: &SettingChanges) -> anyhow::Result<C> {
    let sets: Result<Vec<_>, _> = changes.set.iter().map(|set| Override::set(set)).collect();
    let sets = sets?;
    let config: C = changed(C::from_source(source)?, sets.clone(), changes, "")?;
    in_folder(&config, &source.name, &sets, "")?;
    Ok(config)
}

/// The settings of both stages. The keys of `--set` and of errors begin with the stage.
pub fn of_whole_run(
    source: &Source,
    changes: &SettingChanges,
) -> anyhow::Result<(SearchConfig, RetrainConfig)> {
    if let Some(kind) = source.kind()?
        && kind != SettingsKind::WholeRun
    {
        Err(source.fail(&format!("settings of {}, not of a whole run", kind.describe())))?;
    }
    let stages: Stages =
        toml::from_str(&source.text).map_err(|error| source.fail(error.to_string().trim_end()))?;
    let sets: Result<Vec<_>, _> = changes.set.iter().map(|set| Override::set(set)).collect();
    let sets = sets?;
    let of = |stage: &str| sets.iter().filter_map(|set| set.in_stage(stage)).collect::<Vec<_>>();
    for set in &sets {
        let known = ["search", "retrain"].iter().any(|stage| set.in_stage(stage).is_some());
        ensure!(
            known,
            Error::ConfigSyntax {
                origin: set.typed.clone(),
                reason: "keys of a whole run begin with their stage: search.SECTION.NAME or \
                         retrain.SECTION.NAME"
                    .into(),
            }
        );
    }
    let search = SearchConfig::from_source(&source.beside("search", &stages.search)?)?;
    let search = changed(search, of("search"), changes, "search.")?;
    let retrain = RetrainConfig::from_source(&source.beside("retrain", &stages.retrain)?)?;
    let retrain = changed(retrain, of("retrain"), changes, "retrain.")?;
    in_folder(&search, &source.name, &of("search"), "search.")?;
    // Both stages use the same set of images.
    let (ours, theirs) = (search.data.source(""), retrain.data.source(""));
    ensure!(
        ours == theirs,
        Error::ConfigValue {
            origin: stages.retrain.clone(),
            key: "data".into(),
            value: format!("{} read in another way", retrain.data.dataset.name()),
            allowed: format!(
                "the same set, image_size, resize, test_fraction, split_seed, broken_images, \
                 orientation and cache_mib as in {} ({})",
                stages.search,
                search.data.dataset.name()
            ),
        }
    );
    Ok((search, retrain))
}

/// Refuses settings for images in memory: this program reads images from a folder.
///
/// # Errors
/// [`Error::ConfigValue`], naming the option that set the value, else `origin`.
fn in_folder<C: Settings>(
    config: &C,
    origin: &str,
    sets: &[Override],
    prefix: &str,
) -> ec_darts::Result<()> {
    let dataset = config.data().dataset;
    if DatasetKind::ALL.contains(&dataset) {
        return Ok(());
    }
    let set = sets.iter().rev().find(|set| set.key == "data.dataset");
    Err(Error::ConfigValue {
        origin: set.map_or(origin, |set| set.typed.as_str()).into(),
        key: format!("{prefix}data.dataset"),
        value: dataset.name().into(),
        allowed: DatasetKind::ALL.map(DatasetKind::name).join(", "),
    })
}

/// The settings with the changed values; `prefix` stands before keys in errors. Options such as
/// `--seed` override `--set`.
fn changed<C: Settings>(
    config: C,
    mut overrides: Vec<Override>,
    changes: &SettingChanges,
    prefix: &str,
) -> ec_darts::Result<C> {
    let section = match C::KIND {
        SettingsKind::Retrain => "retrain",
        _ => "search",
    };
    let resize = resize(config.data(), &overrides, changes);
    let mut change = |option: &str, typed: Option<u64>, key: String, value: Option<u64>| {
        if let (Some(typed), Some(value)) = (typed, value) {
            let given = Override::of(format!("{option} {typed}"), &key, &value.to_string());
            overrides.push(Override { prefix: prefix.into(), ..given });
        }
    };
    for (option, name, value) in [
        ("--seed", "seed", changes.seed),
        ("--epochs", "epochs", changes.epochs),
        ("--batch-size", "batch_size", changes.batch_size),
    ] {
        change(option, value, format!("{section}.{name}"), value);
    }
    change("--image-size", changes.image_size, "data.image_size".into(), changes.image_size);
    change("--image-size", changes.image_size, "data.resize".into(), resize);
    config.overridden(&overrides)
}

/// The shorter side before the crop, scaled in the same ratio as `image_size`; none where it is off
/// or where the user sets it.
fn resize(
    data: &ec_darts::config::DataConfig,
    overrides: &[Override],
    changes: &SettingChanges,
) -> Option<u64> {
    let given = overrides.iter().any(|each| each.key == "data.resize");
    let (side, resize) = (changes.image_size?, data.resize.filter(|_| !given)? as u64);
    let before = data.side()? as u64;
    Some(side.saturating_mul(resize).div_ceil(before.max(1)))
}
