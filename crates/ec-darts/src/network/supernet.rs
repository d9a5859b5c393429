//! The supernet, also called one-shot model: all candidate networks in one.

use std::collections::HashMap;

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use ec_darts_kernels::Edge;
use ec_darts_space::{CellKind, PerKind, SearchSpace};
use rand::Rng;

use super::{CellForm, SearchCell, Stem, StemKind, classify, plan_cells};
use crate::ops::{Kernels, Packed, Packs, draw_parameters};
use crate::optim::Ran;
use crate::rule::Mixing;

/// What determines a supernet's shape.
#[derive(Clone, Debug, PartialEq)]
pub struct SupernetConfig {
    /// Primitives and topology.
    pub space: SearchSpace,
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
    /// How cells are made of their candidates.
    pub form: CellForm,
}

/// Stacked search cells between a stem and a classifier.
///
/// Mixing weights are an argument of [`Self::forward`], not parameters: the supernet holds `w`
/// only.
///
/// # Source
/// DARTS, `cnn/model_search.py`, `Network`.
#[derive(Module, Debug)]
pub struct Supernet {
    /// Convolutions before the first cell.
    pub stem: Stem,
    /// The cells in order.
    pub cells: Vec<SearchCell>,
    /// Normal or reduction, per cell.
    #[module(skip)]
    pub kinds: Vec<CellKind>,
    /// From the last cell's mean to the classes.
    pub classifier: Linear,
}

impl SupernetConfig {
    /// The supernet of the paper behind a stem: 8 cells of 16 channels, in the space of DARTS.
    ///
    /// # Source
    /// DARTS, `cnn/train_search.py`.
    pub fn new(stem: StemKind, num_classes: usize) -> Self {
        Self {
            space: SearchSpace::darts(),
            stem,
            init_channels: 16,
            num_cells: 8,
            num_classes,
            form: CellForm::default(),
        }
    }

    /// A supernet whose weights are drawn from `rng`; the same on every device.
    pub fn init(&self, rng: &mut impl Rng, device: &Device) -> Supernet {
        let num_nodes = self.space.topology().num_nodes();
        let stem_channels = self.stem.num_channels(self.init_channels);
        let plans = plan_cells(
            self.num_cells,
            self.init_channels,
            |_| num_nodes,
            stem_channels,
            self.stem.reduces(),
        );
        let last = plans.last().map_or(stem_channels, |plan| num_nodes * plan.num_channels);
        let cell = |plan| SearchCell::new(&self.space, plan, self.form, device);
        let supernet = Supernet {
            stem: Stem::new(self.stem, self.init_channels, device),
            cells: plans.iter().map(cell).collect(),
            kinds: plans.iter().map(|plan| plan.kind).collect(),
            classifier: LinearConfig::new(last, self.num_classes).init(device),
        };
        draw_parameters(supernet, rng)
    }
}

impl Supernet {
    /// The same supernet with its operations computed another way.
    pub fn with_kernels(mut self, kernels: Kernels) -> Self {
        for cell in &mut self.cells {
            cell.kernels = kernels;
        }
        self
    }

    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`
    /// - output: `[batch, num_classes]`, logits
    pub fn forward(&self, images: Tensor<4>, mixing: &Mixing) -> Tensor<2> {
        let [mut older, mut newer] = self.stem.forward(images, self.cells[0].kernels);
        let mut of_kinds = HashMap::new();
        for (number, (cell, &kind)) in self.cells.iter().zip(&self.kinds).enumerate() {
            let weights = of_kinds.entry(kind).or_insert_with(|| cell.weights(mixing, kind));
            weights.skip_dropout = mixing.skip_dropout.clone().map(|dropout| (dropout, number));
            let output = cell.forward(older, newer.clone(), weights);
            (older, newer) = (newer, output);
        }
        classify(newer, &self.classifier)
    }

    /// Of the weights of each cell those that a pass along a path reads.
    pub fn parameters_along(&self, path: &PerKind<Vec<usize>>) -> Ran {
        let of_cell = |(cell, &kind): (&SearchCell, &CellKind)| {
            let ranges = cell.along(path.cell(kind)).edges().map(Edge::parameter_range).collect();
            (cell.packed.weights.id, ranges)
        };
        self.cells.iter().zip(&self.kinds).map(of_cell).collect()
    }
}

impl Packs for Supernet {
    fn packs(&self) -> Vec<&Packed> {
        let cells = self.cells.iter().map(|cell| &cell.packed);
        std::iter::once(&self.stem.packed).chain(cells).collect()
    }
}
