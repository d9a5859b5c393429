//! Single settings changed on the command line.

use toml::{Table, Value};

use crate::{Error, Result};

/// A new value for one setting, as the user gave it: `--set search.epochs=50`.
///
/// A value is TOML; a bare word is text, and `none` or an empty value turns an optional key off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The option as the user typed it, for errors.
    pub typed: String,
    /// The prefix of the key in the typed text, such as `retrain.` in a whole run.
    pub prefix: String,
    /// The key `section.name`.
    pub key: String,
    /// The text of the value.
    pub value: String,
}

impl Override {
    /// The override `KEY=VALUE` of an option `--set`.
    ///
    /// # Errors
    /// [`Error::ConfigSyntax`] where there is no `=`.
    pub fn set(given: &str) -> Result<Self> {
        let typed = format!("--set {given}");
        match given.split_once('=') {
            Some((key, value)) => Ok(Self::of(typed, key, value)),
            None => Err(Error::ConfigSyntax { origin: typed, reason: "expected KEY=VALUE".into() }),
        }
    }

    /// The override of a key that has its own option, such as `--epochs 5`.
    pub fn of(typed: String, key: &str, value: &str) -> Self {
        let (key, value) = (key.trim().to_string(), value.trim().to_string());
        Self { typed, prefix: String::new(), key, value }
    }

    /// The same override for one stage, where the key begins with the stage's name.
    pub fn in_stage(&self, stage: &str) -> Option<Self> {
        let prefix = format!("{stage}.");
        let key = self.key.strip_prefix(&prefix)?.to_string();
        Some(Self { key, prefix, ..self.clone() })
    }

    /// This override as a layer of settings.
    pub(super) fn table(&self) -> Table {
        let value = match self.value.as_str() {
            "" => Value::String("none".into()),
            text => value(text),
        };
        let mut table = Table::new();
        match self.key.split_once('.') {
            Some((section, name)) => {
                let mut names = Table::new();
                names.insert(name.to_string(), value);
                table.insert(section.to_string(), Value::Table(names));
            }
            // No section is given: the reader lists the sections.
            None => {
                table.insert(self.key.clone(), value);
            }
        }
        table
    }

    pub(super) fn fail(&self, reason: String) -> Error {
        Error::ConfigSyntax { origin: self.typed.clone(), reason }
    }

    /// An error about a value of settings, with the override that set it as its origin.
    pub(super) fn blame(overrides: &[Self], error: Error) -> Error {
        let Error::ConfigValue { key, value, allowed, .. } = error else { return error };
        let mut all: Vec<&str> = overrides.iter().map(|each| each.typed.as_str()).collect();
        all.dedup();
        let of_key = overrides.iter().rev().find(|each| each.key == key);
        let origin = of_key.map_or_else(|| all.join(" "), |each| each.typed.clone());
        let prefix = of_key.or(overrides.first()).map_or("", |each| &each.prefix);
        Error::ConfigValue { origin, key: format!("{prefix}{key}"), value, allowed }
    }
}

/// The value as TOML where it is TOML, else as text.
fn value(text: &str) -> Value {
    let parsed = toml::from_str::<Table>(&format!("value = {text}")).ok();
    let single = parsed.filter(|table| table.len() == 1);
    let value = single.and_then(|mut table| table.remove("value"));
    value.unwrap_or_else(|| Value::String(text.to_string()))
}
