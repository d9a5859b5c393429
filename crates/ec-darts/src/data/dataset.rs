//! A set of labelled images in memory.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Normalization;

/// A known data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DatasetKind {
    /// 10 classes, 32x32.
    Cifar10,
    /// 100 classes, 32x32.
    Cifar100,
}

impl DatasetKind {
    /// The name used in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cifar10 => "cifar10",
            Self::Cifar100 => "cifar100",
        }
    }

    /// Classes.
    pub fn num_classes(self) -> usize {
        match self {
            Self::Cifar10 => 10,
            Self::Cifar100 => 100,
        }
    }

    /// Mean and deviation of the training images.
    ///
    /// # Source
    /// The published figures, for CIFAR-10 equal to [`Normalization::measure`]; those of DARTS,
    /// `cnn/utils.py`, differ from them by less than 4e-7.
    pub fn normalization(self) -> Normalization {
        match self {
            Self::Cifar10 => Normalization {
                mean: [0.491_399_68, 0.482_158_41, 0.446_530_9],
                std: [0.247_032_23, 0.243_485_13, 0.261_587_84],
            },
            Self::Cifar100 => Normalization {
                mean: [0.507_075_2, 0.486_548_9, 0.440_917_84],
                std: [0.267_334_3, 0.256_438_47, 0.276_150_5],
            },
        }
    }
}

/// Training and test images.
#[derive(Clone, Debug)]
pub struct Datasets {
    /// What a search may use.
    pub train: Arc<ImageDataset>,
    /// What only the final evaluation may use.
    pub test: Arc<ImageDataset>,
}

/// Labelled RGB images of one size, a byte per value.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageDataset {
    size: [usize; 2],
    pixels: Vec<u8>,
    labels: Vec<u16>,
    class_names: Vec<String>,
}

impl ImageDataset {
    /// Joins pixels and labels.
    ///
    /// # Shapes
    /// - `pixels`: `[labels.len(), 3, height, width]`, row-major
    ///
    /// # Panics
    /// Where a side is 0, the numbers do not fit, or a label has no class.
    pub fn new(
        size: [usize; 2],
        pixels: Vec<u8>,
        labels: Vec<u16>,
        class_names: Vec<String>,
    ) -> Self {
        assert!(size[0] > 0 && size[1] > 0, "images with pixels");
        assert_eq!(pixels.len(), labels.len() * 3 * size[0] * size[1], "pixels of every image");
        assert!(labels.iter().all(|&label| usize::from(label) < class_names.len()), "a class each");
        Self { size, pixels, labels, class_names }
    }

    /// Images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Height and width, in pixels.
    pub fn size(&self) -> [usize; 2] {
        self.size
    }

    /// Classes.
    pub fn num_classes(&self) -> usize {
        self.class_names.len()
    }

    /// Names of the classes, in the order of their labels.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// Class of an image.
    pub fn label(&self, image: usize) -> u16 {
        self.labels[image]
    }

    /// SHA-256 over all images and labels, in hexadecimal.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for image in 0..self.len() {
            hash.update(self.pixels(image));
            hash.update(u64::from(self.label(image)).to_le_bytes());
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Pixels of an image, `[3, height, width]`.
    pub fn pixels(&self, image: usize) -> &[u8] {
        let length = 3 * self.size[0] * self.size[1];
        &self.pixels[image * length..(image + 1) * length]
    }
}
