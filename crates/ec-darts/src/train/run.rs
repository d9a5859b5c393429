//! A search in a run folder: resumes, saves, stops when asked.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::Device;

use super::event::Event;
use super::folder::RunFolder;
use super::search::Search;
use super::state::Best;
use crate::config::SearchConfig;
use crate::data::ImageDataset;
use crate::{Error, Result};

/// How a run begins and ends.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The run folder.
    pub out: PathBuf,
    /// Continue the run in the folder, where there is one.
    pub resume: bool,
    /// Stop after so many steps of this session.
    pub max_steps: Option<u64>,
    /// Set from outside to save and stop.
    pub stop: Arc<AtomicBool>,
    /// What the log says about the device.
    pub device: String,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// All epochs are done.
    Finished(Best),
    /// Saved and stopped before the end: asked to, or after `max_steps`.
    Stopped {
        /// Continues from here.
        checkpoint: PathBuf,
        /// Steps taken so far.
        total_step: u64,
    },
}

/// A notice that is no event of the search.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice<'a> {
    /// The search begins, or goes on, at this step.
    Begin(u64),
    /// A checkpoint could not be used, and an older one is tried.
    SkippedCheckpoint(String),
    /// The search reports.
    Event(&'a Event),
}

/// Runs a search to its end or until asked to stop.
///
/// # Errors
/// [`Error::Folder`] and [`Error::Checkpoint`] before anything of a run is changed; [`Error::Stopped`] with
/// the last checkpoint where the search or the disk fails on the way.
pub fn run(
    config: SearchConfig,
    data: Arc<ImageDataset>,
    device: &Device,
    options: &RunOptions,
    listen: &mut dyn FnMut(Notice),
) -> Result<Outcome> {
    let mut folder = RunFolder::open(&options.out, options.resume)?;
    let mut search = resume(&folder, config, data, device, listen)?;
    let begin = search.position().0;
    folder.keep_metrics_before(search.epoch());
    folder.write_config(search.config())?;
    folder.write_session(&options.device, begin)?;
    folder.log(&format!("begin at step {begin} on {}", options.device))?;
    listen(Notice::Begin(begin));
    let outcome = drive(&mut search, &mut folder, options, listen);
    outcome.map_err(|source| {
        let last_checkpoint = folder.checkpoints().ok().and_then(|all| all.into_iter().next());
        // The reason is returned; that the log misses it is the lesser trouble.
        let _ = folder.log(&format!("stopped: {source}"));
        Error::Stopped { last_checkpoint, source: Box::new(source) }
    })
}

/// The newest checkpoint that can be read, or a search at its beginning.
fn resume(
    folder: &RunFolder,
    config: SearchConfig,
    data: Arc<ImageDataset>,
    device: &Device,
    listen: &mut dyn FnMut(Notice),
) -> Result<Search> {
    let checkpoints = folder.checkpoints()?;
    for (age, path) in checkpoints.iter().enumerate() {
        let restored = std::fs::read(path)
            .map_err(Error::io("read", path))
            .and_then(|bytes| Search::restore(config.clone(), data.clone(), device, &bytes, path));
        match restored {
            Ok(search) => return Ok(search),
            Err(error) if age + 1 == checkpoints.len() => return Err(error),
            Err(error) => listen(Notice::SkippedCheckpoint(error.to_string())),
        }
    }
    // Stopped before its first checkpoint: it begins anew, but not with other settings.
    if let Some(begun) = folder.config()?
        && let Some(difference) = config.difference(&begun)
    {
        let reason = format!("holds a run with other settings: {difference}");
        return Err(Error::Folder { path: folder.path().to_path_buf(), reason });
    }
    Search::new(config, data, device)
}

fn drive(
    search: &mut Search,
    folder: &mut RunFolder,
    options: &RunOptions,
    listen: &mut dyn FnMut(Notice),
) -> Result<Outcome> {
    let begin = search.position().0;
    let every = search.config().run.checkpoint_steps as u64;
    loop {
        let Some(event) = search.advance()? else {
            let best = search.best().cloned().expect("a search has at least one epoch");
            folder.log("finished")?;
            return Ok(Outcome::Finished(best));
        };
        let (total_step, _) = search.position();
        let steps_done = options.max_steps.is_some_and(|most| total_step - begin >= most);
        let stop = steps_done || options.stop.load(Ordering::Relaxed);
        let due = match &event {
            Event::Step(_) => total_step.is_multiple_of(every),
            Event::Transition(report) => {
                let verdict = if report.accepted { "returned" } else { "dropped" };
                let accuracy = report.valid_accuracy;
                folder.log(&format!(
                    "epoch {}: auxiliary model {verdict} at validation accuracy {accuracy:.4}",
                    report.epoch
                ))?;
                false
            }
            Event::Epoch(report) => {
                let best = search.best().expect("an epoch is over");
                let genotype = match search.config().search.strength {
                    crate::architecture::Strength::Mixing => &report.genotype_mixing,
                    crate::architecture::Strength::Alpha => &report.genotype_alpha,
                };
                folder.write_epoch(report, genotype, best)?;
                folder.log(&format!("epoch {} of {} is over", report.epoch + 1, report.epochs))?;
                for warning in &report.warnings {
                    folder.log(warning)?;
                }
                true
            }
        };
        listen(Notice::Event(&event));
        if due || stop {
            let checkpoint = folder.write_checkpoint(total_step, &search.save())?;
            if stop {
                folder.log(&format!("stopped at step {total_step}"))?;
                return Ok(Outcome::Stopped { checkpoint, total_step });
            }
        }
    }
}
