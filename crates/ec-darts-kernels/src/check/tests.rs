use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use burn::tensor::{Device, Tensor};

use super::*;
use crate::{Memory, cell, cell_given, reference, serves};

fn edge(operation: EdgeOperation) -> Edge {
    let operations = vec![operation];
    Edge { operations, channels: [2, 2], stride: 1, affine: false, parameters: 0, statistics: 0 }
}

/// A cell with two inputs and one node.
fn whole() -> Cell {
    let separable = EdgeOperation::Separable { kernel: 3, dilation: 1, repeats: 1 };
    let mut cell = Cell {
        inputs: vec![edge(EdgeOperation::Pointwise), edge(EdgeOperation::Pointwise)],
        nodes: vec![vec![(0, edge(separable)), (1, edge(EdgeOperation::Identity))]],
        concat: vec![2],
        fixed_inputs: false,
        parts: 1,
    };
    cell.place([0, 0]);
    cell
}

struct Arguments {
    cell: Cell,
    inputs: Vec<Tensor<4>>,
    parameters: usize,
    statistics: [usize; 2],
    mixing: usize,
    factors: Option<usize>,
}

fn arguments() -> Arguments {
    let cell = whole();
    let inputs = vec![Tensor::ones([3, 2, 4, 4], &Device::flex()); 2];
    let (parameters, statistics) = (cell.num_parameters(), cell.num_statistics());
    let (statistics, mixing) = ([statistics; 2], cell.num_mixing_weights());
    Arguments { cell, inputs, parameters, statistics, mixing, factors: None }
}

/// Expects all ways to run these arguments to panic with this message.
fn check(change: impl Fn(&mut Arguments), expected: &str) {
    let mut all = arguments();
    change(&mut all);
    let device = Device::flex();
    // This question comes before any computation.
    let _ = serves(&device, &all.cell);
    for way in 0..4 {
        let run = || {
            let ones = |length: usize| Tensor::<1>::ones([length], &device);
            let inputs = all.inputs.clone();
            let (parameters, mixing) = (ones(all.parameters), ones(all.mixing));
            let running = all.statistics.map(ones);
            let factors = all.factors.map(|length| Arc::new(vec![1.0; length]));
            let shared = Arc::new(all.cell.clone());
            match way {
                0 => {
                    cell(inputs, parameters, mixing, running, factors, shared, Memory::Save).output
                }
                1 => reference::cell(inputs, parameters, mixing, running, factors, &shared).output,
                2 if factors.is_none() => cell_given(inputs, parameters, mixing, running, shared),
                3 if factors.is_none() => {
                    reference::cell_given(inputs, parameters, mixing, running, &shared)
                }
                _ => panic!("{expected}"),
            }
        };
        let told = match catch_unwind(AssertUnwindSafe(run)) {
            Ok(_) => String::new(),
            Err(told) => told.downcast_ref::<String>().cloned().unwrap_or_default(),
        };
        assert!(
            told.contains(expected) && told.is_empty() == expected.is_empty(),
            "{way}: {told:?}"
        );
    }
}

#[test]
fn what_is_wrong_is_named() {
    check(|_| {}, "");
    let separable =
        |kernel, dilation, repeats| EdgeOperation::Separable { kernel, dilation, repeats };
    let node = |all: &mut Arguments, operation| all.cell.nodes[0][0].1.operations = vec![operation];
    check(
        |all| node(all, separable(3, 0, 1)),
        "`cell.nodes[0][0].1.operations[0].dilation` is 0, allowed: a number above 0",
    );
    check(
        |all| node(all, separable(4, 1, 1)),
        "operations[0].kernel` is 4, allowed: an odd number",
    );
    check(|all| node(all, separable(3, 1, 0)), "operations[0].repeats` is 0, allowed");
    check(
        |all| all.cell.inputs[1].operations.clear(),
        "`cell.inputs[1].operations` is [], allowed",
    );
    check(|all| all.cell.inputs[0].stride = 0, "`cell.inputs[0].stride` is 0, allowed");
    check(
        |all| all.cell.inputs[0].channels = [0, 2],
        "`cell.inputs[0].channels` is [0, 2], allowed",
    );
    check(
        |all| all.cell.inputs[1].channels = [2, 4],
        "`cell.inputs[1].channels` is [2, 4], allowed: 2 channels",
    );
    check(|all| all.cell.inputs.clear(), "`cell.inputs` is 0, allowed: one or two edges");
    check(|all| all.cell.nodes[0].clear(), "`cell.nodes[0]` is [], allowed: one edge or more");
    check(
        |all| all.cell.nodes[0][1].0 = 2,
        "`cell.nodes[0][1].0` is 2, allowed: a state from 0 to 1",
    );
    check(|all| all.cell.nodes[0][1].1.stride = 2, "an identity at stride 1");
    check(|all| node(all, EdgeOperation::FactorizedReduce), "a factorized reduction at stride 2");
    for concat in [vec![], vec![3], vec![2, 2]] {
        check(
            |all| all.cell.concat = concat.clone(),
            &format!("`cell.concat` is {concat:?}, allowed"),
        );
    }
    check(
        |all| all.cell.inputs[1].parameters = 0,
        "parameters of two edges` is [0..4, 0..4], allowed",
    );
    check(
        |all| all.inputs = vec![Tensor::ones([0, 2, 4, 4], &Device::flex()); 2],
        "`inputs[0].dims()` is [0, 2, 4, 4], allowed: [batch, 2",
    );
    check(
        |all| all.inputs[1] = Tensor::ones([3, 1, 4, 4], &Device::flex()),
        "`inputs[1].dims()` is [3, 1, 4, 4]",
    );
    check(|all| drop(all.inputs.pop()), "`inputs.len()` is 1, allowed: 2 tensors");
    check(|all| all.mixing = 3, "`mixing.dims()` is [3], allowed: [4]");
    check(|all| all.parameters -= 1, "`parameters.dims()` is [");
    check(|all| all.statistics[1] += 1, "`running lengths` is [");
    check(
        |all| all.factors = Some(11),
        "`factors.len()` is 11, allowed: 4 operations times 3 images",
    );
    check(
        |all| all.inputs[1] = Tensor::ones([3, 2, 4, 6], &Device::flex()),
        "the size that cell.nodes[0][1] makes` is [4, 6], allowed: [4, 4]",
    );
}

/// If only the mixing weights are tracked, all of them have the gradient of the definition.
#[test]
fn mixing_weights_alone_have_their_gradients() {
    let device = Device::flex().autodiff();
    let mut all = arguments();
    // Behind a batch normalization alone, the scale of an input would have no gradient.
    let identity = all.cell.nodes[0][1].1.clone();
    all.cell.nodes[0].push((0, identity));
    all.cell.place([0, 0]);
    all.mixing += 1;
    let all = all;
    let ramp = |length: usize, scale: f32| {
        let values: Vec<f32> = (0..length).map(|at| ((at * 7 % 11) as f32 - 5.0) * scale).collect();
        Tensor::<1>::from_floats(&values[..], &device)
    };
    let input = |shift: f32| ramp(3 * 2 * 16, 0.3).reshape([3, 2, 4, 4]) + shift;
    let gradient = |fused: bool, cell_of: Cell| {
        let mixing = (ramp(all.mixing, 0.05) + 1.0).require_grad();
        let inputs = vec![input(0.1), input(-0.4).powi_scalar(2)];
        let parameters = ramp(all.parameters, 0.2);
        let running = all.statistics.map(|length| ramp(length, 0.1).powi_scalar(2));
        let given = mixing.clone();
        let output = match fused {
            true => {
                cell(inputs, parameters, given, running, None, Arc::new(cell_of), Memory::Save)
                    .output
            }
            false => reference::cell(inputs, parameters, given, running, None, &cell_of).output,
        };
        let factors = ramp(output.shape().num_elements(), 0.4).reshape(output.dims());
        let gradients = (output * factors).sum().backward();
        mixing.grad(&gradients).expect("tracked").into_data().try_to_vec::<f32>().expect("f32")
    };
    let near = |found: &[f32], expected: &[f32]| {
        let apart = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart < 1e-3, "{found:?}, expected {expected:?}");
    };
    let expected = gradient(false, all.cell.clone());
    assert!(expected.iter().all(|value| value.abs() > 1e-2), "{expected:?}");
    near(&gradient(true, all.cell.clone()), &expected);
    // The search does not compute these: its inputs' own edges have constant weights.
    let fixed = gradient(true, Cell { fixed_inputs: true, ..all.cell.clone() });
    near(&fixed[2..], &expected[2..]);
    assert_eq!(fixed[..2], [0.0; 2]);
}
