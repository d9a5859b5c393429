//! From files and overrides to checked settings, layer by layer.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use toml::{Table, Value};

use super::{DataConfig, Override, Preset, RunConfig, SettingsKind, Source};
use crate::{Error, Result};

/// Settings of one kind of run: read from TOML, changed by overrides, checked.
pub trait Settings: Clone + Serialize + DeserializeOwned {
    /// The kind of run.
    const KIND: SettingsKind;
    /// The preset with the settings of the paper. It gives every key a value or leaves it off.
    const PAPER: &'static str;

    /// Checks every value; errors name `origin`.
    ///
    /// # Errors
    /// [`Error::ConfigValue`] for the first value that is not allowed.
    fn validate(&self, origin: &str) -> Result<()>;

    /// Settings of the machine.
    fn run(&self) -> &RunConfig;

    /// Settings of the images.
    fn data(&self) -> &DataConfig;

    /// The settings of the paper.
    fn paper() -> Self {
        let text = Preset::named(Self::PAPER).expect("a preset of ours").text;
        toml::from_str(text).expect("a test reads every preset")
    }

    /// The settings of a preset.
    ///
    /// # Errors
    /// [`Error::ConfigSyntax`] where no preset has this name, or where it is a preset of another
    /// kind.
    fn preset(name: &str) -> Result<Self> {
        Self::from_source(&Source::open(Path::new(name))?)
    }

    /// Reads a preset or a file, applies overrides `key=value`, and checks every value.
    ///
    /// The file must be valid by itself; see [`Override`] for the overrides.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::ConfigSyntax`] or [`Error::ConfigValue`]; each names the file or
    /// override, the key, the value and the allowed values.
    fn load(path: &Path, overrides: &[String]) -> Result<Self> {
        Self::from_source(&Source::open(path)?)?.with(overrides)
    }

    /// Reads settings from text; errors name `origin`.
    ///
    /// # Errors
    /// As [`Self::load`].
    fn from_toml(text: &str, origin: &str) -> Result<Self> {
        Self::from_source(&Source::of_text(text, origin))
    }

    /// Reads settings and the settings that they build on.
    ///
    /// # Errors
    /// As [`Self::load`].
    fn from_source(source: &Source) -> Result<Self> {
        if let Some(kind) = source.kind()?
            && kind != Self::KIND
        {
            let (found, wanted) = (kind.describe(), Self::KIND.describe());
            return Err(source.fail(&format!("settings of {found}, not of {wanted}")));
        }
        let mut config = None;
        for (name, table) in source.layers()? {
            let of_layer = |reason| Error::ConfigSyntax { origin: name.clone(), reason };
            let laid: Self = lay(config.as_ref(), table, "").map_err(of_layer)?;
            laid.validate(&name)?;
            config = Some(laid);
        }
        Ok(config.expect("a source has a layer"))
    }

    /// These settings as TOML, for [`Self::from_toml`].
    ///
    /// # Panics
    /// Where a seed is above 2^63 - 1, which [`Self::validate`] refuses.
    fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("settings are plain values")
    }

    /// These settings with overrides `key=value`; the last override of a key counts, see
    /// [`Override`].
    ///
    /// # Errors
    /// [`Error::ConfigSyntax`] or [`Error::ConfigValue`], naming the override.
    fn with(self, overrides: &[String]) -> Result<Self> {
        let parsed: Result<Vec<Override>> =
            overrides.iter().map(|set| Override::set(set)).collect();
        self.overridden(&parsed?)
    }

    /// These settings with overrides; the last override of a key counts.
    ///
    /// Ranges are checked after all overrides, so that their order does not matter.
    ///
    /// # Errors
    /// As [`Self::with`].
    fn overridden(self, overrides: &[Override]) -> Result<Self> {
        self.validate("the settings")?;
        let mut config = self;
        for each in overrides {
            config = lay(Some(&config), each.table(), &each.prefix)
                .map_err(|reason| each.fail(reason))?;
        }
        config.validate("").map_err(|error| Override::blame(overrides, error))?;
        Ok(config)
    }

    /// The first difference between two runs in a setting that changes the result.
    fn difference(&self, other: &Self) -> Option<String> {
        // Other kernels round differently, and training amplifies the difference.
        let matters = |key: &&String| {
            let how = key.starts_with("run.") && *key != "run.kernels";
            !how && *key != "data.cache_mib"
        };
        let (ours, theirs) = (self.settings(), other.settings());
        let key = ours.keys().filter(matters).find(|&key| ours.get(key) != theirs.get(key))?;
        let [ours, theirs] = [&ours, &theirs].map(|settings| match settings.get(key) {
            None | Some(Json::Null) => "not set".to_string(),
            Some(value) => value.to_string(),
        });
        Some(format!("{key} is {ours} here and {theirs} there"))
    }

    /// Every setting by its key `section.name`; a setting that is off is null.
    fn settings(&self) -> BTreeMap<String, Json> {
        // JSON holds any count, also in settings before validation; TOML does not.
        let all = serde_json::to_value(self).expect("settings are plain values");
        let mut settings = BTreeMap::new();
        for (section, names) in all.as_object().into_iter().flatten() {
            for (name, value) in names.as_object().into_iter().flatten() {
                settings.insert(format!("{section}.{name}"), value.clone());
            }
        }
        settings
    }
}

impl SettingsKind {
    /// The kind of run in words.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Search => "a search",
            Self::Retrain => "a retraining",
            Self::WholeRun => "a whole run",
        }
    }
}

/// The settings of a layer laid over those below it, or the reason why they are not valid. `prefix`
/// stands before keys in the reason, as the user typed them.
fn lay<C: Settings>(below: Option<&C>, layer: Table, prefix: &str) -> Result<C, String> {
    let below = below.map(|config| Table::try_from(config).expect("valid settings fit TOML"));
    let mut table = below.unwrap_or_default();
    let off = merge(&mut table, layer, &C::paper().settings(), prefix)?;
    let read = serde_path_to_error::deserialize(table);
    let config: C = read.map_err(|error: serde_path_to_error::Error<toml::de::Error>| {
        let (place, reason) = (error.path().to_string(), error.inner().message());
        match reason.strip_prefix("missing field `") {
            None => format!("`{prefix}{place}`: {}", without_types(reason)),
            Some(name) => needs_a_value::<C>(&place, name.trim_end_matches('`'), &off, prefix),
        }
    })?;
    let settings = config.settings();
    match off.into_iter().find(|key| settings[key] != Json::Null) {
        Some(key) => Err(format!("`{prefix}{key}` cannot be off, it needs a value")),
        None => Ok(config),
    }
}

/// A reason without names of Rust types.
fn without_types(reason: &str) -> String {
    let (found, expected) = reason.rsplit_once(", expected ").unwrap_or((reason, ""));
    match expected {
        "" => reason.to_string(),
        "usize" | "u64" | "u32" => format!("{found}, expected a whole number of 0 or more"),
        "f64" => format!("{found}, expected a number"),
        other => format!("{found}, expected {other}"),
    }
}

/// Copies the values of a layer into a table; returns the keys that `"none"` turns off.
fn merge(
    table: &mut Table,
    layer: Table,
    known: &BTreeMap<String, Json>,
    prefix: &str,
) -> Result<Vec<String>, String> {
    let mut off = Vec::new();
    for (section, values) in layer {
        let inside = format!("{section}.");
        let is_section = known.keys().any(|key| key.starts_with(&inside));
        let values = match values {
            Value::Table(values) => values,
            _ if !is_section => return Err(unknown(&section, known.keys(), prefix)),
            other => {
                return Err(format!("`{prefix}{section}` is {other}, allowed: a section of keys"));
            }
        };
        if !is_section && values.is_empty() {
            return Err(unknown(&section, known.keys(), prefix));
        }
        for (name, value) in values {
            let key = format!("{section}.{name}");
            if !known.contains_key(&key) {
                return Err(unknown(&key, known.keys(), prefix));
            }
            let names = table.entry(&section).or_insert_with(|| Value::Table(Table::new()));
            let names = names.as_table_mut().expect("a section");
            if value.as_str() == Some("none") {
                names.remove(&name);
                off.push(key);
            } else {
                names.insert(name, value);
            }
        }
    }
    Ok(off)
}

/// The reason about a key that needs a value and has none.
fn needs_a_value<C: Settings>(section: &str, name: &str, off: &[String], prefix: &str) -> String {
    let key = if section == "." { name.to_string() } else { format!("{section}.{name}") };
    if off.contains(&key) {
        return format!("`{prefix}{key}` cannot be off, it needs a value");
    }
    let paper = C::PAPER;
    format!(
        "`{prefix}{key}` is missing; settings give every key, or build on others: base = \"{paper}\""
    )
}

/// The reason about an unknown key; it suggests the same name in another section, or the most
/// similar key.
fn unknown<'a>(key: &str, known: impl Iterator<Item = &'a String> + Clone, prefix: &str) -> String {
    let name = key.rsplit('.').next().unwrap_or(key);
    let listed = |keys: Vec<&str>| {
        let keys: Vec<String> = keys.iter().map(|key| format!("`{prefix}{key}`")).collect();
        keys.join(", ")
    };
    let split = known.clone().filter_map(|key| key.split_once('.'));
    let same_name = known.clone().filter(|known| known.ends_with(&format!(".{name}")));
    let same_name: Vec<&str> = same_name.map(String::as_str).collect();
    let mut sections: Vec<&str> = split.clone().map(|(section, _)| section).collect();
    sections.dedup();
    let meant = if let Some(nearest) = nearest(key, known.clone().map(String::as_str)) {
        format!("did you mean {}?", listed(vec![nearest]))
    } else if !same_name.is_empty() {
        format!("did you mean {}?", listed(same_name))
    } else if let Some(name) = nearest(name, split.map(|(_, name)| name)) {
        let keys = known.clone().filter(|known| known.ends_with(&format!(".{name}")));
        format!("did you mean {}?", listed(keys.map(String::as_str).collect()))
    } else {
        format!("keys are {prefix}SECTION.NAME, sections: {}", sections.join(", "))
    };
    format!("no setting `{prefix}{key}`; {meant}")
}

/// The most similar of some names, if any is similar.
pub(super) fn nearest<'a>(given: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // The comparison takes memory in proportion to the length, and no name of ours is that long.
    let given = Some(given).filter(|given| given.len() < 100)?;
    let similar = |name: &&str| strsim::normalized_damerau_levenshtein(given, name);
    let best = names.max_by(|a, b| similar(a).total_cmp(&similar(b)))?;
    (similar(&best) >= 0.75).then_some(best)
}

#[cfg(test)]
mod tests;
