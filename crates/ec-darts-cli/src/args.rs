//! The command line. Comments here are the help text.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ec_darts::data::DatasetKind;
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
    /// Count parameters and multiply-adds of the network that a genotype is retrained as.
    Cost(CostArguments),
    /// Check or print settings.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look into a folder of images, or fetch a known set.
    #[command(subcommand)]
    Data(DataCommand),
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
    /// Folder of the images; docs/data.md has the layouts.
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

/// Counts without building the network. Multiply-adds are products of convolutions and linear layers
/// for one image, without the auxiliary head; "with elementwise" adds 2 per output of a batch
/// normalization and 1 per output of a ReLU, as P-DARTS and PC-DARTS count.
#[derive(Args)]
pub struct CostArguments {
    /// A file, or the name of a preset such as darts_v2.
    #[arg(long)]
    pub genotype: String,
    /// The paper's network for these images: 48 channels and 14 cells for ImageNet, 36 and 20 for the
    /// others.
    #[arg(long, value_enum)]
    pub network: NetworkKind,
    /// Channels of the first cell, an even number.
    #[arg(long, value_parser = clap::value_parser!(u16).range(2..=4096))]
    pub channels: Option<u16>,
    /// Cells, two of them reductions.
    #[arg(long, value_parser = clap::value_parser!(u16).range(3..=1000))]
    pub cells: Option<u16>,
    /// Classes.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub classes: Option<u32>,
    /// Also count each kept operation.
    #[arg(long)]
    pub operations: bool,
    /// Print JSON, each cell and operation included.
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum NetworkKind {
    /// One 3x3 convolution before the cells, 32x32 images.
    Cifar,
    /// One 3x3 convolution of stride 2, 64x64 images.
    TinyImagenet,
    /// Three 3x3 convolutions of stride 2, 224x224 images.
    Imagenet,
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
pub enum DataCommand {
    /// Say what a folder holds: images per class, sizes, files that cannot be read, mean and deviation.
    Inspect {
        /// The folder; docs/data.md has the layouts.
        folder: PathBuf,
        /// What to read it as; guessed where it is left out.
        #[arg(long, value_parser = dataset)]
        dataset: Option<DatasetKind>,
        /// Side of the images that mean and deviation are measured on. Default: the set's own, 224 for
        /// a folder of any images.
        #[arg(long, value_parser = clap::value_parser!(u16).range(8..=1024))]
        image_size: Option<u16>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Fetch a set from where its authors publish it, check its SHA-256 and unpack it.
    ///
    /// Interrupted, the same command goes on where it stopped.
    #[cfg(feature = "fetch")]
    Fetch {
        /// Which set; ImageNet is not to be had without an account.
        #[arg(value_parser = clap::builder::PossibleValuesParser::new(crate::fetch::NAMES))]
        name: String,
        /// Folder for the archive and what is in it.
        #[arg(long)]
        out: PathBuf,
        /// Take the files from this address instead: a folder of files with the same names.
        #[arg(long, value_name = "URL")]
        mirror: Option<String>,
    },
}

fn dataset(name: &str) -> Result<DatasetKind, String> {
    let known = DatasetKind::ALL.into_iter().find(|kind| kind.name() == name);
    known.ok_or_else(|| format!("allowed: {}", DatasetKind::ALL.map(DatasetKind::name).join(", ")))
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
