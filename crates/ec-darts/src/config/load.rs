//! From files and `--set` to checked settings.

use std::collections::BTreeMap;
use std::path::Path;

use toml::{Table, Value};

use super::SearchConfig;
use crate::{Error, Result};

impl SearchConfig {
    /// Reads a file, applies overrides `key=value` in order, and checks every value.
    ///
    /// An override's value is TOML; a bare word is text, and `none` removes an optional key.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::ConfigSyntax`] or [`Error::ConfigValue`], naming file or override,
    /// key, value and what is allowed.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        Self::from_toml(&text, &path.display().to_string())?.with(overrides)
    }

    /// Reads settings from text; `origin` is named in errors.
    ///
    /// # Errors
    /// [`Error::ConfigSyntax`] or [`Error::ConfigValue`].
    pub fn from_toml(text: &str, origin: &str) -> Result<Self> {
        let config: Self = toml::from_str(text).map_err(|error| Error::ConfigSyntax {
            origin: origin.to_string(),
            reason: error.to_string().trim_end().to_string(),
        })?;
        config.validate(origin)?;
        Ok(config)
    }

    /// These settings with overrides `key=value` applied in order.
    ///
    /// # Errors
    /// [`Error::ConfigSyntax`] or [`Error::ConfigValue`], naming the override.
    pub fn with(self, overrides: &[String]) -> Result<Self> {
        overrides.iter().try_fold(self, |config, given| config.with_one(given))
    }

    fn with_one(self, given: &str) -> Result<Self> {
        let origin = format!("--set {given}");
        let fail = |reason: String| Error::ConfigSyntax { origin: origin.clone(), reason };
        let (key, text) =
            given.split_once('=').ok_or_else(|| fail("expected KEY=VALUE".to_string()))?;
        let mut table = Table::try_from(&self).expect("settings are plain values");
        let (section, name) =
            key.split_once('.').ok_or_else(|| fail(unknown(key, &table)))?;
        let settings = match table.get_mut(section) {
            Some(Value::Table(settings)) => settings,
            _ => return Err(fail(unknown(key, &table))),
        };
        if text == "none" && name != "primitives" {
            settings.remove(name);
        } else {
            settings.insert(name.to_string(), value(text));
        }
        let config: Self = Value::Table(table).try_into().map_err(|error: toml::de::Error| {
            let message = error.message();
            if message.starts_with("unknown field") || message.starts_with("missing field") {
                let table = Table::try_from(&self).expect("settings are plain values");
                fail(format!("{message}{}", allowed_beside(key, &table)))
            } else {
                fail(format!("`{key}`: {message}"))
            }
        })?;
        config.validate(&origin)?;
        Ok(config)
    }
}

/// TOML where it is TOML, else text.
fn value(text: &str) -> Value {
    let parsed = toml::from_str::<Table>(&format!("value = {text}")).ok();
    let value = parsed.and_then(|mut table| table.remove("value"));
    match value {
        // `learning_rate=1` means 1.0; serde takes an integer for a float by itself.
        Some(value) => value,
        None => Value::String(text.to_string()),
    }
}

fn unknown(key: &str, table: &Table) -> String {
    let sections: Vec<&str> = table.keys().map(String::as_str).collect();
    format!("no setting `{key}`; keys are SECTION.NAME, sections: {}", sections.join(", "))
}

fn allowed_beside(key: &str, table: &Table) -> String {
    let section = key.split('.').next().unwrap_or_default();
    let keys: Vec<String> =
        flatten(table).into_keys().filter(|key| key.starts_with(&format!("{section}."))).collect();
    format!(" (`{key}`; set here: {})", keys.join(", "))
}

/// Every key with its section, and its value as TOML.
pub(super) fn flatten(table: &Table) -> BTreeMap<String, String> {
    let mut flat = BTreeMap::new();
    for (section, settings) in table {
        if let Value::Table(settings) = settings {
            for (name, value) in settings {
                flat.insert(format!("{section}.{name}"), value.to_string());
            }
        }
    }
    flat
}

#[cfg(test)]
mod tests {
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
        let without = SearchConfig::cifar10().with(&["weights.clip_norm=none".into()]);
        assert_eq!(without.expect("optional").weights.clip_norm, None);
    }

    #[test]
    fn wrong_overrides_say_what_is_right() {
        check(&["weights.momentun=0.5"], "unknown field `momentun`, expected one of `learning_rate`");
        check(&["speed=1"], "no setting `speed`; keys are SECTION.NAME, sections: alpha, data");
        check(&["engine.speed=1"], "sections: alpha, data");
        check(&["weights.momentum"], "expected KEY=VALUE");
        check(&["weights.momentum=fast"], "`weights.momentum`: invalid type: string \"fast\"");
        check(&["weights.momentum=none"], "missing field `momentum`");
        check(&["weights.momentum=1.5"], "`weights.momentum` is 1.5, allowed: 0 <= momentum < 1");
        check(&["search.relaxation=hard"], "unknown variant `hard`, expected `softmax` or `cross-edge`");
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
        check("flip = true", "flip =", "line ");
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
