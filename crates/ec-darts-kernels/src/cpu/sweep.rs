//! The backward pass of a cell, from its last state to its inputs.

use std::ops::Range;

use rayon::prelude::*;

use super::around;
use super::buffer::Buffer;
use super::cell::{Blocks, Gradients, Kept, Tape, Values};
use super::direct::{Direct, Reader};
use super::graph::{Graph, Link, Origin};
use super::norm::Norms;
use super::run::{self, EdgeGradient, EdgeRun, InputGradient};
use crate::edge::Cell;
use crate::extension::Wanted;

/// A backward pass on its way from the last state to the inputs.
struct Sweep<'a> {
    graph: &'a Graph,
    values: &'a Values<'a>,
    states: &'a Blocks,
    blocks: &'a Blocks,
    /// The normalizations of the processed edges.
    norms: Vec<Option<Norms>>,
}

impl Sweep<'_> {
    /// Adds the gradient of a source through operations without weights, from all edges that read
    /// it; `gradients` are those of the states from `first` on.
    fn direct(
        &self,
        from: Origin,
        first: usize,
        gradients: &[Option<Buffer>],
        sum: &mut Option<Buffer>,
    ) {
        for group in self.graph.groups.iter().filter(|group| group.from == from) {
            let readers = group.links.iter().filter_map(|&number| {
                let Link { plan, to, .. } = &self.graph.links[number];
                let gradient = gradients[to - first].as_deref()?;
                Some(Reader { plan, norms: self.norms[number].as_ref()?, gradient })
            });
            let readers: Vec<_> = readers.collect();
            if readers.is_empty() {
                continue;
            }
            let input = self.values.input(from, self.blocks, self.states);
            let link = &self.graph.links[group.links[0]];
            EdgeRun::without_weights(link, input).direct(&Direct::new(&readers), sum);
        }
    }
}

/// Parts of some values.
///
/// # Panics
/// Where two parts overlap.
fn split(mut values: &mut [f32], ranges: impl Iterator<Item = Range<usize>>) -> Vec<&mut [f32]> {
    let mut ranges: Vec<_> = ranges.enumerate().collect();
    ranges.sort_by_key(|(_, range)| range.start);
    let mut parts: Vec<&mut [f32]> = ranges.iter().map(|_| Default::default()).collect();
    let mut done = 0;
    for (number, range) in ranges.into_iter().filter(|(_, range)| !range.is_empty()) {
        assert!(done <= range.start, "no two edges have their values in one place");
        let (part, rest) = values.split_at_mut(range.end - done);
        parts[number] = &mut part[range.start - done..];
        (values, done) = (rest, range.end);
    }
    parts
}

pub fn run_backward(
    cell: &Cell,
    values: &Values<'_>,
    tape: &Tape,
    out_gradient: &[f32],
    wanted: &Wanted,
    graph: &Graph,
    all: &mut Gradients,
) {
    let Gradients { inputs, parameters, mixing } = all;
    let mut parameters = split(parameters, graph.links.iter().map(|link| link.parameters.clone()));
    let mut mixing = split(mixing, graph.links.iter().map(|link| link.mixing.clone()));
    let blocks = values.blocks(graph);
    let mut of_inputs: Blocks = blocks.iter().map(|_| None).collect();
    let mut of_states: Blocks = graph.sizes.iter().map(|_| None).collect();
    let norms = graph.links.iter().map(|_| None).collect();
    let mut sweep = Sweep { graph, values, states: &tape.states, blocks: &blocks, norms };
    let joined = (out_gradient, &cell.concat[..]);
    let mut around = (graph.parts > 1)
        .then(|| around::Backward::new(graph, values, &tape.planes, joined, wanted.mixing));
    for (place, &state) in cell.concat.iter().enumerate().filter(|_| around.is_none()) {
        let part = [place, cell.concat.len()];
        of_states[state] = Some(run::part(graph, state, out_gradient, part));
    }
    for states in graph.steps().rev() {
        for state in states.clone().rev() {
            let (this, later) = of_states[state..].split_first_mut().expect("this state");
            if wanted.behind(state) {
                sweep.direct(Origin::State(state), state + 1, later, this);
            }
            if let Some(around) = &mut around
                && (wanted.behind(state) || wanted.mixing)
            {
                let gradient = around.state(state, this.as_deref());
                *this = gradient.filter(|_| wanted.behind(state));
            }
        }
        let (before, these) = of_states.split_at_mut(states.start);
        let gradient = |state: usize| these[state - states.start].as_deref();
        for edges in graph.rounds_into(states.clone()) {
            let mut to_states: Vec<_> = before.iter_mut().map(Some).collect();
            let to_inputs = inputs.iter_mut().zip(&wanted.inputs).zip(&mut of_inputs).zip(&blocks);
            let mut to_inputs: Vec<_> = to_inputs
                .map(|(((planes, wanted), of_input), blocks)| match blocks {
                    Some(_) => Some(InputGradient::Blocks(of_input)),
                    None => Some(InputGradient::Planes(wanted.then_some(planes))),
                })
                .collect();
            let edges = edges.into_iter().filter_map(|(number, link)| {
                let gradient = gradient(link.to)?;
                let input = match link.from {
                    Origin::Input(source) | Origin::State(source) if !wanted.behind(source) => None,
                    Origin::Input(input) => to_inputs[input].take(),
                    Origin::State(state) => to_states[state].take().map(InputGradient::Blocks),
                };
                let to = EdgeGradient {
                    parameters: std::mem::take(&mut parameters[number]),
                    mixing: std::mem::take(&mut mixing[number]),
                    input: input.unwrap_or(InputGradient::Nowhere),
                };
                Some((number, link, gradient, to))
            });
            let edges: Vec<_> = edges.collect();
            let edges = edges.into_par_iter().with_max_len(1);
            let done = edges.map(|(number, link, gradient, to)| {
                let input = values.input(link.from, &blocks, &tape.states);
                let parameters = &values.parameters[link.parameters.clone()];
                let run = EdgeRun::new(link, input, parameters);
                let Kept { norms, maps, .. } = &tape.edges[number];
                let (maps, mixing) = (maps.as_ref(), values.mixing(link, graph.batch));
                (number, run.backward(norms, maps, mixing, gradient, wanted, to))
            });
            for (number, norms) in done.collect::<Vec<_>>() {
                sweep.norms[number] = Some(norms);
            }
        }
        for state in states.clone().filter(|&state| state < graph.num_inputs()) {
            if gradient(state).is_none() {
                // No edge reads this state.
                inputs[state].fill(0.0);
                continue;
            }
            if blocks[state].is_some() && wanted.behind(state) {
                let (to, of_state) = (&mut of_inputs[state], &these[state - states.start]);
                sweep.direct(Origin::Input(state), state, std::slice::from_ref(of_state), to);
                let gradient = to.as_deref().expect("made on the line above");
                run::to_planes(&graph.links[state], gradient, &mut inputs[state]);
            }
        }
    }
    let weights = around.map(|around| around.weights).unwrap_or_default();
    weights.into_iter().for_each(|(place, gradient)| all.mixing[place] = gradient);
}
