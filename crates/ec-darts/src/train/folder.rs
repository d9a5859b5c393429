//! The folder of a run: settings, metrics, genotypes, checkpoints, and a lock.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use ec_darts_space::{Genotype, draw};
use serde_json::json;

use serde::Serialize;

use super::results;
use crate::config::Settings;
use crate::files::write;
use crate::{Error, Result};

/// Seconds from 1970 to where RFC 3339 ends.
const YEAR_10000_S: u64 = 253_402_300_800;
/// Checkpoints kept.
const KEPT: usize = 2;

/// A run folder, held by this process until dropped.
///
/// ```text
/// config.toml                  the resolved settings
/// sessions.json                device, version, commit, time and steps of every start
/// metrics.jsonl                one line per epoch
/// results.csv                  its figures as a table
/// genotypes/epoch-001.json     search: genotype of each epoch (.json .txt .svg)
/// genotype.json                genotype of the best epoch, or the one retrained (.json .txt .svg)
/// model.safetensors            retraining: the trained network, once it is done
/// log.txt                      of the program: what happened, with time
/// checkpoints/step-*.safetensors   the last two
/// lock                         held while a process works here
/// ```
/// Every file but the log is written to a sibling, synced and renamed: a crash leaves the old one
/// or the new one.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// The operating system drops the lock with the process, however it ends.
    _lock: File,
    metrics: Vec<String>,
}

impl RunFolder {
    /// Takes hold of a folder, made where it is not there.
    ///
    /// # Errors
    /// [`Error::Folder`] where another process holds it, or it holds a run and `resume` is false;
    /// [`Error::Io`] where it cannot be written.
    pub fn open(path: &Path, resume: bool) -> Result<Self> {
        let checkpoints = path.join("checkpoints");
        create(&checkpoints)?;
        let lock_path = path.join("lock");
        let mut options = OpenOptions::new();
        let lock = options.create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(Error::io("write", &lock_path))?;
        let fail = |reason: &str| Error::Folder { path: path.to_path_buf(), reason: reason.into() };
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(fail("another process is running in this folder"));
            }
            Err(TryLockError::Error(source)) => return Err(Error::io("lock", lock_path)(source)),
        }
        if !resume && path.join("config.toml").exists() {
            return Err(fail(
                "holds a run already; add --resume to continue it, or name another folder",
            ));
        }
        let mut folder = Self { path: path.to_path_buf(), _lock: lock, metrics: Vec::new() };
        folder.metrics = match fs::read_to_string(folder.metrics_path()) {
            Ok(text) => text.lines().map(str::to_string).collect(),
            Err(_) => Vec::new(),
        };
        Ok(folder)
    }

    /// The folder itself.
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

    /// Writes a checkpoint and drops all but the last two.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be written; the earlier ones are still there.
    pub fn write_checkpoint(&self, total_step: u64, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.path.join("checkpoints").join(format!("step-{total_step:09}.safetensors"));
        write(&path, bytes)?;
        for old in self.checkpoints()?.iter().skip(KEPT) {
            fs::remove_file(old).map_err(Error::io("remove", old))?;
        }
        Ok(path)
    }

    /// The settings of the run in the folder, if there is one.
    ///
    /// # Errors
    /// Those of [`Settings::load`].
    pub fn config<C: Settings>(&self) -> Result<Option<C>> {
        let path = self.path.join("config.toml");
        if path.exists() { C::load(&path, &[]).map(Some) } else { Ok(None) }
    }

    /// Writes the resolved settings.
    ///
    /// # Errors
    /// [`Error::Io`] where they cannot be written.
    pub fn write_config(&self, config: &impl Settings) -> Result<()> {
        write(&self.path.join("config.toml"), config.to_toml().as_bytes())
    }

    /// Notes the end of the session that [`Self::write_session`] began.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be written.
    pub fn close_session(&self, to_step: u64, seconds: f64) -> Result<()> {
        let path = self.path.join("sessions.json");
        let mut sessions = self.sessions();
        if let Some(last) = sessions.last_mut() {
            last["to_step"] = json!(to_step);
            last["seconds"] = json!((seconds * 10.0).round() / 10.0);
        }
        let text = serde_json::to_string_pretty(&sessions).expect("plain values");
        write(&path, text.as_bytes())
    }

    fn sessions(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.path.join("sessions.json")).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Notes one start of the program in this folder.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be written.
    pub fn write_session(&self, device: &str, from_step: u64) -> Result<()> {
        let path = self.path.join("sessions.json");
        let mut sessions = self.sessions();
        sessions.push(json!({
            "started": timestamp(SystemTime::now()),
            "device": device,
            "version": crate::VERSION,
            "commit": crate::COMMIT,
            "burn": "0.22.1",
            "from_step": from_step,
        }));
        let text = serde_json::to_string_pretty(&sessions).expect("plain values");
        write(&path, text.as_bytes())
    }

    /// Forgets metrics of epochs that a resumed search will go through again.
    pub fn keep_metrics_before(&mut self, epoch: usize) {
        self.metrics.truncate(epoch);
    }

    /// Adds the report of an epoch, counted from 0, to the metrics.
    ///
    /// # Errors
    /// [`Error::Io`] where they cannot be written.
    pub fn write_metrics(&mut self, epoch: usize, report: &impl Serialize) -> Result<()> {
        self.metrics.truncate(epoch);
        self.metrics.push(serde_json::to_string(report).expect("finite numbers"));
        write(&self.metrics_path(), format!("{}\n", self.metrics.join("\n")).as_bytes())?;
        write(&self.path.join("results.csv"), &results::table(&self.metrics))
    }

    /// Writes `genotype.json`, `.txt` and `.svg`.
    ///
    /// # Errors
    /// [`Error::Io`] where they cannot be written.
    pub fn write_genotype(&self, genotype: &Genotype) -> Result<()> {
        write_genotype(&self.path, "genotype", genotype)
    }

    /// Writes the genotype of an epoch, counted from 0, in `genotypes`; files are counted from 1.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be written.
    pub fn write_epoch_genotype(&self, epoch: usize, genotype: &Genotype) -> Result<()> {
        let folder = self.path.join("genotypes");
        create(&folder)?;
        write_genotype(&folder, &format!("epoch-{:03}", epoch + 1), genotype)
    }

    fn metrics_path(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }
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
    let mut found: Vec<PathBuf> = entries
        .map_err(fail)?
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"))
        .collect();
    found.sort();
    found.reverse();
    Ok(found)
}

/// A time as RFC 3339; a clock that is set before 1970 or after 9999 is no reason to lose a run.
fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).ok().filter(|since| since.as_secs() < YEAR_10000_S);
    match since {
        Some(_) => humantime::format_rfc3339_seconds(time).to_string(),
        None => "the clock is not set".into(),
    }
}

fn write_genotype(folder: &Path, name: &str, genotype: &Genotype) -> Result<()> {
    let file = |extension: &str| folder.join(format!("{name}.{extension}"));
    write(&file("json"), genotype.to_json().as_bytes())?;
    write(&file("txt"), format!("{genotype}\n").as_bytes())?;
    write(&file("svg"), draw::svg(genotype).as_bytes())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn any_clock_gives_a_text() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(timestamp(at(0)), "1970-01-01T00:00:00Z");
        assert_eq!(timestamp(at(YEAR_10000_S - 1)), "9999-12-31T23:59:59Z");
        let unset = [at(YEAR_10000_S), at(1 << 40), UNIX_EPOCH - Duration::from_secs(1)];
        assert!(unset.into_iter().all(|time| timestamp(time) == "the clock is not set"));
    }
}
