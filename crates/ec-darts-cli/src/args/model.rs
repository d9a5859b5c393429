//! Trained networks.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ec_darts::device::DeviceName;

use super::{NetworkKind, threads};

/// Classifies the test set, and times single images. Prints top-1, top-5 where there are more than
/// five classes, mean accuracy of the classes, loss, accuracy of each class, and latency. With
/// --out also writes evaluation.json, confusion.csv, confusion.svg, and pictures of the most
/// confident mistakes for the report.
///
/// The data may have only some of the model's classes.
#[derive(Args)]
pub struct EvaluateArguments {
    /// A trained network, such as model.safetensors of a retraining.
    #[arg(long)]
    pub model: PathBuf,
    /// Folder of the data set, in the layout of the model's training set.
    #[arg(long)]
    pub data: PathBuf,
    /// Classify all images of the folder, not only its test images. Where this is the folder of the
    /// training, this includes the training images.
    #[arg(long)]
    pub all: bool,
    /// Classify only the images of this class; the option may be repeated. The prediction is among
    /// all classes of the model.
    #[arg(long = "class", value_name = "NAME")]
    pub classes: Vec<String>,
    /// Device; as for search.
    #[arg(long)]
    pub device: Option<DeviceName>,
    /// Threads of the CPU device. Default: all cores.
    #[arg(long, value_parser = threads)]
    pub threads: Option<u16>,
    /// Images per batch; the latency is always measured with one image.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    pub batch_size: u16,
    /// Folder for the report; it is created where it does not exist.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Print the content of evaluation.json.
    #[arg(long)]
    pub json: bool,
}

/// Prints the most probable classes of each image. An image that cannot be read is named and left
/// out, and the exit code is then 1.
#[derive(Args)]
#[command(after_help = "Examples:
  ec-darts classify --model m.safetensors photo.jpg --top 3
  ec-darts classify --model m.safetensors photos/ more/ --csv classes.csv")]
pub struct ClassifyArguments {
    /// A trained network.
    #[arg(long)]
    pub model: PathBuf,
    /// Images of any size, and folders; every image below a folder is classified.
    #[arg(required = true)]
    pub images: Vec<PathBuf>,
    /// Number of classes to print.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub top: u16,
    /// Device; as for search.
    #[arg(long)]
    pub device: Option<DeviceName>,
    /// Threads of the CPU device. Default: all cores.
    #[arg(long, value_parser = threads)]
    pub threads: Option<u16>,
    /// Print a line of JSON for each image.
    #[arg(long)]
    pub json: bool,
    /// Write a table instead of printing: one row per image, with classes and probabilities.
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub csv: Option<PathBuf>,
}

/// Every format keeps the weights bit for bit, and has the description as JSON in its metadata.
#[derive(Args)]
pub struct ExportArguments {
    /// A trained network.
    #[arg(long)]
    pub model: PathBuf,
    /// The format; docs/models.md says how to load each.
    #[arg(long, value_enum)]
    pub format: ExportKind,
    /// File to write; for torch a folder. Missing folders are created.
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

/// Reads the files of `export --format torch`, or a state dict (.pt) of the public DARTS code.
#[derive(Args)]
#[command(after_help = "Examples:
  ec-darts import exported/model.safetensors --out model.safetensors
  ec-darts import weights.pt --genotype darts_v2 --network cifar --out model.safetensors")]
pub struct ImportArguments {
    /// Safetensors or a PyTorch checkpoint.
    pub file: PathBuf,
    /// A file, or the name of a preset. Not needed for an exported file, which has its own
    /// description.
    #[arg(long)]
    pub genotype: Option<String>,
    /// The paper's network for these images.
    #[arg(long, value_enum, default_value = "cifar", requires = "genotype")]
    pub network: NetworkKind,
    /// Channels of the first cell, an even number. Default: of the paper's network.
    #[arg(long, requires = "genotype", value_parser = clap::value_parser!(u16).range(2..=4096))]
    pub channels: Option<u16>,
    /// Number of cells; two of them are reductions. Default: of the paper's network.
    #[arg(long, requires = "genotype", value_parser = clap::value_parser!(u16).range(3..=64))]
    pub cells: Option<u16>,
    /// Number of classes. Default: of the paper's network.
    #[arg(long, requires = "genotype", value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub classes: Option<u32>,
    /// File with the names of the classes, one per line. Default: numbers.
    #[arg(long, requires = "genotype")]
    pub class_names: Option<PathBuf>,
    /// Trained network to write.
    #[arg(long)]
    pub out: PathBuf,
}
