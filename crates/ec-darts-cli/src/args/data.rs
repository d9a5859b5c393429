//! Images.

use std::path::PathBuf;

use clap::Subcommand;
use ec_darts::data::DatasetKind;

#[derive(Subcommand)]
pub enum DataCommand {
    /// Describe a folder: images per class, sizes, files that cannot be read, mean and deviation.
    Inspect {
        /// The folder; docs/data.md has the layouts.
        folder: PathBuf,
        /// The layout of the folder. Default: guessed.
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
    /// Fetch a set from the address where its authors publish it, check its SHA-256 and unpack it.
    ///
    /// After an interruption, the same command continues the download.
    #[cfg(feature = "fetch")]
    Fetch {
        /// The set. ImageNet is not offered, because it needs an account.
        #[arg(value_parser = clap::builder::PossibleValuesParser::new(crate::fetch::NAMES))]
        name: String,
        /// Folder for the archive and its content.
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
