//! A trial: one search or one training, its run folder, its process and its outcome.

use std::fmt::Display;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::Path;

use ec_darts::config::{RetrainConfig, SearchConfig, Settings};
use ec_darts::files::write;
use ec_darts::{Error, Result};
use ec_darts_space::Genotype;
use serde::{Deserialize, Serialize};

use crate::genotypes::{key, returned};
use crate::results::Cost;

/// A file in a trial's folder: a [`Record`].
const RECORD: &str = "trial.json";
/// A file in a trial's folder, locked by the process that works on it; it names this process.
const CLAIM: &str = "claim";

/// One search or one training.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// Path of its run folder in the folder of the study: `searches/darts-s0`,
    /// `trainings/0123456789ab-s0`.
    pub name: String,
    /// The search or training.
    pub work: Work,
}

/// The work of a trial.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// A search with these settings.
    Search(Box<SearchConfig>),
    /// A training of a genotype in its canonical form.
    Training {
        /// The genotype.
        genotype: Genotype,
        /// The settings of the training.
        config: Box<RetrainConfig>,
    },
}

impl Trial {
    /// Returns an error where the folder of the trial has a run with other settings, or a finished
    /// training of another genotype.
    pub(crate) fn check(&self, study: &Path) -> Result<()> {
        let folder = study.join(&self.name);
        match &self.work {
            Work::Search(config) => check(&folder, &**config),
            Work::Training { genotype, config } => {
                check(&folder, &**config)?;
                if is_done(&folder) {
                    let trained = returned(&folder).map_err(unread(&folder))?;
                    if key(&trained) != key(genotype) {
                        let fault = "genotype.json is that of another training";
                        return Err(damaged(&folder, &fault));
                    }
                }
                Ok(())
            }
        }
    }

    /// Its state, as its folder tells.
    pub fn state(&self, study: &Path) -> State {
        let folder = study.join(&self.name);
        let record = Record::read(&folder);
        match record {
            Some(Record { ending: Some(Ended::Done), .. }) => State::Done,
            _ if Claim::is_held(&folder) => State::Running { by: Claim::holder(&folder) },
            Some(Record { ending: Some(Ended::Failed(error)), .. }) => State::Failed { error },
            Some(_) => State::Begun,
            None => State::Ready,
        }
    }
}

/// The error for a file of a finished trial that cannot be its own, with the remedy.
pub(crate) fn damaged(folder: &Path, fault: &dyn Display) -> Error {
    let remedy = "remove trial.json there, and the next run finishes the trial again from its checkpoint; without \
                  checkpoints, remove the folder";
    let reason = format!("a finished trial whose result counts for nothing: {fault}; {remedy}");
    Error::Folder { path: folder.to_path_buf(), reason }
}

/// The error for a file of a finished trial that cannot be read: an error of the system is no damage.
pub(crate) fn unread(folder: &Path) -> impl Fn(Error) -> Error {
    let folder = folder.to_path_buf();
    move |error| match error {
        Error::Io { ref source, .. } => match source.kind() {
            ErrorKind::NotFound | ErrorKind::InvalidData => {
                damaged(&folder, &format!("{error}: {source}"))
            }
            _ => error,
        },
        error => damaged(&folder, &error),
    }
}

fn is_done(folder: &Path) -> bool {
    Record::read(folder).is_some_and(|record| record.is_done())
}

fn check<C: Settings>(folder: &Path, config: &C) -> Result<()> {
    let path = folder.join("config.toml");
    let is_done = is_done(folder);
    let there = match path.exists().then(|| C::load(&path, &[])) {
        Some(Ok(there)) => there,
        // A damaged file is written again from the checkpoint, which has the settings too. A trial that is done is
        // never resumed.
        _ if !is_done => return Ok(()),
        Some(Err(error)) => return Err(unread(folder)(error)),
        None => return Err(damaged(folder, &"config.toml is not there")),
    };
    match config.difference(&there) {
        None => Ok(()),
        Some(difference) => Err(Error::Folder {
            path: folder.to_path_buf(),
            reason: format!(
                "holds a trial with other settings: {difference}; results under different settings are never \
                 mixed: undo the change, or run the changed study in another folder"
            ),
        }),
    }
}

/// State of a trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum State {
    /// No process has begun it.
    Ready,
    /// It was stopped or killed before its end, and continues from its checkpoint.
    Begun,
    /// A process works on it.
    Running {
        /// Machine and process, where known.
        by: String,
    },
    /// It ended in an error.
    Failed {
        /// The error with its causes.
        error: String,
    },
    /// It is done.
    Done,
}

impl State {
    /// The state's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Begun => "begun",
            Self::Running { .. } => "running",
            Self::Failed { .. } => "failed",
            Self::Done => "done",
        }
    }
}

/// End of a trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Ended {
    Done,
    Failed(String),
}

/// The file that a trial has beside its run: end and cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    /// The outcome; none while it is running.
    pub ending: Option<Ended>,
    pub cost: Cost,
}

impl Record {
    /// The record; none where it is absent or damaged, so that the trial continues from its last
    /// checkpoint.
    pub fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(folder.join(RECORD)).ok()?).ok()
    }

    pub fn write(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).expect("finite numbers");
        write(&folder.join(RECORD), &text)
    }

    pub fn is_done(&self) -> bool {
        self.ending == Some(Ended::Done)
    }
}

/// The right to work on a trial: an advisory lock, which the operating system releases at the end
/// of a process, however it ends.
#[derive(Debug)]
pub(crate) struct Claim {
    _file: File,
}

impl Claim {
    /// Takes the claim; none where another process has it.
    ///
    /// # Errors
    /// [`Error::Io`] where the file system does not support locks, or where the folder cannot be
    /// written.
    pub fn take(folder: &Path) -> Result<Option<Self>> {
        fs::create_dir_all(folder).map_err(io("create the folder", folder))?;
        let path = folder.join(CLAIM);
        let mut options = OpenOptions::new();
        let opened = options.create(true).truncate(false).read(true).write(true).open(&path);
        let mut file = opened.map_err(io("write", &path))?;
        match file.try_lock() {
            Ok(()) => {
                let host = sysinfo::System::host_name().unwrap_or_else(|| "unknown".into());
                let holder = format!("process {} on {host}\n", std::process::id());
                let told = file.set_len(0).and_then(|()| file.write_all(holder.as_bytes()));
                told.map_err(io("write", &path))?;
                Ok(Some(Self { _file: file }))
            }
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(io("lock", &path)(error)),
        }
    }

    /// Whether a process has the claim. The check takes a shared lock for a moment, together with
    /// other checks.
    fn is_held(folder: &Path) -> bool {
        let held = |file: File| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
        File::open(folder.join(CLAIM)).is_ok_and(held)
    }

    fn holder(folder: &Path) -> String {
        fs::read_to_string(folder.join(CLAIM)).unwrap_or_default().trim().to_string()
    }
}

/// An I/O error with the failed action and the path, for `map_err`.
pub(crate) fn io(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(std::io::Error) -> Error + use<> {
    let path = path.to_path_buf();
    move |source| Error::Io { action, path, source }
}
