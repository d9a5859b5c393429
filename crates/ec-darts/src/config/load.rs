//! From files and `--set` to checked settings.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use toml::{Table, Value};

use super::RunConfig;
use crate::{Error, Result};

/// Settings of one kind of run: read from TOML, changed by `--set`, checked.
pub trait Settings: Clone + Serialize + DeserializeOwned {
    /// Checks every value; `origin` is named in errors.
    ///
    /// # Errors
    /// [`Error::ConfigValue`] for the first value that is not allowed.
    fn validate(&self, origin: &str) -> Result<()>;

    /// How the work is done.
    fn run(&self) -> &RunConfig;

    /// Reads a file, applies overrides `key=value`, and checks every value.
    ///
    /// The file must be valid by itself; see [`Self::with`] for the overrides.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::ConfigSyntax`] or [`Error::ConfigValue`], naming file or override,
    /// key, value and what is allowed.
    fn load(path: &Path, overrides: &[String]) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        Self::from_toml(&text, &path.display().to_string())?.with(overrides)
    }

    /// Reads settings from text; `origin` is named in errors.
    ///
    /// # Errors
    /// [`Error::ConfigSyntax`] or [`Error::ConfigValue`].
    fn from_toml(text: &str, origin: &str) -> Result<Self> {
        let config: Self = toml::from_str(text).map_err(|error| Error::ConfigSyntax {
            origin: origin.to_string(),
            reason: error.to_string().trim_end().to_string(),
        })?;
        config.validate(origin)?;
        Ok(config)
    }

    /// These settings as TOML that [`Self::from_toml`] reads back.
    fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("settings are plain values")
    }

    /// These settings with overrides `key=value`, the last of a key counting.
    ///
    /// A value is TOML; a bare word is text, and `none` or nothing turns an optional key off.
    /// Ranges are checked when all are applied, so that their order does not matter.
    ///
    /// # Errors
    /// [`Error::ConfigSyntax`] or [`Error::ConfigValue`], naming the override.
    fn with(self, overrides: &[String]) -> Result<Self> {
        self.validate("the settings")?;
        let mut table = Table::try_from(&self).expect("valid settings fit TOML");
        let mut config = self;
        for given in overrides {
            config = override_one(&mut table, given)?;
        }
        config.validate(&format!("--set {}", overrides.join(" --set ")))?;
        Ok(config)
    }

    /// The first setting in which two runs differ, where it matters for the result.
    fn difference(&self, other: &Self) -> Option<String> {
        // Other kernels round otherwise, and training makes much of little.
        let matters = |key: &&String| {
            let how = key.starts_with("run.") && *key != "run.kernels";
            !how && *key != "data.cache_mib"
        };
        let (ours, theirs) = (self.settings(), other.settings());
        let mut keys = ours.keys().chain(theirs.keys()).filter(matters);
        let key = keys.find(|&key| ours.get(key) != theirs.get(key))?;
        let [ours, theirs] = [&ours, &theirs]
            .map(|all| all.get(key).map_or_else(|| "not set".to_string(), Json::to_string));
        Some(format!("{key} is {ours} here and {theirs} there"))
    }

    /// Every setting that is given, by its key `section.name`.
    fn settings(&self) -> BTreeMap<String, Json> {
        // JSON, not TOML: it holds any count, also of settings that were not validated.
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

fn override_one<C: Settings>(table: &mut Table, given: &str) -> Result<C> {
    let fail = |reason| Error::ConfigSyntax { origin: format!("--set {given}"), reason };
    let (key, text) = given.split_once('=').ok_or_else(|| fail("expected KEY=VALUE".into()))?;
    let (key, text) = (key.trim(), text.trim());
    let known = key.split_once('.').filter(|(section, _)| table.contains_key(*section));
    let (section, name) = known.ok_or_else(|| fail(unknown(key, table)))?;
    let mut read = |value| read_with(table, section, name, value);
    if !matches!(text, "" | "none") {
        return read(Some(value(text))).map_err(|reason| fail(format!("`{key}`: {reason}")));
    }
    // Without a value, a key that does not exist would be as good as one that is off.
    if let Err(reason) = read(Some(Value::Boolean(true)))
        && reason.starts_with("unknown field")
    {
        return Err(fail(format!("`{key}`: {reason}")));
    }
    read(None).map_err(|_| fail(format!("`{key}` cannot be off, it needs a value")))
}

/// The settings with one of them changed or removed, or why there are none.
fn read_with<C: Settings>(
    table: &mut Table,
    section: &str,
    name: &str,
    value: Option<Value>,
) -> Result<C, String> {
    if let Some(Value::Table(settings)) = table.get_mut(section) {
        match value {
            Some(value) => settings.insert(name.to_string(), value),
            None => settings.remove(name),
        };
    }
    let config = table.clone().try_into();
    config.map_err(|error: toml::de::Error| error.message().to_string())
}

/// TOML where it is TOML, else text.
fn value(text: &str) -> Value {
    let parsed = toml::from_str::<Table>(&format!("value = {text}")).ok();
    let single = parsed.filter(|table| table.len() == 1);
    let value = single.and_then(|mut table| table.remove("value"));
    value.unwrap_or_else(|| Value::String(text.to_string()))
}

fn unknown(key: &str, table: &Table) -> String {
    let name = key.rsplit('.').next().unwrap_or(key);
    let has = |settings: &Value| settings.as_table().is_some_and(|names| names.contains_key(name));
    let full = table.iter().filter(|(_, settings)| has(settings));
    let full: Vec<String> = full.map(|(section, _)| format!("`{section}.{name}`")).collect();
    let sections: Vec<&str> = table.keys().map(String::as_str).collect();
    let meant = match full.as_slice() {
        [] => format!("keys are SECTION.NAME, sections: {}", sections.join(", ")),
        full => format!("allowed: {}", full.join(", ")),
    };
    format!("no setting `{key}`; {meant}")
}

#[cfg(test)]
mod tests {
    use super::super::SearchConfig;
    use super::*;

    fn check(overrides: &[&str], expected: &str) {
        let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
        let message = match SearchConfig::cifar10().with(&overrides) {
            Ok(config) => config.to_toml(),
            Err(error) => error.to_string(),
        };
        assert!(message.contains(expected), "{overrides:?}: {message}");
    }

    #[test]
    fn overrides_are_toml_or_bare_words() {
        check(&["weights.momentum=0.5"], "momentum = 0.5");
        check(&["weights.learning_rate=1"], "learning_rate = 1.0");
        check(&["search.order=sequential"], "order = \"sequential\"");
        check(&["search.order='sequential'"], "order = \"sequential\"");
        check(&["search.steps_per_epoch=7"], "steps_per_epoch = 7");
        check(&["network.primitives=['none', 'skip_connect']"], "\"skip_connect\",\n]");
        check(&["search.seed=1", "search.seed=9"], "seed = 9");
        check(&[" weights.momentum = 0.5 "], "momentum = 0.5");
        for off in ["weights.clip_norm=none", "weights.clip_norm="] {
            let without = SearchConfig::cifar10().with(&[off.into()]);
            assert_eq!(without.expect("optional").weights.clip_norm, None);
        }
        let off = ["data.cutout=none".to_string()];
        assert_eq!(SearchConfig::cifar10().with(&off).expect("off"), SearchConfig::cifar10());
    }

    #[test]
    fn overrides_that_depend_on_each_other_come_in_any_order() {
        let (most, least) = ("weights.learning_rate=5e-4", "weights.min_learning_rate=1e-4");
        check(&[most, least], "min_learning_rate = 0.0001");
        check(&[least, most], "learning_rate = 0.0005");
        check(&[most], "--set weights.learning_rate=5e-4: `weights.min_learning_rate` is 0.001");
    }

    #[test]
    fn settings_beyond_toml_are_refused() {
        let mut config = SearchConfig::cifar10();
        config.search.seed = u64::MAX;
        let message = config.with(&["search.epochs=3".into()]).expect_err("seed").to_string();
        assert!(message.starts_with("the settings: `search.seed` is 18446744073709551615"));
    }

    #[test]
    fn wrong_overrides_say_what_is_right() {
        check(
            &["weights.momentun=0.5"],
            "unknown field `momentun`, expected one of `learning_rate`",
        );
        check(&["weights.clip_nrom=none"], "`weights.clip_nrom`: unknown field `clip_nrom`");
        check(&["momentum=0.5"], "no setting `momentum`; allowed: `weights.momentum`");
        check(&["optimizer.learning_rate=1"], "`alpha.learning_rate`, `weights.learning_rate`");
        check(&["search=1"], "no setting `search`; keys are SECTION.NAME");
        check(&["speed=1"], "no setting `speed`; keys are SECTION.NAME, sections: alpha, data");
        check(&["engine.speed=1"], "sections: alpha, data");
        check(&["weights.momentum"], "expected KEY=VALUE");
        check(&["weights.momentum=fast"], "`weights.momentum`: invalid type: string \"fast\"");
        check(&["weights.momentum=none"], "`weights.momentum` cannot be off");
        check(&["weights.momentum=1.5"], "`weights.momentum` is 1.5, allowed: 0 <= momentum < 1");
        check(
            &["search.relaxation=hard"],
            "unknown variant `hard`, expected `softmax` or `cross-edge`",
        );
        check(&["search.batch_size=-3"], "invalid value: integer `-3`");
    }

    #[test]
    fn files_are_strict() {
        let text = SearchConfig::quick().to_toml();
        let check = |from: &str, to: &str, expected: &str| {
            let text = text.replacen(from, to, 1);
            let error = SearchConfig::from_toml(&text, "some.toml").expect_err(expected);
            let message = error.to_string();
            assert!(message.starts_with("some.toml: ") && message.contains(expected), "{message}");
        };
        check("flip = true", "flip = 3", "invalid type: integer `3`, expected a boolean");
        check("flip = true", "flop = true", "unknown field `flop`");
        check("flip = true", "", "missing field `flip`");
        check("flip = true", "flip =", "line 4, column 7");
        check("seed = 2", "seed = 18446744073709551615", "`search.seed` is 18446744073709551615");
        check("\"sep_conv_3x3\"", "\"sep_conv_7x7\"", "sep_conv_7x7");
    }

    #[test]
    fn resolved_settings_read_back() {
        for (name, preset) in super::super::PRESETS {
            let config = preset();
            let read = SearchConfig::from_toml(&config.to_toml(), name).expect("its own text");
            assert_eq!(read, config, "{name}");
        }
    }
}
