//! The gradients of alpha, the state that the architect must not change, and the optimizers'
//! arithmetic.

use std::collections::BTreeMap;

use burn::module::Param;
use burn::nn::{Linear, LinearConfig};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use ec_darts::architect::{
    Architect, ArchitectOrder, Unrolled, first_order_gradient, second_order_gradient,
};
use ec_darts::batch::ImageBatch;
use ec_darts::objective::Objective;
use ec_darts::ops::separate;
use ec_darts::optim::{
    AdamSettings, SgdSettings, WeightOptimizer, cosine_learning_rate, global_norm,
};
use ec_darts::relaxation::Relaxation;
use ec_darts::rule::Rule;
use ec_darts::snapshot::Snapshot;
use ec_darts::train::Search;

use crate::tiny;

const XI: f64 = 0.1;
const SGD: SgdSettings =
    SgdSettings { momentum: 0.9, weight_decay: 3e-4, clip_norm: None, nesterov: false };
const ADAM: AdamSettings = AdamSettings { beta1: 0.5, beta2: 0.999, weight_decay: 1e-3 };

/// A supernet, and an optimizer that has taken a step and so has a velocity.
struct Setup {
    search: Search,
    optimizer: WeightOptimizer,
    train: ImageBatch,
    valid: ImageBatch,
    rule: Rule,
}

impl Setup {
    fn new() -> Self {
        let device = Device::flex().autodiff();
        let mut config = tiny::config();
        config.alpha.init_scale = 1.0;
        let search = tiny::search(config);
        let (train, valid) = (tiny::batch(5, &device), tiny::batch(6, &device));
        let (optimizer, rule) = (WeightOptimizer::new(&SGD), Rule::from(Relaxation::CrossEdge));
        let mut setup = Self { search, optimizer, train, valid, rule };
        let gradients = setup.weight_gradients();
        let weights = separate(setup.search.supernet());
        setup.optimizer.step(XI, weights, gradients);
        setup
    }

    fn model(&self) -> Objective<'_> {
        Objective::new(self.search.space(), &self.rule)
    }

    fn weight_gradients(&self) -> GradientsParams {
        let supernet = separate(self.search.supernet());
        let loss = self.model().loss(&supernet, self.search.alpha(), &self.train);
        GradientsParams::from_grads(loss.backward(), &supernet)
    }

    /// All values that no step on alpha may change.
    fn weights(&self) -> BTreeMap<String, TensorData> {
        let mut snapshot = Snapshot::default();
        snapshot.save(self.search.supernet(), "supernet");
        self.optimizer.stepper.save(self.search.supernet(), "optimizer", &mut snapshot);
        snapshot.tensors
    }
}

fn assert_near(actual: &Tensor<2>, expected: &Tensor<2>, what: &str) {
    let miss = tiny::distance(&tiny::values(actual.clone()), &tiny::values(expected.clone()));
    assert!(miss < 1e-5, "{what}: off by {miss} of its norm");
}

#[test]
fn first_order_is_plain_autodiff() {
    let setup = Setup::new();
    let (model, alpha) = (setup.model(), setup.search.alpha());
    let actual = first_order_gradient(&model, setup.search.supernet(), alpha, &setup.valid);
    let loss = model.loss(&separate(setup.search.supernet()), alpha, &setup.valid);
    let gradients = GradientsParams::from_grads(loss.clone().backward(), alpha);
    let expected = |param: &Param<Tensor<2>>| gradients.get::<2>(param.id).expect("a gradient");
    for (kind, param) in alpha.operations().iter() {
        assert_near(actual.gradient.operations.cell(kind), &expected(param), kind.name());
    }
    let [actual, expected] = [actual.valid_loss, loss].map(|loss| tiny::values(loss)[0]);
    assert!((actual - expected).abs() < 1e-6);
}

#[test]
fn second_order_is_direct_minus_implicit() {
    let mut setup = Setup::new();
    let gradients = setup.weight_gradients();
    let (space, alpha) = (setup.search.space().clone(), setup.search.alpha().clone());
    let rule = Rule::from(Relaxation::CrossEdge);
    let model = Objective::new(&space, &rule);
    let supernet = separate(setup.search.supernet());
    let unrolled =
        Unrolled { train: &setup.train, optimizer: &mut setup.optimizer, learning_rate: XI };
    let parts = second_order_gradient(&model, &supernet, &alpha, &setup.valid, unrolled);
    let (direct, implicit) = (&parts.direct.operations, &parts.implicit.operations);
    for (kind, whole) in parts.alpha.gradient.operations.iter() {
        let expected = direct.cell(kind).clone() - implicit.cell(kind).clone() * XI;
        assert_near(whole, &expected, kind.name());
    }

    // A real step without clipping gives the same weights as the virtual step.
    let (moved, _) = setup.optimizer.step(XI, separate(&supernet), gradients);
    let first = first_order_gradient(&model, &moved, &alpha, &setup.valid);
    for (kind, expected) in first.gradient.operations.iter() {
        assert_near(direct.cell(kind), expected, &format!("direct, {kind}"));
    }
    let loss = model.loss(&moved, &alpha, &setup.valid);
    let direction = GradientsParams::from_grads(loss.backward(), &moved);
    let radius = tiny::values(parts.epsilon.clone() * global_norm(&moved, &direction))[0];
    assert!((radius - 0.01).abs() < 1e-6, "the difference reaches {radius}");

    // The quotient from weights that were shifted by hand.
    let epsilon = f64::from(tiny::values(parts.epsilon)[0]);
    let side = |sign: f64| {
        let by = sign * epsilon;
        let mut shift = WeightOptimizer::new(&SgdSettings { weight_decay: 0.0, ..SGD });
        let shifted = shift.virtual_step(-by, separate(&supernet), &direction);
        first_order_gradient(&model, &shifted, &alpha, &setup.train).gradient.operations.normal
    };
    let quotient = (side(1.0) - side(-1.0)) / (2.0 * epsilon);
    let miss = tiny::distance(&tiny::values(implicit.normal.clone()), &tiny::values(quotient));
    assert!(miss < 1e-5, "implicit part off by {miss} of its norm");
}

#[test]
fn a_step_on_alpha_moves_alpha_alone() {
    for order in [ArchitectOrder::First, ArchitectOrder::Second] {
        let mut setup = Setup::new();
        let before = setup.weights();
        assert!(before.keys().any(|name| name.starts_with("optimizer")), "no velocity");
        let alpha = setup.search.alpha().clone();
        let start = tiny::state(&alpha);
        let rule = Rule::from(Relaxation::CrossEdge);
        let model = Objective::new(setup.search.space(), &rule);
        let mut architect = Architect::new(0.1, &ADAM);
        let supernet = setup.search.supernet();
        let unrolled = (order == ArchitectOrder::Second).then_some(Unrolled {
            train: &setup.train,
            optimizer: &mut setup.optimizer,
            learning_rate: XI,
        });
        let (moved, _) = architect.step(&model, alpha, supernet, &setup.valid, unrolled);
        assert_ne!(tiny::state(&moved), start, "{order:?}: alpha");
        assert_eq!(setup.weights(), before, "{order:?}: weights, statistics or velocities");
    }
}

/// Adam moves by the learning rate, whatever the size of a gradient. Of a gradient that was clipped
/// to zero, only decay is left.
#[test]
fn what_is_clipped_away_does_not_move_alpha() {
    let setup = Setup::new();
    let alpha = setup.search.alpha().clone();
    let before = tiny::values(alpha.normal.val());
    let rate = 1e-3;
    let moved = |clip_norm| {
        let adam = AdamSettings { weight_decay: 1e-2, ..ADAM };
        let mut architect = Architect::new(rate, &adam).with_clip_norm(clip_norm);
        let rule = Rule::from(Relaxation::CrossEdge);
        let model = Objective::new(setup.search.space(), &rule);
        let supernet = setup.search.supernet();
        let (moved, _) = architect.step(&model, alpha.clone(), supernet, &setup.valid, None);
        tiny::values(moved.normal.val())
    };
    let towards_zero = |after: &[f32]| {
        let steps = before
            .iter()
            .zip(after)
            .map(|(before, after)| f64::from((after - before) * before.signum()) / -rate);
        steps.map(|step| (step - 1.0).abs()).fold(0.0, f64::max)
    };
    let clipped = towards_zero(&moved(Some(1e-12)));
    assert!(clipped < 0.1, "{clipped}");
    let free = towards_zero(&moved(None));
    assert!(free > 0.5, "{free}");
}

/// Compares three steps on a linear layer with the formulas, in double precision.
fn check_optimizer(
    scale: f32,
    mut step: impl FnMut(Linear, GradientsParams) -> Linear,
    mut formula: impl FnMut(&mut [f64], Vec<f64>),
) {
    let device = Device::flex().autodiff();
    let start = tiny::numbers(11, 8);
    let param = |values: &[f32]| TensorData::new(values.to_vec(), [values.len()]);
    let mut layer = LinearConfig::new(3, 2).init(&device);
    layer.weight =
        Param::from_tensor(Tensor::<1>::from_data(param(&start[..6]), &device).reshape([3, 2]));
    layer.bias = Some(Param::from_data(param(&start[6..]), &device));
    let mut expected: Vec<f64> = start.into_iter().map(f64::from).collect();
    for number in 0..3 {
        let shrink = scale / (number * number * 4 + 1) as f32;
        let gradient: Vec<f32> =
            tiny::numbers(12 + number, 8).iter().map(|value| value * shrink).collect();
        let mut gradients = GradientsParams::new();
        let inner = device.clone().inner();
        let weight = Tensor::<1>::from_data(param(&gradient[..6]), &inner).reshape([3, 2]);
        gradients.register(layer.weight.id, weight);
        let bias = Tensor::<1>::from_data(param(&gradient[6..]), &inner);
        gradients.register(layer.bias.as_ref().expect("a bias").id, bias);
        layer = step(layer, gradients);
        formula(&mut expected, gradient.into_iter().map(f64::from).collect());
        let mut actual = tiny::values(layer.weight.val());
        actual.extend(tiny::values(layer.bias.as_ref().expect("a bias").val()));
        for (actual, expected) in actual.iter().zip(&expected) {
            let miss = (f64::from(*actual) - expected).abs();
            assert!(miss < 1e-6, "step {number}: {actual} is not {expected}");
        }
    }
}

#[test]
fn sgd_clips_all_at_once_and_does_not_dampen() {
    let settings =
        SgdSettings { momentum: 0.9, weight_decay: 0.01, clip_norm: Some(1.0), nesterov: false };
    let mut optimizer = WeightOptimizer::new(&settings);
    let mut velocity = [0.0; 8];
    let mut clipped = Vec::new();
    check_optimizer(
        1.0,
        |layer, gradients| optimizer.step(0.1, layer, gradients).0,
        |w, gradient| {
            let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
            clipped.push(norm > 1.0);
            let factor = f64::min(1.0, 1.0 / (norm + 1e-6));
            for ((w, v), g) in w.iter_mut().zip(&mut velocity).zip(gradient) {
                *v = 0.9 * *v + factor * g + 0.01 * *w;
                *w -= 0.1 * *v;
            }
        },
    );
    assert!(clipped.contains(&true) && clipped.contains(&false), "{clipped:?}");
}

/// Gradients as small as epsilon, so that another epsilon would show.
#[test]
fn adam_has_epsilon_1e_8_and_decay_in_the_gradient() {
    for (scale, weight_decay) in [(1e-7_f32, 0.0), (1.0, 0.1)] {
        let mut optimizer = AdamSettings { weight_decay, ..ADAM }.init();
        let (mut m, mut v, mut steps) = ([0.0; 8], [0.0; 8], 0);
        check_optimizer(
            scale,
            |layer, gradients| optimizer.step(0.1, layer, &gradients),
            |w, gradient| {
                steps += 1;
                let correction = |beta: f64| 1.0 - beta.powi(steps);
                for (place, g) in gradient.into_iter().enumerate() {
                    let g = g + weight_decay * w[place];
                    m[place] = 0.5 * m[place] + 0.5 * g;
                    v[place] = 0.999 * v[place] + 0.001 * g * g;
                    let (m, v) = (m[place] / correction(0.5), v[place] / correction(0.999));
                    w[place] -= 0.1 * m / (v.sqrt() + 1e-8);
                }
            },
        );
    }
}

#[test]
fn the_learning_rate_is_a_cosine_of_the_epoch() {
    for (epoch, expected) in
        [(0, 0.025), (5, 0.021_485_281_37), (10, 0.013), (15, 0.004_514_718_63)]
    {
        let rate = cosine_learning_rate(0.025, 0.001, epoch, 20);
        assert!((rate - expected).abs() < 1e-10, "epoch {epoch}: {rate}");
    }
    let last = cosine_learning_rate(0.025, 0.001, 19, 20);
    assert!(last > 0.001 && last < 0.0012, "the floor is not reached: {last}");
}
