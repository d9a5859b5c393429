//! The known data sets.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Normalization;

/// A known data set, or any folder of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DatasetKind {
    /// 10 classes, 32x32, the binary version.
    Cifar10,
    /// 100 classes, 32x32, the binary version.
    Cifar100,
    /// 10 classes, 28x28, grey: IDX files.
    FashionMnist,
    /// 200 classes, 64x64: the folder layout of `tiny-imagenet-200`.
    TinyImagenet,
    /// 1000 classes, photographs: the folder layout of ILSVRC 2012.
    Imagenet,
    /// A folder of images per class.
    Folder,
    /// Images that a program gives to [`super::ImageDataset::new`]; no file is read.
    Memory,
}

impl DatasetKind {
    /// All kinds that are read from a folder, in the order of the documentation.
    pub const ALL: [Self; 6] = [
        Self::Cifar10,
        Self::Cifar100,
        Self::FashionMnist,
        Self::TinyImagenet,
        Self::Imagenet,
        Self::Folder,
    ];

    /// The name used in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cifar10 => "cifar10",
            Self::Cifar100 => "cifar100",
            Self::FashionMnist => "fashion-mnist",
            Self::TinyImagenet => "tiny-imagenet",
            Self::Imagenet => "imagenet",
            Self::Folder => "folder",
            Self::Memory => "memory",
        }
    }

    /// The kind that the content of a folder suggests.
    pub fn guess(folder: &Path) -> Self {
        let any = |names: &[&str]| names.iter().any(|name| folder.join(name).exists());
        let is_wnid = |name: &str| name.len() == 9 && name.starts_with('n');
        let train = std::fs::read_dir(folder.join("train")).into_iter().flatten().flatten();
        if any(&["data_batch_1.bin", "cifar-10-batches-bin"]) {
            Self::Cifar10
        } else if any(&["train.bin", "cifar-100-binary"]) {
            Self::Cifar100
        } else if any(&["train-images-idx3-ubyte", "train-images-idx3-ubyte.gz"]) {
            Self::FashionMnist
        } else if any(&["wnids.txt"]) {
            Self::TinyImagenet
        } else if train.take(1).any(|entry| is_wnid(&entry.file_name().to_string_lossy())) {
            Self::Imagenet
        } else {
            Self::Folder
        }
    }

    /// Side of its images as a network reads them, in pixels; none where images may have any size.
    pub fn image_size(self) -> Option<usize> {
        match self {
            Self::Cifar10 | Self::Cifar100 => Some(32),
            Self::FashionMnist => Some(28),
            Self::TinyImagenet => Some(64),
            Self::Imagenet => Some(224),
            Self::Folder | Self::Memory => None,
        }
    }

    /// Mean and standard deviation of the training images, where they are published.
    ///
    /// # Source
    /// CIFAR: the published figures, for CIFAR-10 equal to [`super::ImageDataset::measure`]; those of
    /// DARTS, `cnn/utils.py`, differ from them by less than 4e-7. ImageNet: DARTS,
    /// `cnn/train_imagenet.py`. Fashion-MNIST and Tiny ImageNet: the figures in general use.
    pub fn normalization(self) -> Option<Normalization> {
        let (mean, std) = match self {
            Self::Cifar10 => (
                [0.491_399_68, 0.482_158_41, 0.446_530_9],
                [0.247_032_23, 0.243_485_13, 0.261_587_84],
            ),
            Self::Cifar100 => {
                ([0.507_075_2, 0.486_548_9, 0.440_917_84], [0.267_334_3, 0.256_438_47, 0.276_150_5])
            }
            Self::FashionMnist => ([0.2860; 3], [0.3530; 3]),
            Self::TinyImagenet => ([0.4802, 0.4481, 0.3975], [0.2770, 0.2691, 0.2821]),
            Self::Imagenet => ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            Self::Folder | Self::Memory => return None,
        };
        Some(Normalization { mean, std })
    }
}
