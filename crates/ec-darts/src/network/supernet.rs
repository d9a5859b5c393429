//! The supernet, also called one-shot model: all candidate networks in one.

use std::collections::HashMap;

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use ec_darts_kernels::Edge;
use ec_darts_space::{CellKind, SearchSpace};
use rand::Rng;

use super::{
    CellForm, Geometry, Residuals, SearchCell, Skeleton, Stack, Stem, StemKind, classify, run_cells,
};
use crate::ops::{Kernels, Packed, Packs, draw_parameters};
use crate::optim::Ran;
use crate::rule::{Mixing, Paths};

/// The size of a supernet.
#[derive(Clone, Debug, PartialEq)]
pub struct SupernetConfig {
    /// Primitives and topology.
    pub space: SearchSpace,
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
    /// The structure of the cells.
    pub form: CellForm,
}

/// Stacked search cells between a stem and a classifier.
///
/// Mixing weights are an argument of [`Self::forward`], not parameters: the supernet has `w` only.
///
/// # Source
/// DARTS, `cnn/model_search.py`, `Network`.
#[derive(Module, Debug)]
pub struct Supernet {
    /// Convolutions before the first cell.
    pub stem: Stem,
    /// The cells in order.
    pub cells: Vec<SearchCell>,
    /// The kind of each cell.
    #[module(skip)]
    pub kinds: Vec<CellKind>,
    /// The residual blocks of the skeleton, and the layers behind the cells, if it has any.
    pub residuals: Option<Residuals>,
    /// The classifier of the last cell's mean.
    pub classifier: Linear,
}

impl SupernetConfig {
    /// The supernet of the paper for a stem: 8 cells and 16 channels, in the space of DARTS.
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

    /// The layers of the supernet, in the skeleton of the space's cells.
    pub fn geometry(&self) -> Geometry {
        let Self { stem, init_channels, num_cells, .. } = *self;
        let topology = self.space.topology();
        let skeleton = Skeleton::of(topology);
        let num_joined = topology.joined().len();
        Stack { skeleton, stem, init_channels, num_cells }.geometry(|_| num_joined)
    }

    /// A supernet whose weights are drawn from `rng`; the same on every device.
    pub fn init(&self, rng: &mut impl Rng, device: &Device) -> Supernet {
        let geometry = self.geometry();
        let cell = |plan| SearchCell::new(&self.space, plan, self.form, device);
        let supernet = Supernet {
            stem: Stem::new(&geometry.stem, device),
            cells: geometry.cells.iter().map(cell).collect(),
            kinds: geometry.cells.iter().map(|plan| plan.kind).collect(),
            residuals: Residuals::new(&geometry, device),
            classifier: LinearConfig::new(geometry.last.channels, self.num_classes).init(device),
        };
        draw_parameters(supernet, rng)
    }
}

impl Supernet {
    /// The same supernet with another implementation of its operations.
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
        let kernels = self.cells[0].kernels;
        let states = self.stem.forward(images, kernels);
        let mut of_kinds = HashMap::new();
        let between = (self.residuals.as_ref(), kernels);
        let map = run_cells(states, self.cells.len(), between, |number, [older, newer]| {
            let (cell, kind) = (&self.cells[number], self.kinds[number]);
            let weights = of_kinds.entry(kind).or_insert_with(|| cell.weights(mixing, kind));
            weights.skip_dropout = mixing.skip_dropout.clone().map(|dropout| (dropout, number));
            cell.forward(older, newer, weights)
        });
        classify(map, &self.classifier)
    }

    /// The ranges of each cell's weights that a pass along a path reads.
    pub fn parameters_along(&self, paths: &Paths) -> Ran {
        let of_cell = |(cell, &kind): (&SearchCell, &CellKind)| {
            let ranges = cell.along(paths.cell(kind)).edges().map(Edge::parameter_range).collect();
            (cell.packed.weights.id, ranges)
        };
        self.cells.iter().zip(&self.kinds).map(of_cell).collect()
    }
}

impl Packs for Supernet {
    fn packs(&self) -> Vec<&Packed> {
        let cells = self.cells.iter().map(|cell| &cell.packed);
        let residuals = Residuals::packs(self.residuals.as_ref());
        std::iter::once(&self.stem.packed).chain(cells).chain(residuals).collect()
    }
}
