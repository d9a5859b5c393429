//! The data set to read, the way of reading it, and the two sets of images in it.

use std::path::PathBuf;
use std::sync::Arc;

use super::digest::user_folder;
use super::{DataNotice, DatasetKind, ImageDataset};
use crate::{Error, Result};

/// A data set and the way of reading it: `config.data.source(folder)` makes one from settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// The data set.
    pub kind: DatasetKind,
    /// The folder of the data set.
    pub folder: PathBuf,
    /// Side of the images that the network reads; none: the set's own.
    pub image_size: Option<usize>,
    /// Shorter side before the centre is cut out; none: to fit `image_size`.
    pub resize: Option<usize>,
    /// Share of each class that becomes the test set, where a folder has no test images.
    pub test_fraction: f64,
    /// Seed of this choice.
    pub split_seed: u64,
    /// The treatment of broken images.
    pub broken: BrokenImages,
    /// Whether images are rotated as their Exif data say.
    pub orientation: bool,
    /// Memory for decoded images of both sets, in bytes.
    pub cache_bytes: u64,
    /// Folder that stores digests of files, so that a large set is not read again for them; none:
    /// nothing is stored.
    pub digests: Option<PathBuf>,
}

impl Source {
    /// A set with the defaults of the settings. Digests are stored in the user's folder for caches.
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

/// The treatment of an image that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BrokenImages {
    /// The image is left out, counted and named.
    Skip,
    /// The image is an error.
    Fail,
}

/// Training and test images.
#[derive(Clone, Debug)]
pub struct Datasets {
    /// The images that a search may use.
    pub train: Arc<ImageDataset>,
    /// The images that only the final evaluation may use.
    pub test: Arc<ImageDataset>,
    /// Notices about images that were left out or replaced, or that look wrong.
    pub notices: Vec<DataNotice>,
}

/// The identity of the images: SHA-256 of both sets, in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DataDigests {
    /// The digest of the training images.
    pub train: String,
    /// The digest of the test images.
    pub test: String,
}

impl Datasets {
    /// [`ImageDataset::digest`] of both sets.
    pub fn digests(&self) -> DataDigests {
        DataDigests { train: self.train.digest(), test: self.test.digest() }
    }

    /// All notices: those of loading, and those about images that broke since.
    pub fn all_notices(&self) -> Vec<DataNotice> {
        [self.notices.clone(), self.train.replaced(), self.test.replaced()].concat()
    }

    /// Images in memory; test images take the normalization of the training images.
    ///
    /// # Errors
    /// [`Error::Images`] where the two sets differ in their size or their classes.
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
