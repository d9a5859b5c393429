//! `ec-darts search`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use ec_darts::config::SearchConfig;
use ec_darts::data::{self, Datasets};
use ec_darts::device::DeviceName;
use ec_darts::train::run::{Notice, Outcome, RunOptions, run as run_search};
use ec_darts::{memory, preflight};

use crate::args::SearchArguments;
use crate::data::skipped_lines;
use crate::genotype::table;
use crate::print;
use crate::report::Report;

pub fn run(arguments: SearchArguments) -> anyhow::Result<()> {
    let mut overrides = arguments.set.clone();
    overrides.extend(arguments.seed.map(|seed| format!("search.seed={seed}")));
    let config = SearchConfig::load(&arguments.config, &overrides)?;
    if let Some(threads) = arguments.threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.into());
        pool.build_global().context("cannot start the threads")?;
    }
    let opened = arguments.device.unwrap_or_else(DeviceName::preferred).open()?;
    let Datasets { train: images, skipped, .. } = data::load(&config.data.source(&arguments.data))?;
    let available = memory::available_bytes();
    let needed = match opened.is_cpu {
        true => preflight::describe(&config, &images, available)?,
        false => "not estimated for this device".to_string(),
    };
    let mut report = Report::new(&arguments);
    let shape = &config.network;
    if !skipped.is_empty() {
        let lines = skipped_lines(&skipped);
        report.line(&format!("warning: {} files skipped\n{}", skipped.len(), lines.trim_end()))?;
    }
    report.head(&[
        ("device", opened.description.clone()),
        ("data", format!("{} images of {} classes", images.len(), images.num_classes())),
        (
            "network",
            format!(
                "{} cells, {} channels, batch {}",
                shape.num_cells, shape.init_channels, config.search.batch_size
            ),
        ),
        ("memory", needed),
        ("run", arguments.out.display().to_string()),
    ])?;

    let stop = Arc::new(AtomicBool::new(false));
    let asked = stop.clone();
    ctrlc::set_handler(move || {
        // The second time the user means it.
        if asked.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })?;
    let options = RunOptions {
        out: arguments.out.clone(),
        resume: arguments.resume,
        max_steps: arguments.max_steps,
        stop,
        device: opened.description,
    };
    let mut failed = None;
    let images = Arc::new(images);
    let outcome = run_search(config, images.clone(), &opened.device, &options, &mut |notice| {
        if let (None, Err(error)) = (&failed, report.notice(&notice)) {
            // A reader that went away is no reason to lose the search: it stops and saves.
            options.stop.store(true, Ordering::Relaxed);
            failed = Some(error);
        }
        if let Notice::Event(_) = notice {
            report.tick();
        }
    });
    report.close();
    let replaced = images.replaced();
    if !replaced.is_empty() {
        let lines = skipped_lines(&replaced);
        report.line(&format!(
            "warning: {} images replaced\n{}",
            replaced.len(),
            lines.trim_end()
        ))?;
    }
    let outcome = outcome?;
    if let Some(error) = failed {
        return Err(error);
    }
    if arguments.json {
        return Ok(());
    }
    match outcome {
        Outcome::Finished(best) => print(&format!(
            "genotype of epoch {}, also in {}\n{}",
            best.epoch + 1,
            arguments.out.join("genotype.txt").display(),
            table(&best.genotype)
        )),
        Outcome::Stopped { checkpoint, total_step } => print(&format!(
            "stopped at step {total_step}, saved {}; the same command with --resume goes on\n",
            checkpoint.display()
        )),
    }
}
