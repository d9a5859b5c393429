//! The geometry of a network: its layers, and the channels and sizes of their maps.
//!
//! Entry point: [`Stack::geometry`]. Invariant: the geometry is computed only here. Networks are
//! built from it, and costs, memory estimates, latency and export use it. It does not depend on the
//! size of images: sizes are fractions of the image size.

use ec_darts_space::{CellKind, NUM_INPUTS};

use super::map::Map;
use super::{Skeleton, StemKind};
use crate::{Error, Result};

/// Number of reductions of a skeleton; each halves the size and doubles the channels.
const NUM_REDUCTIONS: usize = 2;

/// The layers that give an input of a cell the channels and the size of the cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preprocessing {
    /// No layer: the input of a cell with one input has both already.
    Identity,
    /// ReLU, 1x1 convolution, batch normalization.
    Pointwise,
    /// A factorized reduction of the older input behind a reduction, which is twice as large.
    FactorizedReduce,
}

/// One cell of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellPlan {
    /// The maps that it reads: in DARTS' skeleton the outputs of the two cells before it, the older
    /// one first; otherwise only the output of the cell before it.
    pub inputs: Vec<Map>,
    /// The kind of the cell.
    pub kind: CellKind,
    /// The map of each node.
    pub node: Map,
}

impl CellPlan {
    /// The map of each input after its preprocessing.
    pub fn preprocessed(&self) -> Map {
        let newer = self.inputs.last().expect("a cell has an input");
        Map { channels: self.node.channels, shrink: newer.shrink }
    }

    /// The preprocessing of an input.
    pub fn preprocessing(&self, input: Map) -> Preprocessing {
        match self.inputs.len() {
            1 => Preprocessing::Identity,
            _ if input.shrink < self.preprocessed().shrink => Preprocessing::FactorizedReduce,
            _ => Preprocessing::Pointwise,
        }
    }

    /// A state of the cell: an input after its preprocessing, or a node.
    pub fn state(&self, state: usize) -> Map {
        if state < NUM_INPUTS { self.preprocessed() } else { self.node }
    }

    /// The stride of an edge that reads a state.
    pub fn stride(&self, from: usize) -> usize {
        self.node.shrink / self.state(from).shrink
    }

    /// Number of missing input states: the older one in a cell with one input.
    pub fn missing_inputs(&self) -> usize {
        NUM_INPUTS - self.inputs.len()
    }
}

/// A residual block that halves the size between two cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResidualPlan {
    /// The number of the cell after the block.
    pub before: usize,
    /// The map that it reads.
    pub input: Map,
    /// The map that it computes.
    pub output: Map,
}

/// All layers of a network in order, with their maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// The output of each convolution of the stem.
    pub stem: Vec<Map>,
    /// The cells.
    pub cells: Vec<CellPlan>,
    /// The residual blocks between the cells.
    pub residuals: Vec<ResidualPlan>,
    /// The number of the cell before the auxiliary head, and the map that the head reads.
    pub head: Option<(usize, Map)>,
    /// The map behind the last cell.
    pub last: Map,
    /// Whether batch normalization and ReLU follow.
    pub last_norm: bool,
}

/// The values that determine the geometry of a network, besides those of its cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stack {
    /// The layers around the cells.
    pub skeleton: Skeleton,
    /// The layers before the first cell.
    pub stem: StemKind,
    /// Channels of the first cell's nodes.
    pub init_channels: usize,
    /// Number of cells.
    pub num_cells: usize,
}

impl Stack {
    /// The geometry of a network whose cells join `joined` nodes.
    pub fn geometry(&self, joined: impl Fn(CellKind) -> usize) -> Geometry {
        let stem = self.stem.maps(self.skeleton, self.init_channels);
        match self.skeleton {
            Skeleton::Darts => self.darts(stem, joined),
            Skeleton::NasBench201 => self.nas_bench_201(stem, joined(CellKind::Normal)),
        }
    }

    fn darts(&self, stem: Vec<Map>, joined: impl Fn(CellKind) -> usize) -> Geometry {
        // A single convolution gives both states of the first cell.
        let newer = stem.len() - 1;
        let mut inputs = [newer.saturating_sub(1), newer].map(|number| stem[number]);
        let mut channels = self.init_channels;
        let (mut cells, mut head) = (Vec::new(), None);
        for position in 0..self.num_cells {
            let reduces = is_reduction(position, self.num_cells);
            let kind = if reduces { CellKind::Reduction } else { CellKind::Normal };
            channels *= if reduces { 2 } else { 1 };
            let [_, newer] = inputs;
            let node = match kind {
                CellKind::Normal => Map { channels, ..newer },
                CellKind::Reduction => newer.halved(channels),
            };
            cells.push(CellPlan { inputs: inputs.to_vec(), kind, node });
            let output = Map { channels: joined(kind) * channels, ..node };
            if position == head_position(self.num_cells) {
                head = Some((position, output));
            }
            inputs = [newer, output];
        }
        let [_, last] = inputs;
        Geometry { stem, cells, residuals: Vec::new(), head, last, last_norm: false }
    }

    fn nas_bench_201(&self, stem: Vec<Map>, joined: usize) -> Geometry {
        let mut newer = stem[stem.len() - 1];
        let of_stage = self.num_cells.div_ceil(NUM_REDUCTIONS + 1).max(1);
        let (mut cells, mut residuals) = (Vec::new(), Vec::new());
        for position in 0..self.num_cells {
            if position > 0 && position.is_multiple_of(of_stage) {
                let output = newer.halved(2 * newer.channels);
                residuals.push(ResidualPlan { before: position, input: newer, output });
                newer = output;
            }
            cells.push(CellPlan { inputs: vec![newer], kind: CellKind::Normal, node: newer });
            newer = Map { channels: joined * newer.channels, ..newer };
        }
        Geometry { stem, cells, residuals, head: None, last: newer, last_norm: true }
    }
}

/// The cell of DARTS' skeleton before the auxiliary head: the second reduction.
pub(super) fn head_position(num_cells: usize) -> usize {
    2 * num_cells / 3
}

/// Whether the cell at this position is a reduction cell of DARTS' skeleton.
///
/// # Source
/// DARTS, `cnn/model_search.py`, `Network`: cells `L / 3` and `2 L / 3`.
pub fn is_reduction(position: usize, num_cells: usize) -> bool {
    position == num_cells / 3 || position == head_position(num_cells)
}

/// Checks that images of `[height, width]` pixels can pass through a network: stem and reductions
/// need even numbers of rows and columns, and the auxiliary head of a network `with_head` needs a
/// map of 2x2.
///
/// # Errors
/// [`Error::ConfigValue`] where they cannot.
pub fn check_size(stem: StemKind, size: [usize; 2], with_head: bool) -> Result<()> {
    // The head needs 2x2, a classifier alone 1x1.
    let step = stem.shrink() << NUM_REDUCTIONS;
    let least = if with_head { 2 * step } else { step };
    if size.into_iter().all(|side| side.is_multiple_of(step) && side >= least) {
        return Ok(());
    }
    let [height, width] = size;
    Err(Error::ConfigValue {
        origin: "the settings".into(),
        key: "network.stem".into(),
        value: format!("{stem:?} with images of {height}x{width}").to_lowercase(),
        allowed: format!("images whose sides are multiples of {step}, from {least} up"),
    })
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};
    use ec_darts_space::{CellTopology, Genotype, Primitive, SearchSpace};
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::architecture::ArchitectureParameters;
    use crate::network::{EvaluationConfig, SupernetConfig, run_cells};
    use crate::ops::Kernels;
    use crate::relaxation::Relaxation;
    use crate::rule::Rule;
    use crate::sampling::Draw;

    const STEMS: [StemKind; 3] = [StemKind::Cifar, StemKind::Stride2, StemKind::Imagenet];

    fn fits(stem: StemKind, side: usize, with_head: bool) -> bool {
        check_size(stem, [side, side], with_head).is_ok()
    }

    #[test]
    fn what_fits_is_what_the_message_says() {
        assert!(fits(StemKind::Cifar, 28, true) && fits(StemKind::Imagenet, 224, true));
        for stem in STEMS {
            for with_head in [true, false] {
                let told = check_size(stem, [1, 1], with_head).expect_err("too small").to_string();
                let mut numbers =
                    told.split("multiples of ").nth(1).expect("a rule").split(", from ");
                let step: usize = numbers.next().expect("a step").parse().expect("a number");
                let least = numbers.next().expect("a least side").trim_end_matches(" up");
                let least: usize = least.parse().expect("a number");
                for side in 1..=1024 {
                    let expected = side % step == 0 && side >= least;
                    assert_eq!(fits(stem, side, with_head), expected, "{stem:?} {side}");
                    let stacked = side / stem.shrink() / 4;
                    assert!(!expected || stacked >= if with_head { 2 } else { 1 });
                }
            }
        }
        let message = check_size(StemKind::Stride2, [64, 50], true).expect_err("odd").to_string();
        assert!(message.contains("stride2 with images of 64x50"), "{message}");
    }

    /// Layer by layer, in both skeletons.
    #[test]
    fn maps_are_those_that_a_network_makes() {
        let device = Device::default();
        let pair = ec_darts_space::presets::DARTS_V2.genotype();
        let one = "|skip_connect~0|+|none~0|nor_conv_3x3~1|+|nor_conv_1x1~0|none~1|avg_pool_3x3~2|";
        let one: Genotype = one.parse().expect("a genotype");
        for (genotype, skeleton, stem, num_cells) in [
            (&pair, Skeleton::Darts, StemKind::Cifar, 5),
            (&pair, Skeleton::Darts, StemKind::Imagenet, 6),
            (&one, Skeleton::NasBench201, StemKind::Cifar, 6),
            (&one, Skeleton::NasBench201, StemKind::Stride2, 3),
        ] {
            let (init_channels, num_classes) = (4, 2);
            let config = EvaluationConfig { skeleton, stem, init_channels, num_cells, num_classes };
            let geometry = config.geometry(genotype);
            let network = config.init(genotype, &mut ChaCha8Rng::seed_from_u64(1), &device);
            let image = [64, 32];
            let check = |map: Map, found: &Tensor<4>| {
                let [height, width] = map.size(image);
                assert_eq!(found.dims(), [1, map.channels, height, width], "{stem:?}");
            };
            let images = Tensor::zeros([1, 3, image[0], image[1]], &device);
            let kernels = Kernels::default();
            let states = network.stem.forward(images, kernels);
            let between = (network.residuals.as_ref(), kernels);
            let last = run_cells(states, num_cells, between, |number, [older, newer]| {
                let inputs = geometry.cells[number].inputs.iter().rev();
                inputs.zip([&newer, &older]).for_each(|(&map, found)| check(map, found));
                let output = network.cells[number].forward(older, newer, None);
                if let Some((_, map)) = geometry.head.filter(|&(cell, _)| cell == number) {
                    check(map, &output);
                }
                output
            });
            check(geometry.last, &last);
        }
    }

    /// A skip connection is the operation that cannot halve an odd size.
    #[test]
    fn every_side_that_fits_goes_through_a_network() {
        let device = Device::default();
        let topology = CellTopology::new(1, 1).expect("a topology");
        let space = SearchSpace::new(vec![Primitive::SkipConnect], topology).expect("a space");
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let alpha = ArchitectureParameters::new(&space, 1e-3, &mut rng, &device);
        let mixing = Rule::from(Relaxation::Softmax).mixing(&space, &alpha, &Draw::Mode);
        for stem in STEMS {
            let (init_channels, num_cells, num_classes) = (2, 3, 2);
            let space = space.clone();
            let config = SupernetConfig {
                space,
                init_channels,
                num_cells,
                ..SupernetConfig::new(stem, num_classes)
            };
            let network = config.init(&mut rng, &device);
            for side in (1..=128).filter(|&side| fits(stem, side, false)) {
                let images = Tensor::zeros([1, 3, side, side], &device);
                assert_eq!(network.forward(images, &mixing).dims(), [1, num_classes], "{side}");
            }
        }
    }
}
