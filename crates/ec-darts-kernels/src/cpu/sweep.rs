//! The backward pass of a cell, from its last state to its inputs.

use std::ops::Range;

use rayon::prelude::*;

use super::around;
use super::buffer::Buffer;
use super::cell::{Blocks, Gradients, Kept, Tape, Values};
use super::direct::{Direct, Reader};
use super::layout::{From, Layout, Link};
use super::norm::Norms;
use super::run::{self, EdgeGradient, InputGradient, Run};
use crate::edge::Cell;
use crate::extension::Wanted;

/// A backward pass on its way from the last state to the inputs.
struct Sweep<'a> {
    layout: &'a Layout,
    values: &'a Values<'a>,
    states: &'a Blocks,
    blocks: &'a Blocks,
    /// Of the edges that it has come through.
    norms: Vec<Option<Norms>>,
}

impl Sweep<'_> {
    /// Adds what reaches a source without a convolution, from all edges that read it; `gradients`
    /// are those of the states from `first` on.
    fn direct(
        &self,
        from: From,
        first: usize,
        gradients: &[Option<Buffer>],
        sum: &mut Option<Buffer>,
    ) {
        for group in self.layout.groups.iter().filter(|group| group.from == from) {
            let readers = group.links.iter().filter_map(|&number| {
                let Link { plan, to, .. } = &self.layout.links[number];
                let gradient = gradients[to - first].as_deref()?;
                Some(Reader { plan, norms: self.norms[number].as_ref()?, gradient })
            });
            let readers: Vec<_> = readers.collect();
            if readers.is_empty() {
                continue;
            }
            let input = self.values.input(from, self.blocks, self.states);
            let link = &self.layout.links[group.links[0]];
            Run::without_weights(link, input).direct(&Direct::new(&readers), sum);
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
    layout: &Layout,
    all: &mut Gradients,
) {
    let Gradients { inputs, parameters, mixing } = all;
    let mut parameters = split(parameters, layout.links.iter().map(|link| link.parameters.clone()));
    let mut mixing = split(mixing, layout.links.iter().map(|link| link.mixing.clone()));
    let blocks = values.blocks(layout);
    let mut of_inputs: Blocks = blocks.iter().map(|_| None).collect();
    let mut of_states: Blocks = layout.sizes.iter().map(|_| None).collect();
    let norms = layout.links.iter().map(|_| None).collect();
    let mut sweep = Sweep { layout, values, states: &tape.states, blocks: &blocks, norms };
    let joined = (out_gradient, &cell.concat[..]);
    let mut around = (layout.parts > 1)
        .then(|| around::Backward::new(layout, values, &tape.planes, joined, wanted.mixing));
    for (place, &state) in cell.concat.iter().enumerate().filter(|_| around.is_none()) {
        let part = [place, cell.concat.len()];
        of_states[state] = Some(run::part(layout, state, out_gradient, part));
    }
    for state in (0..layout.sizes.len()).rev() {
        let (before, later) = of_states.split_at_mut(state);
        let (this, later) = later.split_first_mut().expect("this state");
        if wanted.behind(state) {
            sweep.direct(From::State(state), state + 1, later, this);
        }
        if let Some(around) = &mut around
            && (wanted.behind(state) || wanted.mixing)
        {
            let gradient = around.state(state, this.as_deref());
            *this = gradient.filter(|_| wanted.behind(state));
        }
        let Some(gradient) = this else {
            // Nothing reads this state.
            if let Some(input) = inputs.get_mut(state) {
                input.fill(0.0);
            }
            continue;
        };
        for edges in layout.rounds_into(state) {
            let mut to_states: Vec<_> = before.iter_mut().map(Some).collect();
            let to_inputs = inputs.iter_mut().zip(&wanted.inputs).zip(&mut of_inputs).zip(&blocks);
            let mut to_inputs: Vec<_> = to_inputs
                .map(|(((planes, wanted), of_input), blocks)| match blocks {
                    Some(_) => Some(InputGradient::Blocks(of_input)),
                    None => Some(InputGradient::Planes(wanted.then_some(planes))),
                })
                .collect();
            let edges = edges.into_iter().map(|(number, link)| {
                let input = match link.from {
                    From::Input(source) | From::State(source) if !wanted.behind(source) => None,
                    From::Input(input) => to_inputs[input].take(),
                    From::State(state) => to_states[state].take().map(InputGradient::Blocks),
                };
                let to = EdgeGradient {
                    parameters: std::mem::take(&mut parameters[number]),
                    mixing: std::mem::take(&mut mixing[number]),
                    input: input.unwrap_or(InputGradient::Nowhere),
                };
                (number, link, to)
            });
            let edges: Vec<_> = edges.collect();
            let edges = edges.into_par_iter().with_max_len(1);
            let done = edges.map(|(number, link, to)| {
                let input = values.input(link.from, &blocks, &tape.states);
                let parameters = &values.parameters[link.parameters.clone()];
                let run = Run::new(link, input, parameters);
                let Kept { norms, maps, .. } = &tape.edges[number];
                let (maps, mixing) = (maps.as_ref(), values.mixing(link, layout.batch));
                (number, run.backward(norms, maps, mixing, gradient, wanted.parameters, to))
            });
            for (number, norms) in done.collect::<Vec<_>>() {
                sweep.norms[number] = Some(norms);
            }
        }
        if let Some(Some(_)) = blocks.get(state)
            && wanted.behind(state)
        {
            let to = &mut of_inputs[state];
            sweep.direct(From::Input(state), state, std::slice::from_ref(this), to);
            let gradient = to.as_deref().expect("made on the line above");
            run::to_planes(&layout.links[state], gradient, &mut inputs[state]);
        }
    }
    let weights = around.map(|around| around.weights).unwrap_or_default();
    weights.into_iter().for_each(|(place, gradient)| all.mixing[place] = gradient);
}
