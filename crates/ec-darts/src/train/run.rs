//! A search or a retraining in a run folder: resumes, saves, stops when asked.

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
use super::folder::RunFolder;
use super::retrain::{Measured, RetrainEvent, Retraining};
use super::search::Search;
use super::state::Best;
use crate::config::{RetrainConfig, SearchConfig, Settings};
use crate::data::{Datasets, ImageDataset};
use crate::{Error, Result, device};

/// The trained network in the folder of a retraining.
pub const MODEL: &str = "model.safetensors";

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
    /// Losses are read from the device every so many steps; off: after each on the CPU, every 20 steps
    /// elsewhere. It changes when steps are told, and nothing else.
    pub read_every: Option<NonZeroUsize>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome<T> {
    /// All epochs are done.
    Finished(T),
    /// Saved and stopped before the end: asked to, or after `max_steps`.
    Stopped {
        /// Continues from here.
        checkpoint: PathBuf,
        /// Steps taken so far.
        total_step: u64,
    },
}

/// A notice to whoever listens to a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice<'a, E> {
    /// The work begins, or goes on, at this step.
    Begin(u64),
    /// The first step compiles the kernels of a GPU, which takes a while and has no events.
    Compiling,
    /// A checkpoint could not be used, and an older one is tried.
    SkippedCheckpoint(String),
    /// The search or retraining reports; all that became known at once, in its order.
    Events(&'a [E]),
}

/// Work that a run folder holds. It does no I/O but in [`Self::record`] and [`Self::finish`].
pub(super) trait Job: Sized {
    type Config: Settings;
    type Event;
    type Output;

    fn config(&self) -> &Self::Config;
    /// Steps taken, and steps of all the work.
    fn position(&self) -> (u64, u64);
    /// The epoch under way, counted from 0.
    fn epoch(&self) -> usize;
    /// Where the next step is taken.
    fn phase(&self) -> &'static str;
    fn with_read_every(self, steps: NonZeroUsize) -> Self;
    fn work(&mut self) -> Result<Done>;
    fn take_events(&mut self) -> Vec<Self::Event>;
    /// Settles all steps first.
    fn save(&mut self) -> Result<Vec<u8>>;
    /// Writes what an event leaves in the folder.
    fn record(&self, event: &Self::Event, folder: &mut RunFolder) -> Result<()>;
    /// Writes what the whole work leaves in the folder.
    fn finish(&self, folder: &mut RunFolder) -> Result<Self::Output>;
}

/// Runs a search to its end or until asked to stop.
///
/// # Errors
/// [`Error::Folder`] and [`Error::Checkpoint`] before anything of a run is changed; [`Error::Stopped`] with
/// the last checkpoint where the search or the disk fails on the way.
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

/// Retrains a genotype to the end or until asked to stop.
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
    listen: &mut dyn FnMut(Notice<J::Event>),
) -> Result<Outcome<J::Output>> {
    let mut folder = RunFolder::open(&options.out, options.resume)?;
    let _span = info_span!("run", folder = %folder.path().display()).entered();
    let mut job = resume(&folder, config, begin, listen)?;
    if let Some(steps) = options.read_every {
        job = job.with_read_every(steps);
    }
    let first = job.position().0;
    folder.keep_metrics_before(job.epoch());
    folder.write_config(job.config())?;
    folder.write_session(&options.device, first)?;
    info!("begin at step {first} on {}", options.device);
    listen(Notice::Begin(first));
    if compiles && first < job.position().1 {
        listen(Notice::Compiling);
    }
    let start = Instant::now();
    let outcome = drive(&mut job, &mut folder, options, listen).and_then(|outcome| {
        folder.close_session(job.position().0, start.elapsed().as_secs_f64())?;
        Ok(outcome)
    });
    outcome.map_err(|source| {
        let last_checkpoint = folder.checkpoints().ok().and_then(|all| all.into_iter().next());
        error!("stopped: {source}");
        Error::Stopped { last_checkpoint, source: Box::new(source) }
    })
}

/// The newest checkpoint that can be read, or the work at its beginning.
fn resume<J: Job>(
    folder: &RunFolder,
    config: &J::Config,
    begin: Begin<J>,
    listen: &mut dyn FnMut(Notice<J::Event>),
) -> Result<J> {
    let checkpoints = folder.checkpoints()?;
    for (age, path) in checkpoints.iter().enumerate() {
        let restored = std::fs::read(path)
            .map_err(Error::io("read", path))
            .and_then(|bytes| begin(Some((&bytes, path))));
        match restored {
            Ok(job) => return Ok(job),
            Err(error) if age + 1 == checkpoints.len() => return Err(error),
            Err(error) => {
                warn!("skipped {error}");
                listen(Notice::SkippedCheckpoint(error.to_string()));
            }
        }
    }
    // Stopped before its first checkpoint: it begins anew, but not with other settings.
    if let Some(begun) = folder.config()?
        && let Some(difference) = config.difference(&begun)
    {
        let reason = format!("holds a run with other settings: {difference}");
        return Err(Error::Folder { path: folder.path().to_path_buf(), reason });
    }
    begin(None)
}

/// The spans of the epoch and phase under way. The inner one is left first.
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
    listen: &mut dyn FnMut(Notice<J::Event>),
) -> Result<Outcome<J::Output>> {
    let first = job.position().0;
    let every = job.config().run().checkpoint_steps as u64;
    let mut tell = |job: &mut J, folder: &mut RunFolder| {
        let events = job.take_events();
        events.iter().try_for_each(|event| job.record(event, folder))?;
        if !events.is_empty() {
            listen(Notice::Events(&events));
        }
        Ok(())
    };
    let mut under = Under::default();
    loop {
        let (step, steps) = job.position();
        if step < steps {
            under.enter(job.epoch(), job.phase());
        }
        // What was known before something failed is told all the same.
        let done = job.work();
        tell(job, folder)?;
        let done = done?;
        if done == Done::Everything {
            let output = job.finish(folder)?;
            info!("finished");
            return Ok(Outcome::Finished(output));
        }
        let (total_step, _) = job.position();
        let steps_done = options.max_steps.is_some_and(|most| total_step - first >= most);
        let stop = steps_done || options.stop.load(Ordering::Relaxed);
        let due = match done {
            Done::Step => total_step.is_multiple_of(every),
            Done::Epoch => true,
            Done::Transition | Done::Everything => false,
        };
        if due || stop {
            let _span = debug_span!("checkpoint", total_step).entered();
            let bytes = job.save();
            tell(job, folder)?;
            let checkpoint = folder.write_checkpoint(total_step, &bytes?)?;
            if stop {
                info!("stopped at step {total_step}");
                return Ok(Outcome::Stopped { checkpoint, total_step });
            }
        }
    }
}

impl Job for Search {
    type Config = SearchConfig;
    type Event = Event;
    type Output = Best;

    fn config(&self) -> &SearchConfig {
        self.config()
    }

    fn position(&self) -> (u64, u64) {
        self.position()
    }

    fn epoch(&self) -> usize {
        self.epoch()
    }

    fn phase(&self) -> &'static str {
        self.upcoming().label()
    }

    fn with_read_every(self, steps: NonZeroUsize) -> Self {
        self.with_read_every(steps)
    }

    fn work(&mut self) -> Result<Done> {
        self.work()
    }

    fn take_events(&mut self) -> Vec<Event> {
        self.take_events()
    }

    fn save(&mut self) -> Result<Vec<u8>> {
        self.save()
    }

    fn record(&self, event: &Event, folder: &mut RunFolder) -> Result<()> {
        match event {
            Event::Step(_) => Ok(()),
            Event::Transition(report) => {
                let verdict = if report.accepted { "returned" } else { "dropped" };
                let accuracy = report.valid_accuracy;
                let epoch = report.epoch + 1;
                info!(
                    "epoch {epoch}: auxiliary model {verdict} at validation accuracy {accuracy:.4}"
                );
                Ok(())
            }
            Event::Epoch(report) => {
                let genotype = match self.config().search.strength {
                    crate::architecture::Strength::Mixing => &report.genotype_mixing,
                    crate::architecture::Strength::Alpha => &report.genotype_alpha,
                };
                folder.write_metrics(report.epoch, report)?;
                folder.write_epoch_genotype(report.epoch, genotype)?;
                folder.write_genotype(&self.best().expect("an epoch is over").genotype)?;
                info!("epoch {} of {} is over", report.epoch + 1, report.epochs);
                report.warnings.iter().for_each(|warning| warn!("{warning}"));
                Ok(())
            }
        }
    }

    fn finish(&self, _folder: &mut RunFolder) -> Result<Best> {
        Ok(self.best().cloned().expect("a search has at least one epoch"))
    }
}

impl Job for Retraining {
    type Config = RetrainConfig;
    type Event = RetrainEvent;
    type Output = Measured;

    fn config(&self) -> &RetrainConfig {
        self.config()
    }

    fn position(&self) -> (u64, u64) {
        self.position()
    }

    fn epoch(&self) -> usize {
        self.epoch()
    }

    fn phase(&self) -> &'static str {
        if self.is_measuring() { "measure" } else { "train" }
    }

    fn with_read_every(self, steps: NonZeroUsize) -> Self {
        self.with_read_every(steps)
    }

    fn work(&mut self) -> Result<Done> {
        self.work()
    }

    fn take_events(&mut self) -> Vec<RetrainEvent> {
        self.take_events()
    }

    fn save(&mut self) -> Result<Vec<u8>> {
        self.save()
    }

    fn record(&self, event: &RetrainEvent, folder: &mut RunFolder) -> Result<()> {
        match event {
            RetrainEvent::Step(_) => Ok(()),
            RetrainEvent::Epoch(report) => {
                folder.write_metrics(report.epoch, report)?;
                folder.write_genotype(self.genotype())?;
                info!("epoch {} of {} is over", report.epoch + 1, report.epochs);
                Ok(())
            }
        }
    }

    fn finish(&self, folder: &mut RunFolder) -> Result<Measured> {
        self.model().save(&folder.path().join(MODEL))?;
        Ok(self.measured().cloned().expect("the last epoch is measured"))
    }
}
