//! Golden numbers of the family's rules without a network: mixing weights, terms of alpha's loss, perturbations.

use burn::module::Param;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use ec_darts::architecture::{ArchitectureGradient, ArchitectureParameters, EdgeParameters};
use ec_darts::device::DeviceName;
use ec_darts::dirichlet::concentration;
use ec_darts::penalty::{CostForm, CostWeighting, ExpectedCost, Penalties, ZeroOne};
use ec_darts::perturbation::Matrix;
use ec_darts::relaxation::Relaxation;
use ec_darts::rule::{Mixing, Rule};
use ec_darts::sampling::{Draw, Sampling};
use ec_darts_space::{Candidates, PerKind, Primitive, SearchSpace};

use crate::fixture::{Fixture, manifest, rule_folder};
use crate::tiny;

/// The space with this number of columns: DARTS', with or without `none`.
pub fn space(columns: usize) -> SearchSpace {
    let primitives = Primitive::DARTS[8 - columns..].to_vec();
    SearchSpace::new(primitives, *SearchSpace::darts().topology()).expect("a space")
}

/// Alpha and beta of a case.
pub fn parameters(fixture: &Fixture, prefix: &str) -> ArchitectureParameters {
    let matrix = |name: String| {
        let values = fixture.values(&name).to_vec();
        let shape = [14, values.len() / 14];
        Param::from_data(TensorData::new(values, shape), &fixture.device)
    };
    let param = |name: &str, kind: &str| matrix(format!("{prefix}{name}.{kind}"));
    let edges = fixture.has(&format!("{prefix}beta.normal")).then(|| EdgeParameters {
        normal: param("beta", "normal"),
        reduction: Some(param("beta", "reduce")),
    });
    ArchitectureParameters {
        normal: param("alpha", "normal"),
        reduction: Some(param("alpha", "reduce")),
        edges,
    }
}

/// The space with the candidates whose flag is 1, row by row.
fn restricted(space: &SearchSpace, keep: PerKind<Vec<usize>>) -> SearchSpace {
    let primitives = space.primitives();
    let of_edge = |flags: &[usize]| -> Vec<Primitive> {
        let kept = primitives.iter().zip(flags).filter(|(_, flag)| **flag == 1);
        kept.map(|(primitive, _)| *primitive).collect()
    };
    let of_kind = |flags: Vec<usize>| flags.chunks(primitives.len()).map(of_edge).collect();
    space.restricted(Candidates(keep.map(of_kind))).expect("lists of the space")
}

fn columns(alpha: &ArchitectureParameters) -> usize {
    alpha.normal.dims()[1]
}

fn check(name: &str, device: &Device, cases: impl Fn(&Fixture)) {
    let manifest = manifest(&rule_folder());
    let file = format!("{name}.safetensors");
    let entry = &manifest.files[&file];
    let fixture = Fixture::read(&rule_folder().join(&file), entry, device, 1.0);
    cases(&fixture);
    fixture.finish(name);
}

/// The cases of a file: the parts of names before `.in.`.
fn cases(fixture: &Fixture) -> Vec<String> {
    let mut cases: Vec<String> =
        fixture.names().filter_map(|name| Some(name.split_once(".in.")?.0.to_string())).collect();
    cases.dedup();
    cases
}

fn values(weights: &PerKind<Tensor<2>>) -> PerKind<Vec<f32>> {
    weights.clone().map(tiny::values)
}

/// The gradient of alpha and beta by a gradient of the mixing weights.
fn gradient(
    fixture: &Fixture,
    alpha: &ArchitectureParameters,
    mixing: &Mixing,
    upstream: PerKind<Vec<f32>>,
) -> ArchitectureGradient {
    let term = |(weights, upstream): (&Tensor<2>, Vec<f32>)| {
        let upstream = TensorData::new(upstream, weights.dims());
        (weights.clone() * Tensor::from_data(upstream, &fixture.device)).sum()
    };
    let terms = mixing.weights.as_ref().zip(upstream).map(term).into_values();
    let sum = terms.reduce(|sum, term| sum + term).expect("two kinds");
    let gradients = GradientsParams::from_grads(sum.backward(), alpha);
    ArchitectureGradient::read(&gradients, alpha)
}

fn mixing_case(fixture: &Fixture, case: &str) {
    let prefix = format!("{case}.in.");
    let alpha = parameters(fixture, &prefix);
    let space = space(columns(&alpha));
    let rule = |relaxation, sampling| {
        let temperature = format!("{prefix}temperature");
        let temperature = match fixture.has(&temperature) {
            true => f64::from(fixture.values(&temperature)[0]),
            false => 1.0,
        };
        Rule { sampling, temperature, ..Rule::from(relaxation) }
    };
    let gumbel = || Draw::Gumbel(fixture.pair(&format!("{prefix}gumbel")));
    let start = |name: &str| case.starts_with(name);
    let (rule, draw) = match () {
        () if start("softmax") || start("pcdarts") => (rule(Relaxation::Softmax, None), Draw::Mode),
        () if start("cen_gumbel") => {
            (rule(Relaxation::CrossEdge, Some(Sampling::Concrete)), gumbel())
        }
        () if start("cen") => (rule(Relaxation::CrossEdge, None), Draw::Mode),
        () if start("sigmoid") => (rule(Relaxation::Sigmoid, None), Draw::Mode),
        () if start("gdas") => {
            (rule(Relaxation::Softmax, Some(Sampling::StraightThrough)), gumbel())
        }
        () if start("snas") => (rule(Relaxation::Softmax, Some(Sampling::Concrete)), gumbel()),
        () if start("drnas") => {
            let sample = Draw::Simplex(fixture.pair(&format!("{prefix}sample")));
            (rule(Relaxation::Softmax, Some(Sampling::Dirichlet)), sample)
        }
        () => panic!("case {case} is unknown to this test"),
    };
    let keep = start("drnas_masked").then(|| fixture.index_pair(&format!("{prefix}keep")));
    let space = match keep {
        Some(keep) => restricted(&space, keep),
        None => space,
    };
    let mut mixing = rule.mixing(&space, &alpha, &draw);
    if start("drnas") {
        let concentration = |values: Vec<f32>| values.into_iter().map(concentration).collect();
        let of_alpha = alpha.values().map(concentration);
        fixture.check_pair(&format!("{case}.out.concentration"), &of_alpha);
    }
    fixture.check_pair(&format!("{case}.out.mixing"), &values(&mixing.weights));
    if start("gdas") {
        let path = mixing.path.as_ref().expect("one operation of each edge");
        for (kind, path) in ["normal", "reduce"].into_iter().zip(path.as_ref().into_values()) {
            let path: Vec<i64> = path.iter().map(|columns| columns[0] as i64).collect();
            fixture.check_integers(&format!("{case}.out.index.{kind}"), &path);
        }
        let soft = Rule { sampling: Some(Sampling::Concrete), ..rule.clone() };
        let soft = soft.mixing(&space, &alpha, &draw).weights;
        fixture.check_pair(&format!("{case}.out.soft"), &values(&soft));
        // The gradient of alpha where only the sampled operation is computed.
        let hard = values(&mixing.weights);
        let upstream = fixture.pair(&format!("{prefix}upstream")).zip(hard).map(|(all, hard)| {
            all.iter().zip(hard).map(|(upstream, weight)| upstream * weight).collect()
        });
        let gradient = gradient(fixture, &alpha, &mixing, upstream);
        fixture.check_pair(&format!("{case}.out.v1.grad.alpha"), &values(&gradient.operations));
        // A graph allows only one backward pass.
        mixing = rule.mixing(&space, &alpha, &draw);
    }
    if fixture.has(&format!("{prefix}upstream.normal")) {
        let upstream = fixture.pair(&format!("{prefix}upstream"));
        let gradient = gradient(fixture, &alpha, &mixing, upstream);
        fixture.check_pair(&format!("{case}.out.grad.alpha"), &values(&gradient.operations));
        if let Some(edges) = gradient.edges {
            fixture.check_pair(&format!("{case}.out.grad.beta"), &values(&edges));
        }
    }
}

fn mixing(device: &Device) {
    check("mixing", device, |fixture| {
        for case in cases(fixture) {
            mixing_case(fixture, &case);
        }
    });
}

fn penalties(device: &Device) {
    check("penalties", device, |fixture| {
        for case in cases(fixture) {
            penalty_case(fixture, &case);
        }
    });
}

fn penalty_case(fixture: &Fixture, case: &str) {
    let alpha = parameters(fixture, &format!("{case}.in."));
    let space = space(columns(&alpha));
    let weight = f64::from(fixture.values(&format!("{case}.in.weight"))[0]);
    let check = |prefix: String, relaxation, of: &dyn Fn(f64) -> Penalties| {
        if !fixture.has(&format!("{prefix}value")) {
            return;
        }
        let loss = |weight| {
            let mixing = Rule::from(relaxation).mixing(&space, &alpha, &Draw::Mode);
            let nothing = Tensor::zeros([1], &mixing.weights.normal.device());
            of(weight).loss(nothing, &space, &alpha, &mixing.weights)
        };
        fixture.check_tensor(&format!("{prefix}value"), loss(1.0));
        let weighted = loss(weight);
        fixture.check_tensor(&format!("{prefix}weighted"), weighted.clone());
        let gradients = GradientsParams::from_grads(weighted.backward(), &alpha);
        let gradient = ArchitectureGradient::read(&gradients, &alpha);
        fixture.check_pair(&format!("{prefix}grad.alpha"), &values(&gradient.operations));
    };
    let out = format!("{case}.out.");
    match () {
        () if case.starts_with("zero_one") => {
            for (name, form) in [("l2", ZeroOne::L2), ("l1", ZeroOne::L1)] {
                check(format!("{out}{name}."), Relaxation::Sigmoid, &|weight| Penalties {
                    zero_one: weight,
                    zero_one_form: form,
                    ..Penalties::default()
                });
            }
        }
        () if case.starts_with("logsumexp") => {
            check(out, Relaxation::Softmax, &|log_sum_exp| Penalties {
                log_sum_exp,
                ..Penalties::default()
            });
        }
        () if case == "dirichlet_kl" => {
            check(out, Relaxation::Softmax, &|dirichlet_kl| Penalties {
                dirichlet_kl,
                ..Penalties::default()
            });
        }
        () if case == "cost" => {
            let relaxations = [("softmax", Relaxation::Softmax), ("cen", Relaxation::CrossEdge)];
            for (name, relaxation) in relaxations {
                for (form_name, form) in [("linear", CostForm::Linear), ("log", CostForm::Log)] {
                    check(format!("{out}{name}.{form_name}."), relaxation, &|weight| {
                        let table = fixture.pair("cost.in.cost");
                        let cost = Some(ExpectedCost {
                            table,
                            fixed: 0.0,
                            weighting: CostWeighting {
                                form,
                                weight,
                                reference: 1.0,
                                exponent: 1.0,
                            },
                        });
                        Penalties { cost, ..Penalties::default() }
                    });
                }
            }
        }
        () => panic!("case {case} is unknown to this test"),
    }
}

#[test]
fn perturbations_are_golden() {
    let space = space(7);
    let matrix = Matrix { space: &space, relaxation: Relaxation::Softmax };
    check("perturb", &Device::flex(), |fixture| {
        for case in cases(fixture) {
            let given = |name: &str| fixture.pair(&format!("{case}.in.{name}"));
            let out = format!("{case}.out.");
            if case == "rs" {
                let moved = matrix.random(&given("mixing"), &given("noise"));
                fixture.check_pair(&format!("{out}mixing"), &moved);
                continue;
            }
            let (linear, quadratic) = (given("linear"), given("quadratic"));
            let loss = |at: &PerKind<Vec<f32>>| {
                let mut sum = 0.0;
                let all = linear.as_ref().zip(quadratic.as_ref()).zip(at.as_ref());
                let gradient = all.map(|((linear, quadratic), at)| {
                    let each = linear.iter().zip(quadratic).zip(at);
                    let slope = |((&linear, &quadratic), &p): ((&f32, &f32), &f32)| {
                        sum += f64::from(linear * p) + 0.5 * f64::from(quadratic * p * p);
                        linear + quadratic * p
                    };
                    each.map(slope).collect()
                });
                (sum as f32, gradient)
            };
            let epsilon = f64::from(fixture.values(&format!("{case}.in.epsilon"))[0]);
            let found = matrix.adversarial(&given("mixing"), &given("start"), epsilon, loss);
            check_ascent(fixture, &out, &given("mixing"), &found);
        }
    });
}

/// Compares every step of an ascent.
pub fn check_ascent(
    fixture: &Fixture,
    prefix: &str,
    before: &PerKind<Vec<f32>>,
    found: &ec_darts::perturbation::Ascent,
) {
    fixture.check_pair(&format!("{prefix}mixing"), &found.mixing);
    for (step, at) in found.trail.iter().enumerate() {
        fixture.check_pair(&format!("{prefix}step{}", step + 1), at);
    }
    fixture.check(&format!("{prefix}loss_before"), &found.losses[..1]);
    fixture.check(&format!("{prefix}loss_after"), &found.losses[1..]);
    let taken_back = i64::from(found.mixing == *before);
    fixture.check_integers(&format!("{prefix}taken_back"), &[taken_back]);
}

#[test]
fn mixing_is_golden_on_flex() {
    mixing(&Device::flex());
}

#[test]
fn mixing_is_golden_on_wgpu() {
    if let Some(device) = crate::devices::gpu(DeviceName::Wgpu) {
        mixing(&device);
    }
}

#[cfg(feature = "cuda")]
#[test]
fn mixing_is_golden_on_cuda() {
    if let Some(device) = crate::devices::gpu(DeviceName::Cuda) {
        mixing(&device);
    }
}

#[test]
fn penalties_are_golden_on_flex() {
    penalties(&Device::flex());
}

#[test]
fn penalties_are_golden_on_wgpu() {
    if let Some(device) = crate::devices::gpu(DeviceName::Wgpu) {
        penalties(&device);
    }
}

#[cfg(feature = "cuda")]
#[test]
fn penalties_are_golden_on_cuda() {
    if let Some(device) = crate::devices::gpu(DeviceName::Cuda) {
        penalties(&device);
    }
}
