//! What a search and a retraining have in common: threads, device, signals, and what is printed.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use anyhow::{Context, ensure};
use ec_darts::config::DataConfig;
use ec_darts::data::{self, Datasets, Skipped};
use ec_darts::device::{DeviceName, Opened};
use ec_darts::preflight::Estimate;
use ec_darts::train::run::{Notice, RunOptions};
use tracing::{info, info_span};

use crate::args::RunArguments;
use crate::data::skipped_lines;
use crate::ending::{Ending, Stopped};
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
    signals: Signals,
    force: bool,
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
            resume: arguments.resume,
            max_steps: arguments.max_steps,
            stop: signals.stop.clone(),
            device: opened.description.clone(),
            read_every: None,
        };
        let report = Report::new(arguments.json, arguments.quiet);
        Ok(Self { opened, report, options, signals, force: arguments.force, failed: None })
    }

    /// Reads the images; says which files were skipped.
    pub fn load(&mut self, config: &DataConfig, folder: &Path) -> anyhow::Result<Datasets> {
        info!("reading images in {}", folder.display());
        let images = info_span!("data").in_scope(|| data::load(&config.source(folder)))?;
        self.warn(&images.skipped, "files skipped")?;
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

    /// Says which broken images were met on the way, after loading.
    pub fn tell_replaced(&self, images: &Datasets) -> anyhow::Result<()> {
        self.warn(&images.train.replaced(), "broken training images replaced by others")?;
        self.warn(&images.test.replaced(), "broken test images replaced by others")
    }

    fn warn(&self, skipped: &[Skipped], what: &str) -> anyhow::Result<()> {
        if skipped.is_empty() {
            return Ok(());
        }
        let lines = skipped_lines(skipped);
        self.report.line(&format!("warning: {} {what}\n{}", skipped.len(), lines.trim_end()))
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
        if let (None, Err(error)) = (&self.failed, self.report.notice(notice)) {
            // A reader that went away is no reason to lose the run: it stops and saves.
            self.options.stop.store(true, Ordering::Relaxed);
            self.failed = Some(error);
        }
    }

    /// Ends the printing; an error where it failed on the way.
    pub fn close(&mut self) -> anyhow::Result<()> {
        self.report.close();
        self.failed.take().map_or(Ok(()), Err)
    }
}
