//! Every instruction set, compared with the portable one, on edges that do not fill a block.

mod factors;
mod plain;

use super::{Isa, Isas, Tape, Values, Wanted, backward, forward};
use crate::cpu::gather::Gather;
use crate::cpu::graph::{Graph, Origin};
use crate::cpu::plan::EdgePlan;
use crate::edge::{Cell, Edge, EdgeOperation, Memory};

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

/// An edge whose values are the first of the packed ones.
fn edge(operations: Vec<EdgeOperation>, channels: [usize; 2], stride: usize, affine: bool) -> Edge {
    Edge { operations, channels, stride, affine, parameters: 0, statistics: 0 }
}

/// Every operation of a stride.
fn all(stride: usize) -> Vec<EdgeOperation> {
    let separable =
        |kernel, dilation, repeats| EdgeOperation::Separable { kernel, dilation, repeats };
    vec![
        EdgeOperation::MaxPool { norm: true },
        EdgeOperation::AvgPool { norm: true },
        separable(3, 1, 2),
        separable(5, 1, 2),
        separable(3, 2, 1),
        separable(5, 2, 1),
        if stride == 1 { EdgeOperation::Identity } else { EdgeOperation::FactorizedReduce },
    ]
}

fn edges() -> Vec<(Edge, [usize; 4])> {
    let separable =
        |kernel, dilation, repeats| EdgeOperation::Separable { kernel, dilation, repeats };
    vec![
        (edge(all(1), [5, 5], 1, false), [3, 5, 7, 9]),
        (edge(all(2), [18, 18], 2, false), [2, 18, 8, 6]),
        (edge(all(1), [33, 33], 1, true), [2, 33, 5, 4]),
        // Smaller than the reach of the widest kernel.
        (edge(all(1), [20, 20], 1, false), [2, 20, 4, 4]),
        (edge(all(2), [20, 20], 2, false), [2, 20, 4, 4]),
        // Strides and dilations for which the kernels are not compiled separately.
        (edge(vec![separable(3, 3, 2), separable(5, 2, 1)], [6, 6], 3, false), [2, 6, 9, 13]),
        (edge(vec![EdgeOperation::Pointwise], [20, 12], 1, false), [4, 20, 6, 6]),
        // Fewer positions than a tile, a tile and one more, several strips.
        (edge(vec![EdgeOperation::Pointwise], [37, 6], 1, false), [2, 37, 1, 7]),
        (edge(vec![EdgeOperation::Pointwise], [5, 18], 1, true), [2, 5, 1, 17]),
        (edge(vec![EdgeOperation::Pointwise], [50, 20], 1, false), [2, 50, 19, 21]),
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
        let parameters = numbers(2, EdgePlan::new(&edge, shape, lanes).packed_len);
        let input = numbers(1, shape.iter().product());
        let mixing = numbers(3, edge.operations.len());
        let inputs = vec![(&input[..], shape)];
        let values = Values { inputs, parameters: &parameters, mixing: &mixing, factors: None };
        let cell = Cell::from(edge.clone());
        let run = |isa: Isa, memory| {
            let (output, _, tape) = forward(Isas::all(isa), &cell, &values, None, memory);
            let gradient = numbers(4, output.len());
            let of = |input, parameters| {
                let wanted = Wanted { inputs: vec![input], parameters, mixing: true };
                backward(Isas::all(isa), &cell, &values, &tape, &gradient, &wanted)
            };
            let all = of(true, true);
            assert_eq!(of(false, false).mixing, all.mixing, "whatever else is asked for");
            assert_eq!(of(false, true).parameters, all.parameters, "whatever else is asked for");
            assert_eq!(*of(true, false).inputs[0], *all.inputs[0], "whatever else is asked for");
            [output.to_vec(), all.inputs[0].to_vec(), all.parameters, all.mixing]
        };
        let expected = run(*portable, Memory::Save);
        assert_eq!(run(*portable, Memory::Recompute), expected, "the policy changes no bit");
        for &isa in others {
            for (actual, expected) in run(isa, Memory::Save).iter().zip(&expected) {
                assert_near(actual, expected, &format!("{isa:?}, {edge:?}"));
            }
        }
    }
}

fn assert_near(actual: &[f32], expected: &[f32], what: &str) {
    let norm: f64 = expected.iter().map(|&e| f64::from(e).powi(2)).sum();
    let pairs = actual.iter().zip(expected);
    let miss: f64 = pairs.map(|(&a, &e)| f64::from(a - e).powi(2)).sum();
    assert!(miss <= 1e-8 * norm.max(1e-6), "{what}: {miss} of {norm}");
}

/// Edges that read one state share their operations without weights, separately for each stride; as
/// cells of one edge they share nothing.
#[test]
fn edges_of_a_cell_are_the_sum_of_edges_alone() {
    let isa = Isa::best(6);
    let edge = |operations, stride| edge(operations, [6, 6], stride, false);
    let pools = vec![EdgeOperation::AvgPool { norm: true }, EdgeOperation::MaxPool { norm: false }];
    // State 0 is made from the input; states 1 and 2 read it with stride 2, 2 also reads 1; state 3
    // reads 0 with stride 1, by three edges.
    let first = edge(all(1), 1);
    let nodes = vec![
        vec![(0, edge(all(2), 2))],
        vec![(0, edge(pools.clone(), 2)), (1, edge(all(1), 1))],
        vec![(0, edge(all(1), 1)), (0, edge(pools, 1)), (0, edge(all(1), 1))],
    ];
    let shape = [3, 6, 8, 10];
    let input = numbers(1, shape.iter().product());
    for concat in [vec![1, 2], vec![3]] {
        let cell = Cell {
            inputs: vec![first.clone()],
            nodes: nodes.clone(),
            concat,
            fixed_inputs: false,
            parts: 1,
        };
        let (cell, len) = placed(cell);
        let graph = Graph::new(&cell, &[shape], Isas::all(isa));
        let parameters = numbers(2, len);
        let mixing = numbers(3, cell.num_mixing_weights());
        let inputs = vec![(&input[..], shape)];
        let values = Values { inputs, parameters: &parameters, mixing: &mixing, factors: None };
        let (output, _, tape) = forward(Isas::all(isa), &cell, &values, None, Memory::Save);
        let out_gradient = numbers(4, output.len());
        let wanted = Wanted { inputs: vec![true], parameters: true, mixing: true };
        let all = backward(Isas::all(isa), &cell, &values, &tape, &out_gradient, &wanted);

        // The same, edge by edge.
        let edges: Vec<Edge> = cell
            .edges()
            .map(|edge| Edge { parameters: 0, statistics: 0, ..edge.clone() })
            .collect();
        let mut states: Vec<Vec<f32>> = vec![Vec::new(); 4];
        let mut shapes = Vec::new();
        let mut tapes = Vec::new();
        let source = |from| if let Origin::State(state) = from { Some(state) } else { None };
        for (link, edge) in graph.links.iter().zip(&edges) {
            let from = source(link.from);
            let (read, shape) = match from {
                Some(state) => (states[state].clone(), shapes[state]),
                None => (input.clone(), shape),
            };
            let values = Values {
                inputs: vec![(&read, shape)],
                parameters: &parameters[link.parameters.clone()],
                mixing: &mixing[link.mixing.clone()],
                factors: None,
            };
            let alone = Cell::from(edge.clone());
            let (sum, shape, tape) = forward(Isas::all(isa), &alone, &values, None, Memory::Save);
            add(&mut states[link.to], &sum);
            shapes.resize(shapes.len().max(link.to + 1), shape);
            tapes.push(tape);
        }
        let [batch, positions] = [3, shapes[cell.concat[0]][2..].iter().product::<usize>() * 6];
        let mut gradients: Vec<Vec<f32>> = vec![Vec::new(); 4];
        for (place, &state) in cell.concat.iter().enumerate() {
            let parts = (0..batch).flat_map(|image| {
                let first = (image * cell.concat.len() + place) * positions;
                let range = first..first + positions;
                assert_near(
                    &output[range.clone()],
                    &states[state][image * positions..(image + 1) * positions],
                    "output",
                );
                out_gradient[range].to_vec()
            });
            gradients[state] = parts.collect();
        }
        let mut of_input = Vec::new();
        for (number, link) in graph.links.iter().enumerate().rev() {
            let gradient = gradients[link.to].clone();
            if gradient.is_empty() {
                assert!(all.mixing[link.mixing.clone()].iter().all(|&each| each == 0.0));
                continue;
            }
            let from = source(link.from);
            let (read, shape) = match from {
                Some(state) => (&states[state], shapes[state]),
                None => (&input, shape),
            };
            let values = Values {
                inputs: vec![(read, shape)],
                parameters: &parameters[link.parameters.clone()],
                mixing: &mixing[link.mixing.clone()],
                factors: None,
            };
            let alone = Cell::from(edges[number].clone());
            let alone =
                backward(Isas::all(isa), &alone, &values, &tapes[number], &gradient, &wanted);
            assert_near(&all.mixing[link.mixing.clone()], &alone.mixing, "mixing");
            assert_near(&all.parameters[link.parameters.clone()], &alone.parameters, "weights");
            add(from.map_or(&mut of_input, |state| &mut gradients[state]), &alone.inputs[0]);
        }
        assert_near(&all.inputs[0], &of_input, "input");
    }
}

/// The edges of a cell from the last to the first among the packed values, with gaps between them;
/// and the number of these values.
fn placed(mut cell: Cell) -> (Cell, usize) {
    let (mut parameters, mut statistics) = (3, 5);
    let edges = cell.nodes.iter_mut().flatten().map(|(_, edge)| edge).rev();
    for edge in edges.chain(cell.inputs.iter_mut()) {
        (edge.parameters, edge.statistics) = (parameters, statistics);
        parameters += edge.num_parameters() + 7;
        statistics += edge.num_statistics() + 1;
    }
    (cell, parameters)
}

fn add(to: &mut Vec<f32>, from: &[f32]) {
    to.resize(from.len(), 0.0);
    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
}

/// Edges of a node run side by side; every bit is the same, whatever the threads and their order.
#[test]
fn threads_do_not_change_a_bit() {
    let isa = Isa::best(6);
    let edge = edge(all(1), [6, 6], 1, false);
    let node = |number: usize| (0..2 + number).map(|state| (state, edge.clone())).collect();
    let cell = Cell {
        inputs: vec![edge.clone(), edge.clone()],
        nodes: (0..3).map(node).collect(),
        concat: vec![2, 3, 4],
        fixed_inputs: false,
        parts: 1,
    };
    let shape = [17, 6, 8, 8];
    let (cell, len) = placed(cell);
    let parameters = numbers(2, len);
    let mixing = numbers(3, cell.num_mixing_weights());
    let inputs = [numbers(1, shape.iter().product()), numbers(5, shape.iter().product())];
    let inputs = inputs.iter().map(|input| (&input[..], shape)).collect();
    let values = Values { inputs, parameters: &parameters, mixing: &mixing, factors: None };
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| {
            let (output, _, tape) = forward(Isas::all(isa), &cell, &values, None, Memory::Save);
            let gradient = numbers(4, output.len());
            let wanted = Wanted { inputs: vec![true; 2], parameters: true, mixing: true };
            let all = backward(Isas::all(isa), &cell, &values, &tape, &gradient, &wanted);
            let inputs = all.inputs.iter().flat_map(|input| input.to_vec()).collect::<Vec<_>>();
            [output.to_vec(), inputs, all.parameters, all.mixing]
        })
    };
    let expected = run(1);
    for threads in [2, 3, 5] {
        assert_eq!(run(threads), expected, "{threads} threads");
    }
}

/// An instruction set with wide blocks is chosen only where the channels fill them.
#[test]
fn blocks_are_mostly_filled() {
    for channels in 1..200 {
        let isa = Isa::best(channels);
        let narrowest = Isa::available().iter().map(|each| each.lanes()).min().expect("one");
        let filled = 4 * channels >= 3 * channels.next_multiple_of(isa.lanes());
        assert!(filled || isa.lanes() <= 8.max(narrowest), "{channels} channels, {isa:?}");
    }
}

/// With a 5x5 kernel of dilation 2, the outer taps of a 4x4 map all lie on the border.
#[test]
fn taps_that_reach_no_pixel_are_left_out() {
    let wide = EdgeOperation::Separable { kernel: 5, dilation: 2, repeats: 2 };
    let edge = |stride| edge(vec![wide], [8, 8], stride, false);
    let taps = |size, stride| {
        let plan = EdgePlan::new(&edge(stride), [1, 8, size, size], 8);
        assert_eq!(plan.packed_len, wide.num_parameters([8, 8], false), "all of them are packed");
        let taps: Vec<_> = plan.blocks.iter().map(|block| block.gather.taps()).collect();
        (taps, [plan.source.pad, plan.middle.pad])
    };
    assert_eq!(taps(4, 1), (vec![9, 9], [2, 2]));
    assert_eq!(taps(5, 1), (vec![25, 25], [4, 4]));
    // The second block reads a map of half the size.
    assert_eq!(taps(8, 2), (vec![25, 9], [4, 2]));
    assert_eq!(Gather::Copy.taps(), 0);
}
