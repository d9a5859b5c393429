//! What the network of a genotype costs: parameters, multiply-adds and the memory of its maps, counted
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

use ec_darts_space::{CellGenotype, CellKind, Genotype, NUM_INPUTS, Pick, Primitive, Recipe};
use serde::Serialize;

use crate::network::{CellPlan, EvaluationConfig, StemKind, plan_cells};

/// A count; all of it additive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// Trainable parameters.
    pub parameters: u64,
    /// Products of convolutions and linear layers, for one image.
    pub multiply_adds: u64,
    /// The same, plus 2 per output of a batch normalization and 1 per output of a ReLU: what P-DARTS
    /// and PC-DARTS print.
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

/// One cell.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CellCost {
    /// Normal or reduction.
    pub kind: CellKind,
    /// Channels of a node.
    pub num_channels: usize,
    /// All of the cell.
    #[serde(flatten)]
    pub cost: Cost,
    /// Bringing both inputs to the cell's width and size.
    pub preprocess: Cost,
    /// The kept operations, node by node.
    pub operations: Vec<(Pick, Cost)>,
    /// Bytes of the maps of one image that a training step keeps of this cell: those of
    /// [`NetworkCost::activation_bytes`].
    pub activation_bytes: u64,
}

/// The network of a genotype.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NetworkCost {
    /// Without the auxiliary head.
    #[serde(flatten)]
    pub cost: Cost,
    /// With the auxiliary head, which is there while training only.
    pub parameters_with_auxiliary: u64,
    /// Convolutions before the first cell.
    pub stem: Cost,
    /// In order.
    pub cells: Vec<CellCost>,
    /// From the last cell's mean to the classes.
    pub classifier: Cost,
    /// Bytes of the maps of one image that a training step keeps until its backward pass.
    ///
    /// ```text
    /// 4 bytes x ( stem: the image, and what each convolution, normalization and ReLU puts out
    ///           + for each cell: both preprocessed inputs, every node, their concatenation,
    ///             and the input of every batch normalization
    ///           + the mean over the last map )
    /// ```
    /// These are the maps of the fused kernels that keep maps (`run.memory = "save"`). Left out:
    /// weights, their gradients and the optimizer's state, which do not grow with the batch; the
    /// gradients under way; the auxiliary head; channels that kernels add to fill their blocks.
    pub activation_bytes: u64,
}

impl NetworkCost {
    /// Counts a network for square images of `image_size` pixels.
    pub fn new(genotype: &Genotype, config: &EvaluationConfig, image_size: usize) -> Self {
        let outputs = |kind| genotype.cell(kind).concat.len();
        let (stem, _) = stem(config.stem, config.init_channels, image_size);
        let mut all = Self {
            cost: stem,
            parameters_with_auxiliary: 0,
            stem,
            cells: Vec::new(),
            classifier: Cost::default(),
            activation_bytes: activation::stem(config.stem, config.init_channels, image_size),
        };
        let (mut width, mut head) = (0, Cost::default());
        for (position, place) in Place::all(config, outputs, image_size).iter().enumerate() {
            let plan = &place.plan;
            let cell = cell(genotype.cell(plan.kind), place);
            all.cost += cell.cost;
            all.activation_bytes += cell.activation_bytes;
            all.cells.push(cell);
            width = outputs(plan.kind) * plan.num_channels;
            if position == 2 * config.num_cells / 3 {
                head.conv(width, 128, 1);
                head.norm(128, 1);
                head.conv(4 * 128, 768, 1);
                head.norm(768, 1);
                head.linear(768, config.num_classes);
            }
        }
        all.classifier.linear(width, config.num_classes);
        all.cost += all.classifier;
        all.activation_bytes += activation::bytes(width, 1);
        all.parameters_with_auxiliary = all.cost.parameters + head.parameters;
        all
    }
}

/// A cell in its network.
struct Place {
    plan: CellPlan,
    /// Pixels of its newer input.
    positions: usize,
    /// Pixels of its nodes.
    out: usize,
}

impl Place {
    /// All cells of a network whose cells join so many nodes.
    fn all(
        config: &EvaluationConfig,
        outputs: impl Fn(CellKind) -> usize,
        image_size: usize,
    ) -> Vec<Self> {
        let (channels, kind) = (config.init_channels, config.stem);
        let stem_channels = kind.num_channels(channels);
        let plans = plan_cells(config.num_cells, channels, outputs, stem_channels, kind.reduces());
        let (_, mut size) = stem(kind, channels, image_size);
        let place = |plan: CellPlan| {
            let positions = size * size;
            if plan.kind == CellKind::Reduction {
                size = size.div_ceil(2);
            }
            Self { plan, positions, out: size * size }
        };
        plans.into_iter().map(place).collect()
    }

    /// What an operation costs that reads state `from`.
    fn operation(&self, primitive: Primitive, from: usize) -> Cost {
        Cost::operation(primitive, self.plan.num_channels, self.input(from), self.out)
    }

    /// Pixels of a state.
    fn input(&self, from: usize) -> usize {
        if from < NUM_INPUTS { self.positions } else { self.out }
    }
}

/// The stem, and the side of the newer state behind it.
fn stem(kind: StemKind, channels: usize, size: usize) -> (Cost, usize) {
    let mut cost = Cost::default();
    let half = size.div_ceil(2);
    match kind {
        StemKind::Cifar | StemKind::Stride2 => {
            let side = if kind == StemKind::Cifar { size } else { half };
            let width = kind.num_channels(channels);
            cost.conv(9 * 3, width, side * side);
            cost.norm(width, side * side);
            (cost, side)
        }
        StemKind::Imagenet => {
            let mut side = half;
            cost.conv(9 * 3, channels / 2, side * side);
            cost.norm(channels / 2, side * side);
            for from in [channels / 2, channels] {
                cost.relu(from, side * side);
                side = side.div_ceil(2);
                cost.conv(9 * from, channels, side * side);
                cost.norm(channels, side * side);
            }
            (cost, side)
        }
    }
}

fn cell(genotype: &CellGenotype, place: &Place) -> CellCost {
    let Place { plan, positions, .. } = place;
    let [older, newer] = plan.inputs.map(|inputs| [inputs, plan.num_channels]);
    let mut preprocess = Cost::default();
    if plan.after_reduction {
        // Sizes that a factorized reduction halves are even: the older input is just twice as large.
        preprocess.factorized_reduce(older, 4 * positions, *positions);
    } else {
        preprocess.relu_conv_norm(older, *positions);
    }
    preprocess.relu_conv_norm(newer, *positions);
    let picks = genotype.nodes.iter().flatten();
    let operations: Vec<(Pick, Cost)> =
        picks.map(|&pick| (pick, place.operation(pick.primitive, pick.from))).collect();
    let mut cost = preprocess;
    operations.iter().for_each(|&(_, each)| cost += each);
    let (kind, num_channels) = (plan.kind, plan.num_channels);
    let activation_bytes = activation::cell(genotype, place);
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

    /// Running statistics are no parameters.
    struct Learned(u64);

    impl ModuleVisitor for Learned {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if param.val().is_require_grad() {
                self.0 += param.dims().iter().product::<usize>() as u64;
            }
        }
    }

    /// FairDARTS_g, whose second node has no picks; every form of edge that GDAS and SNAS add.
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
                let config =
                    EvaluationConfig { stem, init_channels: channels, num_cells, num_classes };
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
