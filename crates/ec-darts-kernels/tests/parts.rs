//! Cells of several parts: the fused kernels of the CPU against the plain composition: value, every gradient, running
//! statistics, evaluation.
#![cfg(feature = "flex")]

mod shared;

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use ec_darts_kernels::{
    Cell, CellOutput, Edge, EdgeOperation as Op, Memory, cell, cell_given, reference, serves,
};

use shared::{numbers, tensor, values};

/// Every operation of a stride.
fn all(stride: usize) -> Vec<Op> {
    let separable = |kernel, dilation, repeats| Op::Separable { kernel, dilation, repeats };
    vec![
        Op::MaxPool { norm: true },
        Op::AvgPool { norm: true },
        if stride == 1 { Op::Identity } else { Op::FactorizedReduce },
        separable(3, 1, 2),
        separable(5, 2, 1),
    ]
}

/// Two inputs, the second of other channels; three nodes that read them with a stride, and one another. One edge has
/// no operation, and the first node is not joined in the output.
fn in_parts(channels: usize, parts: usize, stride: usize) -> Cell {
    let edge = |operations: Vec<Op>, channels, stride| Edge {
        operations,
        channels,
        stride,
        affine: false,
        parameters: 0,
        statistics: 0,
    };
    let input = |from| edge(vec![Op::Pointwise], [from, channels], 1);
    let width = channels / parts;
    let node = |from: usize, stride, operations| (from, edge(operations, [width; 2], stride));
    let mut cell = Cell {
        inputs: vec![input(channels), input(5)],
        nodes: vec![
            vec![node(0, stride, all(stride)), node(1, stride, all(stride))],
            vec![node(0, stride, vec![]), node(1, stride, all(stride)), node(2, 1, all(1))],
            vec![node(1, stride, vec![]), node(2, 1, vec![])],
        ],
        concat: vec![3, 4],
        fixed_inputs: false,
        parts,
    };
    cell.place([3, 2]);
    cell.check().expect("a cell");
    cell
}

/// Which gradients are asked for.
#[derive(Clone, Copy)]
struct Asked {
    inputs: bool,
    parameters: bool,
    mixing: bool,
}

fn run(cell: &Cell, asked: Asked, fused: Option<Memory>) -> Vec<(String, Vec<f32>)> {
    let device = Device::flex().autodiff();
    let track =
        |tracked: bool| move |tensor| if tracked { Tensor::require_grad(tensor) } else { tensor };
    let shapes = [cell.inputs[0].channels[0], 5].map(|channels| [3, channels, 8, 6]);
    let inputs = [0, 1].map(|number: usize| tensor(number as u64 + 1, shapes[number], &device));
    let inputs: Vec<Tensor<4>> = inputs.into_iter().map(track(asked.inputs)).collect();
    let track =
        |tracked: bool| move |tensor| if tracked { Tensor::require_grad(tensor) } else { tensor };
    let parameters = tensor(3, [cell.num_parameters() + 7], &device) * 0.3;
    let parameters = track(asked.parameters)(parameters.detach());
    let mixing = track(asked.mixing)(tensor(4, [cell.num_mixing_weights()], &device));
    let num_statistics = cell.num_statistics() + 5;
    let running = [
        tensor(5, [num_statistics], &device),
        tensor::<1>(6, [num_statistics], &device).abs() + 0.5,
    ];
    let shared = Arc::new(cell.clone());
    assert!(serves(&device, &shared));
    let (tensors, weights, mix) = (inputs.clone(), parameters.clone(), mixing.clone());
    let CellOutput { output, running: moved } = match fused {
        Some(memory) => {
            self::cell(tensors, weights, mix, running.clone(), None, shared.clone(), memory)
        }
        None => reference::cell(tensors, weights, mix, running.clone(), None, &shared),
    };
    let random = tensor(7, output.dims(), &device);
    let gradients = (output.clone() * random).sum().backward();
    let mut all = vec![("output".to_string(), values(output))];
    for (number, input) in inputs.iter().enumerate() {
        let gradient = input.grad(&gradients).map_or(vec![], values);
        all.push((format!("gradient of input {number}"), gradient));
    }
    let of = [("parameters", &parameters), ("mixing weights", &mixing)];
    for (name, tensor) in of {
        all.push((
            format!("gradient of the {name}"),
            tensor.grad(&gradients).map_or(vec![], values),
        ));
    }
    let [mean, variance] = moved;
    all.extend([("mean".into(), values(mean)), ("variance".into(), values(variance))]);
    let inputs = inputs.into_iter().map(Tensor::inner).collect();
    let (parameters, mixing, running) =
        (parameters.inner(), mixing.inner(), running.map(Tensor::inner));
    let evaluated = match fused {
        Some(_) => cell_given(inputs, parameters, mixing, running, shared),
        None => reference::cell_given(inputs, parameters, mixing, running, &shared),
    };
    all.push(("evaluation".into(), values(evaluated)));
    all
}

#[test]
fn kernels_and_composition_agree() {
    let everything = Asked { inputs: true, parameters: true, mixing: true };
    // Blocks of four, eight and sixteen lanes, and such as no part fills.
    for (channels, parts) in
        [(16_usize, 4_usize), (16, 2), (64, 4), (12, 2), (6, 3), (40, 4), (4, 4)]
    {
        for stride in [1, 2] {
            // A factorized reduction makes an even number of channels.
            if stride == 2 && !(channels / parts).is_multiple_of(2) {
                continue;
            }
            let cell = in_parts(channels, parts, stride);
            let expected = run(&cell, everything, None);
            for memory in [Memory::Save, Memory::Recompute] {
                let actual = run(&cell, everything, Some(memory));
                let title =
                    format!("{channels} channels, {parts} parts, stride {stride}, {memory:?}");
                compare(&title, &actual, &expected);
            }
        }
    }
}

#[test]
fn whatever_is_asked_for_the_rest_is_the_same() {
    for stride in [1, 2] {
        let cell = Cell { fixed_inputs: true, ..in_parts(16, 4, stride) };
        let all =
            run(&cell, Asked { inputs: true, parameters: true, mixing: true }, Some(Memory::Save));
        for bits in 1..7 {
            let [inputs, parameters, mixing] = [1, 2, 4].map(|bit| bits & bit > 0);
            let some = run(&cell, Asked { inputs, parameters, mixing }, Some(Memory::Save));
            for ((name, some), (_, all)) in some.iter().zip(&all) {
                // The mixing weights of the inputs' own edges are constants.
                let constant = if name == "gradient of the mixing weights" { 2 } else { 0 };
                assert!(some.is_empty() || some[constant..] == all[constant..], "{name}, {bits:b}");
            }
        }
    }
}

fn compare(title: &str, actual: &[(String, Vec<f32>)], expected: &[(String, Vec<f32>)]) {
    for ((name, actual), (_, expected)) in actual.iter().zip(expected) {
        assert_eq!(actual.len(), expected.len(), "{title}: values of {name}");
        assert!(!expected.is_empty(), "{title}: {name}");
        let square = |x: f64| x * x;
        let norm: f64 = expected.iter().map(|&e| square(e.into())).sum();
        let pairs = actual.iter().zip(expected);
        let miss: f64 = pairs.map(|(&a, &e)| square(f64::from(a) - f64::from(e))).sum();
        let miss = (miss / norm).sqrt();
        assert!(norm > 0.0 && miss < 3e-5, "{title}: {name} is off by {miss:.2e} of its norm");
    }
}

/// A NaN passes through a pool of bypassing channels.
#[test]
fn what_is_no_number_goes_by() {
    let mut cell = in_parts(8, 4, 2);
    let lengths = [cell.num_parameters() + 7, cell.num_statistics() + 5];
    cell.inputs[0].operations = vec![Op::Identity];
    let cell = Arc::new(cell);
    let device = Device::flex();
    let mut input = numbers(1, 8 * 16);
    input[5] = f32::NAN;
    let input = Tensor::<4>::from_data(TensorData::new(input, [1, 8, 4, 4]), &device);
    let other = tensor(2, [1, 5, 4, 4], &device);
    let (parameters, mixing) =
        (Tensor::ones([lengths[0]], &device), Tensor::ones([cell.num_mixing_weights()], &device));
    let running = [0.0, 1.0].map(|value| Tensor::full([lengths[1]], value, &device));
    let output = cell_given(vec![input, other], parameters, mixing, running, cell);
    assert!(values(output).iter().any(|value| value.is_nan()));
}
