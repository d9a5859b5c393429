//! Costs of a genotype's network: parameters, multiply-adds and the memory of its maps, counted
//! without building it.
//!
//! Entry points: [`NetworkCost::new`], [`Budget`]. Invariant: the count of parameters equals that of
//! the module that [`EvaluationConfig::init`](crate::network::EvaluationConfig::init) builds.

mod activation;
mod budget;
mod expected;

use std::ops::AddAssign;

pub use budget::Budget;
pub use expected::{CostMeasure, CostTable, Shares};

use ec_darts_space::{CellGenotype, CellKind, Genotype, Pick, Primitive, Recipe};
use serde::Serialize;

use crate::network::{CellPlan, EvaluationConfig, Geometry, Map, Preprocessing, ResidualPlan};

/// Additive counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// Number of trainable parameters.
    pub parameters: u64,
    /// Number of products of convolutions and linear layers, for one image.
    pub multiply_adds: u64,
    /// The same, plus 2 per output of a batch normalization and 1 per output of a ReLU, as P-DARTS
    /// and PC-DARTS count.
    pub multiply_adds_elementwise: u64,
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.parameters += other.parameters;
        self.multiply_adds += other.multiply_adds;
        self.multiply_adds_elementwise += other.multiply_adds_elementwise;
    }
}

impl Cost {
    /// A convolution without bias: `reads` inputs for each of `channels` outputs at `positions`.
    fn conv(&mut self, reads: usize, channels: usize, positions: usize) {
        let (weights, products) = (reads * channels, reads * channels * positions);
        self.parameters += weights as u64;
        self.multiply_adds += products as u64;
        self.multiply_adds_elementwise += products as u64;
    }

    fn norm(&mut self, channels: usize, positions: usize) {
        self.parameters += 2 * channels as u64;
        self.multiply_adds_elementwise += 2 * (channels * positions) as u64;
    }

    fn relu(&mut self, channels: usize, positions: usize) {
        self.multiply_adds_elementwise += (channels * positions) as u64;
    }

    fn linear(&mut self, from: usize, to: usize) {
        self.conv(from, to, 1);
        self.parameters += to as u64;
    }

    fn relu_conv_norm(&mut self, [from, to]: [usize; 2], positions: usize) {
        self.relu(from, positions);
        self.conv(from, to, positions);
        self.norm(to, positions);
    }

    fn factorized_reduce(&mut self, [from, to]: [usize; 2], positions: usize, reduced: usize) {
        self.relu(from, positions);
        self.conv(from, to, reduced);
        self.norm(to, reduced);
    }

    fn separable(&mut self, channels: usize, kernel: usize, positions: usize, out: usize) {
        self.relu(channels, positions);
        self.conv(kernel * kernel, channels, out);
        self.conv(channels, channels, out);
        self.norm(channels, out);
    }

    fn operation(primitive: Primitive, channels: usize, positions: usize, out: usize) -> Self {
        let mut cost = Self::default();
        match primitive.recipe() {
            Recipe::Zero | Recipe::MaxPool { .. } | Recipe::AvgPool { .. } => {}
            Recipe::Identity if positions == out => {}
            Recipe::Identity => cost.factorized_reduce([channels; 2], positions, out),
            Recipe::Separable { kernel, repeats, .. } => {
                for block in 0..repeats {
                    let positions = if block == 0 { positions } else { out };
                    cost.separable(channels, kernel, positions, out);
                }
            }
            Recipe::Convolution { kernel } => {
                cost.relu(channels, positions);
                cost.conv(kernel * kernel * channels, channels, out);
                cost.norm(channels, out);
            }
        }
        cost
    }
}

/// The costs of one cell.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CellCost {
    /// The kind of the cell.
    pub kind: CellKind,
    /// Channels of a node.
    pub num_channels: usize,
    /// The cost of the whole cell.
    #[serde(flatten)]
    pub cost: Cost,
    /// The cost of the preprocessings, which give the inputs the cell's width and size.
    pub preprocess: Cost,
    /// The kept operations, node by node.
    pub operations: Vec<(Pick, Cost)>,
    /// Bytes of this cell's maps of one image that a training step keeps, as defined in
    /// [`NetworkCost::activation_bytes`].
    pub activation_bytes: u64,
}

/// The costs of a genotype's network.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NetworkCost {
    /// The cost without the auxiliary head.
    #[serde(flatten)]
    pub cost: Cost,
    /// Parameters with the auxiliary head, which exists only in training.
    pub parameters_with_auxiliary: u64,
    /// The cost of the convolutions before the first cell.
    pub stem: Cost,
    /// The costs of the cells in order.
    pub cells: Vec<CellCost>,
    /// The cost of the residual blocks between them, in NAS-Bench-201's skeleton.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub residuals: Vec<Cost>,
    /// The cost of the layers from the last map to the classes, in NAS-Bench-201's skeleton with a
    /// batch normalization.
    pub classifier: Cost,
    /// Bytes of the maps of one image that a training step keeps until its backward pass.
    ///
    /// ```text
    /// 4 bytes x ( stem: the image, and output of each convolution, normalization and ReLU
    ///           + for each cell: both preprocessed inputs, every node, their concatenation,
    ///             and the input of every batch normalization
    ///           + for each residual block: output of each convolution, normalization and pool, and the sum
    ///           + the mean over the last map; before it, input and output of a last normalization )
    /// ```
    /// These are the maps of the fused kernels that keep maps (`run.memory = "save"`). Not included
    /// are weights, their gradients and the optimizer's state, which do not grow with the batch;
    /// temporary gradients; the auxiliary head; and channels that kernels add to fill their blocks.
    pub activation_bytes: u64,
}

impl NetworkCost {
    /// Counts a network for square images of `image_size` pixels.
    ///
    /// # Panics
    /// As [`EvaluationConfig::geometry`].
    pub fn new(genotype: &Genotype, config: &EvaluationConfig, image_size: usize) -> Self {
        let geometry = config.geometry(genotype);
        let stem = stem(&geometry, image_size);
        let mut all = Self {
            cost: stem,
            parameters_with_auxiliary: 0,
            stem,
            cells: Vec::new(),
            residuals: Vec::new(),
            classifier: classifier(&geometry, config.num_classes, image_size),
            activation_bytes: activation::beside_cells(&geometry, image_size),
        };
        for plan in &geometry.cells {
            let cell = cell(genotype.cell(plan.kind), plan, image_size);
            all.cost += cell.cost;
            all.activation_bytes += cell.activation_bytes;
            all.cells.push(cell);
        }
        all.residuals = geometry.residuals.iter().map(|plan| residual(plan, image_size)).collect();
        all.residuals.iter().for_each(|&each| all.cost += each);
        all.cost += all.classifier;
        let head = geometry.head.map(|(_, map)| head(map.channels, config.num_classes));
        all.parameters_with_auxiliary = all.cost.parameters + head.unwrap_or_default().parameters;
        all
    }
}

/// The cost of an operation in a cell that reads state `from`.
fn operation(plan: &CellPlan, primitive: Primitive, from: usize, image_size: usize) -> Cost {
    let [read, out] = [plan.state(from), plan.node].map(|map| map.positions(image_size));
    Cost::operation(primitive, plan.node.channels, read, out)
}

fn stem(geometry: &Geometry, image_size: usize) -> Cost {
    let mut cost = Cost::default();
    let mut from = Map { channels: 3, shrink: 1 };
    for (number, &to) in geometry.stem.iter().enumerate() {
        if number > 0 {
            cost.relu(from.channels, from.positions(image_size));
        }
        cost.conv(9 * from.channels, to.channels, to.positions(image_size));
        cost.norm(to.channels, to.positions(image_size));
        from = to;
    }
    cost
}

fn residual(plan: &ResidualPlan, image_size: usize) -> Cost {
    let mut cost = Cost::default();
    let [from, to] = [plan.input.channels, plan.output.channels];
    let [read, out] = [plan.input, plan.output].map(|map| map.positions(image_size));
    for (from, positions) in [(from, read), (to, out)] {
        cost.relu(from, positions);
        cost.conv(9 * from, to, out);
        cost.norm(to, out);
    }
    cost.conv(from, to, out);
    cost
}

fn classifier(geometry: &Geometry, num_classes: usize, image_size: usize) -> Cost {
    let mut cost = Cost::default();
    let Map { channels, .. } = geometry.last;
    if geometry.last_norm {
        let positions = geometry.last.positions(image_size);
        cost.norm(channels, positions);
        cost.relu(channels, positions);
    }
    cost.linear(channels, num_classes);
    cost
}

/// The auxiliary head, of which only the number of parameters is needed; it does not depend on the
/// size of the map.
fn head(channels: usize, num_classes: usize) -> Cost {
    let mut cost = Cost::default();
    cost.conv(channels, 128, 1);
    cost.norm(128, 1);
    cost.conv(4 * 128, 768, 1);
    cost.norm(768, 1);
    cost.linear(768, num_classes);
    cost
}

fn cell(genotype: &CellGenotype, plan: &CellPlan, image_size: usize) -> CellCost {
    let own = plan.preprocessed();
    let mut preprocess = Cost::default();
    for &input in &plan.inputs {
        let (channels, positions) = ([input.channels, own.channels], own.positions(image_size));
        match plan.preprocessing(input) {
            Preprocessing::Identity => {}
            Preprocessing::Pointwise => preprocess.relu_conv_norm(channels, positions),
            Preprocessing::FactorizedReduce => {
                let read = input.positions(image_size);
                preprocess.factorized_reduce(channels, read, positions);
            }
        }
    }
    let picks = genotype.nodes.iter().flatten();
    let operation = |pick: &Pick| operation(plan, pick.primitive, pick.from, image_size);
    let operations: Vec<(Pick, Cost)> = picks.map(|pick| (*pick, operation(pick))).collect();
    let mut cost = preprocess;
    operations.iter().for_each(|&(_, each)| cost += each);
    let (kind, num_channels) = (plan.kind, plan.node.channels);
    let activation_bytes = activation::cell(genotype, plan, image_size);
    CellCost { kind, num_channels, cost, preprocess, operations, activation_bytes }
}

#[cfg(test)]
mod tests {
    use burn::module::{Module, ModuleVisitor, Param};
    use burn::tensor::{Device, Tensor};
    use ec_darts_space::presets;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::network::{Skeleton, StemKind};

    /// Running statistics are no parameters.
    struct Learned(u64);

    impl ModuleVisitor for Learned {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if param.val().is_require_grad() {
                self.0 += param.dims().iter().product::<usize>() as u64;
            }
        }
    }

    /// FairDARTS_g, whose second node has no picks, with every form of edge of GDAS and SNAS.
    const UNEVEN: &str = "Genotype(normal=[('sep_conv_3x3', 2, 0), ('sep_conv_3x3', 2, 1), \
        ('skip_connect', 4, 3), ('sep_conv_5x5', 4, 1), ('dil_conv_3x3', 5, 0), \
        ('sep_conv_3x3', 5, 1)], normal_concat=range(2, 6), reduce=[('max_pool_3x3', 2, 0), \
        ('nor_conv_3x3', 2, 0), ('nor_conv_1x1', 4, 0), ('skip_connect', 4, 2), \
        ('nor_conv_1x1', 4, 2), ('dil_conv_5x5', 4, 1)], reduce_concat=range(2, 6))";

    #[test]
    fn the_count_is_that_of_the_built_network() {
        let presets = presets::Preset::ALL.map(|preset| (preset.name, preset.genotype()));
        let uneven = ("uneven", UNEVEN.parse().unwrap());
        for (name, genotype) in presets.into_iter().chain([uneven]) {
            for (stem, size, channels) in
                [(StemKind::Cifar, 32, 4), (StemKind::Stride2, 64, 6), (StemKind::Imagenet, 224, 8)]
            {
                let (num_cells, num_classes) = (5, 7);
                let config = EvaluationConfig {
                    skeleton: Skeleton::Darts,
                    stem,
                    init_channels: channels,
                    num_cells,
                    num_classes,
                };
                let rng = &mut ChaCha8Rng::seed_from_u64(1);
                let network = config.init(&genotype, rng, &Device::flex().autodiff());
                let cost = NetworkCost::new(&genotype, &config, size);
                let mut learned = Learned(0);
                network.visit(&mut learned);
                let built = learned.0;
                assert_eq!(cost.parameters_with_auxiliary, built, "{name}, {stem:?}");
            }
        }
    }
}
