//! The network of NAS-Bench-201: costs computed by hand, searches with every rule, resumption,
//! retraining and export.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use ec_darts::config::{RetrainConfig, SearchConfig};
use ec_darts::cost::NetworkCost;
use ec_darts::model::{ExportFormat, TrainedModel};
use ec_darts::network::{EvaluationConfig, EvaluationNetwork, Skeleton, SupernetConfig};
use ec_darts::ops::{Kernels, Memory, Packs, Role, draw_parameters};
use ec_darts::relaxation::Relaxation;
use ec_darts::rule::Mixing;
use ec_darts::train::Retraining;
use ec_darts::transition::induce;
use ec_darts_space::{
    CellKind, Discretization, Genotype, NUM_INPUTS, PerKind, Primitive, SearchSpace, presets,
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::{export, resume, retrain, tiny};

const CONVOLUTIONS: &str = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|";
const SKIPS: &str = "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|";
/// A cell with every primitive; node 2 reads both nodes and not the input.
const MIXED: &str =
    "|nor_conv_3x3~0|+|nor_conv_1x1~0|avg_pool_3x3~1|+|none~0|skip_connect~1|nor_conv_1x1~2|";

fn genotype(text: &str) -> Genotype {
    text.parse().expect("a genotype")
}

fn rng() -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(7)
}

/// Parameters and multiply-adds, from the tensors of a built network for 32x32 images.
fn built(network: &EvaluationNetwork) -> [u64; 2] {
    // The stem, fifteen cells in three stages, two blocks.
    let sides = [32].into_iter().chain((0..15).map(|cell| 32 >> (cell / 5))).chain([16, 8]);
    let (mut parameters, mut products) = (0, 0);
    for (packed, side) in network.packs().into_iter().zip(sides) {
        for part in &packed.layout.weights.parts {
            let values: usize = part.shape.iter().product();
            parameters += values;
            products += if part.role == Role::Convolution { values * side * side } else { 0 };
        }
    }
    let residuals = network.residuals.as_ref().expect("residual blocks");
    for (block, side) in residuals.blocks.iter().zip([16, 8]) {
        let values: usize = block.shortcut.weight.dims().iter().product();
        parameters += values;
        products += values * side * side;
    }
    let [channels, classes] = network.classifier.weight.dims();
    assert_eq!(residuals.norm.gamma.as_ref().expect("affine").dims(), [channels]);
    parameters += 2 * channels + channels * classes + classes;
    [parameters as u64, (products + channels * classes) as u64]
}

/// With C channels in the first stage of N cells, K classes:
///
/// ```text
/// parameters of a cell with a 3x3 and b 1x1 convolutions at c channels: a (9 c^2 + 2 c) + b (c^2 + 2 c)
/// multiply-adds of a cell: (9 a + b) c^2 p, and c^2 p = 16^2 * 32^2 = 262,144 in all stages
/// stem 27 C + 2 C; blocks 9 c 2c + 9 (2c)^2 + c 2c + 4 (2c) for c = C, 2 C; last BN 2 (4 C); linear 4 C K + K
/// ```
///
/// With C = 16, N = 5, K = 10, all parts but the cells have 464 + 14,464 + 57,600 + 128 + 650 =
/// 73,306 parameters and 27 * 16 * 1024 + 2 * 14 * 262,144 + 640 = 7,783,040 multiply-adds.
/// Six 3x3 convolutions: 73,306 + 5 * (14,016 + 55,680 + 221,952) = 1,531,546 parameters, as in the
/// benchmark, and 7,783,040 + 15 * 54 * 262,144 = 220,119,680 multiply-adds. One 3x3 and two 1x1
/// convolutions: 73,306 + 5 * (2,912 + 11,456 + 45,440) = 372,346 and 7,783,040 + 15 * 11 * 262,144
/// = 51,036,800.
#[test]
fn three_cells_counted_by_hand() {
    let config = EvaluationConfig::nas_bench_201(10);
    for (text, expected) in [
        (CONVOLUTIONS, [1_531_546, 220_119_680]),
        (SKIPS, [73_306, 7_783_040]),
        (MIXED, [372_346, 51_036_800]),
    ] {
        let genotype = genotype(text);
        let cost = NetworkCost::new(&genotype, &config, 32);
        assert_eq!([cost.cost.parameters, cost.cost.multiply_adds], expected, "{text}");
        assert_eq!(cost.parameters_with_auxiliary, cost.cost.parameters, "there is no head");
        let network = config.init(&genotype, &mut rng(), &Device::flex());
        assert!(network.auxiliary_head.is_none());
        assert_eq!(built(&network), expected, "{text}");
    }
}

/// Nodes 1, 2 and 3 of a cell of identities are x, 2 x and 4 x.
#[test]
fn a_cell_of_skips_multiplies_by_four() {
    let device = Device::flex();
    let config = EvaluationConfig { num_cells: 3, ..EvaluationConfig::nas_bench_201(2) };
    let network = config.init(&genotype(SKIPS), &mut rng(), &device);
    let x = tiny::tensor(1, [2, 16, 4, 4], &device);
    let y = network.cells[0].forward(x.clone(), x.clone(), None);
    assert_eq!(tiny::values(y), tiny::values(x * 4.0));
}

/// The edge into node 1 has a softmax of its row; the other edges have softmaxes of their columns,
/// node by node.
#[test]
fn a_lone_edge_competes_within_itself() {
    let topology = *SearchSpace::nas_bench_201().topology();
    let mut alpha = [0.0_f32; 30];
    (alpha[1], alpha[5 * 2 + 3], alpha[5 * 5 + 4]) = (2_f32.ln(), 3_f32.ln(), 6_f32.ln());
    let device = Device::flex();
    let alpha = Tensor::<1>::from_data(&alpha[..], &device).reshape([6, 5]);
    let mixing = tiny::values(Relaxation::CrossEdge.mixing(alpha, &topology));
    let mut expected = [vec![1.0 / 6.0; 5], vec![0.5; 10], vec![1.0 / 3.0; 15]].concat();
    expected[1] = 2.0 / 6.0;
    (expected[5 + 3], expected[5 * 2 + 3]) = (0.25, 0.75);
    for (edge, weight) in [(3, 0.125), (4, 0.125), (5, 0.75)] {
        expected[5 * edge + 4] = weight;
    }
    assert!(tiny::distance(&mixing, &expected) < 1e-6, "{mixing:?}");
    // The weights of a group of competitors sum to one.
    let groups = Relaxation::CrossEdge.groups(&SearchSpace::nas_bench_201(), CellKind::Normal);
    assert_eq!((groups.len(), &groups[0][..]), (1 + 5 + 5, &[0, 1, 2, 3, 4][..]));
    for group in groups {
        let sum: f32 = group.iter().map(|&place| mixing[place]).sum();
        assert!((sum - 1.0).abs() < 1e-6);
    }
}

fn supernet_config() -> SupernetConfig {
    let stem = ec_darts::network::StemKind::Cifar;
    let space = SearchSpace::nas_bench_201();
    SupernetConfig { space, init_channels: 4, num_cells: 3, ..SupernetConfig::new(stem, 2) }
}

/// Mixing weights with one for the operations of a genotype.
fn one_hot(genotype: &Genotype, space: &SearchSpace, device: &Device) -> Tensor<2> {
    let (topology, primitives) = (space.topology(), space.primitives());
    let mut weights = vec![0.0_f32; topology.num_edges() * primitives.len()];
    for (node, picks) in genotype.normal.nodes.iter().enumerate() {
        for pick in picks {
            let column = primitives.iter().position(|&each| each == pick.primitive);
            let edge = topology.edge_number(pick.from, node);
            weights[edge * primitives.len() + column.expect("a primitive of the space")] = 1.0;
        }
    }
    Tensor::<1>::from_data(&weights[..], device).reshape([6, 5])
}

/// The supernet with weights of one and zero equals the network of these operations in every way of
/// computing it: all candidates with weights of zero, one path, or the auxiliary model.
#[test]
fn the_supernet_holds_the_network_of_a_genotype() {
    let device = Device::flex().autodiff();
    let config = supernet_config();
    let genotype = genotype(MIXED);
    for kernels in [Kernels::Reference, Kernels::Fused(Memory::Save)] {
        let supernet = config.init(&mut rng(), &device).with_kernels(kernels);
        let images = || tiny::tensor(3, [4, 3, 8, 8], &device);
        let weights = one_hot(&genotype, &config.space, &device);
        let mixing = Mixing::of(PerKind { normal: weights.clone(), reduction: None });
        let path: Vec<usize> = tiny::values(weights)
            .chunks(5)
            .map(|row| row.iter().position(|&weight| weight == 1.0).unwrap_or(0))
            .collect();
        assert_eq!(config.space.primitives()[path[3]], Primitive::None);
        let along = Mixing {
            path: Some(PerKind {
                normal: path.into_iter().map(|column| vec![column]).collect(),
                reduction: None,
            }),
            ..mixing.clone()
        };
        let all = tiny::values(supernet.forward(images(), &mixing));
        let one = tiny::values(supernet.forward(images(), &along));
        let induced = tiny::values(induce(&supernet, &genotype).forward(images()));
        for (name, found) in [("a path", one), ("the auxiliary model", induced)] {
            let miss = tiny::distance(&found, &all);
            assert!(miss < 1e-5, "{kernels:?}, {name}: off by {miss}");
        }
    }
}

/// All weights of the supernet and of a network get a gradient, in both ways of computing.
#[test]
fn both_ways_of_computing_agree() {
    let device = Device::flex().autodiff();
    let config = supernet_config();
    let even = Tensor::<2>::full([6, 5], 0.2, &device);
    let mixing = Mixing::of(PerKind { normal: even, reduction: None });
    let supernet = draw_parameters(config.init(&mut rng(), &device), &mut rng());
    let shape =
        EvaluationConfig { init_channels: 4, num_cells: 3, ..EvaluationConfig::nas_bench_201(2) };
    let network = shape.init(&genotype(CONVOLUTIONS), &mut rng(), &device);
    let images = tiny::tensor::<4>(3, [4, 3, 8, 8], &device);
    let run = |kernels: Kernels| {
        let supernet = supernet.clone().with_kernels(kernels);
        let network = network.clone().with_kernels(kernels);
        let logits = supernet.forward(images.clone(), &mixing) + network.forward(images.clone());
        let gradients = (logits.clone() * tiny::tensor(5, [4, 2], &device)).sum().backward();
        let of = |packed: &ec_darts::ops::Packed| {
            tiny::values(packed.weights.val().grad(&gradients).expect("a gradient"))
        };
        let all: Vec<Vec<f32>> =
            supernet.packs().into_iter().chain(network.packs()).map(of).collect();
        (tiny::values(logits), all)
    };
    let (expected, of_weights) = run(Kernels::Reference);
    let (found, fused) = run(Kernels::Fused(Memory::Save));
    assert!(tiny::distance(&found, &expected) < 1e-4);
    for (found, expected) in fused.iter().zip(&of_weights) {
        assert!(expected.iter().any(|&slope| slope != 0.0), "dead weights");
        assert!(tiny::distance(found, expected) < 1e-3);
    }
}

/// The tiny search with this network.
fn searched(config: &mut SearchConfig) {
    let network = &mut config.network;
    network.skeleton = Skeleton::NasBench201;
    (network.num_nodes, network.edges_kept, network.num_cells) = (3, 3, 3);
    network.primitives = Primitive::NAS_BENCH_201.to_vec();
    if config.rule.cost.is_some() {
        config.rule.cost_cells = 3;
    }
    config.stages.cells.fill(3);
    config.stages.drop.fill(1);
}

/// A search with every rule finishes, with alpha of only one kind of cell, and its genotype belongs
/// to the space.
#[test]
fn every_rule_searches_it() {
    for (name, rule) in resume::rules() {
        println!("{name}");
        let mut config = tiny::config();
        resume::softmax(&mut config);
        rule(&mut config);
        searched(&mut config);
        let mut search = tiny::search(config);
        assert!(search.alpha().reduction.is_none());
        while search.advance().expect(name).is_some() {}
        let found = &search.best().expect("a genotype").genotype;
        assert!(found.reduction.is_none(), "{name}");
        assert!(SearchSpace::nas_bench_201().contains(found), "{name}: {found}");
    }
}

/// The searches of DARTS, GDAS and CEN, the last with transitions.
#[test]
fn searches_go_on_as_unbroken() {
    let [(_, gdas), ..] = resume::rules();
    let cen: resume::Change = |config| {
        config.search.relaxation = Relaxation::CrossEdge;
        config.transition.enabled = true;
    };
    let darts: resume::Change = |config| config.rule.discretization = Discretization::EveryEdge;
    for rule in [darts, gdas, cen] {
        resume::check(|config| {
            resume::softmax(config);
            rule(config);
            searched(config);
        });
    }
}

fn retrained() -> RetrainConfig {
    let mut config = retrain::config();
    (config.network.skeleton, config.network.auxiliary_loss_weight) = (Skeleton::NasBench201, None);
    config.weights.nesterov = true;
    config
}

/// Export to a model file that is read again, and to an ONNX file; the form of the public DARTS
/// code is refused.
#[test]
fn a_genotype_is_retrained_kept_and_exported() {
    let device = Device::flex();
    let genotype = genotype(MIXED);
    let mut retraining =
        Retraining::new(retrained(), &genotype, &retrain::data(), &device).expect("its settings");
    let bytes = retraining.save().expect("finite");
    let mut again = retrain::restore(retrained(), &genotype, &bytes).expect("its own bytes");
    while retraining.advance().expect("finite").is_some() {}
    while again.advance().expect("finite").is_some() {}
    let bytes = retraining.model().to_bytes().expect("finite");
    assert!(bytes == again.model().to_bytes().expect("finite"));
    let model = TrainedModel::from_bytes(&bytes, &device).expect("its own bytes");
    assert_eq!(model.description.genotype, genotype);
    let images = tiny::tensor(3, [4, 3, 8, 8], &device);
    let logits = |model: &TrainedModel| tiny::values(model.network.forward(images.clone()));
    assert_eq!(logits(&model), logits(&retraining.model()));

    let folder = tempfile::tempdir().expect("a folder");
    let torch = model.export(ExportFormat::Torch, folder.path()).expect_err("no such code");
    assert!(torch.to_string().contains("`skeleton` is nas-bench-201"), "{torch}");
    model.export(ExportFormat::Onnx, &folder.path().join("m.onnx")).expect("a graph");
    let other = export::of_genotype(genotype, ec_darts::network::StemKind::Cifar, 32);
    other.export(ExportFormat::Safetensors, &folder.path().join("m")).expect("written");
}

#[test]
fn genotypes_of_another_skeleton_are_refused() {
    let new = |config, genotype: &Genotype| {
        let found = Retraining::new(config, genotype, &retrain::data(), &Device::flex());
        found.err().expect("another skeleton").to_string()
    };
    let told = new(retrained(), &presets::DARTS_V2.genotype());
    assert!(
        told.contains("`network.skeleton` is nas-bench-201") && told.contains("reduction"),
        "{told}"
    );
    let told = new(retrain::config(), &genotype(MIXED));
    assert!(told.contains("`network.skeleton` is darts") && told.contains("one kind"), "{told}");
    // The cell has two inputs.
    let mut two = genotype(MIXED);
    two.normal.nodes[0][0].from = NUM_INPUTS - 2;
    let told = new(retrained(), &two);
    assert!(told.contains("the newer input alone"), "{told}");
    let path = Path::new("some.safetensors");
    let restored = Retraining::restore(
        retrain::config(),
        &genotype(MIXED),
        &retrain::data(),
        &Device::flex(),
        &[],
        path,
    );
    assert!(restored.is_err());
}
