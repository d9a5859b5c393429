//! The layers of NAS-Bench-201's skeleton besides cells: residual blocks between them, and a last
//! batch normalization.

use std::sync::Arc;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::activation::relu;
use burn::tensor::module::avg_pool2d;
use burn::tensor::ops::AvgPoolOptions;
use burn::tensor::{Device, Tensor};
use ec_darts_kernels::{Cell, EdgeOperation};

use super::{Geometry, ResidualPlan};
use crate::ops::{Kernels, Layout, Name, Norm, Packed, edge};

/// A residual block that halves the size.
///
/// ```text
/// y = conv_b(conv_a(x)) + shortcut(x)
/// conv_a, conv_b = ReLU, 3x3 convolution (of stride 2, of stride 1), batch normalization
/// shortcut = mean over 2x2 pixels, 1x1 convolution
/// ```
/// Its batch normalization is affine in every network.
///
/// # Source
/// AutoDL-Projects, `xautodl/models/cell_operations.py`, `ResNetBasicblock`.
#[derive(Module, Debug)]
pub struct ResidualBlock {
    /// Weights and running statistics of both 3x3 convolutions.
    pub packed: Packed,
    /// The 1x1 convolution of the shortcut.
    pub shortcut: Conv2d,
    /// The 3x3 convolutions, each a cell of one edge.
    #[module(skip)]
    layers: Vec<Arc<Cell>>,
}

impl ResidualBlock {
    /// The block of a plan.
    pub fn new(plan: &ResidualPlan, device: &Device) -> Self {
        let mut layers = Self::describe(plan);
        let names = ["conv_a", "conv_b"].map(Name::new);
        let layout = Layout::place(&mut layers, &names);
        let channels = [plan.input.channels, plan.output.channels];
        Self {
            packed: Packed::new(layout, device),
            shortcut: Conv2dConfig::new(channels, [1; 2]).with_bias(false).init(device),
            layers: layers.into_iter().map(Arc::new).collect(),
        }
    }

    /// The 3x3 convolutions, each a cell of one edge.
    pub(crate) fn describe(plan: &ResidualPlan) -> Vec<Cell> {
        let [from, to] = [plan.input.channels, plan.output.channels];
        let layer = |channels, stride| {
            Cell::from(edge(
                vec![EdgeOperation::Convolution { relu: true }],
                channels,
                stride,
                true,
            ))
        };
        vec![layer([from, to], plan.output.shrink / plan.input.shrink), layer([to; 2], 1)]
    }

    /// The 3x3 convolutions in order, each a cell of one edge.
    pub(crate) fn layers(&self) -> impl Iterator<Item = &Cell> {
        self.layers.iter().map(Arc::as_ref)
    }

    /// # Shapes
    /// - `input`: `[batch, channels, height, width]`, rows and columns even
    /// - output: `[batch, 2 * channels, height / 2, width / 2]`
    pub fn forward(&self, input: Tensor<4>, kernels: Kernels) -> Tensor<4> {
        let one = Tensor::ones([1], (&input.device(), input.dtype()));
        let run = |map, layer| kernels.run(layer, &self.packed, vec![map], one.clone(), None);
        let convolved = self.layers.iter().fold(input.clone(), run);
        let pooled = avg_pool2d(input, AvgPoolOptions::new([2; 2]).with_stride([2; 2]));
        convolved + self.shortcut.forward(pooled)
    }
}

/// The layers of NAS-Bench-201's skeleton between and behind the cells of a network.
#[derive(Module, Debug)]
pub struct Residuals {
    /// The blocks in order.
    pub blocks: Vec<ResidualBlock>,
    /// The batch normalization behind the last cell, before a ReLU.
    pub norm: Norm,
    /// The number of the cell after each block.
    #[module(skip)]
    before: Vec<usize>,
}

impl Residuals {
    /// The blocks of a geometry; none in DARTS' skeleton.
    pub fn new(geometry: &Geometry, device: &Device) -> Option<Self> {
        geometry.last_norm.then(|| Self {
            blocks: geometry
                .residuals
                .iter()
                .map(|plan| ResidualBlock::new(plan, device))
                .collect(),
            norm: Norm::new(geometry.last.channels, true, device),
            before: geometry.residuals.iter().map(|plan| plan.before).collect(),
        })
    }

    /// The block before a cell, with its number, if there is one.
    pub(crate) fn block_before(&self, cell: usize) -> Option<(usize, &ResidualBlock)> {
        let number = self.before.iter().position(|&before| before == cell)?;
        Some((number, &self.blocks[number]))
    }

    /// The weights of the blocks' convolutions.
    pub(crate) fn packs(this: Option<&Self>) -> impl Iterator<Item = &Packed> {
        this.into_iter().flat_map(|residuals| &residuals.blocks).map(|block| &block.packed)
    }
}

/// Runs the cells of a network, with the layers of the skeleton between and behind them, from the
/// states of the stem to the map that its classifier reads.
///
/// # Shapes
/// - `states`: the older one, then the newer one
/// - `cell`: the output of a cell by its number, from the older and the newer state before it
pub(crate) fn run_cells(
    states: [Tensor<4>; 2],
    num_cells: usize,
    (residuals, kernels): (Option<&Residuals>, Kernels),
    mut cell: impl FnMut(usize, [Tensor<4>; 2]) -> Tensor<4>,
) -> Tensor<4> {
    let [mut older, mut newer] = states;
    for number in 0..num_cells {
        if let Some((_, block)) = residuals.and_then(|residuals| residuals.block_before(number)) {
            newer = block.forward(newer, kernels);
        }
        let output = cell(number, [older, newer.clone()]);
        (older, newer) = (newer, output);
    }
    match residuals {
        Some(residuals) => relu(residuals.norm.forward(newer)),
        None => newer,
    }
}
