//! The network of one genotype in the form that is retrained from scratch.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::module::avg_pool2d;
use burn::tensor::ops::AvgPoolOptions;
use burn::tensor::{Device, Tensor, activation::relu};
use ec_darts_space::Genotype;
use rand::Rng;

use super::{DiscreteCell, Stem, StemKind, classify, plan_cells};
use crate::ops::{Kernels, Norm, conv, draw_parameters};

/// What determines an evaluation network's shape, besides its genotype.
#[derive(Clone, Debug, PartialEq)]
pub struct EvaluationConfig {
    /// What stands before the first cell.
    pub stem: StemKind,
    /// Channels of the first cell's nodes.
    #[doc(alias = "C")]
    pub init_channels: usize,
    /// Cells, two of them reductions.
    #[doc(alias = "layers")]
    pub num_cells: usize,
    /// Classes of the data.
    pub num_classes: usize,
}

/// Stacked cells of one genotype, with an auxiliary head behind the second reduction.
///
/// # Source
/// DARTS, `cnn/model.py`, `NetworkCIFAR` and `NetworkImageNet`.
#[derive(Module, Debug)]
pub struct EvaluationNetwork {
    /// Convolutions before the first cell.
    pub stem: Stem,
    /// The cells in order.
    pub cells: Vec<DiscreteCell>,
    /// Second classifier, used while training only.
    pub auxiliary_head: AuxiliaryHead,
    /// From the last cell's mean to the classes.
    pub classifier: Linear,
}

impl EvaluationConfig {
    /// A network whose weights are drawn from `rng`; the same on every device.
    pub fn init(
        &self,
        genotype: &Genotype,
        rng: &mut impl Rng,
        device: &Device,
    ) -> EvaluationNetwork {
        let outputs = |kind| genotype.cell(kind).concat.len();
        let plans = plan_cells(
            self.num_cells,
            self.init_channels,
            outputs,
            self.stem.num_channels(self.init_channels),
            self.stem.reduces(),
        );
        let width = |position: usize| outputs(plans[position].kind) * plans[position].num_channels;
        let head_stride = if self.stem == StemKind::Imagenet { 2 } else { 3 };
        let head_width = width(2 * self.num_cells / 3);
        let network = EvaluationNetwork {
            stem: Stem::new(self.stem, self.init_channels, device),
            cells: plans
                .iter()
                .map(|plan| DiscreteCell::new(genotype.cell(plan.kind), plan, device))
                .collect(),
            auxiliary_head: AuxiliaryHead::new(head_width, head_stride, self.num_classes, device),
            classifier: LinearConfig::new(width(self.num_cells - 1), self.num_classes).init(device),
        };
        draw_parameters(network, rng)
    }
}

impl EvaluationNetwork {
    /// The same network with its operations computed another way.
    pub fn with_kernels(mut self, kernels: Kernels) -> Self {
        for cell in &mut self.cells {
            cell.kernels = kernels;
        }
        self
    }

    /// Logits of the classifier and, while training, of the auxiliary head.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`
    /// - output: `[batch, num_classes]` each
    pub fn forward(&self, images: Tensor<4>) -> (Tensor<2>, Option<Tensor<2>>) {
        let training = images.device().is_autodiff();
        let head_position = 2 * self.cells.len() / 3;
        let [mut older, mut newer] = self.stem.forward(images);
        let mut auxiliary = None;
        for (position, cell) in self.cells.iter().enumerate() {
            let output = cell.forward(older, newer.clone());
            (older, newer) = (newer, output);
            if training && position == head_position {
                auxiliary = Some(self.auxiliary_head.forward(newer.clone()));
            }
        }
        (classify(newer, &self.classifier), auxiliary)
    }
}

/// A small classifier on the map behind the second reduction cell; its loss is added while
/// training. (Not the auxiliary model of Induced Structural Transition.)
///
/// ```text
/// ReLU, 5x5 average pool, 1x1 convolution to 128, BN, ReLU, 2x2 convolution to 768, BN, ReLU, linear
/// ```
///
/// # Source
/// DARTS, `cnn/model.py`, `AuxiliaryHeadCIFAR`; for ImageNet with the last batch normalization
/// that DARTS leaves out (docs/deviations.md, `imagenet-head`).
#[derive(Module, Debug)]
pub struct AuxiliaryHead {
    /// Stride of the pool: 3 for CIFAR, 2 for ImageNet.
    pub pool_stride: usize,
    /// 1x1.
    pub conv1: Conv2d,
    /// Behind `conv1`.
    pub bn1: Norm,
    /// 2x2.
    pub conv2: Conv2d,
    /// Behind `conv2`.
    pub bn2: Norm,
    /// To the classes.
    pub classifier: Linear,
}

impl AuxiliaryHead {
    /// On a map of `num_channels`.
    pub fn new(
        num_channels: usize,
        pool_stride: usize,
        num_classes: usize,
        device: &Device,
    ) -> Self {
        Self {
            pool_stride,
            conv1: conv([num_channels, 128], 1, 1, 0, device),
            bn1: Norm::new(128, true, device),
            conv2: conv([128, 768], 2, 1, 0, device),
            bn2: Norm::new(768, true, device),
            classifier: LinearConfig::new(768, num_classes).init(device),
        }
    }

    /// # Shapes
    /// - `map`: `[batch, num_channels, 8, 8]` (CIFAR) or `[batch, num_channels, 7, 7]` (ImageNet)
    /// - output: `[batch, num_classes]`
    pub fn forward(&self, map: Tensor<4>) -> Tensor<2> {
        let options = AvgPoolOptions::new([5; 2])
            .with_stride([self.pool_stride; 2])
            .with_count_include_pad(false);
        let pooled = avg_pool2d(relu(map), options);
        let narrow = relu(self.bn1.forward(self.conv1.forward(pooled)));
        let wide = relu(self.bn2.forward(self.conv2.forward(narrow)));
        self.classifier.forward(wide.flatten(1, 3))
    }
}
