//! Texts of studies and protocols: built in by name, or files.

use std::path::Path;

use ec_darts::Error;
use ec_darts::Result;
use ec_darts::config::{self, Override, Source};
use ec_darts_space::Preset;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::builtin;

/// Largest number of studies that build on each other.
const MOST_LAYERS: usize = 8;

/// A built-in study, or the study in a file.
pub(crate) fn study(given: &Path) -> Result<Source> {
    match given.to_str().and_then(builtin::study) {
        Some(text) => Ok(Source::of_text(text, &given.display().to_string())),
        None if !matches!(given.try_exists(), Ok(false)) => Source::open(given),
        None => {
            let reason = "no such file, and no built-in study; `ec-darts study show` lists them";
            Err(Error::ConfigSyntax { origin: given.display().to_string(), reason: reason.into() })
        }
    }
}

/// A built-in protocol, or the protocol in a file beside a study.
pub(crate) fn protocol(study: &Source, name: &str) -> Result<Source> {
    match builtin::protocol(name) {
        Some(text) => Ok(Source::of_text(text, name)),
        None => study.beside("protocol", name).map_err(|error| {
            let names: Vec<&str> = builtin::PROTOCOLS.iter().map(|(name, _)| *name).collect();
            allowed(study, &error, &format!("{}, or a path", names.join(", ")))
        }),
    }
}

/// An error with the allowed values.
pub(crate) fn allowed(source: &Source, error: &Error, allowed: &str) -> Error {
    match error {
        Error::ConfigSyntax { reason, .. } => source.fail(&format!("{reason}; allowed: {allowed}")),
        other => source.fail(&format!("{other}; allowed: {allowed}")),
    }
}

/// The text of a study as TOML: its own keys over those of the study in its `base`.
pub(crate) fn layered(source: &Source) -> Result<Table> {
    let (mut table, mut below) = (source.table()?, source.clone());
    for _ in 0..MOST_LAYERS {
        below = match table.remove("base") {
            None => return Ok(table),
            Some(Value::String(base)) => match builtin::study(&base) {
                Some(text) => Source::of_text(text, &base),
                None => below
                    .beside("base", &base)
                    .map_err(|error| allowed(&below, &error, "a built-in study, or a path"))?,
            },
            Some(other) => return Err(value(source, "base", &other, "a study, as text")),
        };
        let mut base = below.table()?;
        start_at(&below, &mut base);
        for (key, value) in base {
            table.entry(key).or_insert(value);
        }
    }
    Err(source.fail(&format!("more than {MOST_LAYERS} studies build on each other by `base`")))
}

/// Makes the paths of a study independent of the file that builds on it: they start at its own
/// folder. Names of presets stay.
fn start_at(source: &Source, study: &mut Table) {
    let start = |value: &mut Value, is_name: fn(&str) -> bool| {
        if let Value::String(given) = value
            && !is_name(given)
        {
            *given = source.path(given).display().to_string();
        }
    };
    if let Some(protocol) = study.get_mut("protocol") {
        start(protocol, |name| builtin::protocol(name).is_some());
    }
    let variants = study.get_mut("variants").and_then(Value::as_array_mut);
    for variant in variants.into_iter().flatten() {
        if let Some(search) = variant.get_mut("search") {
            start(search, |name| config::Preset::named(name).is_some());
        }
        let several = variant.get_mut("genotypes").and_then(Value::as_array_mut);
        for genotype in several.into_iter().flatten() {
            start(genotype, |name| Preset::find(name).is_ok());
        }
        if let Some(genotype) = variant.get_mut("genotype") {
            start(genotype, |name| Preset::find(name).is_ok());
        }
    }
}

/// Reads a table as a structure; an error names the key.
pub(crate) fn read<T: DeserializeOwned>(source: &Source, table: Table) -> Result<T> {
    serde_path_to_error::deserialize(table).map_err(|error| {
        let (place, reason) = (error.path().to_string(), error.inner().message().to_string());
        match place.as_str() {
            "." => source.fail(&reason),
            place => source.fail(&format!("`{place}`: {reason}")),
        }
    })
}

/// An error about a value.
pub(crate) fn value(source: &Source, key: &str, value: &dyn ToString, allowed: &str) -> Error {
    Error::ConfigValue {
        origin: source.name.clone(),
        key: key.to_string(),
        value: value.to_string(),
        allowed: allowed.to_string(),
    }
}

/// A layer of sections as overrides; errors name keys with `prefix` before them.
///
/// `forbidden` is a key that the layer must not have, and the place that sets it instead.
pub(crate) fn overrides(
    layer: &Table,
    source: &Source,
    prefix: &str,
    forbidden: (&str, &str),
) -> Result<Vec<Override>> {
    let mut overrides = Vec::new();
    for (section, names) in layer {
        let Some(names) = names.as_table() else {
            let key = format!("{prefix}{section}");
            return Err(value(source, &key, names, "a section of keys, such as `search`"));
        };
        for (name, text) in names {
            let key = format!("{section}.{name}");
            if key == forbidden.0 {
                let key = format!("{prefix}{key}");
                return Err(value(source, &key, text, &format!("no value: {}", forbidden.1)));
            }
            let given = Override::of(source.name.clone(), &key, &text.to_string());
            overrides.push(Override { prefix: prefix.to_string(), ..given });
        }
    }
    Ok(overrides)
}
