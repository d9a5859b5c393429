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
    CostArguments, DiscretizeArguments, Form, GenotypeCommand, NetworkArguments, NetworkKind,
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
/// A search ends in a genotype: which operations a cell keeps, on which edges. Accuracies printed on
/// the way are search accuracies; the result of a genotype is what it reaches when retrained.
#[derive(Parser)]
#[command(version, propagate_version = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
    /// Tell on standard error what is done: -v epochs, -vv phases, steps and checkpoints with their times,
    /// -vvv images too. Where RUST_LOG is set, it decides.
    #[arg(short, long, action = ArgAction::Count, global = true)]
    pub verbose: u8,
    /// Write where the time goes, for ui.perfetto.dev or chrome://tracing.
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
    /// Make a page about a search and what came of it: curves, cells, accuracy, costs.
    Report(ReportArguments),
    /// Many searches and trainings that answer a question: variants compared, ranks, random baselines.
    #[command(subcommand)]
    Study(StudyCommand),
    /// Measure a trained network on the test images of a data set.
    Evaluate(EvaluateArguments),
    /// Say what is on images.
    Classify(ClassifyArguments),
    /// Write a trained network in a format of others.
    Export(ExportArguments),
    /// Make a trained network of weights in the names of PyTorch.
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
        /// Which shell.
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

/// Searches, and leaves a run folder: settings, metrics, the genotype of every epoch and the best
/// one as JSON, text and SVG, a log, and the last two checkpoints.
///
/// Ctrl-C saves and stops; the same command with --resume goes on, exactly as if it had not stopped.
#[derive(Args)]
#[command(after_help = "Examples:
  ec-darts search --config quick --data data/cifar10-mini --out runs/quick
  ec-darts search --config search_cifar10 --data DIR --out runs/cifar10 --device cuda
  ec-darts search --config darts --data DIR --out runs/a --epochs 50 --set weights.momentum=0.8")]
pub struct SearchArguments {
    #[command(flatten)]
    pub run: RunArguments,
}

/// Trains the network of a genotype from scratch, which gives the genotype its accuracy. Leaves a run
/// folder: settings, metrics, a log, the last two checkpoints, and the trained network.
///
/// Ctrl-C saves and stops; the same command with --resume goes on, exactly as if it had not stopped.
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

/// Searches a genotype, retrains it, measures it on the test images and makes a report of it all: folders
/// `search` and `retrain`, `evaluation.json`, `report.html`.
///
/// Ctrl-C saves and stops; the same command with --resume goes on where it was.
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

/// What is changed in settings.
#[derive(Args, Default)]
pub struct SettingChanges {
    /// Change one setting; may be given often. See docs/configuration.md.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Seed of all random draws; short for --set search.seed=N or --set retrain.seed=N.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Epochs; short for --set search.epochs=N or --set retrain.epochs=N.
    #[arg(long, value_name = "N")]
    pub epochs: Option<u64>,
    /// Images of a batch; short for --set search.batch_size=N or --set retrain.batch_size=N.
    #[arg(long, value_name = "N")]
    pub batch_size: Option<u64>,
    /// Side of the images that the network reads, in pixels; short for --set data.image_size=N, with
    /// data.resize in the same ratio as before.
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
    /// Run folder, made if it is not there.
    #[arg(long)]
    pub out: PathBuf,
    /// Where to compute: cpu (or flex), wgpu, vulkan, metal, cuda or rocm. Default: the best one that
    /// answers, of those that this program was built for.
    #[arg(long)]
    pub device: Option<DeviceName>,
    /// Threads of the CPU device. Default: all cores.
    #[arg(long, value_parser = threads)]
    pub threads: Option<u16>,
    /// Save and stop after so many steps (batches of any kind); the exit code is then 3.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub max_steps: Option<u64>,
    /// Go on with the run in the folder; with `auto`, begin one where there is none.
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "always")]
    pub resume: Option<WhenToResume>,
    /// Start although the memory that is needed is not there.
    #[arg(long)]
    pub force: bool,
    /// Print results and errors only.
    #[arg(long, conflicts_with = "json")]
    pub quiet: bool,
    /// Print every event as a line of JSON on standard output; the last one says how it ended.
    #[arg(long)]
    pub json: bool,
}

/// Makes or renews `report.html` in a folder that holds the run folder of a search as `search`, that of
/// a retraining as `retrain`, and `evaluation.json`; or in the run folder of a search. What is not there
/// is said to be not run. The page needs no network and no script.
#[derive(Args)]
pub struct ReportArguments {
    /// The folder.
    pub folder: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WhenToResume {
    /// There must be a run with a checkpoint.
    Always,
    /// A run that does not exist yet begins, as schedulers need it that start a job again.
    Auto,
}

#[derive(Subcommand)]
pub enum ConfigCommand {
    /// List the presets that the program carries with it.
    List,
    /// Say whether settings are valid, and what is wrong with them.
    Check {
        /// The name of a preset, or a TOML file.
        config: PathBuf,
        #[command(flatten)]
        changes: SettingChanges,
    },
    /// Print settings as they would be used.
    Print {
        /// The name of a preset, or a TOML file.
        config: PathBuf,
        #[command(flatten)]
        changes: SettingChanges,
    },
}

/// Threads, of which a processor each is there: with more of them they take turns, and a step that others
/// wait for takes a hundred times as long.
fn threads(text: &str) -> Result<u16, String> {
    let processors = ec_darts::device::processors();
    let threads = text.parse().ok().filter(|threads| (1..=processors).contains(threads));
    threads.ok_or_else(|| format!("allowed: 1 to {processors}, the processors of this machine"))
}
