//! Every rule on numbers that are small enough for a computation by hand.
//!
//! Expected: computed by hand from the formula of each rule's paper or public code, independent of
//! the golden numbers. The tests of schedules are in `ec_darts_space::schedule`, of early stops in
//! `ec_darts_space::stop`, of the second order in `architect`.

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData, s};
use ec_darts::architect::Architect;
use ec_darts::architecture::{ArchitectureGradient, ArchitectureParameters, EdgeParameters};
use ec_darts::batch::ImageBatch;
use ec_darts::dirichlet::{concentration, divergence};
use ec_darts::network::{CellForm, StemKind, SupernetConfig};
use ec_darts::objective::{Objective, cross_entropy};
use ec_darts::ops::Kernels;
use ec_darts::optim::AdamSettings;
use ec_darts::penalty::{CostForm, CostWeighting, ExpectedCost, ZeroOne, log_sum_exp, zero_one};
use ec_darts::perturbation::Matrix;
use ec_darts::relaxation::Relaxation;
use ec_darts::rule::Rule;
use ec_darts::sampling::{Draw, Sampling};
use ec_darts_space::{
    CellKind, CellTopology, Discretization, PerKind, Primitive, SearchSpace, ThresholdForm,
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::tiny::{tensor, values};

const ALPHA: [f32; 3] = [0.1, -0.2, 0.3];
const NOISE: [f32; 3] = [0.5, 1.2, -0.3];

/// A space of one node, so two edges, and three operations.
fn space() -> SearchSpace {
    let primitives = vec![Primitive::MaxPool3x3, Primitive::SkipConnect, Primitive::SepConv3x3];
    SearchSpace::new(primitives, CellTopology::new(1, 1).expect("a topology")).expect("a space")
}

fn matrix(rows: &[&[f32]]) -> Param<Tensor<2>> {
    let shape = [rows.len(), rows[0].len()];
    let device = Device::flex().autodiff();
    Param::from_data(TensorData::new(rows.concat(), shape), &device)
}

/// The same rows in both kinds.
fn alpha(rows: &[&[f32]]) -> ArchitectureParameters {
    ArchitectureParameters { normal: matrix(rows), reduction: Some(matrix(rows)), edges: None }
}

/// Equal rows of both edges and both kinds.
fn both<T: Clone>(row: &[T]) -> PerKind<Vec<T>> {
    PerKind::from([[row, row].concat(), [row, row].concat()])
}

#[track_caller]
fn close(found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((f64::from(*found) - expected).abs() < tolerance, "{found}, not {expected}");
    }
}

/// Mixing weights of the first normal edge, and the gradient of `sum of upstream * weights` in its alpha.
fn gradient(rule: &Rule, draw: &Draw, upstream: [f32; 3]) -> [Vec<f32>; 2] {
    let alpha = alpha(&[&ALPHA, &ALPHA]);
    let row = rule.mixing(&space(), &alpha, draw).weights.normal.slice(s![0..1]);
    let upstream = Tensor::<1>::from_data(upstream, &row.device()).unsqueeze::<2>();
    let gradients = GradientsParams::from_grads((row.clone() * upstream).sum().backward(), &alpha);
    let gradient = ArchitectureGradient::read(&gradients, &alpha).operations.normal;
    [values(row), values(gradient.slice(s![0..1]))]
}

fn sampled(sampling: Sampling, temperature: f64) -> Rule {
    Rule { sampling: Some(sampling), temperature, ..Rule::from(Relaxation::Softmax) }
}

#[test]
fn softmax_its_gradient_and_the_first_step_of_adam() {
    let rule = Rule::from(Relaxation::Softmax);
    let [mixing, slope] = gradient(&rule, &Draw::Mode, [2.0, 4.0, -2.0]);
    close(&mixing, &[0.337_585, 0.250_089, 0.412_327], 1e-6);
    let output: f32 = mixing.iter().zip([1.0, 2.0, -1.0]).map(|(p, o)| p * o).sum();
    close(&[output], &[0.425_435], 1e-6);
    close(&slope, &[0.387_928, 0.787_562, -1.175_490], 1e-5);

    let alpha = alpha(&[&ALPHA, &ALPHA]);
    let row = Tensor::from_data(
        TensorData::new([slope.clone(), slope].concat(), [2, 3]),
        &Device::flex(),
    );
    let gradient =
        ArchitectureGradient { operations: PerKind::both(row.clone(), row.clone()), edges: None };
    let settings = AdamSettings { beta1: 0.5, beta2: 0.999, weight_decay: 1e-3 };
    let moved = Architect::new(3e-4, &settings).descend(alpha, gradient);
    close(&moved.values().normal[..3], &[0.0997, -0.2003, 0.3003], 1e-6);
}

/// `none` takes part in the softmax, so an edge with smaller other alphas may win.
#[test]
fn none_decides_between_edges() {
    let primitives = vec![Primitive::None, Primitive::SkipConnect, Primitive::SepConv3x3];
    let topology = CellTopology::new(1, 1).expect("a topology");
    let space = SearchSpace::new(primitives, topology).expect("a space");
    let alpha = alpha(&[&[2.0, 0.5, 0.4], &[0.0, 0.3, 0.2]]);
    let rule = Rule::from(Relaxation::Softmax);
    let mixing = values(rule.mixing(&space, &alpha, &Draw::Mode).weights.normal);
    close(&[mixing[1], mixing[4]], &[0.156_580, 0.377_978], 1e-6);
    let strength = ec_darts::architecture::Strength::Mixing;
    let genotype = rule.genotype(&space, &alpha, strength).expect("finite");
    let pick = genotype.normal.nodes[0][0];
    assert_eq!((pick.primitive, pick.from), (Primitive::SkipConnect, 1));
}

#[test]
fn partial_channels_weigh_edges() {
    let primitives = vec![Primitive::None, Primitive::SkipConnect, Primitive::SepConv3x3];
    // The second node has three edges.
    let topology = CellTopology::new(2, 2).expect("a topology");
    let space = SearchSpace::new(primitives, topology).expect("a space");
    let mut alpha =
        alpha(&[&[0.0; 3], &[0.0; 3], &[0.2, 0.5, -0.1], &[0.4, 0.0, 0.3], &[0.0, 0.9, -0.3]]);
    let beta = || matrix(&[&[0.0], &[0.0], &[0.3], &[-0.4], &[0.1]]);
    alpha.edges = Some(EdgeParameters { normal: beta(), reduction: Some(beta()) });
    let rule = Rule::from(Relaxation::Softmax);
    let mixing = rule.mixing(&space, &alpha, &Draw::Mode);
    let edges = values(mixing.edges.expect("weights of edges").normal);
    close(&edges[2..], &[0.431_906, 0.214_478, 0.353_615], 1e-6);
    let scores = values(mixing.weights.normal);
    close(&[scores[7], scores[11], scores[13]], &[0.188_636, 0.075_362, 0.207_063], 1e-6);
    let strength = ec_darts::architecture::Strength::Mixing;
    let genotype = rule.genotype(&space, &alpha, strength).expect("finite");
    let mut from: Vec<usize> = genotype.normal.nodes[1].iter().map(|pick| pick.from).collect();
    from.sort_unstable();
    assert_eq!(from, [0, 2]);
}

#[test]
fn fair_darts_pushes_to_zero_and_one() {
    let device = Device::flex().autodiff();
    let leaf = |row: [f32; 3]| {
        Tensor::<1>::from_data(row, &device).unsqueeze::<2>().detach().require_grad()
    };
    let cases = [
        (ZeroOne::L2, -0.938_701, [0.0, -0.133_271, 0.151_430, -0.068_153, -0.095_928, 0.133_271]),
        (ZeroOne::L1, -2.612_81, [0.0, -0.174_989, 0.327_687, -0.075_294, -0.391_673, 0.174_989]),
    ];
    for (form, value, slopes) in cases {
        let rows = PerKind::both(leaf([0.0, 2.0, -1.0]), leaf([3.0, 0.5, -2.0]));
        let loss = zero_one(rows.clone(), form) * 10.0;
        close(&values(loss.clone()), &[value], 1e-5);
        let gradients = loss.backward();
        let found: Vec<f32> = rows
            .into_values()
            .flat_map(|row| values(row.grad(&gradients).expect("a gradient")))
            .collect();
        close(&found, &slopes, 1e-5);
    }
    // A sigmoid of 0.85 belongs to an alpha of 1.7346.
    let alpha = alpha(&[&[1.7345, -1.0, 0.0], &[-1.0, 1.7347, 0.0]]);
    let rule = Rule {
        discretization: Discretization::Threshold { at_least: 0.85, form: ThresholdForm::Sparse },
        ..Rule::from(Relaxation::Sigmoid)
    };
    let strength = ec_darts::architecture::Strength::Mixing;
    let genotype = rule.genotype(&space(), &alpha, strength).expect("one reaches it");
    let picks: Vec<_> = genotype.normal.nodes[0].iter().map(|pick| pick.primitive).collect();
    assert_eq!(picks, [Primitive::SkipConnect]);
}

#[test]
fn gdas_passes_the_gradient_of_soft_weights_on() {
    let rule = sampled(Sampling::StraightThrough, 2.0);
    let draw = Draw::Gumbel(both(&NOISE));
    // Only the drawn operation is computed, so only its weight has a gradient.
    let [mixing, slope] = gradient(&rule, &draw, [0.0, 4.0, 0.0]);
    assert_eq!(mixing, [0.0, 1.0, 0.0]);
    close(&slope, &[-0.278_390, 0.484_627, -0.206_237], 1e-6);
    // The form in the public code of NAS-Bench-201 adds the weights of the other operations to the
    // map.
    let [_, slope] = gradient(&rule, &draw, [2.0, 4.0, 2.0]);
    close(&slope, &[-0.139_195, 0.242_313, -0.103_118], 1e-6);
}

#[test]
fn snas_relaxes_noisy_alpha() {
    let rule = sampled(Sampling::Concrete, 0.5);
    let draw = Draw::Gumbel(both(&NOISE));
    let [mixing, slope] = gradient(&rule, &draw, [2.0, 4.0, -2.0]);
    close(&mixing, &[0.283_548, 0.631_049, 0.085_403], 1e-6);
    close(&slope, &[-0.522_004, 1.362_453, -0.840_450], 1e-5);
}

#[test]
fn smooth_darts_stays_on_the_simplex() {
    let space = space();
    let matrix = Matrix { space: &space, relaxation: Relaxation::Softmax };
    let origin = both(&[0.7_f32, 0.2, 0.1]);
    let moved = matrix.random(&origin, &both(&[0.15, -0.25, 0.05]));
    close(&moved.normal[..3], &[0.85, 0.0, 0.15], 1e-6);

    let slopes = [1.0_f32, -2.0, 0.5];
    let loss = |at: &PerKind<Vec<f32>>| {
        let sum: f32 = at.normal[..3].iter().zip(slopes).map(|(p, c)| p * c).sum();
        (sum, both(&slopes))
    };
    let found = matrix.adversarial(&origin, &both(&[0.0_f32; 3]), 0.1, loss);
    close(&found.trail[0].normal[..3], &[0.708_333, 0.166_667, 0.125], 1e-6);
    close(&found.trail[6].normal[..3], &[0.711_655, 0.096_115, 0.192_230], 1e-6);
    close(&found.losses, &[0.35, 0.615_540], 1e-6);
    // After the division by the sum, the weights lie outside the ball around the origin.
    assert!((found.mixing.normal[1] - 0.2).abs() > 0.1 + 3e-3);
}

#[test]
fn drnas_differentiates_a_sample() {
    let alpha = alpha(&[&[0.0, 0.5, -0.5], &[0.0; 3]]);
    close(&[0.0, 0.5, -0.5].map(concentration), &[1.0, 1.5, 0.606_531], 1e-6);
    let sample = PerKind::from([0; 2].map(|_| vec![0.5, 0.3, 0.2, 0.4, 0.3, 0.3]));
    let rule = sampled(Sampling::Dirichlet, 1.0);
    let mixing = rule.mixing(&space(), &alpha, &Draw::Simplex(sample)).weights.normal;
    let upstream = Tensor::<1>::from_data([1.0, 2.0, -1.0], &mixing.device()).unsqueeze::<2>();
    let loss = (mixing.slice(s![0..1]) * upstream).sum();
    let gradients = GradientsParams::from_grads(loss.backward(), &alpha);
    let slopes = values(ArchitectureGradient::read(&gradients, &alpha).operations.normal);
    // The derivatives by alpha, from the exact integral; the last derivative by b is -0.879452.
    close(&slopes[..3], &[0.052_813, 0.338_060, -0.533_415], 2e-6);
    // The second row and the reduction cell are Dirichlet(1) themselves.
    let uniform = Tensor::zeros([2, 3], &Device::flex().autodiff());
    let rows = PerKind::both(alpha.normal.val(), uniform);
    close(&values(divergence(rows)), &[0.345_522], 1e-5);
}

/// The mean of the derivative over draws is the derivative of the mean, `(B - b) / B^2`.
#[test]
fn drnas_gradient_is_unbiased() {
    let rows: Vec<&[f32]> = vec![&[0.0, 0.5, -0.5]; 2];
    let alpha = alpha(&rows);
    let rule = sampled(Sampling::Dirichlet, 1.0);
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let draws = 1_000;
    let slopes: Vec<f64> = (0..draws)
        .map(|_| {
            let draw = Sampling::Dirichlet.draw(&alpha.values(), 3, &mut rng);
            let first = rule.mixing(&space(), &alpha, &draw).weights.normal.slice([0..1, 0..1]);
            let gradients = GradientsParams::from_grads(first.sum().backward(), &alpha);
            let gradient = ArchitectureGradient::read(&gradients, &alpha).operations.normal;
            f64::from(values(gradient)[0])
        })
        .collect();
    let mean = slopes.iter().sum::<f64>() / f64::from(draws);
    let spread = slopes.iter().map(|slope| (slope - mean).powi(2)).sum::<f64>();
    let deviation = (spread / f64::from(draws - 1) / f64::from(draws)).sqrt();
    assert!((mean - 0.218_281).abs() < 4.0 * deviation, "{mean} +- {deviation}");
    assert!(deviation < 0.01, "{deviation}");
}

#[test]
fn beta_darts_pulls_the_largest_down() {
    let device = Device::flex().autodiff();
    let leaf = |row: [f32; 3]| {
        Tensor::<1>::from_data(row, &device).unsqueeze::<2>().detach().require_grad()
    };
    let rows = PerKind::both(leaf(ALPHA), leaf([1.0, 0.0, -1.0]));
    let mean = log_sum_exp(rows.clone());
    close(&values(mean.clone()), &[1.296_773], 1e-6);
    let term = mean * 15.0;
    close(&values(term.clone()), &[19.451_590], 2e-5);
    let gradients = term.backward();
    let slopes = |row: Tensor<2>| values(row.grad(&gradients).expect("a gradient"));
    close(&slopes(rows.normal.clone()), &[2.531_884, 1.875_666, 3.092_450], 1e-5);
    close(
        &slopes(rows.cell(CellKind::Reduction).clone()),
        &[4.989_307, 1.835_464, 0.675_229],
        1e-5,
    );
}

#[test]
fn gates_pass_every_gradient_on() {
    let rule = sampled(Sampling::Gates, 1.0);
    let [mixing, slope] = gradient(&rule, &Draw::Path(both(&[1])), [2.0, 4.0, -2.0]);
    assert_eq!(mixing, [0.0, 1.0, 0.0]);
    close(&slope, &[0.387_928, 0.787_562, -1.175_490], 1e-5);
}

#[test]
fn pairs_of_gates_move_two_and_keep_their_sum() {
    let rule = sampled(Sampling::GatePairs, 1.0);
    let draw = Draw::Pairs(both(&[[2, 0]]));
    let [mixing, slope] = gradient(&rule, &draw, [2.0, 4.0, -2.0]);
    assert_eq!(mixing, [0.0, 0.0, 1.0]);
    // q = softmax(0.1, 0.3) of columns 0 and 2; q q' (2 - (-2)).
    let q = 1.0 / (1.0 + 0.2_f64.exp());
    let pull = q * (1.0 - q) * 4.0;
    close(&slope, &[pull, 0.0, -pull], 1e-6);

    let moved: &[f32] = &[0.11, -0.2, 0.28];
    let (before, after) = (alpha(&[&ALPHA, &ALPHA]), alpha(&[moved, moved]));
    let settled = rule.settle(&before, after, &draw).values();
    close(&settled.normal[..3], &[0.116_384, -0.2, 0.286_384], 1e-6);
    close(&settled.cell(CellKind::Reduction)[3..], &[0.116_384, -0.2, 0.286_384], 1e-6);
}

/// Two operations of each edge are computed: the gradient is that with all of them.
#[test]
fn pairs_of_gates_need_two_operations() {
    let device = Device::flex().autodiff();
    let rule = sampled(Sampling::GatePairs, 1.0);
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    for (parts, kernels) in
        [(1, Kernels::Reference), (1, Kernels::default()), (2, Kernels::default())]
    {
        let space = SearchSpace::darts();
        let form = CellForm { parts, ..CellForm::default() };
        let config = SupernetConfig {
            space: space.clone(),
            init_channels: 4,
            num_cells: 3,
            form,
            ..SupernetConfig::new(StemKind::Cifar, 3)
        };
        let supernet = config.init(&mut rng, &device).with_kernels(kernels);
        let alpha = ArchitectureParameters::new(&space, 0.5, &mut rng, &device);
        let draw = Sampling::GatePairs.draw(&alpha.values(), 8, &mut rng);
        let objective = Objective { draw: &draw, ..Objective::new(&space, &rule) };
        let batch = ImageBatch {
            images: tensor(7, [4, 3, 8, 8], &device),
            labels: Tensor::from_data([0, 1, 2, 1], &device),
        };
        let read = |loss: Tensor<1>| {
            let gradients = GradientsParams::from_grads(loss.backward(), &alpha);
            values(ArchitectureGradient::read(&gradients, &alpha).operations.normal)
        };
        let mixing = objective.mixing(&alpha);
        let Draw::Pairs(pairs) = &draw else { panic!("pairs are drawn") };
        let path: Vec<Vec<usize>> = pairs.normal.iter().map(|pair| pair.to_vec()).collect();
        assert_eq!(mixing.path.as_ref().expect("two operations").normal, path);
        let frozen = ec_darts::ops::separate(&supernet).no_grad();
        let all = frozen.forward(batch.images.clone(), &mixing.whole());
        let expected = read(cross_entropy(all, &batch));
        let found = read(objective.alpha_loss(&frozen, &alpha, &batch).total);
        let size = expected.iter().fold(0.0_f32, |most, each| most.max(each.abs()));
        assert!(size > 1e-4, "{size}");
        let apart =
            found.iter().zip(&expected).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
        assert!(apart < 1e-4 * size, "{parts} {kernels:?}: {apart} of {size}");
    }
}

/// An architecture of one operation with a cost of 80, where the reference is 65 and the cross
/// entropy 2.
#[test]
fn latency_in_the_loss_of_proxyless_nas() {
    let (form, reference) = (CostForm::Product, 65.0_f64);
    let loss = |form, weight: f64| {
        let cost = ExpectedCost {
            table: PerKind::both(vec![(80.0 / reference) as f32], vec![0.0]),
            fixed: 0.0,
            weighting: CostWeighting { form, weight, reference, exponent: 0.3 },
        };
        let device = Device::flex();
        let mixing = PerKind::from([0; 2].map(|_| Tensor::<2>::ones([1, 1], &device)));
        values(cost.loss(Tensor::from_data([2.0], &device), &mixing))
    };
    close(&loss(form, 0.2), &[0.405_868], 1e-6);
    // The public code subtracts the weight again: 2.023077.
    close(&loss(CostForm::Linear, 0.1), &[2.023_077 + 0.1], 1e-6);
}
