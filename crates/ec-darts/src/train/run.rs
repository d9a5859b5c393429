//! A search or a retraining in a run folder: it resumes, saves, and stops on request.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use burn::tensor::Device;
use ec_darts_space::Genotype;
use tracing::span::EnteredSpan;
use tracing::{debug_span, error, info, info_span, warn};

use super::event::{Done, Event};
use super::folder::{Renewed, Resume, RunFolder, step_of};
use super::job::{EventOf, Job};
use super::retrain::{Measured, RetrainEvent, Retraining};
use super::search::{Best, Search};
use crate::config::{RetrainConfig, SearchConfig, Settings};
use crate::data::{Datasets, ImageDataset};
use crate::{Error, Result, device};

pub use super::job::MODEL;

/// Options for the beginning and the end of a run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The run folder.
    pub out: PathBuf,
    /// Whether to resume a run in the folder.
    pub resume: Resume,
    /// Number of steps of this session after which it stops.
    pub max_steps: Option<u64>,
    /// A flag that asks the run to save and stop.
    pub stop: Arc<AtomicBool>,
    /// The description of the device for the log.
    pub device: String,
    /// Number of steps between two reads of losses from the device; off: after each step on the
    /// CPU, every 20 steps elsewhere. It only changes when events come.
    pub read_every: Option<NonZeroUsize>,
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome<T> {
    /// All epochs are finished.
    Finished(T),
    /// The run was saved and stopped before its end: on request, or after `max_steps`.
    Stopped {
        /// The checkpoint from which the run continues.
        checkpoint: PathBuf,
        /// Number of steps so far.
        total_step: u64,
    },
}

/// A notice for the listeners of a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice<'a, E> {
    /// The work begins, or is resumed, at this step.
    Begin(u64),
    /// The first step compiles the kernels of a GPU, which takes a while and gives no events.
    Compiling,
    /// A checkpoint could not be used, and the run continues from an older one.
    Skipped(&'a Skipped),
    /// A file of the run was damaged or missing, and was written again.
    Renewed(&'a Renewed),
    /// Events of the search or retraining; all that came at once, in order.
    Events(&'a [E]),
}

/// A checkpoint that could not be used. It stays beside the others; its name ends in `.damaged`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The checkpoint.
    pub checkpoint: PathBuf,
    /// The fault.
    pub reason: String,
    /// The older checkpoint that is used.
    pub instead: PathBuf,
}

/// Runs a search to its end or until it is asked to stop.
///
/// # Errors
/// [`Error::Folder`] and [`Error::Checkpoint`] before any file of a run is changed;
/// [`Error::Stopped`] with the last checkpoint where the search or the disk fails later.
pub fn search(
    config: SearchConfig,
    data: Arc<ImageDataset>,
    device: &Device,
    options: &RunOptions,
    listen: &mut dyn FnMut(Notice<Event>),
) -> Result<Outcome<Best>> {
    let begin = |saved: Option<(&[u8], &Path)>| match saved {
        Some((bytes, path)) => Search::restore(config.clone(), data.clone(), device, bytes, path),
        None => Search::new(config.clone(), data.clone(), device),
    };
    run(&config, &begin, !device::is_cpu(device), options, listen)
}

/// Retrains a genotype to the end or until it is asked to stop.
///
/// # Errors
/// As [`search`].
pub fn retrain(
    config: RetrainConfig,
    genotype: &Genotype,
    data: &Datasets,
    device: &Device,
    options: &RunOptions,
    listen: &mut dyn FnMut(Notice<RetrainEvent>),
) -> Result<Outcome<Measured>> {
    let begin = |saved: Option<(&[u8], &Path)>| match saved {
        Some((bytes, path)) => {
            Retraining::restore(config.clone(), genotype, data, device, bytes, path)
        }
        None => Retraining::new(config.clone(), genotype, data, device),
    };
    run(&config, &begin, !device::is_cpu(device), options, listen)
}

type Begin<'a, J> = &'a dyn Fn(Option<(&[u8], &Path)>) -> Result<J>;

fn run<J: Job>(
    config: &J::Config,
    begin: Begin<J>,
    compiles: bool,
    options: &RunOptions,
    listen: &mut dyn FnMut(Notice<EventOf<J>>),
) -> Result<Outcome<J::Output>> {
    let mut folder = RunFolder::open(&options.out, options.resume)?;
    let _span = info_span!("run", folder = %folder.path().display()).entered();
    let (mut job, skipped) = resume(&folder, config, begin)?;
    if let Some(steps) = options.read_every {
        job.course().set_read_every(steps);
    }
    let (first, _) = job.course().position();
    for skipped in &skipped {
        let Skipped { checkpoint, reason, instead } = skipped;
        folder.set_aside(checkpoint)?;
        warn!("skipped {reason}; goes on from {}", instead.display());
        listen(Notice::Skipped(skipped));
    }
    // A kill may have come between the checkpoint of an epoch's end and its other files.
    let certain = job.course().history().len() - usize::from(job.course().has_closed_epoch());
    let renewed = [
        folder.write_config(job.config(), first > 0)?,
        folder.renew_metrics(job.course().history(), certain)?,
        folder.write_session(&options.device, first)?,
        job.renew(&folder, certain)?,
    ];
    for renewed in renewed.iter().flatten() {
        let Renewed { file, reason } = renewed;
        warn!("{} {reason}; written again", file.display());
        listen(Notice::Renewed(renewed));
    }
    info!("begin at step {first} on {}", options.device);
    listen(Notice::Begin(first));
    if compiles && first < job.course().position().1 {
        listen(Notice::Compiling);
    }
    let start = Instant::now();
    let outcome = drive(&mut job, &mut folder, options, listen).and_then(|outcome| {
        folder.close_session(job.course().position().0, start.elapsed().as_secs_f64())?;
        Ok(outcome)
    });
    outcome.map_err(|source| {
        let last_checkpoint = folder.checkpoints().ok().and_then(|all| all.into_iter().next());
        error!("stopped: {source}");
        Error::Stopped { last_checkpoint, source: Box::new(source) }
    })
}

/// The work at the newest intact checkpoint, and the damaged ones; or the work at its beginning.
fn resume<J: Job>(
    folder: &RunFolder,
    config: &J::Config,
    begin: Begin<J>,
) -> Result<(J, Vec<Skipped>)> {
    let checkpoints = folder.checkpoints()?;
    let mut faults: Vec<(&PathBuf, String)> = Vec::new();
    for path in &checkpoints {
        match restore(path, begin) {
            Ok(job) => {
                let skipped = |(checkpoint, reason): (&PathBuf, String)| Skipped {
                    checkpoint: checkpoint.clone(),
                    reason,
                    instead: path.clone(),
                };
                return Ok((job, faults.into_iter().map(skipped).collect()));
            }
            Err(error @ (Error::Damaged { .. } | Error::Io { .. })) => {
                faults.push((path, chain(&error)));
            }
            Err(error) => return Err(error),
        }
    }
    let fail = |reason: String| Error::Folder { path: folder.path().to_path_buf(), reason };
    if !faults.is_empty() {
        let faults: Vec<String> = faults.into_iter().map(|(_, reason)| reason).collect();
        return Err(fail(format!("none of its checkpoints can be used: {}", faults.join("; "))));
    }
    // The run was stopped before its first checkpoint: it begins again, but not with other
    // settings.
    if let Some(begun) = folder.config()?
        && let Some(difference) = config.difference(&begun)
    {
        return Err(fail(format!("holds a run with other settings: {difference}")));
    }
    Ok((begin(None)?, Vec::new()))
}

fn restore<J: Job>(path: &Path, begin: Begin<J>) -> Result<J> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let mut job = begin(Some((&bytes, path)))?;
    let (step, _) = job.course().position();
    if step_of(path) == Some(step) {
        return Ok(job);
    }
    let reason =
        format!("its name is not that of a checkpoint after step {step}, but its content is");
    Err(Error::Damaged { path: path.to_path_buf(), reason })
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// The spans of the current epoch and phase. The inner one is left first.
#[derive(Default)]
struct Under {
    phase: Option<(&'static str, EnteredSpan)>,
    epoch: Option<(usize, EnteredSpan)>,
}

impl Under {
    fn enter(&mut self, epoch: usize, phase: &'static str) {
        let is_epoch = self.epoch.as_ref().is_some_and(|(under, _)| *under == epoch);
        if is_epoch && self.phase.as_ref().is_some_and(|(under, _)| *under == phase) {
            return;
        }
        self.phase = None;
        if !is_epoch {
            self.epoch = None;
            self.epoch = Some((epoch, info_span!("epoch", epoch = epoch + 1).entered()));
        }
        self.phase = Some((phase, debug_span!("phase", phase).entered()));
    }
}

fn drive<J: Job>(
    job: &mut J,
    folder: &mut RunFolder,
    options: &RunOptions,
    listen: &mut dyn FnMut(Notice<EventOf<J>>),
) -> Result<Outcome<J::Output>> {
    let (first, _) = job.course().position();
    let every = job.config().run().checkpoint_steps as u64;
    let mut under = Under::default();
    loop {
        if let Some((epoch, phase)) = job.course().upcoming() {
            under.enter(epoch, phase.into());
        }
        let done = job.work();
        let (total_step, _) = job.course().position();
        let steps_done = options.max_steps.is_some_and(|most| total_step - first >= most);
        let stop = steps_done || options.stop.load(Ordering::Relaxed);
        let is_due = match done {
            Ok(Done::Step) => stop || total_step.is_multiple_of(every),
            Ok(Done::Epoch) => true,
            Ok(Done::Transition) => stop,
            Ok(Done::Everything) | Err(_) => false,
        };
        // The checkpoint is written first: all other files can be written again from it.
        let saved = is_due.then(|| {
            let _span = debug_span!("checkpoint", total_step).entered();
            let bytes = job.save()?;
            folder.write_checkpoint(total_step, &bytes)
        });
        // Events from before a failure are told all the same.
        let events = job.course().take_events();
        events.iter().try_for_each(|event| job.record(event, folder))?;
        if !events.is_empty() {
            listen(Notice::Events(&events));
        }
        if done? == Done::Everything {
            let output = job.finish(folder)?;
            info!("finished");
            return Ok(Outcome::Finished(output));
        }
        if let Some(checkpoint) = saved.transpose()?
            && stop
        {
            info!("stopped at step {total_step}");
            return Ok(Outcome::Stopped { checkpoint, total_step });
        }
    }
}
