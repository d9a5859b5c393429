//! The command line. Comments here are the help text.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
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
    /// Tell on standard error what is done: -v epochs, -vv phases and checkpoints with their times, -vvv
    /// steps. Where RUST_LOG is set, it decides.
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
#[derive(Args)]
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
    /// Print a genotype of DARTS' space drawn at random, a yardstick for a search.
    ///
    /// Every set of edges that a node can keep, and every primitive but `none`, is as likely as any
    /// other.
    Random {
        /// Of the draw: the same seed gives the same genotype.
        #[arg(long)]
        seed: u64,
    },
    /// Draw both cells.
    Draw {
        /// A file, or the name of a preset.
        genotype: String,
        /// Picture to write: .svg, or .dot for Graphviz.
        #[arg(long)]
        out: PathBuf,
    },
    /// Read a genotype of any epoch of a search again, within a budget.
    Discretize(DiscretizeArguments),
}

/// Reads alpha from a run folder and prints the strongest genotype whose network keeps the budget,
/// what it costs, and what the budget took: which picks changed and how much strength was lost.
/// The same genotype as the search's where the budget does not bind.
#[derive(Args)]
#[command(after_help = "Example, ImageNet's mobile setting:
  ec-darts genotype discretize --run runs/a --network imagenet --max-multiply-adds 600M --out g.json")]
pub struct DiscretizeArguments {
    /// Run folder of a search.
    #[arg(long)]
    pub run: PathBuf,
    /// Alpha at the end of this epoch, counted from 1. Default: the last one that is over.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub epoch: Option<u32>,
    #[command(flatten)]
    pub network: NetworkArguments,
    /// The most multiply-adds for one image, without the auxiliary head, such as 600M.
    #[arg(long, value_name = "COUNT", value_parser = count)]
    pub max_multiply_adds: Option<u64>,
    /// The most parameters, without the auxiliary head, such as 4.5M.
    #[arg(long, value_name = "COUNT", value_parser = count)]
    pub max_parameters: Option<u64>,
    /// Write the genotype here too, as JSON.
    #[arg(long)]
    pub out: Option<PathBuf>,
}

/// Counts without building the network. Multiply-adds are products of convolutions and linear layers
/// for one image, without the auxiliary head; "with elementwise" adds 2 per output of a batch
/// normalization and 1 per output of a ReLU, as P-DARTS and PC-DARTS count.
#[derive(Args)]
pub struct CostArguments {
    /// A file, or the name of a preset such as darts_v2.
    #[arg(long)]
    pub genotype: String,
    #[command(flatten)]
    pub network: NetworkArguments,
    /// Also count each kept operation.
    #[arg(long)]
    pub operations: bool,
    /// Print JSON, each cell and operation included.
    #[arg(long)]
    pub json: bool,
    /// Also build the network with random weights and measure its forward pass.
    #[arg(long)]
    pub latency: bool,
    /// Where to measure: cpu (or flex), wgpu, vulkan, metal, cuda or rocm. Default: the best one that
    /// answers, of those that this program was built for.
    #[arg(long, requires = "latency")]
    pub device: Option<DeviceName>,
    /// Threads of the CPU device. Default: all cores.
    #[arg(long, requires = "latency", value_parser = threads)]
    pub threads: Option<u16>,
    /// Images in a pass that is measured. Default: 1.
    #[arg(long, requires = "latency", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub batch: Option<u16>,
}

/// The network that a genotype is retrained as.
#[derive(Args)]
pub struct NetworkArguments {
    /// The paper's network for these images: 48 channels and 14 cells for ImageNet, 36 and 20 for the
    /// others.
    #[arg(long = "network", value_enum)]
    pub kind: NetworkKind,
    /// Channels of the first cell, an even number.
    #[arg(long, value_parser = clap::value_parser!(u16).range(2..=4096))]
    pub channels: Option<u16>,
    /// Cells, two of them reductions.
    #[arg(long, value_parser = clap::value_parser!(u16).range(3..=64))]
    pub cells: Option<u16>,
    /// Classes.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub classes: Option<u32>,
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

#[derive(Clone, Copy, ValueEnum)]
pub enum Form {
    /// DARTS' Python text: one list of pairs for each cell.
    Flat,
    /// One list for each node.
    Nested,
    /// FairDARTS' Python text: primitive, node and source of each pick.
    Triples,
    /// SNAS' Python text: a pair for each edge, `none` where there is no connection.
    EveryEdge,
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

/// A count, by itself or in thousands (k), millions (M) or thousands of millions (G).
fn count(text: &str) -> Result<u64, String> {
    let units = [("k", 1e3), ("M", 1e6), ("G", 1e9)];
    let found = units.iter().find_map(|&(unit, size)| Some((text.strip_suffix(unit)?, size)));
    let (number, size) = found.unwrap_or((text, 1.0));
    let value = number.parse::<f64>().map_or(f64::NAN, |number| (number * size).round());
    // Whole numbers beyond are not exact.
    match (1.0..9e15).contains(&value) {
        true => Ok(value as u64),
        false => Err("allowed: a number of 1 or more, such as 600M, 4.5M or 20000".into()),
    }
}
