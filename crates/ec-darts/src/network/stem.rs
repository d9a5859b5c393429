//! What stands before the first cell.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::tensor::{Device, Tensor, activation::relu};
use serde::{Deserialize, Serialize};

use crate::ops::{EdgeParts, Kernels, Norm, conv};

/// Which stem a network has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StemKind {
    /// One 3x3 convolution at full size (CIFAR, 32x32).
    Cifar,
    /// The same with stride 2 (Tiny ImageNet, 64x64).
    Stride2,
    /// Three 3x3 convolutions of stride 2 (ImageNet, 224x224 to 28x28).
    Imagenet,
}

impl StemKind {
    /// Channels of the two states handed to the first cell, of a network of `init_channels`.
    pub fn num_channels(self, init_channels: usize) -> usize {
        match self {
            Self::Cifar | Self::Stride2 => 3 * init_channels,
            Self::Imagenet => init_channels,
        }
    }

    /// By how much the newer state is smaller than the image, rows and columns alike.
    pub fn shrink(self) -> usize {
        match self {
            Self::Cifar => 1,
            Self::Stride2 => 2,
            Self::Imagenet => 8,
        }
    }

    /// Channels of each convolution's output, and by how much it is smaller than the image.
    pub(crate) fn layers(self, init_channels: usize) -> Vec<(usize, usize)> {
        match self {
            Self::Cifar | Self::Stride2 => vec![(self.num_channels(init_channels), self.shrink())],
            Self::Imagenet => vec![(init_channels / 2, 2), (init_channels, 4), (init_channels, 8)],
        }
    }

    /// Whether the older of the two states is twice as large as the newer one.
    pub fn reduces(self) -> bool {
        self == Self::Imagenet
    }
}

/// The convolutions before the first cell; their batch normalization is affine in every network.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "handles of tensors; a few dozen per network")]
pub enum Stem {
    /// [`StemKind::Cifar`] and [`StemKind::Stride2`].
    Single(SingleStem),
    /// [`StemKind::Imagenet`].
    Triple(TripleStem),
}

/// 3x3 convolution, batch normalization.
#[derive(Module, Debug)]
pub struct SingleStem {
    /// From RGB to `3 * init_channels`.
    pub conv: Conv2d,
    /// Its normalization.
    pub bn: Norm,
}

/// Three 3x3 convolutions of stride 2.
///
/// # Source
/// DARTS, `cnn/model.py`, `NetworkImageNet`.
#[derive(Module, Debug)]
pub struct TripleStem {
    /// RGB to `init_channels / 2`.
    pub conv1: Conv2d,
    /// Normalization behind `conv1`.
    pub bn1: Norm,
    /// To `init_channels`: the older state.
    pub conv2: Conv2d,
    /// Normalization behind `conv2`.
    pub bn2: Norm,
    /// To `init_channels` once more: the newer state.
    pub conv3: Conv2d,
    /// Normalization behind `conv3`.
    pub bn3: Norm,
}

impl Stem {
    /// The stem of a network of `init_channels`.
    pub fn new(kind: StemKind, init_channels: usize, device: &Device) -> Self {
        let norm = |num_channels| Norm::new(num_channels, true, device);
        let single = |stride| {
            let num_channels = kind.num_channels(init_channels);
            Self::Single(SingleStem {
                conv: conv([3, num_channels], 3, stride, 1, device),
                bn: norm(num_channels),
            })
        };
        match kind {
            StemKind::Cifar => single(1),
            StemKind::Stride2 => single(2),
            StemKind::Imagenet => Self::Triple(TripleStem {
                conv1: conv([3, init_channels / 2], 3, 2, 1, device),
                bn1: norm(init_channels / 2),
                conv2: conv([init_channels / 2, init_channels], 3, 2, 1, device),
                bn2: norm(init_channels),
                conv3: conv([init_channels; 2], 3, 2, 1, device),
                bn3: norm(init_channels),
            }),
        }
    }

    /// The two states that the first cell reads, the older one first.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`
    pub fn forward(&self, images: Tensor<4>, kernels: Kernels) -> [Tensor<4>; 2] {
        let layer = |conv: &Conv2d, norm: &Norm, has_relu: bool, input: Tensor<4>| {
            let parts = || EdgeParts::of(|parts| parts.convolution(conv, norm, has_relu));
            let reference = |input| {
                let input = if has_relu { relu(input) } else { input };
                norm.forward(conv.forward(input))
            };
            kernels.edge(parts, reference, input)
        };
        match self {
            Self::Single(stem) => {
                let state = layer(&stem.conv, &stem.bn, false, images);
                [state.clone(), state]
            }
            Self::Triple(stem) => {
                let half = layer(&stem.conv1, &stem.bn1, false, images);
                let older = layer(&stem.conv2, &stem.bn2, true, half);
                let newer = layer(&stem.conv3, &stem.bn3, true, older.clone());
                [older, newer]
            }
        }
    }
}
