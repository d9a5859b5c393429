//! Every instruction set against the portable one, on edges that fill no block.

use super::{Isa, Values, Wanted, backward, forward};
use crate::edge::{Cell, Edge, EdgeOperation, Memory};
use crate::fused::plan::Plan;

/// Numbers in (-1, 1) without a pattern that a kernel could share.
fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn edges() -> Vec<(Edge, [usize; 4])> {
    let separable =
        |kernel, dilation, repeats| EdgeOperation::Separable { kernel, dilation, repeats };
    let all = |stride: usize| {
        let mut all = vec![
            EdgeOperation::MaxPool { norm: true },
            EdgeOperation::AvgPool { norm: true },
            separable(3, 1, 2),
            separable(5, 1, 2),
            separable(3, 2, 1),
            separable(5, 2, 1),
        ];
        all.push(if stride == 1 {
            EdgeOperation::Identity
        } else {
            EdgeOperation::FactorizedReduce
        });
        all
    };
    let edge = |operations, channels, stride, affine| Edge { operations, channels, stride, affine };
    vec![
        (edge(all(1), [5, 5], 1, false), [3, 5, 7, 9]),
        (edge(all(2), [18, 18], 2, false), [2, 18, 8, 6]),
        (edge(all(1), [33, 33], 1, true), [2, 33, 5, 4]),
        (edge(vec![EdgeOperation::Pointwise], [20, 12], 1, false), [4, 20, 6, 6]),
        (edge(vec![EdgeOperation::Convolution { relu: false }], [3, 20], 1, true), [3, 3, 6, 9]),
        (edge(vec![EdgeOperation::Convolution { relu: true }], [18, 7], 2, true), [2, 18, 5, 8]),
        (edge(vec![EdgeOperation::FactorizedReduce], [7, 10], 2, true), [3, 7, 4, 8]),
        (edge(vec![EdgeOperation::MaxPool { norm: false }], [9, 9], 2, true), [1, 9, 5, 5]),
    ]
}

#[test]
fn every_instruction_set_computes_the_same() {
    let all = Isa::available();
    let (portable, others) = all.split_last().expect("the portable one is always there");
    for (edge, shape) in edges() {
        let lanes = portable.lanes();
        let parameters = numbers(2, Plan::new(&edge, shape, lanes).packed_len);
        let input = numbers(1, shape.iter().product());
        let mixing = numbers(3, edge.operations.len());
        let inputs = vec![(&input[..], shape)];
        let values = Values { inputs, parameters: &parameters, mixing: &mixing };
        let cell = Cell::from(edge.clone());
        let run = |isa: Isa, memory| {
            let (output, _, tape) = forward(isa, &cell, &values, None, memory);
            let gradient = numbers(4, output.len());
            let wanted = |all| Wanted { inputs: vec![all], parameters: all };
            let all = backward(isa, &cell, &values, &tape, &gradient, &wanted(true));
            let alone = backward(isa, &cell, &values, &tape, &gradient, &wanted(false));
            assert_eq!(alone.mixing, all.mixing, "whatever else is asked for");
            [output.to_vec(), all.inputs[0].to_vec(), all.parameters, all.mixing]
        };
        let expected = run(*portable, Memory::Save);
        assert_eq!(run(*portable, Memory::Recompute), expected, "the policy changes no bit");
        for &isa in others {
            for (actual, expected) in run(isa, Memory::Save).iter().zip(&expected) {
                let norm: f64 = expected.iter().map(|&e| f64::from(e).powi(2)).sum();
                let pairs = actual.iter().zip(expected);
                let miss: f64 = pairs.map(|(&a, &e)| f64::from(a - e).powi(2)).sum();
                assert!(miss <= 1e-8 * norm.max(1e-6), "{isa:?}, {edge:?}: {miss} of {norm}");
            }
        }
    }
}

/// Channels that a block is not filled by are no reason to take a wide one.
#[test]
fn blocks_are_mostly_filled() {
    for channels in 1..200 {
        let isa = Isa::best(channels);
        let narrowest = Isa::available().iter().map(|each| each.lanes()).min().expect("one");
        let filled = 4 * channels >= 3 * channels.next_multiple_of(isa.lanes());
        assert!(filled || isa.lanes() <= 8.max(narrowest), "{channels} channels, {isa:?}");
    }
}
