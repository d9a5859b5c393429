//! The trials of a study, run like `ec-darts search` and `ec-darts retrain`.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use anyhow::anyhow;
use ec_darts::Error;
use ec_darts::data::Datasets;
use ec_darts::train::run::Outcome;
use ec_darts_study::{Told, Trial, Work, Worked, Worker};
use serde_json::json;

use crate::session::Session;
use crate::{retrain, search};

/// Runs the trials of a study in one session.
pub struct Trials {
    pub session: Session,
    pub images: Datasets,
    /// The limit of steps of all trials together.
    pub max_steps: Option<u64>,
    /// The checkpoint of the trial that was stopped last, and its step.
    pub stopped: Option<(PathBuf, u64)>,
}

/// Name of a trial's work.
pub fn kind(trial: &Trial) -> &'static str {
    match trial.work {
        Work::Search(_) => "search",
        Work::Training { .. } => "training",
    }
}

impl Trials {
    /// Runs a trial; returns whether it is done, otherwise it was stopped.
    fn is_done(&mut self, trial: &Trial) -> anyhow::Result<bool> {
        let session = &mut self.session;
        self.stopped = match &trial.work {
            Work::Search(config) => {
                saved(search::search((**config).clone(), &self.images, session)?)
            }
            Work::Training { genotype, config } => {
                saved(retrain::retrain((**config).clone(), genotype, &self.images, session)?)
            }
        };
        Ok(self.stopped.is_none())
    }
}

/// Checkpoint and step of a run that was stopped.
fn saved<T>(outcome: Outcome<T>) -> Option<(PathBuf, u64)> {
    match outcome {
        Outcome::Finished(_) => None,
        Outcome::Stopped { checkpoint, total_step } => Some((checkpoint, total_step)),
    }
}

impl Worker for Trials {
    type Error = anyhow::Error;

    fn work(&mut self, trial: &Trial, folder: &Path) -> anyhow::Result<Worked> {
        let left = self.max_steps.map(|most| most.saturating_sub(self.session.steps));
        if left == Some(0) {
            return Ok(Worked::Stopped);
        }
        self.session.options.max_steps = left;
        self.session.options.out = folder.to_path_buf();
        let done = catch_unwind(AssertUnwindSafe(|| self.is_done(trial)));
        let done = done.unwrap_or_else(|panic| {
            // A run that panicked can no longer save.
            self.session.saving(|_| ());
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(anyhow!("a fault of the program: {text}"))
        });
        match done {
            Ok(true) => Ok(Worked::Finished),
            Ok(false) => Ok(Worked::Stopped),
            Err(error) if is_no_fault_of_the_trial(&error) => Err(error),
            Err(error) if self.session.options.stop.load(Ordering::SeqCst) => Err(error),
            Err(error) => Ok(Worked::Failed(format!("{error:#}"))),
        }
    }

    fn tell(&mut self, told: Told) -> anyhow::Result<()> {
        let report = &self.session.report;
        match told {
            Told::Begin { trial, done, known } => {
                let name = &trial.name;
                report.event(&json!({"event": "trial", "state": "begin", "trial": name}))?;
                report.line(&format!("\n{} {name} ({done} of {known} known are done)", kind(trial)))
            }
            Told::Done(trial) => {
                report.event(&json!({"event": "trial", "state": "done", "trial": trial.name}))
            }
            Told::Failed(trial, error) => {
                let facts = json!({
                    "event": "trial", "state": "failed", "trial": trial.name, "error": error,
                });
                report.warn(&format!("{} failed: {error}", trial.name), &facts)
            }
            Told::Waiting => {
                report.event(&json!({"event": "waiting"}))?;
                report.line("waiting for searches that other processes run")
            }
        }
    }
}

/// Whether an error is about a disk, the reader of the output or another process in the folder, and
/// would not occur in another session.
fn is_no_fault_of_the_trial(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let of_session =
            matches!(cause.downcast_ref(), Some(Error::Io { .. } | Error::Busy { .. }));
        cause.is::<io::Error>() || of_session
    })
}
