//! The folder of a run: settings, metrics, genotypes, checkpoints, and a lock.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use ec_darts_space::{Genotype, draw};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::results;
use super::session::Session;
use crate::config::Settings;
use crate::files::write;
use crate::{Error, Result};

/// Number of checkpoints that are kept.
const KEPT: usize = 2;

const METRICS: &str = "metrics.jsonl";
const SESSIONS: &str = "sessions.json";

/// A run folder, locked by this process until dropped.
///
/// ```text
/// config.toml                  the resolved settings
/// sessions.json                device, version, commit, time and steps of every start
/// metrics.jsonl                one line per epoch; of a search with the values of alpha
/// results.csv                  its figures as a table
/// genotypes/epoch-001.json     search: genotype of each epoch (.json .txt .svg)
/// genotype.json                genotype of the best epoch, or the one retrained (.json .txt .svg)
/// model.safetensors            retraining: the trained network, once it is done
/// log.txt                      of the program: what happened, with time
/// checkpoints/step-*.safetensors   the last two; one that was damaged ends in `.damaged`
/// lock                         held while a process works here
/// ```
/// Every file but the log is written to a sibling, synced and renamed, so that a crash leaves
/// either the old file or the new one.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// The operating system releases the lock at the end of the process, however it ends.
    _lock: File,
}

/// Whether to resume the run in the folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resume {
    /// A new run begins; the folder must not have a run.
    #[default]
    Never,
    /// The run is resumed; the folder must have one.
    Always,
    /// The run is resumed where there is one, else a new run begins.
    Auto,
}

/// A file of a run that was damaged or missing, and was written again from the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// The file.
    pub file: PathBuf,
    /// The fault.
    pub reason: String,
}

/// Files that show that a folder has a run.
const TRACES: [&str; 3] = ["config.toml", "metrics.jsonl", "sessions.json"];

impl RunFolder {
    /// Locks a folder; it is created where it does not exist and a run may begin.
    ///
    /// # Errors
    /// [`Error::Busy`] where another process has locked it; [`Error::Folder`] where it has a run that
    /// must not be resumed, or no run to resume; [`Error::Io`] where it cannot be written.
    pub fn open(path: &Path, resume: Resume) -> Result<Self> {
        let fail = |reason: &str| Error::Folder { path: path.to_path_buf(), reason: reason.into() };
        let is_there = path.join("checkpoints").exists()
            || TRACES.iter().any(|trace| path.join(trace).exists());
        if resume == Resume::Always && !is_there {
            return Err(fail(
                "there is no run to resume here; --resume=auto begins one where there is none",
            ));
        }
        create(&path.join("checkpoints"))?;
        let lock_path = path.join("lock");
        let mut options = OpenOptions::new();
        let lock = options.create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(Error::io("write", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Busy { path: path.to_path_buf() });
            }
            Err(TryLockError::Error(source)) => return Err(Error::io("lock", lock_path)(source)),
        }
        let folder = Self { path: path.to_path_buf(), _lock: lock };
        folder.check_content(resume)?;
        Ok(folder)
    }

    /// Checks that the folder has no run, or a checkpoint to resume, as requested.
    fn check_content(&self, resume: Resume) -> Result<()> {
        let fail = |reason: String| Err(Error::Folder { path: self.path.clone(), reason });
        let has_checkpoints = !self.checkpoints()?.is_empty();
        let traces: Vec<&str> =
            TRACES.into_iter().filter(|trace| self.path.join(trace).exists()).collect();
        if resume == Resume::Never && (has_checkpoints || !traces.is_empty()) {
            return fail(
                "holds a run already; add --resume to continue it, or name another folder".into(),
            );
        }
        if has_checkpoints || resume == Resume::Never {
            return Ok(());
        }
        let steps = self.sessions().unwrap_or_default().iter().filter_map(Session::last_step).max();
        let has_metrics =
            fs::metadata(self.path.join(METRICS)).is_ok_and(|metadata| metadata.len() > 0);
        if has_metrics || steps > Some(0) {
            let told = if has_metrics { "metrics.jsonl" } else { "sessions.json" };
            return fail(format!(
                "its checkpoints are gone: {told} tells of work done, and the folder checkpoints is empty; \
                 put them back, or begin in another folder"
            ));
        }
        match resume {
            Resume::Always => fail(
                "there is nothing to resume: the run in it has no checkpoint yet; --resume=auto begins \
                 it anew"
                    .into(),
            ),
            Resume::Never | Resume::Auto => Ok(()),
        }
    }

    /// The path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checkpoints, newest first.
    ///
    /// # Errors
    /// [`Error::Io`] where the folder cannot be listed.
    pub fn checkpoints(&self) -> Result<Vec<PathBuf>> {
        checkpoints(&self.path)
    }

    /// Writes a checkpoint and deletes all but the last two.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be written; the earlier ones still exist.
    pub fn write_checkpoint(&self, total_step: u64, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.path.join("checkpoints").join(format!("step-{total_step:09}.safetensors"));
        write(&path, bytes)?;
        for old in self.checkpoints()?.iter().skip(KEPT) {
            fs::remove_file(old).map_err(Error::io("remove", old))?;
        }
        Ok(path)
    }

    /// Renames a damaged file, so that it stays but no longer counts.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be renamed.
    pub fn set_aside(&self, file: &Path) -> Result<()> {
        let mut aside = file.as_os_str().to_owned();
        aside.push(".damaged");
        fs::rename(file, aside).map_err(Error::io("rename", file))
    }

    /// The settings of the run in the folder, if there is one.
    ///
    /// # Errors
    /// The errors of [`Settings::load`].
    pub fn config<C: Settings>(&self) -> Result<Option<C>> {
        let path = self.path.join("config.toml");
        if path.exists() { C::load(&path, &[]).map(Some) } else { Ok(None) }
    }

    /// Writes the resolved settings; `goes_on` says whether the file must already exist.
    ///
    /// # Errors
    /// [`Error::Io`] where they cannot be written.
    pub fn write_config<C: Settings>(&self, config: &C, goes_on: bool) -> Result<Option<Renewed>> {
        let file = self.path.join("config.toml");
        let reason = match self.config::<C>() {
            Ok(Some(there)) => config.difference(&there).map(|what| format!("was changed: {what}")),
            Ok(None) => goes_on.then(|| "was missing".into()),
            Err(error) => {
                self.set_aside(&file)?;
                Some(format!("was damaged: {error}"))
            }
        };
        write(&file, config.to_toml().as_bytes())?;
        Ok(reason.map(|reason| Renewed { file, reason }))
    }

    /// Writes the reports of all finished epochs, one per line.
    ///
    /// # Errors
    /// [`Error::Io`] where they cannot be written.
    pub fn write_metrics(&self, history: &[impl Serialize]) -> Result<()> {
        let lines = lines(history);
        write(&self.path.join(METRICS), lines.concat().as_bytes())?;
        write(&self.path.join("results.csv"), &results::table(&lines))
    }

    /// Writes the reports again; the file must already have the first `certain` of them. Epochs
    /// after these are repeated by the run.
    ///
    /// # Errors
    /// [`Error::Io`] where they cannot be read or written.
    pub fn renew_metrics(
        &self,
        history: &[impl Serialize],
        certain: usize,
    ) -> Result<Option<Renewed>> {
        let file = self.path.join(METRICS);
        let reason = match fs::read(&file) {
            Ok(there) if there.starts_with(lines(&history[..certain]).concat().as_bytes()) => None,
            Ok(_) => {
                self.set_aside(&file)?;
                Some("was damaged".to_string())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                (certain > 0).then(|| "was missing".into())
            }
            Err(error) => return Err(Error::io("read", file)(error)),
        };
        if !history.is_empty() || file.exists() {
            self.write_metrics(history)?;
        }
        Ok(reason.map(|reason| Renewed { file, reason }))
    }

    /// Records the end of the session that [`Self::write_session`] began.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be written.
    pub fn close_session(&self, to_step: u64, seconds: f64) -> Result<()> {
        let mut sessions = self.sessions().unwrap_or_default();
        if let Some(last) = sessions.last_mut() {
            last.to_step = Some(to_step);
            last.seconds = Some((seconds * 10.0).round() / 10.0);
        }
        self.write_sessions(&sessions)
    }

    /// Records one start of the program in this folder.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be written.
    pub fn write_session(&self, device: &str, from_step: u64) -> Result<Option<Renewed>> {
        let file = self.path.join(SESSIONS);
        let (mut sessions, reason) = match self.sessions() {
            Ok(sessions) if sessions.is_empty() && from_step > 0 => {
                (sessions, Some("was missing: earlier sessions are not known".to_string()))
            }
            Ok(sessions) => (sessions, None),
            Err(reason) => {
                self.set_aside(&file)?;
                (Vec::new(), Some(format!("was damaged, earlier sessions are not known: {reason}")))
            }
        };
        sessions.push(Session::begin(device, from_step));
        self.write_sessions(&sessions)?;
        Ok(reason.map(|reason| Renewed { file, reason }))
    }

    /// All starts so far, or the reason why their file cannot be read.
    fn sessions(&self) -> Result<Vec<Session>, String> {
        match fs::read_to_string(self.path.join(SESSIONS)) {
            Ok(text) => serde_json::from_str(&text).map_err(|error| error.to_string()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn write_sessions(&self, sessions: &[Session]) -> Result<()> {
        let text = serde_json::to_string_pretty(sessions).expect("plain values");
        write(&self.path.join(SESSIONS), text.as_bytes())
    }

    /// Writes `genotype.json`, `.txt` and `.svg`.
    ///
    /// # Errors
    /// [`Error::Io`] where they cannot be written.
    pub fn write_genotype(&self, genotype: &Genotype) -> Result<()> {
        write_genotype(&self.path, "genotype", genotype)
    }

    /// Writes the genotype of an epoch, counted from 0, to `genotypes`; names of files count from
    /// 1.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be written.
    pub fn write_epoch_genotype(&self, epoch: usize, genotype: &Genotype) -> Result<()> {
        let folder = self.path.join("genotypes");
        create(&folder)?;
        write_genotype(&folder, &format!("epoch-{:03}", epoch + 1), genotype)
    }

    /// Writes the missing genotypes of finished epochs; those of the first `certain` epochs must
    /// already exist.
    ///
    /// # Errors
    /// [`Error::Io`] where one cannot be written.
    pub fn renew_epoch_genotypes<'a>(
        &self,
        genotypes: impl Iterator<Item = &'a Genotype>,
        certain: usize,
    ) -> Result<Option<Renewed>> {
        let folder = self.path.join("genotypes");
        let mut missing = Vec::new();
        for (epoch, genotype) in genotypes.enumerate() {
            let file = folder.join(format!("epoch-{:03}.json", epoch + 1));
            if fs::read(&file).ok().as_deref() != Some(genotype.to_json().as_bytes()) {
                self.write_epoch_genotype(epoch, genotype)?;
                missing.extend((epoch < certain).then(|| (epoch + 1).to_string()));
            }
        }
        let reason = format!("had not the genotypes of epochs {}", missing.join(", "));
        Ok((!missing.is_empty()).then_some(Renewed { file: folder, reason }))
    }
}

/// Reports of the finished epochs of a run, read from its folder.
///
/// # Errors
/// [`Error::Io`] where they cannot be read; [`Error::Folder`] with the first line that is not the
/// report of its epoch.
pub fn metrics<R: DeserializeOwned>(run: &Path) -> Result<Vec<R>> {
    let file = run.join(METRICS);
    let text = fs::read_to_string(&file).map_err(Error::io("read", &file))?;
    let read = |(index, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| Error::Folder {
            path: file.clone(),
            reason: format!("line {}: {error}", index + 1),
        })
    };
    text.lines().enumerate().map(read).collect()
}

fn lines(history: &[impl Serialize]) -> Vec<String> {
    let line = |report| serde_json::to_string(report).expect("finite numbers") + "\n";
    history.iter().map(line).collect()
}

fn create(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(Error::io("create the folder", folder))
}

/// Checkpoints in a run folder, newest first.
///
/// # Errors
/// [`Error::Io`] where it cannot be listed.
pub fn checkpoints(run: &Path) -> Result<Vec<PathBuf>> {
    let folder = run.join("checkpoints");
    let fail = Error::io("list", &folder);
    let entries = fs::read_dir(&folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let mut found: Vec<(u64, PathBuf)> = entries
        .map_err(fail)?
        .into_iter()
        .filter_map(|entry| Some((step_of(&entry.path())?, entry.path())))
        .collect();
    found.sort();
    Ok(found.into_iter().rev().map(|(_, path)| path).collect())
}

/// The step in the name of a checkpoint; none for other files.
pub(super) fn step_of(checkpoint: &Path) -> Option<u64> {
    let name = checkpoint.file_name()?.to_str()?;
    name.strip_prefix("step-")?.strip_suffix(".safetensors")?.parse().ok()
}

fn write_genotype(folder: &Path, name: &str, genotype: &Genotype) -> Result<()> {
    let file = |extension: &str| folder.join(format!("{name}.{extension}"));
    write(&file("json"), genotype.to_json().as_bytes())?;
    write(&file("txt"), format!("{genotype}\n").as_bytes())?;
    write(&file("svg"), draw::svg(genotype).as_bytes())
}
