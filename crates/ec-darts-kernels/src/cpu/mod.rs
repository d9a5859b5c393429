//! The fused kernels for CPUs: a cell of the search space, forward and backward.
//!
//! Entry points: [`forward`] and [`backward`]. Invariant: results do not depend on the number of
//! threads, because images are processed in fixed chunks, and chunks are summed in their order.
//!
//! Inputs, outputs and their gradients are planes, `[batch][channel][position]`. Between them all
//! maps are blocked by channels, `[batch][block][position][lane]`: the states of a cell and their
//! gradients never leave this layout.

mod around;
mod buffer;
mod cell;
mod context;
mod convolve;
mod convolve_backward;
mod depthwise;
mod depthwise_weights;
mod direct;
mod gather;
mod graph;
mod image;
mod mixing;
mod norm;
mod packing;
mod pass;
mod plan;
mod planes;
mod pools;
mod run;
mod simd;
mod steps;
mod strips;
mod sums;
mod sweep;
#[cfg(test)]
mod tests;
mod tiles;
mod transpose;

use rayon::prelude::*;

use around::State;
pub use buffer::Buffer;
use cell::{Blocks, Kept};
pub use cell::{Gradients, Tape, Values};
use graph::Graph;
pub use plan::serves;
use run::{EdgeRun, Statistics};
#[cfg(test)]
pub use simd::Isa;
pub use simd::Isas;
pub use steps::{sgd, squares};

use crate::edge::{Cell, Memory};
use crate::extension::Wanted;

/// Runs on a thread of rayon's pool: any other thread would sleep and be woken for every pass.
fn in_pool<R: Send>(run: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| run())
}

/// Runs a cell, with its own statistics where none are `given` (packed). Returns the output, its
/// shape, and the values for the backward pass.
pub fn forward(
    isas: Isas,
    cell: &Cell,
    values: &Values<'_>,
    given: Option<[&[f32]; 2]>,
    memory: Memory,
) -> (Buffer, [usize; 4], Tape) {
    let graph = Graph::of(isas, cell, values);
    let [height, width] = graph.sizes[cell.concat[0]];
    let shape = [graph.batch, cell.concat.len() * graph.channels, height, width];
    let mut out = Buffer::new(shape.iter().product());
    let tape = in_pool(|| run_forward(cell, values, given, memory, &graph, &mut out));
    (out, shape, tape)
}

fn run_forward(
    cell: &Cell,
    values: &Values<'_>,
    given: Option<[&[f32]; 2]>,
    memory: Memory,
    graph: &Graph,
    out: &mut [f32],
) -> Tape {
    let blocks = values.blocks(graph);
    let mut tape = Tape { states: Vec::new(), planes: Vec::new(), edges: Vec::new() };
    let mut moments: Blocks = graph.groups.iter().map(|_| None).collect();
    for states in graph.steps() {
        let mut edges = Vec::new();
        for (number, link) in graph.edges_into(states.clone()) {
            let of_tape = tape.edges.len() + edges.len();
            debug_assert_eq!(number, of_tape, "in the order of their targets");
            let input = values.input(link.from, &blocks, &tape.states);
            if let (None, Some(group)) = (given, link.group) {
                let of = graph.groups[group].normalized;
                moments[group]
                    .get_or_insert_with(|| EdgeRun::without_weights(link, input).pool_moments(of));
            }
            edges.push((link, input));
        }
        let edges = edges.into_par_iter().with_max_len(1).map(|(link, input)| {
            let parameters = &values.parameters[link.parameters.clone()];
            let run = EdgeRun::new(link, input, parameters);
            let pools = link.group.and_then(|group| moments[group].as_deref()).unwrap_or_default();
            let statistics = match given {
                Some(all) => Statistics::Given(all.map(|each| &each[link.statistics.clone()])),
                None => Statistics::OfBatch { pools },
            };
            let (norms, maps) = run.forward(statistics, values.mixing(link, graph.batch));
            (run, norms, maps)
        });
        let edges: Vec<_> = edges.collect();
        let mut left = &edges[..];
        let sums = states.clone().map(|state| {
            let (these, others) = left.split_at(graph.edges_into(state..state + 1).count());
            left = others;
            run::combine(these)
        });
        let sums: Vec<_> = sums.collect();
        let keeps = memory == Memory::Save && given.is_none();
        let edges = edges.into_iter().zip(graph.edges_into(states.clone()));
        tape.edges.extend(edges.map(|((_, norms, maps), (_, link))| Kept {
            norms,
            maps: keeps.then_some(maps),
            statistics: link.statistics.clone(),
            count: link.plan.num_normalized(),
        }));
        for (state, sum) in states.zip(sums) {
            let place = cell.concat.iter().position(|&each| each == state);
            let place = place.map(|place| [place, cell.concat.len()]);
            if place.is_some() {
                let first = cell.concat[0];
                assert_eq!(graph.sizes[state], graph.sizes[first], "joined states have one size");
            }
            let is_read = graph.reads(state);
            if graph.parts == 1 {
                if let Some(place) = place {
                    run::join(graph, &sum, out, place);
                }
                tape.states.push(is_read.then_some(sum));
            } else {
                let State { planes, first } = State::new(graph, state, &sum, &tape.planes, values);
                if let Some(place) = place {
                    around::join(graph, &planes, out, place);
                }
                tape.states.push(is_read.then_some(first));
                tape.planes.push(is_read.then_some(planes));
            }
        }
    }
    tape
}

/// The gradients of a cell that [`forward`] ran on the same values with its own statistics.
pub fn backward(
    isas: Isas,
    cell: &Cell,
    values: &Values<'_>,
    tape: &Tape,
    out_gradient: &[f32],
    wanted: &Wanted,
) -> Gradients {
    let graph = Graph::of(isas, cell, values);
    let mut all = Gradients {
        inputs: values.inputs.iter().map(|(input, _)| Buffer::new(input.len())).collect(),
        parameters: vec![0.0; values.parameters.len()],
        mixing: vec![0.0; values.mixing.len()],
    };
    in_pool(|| {
        sweep::run_backward(cell, values, tape, out_gradient, wanted, &graph, &mut all);
    });
    all
}
