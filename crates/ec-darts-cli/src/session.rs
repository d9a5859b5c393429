//! Common parts of a search and a retraining: threads, device, signals, and output.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use anyhow::{Context, ensure};
use ec_darts::config::DataConfig;
use ec_darts::data::{self, Datasets};
use ec_darts::device::{DeviceName, Opened};
use ec_darts::preflight::Estimate;
use ec_darts::train::Resume;
use ec_darts::train::run::{Notice, RunOptions};
use tracing::{info, info_span, warn};

use crate::args::{RunArguments, WhenToResume};
use crate::ending::{Ending, Stopped};
use crate::images::Images;
use crate::report::{Report, Told};
use crate::signals::Signals;

/// Starts this number of threads for the CPU device; once, before anything else uses it.
pub fn start_threads(threads: Option<u16>) -> anyhow::Result<()> {
    let Some(threads) = threads else { return Ok(()) };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.into());
    pool.build_global().context("cannot start the threads")
}

/// Opens a device; the CPU device uses this number of threads.
pub fn open(device: Option<DeviceName>, threads: Option<u16>) -> anyhow::Result<Opened> {
    start_threads(threads)?;
    Ok(DeviceName::open_or_best(device)?)
}

pub struct Session {
    pub opened: Opened,
    pub report: Report,
    pub options: RunOptions,
    /// Number of steps reported by all runs of this session.
    pub steps: u64,
    signals: Signals,
    force: bool,
    images: Option<Images>,
    failed: Option<anyhow::Error>,
}

impl Session {
    /// Starts the threads and the device. From now on a signal saves an active run before the
    /// program ends.
    pub fn start(arguments: &RunArguments) -> anyhow::Result<Self> {
        let events = arguments.json;
        let signals = Signals::watch(move |signal| {
            let stopped = Stopped { signal: Some(signal), ..Stopped::default() };
            signal_hook::low_level::exit(Ending::stopped(&stopped).tell(events).into());
        })?;
        let opened = open(arguments.device, arguments.threads)?;
        let options = RunOptions {
            out: arguments.out.clone(),
            resume: match arguments.resume {
                None => Resume::Never,
                Some(WhenToResume::Always) => Resume::Always,
                Some(WhenToResume::Auto) => Resume::Auto,
            },
            max_steps: arguments.max_steps,
            stop: signals.stop.clone(),
            device: opened.description.clone(),
            read_every: None,
        };
        let report = Report::new(arguments.json, arguments.quiet);
        let (force, images, failed) = (arguments.force, None, None);
        Ok(Self { opened, report, options, steps: 0, signals, force, images, failed })
    }

    /// Reads the images; reports the images left out, and the files that are read for the digest.
    pub fn load(&mut self, config: &DataConfig, folder: &Path) -> anyhow::Result<Datasets> {
        info!("reading images in {}", folder.display());
        let images = info_span!("data").in_scope(|| data::load(&config.source(folder)))?;
        let bytes = images.train.bytes_to_digest() + images.test.bytes_to_digest();
        if bytes > 0 {
            let mebibytes = bytes >> 20;
            self.report.line(&format!(
                "digest   of {mebibytes} MiB of files; those that were digested before are not read again"
            ))?;
        }
        // A signal may end the program here, but not while a run could be saved.
        images.digests();
        let mut told = Images::new(images.clone(), folder);
        told.update(|notice| self.report.data_notice(notice))?;
        self.images = Some(told);
        Ok(images)
    }

    /// An error where the machine has less memory than the estimate, unless the user chose to try.
    pub fn require(&self, estimate: &Estimate) -> anyhow::Result<()> {
        let told = &estimate.text;
        ensure!(
            estimate.fits || self.force,
            "not enough memory: {told}; --force starts all the same"
        );
        Ok(())
    }

    /// Does work that saves and stops on request.
    pub fn saving<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        self.signals.clone().saving(|| work(self))
    }

    /// The error for a run that was stopped before its work was done.
    pub fn stopped(&self, checkpoint: PathBuf, total_step: u64) -> anyhow::Error {
        self.stop((checkpoint, total_step), false)
    }

    /// The error for a study whose trial was stopped.
    pub fn stopped_study(&self, saved: (PathBuf, u64)) -> anyhow::Error {
        self.stop(saved, true)
    }

    fn stop(&self, saved: (PathBuf, u64), goes_on: bool) -> anyhow::Error {
        Stopped { signal: self.signals.caught(), saved: Some(saved), goes_on }.into()
    }

    /// An error where a signal came while the last part of the work was finished.
    pub fn go_on(&self) -> anyhow::Result<()> {
        match self.signals.caught() {
            Some(signal) => Err(Stopped { signal: Some(signal), ..Stopped::default() }.into()),
            None => Ok(()),
        }
    }

    /// Tells the user; stops the run where the reader of the output is gone.
    pub fn listen<E: Told>(&mut self, notice: &Notice<E>) {
        if let Notice::Events(events) = notice {
            self.steps += events.iter().filter(|event| event.is_step()).count() as u64;
        }
        let mut told = self.report.notice(notice);
        if let Some(images) = &mut self.images {
            told = told.and_then(|()| match notice {
                Notice::Begin(_) => match images.begin(&self.options.out)? {
                    Some(renewed) => {
                        warn!("{} {}; written again", renewed.file.display(), renewed.reason);
                        self.report.notice(&Notice::<E>::Renewed(&renewed))
                    }
                    None => Ok(()),
                },
                Notice::Events(events) if events.iter().any(|event| !event.is_step()) => {
                    images.update(|notice| self.report.data_notice(notice))
                }
                _ => Ok(()),
            });
        }
        if let (None, Err(error)) = (&self.failed, told) {
            // The run must not be lost because the reader is gone: it saves and stops.
            self.options.stop.store(true, Ordering::Relaxed);
            self.failed = Some(error);
        }
    }

    /// Ends the output of a run; an error where the output failed during the run.
    pub fn close(&mut self) -> anyhow::Result<()> {
        self.report.close();
        let told = self
            .images
            .as_mut()
            .map_or(Ok(()), |images| images.update(|notice| self.report.data_notice(notice)));
        self.failed.take().map_or(told, Err)
    }
}
