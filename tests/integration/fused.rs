//! The fused kernels, compared with the plain composition of Burn's operations: value, every
//! gradient, running statistics, evaluation mode; and their independence of the number of threads.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use ec_darts::network::{
    CellForm, CellPlan, DiscreteCell, EvaluationConfig, Map, MixedOperation, SearchCell, Skeleton,
    Stem, StemKind, SupernetConfig,
};
use ec_darts::ops::{DropPath, Kernels, Memory, Packs, draw_parameters};
use ec_darts::rule::{Mixing, Paths};
use ec_darts::skip_dropout::{SkipDropout, SkipMasks};
use ec_darts_space::{
    CellGenotype, CellKind, CellTopology, Genotype, PerKind, Primitive, SearchSpace, presets,
};
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::tiny;

/// Names with values.
type Outcome = Vec<(String, Vec<f32>)>;

struct Collect<'a> {
    gradients: &'a GradientsParams,
    all: Vec<f32>,
}

impl ModuleVisitor for Collect<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            self.all.extend(tiny::values(gradient));
        }
    }
}

/// The output, all gradients, the running statistics and the output in evaluation mode.
fn outcome<M: Packs>(
    module: &M,
    inputs: &[Tensor<4>],
    mixing: &Tensor<1>,
    forward: impl Fn(&M, &[Tensor<4>], Tensor<1>) -> Tensor<4>,
) -> Outcome {
    let tracked: Vec<Tensor<4>> =
        inputs.iter().map(|input| input.clone().detach().require_grad()).collect();
    let weights = mixing.clone().detach().require_grad();
    // A copy with its own statistics: the original stays unchanged for the next implementation.
    let module = module.valid().train();
    let output = forward(&module, &tracked, weights.clone());
    let factors = tiny::tensor(4, output.dims(), &output.device());
    let mut gradients = (output.clone() * factors).sum().backward();
    let mut all: Outcome = vec![("output".into(), tiny::values(output))];
    for (number, input) in tracked.iter().enumerate() {
        let gradient = input.grad(&gradients).expect("inputs are tracked");
        all.push((format!("gradient of input {number}"), tiny::values(gradient)));
    }
    if let Some(gradient) = weights.grad(&gradients) {
        all.push(("gradient of the mixing weights".into(), tiny::values(gradient)));
    }
    let gradients = GradientsParams::from_module(&mut gradients, &module);
    let mut collect = Collect { gradients: &gradients, all: Vec::new() };
    module.visit(&mut collect);
    all.push(("gradient of the parameters".into(), collect.all));
    let settled = module.valid();
    for (name, data) in tiny::state(&settled) {
        if name.contains("running_") {
            all.push((name, data.try_to_vec::<f32>().expect("single precision")));
        }
    }
    // This includes the values between the parts of a cell that uses only some of its packed values.
    for packed in settled.packs() {
        all.push(("packed means".into(), tiny::values(packed.running_mean.value())));
        all.push(("packed variances".into(), tiny::values(packed.running_var.value())));
    }
    let inner: Vec<Tensor<4>> = inputs.iter().map(|input| input.clone().inner()).collect();
    let evaluated = forward(&settled, &inner, mixing.clone().inner());
    all.push(("evaluation".into(), tiny::values(evaluated)));
    all
}

/// The first difference beyond rounding, if there is one.
fn difference(actual: &Outcome, expected: &Outcome) -> Option<String> {
    assert_eq!(actual.len(), expected.len(), "outcomes of one module");
    let (_, output) = &expected[0];
    let num_values = output.len();
    for ((name, actual), (_, expected)) in actual.iter().zip(expected) {
        // A module without parameters has placeholders, whose gradient is absent or zero.
        let zeros = vec![0.0; actual.len()];
        let expected = if expected.is_empty() { &zeros } else { expected };
        assert_eq!(actual.len(), expected.len(), "number of values of {name}");
        let norm = tiny::dot(expected, expected).sqrt();
        if norm == 0.0 {
            if actual.iter().any(|&value| value.abs() >= 1e-5) {
                return Some(format!("{name} is not zero"));
            }
            continue;
        }
        // A mixing weight's gradient is a sum over all values of the output, which may cancel. So
        // its error is measured against the usual size of such a sum, not against its own size.
        // A running mean takes a tenth of a mean of maps whose deviation is about one, which may cancel too.
        let usual = match &name[..] {
            "gradient of the mixing weights" => 0.25 * (num_values as f64).sqrt(),
            name if name.ends_with("running_mean") || name == "packed means" => {
                0.01 * (expected.len() as f64).sqrt()
            }
            _ => 0.0,
        };
        let miss = tiny::distance(actual, expected) * norm / norm.max(usual);
        // A NaN is a difference too.
        if miss.is_nan() || miss >= 3e-5 {
            return Some(format!("{name} is off by {miss} of its norm"));
        }
    }
    None
}

fn compare(title: &str, actual: &Outcome, expected: &Outcome) {
    assert_eq!(difference(actual, expected), None, "{title}");
}

/// The candidates of NAS-Bench-201.
const CONVOLUTIONS: [Primitive; 5] = [
    Primitive::None,
    Primitive::SkipConnect,
    Primitive::NorConv1x1,
    Primitive::NorConv3x3,
    Primitive::AvgPool3x3,
];

const FUSED: [Kernels; 2] = [Kernels::Fused(Memory::Save), Kernels::Fused(Memory::Recompute)];

fn mixed(shape: [usize; 4], stride: usize, primitives: &[Primitive], seed: u64) {
    assert_eq!(mixed_difference(shape, stride, primitives, seed), None);
}

fn mixed_difference(
    shape: [usize; 4],
    stride: usize,
    primitives: &[Primitive],
    seed: u64,
) -> Option<String> {
    let title = format!("{shape:?}, stride {stride}, {primitives:?}");
    let device = Device::flex().autodiff();
    let topology = CellTopology::new(1, 1).expect("a cell");
    let space = SearchSpace::new(primitives.to_vec(), topology).expect("a space");
    let module = MixedOperation::new(&space, shape[1], stride, &device);
    let module = draw_parameters(module, &mut ChaCha8Rng::seed_from_u64(seed));
    let inputs = [tiny::tensor(seed + 1, shape, &device)];
    let mixing = tiny::tensor(seed + 2, [primitives.len()], &device);
    let run = |kernels: Kernels| {
        outcome(&module, &inputs, &mixing, |module, inputs, mixing| {
            module.forward(inputs[0].clone(), mixing, kernels)
        })
    };
    let expected = run(Kernels::Reference);
    FUSED.into_iter().find_map(|kernels| {
        let difference = difference(&run(kernels), &expected)?;
        Some(format!("{title}, {kernels:?}: {difference}"))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    #[test]
    fn random_edges(
        batch in 1usize..20,
        channels in 1usize..40,
        height in 2usize..12,
        width in 2usize..20,
        stride in 1usize..3,
        chosen in prop::sample::subsequence(Primitive::DARTS.to_vec(), 1..=8),
        seed in 0u64..1000,
    ) {
        // A factorized reduction halves even sizes and needs an even number of channels.
        let even = |size: usize| size + size % 2;
        let reduces = stride == 2 && chosen.contains(&Primitive::SkipConnect);
        let (channels, height, width) = match reduces {
            true => (even(channels), even(height), even(width)),
            false => (channels, height, width),
        };
        // With few values, the variance may be close to zero, and dividing by it amplifies
        // rounding.
        let positions = height.div_ceil(stride) * width.div_ceil(stride);
        let batch = batch.max(64_usize.div_ceil(positions));
        prop_assume!(chosen != [Primitive::None]);
        let shape = [batch, channels, height, width];
        // In a million activations one may be within rounding of zero and fall on either side of
        // its ReLU; this does not happen in three draws in a row.
        let differences: Vec<String> = (0..3)
            .map_while(|draw| mixed_difference(shape, stride, &chosen, seed + 1000 * draw))
            .collect();
        prop_assert!(differences.len() < 3, "{:?}", differences);
    }
}

/// The sizes of the four data sets, and widths that are not a multiple of a block.
#[test]
fn sizes_of_the_networks() {
    for (channels, size) in [(16, 32), (36, 28), (48, 14), (8, 56), (64, 7)] {
        for stride in [1, 2] {
            if size % 2 == 0 || stride == 1 {
                mixed([2, channels, size, size], stride, &Primitive::DARTS, 3);
                mixed([2, channels, size, size], stride, &CONVOLUTIONS, 3);
            }
        }
    }
}

fn plan(kind: CellKind, after_reduction: bool) -> CellPlan {
    let newer = if after_reduction { 2 } else { 1 };
    let reduces = if kind == CellKind::Reduction { 2 } else { 1 };
    let map = |channels, shrink| Map { channels, shrink };
    CellPlan { kind, inputs: vec![map(20, 1), map(48, newer)], node: map(12, newer * reduces) }
}

/// Preprocessing, reduction cells and the cells after them, in the supernet.
#[test]
fn search_cells() {
    let device = Device::flex().autodiff();
    let space = SearchSpace::darts();
    for (kind, after) in [(CellKind::Normal, true), (CellKind::Reduction, false)] {
        let cell = SearchCell::new(&space, &plan(kind, after), CellForm::default(), &device);
        let cell = draw_parameters(cell, &mut ChaCha8Rng::seed_from_u64(5));
        let older = if after { 16 } else { 8 };
        let inputs = [
            tiny::tensor(6, [3, 20, older, older], &device),
            tiny::tensor(7, [3, 48, 8, 8], &device),
        ];
        let [edges, primitives] = [space.topology().num_edges(), space.primitives().len()];
        let mixing = tiny::tensor(8, [edges * primitives], &device);
        let run = |kernels: Kernels| {
            let mut cell = cell.clone();
            cell.kernels = kernels;
            outcome(&cell, &inputs, &mixing, |cell, inputs, mixing| {
                let mixing = mixing.reshape([edges, primitives]);
                cell.forward(inputs[0].clone(), inputs[1].clone(), &cell.weights_of(&mixing))
            })
        };
        let expected = run(Kernels::Reference);
        for kernels in FUSED {
            compare(&format!("{kind:?}, {kernels:?}"), &run(kernels), &expected);
        }
    }
}

/// Cells of several parts as a whole, by edges as they run on GPUs, and composed: all operations, and one or two on
/// each edge, among them none at all into a node.
#[test]
fn supernets_of_several_parts() {
    let device = Device::flex().autodiff();
    let form = CellForm { parts: 2, ..CellForm::default() };
    let config = SupernetConfig {
        init_channels: 8,
        num_cells: 3,
        form,
        ..SupernetConfig::new(StemKind::Cifar, 3)
    };
    let supernet = config.init(&mut ChaCha8Rng::seed_from_u64(5), &device);
    let [edges, primitives] =
        [config.space.topology().num_edges(), config.space.primitives().len()];
    let image = [tiny::tensor(6, [2, 3, 16, 16], &device)];
    let weights = tiny::tensor(8, [edges * (primitives + 1)], &device);
    let columns = |edge: usize| match edge {
        2..=4 => vec![0],
        _ if edge.is_multiple_of(4) => vec![1 + edge % 7, 1 + (edge + 3) % 7],
        _ => vec![edge % 8],
    };
    let path: Vec<_> = (0..edges).map(columns).collect();
    let path = PerKind::both(path.clone(), path);
    let run = |kernels: Kernels, path: Option<Paths>, by_edges: bool| {
        let supernet = supernet.clone().with_kernels(kernels);
        // A rate of zero drops nothing.
        let stream = || SkipMasks::Drawn(Box::new(ChaCha8Rng::seed_from_u64(1)));
        let skip_dropout = by_edges.then(|| SkipDropout { rate: 0.0, masks: stream() });
        outcome(&supernet, &image, &weights, |supernet, images, weights| {
            let all = weights.reshape([edges, primitives + 1]);
            let [weights, of_edges] = [0..primitives, primitives..primitives + 1]
                .map(|columns| all.clone().slice([0..edges, columns]));
            let mixing = Mixing {
                edges: Some(PerKind::both(of_edges.clone(), of_edges)),
                path: path.clone(),
                skip_dropout: skip_dropout.clone(),
                ..Mixing::of(PerKind::both(weights.clone(), weights))
            };
            supernet.forward(images[0].clone(), &mixing).unsqueeze()
        })
    };
    for path in [None, Some(path)] {
        let expected = run(Kernels::Reference, path.clone(), false);
        for kernels in FUSED {
            for by_edges in [false, true] {
                let title = format!("{kernels:?}, by edges: {by_edges}, {path:?}");
                compare(&title, &run(kernels, path.clone(), by_edges), &expected);
            }
        }
    }
}

/// Cells of one genotype: affine normalization, pools without normalization.
#[test]
fn discrete_cells() {
    check_discrete_cells(&presets::DARTS_V1.genotype());
}

/// A node without picks, one with five picks of three sources, and plain convolutions.
#[test]
fn uneven_discrete_cells() {
    let cell = "[('sep_conv_3x3', 2, 0), ('max_pool_3x3', 2, 0), ('nor_conv_3x3', 4, 0), \
        ('skip_connect', 4, 2), ('nor_conv_1x1', 4, 2), ('dil_conv_5x5', 4, 2), ('avg_pool_3x3', 4, 1)]";
    let text = format!(
        "Genotype(normal={cell}, normal_concat=range(2, 6), reduce={cell}, reduce_concat=range(2, 6))"
    );
    let genotype: Genotype = text.parse().expect("a genotype");
    assert_eq!((genotype.normal.nodes.len(), &genotype.normal.concat[..]), (4, &[2, 4][..]));
    check_discrete_cells(&genotype);
}

fn check_discrete_cells(genotype: &Genotype) {
    let device = Device::flex().autodiff();
    for (kind, after) in [(CellKind::Normal, true), (CellKind::Reduction, false)] {
        let cell = DiscreteCell::new(genotype.cell(kind), &plan(kind, after), &device);
        let cell = draw_parameters(cell, &mut ChaCha8Rng::seed_from_u64(5));
        let older = if after { 16 } else { 8 };
        let inputs = [
            tiny::tensor(6, [3, 20, older, older], &device),
            tiny::tensor(7, [3, 48, 8, 8], &device),
        ];
        let mixing = tiny::tensor(8, [1], &device);
        let run = |kernels: Kernels| {
            let mut cell = cell.clone();
            cell.kernels = kernels;
            outcome(&cell, &inputs, &mixing, |cell, inputs, _| {
                cell.forward(inputs[0].clone(), inputs[1].clone(), None)
            })
        };
        let expected = run(Kernels::Reference);
        for kernels in FUSED {
            compare(&format!("{kind:?}, {kernels:?}"), &run(kernels), &expected);
        }
    }
}

/// Drop path leaves out the same operations for single images in both implementations.
#[test]
fn cells_with_drop_path() {
    let device = Device::flex().autodiff();
    let genotype = presets::DARTS_V1.genotype();
    for kind in [CellKind::Normal, CellKind::Reduction] {
        let cell = DiscreteCell::new(genotype.cell(kind), &plan(kind, false), &device);
        let cell = draw_parameters(cell, &mut ChaCha8Rng::seed_from_u64(5));
        let inputs =
            [20, 48].map(|channels| tiny::tensor(6, [7, channels as usize, 8, 8], &device));
        let mixing = tiny::tensor(8, [1], &device);
        let run = |kernels: Kernels| {
            let mut cell = cell.clone();
            cell.kernels = kernels;
            outcome(&cell, &inputs, &mixing, |cell, inputs, _| {
                let mut drop_path = DropPath::new(0.4, ChaCha8Rng::seed_from_u64(3));
                // Only during training.
                let drop_path = inputs[0].device().is_autodiff().then_some(&mut drop_path);
                cell.forward(inputs[0].clone(), inputs[1].clone(), drop_path)
            })
        };
        let expected = run(Kernels::Reference);
        for kernels in FUSED {
            compare(&format!("{kind:?}, {kernels:?}"), &run(kernels), &expected);
        }
    }
}

/// Cells of a genotype whose values lie among those of all candidates, some in another order than
/// their edges; no value is moved.
#[test]
fn cells_that_use_a_part_of_the_packed_values() {
    let device = Device::flex().autodiff();
    let space = SearchSpace::darts();
    let mut genotype = presets::DARTS_V1.genotype();
    genotype.normal.nodes[1].reverse();
    let reduction = CellGenotype { concat: vec![3, 5], ..genotype.normal.clone() };
    genotype.reduction = Some(reduction);
    for (kind, after) in [(CellKind::Normal, true), (CellKind::Reduction, false)] {
        let cell = SearchCell::new(&space, &plan(kind, after), CellForm::default(), &device);
        let cell = draw_parameters(cell, &mut ChaCha8Rng::seed_from_u64(5));
        let cell = cell.restrict(genotype.cell(kind));
        let covered = cell.packed.layout.weights.covered.clone().expect("a part");
        assert!(covered.len() > 2, "{covered:?}");
        let older = if after { 16 } else { 8 };
        let inputs = [
            tiny::tensor(6, [3, 20, older, older], &device),
            tiny::tensor(7, [3, 48, 8, 8], &device),
        ];
        let mixing = tiny::tensor(8, [1], &device);
        let run = |kernels: Kernels| {
            let mut cell = cell.clone();
            cell.kernels = kernels;
            outcome(&cell, &inputs, &mixing, |cell, inputs, _| {
                cell.forward(inputs[0].clone(), inputs[1].clone(), None)
            })
        };
        let expected = run(Kernels::Reference);
        for kernels in FUSED {
            let actual = run(kernels);
            compare(&format!("{kind:?}, {kernels:?}"), &actual, &expected);
            for (name, values) in actual.iter().chain(&expected) {
                let (parts, untouched) = match name.as_str() {
                    "gradient of the parameters" => (&cell.packed.layout.weights, 0.0),
                    "packed means" => (&cell.packed.layout.statistics, 0.0),
                    "packed variances" => (&cell.packed.layout.statistics, 1.0),
                    _ => continue,
                };
                assert_eq!(values.len(), parts.len, "{name}");
                let covered = parts.covered.as_ref().expect("a part");
                for (place, &value) in values.iter().enumerate() {
                    let is_own = covered.iter().any(|range| range.contains(&place));
                    assert!(is_own || value == untouched, "{kind:?}, {name}, {place}: {value}");
                }
            }
        }
    }
}

/// The stems of all three kinds.
#[test]
fn stems() {
    let device = Device::flex().autodiff();
    for (kind, size) in [(StemKind::Cifar, 9), (StemKind::Stride2, 11), (StemKind::Imagenet, 36)] {
        let stem = Stem::new(&kind.maps(Skeleton::Darts, 6), &device);
        let stem = draw_parameters(stem, &mut ChaCha8Rng::seed_from_u64(4));
        let inputs = [tiny::tensor(6, [5, 3, size, size + 1], &device)];
        let mixing = tiny::tensor(8, [1], &device);
        // The choice between the two states, so that both gradients are tested.
        for state in [0, 1] {
            let run = |kernels: Kernels| {
                outcome(&stem, &inputs, &mixing, |stem, inputs, _| {
                    stem.forward(inputs[0].clone(), kernels)[state].clone()
                })
            };
            let expected = run(Kernels::Reference);
            for kernels in FUSED {
                compare(&format!("{kind:?}, {kernels:?}"), &run(kernels), &expected);
            }
        }
    }
}

/// The step on alpha needs only the gradient of the mixing weights.
#[test]
fn mixing_weights_alone() {
    let device = Device::flex().autodiff();
    let space = SearchSpace::darts();
    let cell =
        SearchCell::new(&space, &plan(CellKind::Normal, false), CellForm::default(), &device);
    let cell = draw_parameters(cell, &mut ChaCha8Rng::seed_from_u64(5)).no_grad();
    let [older, newer] =
        [20, 48].map(|channels| tiny::tensor(channels, [3, channels as usize, 8, 8], &device));
    let mixing = tiny::tensor(8, [space.topology().num_edges(), space.primitives().len()], &device);
    let run = |kernels: Kernels, with_inputs: bool| {
        let mut cell = cell.clone();
        cell.kernels = kernels;
        let mixing: Tensor<2> = mixing.clone().require_grad();
        let input = |input: &Tensor<4>| match with_inputs {
            true => input.clone().require_grad(),
            false => input.clone(),
        };
        let output = cell.forward(input(&older), newer.clone(), &cell.weights_of(&mixing));
        let factors = tiny::tensor(4, output.dims(), &device);
        let gradients = (output * factors).sum().backward();
        vec![("mixing".into(), tiny::values(mixing.grad(&gradients).expect("tracked")))]
    };
    for with_inputs in [false, true] {
        let expected = run(Kernels::Reference, with_inputs);
        for kernels in FUSED {
            compare(&format!("{kernels:?}"), &run(kernels, with_inputs), &expected);
        }
    }
}

/// A whole network on one thread and on three: all bits are the same.
#[test]
fn threads_do_not_change_a_bit() {
    let device = Device::flex().autodiff();
    let genotype = presets::DARTS_V1.genotype();
    let config = EvaluationConfig {
        skeleton: Skeleton::Darts,
        stem: StemKind::Cifar,
        init_channels: 4,
        num_cells: 5,
        num_classes: 3,
    };
    let network = config.init(&genotype, &mut ChaCha8Rng::seed_from_u64(1), &device);
    let images = tiny::tensor(2, [9, 3, 32, 32], &device);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| {
            let network = network.valid().train();
            let logits = network.forward(images.clone());
            let mut gradients = logits.clone().sum().backward();
            let gradients = GradientsParams::from_module(&mut gradients, &network);
            let mut collect = Collect { gradients: &gradients, all: tiny::values(logits) };
            network.visit(&mut collect);
            collect.all
        })
    };
    assert_eq!(run(1), run(3));
}
