//! What a search and a retraining have in common: threads, device, signals, and what is printed.

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

/// A device, with so many threads where it is the CPU.
pub fn open(device: Option<DeviceName>, threads: Option<u16>) -> anyhow::Result<Opened> {
    if let Some(threads) = threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.into());
        pool.build_global().context("cannot start the threads")?;
    }
    Ok(DeviceName::open_or_best(device)?)
}

pub struct Session {
    pub opened: Opened,
    pub report: Report,
    pub options: RunOptions,
    /// Steps of all runs of this session that were told.
    pub steps: u64,
    signals: Signals,
    force: bool,
    images: Option<Images>,
    failed: Option<anyhow::Error>,
}

impl Session {
    /// Starts the threads and the device; from now on a signal ends the program in an orderly way.
    pub fn start(arguments: &RunArguments) -> anyhow::Result<Self> {
        let events = arguments.json;
        let signals = Signals::watch(move |signal| {
            let stopped = Stopped { signal: Some(signal), saved: None };
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

    /// Reads the images; says what was left out, and what is read for their digest.
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
        // Here a signal ends the program, which it does not while a run could be saved.
        images.digests();
        let mut told = Images::new(images.clone(), folder);
        told.update(&self.report)?;
        self.images = Some(told);
        Ok(images)
    }

    /// An error where the memory that is needed is not there, unless the user wants to try all the same.
    pub fn require(&self, estimate: &Estimate) -> anyhow::Result<()> {
        let told = &estimate.text;
        ensure!(
            estimate.fits || self.force,
            "not enough memory: {told}; --force starts all the same"
        );
        Ok(())
    }

    /// Does work that stops and saves when it is asked to.
    pub fn saving<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        self.signals.clone().saving(|| work(self))
    }

    /// A run that was stopped, as an error: its work is not done.
    pub fn stopped(&self, checkpoint: PathBuf, total_step: u64) -> anyhow::Error {
        Stopped { signal: self.signals.caught(), saved: Some((checkpoint, total_step)) }.into()
    }

    /// An error where a signal came while the last work of its kind was finished.
    pub fn go_on(&self) -> anyhow::Result<()> {
        match self.signals.caught() {
            Some(signal) => Err(Stopped { signal: Some(signal), saved: None }.into()),
            None => Ok(()),
        }
    }

    /// Tells the user, and stops the run where nobody listens any more.
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
                    images.update(&self.report)
                }
                _ => Ok(()),
            });
        }
        if let (None, Err(error)) = (&self.failed, told) {
            // A reader that went away is no reason to lose the run: it stops and saves.
            self.options.stop.store(true, Ordering::Relaxed);
            self.failed = Some(error);
        }
    }

    /// Ends the printing of a run that began; an error where it failed on the way.
    pub fn close(&mut self) -> anyhow::Result<()> {
        self.report.close();
        let told = self.images.as_mut().map_or(Ok(()), |images| images.update(&self.report));
        self.failed.take().map_or(told, Err)
    }
}
