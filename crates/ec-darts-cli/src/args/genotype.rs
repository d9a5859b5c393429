//! Genotypes and the costs of their networks.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use ec_darts::device::DeviceName;

use super::threads;

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
        /// TextForm to print.
        #[arg(long, value_enum)]
        to: TextForm,
    },
    /// Print a random genotype of DARTS' space, a baseline for a search.
    ///
    /// All sets of edges that a node can keep have the same probability, and so have all primitives
    /// but `none`.
    Random {
        /// Seed of the draw: the same seed gives the same genotype.
        #[arg(long)]
        seed: u64,
    },
    /// Draw all cells.
    Draw {
        /// A file, or the name of a preset.
        genotype: String,
        /// Picture to write: .svg, or .dot for Graphviz.
        #[arg(long)]
        out: PathBuf,
    },
    /// Derive the genotype of any epoch of a search again, within a budget.
    Discretize(DiscretizeArguments),
}

/// Reads alpha from a run folder. Prints the strongest genotype whose network keeps the budget, its
/// costs, the picks that the budget changed, and the strength lost by the change. Where the budget
/// does not bind, this is the genotype of the search.
#[derive(Args)]
#[command(after_help = "Example, ImageNet's mobile setting:
  ec-darts genotype discretize --run runs/a --network imagenet --max-multiply-adds 600M --out g.json")]
pub struct DiscretizeArguments {
    /// Run folder of a search.
    #[arg(long)]
    pub run: PathBuf,
    /// Alpha at the end of this epoch, counted from 1. Default: the last finished epoch.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub epoch: Option<u32>,
    #[command(flatten)]
    pub network: NetworkArguments,
    /// Limit of multiply-adds for one image, without the auxiliary head, such as 600M.
    #[arg(long, value_name = "COUNT", value_parser = count)]
    pub max_multiply_adds: Option<u64>,
    /// Limit of parameters, without the auxiliary head, such as 4.5M.
    #[arg(long, value_name = "COUNT", value_parser = count)]
    pub max_parameters: Option<u64>,
    /// Also write the genotype to this file, as JSON.
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
    /// Print JSON, with each cell and operation.
    #[arg(long)]
    pub json: bool,
    /// Also build the network with random weights and measure its forward pass.
    #[arg(long)]
    pub latency: bool,
    /// Device of the measurement: cpu (or flex), wgpu, vulkan, metal, cuda or rocm. Default: the
    /// best device that answers, of those that this program was built for.
    #[arg(long, requires = "latency")]
    pub device: Option<DeviceName>,
    /// Threads of the CPU device. Default: all cores.
    #[arg(long, requires = "latency", value_parser = threads)]
    pub threads: Option<u16>,
    /// Images in a measured pass. Default: 1.
    #[arg(long, requires = "latency", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub batch: Option<u16>,
}

/// The network of a retraining.
#[derive(Args)]
pub struct NetworkArguments {
    /// The paper's network for these images: 48 channels and 14 cells for ImageNet, 36 and 20 for
    /// the other sets; or the network of NAS-Bench-201.
    #[arg(long = "network", value_enum)]
    pub kind: NetworkKind,
    /// Channels of the first cell, an even number.
    #[arg(long, value_parser = clap::value_parser!(u16).range(2..=4096))]
    pub channels: Option<u16>,
    /// Number of cells; two of them are reductions. In the network of NAS-Bench-201 a multiple of
    /// 3.
    #[arg(long, value_parser = clap::value_parser!(u16).range(3..=64))]
    pub cells: Option<u16>,
    /// Number of classes.
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
    /// The network of NAS-Bench-201: 16 channels, 15 cells of one kind with residual blocks between
    /// them, 32x32 images.
    #[value(name = "nas-bench-201")]
    NasBench201,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum TextForm {
    /// DARTS' Python text: one list of pairs for each cell.
    Flat,
    /// One list for each node.
    Nested,
    /// FairDARTS' Python text: primitive, node and source of each pick.
    Triples,
    /// SNAS' Python text: a pair for each edge, `none` where there is no connection.
    EveryEdge,
    /// The text of NAS-Bench-201 for its one kind of cell.
    #[value(name = "nas-bench-201")]
    NasBench201,
    /// JSON.
    Json,
}

/// A count, plain or in thousands (k), millions (M) or thousands of millions (G).
fn count(text: &str) -> Result<u64, String> {
    let units = [("k", 1e3), ("M", 1e6), ("G", 1e9)];
    let found = units.iter().find_map(|&(unit, size)| Some((text.strip_suffix(unit)?, size)));
    let (number, size) = found.unwrap_or((text, 1.0));
    let value = number.parse::<f64>().map_or(f64::NAN, |number| (number * size).round());
    // Larger whole numbers are not exact.
    match (1.0..9e15).contains(&value) {
        true => Ok(value as u64),
        false => Err("allowed: a number of 1 or more, such as 600M, 4.5M or 20000".into()),
    }
}
