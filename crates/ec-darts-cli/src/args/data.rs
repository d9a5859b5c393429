//! Images.

use std::path::PathBuf;

use clap::Subcommand;
use ec_darts::data::DatasetKind;

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
