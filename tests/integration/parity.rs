//! Parity with the golden numbers, on the CPU and on GPUs.

use burn::module::{Module, Param, list_param_ids};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use ec_darts::architect::{
    AlphaGradient, Architect, Unrolled, first_order_gradient, second_order_gradient,
};
use ec_darts::architecture::{ArchitectureParameters, Strength};
use ec_darts::batch::ImageBatch;
use ec_darts::device::DeviceName;
use ec_darts::network::{
    CellForm, CellPlan, EvaluationConfig, Map, SearchCell, Skeleton, StemKind, Supernet,
    SupernetConfig,
};
use ec_darts::objective::{Objective, cross_entropy};
use ec_darts::ops::{DropPath, Form, Operation};
use ec_darts::optim::{AdamSettings, SgdSettings, WeightOptimizer};
use ec_darts::relaxation::Relaxation;
use ec_darts::rule::Rule;
use ec_darts::sampling::Draw;
use ec_darts::snapshot::Snapshot;
use ec_darts::transition::induce;
use ec_darts_space::{
    CellKind, CellTopology, Genotype, PerKind, Primitive, SearchSpace, discretize,
};
use ec_darts_study::statistics::kendall::tau_b;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::fixture::{Entry, Fixture, folder, manifest};
use crate::names::{Naming, check_gradients, check_parameters, check_statistics, install, turned};

const RELAXATIONS: [(&str, Relaxation); 2] =
    [("softmax", Relaxation::Softmax), ("cen", Relaxation::CrossEdge)];

/// Runs every case of the manifest in one range of letters; an unknown case fails.
fn check(device: &Device, title: &str, slack: f64, wanted: impl Fn(&str) -> bool) {
    let manifest = manifest(&folder());
    assert_eq!(manifest.format, 1);
    let names: Vec<_> = Primitive::DARTS.iter().map(|primitive| primitive.name()).collect();
    assert_eq!(manifest.primitives, names, "the fixtures' order of primitives");
    let mut ran = 0;
    for (file, entry) in manifest.files.iter().filter(|(_, entry)| wanted(&entry.case)) {
        let fixture = Fixture::read(&folder().join(file), entry, device, slack);
        match entry.case.as_str() {
            "a" | "b" => primitives(&fixture),
            "c" => relaxation(&fixture),
            "d" => search_cells(&fixture),
            "e" => search_network(&fixture),
            "f" => alpha_gradients(&fixture),
            "g" => search_steps(&fixture),
            "h" => auxiliary(&fixture),
            "i" => retrain(&fixture),
            "j" => kendall(&fixture),
            "k" => discretization(&fixture),
            other => panic!("{file}: case {other} is unknown to this test"),
        }
        fixture.finish(&format!("{title}: {file}"));
        ran += 1;
    }
    assert!(ran > 0, "no fixture of these cases");
}

#[test]
fn parity_on_flex() {
    check(&Device::flex(), "flex", 1.0, |_| true);
}

#[test]
fn parity_on_wgpu() {
    if let Some(device) = crate::devices::gpu(DeviceName::Wgpu) {
        check(&device, "wgpu", 1.0, |_| true);
    }
}

#[cfg(feature = "cuda")]
#[test]
fn parity_on_cuda() {
    if let Some(device) = crate::devices::gpu(DeviceName::Cuda) {
        check(&device, "cuda", 1.0, |_| true);
    }
}

fn primitives(fixture: &Fixture) {
    let cases: Vec<String> =
        fixture.names().filter_map(|name| name.strip_suffix("in.x").map(str::to_string)).collect();
    for case in cases {
        let parts: Vec<&str> = case.split('.').collect();
        let primitive: Primitive = parts[0].parse().expect("a primitive");
        let stride: usize = parts[1].trim_start_matches("stride").parse().expect("a stride");
        let form = if parts[2] == "search" { Form::Search } else { Form::Retrain };
        let x = fixture.tensor::<4>(&format!("{case}in.x")).require_grad();
        let Some(operation) = Operation::new(primitive, 4, stride, form, &fixture.device) else {
            // `none` is never computed: it adds nothing and gets no gradient.
            for name in [format!("{case}out.y"), format!("{case}out.grad.x")] {
                let zeros = vec![0.0; fixture.values(&name).len()];
                fixture.check(&name, &zeros);
            }
            continue;
        };
        let operation = install(operation, fixture, &format!("{case}in."), Naming::Operation);
        let y = operation.forward(x.clone());
        fixture.check_tensor(&format!("{case}out.y"), y.clone());
        let upstream = fixture.tensor::<4>(&format!("{case}in.upstream"));
        let mut gradients = (y * upstream).sum().backward();
        let of_x = x.grad(&gradients).expect("the input is tracked");
        fixture.check_tensor(&format!("{case}out.grad.x"), of_x);
        let gradients = GradientsParams::from_module(&mut gradients, &operation);
        let prefix = format!("{case}out.grad.param.");
        check_gradients(&operation, &gradients, fixture, &prefix, Naming::Operation);
        check_statistics(&operation, fixture, &format!("{case}out.stat."), Naming::Operation);
    }
}

fn relaxation(fixture: &Fixture) {
    let topology = CellTopology::new(4, 2).expect("DARTS' cell");
    // The fixture has one node per number of incoming edges; together they make a cell.
    let joined = |scale: &str, what: &str| {
        let nodes = (2..6)
            .map(|edges| fixture.tensor::<2>(&format!("{scale}.edges{edges}.in.{what}")).inner());
        Tensor::from_inner(Tensor::cat(nodes.collect(), 0))
    };
    for scale in ["mild", "steep"] {
        for (kind, relaxation) in RELAXATIONS {
            let alpha = joined(scale, "alpha").require_grad();
            let mixing = relaxation.mixing(alpha.clone(), &topology);
            let gradients = (mixing.clone() * joined(scale, "upstream")).sum().backward();
            let gradient = alpha.grad(&gradients).expect("alpha is tracked");
            for node in 0..4 {
                let case = format!("{scale}.edges{}.out.{kind}", node + 2);
                let rows = topology.edges_into(node);
                let part = |matrix: Tensor<2>| matrix.slice([rows.clone(), 0..8]);
                fixture.check_tensor(&format!("{case}.weights"), part(mixing.clone()));
                fixture.check_tensor(&format!("{case}.grad"), part(gradient.clone()));
            }
        }
    }
}

fn search_cells(fixture: &Fixture) {
    for (case, plan) in fixture.entry.config.as_object().expect("plans by name") {
        let number = |key: &str| plan[key].as_u64().expect("a width") as usize;
        let flag = |key: &str| plan[key].as_bool().expect("a flag");
        let kind = if flag("reduction") { CellKind::Reduction } else { CellKind::Normal };
        let newer = if flag("after_reduction") { 2 } else { 1 };
        let reduces = if flag("reduction") { 2 } else { 1 };
        let map = |channels: &str, shrink| Map { channels: number(channels), shrink };
        let inputs = vec![map("c_pp", 1), map("c_p", newer)];
        let plan = CellPlan { inputs, kind, node: map("c", newer * reduces) };
        let cell =
            SearchCell::new(&SearchSpace::darts(), &plan, CellForm::default(), &fixture.device);
        let cell = install(cell, fixture, &format!("{case}.in."), Naming::Cell);
        let state = |name: &str| fixture.tensor::<4>(&format!("{case}.in.{name}")).require_grad();
        let (s0, s1) = (state("s0"), state("s1"));
        let mixing = fixture.matrix(&format!("{case}.in.weight"));
        let mixing = Tensor::<2>::from_data(mixing, &fixture.device).require_grad();
        let y = cell.forward(s0.clone(), s1.clone(), &cell.weights_of(&mixing));
        fixture.check_tensor(&format!("{case}.out.y"), y.clone());
        let upstream = fixture.tensor::<4>(&format!("{case}.in.upstream"));
        let mut gradients = (y * upstream).sum().backward();
        for (name, state) in [("s0", s0), ("s1", s1)] {
            let gradient = state.grad(&gradients).expect("inputs are tracked");
            fixture.check_tensor(&format!("{case}.out.grad.{name}"), gradient);
        }
        let of_mixing = mixing.grad(&gradients).expect("mixing is tracked");
        fixture.check_matrix(&format!("{case}.out.grad.weight"), of_mixing);
        let gradients = GradientsParams::from_module(&mut gradients, &cell);
        let prefix = format!("{case}.out.grad.param.");
        check_gradients(&cell, &gradients, fixture, &prefix, Naming::Cell);
    }
}

fn supernet(fixture: &Fixture) -> Supernet {
    let number = |key: &str| fixture.entry.config[key].as_u64().expect("a number") as usize;
    let config = SupernetConfig {
        space: SearchSpace::darts(),
        stem: StemKind::Cifar,
        init_channels: number("channels"),
        num_cells: number("layers"),
        num_classes: number("classes"),
        form: CellForm::default(),
    };
    let supernet = config.init(&mut ChaCha8Rng::seed_from_u64(0), &fixture.device);
    install(supernet, fixture, "in.", Naming::Search)
}

fn alpha(fixture: &Fixture) -> ArchitectureParameters {
    let param =
        |kind: &str| Param::from_data(fixture.matrix(&format!("in.alpha.{kind}")), &fixture.device);
    let (normal, reduction) = (param("normal"), Some(param("reduce")));
    ArchitectureParameters { normal, reduction, edges: None }
}

fn check_kinds(fixture: &Fixture, prefix: &str, matrices: PerKind<Tensor<2>>) {
    for (kind, matrix) in ["normal", "reduce"].into_iter().zip(matrices.into_values()) {
        fixture.check_matrix(&format!("{prefix}.{kind}"), matrix);
    }
}

fn batch(fixture: &Fixture, prefix: &str) -> ImageBatch {
    ImageBatch {
        images: fixture.tensor(&format!("{prefix}x")),
        labels: fixture.labels(&format!("{prefix}target")),
    }
}

fn value<const D: usize>(tensor: Tensor<D>) -> f32 {
    tensor.into_data().try_to_vec::<f32>().expect("single precision")[0]
}

fn search_network(fixture: &Fixture) {
    let space = SearchSpace::darts();
    for (kind, relaxation) in RELAXATIONS {
        let (supernet, alpha) = (supernet(fixture), alpha(fixture));
        let batch = batch(fixture, "in.train.");
        let mixing = Rule::from(relaxation).mixing(&space, &alpha, &Draw::Mode);
        let logits = supernet.forward(batch.images.clone(), &mixing);
        let loss = cross_entropy(logits.clone(), &batch);
        fixture.check_tensor(&format!("out.{kind}.logits"), logits);
        fixture.check_tensor(&format!("out.{kind}.loss"), loss.clone());
        let mut gradients = loss.backward();
        let of_alpha = GradientsParams::from_module(&mut gradients, &alpha);
        let of_weights = GradientsParams::from_module(&mut gradients, &supernet);
        for (name, param) in ["normal", "reduce"].into_iter().zip(alpha.operations().into_values())
        {
            let gradient = of_alpha.get::<2>(param.id).expect("alpha has a gradient");
            fixture.check_matrix(&format!("out.{kind}.grad.alpha.{name}"), gradient);
        }
        let prefix = format!("out.{kind}.grad.param.");
        check_gradients(&supernet, &of_weights, fixture, &prefix, Naming::Search);
    }
}

/// SGD whose velocity is the stored momentum buffer.
fn moving_optimizer(
    fixture: &Fixture,
    supernet: &Supernet,
    settings: &SgdSettings,
    stored: bool,
) -> WeightOptimizer {
    let mut optimizer = WeightOptimizer::new(settings);
    if stored {
        let mut parameters = Snapshot::default();
        parameters.save(supernet, "");
        let mut buffers = Snapshot::default();
        for path in parameters.tensors.keys() {
            let parts: Vec<String> = path.split('.').map(String::from).collect();
            let stored = format!("in.momentum.{}", Naming::Search.name(&parts));
            if fixture.has(&stored) {
                let buffer = turned(fixture.data(&stored));
                buffers.tensors.insert(format!("sgd.{path}.momentum.velocity"), buffer);
            }
        }
        assert!(!buffers.tensors.is_empty(), "momentum buffers are stored");
        let loaded = optimizer.stepper.load(supernet, "sgd", &mut buffers, |_| 1);
        loaded.expect("a buffer for every parameter");
        assert!(buffers.tensors.is_empty(), "every buffer was taken");
    }
    optimizer
}

fn alpha_gradients(fixture: &Fixture) {
    let space = SearchSpace::darts();
    for (kind, relaxation) in RELAXATIONS {
        let (supernet, alpha) = (supernet(fixture), alpha(fixture));
        let rule = Rule::from(relaxation);
        let model = Objective::new(&space, &rule);
        let [train, valid] = ["in.train.", "in.valid."].map(|prefix| batch(fixture, prefix));
        let AlphaGradient { valid_loss, gradient } =
            first_order_gradient(&model, &supernet, &alpha, &valid);
        fixture.check(&format!("out.{kind}.first.valid_loss"), &[value(valid_loss)]);
        check_kinds(fixture, &format!("out.{kind}.first.alpha"), gradient.operations);
        for case in ["fresh", "moving"] {
            let config = &fixture.entry.config[case];
            let number = |key: &str| config[key].as_f64().expect("a number");
            let settings = SgdSettings {
                momentum: number("momentum"),
                weight_decay: number("decay"),
                clip_norm: None,
                nesterov: false,
            };
            let stored = config["buffers"] == "in.momentum";
            let mut optimizer = moving_optimizer(fixture, &supernet, &settings, stored);
            let xi = number("xi");
            let unrolled = Unrolled { train: &train, optimizer: &mut optimizer, learning_rate: xi };
            let found = second_order_gradient(&model, &supernet, &alpha, &valid, unrolled);
            let prefix = format!("out.{kind}.second.{case}");
            let AlphaGradient { valid_loss, gradient } = found.alpha;
            fixture.check(&format!("{prefix}.valid_loss"), &[value(valid_loss)]);
            fixture.check(&format!("{prefix}.epsilon"), &[value(found.epsilon)]);
            for (what, parts) in
                [("direct", found.direct), ("implicit", found.implicit), ("gradient", gradient)]
            {
                check_kinds(fixture, &format!("{prefix}.{what}.alpha"), parts.operations);
            }
        }
    }
}

fn search_steps(fixture: &Fixture) {
    let config = &fixture.entry.config;
    let number = |key: &str| config[key].as_f64().expect("a number");
    let second = config["second_order"].as_bool().expect("a flag");
    let adam = AdamSettings {
        beta1: config["alpha_betas"][0].as_f64().expect("a number"),
        beta2: config["alpha_betas"][1].as_f64().expect("a number"),
        weight_decay: number("alpha_weight_decay"),
    };
    let mut architect = Architect::new(number("alpha_lr"), &adam);
    let mut optimizer = WeightOptimizer::new(&SgdSettings {
        momentum: number("w_momentum"),
        weight_decay: number("w_weight_decay"),
        clip_norm: Some(number("w_clip")),
        nesterov: false,
    });
    let (mut supernet, mut alpha) = (supernet(fixture), alpha(fixture));
    let space = SearchSpace::darts();
    let rule = Rule::from(Relaxation::CrossEdge);
    let model = Objective::new(&space, &rule);
    let learning_rate = number("w_lr");
    for step in 1..=2 {
        let half = |half: &str| batch(fixture, &format!("in.step{step}.{half}."));
        let (train, valid) = (half("train"), half("valid"));
        let unrolled =
            second.then_some(Unrolled { train: &train, optimizer: &mut optimizer, learning_rate });
        let valid_loss;
        (alpha, valid_loss) = architect.step(&model, alpha, &supernet, &valid, unrolled);
        let loss = model.loss(&supernet, &alpha, &train);
        let train_loss = value(loss.clone());
        let gradients = GradientsParams::from_grads(loss.backward(), &supernet);
        let norm;
        (supernet, norm) = optimizer.step(learning_rate, supernet, gradients);

        let case = format!("out.step{step}.");
        fixture.check(&format!("{case}valid_loss"), &[value(valid_loss)]);
        fixture.check(&format!("{case}train_loss"), &[train_loss]);
        fixture.check(&format!("{case}grad_norm"), &[value(norm)]);
        let prefix = format!("{case}after.param.");
        check_parameters(&supernet, fixture, &prefix, Naming::Search);
        let values = alpha.operations().map(|param| param.val());
        check_kinds(fixture, &format!("{case}after.alpha"), values);
    }
}

fn auxiliary(fixture: &Fixture) {
    let space = SearchSpace::darts();
    for (reading, strength) in [("raw", Strength::Alpha), ("cen", Strength::Mixing)] {
        let (supernet, alpha) = (supernet(fixture), alpha(fixture));
        let genotype =
            Rule::from(Relaxation::CrossEdge).genotype(&space, &alpha, strength).expect("finite");
        fixture.check_genotype(&format!("out.{reading}.genotype"), &genotype);
        let model = induce(&supernet, &genotype);
        let batch = batch(fixture, "in.train.");
        let evaluated = model.valid().forward(batch.images.clone().inner());
        fixture.check_tensor(&format!("out.{reading}.eval_logits"), evaluated);
        let logits = model.forward(batch.images.clone());
        let loss = cross_entropy(logits.clone(), &batch);
        fixture.check_tensor(&format!("out.{reading}.logits"), logits);
        fixture.check_tensor(&format!("out.{reading}.loss"), loss.clone());
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        let naming = Naming::Auxiliary(&genotype, &supernet.kinds);
        let prefix = format!("out.{reading}.grad.param.");
        check_gradients(&model, &gradients, fixture, &prefix, naming);
    }
}

fn retrain(fixture: &Fixture) {
    let config = &fixture.entry.config;
    let number = |key: &str| config[key].as_u64().expect("a number") as usize;
    let imagenet = config["imagenet"].as_bool().expect("a flag");
    let genotype = fixture.genotype("in.genotype");
    let num_cells = number("layers");
    let network = EvaluationConfig {
        skeleton: Skeleton::Darts,
        stem: if imagenet { StemKind::Imagenet } else { StemKind::Cifar },
        init_channels: number("channels"),
        num_cells,
        num_classes: number("classes"),
    };
    let kinds = kinds(num_cells);
    let naming = Naming::Retrain(&genotype, &kinds);
    let network = network.init(&genotype, &mut ChaCha8Rng::seed_from_u64(0), &fixture.device);
    let network = install(network, fixture, "in.", naming);
    let batch = batch(fixture, "in.");
    let evaluated = network.valid().forward(batch.images.clone().inner());
    fixture.check_tensor("out.eval_logits", evaluated);
    let mut no_drop = DropPath::new(0.0, ChaCha8Rng::seed_from_u64(0));
    let (logits, side) = network.forward_training(batch.images.clone(), &mut no_drop);
    let side = side.expect("an auxiliary head");
    let loss = cross_entropy(logits.clone(), &batch) + cross_entropy(side.clone(), &batch) * 0.4;
    fixture.check_tensor("out.logits", logits);
    fixture.check_tensor("out.side_logits", side);
    fixture.check_tensor("out.loss", loss.clone());
    let mut gradients = loss.backward();
    let gradients = if imagenet {
        // The gradients of the auxiliary head are too large to be stored.
        let mut ids = list_param_ids(&network);
        let head = list_param_ids(&network.auxiliary_head);
        ids.retain(|id| !head.contains(id));
        GradientsParams::from_params(&mut gradients, &network, &ids)
    } else {
        GradientsParams::from_module(&mut gradients, &network)
    };
    check_gradients(&network, &gradients, fixture, "out.grad.param.", naming);
    check_statistics(&network, fixture, "out.stat.", naming);
    let evaluated = network.valid().forward(batch.images.inner());
    fixture.check_tensor("out.eval_logits_after", evaluated);
}

fn kinds(num_cells: usize) -> Vec<CellKind> {
    (0..num_cells)
        .map(|position| match ec_darts::network::is_reduction(position, num_cells) {
            true => CellKind::Reduction,
            false => CellKind::Normal,
        })
        .collect()
}

fn kendall(fixture: &Fixture) {
    let cases: Vec<String> =
        fixture.names().filter_map(|name| name.strip_suffix("in.a").map(str::to_string)).collect();
    for case in cases {
        let side = |side: &str| -> Vec<f64> {
            fixture.values(&format!("{case}in.{side}")).iter().map(|&v| f64::from(v)).collect()
        };
        let tau = tau_b(&side("a"), &side("b")).unwrap_or(f64::NAN);
        fixture.check(&format!("{case}out.tau_b"), &[tau as f32]);
    }
}

fn discretization(fixture: &Fixture) {
    let space = SearchSpace::darts();
    let answers: Vec<String> = fixture
        .names()
        .filter_map(|name| name.strip_suffix(".normal"))
        .filter(|name| name.contains(".out."))
        .map(str::to_string)
        .collect();
    for answer in answers {
        let (case, reading) = answer.split_once(".out.").expect("an answer");
        let read = |kind: &str| -> Vec<f32> {
            let data: TensorData = fixture.matrix(&format!("{case}.in.strength.{kind}"));
            let alpha = Tensor::<2>::from_data(data, &fixture.device);
            let relaxed = RELAXATIONS.iter().find(|(name, _)| *name == reading);
            let strength = match relaxed {
                Some((_, relaxation)) => relaxation.mixing(alpha, space.topology()),
                None => alpha,
            };
            strength.into_data().try_to_vec().expect("single precision")
        };
        let found: Genotype =
            discretize(&space, PerKind::from([&read("normal")[..], &read("reduce")]))
                .expect("finite");
        fixture.check_genotype(&answer, &found);
    }
}

/// The everyday fixtures are a part of the whole set, in the same format.
#[test]
fn manifest_names_existing_files() {
    let manifest = manifest(&folder());
    for (file, entry) in &manifest.files {
        let Entry { case, tensors, .. } = entry;
        assert!(!tensors.is_empty(), "{file} ({case}) lists tensors");
        assert!(crate::fixture::folder().join(file).exists(), "{file} is there");
    }
}
