//! The layers before the first cell.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ec_darts_kernels::{Cell, EdgeOperation};
use serde::{Deserialize, Serialize};

use super::{Map, Skeleton};
use crate::ops::{Kernels, Layout, Name, Packed, Packs, edge};

/// The stem of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StemKind {
    /// One 3x3 convolution at full size (CIFAR, 32x32), with three times the channels in DARTS'
    /// skeleton, else with the same number.
    Cifar,
    /// The same with stride 2 (Tiny ImageNet, 64x64).
    Stride2,
    /// Three 3x3 convolutions of stride 2 (ImageNet, 224x224 to 28x28).
    Imagenet,
}

impl StemKind {
    /// The output of each convolution in a network of `init_channels`.
    pub fn maps(self, skeleton: Skeleton, init_channels: usize) -> Vec<Map> {
        let multiplier = match skeleton {
            Skeleton::Darts => 3,
            Skeleton::NasBench201 => 1,
        };
        let layers = match self {
            Self::Cifar => vec![(multiplier * init_channels, 1)],
            Self::Stride2 => vec![(multiplier * init_channels, 2)],
            Self::Imagenet => vec![(init_channels / 2, 2), (init_channels, 4), (init_channels, 8)],
        };
        layers.into_iter().map(|(channels, shrink)| Map { channels, shrink }).collect()
    }

    /// The ratio of the image size to the size of the map after the stem, for rows and columns
    /// alike.
    pub fn shrink(self) -> usize {
        let maps = self.maps(Skeleton::Darts, 2);
        maps[maps.len() - 1].shrink
    }
}

/// The convolutions before the first cell; their batch normalization is affine in every network.
///
/// # Source
/// Three convolutions: DARTS, `cnn/model.py`, `NetworkImageNet`.
#[derive(Module, Debug)]
pub struct Stem {
    /// Weights and running statistics of all convolutions.
    pub packed: Packed,
    /// The convolutions in order, each a cell of one edge.
    #[module(skip)]
    layers: Vec<Arc<Cell>>,
}

impl Stem {
    /// The stem of a geometry: see [`Geometry::stem`](super::Geometry::stem).
    pub fn new(maps: &[Map], device: &Device) -> Self {
        let mut layers = Self::describe(maps);
        let names = match layers.len() {
            1 => vec![Name::new("Single")],
            _ => ["1", "2", "3"].map(|number| Name::new("Triple").with_suffix(number)).to_vec(),
        };
        let layout = Layout::place(&mut layers, &names);
        Self {
            packed: Packed::new(layout, device),
            layers: layers.into_iter().map(Arc::new).collect(),
        }
    }

    /// The convolutions, each a cell of one edge.
    pub(crate) fn describe(maps: &[Map]) -> Vec<Cell> {
        let mut from = Map { channels: 3, shrink: 1 };
        let layer = |(number, to): (usize, &Map)| {
            // The first cell reads the two states of an ImageNet stem before their ReLU.
            let operation = EdgeOperation::Convolution { relu: number > 0 };
            let channels = [from.channels, to.channels];
            let layer = edge(vec![operation], channels, to.shrink / from.shrink, true);
            from = *to;
            Cell::from(layer)
        };
        maps.iter().enumerate().map(layer).collect()
    }

    /// The convolutions in order, each a cell of one edge.
    pub(crate) fn layers(&self) -> impl Iterator<Item = &Cell> {
        self.layers.iter().map(Arc::as_ref)
    }

    /// The two states that the first cell reads, the older one first.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`
    pub fn forward(&self, images: Tensor<4>, kernels: Kernels) -> [Tensor<4>; 2] {
        // Uploaded, because a launch costs more than a value.
        let one = Tensor::from_data([1.0f32], (&images.device(), images.dtype()));
        let mut states = vec![images];
        for layer in &self.layers {
            let input = vec![states[states.len() - 1].clone()];
            states.push(kernels.run(layer, &self.packed, input, one.clone(), None));
        }
        // A single convolution gives both states.
        let newer = states.pop().expect("a stem has a convolution");
        let older = if states.len() > 1 { states.pop() } else { None };
        [older.unwrap_or_else(|| newer.clone()), newer]
    }
}

impl Packs for Stem {
    fn packs(&self) -> Vec<&Packed> {
        vec![&self.packed]
    }
}
