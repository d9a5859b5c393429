//! Which set is read and how, and the two sets that it gives.

use std::path::PathBuf;
use std::sync::Arc;

use super::digest::user_folder;
use super::{DataNotice, DatasetKind, ImageDataset};
use crate::{Error, Result};

/// What is read, and how: `config.data.source(folder)` makes one from settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Which set.
    pub kind: DatasetKind,
    /// Where it lies.
    pub folder: PathBuf,
    /// Side of the images that the network reads; none: the set's own.
    pub image_size: Option<usize>,
    /// Shorter side before the centre is cut out; none: no more than `image_size`.
    pub resize: Option<usize>,
    /// Share of each class that becomes the test set, where a folder has none of its own.
    pub test_fraction: f64,
    /// Of that choice.
    pub split_seed: u64,
    /// What a broken image does.
    pub broken: BrokenImages,
    /// Whether images are turned as their cameras noted (Exif).
    pub orientation: bool,
    /// Memory for decoded images of both sets, in bytes.
    pub cache_bytes: u64,
    /// Folder in which digests of files are kept, so that a large set is not read for them again; none:
    /// nothing is kept.
    pub digests: Option<PathBuf>,
}

impl Source {
    /// A set as it is, with the defaults of the settings. Digests are kept in the user's folder for
    /// caches.
    pub fn new(kind: DatasetKind, folder: impl Into<PathBuf>) -> Self {
        Self {
            kind,
            folder: folder.into(),
            image_size: None,
            resize: None,
            test_fraction: 0.2,
            split_seed: 0,
            broken: BrokenImages::Skip,
            orientation: true,
            cache_bytes: 2 << 30,
            digests: user_folder(),
        }
    }
}

/// What an image does that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BrokenImages {
    /// It is left out, counted and named.
    Skip,
    /// It is an error.
    Fail,
}

/// Training and test images.
#[derive(Clone, Debug)]
pub struct Datasets {
    /// What a search may use.
    pub train: Arc<ImageDataset>,
    /// What only the final evaluation may use.
    pub test: Arc<ImageDataset>,
    /// What was left out, passed over or looks wrong.
    pub notices: Vec<DataNotice>,
}

/// What tells images from others: SHA-256 of both sets, in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DataDigests {
    /// Of the training images.
    pub train: String,
    /// Of the test images.
    pub test: String,
}

impl Datasets {
    /// [`ImageDataset::digest`] of both sets.
    pub fn digests(&self) -> DataDigests {
        DataDigests { train: self.train.digest(), test: self.test.digest() }
    }

    /// All notices: those of loading, and images that were found broken since.
    pub fn all_notices(&self) -> Vec<DataNotice> {
        [self.notices.clone(), self.train.replaced(), self.test.replaced()].concat()
    }

    /// Images that a program hands over; those of the test set are normalized as the training images.
    ///
    /// # Errors
    /// [`Error::Images`] where the two differ in their size or their classes.
    pub fn new(train: ImageDataset, test: ImageDataset) -> Result<Self> {
        if train.size() != test.size() || train.class_names() != test.class_names() {
            let told = |set: &ImageDataset| {
                let ([height, width], classes) = (set.size(), set.class_names());
                format!("{height}x{width} pixels of the classes {classes:?}")
            };
            let reason = format!("training has {}, testing has {}", told(&train), told(&test));
            return Err(Error::Images { reason });
        }
        let test = test.with_normalization(train.normalization())?;
        Ok(Self { train: Arc::new(train), test: Arc::new(test), notices: Vec::new() })
    }
}
