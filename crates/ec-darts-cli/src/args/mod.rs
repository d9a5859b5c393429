//! The command line. Comments here are the help text.

mod data;
mod genotype;
mod model;
mod study;

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use ec_darts::device::DeviceName;

pub use data::DataCommand;
pub use genotype::{
    CostArguments, DiscretizeArguments, GenotypeCommand, NetworkArguments, NetworkKind, TextForm,
};
pub use model::{
    ClassifyArguments, EvaluateArguments, ExportArguments, ExportKind, ImportArguments,
};
pub use study::{
    StudyCommand, StudyListArguments, StudyReportArguments, StudyRunArguments, StudySubmitArguments,
};

/// Finds a convolutional network for your images: EC-DARTS, differentiable architecture search with
/// Cross-Edge Normalization and Induced Structural Transition (Zhou et al., ICCV 2021).
///
/// A search ends in a genotype: the operations that a cell keeps, and their edges. Accuracies
/// printed during a search are search accuracies; the result of a genotype is its accuracy after
/// retraining.
#[derive(Parser)]
#[command(version, propagate_version = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
    /// Tell on standard error what the program does: -v epochs, -vv phases, steps and checkpoints
    /// with their times, -vvv images too. RUST_LOG, where it is set, overrides this option.
    #[arg(short, long, action = ArgAction::Count, global = true)]
    pub verbose: u8,
    /// Write a trace of the time spent, for ui.perfetto.dev or chrome://tracing.
    #[arg(long, value_name = "FILE", global = true)]
    pub trace: Option<PathBuf>,
}

#[derive(Subcommand)]
pub enum Command {
    /// Search, retrain, evaluate and report, one after the other.
    Run(WholeRunArguments),
    /// Search a genotype on labelled images.
    Search(SearchArguments),
    /// Train the network of a genotype from scratch.
    Retrain(RetrainArguments),
    /// Show, convert or draw a genotype.
    #[command(subcommand)]
    Genotype(GenotypeCommand),
    /// Count parameters and multiply-adds of the network that a genotype is retrained as.
    Cost(CostArguments),
    /// Make a page about a search and its results: curves, cells, accuracy, costs.
    Report(ReportArguments),
    /// Set runs side by side: settings that differ, results, costs.
    Compare(CompareArguments),
    /// Many searches and trainings that answer a question: variants compared, ranks, random baselines.
    #[command(subcommand)]
    Study(StudyCommand),
    /// Measure a trained network on the test images of a data set.
    Evaluate(EvaluateArguments),
    /// Predict the classes of images.
    Classify(ClassifyArguments),
    /// Write a trained network in another format.
    Export(ExportArguments),
    /// Make a trained network from weights with the names of PyTorch.
    Import(ImportArguments),
    /// Check or print settings.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look into a folder of images, or fetch a known set.
    #[command(subcommand)]
    Data(DataCommand),
    /// Print a script that completes commands and options in a shell.
    #[command(after_help = "Examples:
  ec-darts completions bash > ~/.local/share/bash-completion/completions/ec-darts
  ec-darts completions zsh > \"${fpath[1]}/_ec-darts\"
  ec-darts completions fish > ~/.config/fish/completions/ec-darts.fish")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

impl Command {
    /// Whether each event of a run is printed as a line of JSON.
    pub fn prints_events(&self) -> bool {
        match self {
            Self::Run(arguments) => arguments.run.json,
            Self::Search(arguments) => arguments.run.json,
            Self::Retrain(arguments) => arguments.run.json,
            Self::Study(StudyCommand::Run(arguments)) => arguments.json,
            _ => false,
        }
    }
}

/// Searches, and writes a run folder: settings, metrics, the genotype of every epoch and the best
/// one as JSON, text and SVG, a log, and the last two checkpoints.
///
/// Ctrl-C saves and stops; the same command with --resume continues exactly as if it had not
/// stopped.
#[derive(Args)]
#[command(after_help = "Examples:
  ec-darts search --config quick --data data/cifar10-mini --out runs/quick
  ec-darts search --config search_cifar10 --data DIR --out runs/cifar10 --device cuda
  ec-darts search --config darts --data DIR --out runs/a --epochs 50 --set weights.momentum=0.8")]
pub struct SearchArguments {
    #[command(flatten)]
    pub run: RunArguments,
}

/// Trains the network of a genotype from scratch, which gives the genotype its accuracy. Writes a
/// run folder: settings, metrics, a log, the last two checkpoints, and the trained network.
///
/// Ctrl-C saves and stops; the same command with --resume continues exactly as if it had not
/// stopped.
#[derive(Args)]
#[command(after_help = "Examples:
  ec-darts retrain --genotype runs/quick/genotype.json --config retrain_quick \\
      --data data/cifar10-mini --out runs/quick-retrained
  ec-darts retrain --genotype darts_v2 --config retrain_cifar10 --data DIR --out runs/v2")]
pub struct RetrainArguments {
    /// A file, or the name of a preset such as darts_v2.
    #[arg(long)]
    pub genotype: String,
    #[command(flatten)]
    pub run: RunArguments,
}

/// Searches a genotype, retrains it, measures it on the test images and reports the results:
/// folders `search` and `retrain`, `evaluation.json`, `report.html`.
///
/// Ctrl-C saves and stops; the same command with --resume continues from there.
#[derive(Args)]
#[command(after_help = "Examples:
  ec-darts run --config quick_run --data data/cifar10-mini --out runs/whole
  ec-darts run --config folder_run --data IMAGES --out runs/mine --image-size 96 --batch-size 32
  ec-darts run --config quick_run --data DIR --out runs/b --set retrain.retrain.epochs=30

The settings name those of the search and of the retraining; keys of --set begin with `search.` or
`retrain.`, the other options change both.")]
pub struct WholeRunArguments {
    #[command(flatten)]
    pub run: RunArguments,
}

/// Sets runs side by side, a column for each: the settings that differ, how far each is, its results and its
/// cost. A run is the folder of a search, of a retraining or of a whole run. Settings have the keys of `ec-darts run`:
/// `search.` or `retrain.`, then that of the stage.
#[derive(Args)]
#[command(after_help = "Examples:
  ec-darts compare runs/a runs/b
  ec-darts compare studies/a/searches/darts-s0 studies/a/searches/ec_darts-s0 --json")]
pub struct CompareArguments {
    /// Run folders.
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Changes of settings.
#[derive(Args, Default)]
pub struct SettingChanges {
    /// Change one setting; the option may be repeated. See docs/configuration.md.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Seed of all random draws; short for --set search.seed=N or --set retrain.seed=N.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Epochs; short for --set search.epochs=N or --set retrain.epochs=N.
    #[arg(long, value_name = "N")]
    pub epochs: Option<u64>,
    /// Images per batch; short for --set search.batch_size=N or --set retrain.batch_size=N.
    #[arg(long, value_name = "N")]
    pub batch_size: Option<u64>,
    /// Side of the images that the network reads, in pixels; short for --set data.image_size=N,
    /// with data.resize changed in the same ratio.
    #[arg(long, value_name = "PIXELS")]
    pub image_size: Option<u64>,
}

#[derive(Args)]
pub struct RunArguments {
    /// Settings: the name of a preset, which `ec-darts config list` shows, or a TOML file.
    #[arg(long)]
    pub config: PathBuf,
    #[command(flatten)]
    pub changes: SettingChanges,
    /// Folder of the images; docs/data.md has the layouts.
    #[arg(long)]
    pub data: PathBuf,
    /// Run folder; it is created where it does not exist.
    #[arg(long)]
    pub out: PathBuf,
    /// Device: cpu (or flex), wgpu, vulkan, metal, cuda or rocm. Default: the best device that
    /// answers, of those that this program was built for.
    #[arg(long)]
    pub device: Option<DeviceName>,
    /// Threads of the CPU device. Default: all cores.
    #[arg(long, value_parser = threads)]
    pub threads: Option<u16>,
    /// Save and stop after this number of steps (batches of any kind); the exit code is then 3.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub max_steps: Option<u64>,
    /// Continue the run in the folder; with `auto`, begin a run where the folder has none.
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "always")]
    pub resume: Option<WhenToResume>,
    /// Start even where the machine has less memory than the estimate.
    #[arg(long)]
    pub force: bool,
    /// Print results and errors only.
    #[arg(long, conflicts_with = "json")]
    pub quiet: bool,
    /// Print every event as a line of JSON on standard output; the last one says how the run ended.
    #[arg(long)]
    pub json: bool,
}

/// Makes or renews `report.html` in a folder with the run folder of a search as `search`, the run
/// folder of a retraining as `retrain`, and `evaluation.json`; or in the run folder of a search.
/// The report marks absent parts as not run. The page needs no network and no script.
#[derive(Args)]
pub struct ReportArguments {
    /// The folder.
    pub folder: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WhenToResume {
    /// The folder must have a run with a checkpoint.
    Always,
    /// A run that does not exist yet begins: a scheduler that restarts a job needs this.
    Auto,
}

#[derive(Subcommand)]
pub enum ConfigCommand {
    /// List the presets that are part of the program.
    List,
    /// Check whether settings are valid, and name the faults.
    Check {
        /// The name of a preset, or a TOML file.
        config: PathBuf,
        #[command(flatten)]
        changes: SettingChanges,
    },
    /// Print settings as a run would use them.
    Print {
        /// The name of a preset, or a TOML file.
        config: PathBuf,
        #[command(flatten)]
        changes: SettingChanges,
    },
}

/// A number of threads, at most one per processor: more threads take turns, and a step that waits
/// for another thread takes a hundred times as long.
fn threads(text: &str) -> Result<u16, String> {
    let processors = ec_darts::device::processors();
    let threads = text.parse().ok().filter(|threads| (1..=processors).contains(threads));
    threads.ok_or_else(|| format!("allowed: 1 to {processors}, the processors of this machine"))
}
