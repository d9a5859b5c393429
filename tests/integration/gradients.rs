//! Every primitive: shape, input gradient, evaluation mode; and the weighted sum of a mixed
//! operation.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use ec_darts::network::MixedOperation;
use ec_darts::ops::{Form, Kernels, Operation, draw_parameters};
use ec_darts_space::{CellTopology, Primitive, SearchSpace};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::tiny;

const CHANNELS: usize = 2;

fn operation(primitive: Primitive, stride: usize, form: Form) -> Operation {
    let device = Device::flex().autodiff();
    let operation = Operation::new(primitive, CHANNELS, stride, form, &device);
    draw_parameters(operation.expect("not `none`"), &mut ChaCha8Rng::seed_from_u64(7))
}

/// Values with larger distances from each other and from zero than a finite difference reaches, so
/// that no maximum and no first ReLU switches.
fn spaced(count: usize) -> Vec<f32> {
    let order = tiny::numbers(8, count);
    let rank = |value: f32| order.iter().filter(|&&other| other < value).count() as f32;
    order.iter().map(|&value| (rank(value) + 0.5) * 4.0 / count as f32 - 2.0).collect()
}

/// Checks one row of the table: a primitive on square images of side `size`.
fn check(primitive: Primitive, stride: usize, size: usize, form: Form) {
    let title = format!("{primitive}, stride {stride}, {size}x{size}, {form:?}");
    let device = Device::flex().autodiff();
    let operation = operation(primitive, stride, form);
    let shape = [2, CHANNELS, size, size];
    let x = spaced(shape.iter().product());
    let input = |x: Vec<f32>, device| Tensor::<4>::from_data(TensorData::new(x, shape), device);

    let tracked = input(x.clone(), &device).require_grad();
    let output = operation.forward(tracked.clone());
    let side = size.div_ceil(stride);
    assert_eq!(output.dims(), [2, CHANNELS, side, side], "{title}");

    let factors = tiny::tensor::<4>(9, output.dims(), &device);
    let loss = (output.clone() * factors.clone()).sum();
    let gradient = tiny::values(tracked.grad(&loss.backward()).expect("the input is tracked"));
    let factors = tiny::values(factors);
    let expected = tiny::differences(&x, 2e-3, |x| {
        tiny::dot(&tiny::values(operation.forward(input(x, &device))), &factors)
    });
    let miss = tiny::distance(&gradient, &expected);
    assert!(miss < 2e-3, "{title}: gradient off by {miss} of its norm");

    evaluation_mode(&title, self::operation(primitive, stride, form), input(x, &device));
}

/// Evaluation mode uses running statistics: an image's output does not depend on its batch, and no
/// statistic changes.
fn evaluation_mode(title: &str, operation: Operation, images: Tensor<4>) {
    let fresh = tiny::state(&operation);
    let trained = operation.forward(images.clone());
    let before = tiny::state(&operation);
    let normalizes = before.keys().any(|name| name.contains("running_"));
    assert_eq!(before != fresh, normalizes, "{title}: training moves running statistics");

    let (evaluated, images) = (operation.valid(), images.inner());
    let both = evaluated.forward(images.clone());
    let first = evaluated.forward(images.narrow(0, 0, 1));
    let miss = tiny::distance(&tiny::values(both.clone().narrow(0, 0, 1)), &tiny::values(first));
    assert!(miss < 1e-6, "{title}: an image's output depends on its batch");
    let differs = tiny::distance(&tiny::values(both), &tiny::values(trained)) > 0.01;
    assert_eq!(differs, normalizes, "{title}: evaluation differs from training");
    assert_eq!(tiny::state(&operation), before, "{title}: evaluation moved something");
}

#[test]
fn every_primitive() {
    for primitive in Primitive::ALL.into_iter().filter(|&each| each != Primitive::None) {
        for form in [Form::Search, Form::Retrain] {
            check(primitive, 1, 7, form);
            let odd = primitive != Primitive::SkipConnect;
            check(primitive, 2, if odd { 7 } else { 6 }, form);
        }
    }
}

#[test]
fn none_is_no_operation() {
    let device = Device::flex();
    for stride in [1, 2] {
        assert!(Operation::new(Primitive::None, 2, stride, Form::Search, &device).is_none());
    }
}

#[test]
#[should_panic(expected = "is [7, 7], allowed: even numbers of rows and columns")]
fn skip_connect_halves_even_sizes_only() {
    let images = tiny::tensor(1, [1, CHANNELS, 7, 7], &Device::flex().autodiff());
    operation(Primitive::SkipConnect, 2, Form::Search).forward(images);
}

/// The mixed operation, compared with its written-out sum: value, and gradient of input and
/// weights.
#[test]
fn mixed_operation_is_the_weighted_sum_of_its_candidates() {
    let device = Device::flex().autodiff();
    let topology = CellTopology::new(1, 1).expect("a cell");
    // `none` stands in the middle, and its weight must be skipped.
    let primitives = [5, 0, 3, 1].map(|place| Primitive::DARTS[place]).to_vec();
    let space = SearchSpace::new(primitives.clone(), topology).expect("a space");
    let mixed = MixedOperation::new(&space, CHANNELS, 1, &device);
    let run = |forward: &dyn Fn(Tensor<4>, Tensor<1>) -> Tensor<4>| {
        let x = tiny::tensor(2, [2, CHANNELS, 6, 6], &device).require_grad();
        let weights = tiny::tensor(3, [primitives.len()], &device).require_grad();
        let output = forward(x.clone(), weights.clone());
        let loss = (output.clone() * tiny::tensor(4, output.dims(), &device)).sum();
        let gradients = loss.backward();
        let of_x = x.grad(&gradients).expect("the input is tracked");
        let of_weights = weights.grad(&gradients).expect("the weights are tracked");
        [tiny::values(output), tiny::values(of_x), tiny::values(of_weights)]
    };
    let actual = run(&|x, weights| mixed.forward(x, weights, Kernels::Reference));
    let expected = run(&|x, weights| {
        let terms = primitives.iter().enumerate().filter_map(|(column, &primitive)| {
            let weight = weights.clone().narrow(0, column, 1).reshape([1, 1, 1, 1]);
            Some(mixed.operation(primitive)?.forward(x.clone()) * weight)
        });
        terms.reduce(|sum, term| sum + term).expect("candidates")
    });
    for (actual, expected) in actual.iter().zip(&expected) {
        assert!(tiny::distance(actual, expected) < 1e-6, "{actual:?} is not {expected:?}");
    }
    assert_eq!(actual[2][1], 0.0, "`none` has a weight without gradient");
}
