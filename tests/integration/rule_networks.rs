//! Golden numbers of one step of a rule on a network: fused and plain, on the CPU and on wgpu.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use ec_darts::architect::{Architect, first_order_gradient};
use ec_darts::architecture::{ArchitectureGradient, ArchitectureParameters};
use ec_darts::batch::ImageBatch;
use ec_darts::device::DeviceName;
use ec_darts::network::{CellForm, StemKind, Supernet, SupernetConfig};
use ec_darts::objective::{Objective, cross_entropy};
use ec_darts::ops::Kernels;
use ec_darts::optim::{AdamSettings, SgdSettings, WeightOptimizer};
use ec_darts::penalty::{Penalties, ZeroOne};
use ec_darts::perturbation::{Attacked, Matrix};
use ec_darts::relaxation::Relaxation;
use ec_darts::rule::{Mixing, Rule};
use ec_darts::sampling::{Draw, Sampling};
use ec_darts::skip_dropout::{SkipDropout, SkipMasks};
use ec_darts_space::{Candidates, PerKind, Primitive, SearchSpace};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::fixture::{Fixture, manifest, rule_folder};
use crate::names::{Naming, check_stored_gradients, check_stored_parameters, install};
use crate::rule_values::{check_ascent, parameters, space};
use crate::tiny;

/// The network of a file, and the settings of its optimizers.
pub struct Case<'a> {
    fixture: &'a Fixture,
    pub space: SearchSpace,
    pub supernet: Supernet,
    pub alpha: Option<ArchitectureParameters>,
    /// The columns of the file's matrices, `[14][columns]`, where these are not all columns of the
    /// space.
    candidates: Option<PerKind<Vec<usize>>>,
    /// The dropout masks of the weight step and of the alpha step.
    skip_dropout: [Option<SkipDropout>; 2],
}

/// The results of a step: losses before it, the norm of the weights' gradient, and the moved
/// parameters.
struct Step {
    supernet: Supernet,
    alpha: ArchitectureParameters,
    of_weights: GradientsParams,
    of_alpha: ArchitectureGradient,
    train_loss: Tensor<1>,
    valid_loss: Option<Tensor<1>>,
    norm: Tensor<1>,
}

impl<'a> Case<'a> {
    pub fn new(name: &str, fixture: &'a Fixture, kernels: Kernels) -> Self {
        let number = |key: &str| fixture.entry.config[key].as_u64().expect("a number") as usize;
        let candidates = fixture.has("in.candidates.normal");
        let candidates = candidates.then(|| fixture.index_pair("in.candidates"));
        let alpha = match &candidates {
            Some(candidates) => Some(scattered(fixture, candidates)),
            None => fixture.has("in.alpha.normal").then(|| parameters(fixture, "in.")),
        };
        let columns = if fixture.entry.config.get("operations").is_some() { 7 } else { 8 };
        let mut space = space(columns);
        if let Some(candidates) = &candidates {
            let edge = |columns: &[usize]| columns.iter().map(|&at| Primitive::DARTS[at]).collect();
            let kept = candidates.as_ref().map(|columns| columns.chunks(5).map(edge).collect());
            space = space.restricted(Candidates(kept)).expect("five candidates of each edge");
        }
        let config = SupernetConfig {
            space: space.clone(),
            init_channels: number("channels"),
            num_cells: number("layers"),
            form: CellForm {
                auxiliary_skip: name == "darts_minus",
                parts: fixture.entry.config.get("partial").map_or(1, |_| number("partial")),
            },
            ..SupernetConfig::new(StemKind::Cifar, number("classes"))
        };
        let supernet = config.init(&mut ChaCha8Rng::seed_from_u64(0), &fixture.device);
        let supernet = install(supernet.with_kernels(kernels), fixture, "in.", Naming::Search);
        let skip_dropout = ["train", "valid"].map(|half| skip_dropout(fixture, half));
        Self { fixture, space, supernet, alpha, candidates, skip_dropout }
    }

    fn number(&self, name: &str) -> f64 {
        f64::from(self.fixture.values(name)[0])
    }

    pub fn batch(&self, half: &str) -> ImageBatch {
        ImageBatch {
            images: self.fixture.tensor(&format!("in.{half}.x")),
            labels: self.fixture.labels(&format!("in.{half}.target")),
        }
    }

    fn setting(&self, path: [&str; 2]) -> f64 {
        let value = &self.fixture.entry.config[path[0]];
        if path[1].is_empty() { value.as_f64() } else { value[path[1]].as_f64() }.expect("a number")
    }

    fn weight_optimizer(&self) -> WeightOptimizer {
        let config = &self.fixture.entry.config;
        WeightOptimizer::new(&SgdSettings {
            momentum: self.setting(["w", "momentum"]),
            weight_decay: self.setting(["w", "decay"]),
            clip_norm: config["w_clip"].as_f64(),
            nesterov: config["w"]["nesterov"].as_bool().unwrap_or(false),
        })
    }

    fn architect(&self) -> Architect {
        let config = &self.fixture.entry.config;
        let beta = |index: usize| config["alpha"]["betas"][index].as_f64().expect("a number");
        let weight_decay = self.setting(["alpha", "decay"]);
        let adam = AdamSettings { beta1: beta(0), beta2: beta(1), weight_decay };
        Architect::new(self.setting(["alpha", "lr"]), &adam)
            .with_clip_norm(config.get("alpha_clip").and_then(|clip| clip.as_f64()))
    }

    /// One step of a rule; the file has the order and the settings.
    fn step(
        &self,
        rule: &Rule,
        draws: [Draw; 2],
        perturb: impl Fn(&Self, Mixing) -> Mixing,
    ) -> Step {
        let mut architect = self.architect();
        let mut alpha = self.alpha.clone().expect("a case with alpha");
        let [of_train, of_valid] = &draws;
        let weights_first = self.fixture.entry.config["order"] == "weights, alpha";
        let move_alpha = |alpha: &mut ArchitectureParameters,
                          architect: &mut Architect,
                          supernet: &Supernet| {
            let skip_dropout = self.skip_dropout[1].as_ref();
            let objective = Objective { space: &self.space, rule, draw: of_valid, skip_dropout };
            let valid = self.batch("valid");
            let found = first_order_gradient(&objective, supernet, alpha, &valid);
            *alpha = architect.descend(alpha.clone(), found.gradient.clone());
            found
        };
        let before =
            (!weights_first).then(|| move_alpha(&mut alpha, &mut architect, &self.supernet));
        let skip_dropout = self.skip_dropout[0].as_ref();
        let objective = Objective { space: &self.space, rule, draw: of_train, skip_dropout };
        let mixing = perturb(self, objective.mixing(&alpha).detach());
        let (train_loss, of_weights) = self.weight_gradients(&mixing);
        let ran = mixing.path.as_ref().map(|path| self.supernet.parameters_along(path));
        let gradients = self.weight_gradients(&mixing).1;
        let (supernet, norm) = self.weight_optimizer().step_of(
            self.setting(["w", "lr"]),
            self.supernet.clone(),
            gradients,
            ran.as_ref(),
        );
        let found = before.unwrap_or_else(|| move_alpha(&mut alpha, &mut architect, &supernet));
        Step {
            supernet,
            alpha,
            of_weights,
            of_alpha: found.gradient,
            train_loss,
            valid_loss: Some(found.valid_loss),
            norm,
        }
    }

    /// The columns of the file out of a matrix over all primitives.
    fn of_candidates(&self, values: PerKind<Vec<f32>>) -> PerKind<Vec<f32>> {
        let Some(candidates) = &self.candidates else { return values };
        values.zip(candidates.as_ref()).map(|(values, columns)| {
            let places = columns.iter().enumerate();
            places.map(|(place, column)| values[place / 5 * 8 + column]).collect()
        })
    }

    fn weight_gradients(&self, mixing: &Mixing) -> (Tensor<1>, GradientsParams) {
        let batch = self.batch("train");
        // A model with its own statistics, so that the same pass twice gives the same result.
        let supernet = ec_darts::ops::separate(&self.supernet);
        let loss = cross_entropy(supernet.forward(batch.images.clone(), mixing), &batch);
        let gradients = GradientsParams::from_grads(loss.clone().backward(), &supernet);
        (loss, gradients)
    }

    fn check(&self, step: &Step) {
        let fixture = self.fixture;
        fixture.check_tensor("out.train_loss", step.train_loss.clone());
        if let Some(valid) = &step.valid_loss {
            fixture.check_tensor("out.valid_loss", valid.clone());
        }
        fixture.check_tensor("out.grad_norm", step.norm.clone());
        let values = |pair: &PerKind<Tensor<2>>| pair.clone().map(tiny::values);
        let gradient = values(&step.of_alpha.operations);
        fixture.check_pair("out.grad.alpha", &self.of_candidates(gradient));
        fixture.check_pair("out.after.alpha", &self.of_candidates(moved(&step.alpha)));
        if let Some(edges) = &step.of_alpha.edges {
            fixture.check_pair("out.grad.beta", &values(edges));
            let moved = step.alpha.edge_weights().expect("weights of edges");
            fixture.check_pair("out.after.beta", &moved.map(|param| tiny::values(param.val())));
        }
        let prefix = "out.grad.param.";
        check_stored_gradients(&self.supernet, &step.of_weights, fixture, prefix);
        check_stored_parameters(&step.supernet, fixture, "out.after.param.");
    }
}

/// Values of alpha.
fn moved(alpha: &ArchitectureParameters) -> PerKind<Vec<f32>> {
    alpha.operations().map(|param| tiny::values(param.val()))
}

/// Alpha of a file in the columns of its candidates, zero elsewhere.
fn scattered(fixture: &Fixture, candidates: &PerKind<Vec<usize>>) -> ArchitectureParameters {
    let of_kind = |(values, columns): (Vec<f32>, &Vec<usize>)| {
        let mut all = vec![0.0; 14 * 8];
        for (place, (value, column)) in values.into_iter().zip(columns).enumerate() {
            all[place / 5 * 8 + column] = value;
        }
        Param::from_data(TensorData::new(all, [14, 8]), &fixture.device)
    };
    let pair = fixture.pair("in.alpha").zip(candidates.as_ref()).map(of_kind);
    ArchitectureParameters { normal: pair.normal, reduction: pair.reduction, edges: None }
}

/// The masks of a step, where the file has some.
fn skip_dropout(fixture: &Fixture, half: &str) -> Option<SkipDropout> {
    let prefix = format!("in.{half}.mask.cells.");
    let places = fixture.names().filter_map(|name| {
        let (cell, edge) = name.strip_prefix(&prefix)?.split_once(".edges.")?;
        Some(([cell, edge].map(|number| number.parse().expect("a number")), fixture.tensor(name)))
    });
    let masks: BTreeMap<[usize; 2], Tensor<4>> = places.collect();
    let rate = || f64::from(fixture.values("in.dropout")[0]);
    (!masks.is_empty())
        .then(|| SkipDropout { rate: rate(), masks: SkipMasks::Given(Arc::new(masks)) })
}

/// P-DARTS: the gradient of alpha is clipped too.
fn progressive(case: &Case<'_>, step: &Step) {
    let gradients = step.of_alpha.clone().operations.map(|gradient| gradient.powi_scalar(2).sum());
    let sum = gradients.into_values().reduce(|sum, each| sum + each).expect("two kinds");
    case.fixture.check_tensor("out.alpha_grad_norm", sum.sqrt());
    let tight = case.setting(["alpha_clip_tight", ""]);
    let architect = case.architect().with_clip_norm(Some(tight));
    let alpha = &step.alpha;
    let clipped = architect.clipped(alpha, step.of_alpha.clone());
    let clipped = ArchitectureGradient::read(&clipped, alpha).operations.map(tiny::values);
    case.fixture.check_pair("out.clipped_tightly.alpha", &case.of_candidates(clipped));
    // An operation that no edge keeps has no gradient and does not move.
    for (kind, columns) in case.candidates.as_ref().expect("candidates").iter() {
        let all = [moved(alpha), step.of_alpha.operations.clone().map(tiny::values)];
        for values in all {
            for (place, value) in values.cell(kind).iter().enumerate() {
                let kept = columns[place / 8 * 5..][..5].contains(&(place % 8));
                assert!(kept || *value == 0.0, "{value} at {place} of {kind}");
            }
        }
    }
}

fn plain(_: &Case<'_>, mixing: Mixing) -> Mixing {
    mixing
}

fn run(name: &str, fixture: &Fixture, kernels: Kernels) {
    let case = Case::new(name, fixture, kernels);
    let softmax = Rule::from(Relaxation::Softmax);
    let still = [Draw::Mode, Draw::Mode];
    let gumbel = |half: &str| Draw::Gumbel(fixture.pair(&format!("in.{half}gumbel")));
    let path = |half: &str| Draw::Path(fixture.index_pair(&format!("in.{half}path")));
    match name {
        "perturb_network" => perturbed(&case),
        "snas" => single_level(&case, gumbel("")),
        "fairdarts" => {
            let penalties = Penalties {
                zero_one: case.number("in.weight"),
                zero_one_form: ZeroOne::L2,
                ..Penalties::default()
            };
            let rule = Rule { penalties: penalties.clone(), ..Rule::from(Relaxation::Sigmoid) };
            let alpha = case.alpha.as_ref().expect("alpha");
            let mixing = rule.mixing(&case.space, alpha, &Draw::Mode);
            let nothing = Tensor::zeros([1], &mixing.weights.normal.device());
            let term = penalties.loss(nothing, &case.space, alpha, &mixing.weights);
            fixture.check_tensor("out.penalty", term);
            case.check(&case.step(&rule, still, plain));
        }
        "gdas" => {
            let rule = Rule {
                sampling: Some(Sampling::StraightThrough),
                temperature: case.number("in.temperature"),
                ..softmax
            };
            for half in ["train", "valid"] {
                let alpha = case.alpha.as_ref().expect("alpha");
                let path = rule.mixing(&case.space, alpha, &gumbel(&format!("{half}."))).path;
                let path = path.expect("one operation of each edge");
                for (kind, path) in ["normal", "reduce"].into_iter().zip(path.into_values()) {
                    let path: Vec<i64> = path.iter().map(|columns| columns[0] as i64).collect();
                    fixture.check_integers(&format!("out.{half}.index.{kind}"), &path);
                }
            }
            case.check(&case.step(&rule, [gumbel("train."), gumbel("valid.")], plain));
        }
        "proxyless" => {
            let rule = Rule { sampling: Some(Sampling::Gates), ..softmax };
            let step = case.step(&rule, [path("train."), path("valid.")], plain);
            gates(&case, &step);
            case.check(&step);
        }
        "pcdarts_k4" | "pcdarts_k2" => case.check(&case.step(&softmax, still, plain)),
        "cen_partial" => {
            case.check(&case.step(&Rule::from(Relaxation::CrossEdge), still, plain));
        }
        "pdarts" => {
            let step = case.step(&softmax, still, plain);
            progressive(&case, &step);
            case.check(&step);
        }
        "darts_minus" => {
            let rule = Rule { auxiliary_skip: case.number("in.strength"), ..softmax };
            case.check(&case.step(&rule, still, plain));
        }
        "sdarts_rs" => {
            let perturb = |case: &Case<'_>, mixing: Mixing| {
                let matrix = Matrix { space: &case.space, relaxation: Relaxation::Softmax };
                let values = mixing.weights.clone().map(tiny::values);
                let moved = matrix.random(&values, &fixture.pair("in.noise"));
                fixture.check_pair("out.mixing", &moved);
                with_weights(case, mixing, &moved)
            };
            case.check(&case.step(&softmax, still, perturb));
        }
        _ => panic!("{name} is unknown to this test"),
    }
}

/// The same pass with other mixing weights.
fn with_weights(case: &Case<'_>, mixing: Mixing, values: &PerKind<Vec<f32>>) -> Mixing {
    let shape = [14, case.space.primitives().len()];
    let tensor = |values: &Vec<f32>| {
        Tensor::from_data(TensorData::new(values.clone(), shape), &case.fixture.device)
    };
    Mixing { weights: values.as_ref().map(tensor), ..mixing }
}

/// Gradients of all gates of the step on alpha, at the updated weights.
fn gates(case: &Case<'_>, step: &Step) {
    let path = case.fixture.index_pair("in.valid.path");
    let one_hot = path.map(|path| {
        let mut values = vec![0.0; 14 * 8];
        for (edge, column) in path.into_iter().enumerate() {
            values[edge * 8 + column] = 1.0;
        }
        values
    });
    let alpha = case.alpha.as_ref().expect("alpha");
    let mixing = Rule::from(Relaxation::Softmax).mixing(&case.space, alpha, &Draw::Mode);
    let mixing = with_weights(case, mixing, &one_hot);
    let leaves = mixing.weights.clone().map(Tensor::require_grad);
    let batch = case.batch("valid");
    let frozen = ec_darts::ops::separate(&step.supernet).no_grad();
    let logits =
        frozen.forward(batch.images.clone(), &Mixing { weights: leaves.clone(), ..mixing });
    let gradients = cross_entropy(logits, &batch).backward();
    let of_gates = leaves.map(|leaf| tiny::values(leaf.grad(&gradients).expect("tracked")));
    case.fixture.check_pair("out.grad.gate", &of_gates);
}

/// SNAS: one backward pass of the training loss for weights and alpha.
fn single_level(case: &Case<'_>, draw: Draw) {
    let rule = Rule {
        sampling: Some(Sampling::Concrete),
        temperature: case.number("in.temperature"),
        ..Rule::from(Relaxation::Softmax)
    };
    let alpha = case.alpha.clone().expect("alpha");
    let mixing = rule.mixing(&case.space, &alpha, &draw);
    let batch = case.batch("train");
    let supernet = ec_darts::ops::separate(&case.supernet);
    let loss = cross_entropy(supernet.forward(batch.images.clone(), &mixing), &batch);
    let mut all = loss.clone().backward();
    let of_alpha =
        ArchitectureGradient::read(&GradientsParams::from_module(&mut all, &alpha), &alpha);
    let of_weights = GradientsParams::from_module(&mut all, &supernet);
    let gradients = case.weight_gradients(&rule.mixing(&case.space, &alpha, &draw).detach()).1;
    let (moved, norm) =
        case.weight_optimizer().step(case.setting(["w", "lr"]), case.supernet.clone(), gradients);
    // The public code uses plain SGD on one GPU.
    let sgd = SgdSettings { momentum: 0.0, weight_decay: 0.0, clip_norm: None, nesterov: false };
    let (by_sgd, _) = WeightOptimizer::new(&sgd).step(
        case.setting(["alpha_sgd", "lr"]),
        alpha.clone(),
        of_alpha.clone().register(&alpha),
    );
    let by_sgd = by_sgd.operations().map(|param| tiny::values(param.val()));
    case.fixture.check_pair("out.sgd.after.alpha", &by_sgd);
    let alpha = case.architect().descend(alpha, of_alpha.clone());
    case.check(&Step {
        supernet: moved,
        alpha,
        of_weights,
        of_alpha,
        train_loss: loss,
        valid_loss: None,
        norm,
    });
}

/// SDARTS on a network: the ascent in evaluation mode, and the weights' gradient at its result.
fn perturbed(case: &Case<'_>) {
    let fixture = case.fixture;
    let matrix = Matrix { space: &case.space, relaxation: Relaxation::Softmax };
    let before = fixture.pair("in.mixing");
    let zeros = || Tensor::zeros([14, 7], &fixture.device);
    let start = Mixing::of(PerKind::both(zeros(), zeros()));
    for name in ["rs", "adv"] {
        let out = format!("out.{name}.");
        let moved = if name == "rs" {
            let moved = matrix.random(&before, &fixture.pair("in.noise"));
            fixture.check_pair(&format!("{out}mixing"), &moved);
            moved
        } else {
            let (batch, epsilon) = (case.batch("train"), case.number("in.epsilon"));
            let attacked = Attacked::new(&case.supernet, &start, &batch);
            let loss = |at: &PerKind<Vec<f32>>| attacked.loss(at);
            let found = matrix.adversarial(&before, &fixture.pair("in.start"), epsilon, loss);
            check_ascent(fixture, &out, &before, &found);
            found.mixing
        };
        let mixing = with_weights(case, start.clone(), &moved);
        let (loss, gradients) = case.weight_gradients(&mixing);
        fixture.check_tensor(&format!("{out}loss"), loss);
        let norm = ec_darts::optim::global_norm(&case.supernet, &gradients);
        fixture.check_tensor(&format!("{out}grad_norm"), norm);
        let prefix = format!("{out}grad.param.");
        check_stored_gradients(&case.supernet, &gradients, fixture, &prefix);
    }
}

/// Checks every network of the folder.
fn check(device: &Device, kernels: &[(&str, Kernels)]) {
    let manifest = manifest(&rule_folder());
    let mut ran = 0;
    for (file, entry) in &manifest.files {
        let name = file.trim_end_matches(".safetensors");
        let has_network = entry.case == "r4" || name == "perturb_network";
        if !has_network {
            continue;
        }
        for &(title, kernels) in kernels {
            let fixture = Fixture::read(&rule_folder().join(file), entry, device, 1.0);
            run(name, &fixture, kernels);
            fixture.finish(&format!("{name}, {title}"));
            ran += 1;
        }
    }
    assert!(ran > 0, "no network among the fixtures");
}

#[test]
fn rules_are_golden_on_flex() {
    let kernels = [("fused", Kernels::default()), ("plain", Kernels::Reference)];
    check(&Device::flex(), &kernels);
}

#[test]
fn rules_are_golden_on_wgpu() {
    if let Some(device) = crate::devices::gpu(DeviceName::Wgpu) {
        check(&device, &[("fused on wgpu", Kernels::default())]);
    }
}

#[cfg(feature = "cuda")]
#[test]
fn rules_are_golden_on_cuda() {
    if let Some(device) = crate::devices::gpu(DeviceName::Cuda) {
        check(&device, &[("fused on cuda", Kernels::default())]);
    }
}
