//! Cells that the fused kernels do not support: `serves` says so, and the plain composition runs
//! them. Steps of the optimizers, compared with the plain composition.

#![cfg(feature = "flex")]

mod shared;

use burn::tensor::{Device, Tensor};
use ec_darts_kernels::{
    AdamNumbers, Cell, Edge, EdgeOperation, SgdNumbers, adam, norm, reference, serves, sgd,
};
use shared::{tensor, values};

#[test]
fn what_is_not_served_runs_as_the_plain_composition() {
    let device = Device::flex();
    let separable = |kernel, repeats| EdgeOperation::Separable { kernel, dilation: 1, repeats };
    let convolution = EdgeOperation::Convolution { relu: true };
    for (operations, stride, is_served) in [
        (vec![separable(3, 2), separable(5, 1), EdgeOperation::Identity], 1, true),
        (vec![convolution], 1, true),
        (vec![separable(7, 1)], 1, false),
        (vec![separable(3, 3)], 1, false),
        (vec![convolution, EdgeOperation::Identity], 1, false),
        (vec![EdgeOperation::Pointwise], 1, true),
        (vec![EdgeOperation::Pointwise], 2, false),
    ] {
        let mut cell = Cell::from(Edge {
            operations,
            channels: [4; 2],
            stride,
            affine: true,
            parameters: 0,
            statistics: 0,
        });
        let [parameters, statistics] = cell.place([3, 2]);
        assert_eq!(serves(&device, &cell), is_served, "{cell:?}");
        let output = reference::cell_given(
            vec![Tensor::ones([2, 4, 5, 6], &device)],
            Tensor::ones([parameters], &device),
            Tensor::ones([cell.num_mixing_weights()], &device),
            [Tensor::zeros([statistics], &device), Tensor::ones([statistics], &device)],
            &cell,
        );
        assert_eq!(output.dims(), [2, 4, 5_usize.div_ceil(stride), 6 / stride]);
    }
}

/// Bit for bit, for all values and for ranges of them, with every rule of a step.
#[test]
fn sgd_follows_its_definition() {
    let device = Device::flex();
    // Several parts of a thread's work.
    let shape = [3, 23_457];
    let ranges = [5..7, 7..40_000, 70_000..70_001];
    for moved in [None, Some(&ranges[..])] {
        for nesterov in [false, true] {
            let mut numbers = SgdNumbers::new(0.1, 0.9, 0.01);
            numbers.nesterov = nesterov;
            let (mut weights, mut velocity) = (tensor::<2>(1, shape, &device), None);
            for step in 0..3 {
                let gradient = tensor(10 + step, shape, &device);
                let norm = norm(vec![gradient.clone().flatten(0, 1)]);
                numbers.clip_norm = (step > 0).then_some(5.0);
                let arguments = (weights.clone(), gradient, velocity.clone(), Some(norm));
                let (held, (w, g, v, n)) = (weights.clone(), arguments.clone());
                let expected = reference::sgd(w, g, v, n, numbers, moved).map(values);
                let (w, g, v, n) = arguments;
                let before = values(held.clone());
                let [new, of_velocity] = sgd(w, g, v, n, numbers, moved);
                assert_eq!([new.clone(), of_velocity.clone()].map(values), expected);
                assert_eq!(values(held), before, "the values of another owner stay");
                let has_moved = |place: usize| ranges.iter().any(|range| range.contains(&place));
                let stayed = values(new.clone()).into_iter().zip(before).enumerate();
                for (place, (new, before)) in stayed.filter(|(place, _)| !has_moved(*place)) {
                    assert!(moved.is_none() || new == before, "{place} is in no range");
                }
                (weights, velocity) = (new, Some(of_velocity));
            }
        }
    }
}

#[test]
fn a_norm_is_that_of_all_gradients() {
    let device = Device::flex();
    let all = [tensor::<1>(1, [70_007], &device), tensor(2, [3], &device)];
    let squares = all.clone().map(values).concat();
    let squares = squares.into_iter().map(|value| f64::from(value).powi(2));
    let (expected, actual) = (squares.sum::<f64>().sqrt(), values(norm(all.to_vec()))[0]);
    assert!((f64::from(actual) - expected).abs() < 1e-6 * expected, "{actual} is not {expected}");
}

/// A second step moves only some values and their moments.
#[test]
fn adam_keeps_what_does_not_move() {
    let device = Device::flex();
    let step = |weights, moments, step, moved: Option<&[std::ops::Range<usize>]>| {
        let numbers = AdamNumbers::new(0.1, [0.5, 0.999], 0.01, step);
        adam(weights, tensor::<1>(10 + step as u64, [9], &device), moments, numbers, moved)
    };
    let [weights, first, second] = step(tensor(1, [9], &device), None, 1, None);
    let before = [weights.clone(), first.clone(), second.clone()];
    let moments = Some([first, second]);
    let whole = step(weights.clone(), moments.clone(), 2, None);
    let some = step(weights, moments, 2, Some(&[2..4, 4..5]));
    for ((before, whole), some) in before.into_iter().zip(whole).zip(some) {
        let (before, whole, some) = (values(before), values(whole), values(some));
        let expected = (0..9).map(|n| if (2..5).contains(&n) { whole[n] } else { before[n] });
        assert_eq!(some, expected.collect::<Vec<_>>());
    }
}
