//! The network of one genotype in the form of a retraining.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::module::avg_pool2d;
use burn::tensor::ops::AvgPoolOptions;
use burn::tensor::{Device, Tensor, activation::relu};
use ec_darts_space::Genotype;
use rand::Rng;

use super::geometry::head_position;
use super::{
    DiscreteCell, Geometry, Map, Residuals, Skeleton, Stack, Stem, StemKind, classify, run_cells,
};
use crate::ops::{DropPath, Kernels, Norm, Packed, Packs, draw_parameters};

/// The size of an evaluation network; the genotype is given separately.
#[derive(Clone, Debug, PartialEq)]
pub struct EvaluationConfig {
    /// The layers around the cells.
    pub skeleton: Skeleton,
    /// The layers before the first cell.
    pub stem: StemKind,
    /// Channels of the first cell's nodes.
    #[doc(alias = "C")]
    pub init_channels: usize,
    /// Number of cells. In DARTS' skeleton two of them are reductions; in NAS-Bench-201's skeleton
    /// a third is in each stage.
    #[doc(alias = "layers")]
    pub num_cells: usize,
    /// Number of classes of the data.
    pub num_classes: usize,
}

/// Stacked cells of one genotype in a [`Skeleton`].
#[derive(Module, Debug)]
pub struct EvaluationNetwork {
    /// Convolutions before the first cell.
    pub stem: Stem,
    /// The cells in order.
    pub cells: Vec<DiscreteCell>,
    /// The residual blocks of the skeleton, and the layers behind the cells, if it has any.
    pub residuals: Option<Residuals>,
    /// Second classifier behind the second reduction, used only in training; in DARTS' skeleton.
    pub auxiliary_head: Option<AuxiliaryHead>,
    /// The classifier of the last cell's mean.
    pub classifier: Linear,
}

impl EvaluationConfig {
    /// The network of NAS-Bench-201: 15 cells, 5 in each stage, with 16 channels in the first
    /// stage.
    ///
    /// # Source
    /// NAS-Bench-201, section 2.1.
    pub fn nas_bench_201(num_classes: usize) -> Self {
        let (skeleton, stem) = (Skeleton::NasBench201, StemKind::Cifar);
        Self { skeleton, stem, init_channels: 16, num_cells: 15, num_classes }
    }

    /// The network of the paper for a stem: 14 cells and 48 channels for ImageNet, 20 cells and 36
    /// channels otherwise.
    ///
    /// # Source
    /// DARTS, `cnn/train.py` and `cnn/train_imagenet.py`.
    pub fn new(stem: StemKind, num_classes: usize) -> Self {
        let (init_channels, num_cells) = match stem {
            StemKind::Cifar | StemKind::Stride2 => (36, 20),
            StemKind::Imagenet => (48, 14),
        };
        let skeleton = Skeleton::Darts;
        Self { skeleton, stem, init_channels, num_cells, num_classes }
    }

    /// A network whose weights are drawn from `rng`; the same on every device.
    pub fn init(
        &self,
        genotype: &Genotype,
        rng: &mut impl Rng,
        device: &Device,
    ) -> EvaluationNetwork {
        draw_parameters(self.blank(genotype, device), rng)
    }

    /// A network whose weights will be replaced.
    pub(crate) fn blank(&self, genotype: &Genotype, device: &Device) -> EvaluationNetwork {
        let geometry = self.geometry(genotype);
        let head =
            |(_, map): (usize, Map)| AuxiliaryHead::new(map.channels, self.num_classes, device);
        EvaluationNetwork {
            stem: Stem::new(&geometry.stem, device),
            cells: geometry
                .cells
                .iter()
                .map(|plan| DiscreteCell::new(genotype.cell(plan.kind), plan, device))
                .collect(),
            residuals: Residuals::new(&geometry, device),
            auxiliary_head: geometry.head.map(head),
            classifier: LinearConfig::new(geometry.last.channels, self.num_classes).init(device),
        }
    }

    /// The layers of the network of a genotype.
    ///
    /// # Panics
    /// Where the skeleton has a kind of cell that the genotype lacks: see [`Skeleton::fault`].
    pub fn geometry(&self, genotype: &Genotype) -> Geometry {
        self.stack().geometry(|kind| genotype.cell(kind).concat.len())
    }

    /// The values that determine the geometry, besides those of the cells.
    pub fn stack(&self) -> Stack {
        let Self { skeleton, stem, init_channels, num_cells, .. } = *self;
        Stack { skeleton, stem, init_channels, num_cells }
    }
}

impl EvaluationNetwork {
    /// The same network with another implementation of its operations.
    pub fn with_kernels(mut self, kernels: Kernels) -> Self {
        for cell in &mut self.cells {
            cell.kernels = kernels;
        }
        self
    }

    /// Logits of the classifier.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`
    /// - output: `[batch, num_classes]`
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        classify(self.last_map(images, None, false).0, &self.classifier)
    }

    /// The input of the classifier for some images: the mean of the last map.
    ///
    /// A network frozen by [`Module::freeze`] normalizes by its running statistics and does not
    /// change them, even on an autodiff device; gradients pass through to its input.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`
    /// - output: `[batch, channels]`, the inputs of the classifier
    pub fn features(&self, images: Tensor<4>) -> Tensor<2> {
        self.last_map(images, None, false).0.mean_dim(3).mean_dim(2).flatten(1, 3)
    }

    /// Logits of the classifier and of the auxiliary head, if there is one, with drop path.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`
    /// - output: `[batch, num_classes]` each
    pub fn forward_training(
        &self,
        images: Tensor<4>,
        drop_path: &mut DropPath,
    ) -> (Tensor<2>, Option<Tensor<2>>) {
        let drop_path = Some(drop_path).filter(|drop_path| drop_path.acts());
        let (map, auxiliary) = self.last_map(images, drop_path, true);
        (classify(map, &self.classifier), auxiliary)
    }

    /// The last map before the classifier, and the output of the auxiliary head.
    fn last_map(
        &self,
        images: Tensor<4>,
        mut drop_path: Option<&mut DropPath>,
        with_head: bool,
    ) -> (Tensor<4>, Option<Tensor<2>>) {
        let (kernels, num_cells) = (self.cells[0].kernels, self.cells.len());
        let head = self.auxiliary_head.as_ref().filter(|_| with_head);
        let states = self.stem.forward(images, kernels);
        let mut auxiliary = None;
        let between = (self.residuals.as_ref(), kernels);
        let map = run_cells(states, num_cells, between, |number, [older, newer]| {
            let output = self.cells[number].forward(older, newer, drop_path.as_deref_mut());
            if let Some(head) = head.filter(|_| number == head_position(num_cells)) {
                auxiliary = Some(head.forward(output.clone()));
            }
            output
        });
        (map, auxiliary)
    }
}

impl Packs for EvaluationNetwork {
    fn packs(&self) -> Vec<&Packed> {
        let cells = self.cells.iter().map(|cell| &cell.packed);
        let residuals = Residuals::packs(self.residuals.as_ref());
        std::iter::once(&self.stem.packed).chain(cells).chain(residuals).collect()
    }
}

/// A small classifier of the map after the second reduction cell; its loss is added in training.
/// (This is not the auxiliary model of Induced Structural Transition.)
///
/// ```text
/// ReLU, average pool to 2x2, 1x1 convolution to 128, BN, ReLU, 2x2 convolution to 768, BN, ReLU, linear
/// ```
///
/// The windows of the pool are 5x5; on maps above 10x10 they are half of the map, on maps below 6x6
/// one less than the map. So 8x8 (CIFAR) and 7x7 (ImageNet) get the strides 3 and 2 of DARTS.
///
/// # Source
/// DARTS, `cnn/model.py`, `AuxiliaryHeadCIFAR`, `AuxiliaryHeadImageNet`; for ImageNet with the last batch normalization
/// that DARTS leaves out (docs/deviations.md, `imagenet-head`).
#[derive(Module, Debug)]
pub struct AuxiliaryHead {
    /// A 1x1 convolution.
    pub conv1: Conv2d,
    /// The batch normalization after `conv1`.
    pub bn1: Norm,
    /// A 2x2 convolution.
    pub conv2: Conv2d,
    /// The batch normalization after `conv2`.
    pub bn2: Norm,
    /// The linear layer to the classes.
    pub classifier: Linear,
}

impl AuxiliaryHead {
    /// A head for a map with `num_channels` channels.
    pub fn new(num_channels: usize, num_classes: usize, device: &Device) -> Self {
        let conv = |channels: [usize; 2], kernel: usize| {
            Conv2dConfig::new(channels, [kernel; 2]).with_bias(false).init(device)
        };
        Self {
            conv1: conv([num_channels, 128], 1),
            bn1: Norm::new(128, true, device),
            conv2: conv([128, 768], 2),
            bn2: Norm::new(768, true, device),
            classifier: LinearConfig::new(768, num_classes).init(device),
        }
    }

    /// # Shapes
    /// - `map`: `[batch, num_channels, height, width]`, both at least 2
    /// - output: `[batch, num_classes]`
    ///
    /// # Panics
    /// For a map with a single row or column.
    pub fn forward(&self, map: Tensor<4>) -> Tensor<2> {
        let [_, _, height, width] = map.dims();
        assert!(height.min(width) > 1, "the auxiliary head needs 2x2, not {height}x{width}");
        let window = [height, width].map(|side| side.div_ceil(2).max(5).min(side - 1));
        let options = AvgPoolOptions::new(window)
            .with_stride([height - window[0], width - window[1]])
            .with_count_include_pad(false);
        let pooled = avg_pool2d(relu(map), options);
        let narrow = relu(self.bn1.forward(self.conv1.forward(pooled)));
        let wide = relu(self.bn2.forward(self.conv2.forward(narrow)));
        classify(wide, &self.classifier)
    }
}
