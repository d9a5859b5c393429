//! The command line. Comments here are the help text.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ec_darts::device::DeviceName;

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
}

#[derive(Subcommand)]
pub enum Command {
    /// Search a genotype on labelled images.
    Search(SearchArguments),
    /// Show, convert or draw a genotype.
    #[command(subcommand)]
    Genotype(GenotypeCommand),
    /// Check or print settings.
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// Searches, and leaves a run folder: settings, metrics, the genotype of every epoch and the best
/// one as JSON, text and SVG, a log, and the last two checkpoints.
///
/// Ctrl-C saves and stops; the same command with --resume goes on, exactly as if it had not stopped.
#[derive(Args)]
#[command(after_help = "Examples:
  ec-darts search --config configs/quick.toml --data data/cifar10-mini --out runs/quick
  ec-darts search --config configs/search_cifar10.toml --data DIR --out runs/cifar10 --device cuda
  ec-darts search --config configs/darts.toml --data DIR --out runs/a --set search.epochs=50")]
pub struct SearchArguments {
    /// Settings, a TOML file; `configs/` has the paper's and smaller ones.
    #[arg(long)]
    pub config: PathBuf,
    /// Folder of CIFAR-10 or CIFAR-100 in the binary version.
    #[arg(long)]
    pub data: PathBuf,
    /// Run folder, made if it is not there.
    #[arg(long)]
    pub out: PathBuf,
    /// Where to compute: flex (CPU), wgpu, vulkan, metal, cuda or rocm. Default: the best one that
    /// this program was built for.
    #[arg(long)]
    pub device: Option<DeviceName>,
    /// Seed of weights, alpha, split, order and augmentation; short for --set search.seed=N.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Threads of the CPU device. Default: all cores.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Save and stop after so many steps (batches of any kind).
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub max_steps: Option<u64>,
    /// Go on with the run in the folder; begins one where there is none.
    #[arg(long)]
    pub resume: bool,
    /// Change one setting; may be given often. See docs/configuration.md.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Print results and errors only.
    #[arg(long, conflicts_with = "json")]
    pub quiet: bool,
    /// Print every event as a line of JSON on standard output.
    #[arg(long)]
    pub json: bool,
}

#[derive(Subcommand)]
pub enum GenotypeCommand {
    /// Print a genotype node by node, with its source where it is a preset.
    Show {
        /// A file, or the name of a preset such as darts_v2; `presets` lists them.
        genotype: String,
    },
    /// Print a genotype in another text form.
    Convert {
        /// A file, or the name of a preset.
        genotype: String,
        /// Form to print.
        #[arg(long, value_enum)]
        to: Form,
    },
    /// Draw both cells.
    Draw {
        /// A file, or the name of a preset.
        genotype: String,
        /// Picture to write: .svg, or .dot for Graphviz.
        #[arg(long)]
        out: PathBuf,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Form {
    /// DARTS' Python text: one list of pairs for each cell.
    Flat,
    /// One list for each node.
    Nested,
    /// JSON.
    Json,
}

#[derive(Subcommand)]
pub enum ConfigCommand {
    /// Say whether settings are valid, and what is wrong with them.
    Check {
        /// A TOML file.
        config: PathBuf,
        /// Change one setting first.
        #[arg(long = "set", value_name = "KEY=VALUE")]
        set: Vec<String>,
    },
    /// Print settings as they would be used.
    Print {
        /// A TOML file.
        config: PathBuf,
        /// Change one setting first.
        #[arg(long = "set", value_name = "KEY=VALUE")]
        set: Vec<String>,
    },
}
