//! A search on CIFAR-10 with the library alone.
//!
//! `cargo run --release --example search_cifar` uses the bundled sample and a small supernet. It
//! takes about a minute on two cores; the data are far too few for a result. For a real search:
//!
//! ```text
//! cargo run --release --example search_cifar --features cuda -- \
//!     --config search_cifar10 --data DIR --out runs/cifar10
//! ```

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::Parser;
use ec_darts::config::{SearchConfig, Settings};
use ec_darts::data;
use ec_darts::device::DeviceName;
use ec_darts::train::run::{self, Notice, Outcome, RunOptions};
use ec_darts::train::{EpochReport, Event, Resume};
use ec_darts_space::Genotype;

#[derive(Parser)]
#[command(about = "Searches a network for CIFAR-10 images with EC-DARTS")]
struct Arguments {
    /// Settings: a preset, or a TOML file.
    #[arg(long, default_value = "quick")]
    config: PathBuf,
    /// CIFAR in its binary version. Default: the bundled sample of 1,000 images.
    #[arg(long, default_value = "data/cifar10-mini")]
    data: PathBuf,
    /// Run folder.
    #[arg(long, default_value = "runs/quick")]
    out: PathBuf,
    /// flex, wgpu, vulkan, metal, cuda or rocm. Default: the best one that is compiled in.
    #[arg(long)]
    device: Option<DeviceName>,
    /// Stop and save after this number of steps.
    #[arg(long)]
    max_steps: Option<u64>,
    /// Continue the run in the folder, if there is one.
    #[arg(long)]
    resume: bool,
}

fn main() -> ExitCode {
    match search(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A path that does not exist here is resolved in the project's folder, so that the example runs
/// anywhere.
fn in_project(path: &Path) -> PathBuf {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    if path.exists() { path.into() } else { project.join(path) }
}

fn search(arguments: &Arguments) -> anyhow::Result<()> {
    let opened = DeviceName::open_or_best(arguments.device)?;
    println!("device   {}", opened.description);
    let config = SearchConfig::load(&arguments.config, &[])?;
    let images = data::load(&config.data.source(in_project(&arguments.data)))?.train;
    println!("data     {} training images of {} classes", images.len(), images.num_classes());
    println!("run      {}", arguments.out.display());

    let stop = Arc::new(AtomicBool::new(false));
    let asked = stop.clone();
    ctrlc::set_handler(move || asked.store(true, Ordering::Relaxed))?;
    let options = RunOptions {
        out: arguments.out.clone(),
        resume: if arguments.resume { Resume::Auto } else { Resume::Never },
        max_steps: arguments.max_steps,
        stop,
        device: opened.description,
        read_every: None,
    };
    let start = Instant::now();
    let outcome = run::search(config, images, &opened.device, &options, &mut |notice| {
        let Notice::Events(events) = notice else { return };
        for event in events {
            if let Event::Epoch(report) = event {
                print_epoch(report, start.elapsed().as_secs_f64());
            }
        }
    })?;
    match outcome {
        Outcome::Finished(best) => {
            println!(
                "\ngenotype of epoch {}, also in {}:",
                best.epoch + 1,
                arguments.out.display()
            );
            print_genotype(&best.genotype);
        }
        Outcome::Stopped { checkpoint, .. } => {
            println!("saved {}; continue with --resume", checkpoint.display());
        }
    }
    Ok(())
}

fn print_epoch(report: &EpochReport, elapsed_s: f64) {
    print!(
        "epoch {:>2}/{}  train loss {:.3}  validation accuracy: supernet {:.1} %",
        report.epoch + 1,
        report.epochs,
        report.train_loss,
        100.0 * report.supernet_accuracy
    );
    if let Some(transition) = &report.transition {
        let verdict = if transition.accepted { "returned" } else { "dropped" };
        print!(", auxiliary model {:.1} % ({verdict})", 100.0 * transition.valid_accuracy);
    }
    println!("  {elapsed_s:.0} s");
}

fn print_genotype(genotype: &Genotype) {
    for (kind, cell) in genotype.cells() {
        println!("  {kind} cell");
        for (node, picks) in cell.nodes.iter().enumerate() {
            let picks = picks.iter().map(|pick| format!("{} from {}", pick.primitive, pick.from));
            println!("    node {}: {}", node + 2, picks.collect::<Vec<_>>().join(", "));
        }
    }
}
