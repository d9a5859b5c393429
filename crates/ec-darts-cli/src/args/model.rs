//! Trained networks.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ec_darts::device::DeviceName;

use super::{NetworkKind, threads};

/// Classifies the test set, and times single images: top-1, top-5 of more than five classes, mean accuracy of
/// the classes, loss, accuracy of each class, latency. With --out also writes evaluation.json, confusion.csv,
/// confusion.svg, and pictures of the surest mistakes for the report.
///
/// The data may have some of the model's classes only.
#[derive(Args)]
pub struct EvaluateArguments {
    /// A trained network, such as model.safetensors of a retraining.
    #[arg(long)]
    pub model: PathBuf,
    /// Folder of the data set, in the layout of the one the model was trained on.
    #[arg(long)]
    pub data: PathBuf,
    /// Classify all images of the folder, not its test images alone: those that the network was trained on
    /// too, where it is their folder.
    #[arg(long)]
    pub all: bool,
    /// Classify the images of this class only; may be given often. They are classified among all classes of
    /// the model.
    #[arg(long = "class", value_name = "NAME")]
    pub classes: Vec<String>,
    /// Where to compute; as for search.
    #[arg(long)]
    pub device: Option<DeviceName>,
    /// Threads of the CPU device. Default: all cores.
    #[arg(long, value_parser = threads)]
    pub threads: Option<u16>,
    /// Images classified together; latency is of one.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    pub batch_size: u16,
    /// Folder for the report, made if it is not there.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Print evaluation.json.
    #[arg(long)]
    pub json: bool,
}

/// Prints the likeliest classes of each image. An image that cannot be read is named and left out,
/// and the exit code is then 1.
#[derive(Args)]
#[command(after_help = "Examples:
  ec-darts classify --model m.safetensors photo.jpg --top 3
  ec-darts classify --model m.safetensors photos/ more/ --csv classes.csv")]
pub struct ClassifyArguments {
    /// A trained network.
    #[arg(long)]
    pub model: PathBuf,
    /// Images of any size, and folders, of which every image below is taken.
    #[arg(required = true)]
    pub images: Vec<PathBuf>,
    /// Classes to print.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub top: u16,
    /// Where to compute; as for search.
    #[arg(long)]
    pub device: Option<DeviceName>,
    /// Threads of the CPU device. Default: all cores.
    #[arg(long, value_parser = threads)]
    pub threads: Option<u16>,
    /// Print a line of JSON for each image.
    #[arg(long)]
    pub json: bool,
    /// Write a table instead of printing: a row for each image, with classes and probabilities.
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub csv: Option<PathBuf>,
}

/// Every format holds the weights bit for bit, and the description as JSON in its metadata.
#[derive(Args)]
pub struct ExportArguments {
    /// A trained network.
    #[arg(long)]
    pub model: PathBuf,
    /// What to write; docs/models.md says how to load it.
    #[arg(long, value_enum)]
    pub format: ExportKind,
    /// File to write; for torch a folder. Folders are made where they are not there.
    #[arg(long)]
    pub out: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum ExportKind {
    /// Burn's own format.
    Burnpack,
    /// Safetensors with Burn's names and shapes.
    Safetensors,
    /// Safetensors with the names and shapes of the public DARTS code in PyTorch, and a model.py that
    /// loads it.
    Torch,
    /// An ONNX graph, for onnxruntime and others; reads normalized images of any batch size.
    Onnx,
}

/// Reads what `export --format torch` wrote, or a state dict (.pt) of the public DARTS code.
#[derive(Args)]
#[command(after_help = "Examples:
  ec-darts import exported/model.safetensors --out model.safetensors
  ec-darts import weights.pt --genotype darts_v2 --network cifar --out model.safetensors")]
pub struct ImportArguments {
    /// Safetensors or a PyTorch checkpoint.
    pub file: PathBuf,
    /// A file, or the name of a preset. An exported file says itself what it is.
    #[arg(long)]
    pub genotype: Option<String>,
    /// The paper's network for these images.
    #[arg(long, value_enum, default_value = "cifar", requires = "genotype")]
    pub network: NetworkKind,
    /// Channels of the first cell, an even number. Default: that of the network.
    #[arg(long, requires = "genotype", value_parser = clap::value_parser!(u16).range(2..=4096))]
    pub channels: Option<u16>,
    /// Cells, two of them reductions. Default: that of the network.
    #[arg(long, requires = "genotype", value_parser = clap::value_parser!(u16).range(3..=64))]
    pub cells: Option<u16>,
    /// Classes. Default: that of the network.
    #[arg(long, requires = "genotype", value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub classes: Option<u32>,
    /// Names of the classes, a line each. Default: numbers.
    #[arg(long, requires = "genotype")]
    pub class_names: Option<PathBuf>,
    /// Trained network to write.
    #[arg(long)]
    pub out: PathBuf,
}
