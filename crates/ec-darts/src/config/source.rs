//! Sources of settings: presets and files.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{PRESETS, Preset};
use crate::{Error, Result};

/// The largest size of a file of settings, in bytes.
const LARGEST: u64 = 1 << 20;
/// The largest number of files that build on each other.
const MOST_LAYERS: usize = 16;

/// Text of settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The name in errors: the path of a file, or the name of a preset.
    pub name: String,
    /// The text, TOML.
    pub text: Cow<'static, str>,
    /// The folder at which relative paths in the text start.
    folder: PathBuf,
}

/// The kind of run that settings are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingsKind {
    /// Settings of a search, [`super::SearchConfig`].
    Search,
    /// Settings of a retraining, [`super::RetrainConfig`].
    Retrain,
    /// Two sources: of a search, and of the retraining that follows.
    WholeRun,
}

impl Source {
    /// The preset with this name, else the file at this path.
    ///
    /// # Errors
    /// [`Error::ConfigSyntax`] where neither exists, and where the file cannot be settings, such as
    /// a folder; [`Error::Io`] where the file cannot be read.
    pub fn open(given: &Path) -> Result<Self> {
        Self::open_from(given, Path::new("")).map_err(|error| match error {
            Error::Io { path, source, .. } if is_no_settings(&source) => Error::ConfigSyntax {
                origin: path.display().to_string(),
                reason: format!("cannot be read: {source}"),
            },
            other => other,
        })
    }

    /// As [`Self::open`], for a name or path that this text has as the value of `key`.
    ///
    /// # Errors
    /// [`Error::ConfigSyntax`] where neither exists.
    pub fn beside(&self, key: &str, given: &str) -> Result<Self> {
        Self::open_from(Path::new(given), &self.folder).map_err(|error| {
            let cause = match &error {
                Error::Io { source, .. } => format!(": {source}"),
                _ => String::new(),
            };
            self.fail(&format!("`{key}` is {given:?}: {error}{cause}"))
        })
    }

    /// A path that this text has, independent of the current folder.
    pub fn path(&self, given: &str) -> PathBuf {
        let path = self.folder.join(given);
        std::path::absolute(&path).unwrap_or(path)
    }

    /// Text from elsewhere. Errors name `name`; paths in the text start at the current folder.
    pub fn of_text(text: &str, name: &str) -> Self {
        let text = Cow::Owned(text.to_string());
        Self { name: name.to_string(), text, folder: PathBuf::new() }
    }

    fn open_from(given: &Path, folder: &Path) -> Result<Self> {
        if let Some(preset) = given.to_str().and_then(Preset::named) {
            let text = Cow::Borrowed(preset.text);
            return Ok(Self { name: preset.name.into(), text, folder: PathBuf::new() });
        }
        let path = folder.join(given);
        let name = path.display().to_string();
        match read(&path) {
            Ok(text) => {
                let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
                Ok(Self { name, text: text.into(), folder })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => match preset_like(given) {
                None => Err(Error::io("read", path)(error)),
                Some(preset) => {
                    let reason = format!("no such file; did you mean the preset `{preset}`?");
                    Err(Error::ConfigSyntax { origin: name, reason })
                }
            },
            Err(error) => Err(Error::io("read", path)(error)),
        }
    }

    /// The text as TOML.
    ///
    /// # Errors
    /// [`Error::ConfigSyntax`] with line and column.
    pub fn table(&self) -> Result<Table> {
        toml::from_str(&self.text).map_err(|error| self.fail(error.to_string().trim_end()))
    }

    /// This text and the texts that it builds on by `base`, the lowest first, each as TOML without
    /// `base`.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::ConfigSyntax`], also where texts build on each other in a circle.
    pub fn layers(&self) -> Result<Vec<(String, Table)>> {
        let (mut layers, mut seen) = (Vec::new(), Vec::new());
        let mut next = Some(self.clone());
        while let Some(source) = next {
            let mut table = source.table()?;
            next = match table.remove("base") {
                None => None,
                Some(Value::String(base)) => Some(source.beside("base", &base)?),
                Some(other) => {
                    let reason = format!("`base` is {other}, allowed: a preset or a path, as text");
                    return Err(source.fail(&reason));
                }
            };
            let known = source.folder.join(Path::new(&source.name).file_name().unwrap_or_default());
            seen.push(known.canonicalize().unwrap_or_else(|_| source.name.clone().into()));
            layers.push((source.name.clone(), table));
            let circle = seen.iter().filter(|path| Some(*path) == seen.last()).count() > 1;
            if circle || layers.len() > MOST_LAYERS {
                let names: Vec<&str> = layers.iter().map(|(name, _)| name.as_str()).collect();
                let reason = match circle {
                    true => format!("files build on each other in a circle: {}", names.join(", ")),
                    false => format!("more than {MOST_LAYERS} files build on each other"),
                };
                return Err(self.fail(&reason));
            }
        }
        layers.reverse();
        Ok(layers)
    }

    /// The kind of run, by the sections of the settings; none where the sections do not tell.
    ///
    /// # Errors
    /// As [`Self::layers`].
    pub fn kind(&self) -> Result<Option<SettingsKind>> {
        let layers = self.layers()?;
        let kind = |(_, table): &(String, Table)| match (table.get("search"), table.get("retrain"))
        {
            (Some(Value::String(_)), _) | (_, Some(Value::String(_))) => {
                Some(SettingsKind::WholeRun)
            }
            (_, Some(_)) => Some(SettingsKind::Retrain),
            (Some(_), None) => Some(SettingsKind::Search),
            (None, None) => None,
        };
        Ok(layers.iter().find_map(kind))
    }

    /// An error about this text.
    pub fn fail(&self, reason: &str) -> Error {
        Error::ConfigSyntax { origin: self.name.clone(), reason: reason.to_string() }
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let size = File::open(path)?.take(LARGEST + 1).read_to_string(&mut text)?;
    match size as u64 > LARGEST {
        true => Err(io::Error::new(io::ErrorKind::InvalidData, "above 1 MiB, so no settings")),
        false => Ok(text),
    }
}

/// Whether a path leads to no settings; else the disk or the permissions are at fault.
fn is_no_settings(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, IsADirectory, NotADirectory, NotFound};
    matches!(error.kind(), InvalidData | IsADirectory | NotADirectory | NotFound)
}

/// The preset that the user probably meant by a path that does not exist.
fn preset_like(given: &Path) -> Option<&'static str> {
    let stem = given.file_stem()?.to_str()?;
    super::nearest(stem, PRESETS.iter().map(|preset| preset.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, text).expect("written");
        }
        folder
    }

    #[test]
    fn names_are_presets_and_paths_are_files() {
        let folder = folder(&[("quick.toml", "a = 1"), ("sub/b.toml", "base = '../quick.toml'")]);
        let file = Source::open(&folder.path().join("quick.toml")).expect("there");
        assert_eq!(file.text, "a = 1");
        let preset = Source::open(Path::new("quick")).expect("a preset");
        assert_eq!(preset.text, Preset::named("quick").expect("there").text);
        let layers = Source::open(&folder.path().join("sub/b.toml")).expect("there").layers();
        let layers = layers.expect("beside the file");
        assert_eq!((layers.len(), layers[0].1.len(), layers[1].1.len()), (2, 1, 0));
    }

    #[test]
    fn what_is_not_there_is_told_with_the_nearest_name() {
        let told = |given: &str| Source::open(Path::new(given)).expect_err("not there").to_string();
        assert_eq!(told("quik"), "quik: no such file; did you mean the preset `quick`?");
        let expected = "configs/search_folder.toml: no such file; did you mean the preset \
                        `search_folder`?";
        assert_eq!(told("configs/search_folder.toml"), expected);
        let gone = told("mine.toml");
        assert!(gone.starts_with("mine.toml: cannot be read: "), "{gone}");
        assert!(told("/").contains("read"), "{}", told("/"));
    }

    #[test]
    fn what_cannot_be_settings_is_a_fault_of_the_settings() {
        let folder = folder(&[("a.toml", "a = 1")]);
        std::fs::write(folder.path().join("latin.toml"), [b'#', 0xe9]).expect("written");
        for name in ["gone.toml", "latin.toml"] {
            let error = Source::open(&folder.path().join(name)).expect_err("no settings");
            assert!(matches!(error, Error::ConfigSyntax { .. }), "{name}: {error}");
        }
    }

    #[test]
    fn circles_and_long_chains_are_refused() {
        let folder = folder(&[
            ("a.toml", "base = 'b.toml'"),
            ("b.toml", "base = 'sub/../a.toml'"),
            ("sub/self.toml", "base = 'self.toml'"),
            ("c.toml", "base = 3"),
            ("d.toml", "base = 'gone.toml'"),
        ]);
        let told = |name: &str| {
            let source = Source::open(&folder.path().join(name)).expect("there");
            source.layers().expect_err("no layers").to_string()
        };
        for name in ["a.toml", "b.toml", "sub/self.toml"] {
            assert!(told(name).contains("build on each other in a circle"), "{}", told(name));
        }
        assert!(told("c.toml").contains("`base` is 3, allowed: a preset or a path"));
        let gone = told("d.toml");
        assert!(gone.contains("d.toml: `base` is \"gone.toml\": cannot read"), "{gone}");
        for number in 0..20 {
            let path = folder.path().join(format!("chain{number}.toml"));
            std::fs::write(path, format!("base = 'chain{}.toml'", number + 1)).expect("written");
        }
        assert!(told("chain0.toml").contains("more than 16 files build on each other"));
    }

    #[test]
    fn every_preset_says_what_it_is() {
        for preset in PRESETS {
            assert!(preset.text.starts_with("# "), "{}", preset.name);
            let summary = preset.summary();
            assert!((20..110).contains(&summary.len()), "{}: {summary}", preset.name);
            assert!(summary.ends_with('.'), "{}: {summary}", preset.name);
        }
    }
}
