//! Arguments of `ec-darts study`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use ec_darts::device::DeviceName;

use super::threads;

#[derive(Subcommand)]
pub enum StudyCommand {
    /// Print a study as it would be run; without one, list those that the program carries with it.
    Show {
        /// The name of a study, or a TOML file.
        study: Option<PathBuf>,
    },
    /// List the trials of a study, and how far each is.
    List(StudyListArguments),
    /// Search and train until no trial of a study is left.
    Run(StudyRunArguments),
    /// Run a study on a cluster.
    Submit(StudySubmitArguments),
    /// Make a page about a study: verdicts, intervals, every trial, costs; the same as Markdown and tables.
    Report(StudyReportArguments),
}

/// Lists the trials of a study: searches, and trainings of genotypes. Which genotypes a search leads to is known when
/// it is done; its trainings are listed from then on.
#[derive(Args)]
#[command(after_help = "Examples:
  ec-darts study list ablation_cpu
  ec-darts study list mine.toml --out studies/mine --json")]
pub struct StudyListArguments {
    /// The name of a study, or a TOML file; docs/studies.md says what is in it.
    pub study: PathBuf,
    /// Folder of the study; without it, the trials that the file alone tells.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Print JSON, for schedulers.
    #[arg(long)]
    pub json: bool,
}

/// Searches and trains, one trial after the other, until nothing is left that this process could take. Each trial is
/// an ordinary run folder in that of the study. Trials that are done are kept; those that were stopped or killed go on.
///
/// The same command may run several times at once, also on several machines that share the folder: a trial is never
/// run by two of them. Ctrl-C saves and stops; the same command goes on.
#[derive(Args)]
#[command(after_help = "Examples:
  ec-darts study run ablation_smoke --data data/cifar10-mini --out studies/smoke
  ec-darts study run mine.toml --data DIR --out studies/mine --threads 2")]
pub struct StudyRunArguments {
    /// The name of a study, or a TOML file; docs/studies.md says what is in it.
    pub study: PathBuf,
    /// Folder of the images; docs/data.md has the layouts.
    #[arg(long)]
    pub data: PathBuf,
    /// Folder of the study, made if it is not there. Studies that share trials may share it.
    #[arg(long)]
    pub out: PathBuf,
    /// Where to compute: cpu (or flex), wgpu, vulkan, metal, cuda or rocm. Default: the best one that
    /// answers, of those that this program was built for.
    #[arg(long)]
    pub device: Option<DeviceName>,
    /// Threads of the CPU device. Default: all cores.
    #[arg(long, value_parser = threads)]
    pub threads: Option<u16>,
    /// Run this trial alone, by its name in `ec-darts study list`; may be given often.
    #[arg(long, value_name = "TRIAL")]
    pub only: Vec<String>,
    /// Take trials again that failed.
    #[arg(long)]
    pub retry_failed: bool,
    /// Stop after so many trials; the exit code is then 3.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_trials: Option<u64>,
    /// Save and stop after so many steps (batches of any kind) of all trials together; the exit code is then 3.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_steps: Option<u64>,
    /// Start trials although the memory that they need is not there.
    #[arg(long)]
    pub force: bool,
    /// Print results and errors only.
    #[arg(long, conflicts_with = "json")]
    pub quiet: bool,
    /// Print every event as a line of JSON on standard output; the last one says how it ended.
    #[arg(long)]
    pub json: bool,
}

/// Writes and submits a job array. Every task of it is `ec-darts study run` on the same folder, which all machines
/// must share, and takes one trial after the other until none is left or its time ends. What was not done by then, or
/// was cancelled, goes on when the same command is given again.
#[derive(Args)]
#[command(after_help = "Examples:
  ec-darts study submit ablation_cpu --data DIR --out studies/a --tasks 8 --cpus-per-task 2 \\
      --time 4:00:00
  ec-darts study submit ablation_gpu --data DIR --out studies/b --tasks 4 --device cuda \\
      --dry-run -- --gres=gpu:1 --account=mine")]
pub struct StudySubmitArguments {
    /// The name of a study, or a TOML file; docs/studies.md says what is in it.
    pub study: PathBuf,
    /// Folder of the images, as all machines see it.
    #[arg(long)]
    pub data: PathBuf,
    /// Folder of the study, which all machines share; scripts and what tasks print are in its folder `slurm`.
    #[arg(long)]
    pub out: PathBuf,
    /// Which scheduler. For others: `ec-darts study run` is the command of every task, `ec-darts study list --json`
    /// tells what is left.
    #[arg(long, value_enum)]
    pub scheduler: SchedulerName,
    /// Tasks of the array: how many trials run at a time.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub tasks: u32,
    /// Processors of each task, which are its threads.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub cpus_per_task: u16,
    /// Time of each task, as Slurm reads it: minutes, or [days-]hours:minutes:seconds.
    #[arg(long)]
    pub time: Option<String>,
    /// Partition of the cluster.
    #[arg(long)]
    pub partition: Option<String>,
    /// Memory of each task, as Slurm reads it, such as 4G.
    #[arg(long, value_name = "SIZE")]
    pub mem: Option<String>,
    /// Where to compute, as in `ec-darts study run`.
    #[arg(long)]
    pub device: Option<DeviceName>,
    /// Take trials again that failed.
    #[arg(long)]
    pub retry_failed: bool,
    /// Print the script, and submit nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Other options of sbatch, each with its value behind =.
    #[arg(last = true, value_name = "OPTION")]
    pub options: Vec<String>,
}

/// Makes a report of what a study has come to so far: `report.html`, a page that stands alone, the same as
/// `report.md`, its figures, trainings and searches as tables (`.csv`), its pictures (`.svg`), and `results.json`, of
/// which the same report can be made without the run folders.
#[derive(Args)]
#[command(after_help = "Examples:
  ec-darts study report ablation_cpu --out studies/a
  ec-darts study report ablation_cpu --out studies/a --difference 0.5
  ec-darts study report studies/a/reports/ablation_cpu/results.json")]
pub struct StudyReportArguments {
    /// The name of a study, or a TOML file; or results of an earlier report (.json).
    pub study: PathBuf,
    /// Folder of the study; the report lies in its folder `reports`, that of results beside them.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// A difference that matters, in points of accuracy: the report says how many seeds it takes to tell it.
    #[arg(long, value_name = "POINTS", default_value_t = 1.0, value_parser = positive)]
    pub difference: f64,
    /// How often it should be told, as a fraction.
    #[arg(long, value_name = "FRACTION", default_value_t = 0.8, value_parser = fraction)]
    pub power: f64,
}

fn positive(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value| (1e-3..=100.0).contains(value));
    value.ok_or_else(|| "expected a number of 0.001 to 100".into())
}

fn fraction(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value| (0.1..=0.999).contains(value));
    value.ok_or_else(|| "expected a number of 0.1 to 0.999".into())
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SchedulerName {
    /// By `sbatch`.
    Slurm,
}
