//! Arguments of `ec-darts study`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use ec_darts::device::DeviceName;

use super::threads;

#[derive(Subcommand)]
pub enum StudyCommand {
    /// Print a study with all its settings; without a study, list the built-in ones.
    Show {
        /// The name of a study, or a TOML file.
        study: Option<PathBuf>,
    },
    /// List the trials of a study and their states.
    List(StudyListArguments),
    /// Search and train until no trial of a study is left.
    Run(StudyRunArguments),
    /// Run a study on a cluster.
    Submit(StudySubmitArguments),
    /// Make a page about a study: verdicts, intervals, every trial, costs; also as Markdown and
    /// tables.
    Report(StudyReportArguments),
}

/// Lists the trials of a study: searches, and trainings of genotypes. The genotypes of a search are
/// known when it is done; its trainings are listed from then on.
#[derive(Args)]
#[command(after_help = "Examples:
  ec-darts study list ablation_cpu
  ec-darts study list mine.toml --out studies/mine --json")]
pub struct StudyListArguments {
    /// The name of a study, or a TOML file; docs/studies.md describes the file.
    pub study: PathBuf,
    /// Folder of the study; without it, only the trials that follow from the file.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Print JSON, for schedulers.
    #[arg(long)]
    pub json: bool,
}

/// Searches and trains, one trial after the other, until there is no trial left that this process
/// could take. Each trial is an ordinary run folder in that of the study. Finished trials are kept;
/// stopped or killed ones continue.
///
/// The same command may run several times at once, also on several machines that share the folder:
/// two processes never run the same trial. Ctrl-C saves and stops; the same command continues.
#[derive(Args)]
#[command(after_help = "Examples:
  ec-darts study run ablation_smoke --data data/cifar10-mini --out studies/smoke
  ec-darts study run mine.toml --data DIR --out studies/mine --threads 2")]
pub struct StudyRunArguments {
    /// The name of a study, or a TOML file; docs/studies.md describes the file.
    pub study: PathBuf,
    /// Folder of the images; docs/data.md has the layouts.
    #[arg(long)]
    pub data: PathBuf,
    /// Folder of the study; it is created where it does not exist. Studies with common trials may
    /// share it.
    #[arg(long)]
    pub out: PathBuf,
    /// Device: cpu (or flex), wgpu, vulkan, metal, cuda or rocm. Default: the best device that
    /// answers, of those that this program was built for.
    #[arg(long)]
    pub device: Option<DeviceName>,
    /// Threads of the CPU device. Default: all cores.
    #[arg(long, value_parser = threads)]
    pub threads: Option<u16>,
    /// Run only this trial, by its name in `ec-darts study list`; the option may be repeated.
    #[arg(long, value_name = "TRIAL")]
    pub only: Vec<String>,
    /// Run failed trials again.
    #[arg(long)]
    pub retry_failed: bool,
    /// Stop after this number of trials; the exit code is then 3.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_trials: Option<u64>,
    /// Save and stop after this number of steps (batches of any kind) of all trials together; the
    /// exit code is then 3.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_steps: Option<u64>,
    /// Start trials even where the machine has less memory than the estimate.
    #[arg(long)]
    pub force: bool,
    /// Print results and errors only.
    #[arg(long, conflicts_with = "json")]
    pub quiet: bool,
    /// Print every event as a line of JSON on standard output; the last one says how the command
    /// ended.
    #[arg(long)]
    pub json: bool,
}

/// Writes and submits a job array. Every task is `ec-darts study run` on the same folder, which all
/// machines must share. It takes one trial after the other until none is left or its time ends. The
/// same command, given again, continues unfinished and cancelled work.
#[derive(Args)]
#[command(after_help = "Examples:
  ec-darts study submit ablation_cpu --data DIR --out studies/a --tasks 8 --cpus-per-task 2 \\
      --time 4:00:00
  ec-darts study submit ablation_gpu --data DIR --out studies/b --tasks 4 --device cuda \\
      --dry-run -- --gres=gpu:1 --account=mine")]
pub struct StudySubmitArguments {
    /// The name of a study, or a TOML file; docs/studies.md describes the file.
    pub study: PathBuf,
    /// Folder of the images, as all machines see it.
    #[arg(long)]
    pub data: PathBuf,
    /// Folder of the study, which all machines share; its folder `slurm` has scripts and the output
    /// of tasks.
    #[arg(long)]
    pub out: PathBuf,
    /// The scheduler. For others: `ec-darts study run` is the command of every task, `ec-darts
    /// study list --json` prints the remaining trials.
    #[arg(long, value_enum)]
    pub scheduler: SchedulerName,
    /// Tasks of the array, the number of trials that run at a time.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub tasks: u32,
    /// Processors of each task, which are its threads.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub cpus_per_task: u16,
    /// Time of each task, in the format of Slurm: minutes, or [days-]hours:minutes:seconds.
    #[arg(long)]
    pub time: Option<String>,
    /// Partition of the cluster.
    #[arg(long)]
    pub partition: Option<String>,
    /// Memory of each task, in the format of Slurm, such as 4G.
    #[arg(long, value_name = "SIZE")]
    pub mem: Option<String>,
    /// Device, as in `ec-darts study run`.
    #[arg(long)]
    pub device: Option<DeviceName>,
    /// Run failed trials again.
    #[arg(long)]
    pub retry_failed: bool,
    /// Print the script, and submit nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Other options of sbatch, each with its value after =.
    #[arg(last = true, value_name = "OPTION")]
    pub options: Vec<String>,
}

/// Makes a report of the current results of a study: `report.html`, a page without other files; the
/// same as `report.md`; its figures, trainings and searches as tables (`.csv`); its pictures
/// (`.svg`); and `results.json`, from which the same report can be made without the run folders.
#[derive(Args)]
#[command(after_help = "Examples:
  ec-darts study report ablation_cpu --out studies/a
  ec-darts study report ablation_cpu --out studies/a --difference 0.5
  ec-darts study report studies/a/reports/ablation_cpu/results.json")]
pub struct StudyReportArguments {
    /// The name of a study, or a TOML file; or results of an earlier report (.json).
    pub study: PathBuf,
    /// Folder of the study; the report is in its folder `reports`. For results of an earlier
    /// report, it is beside them.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// A difference that matters, in points of accuracy: the report has the number of seeds that
    /// detect it.
    #[arg(long, value_name = "POINTS", default_value_t = 1.0, value_parser = positive)]
    pub difference: f64,
    /// The probability of its detection, as a fraction.
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
    /// The scheduler Slurm, by `sbatch`.
    Slurm,
}
