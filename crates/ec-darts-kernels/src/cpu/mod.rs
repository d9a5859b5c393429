//! The fused kernels for CPUs: a cell of the search space, forward and backward.
//!
//! Entry points: [`forward`] and [`backward`]. Invariant: results do not depend on the number of
//! threads; images are taken in fixed chunks, and chunks are summed in their order.
//!
//! Inputs, outputs and their gradients are planes, `[batch][channel][position]`. Between them all
//! maps are blocked by channels, `[batch][block][position][lane]`: the states of a cell and their
//! gradients never leave this layout.

mod buffer;
mod convolve;
mod depthwise;
mod direct;
mod image;
mod layout;
mod mixing;
mod norm;
mod pass;
mod plan;
mod pools;
mod run;
mod simd;
mod strips;
mod sums;
#[cfg(test)]
mod tests;
mod tiles;
mod transpose;

use std::ops::Range;

use rayon::prelude::*;

pub use buffer::Buffer;
use direct::{Direct, Reader};
use layout::{From, Layout, Link};
use mixing::Mixing;
use norm::Norms;
pub use plan::serves;
use run::{EdgeGradient, Input, InputGradient, Run, Statistics};
pub use simd::Isa;

use crate::edge::{Cell, Memory};
use crate::extension::Wanted;
use crate::{MOMENTUM, unbiased};

/// Values that a cell is computed from.
#[derive(Clone, Debug)]
pub struct Values<'a> {
    /// `[batch][channel][position]` and the shape, of each input.
    pub inputs: Vec<(&'a [f32], [usize; 4])>,
    /// Packed, each edge's where [`crate::Edge`] says.
    pub parameters: &'a [f32],
    /// One per operation.
    pub mixing: &'a [f32],
    /// `[operation][batch]`, without gradient: what an operation's output is multiplied by for each
    /// image, besides its mixing weight. Statistics are of all images as they are.
    pub factors: Option<&'a [f32]>,
}

/// What a cell's backward pass needs besides its inputs.
#[derive(Debug)]
pub struct Tape {
    /// Those that an edge reads.
    states: Blocks,
    edges: Vec<Kept>,
}

/// What an edge's backward pass needs.
#[derive(Debug)]
struct Kept {
    norms: Norms,
    maps: Option<Buffer>,
    /// Its part of the packed statistics.
    statistics: Range<usize>,
    /// Values of a channel that each of them is taken over.
    count: usize,
}

impl Tape {
    /// Moves running means and unbiased variances, packed, towards those of the batch.
    pub fn observe(&self, [mean, variance]: [&mut [f32]; 2]) {
        for Kept { norms, statistics, count, .. } in &self.edges {
            let [of_mean, of_variance] = norms.statistics();
            let unbiased = unbiased(*count);
            let variances = of_variance.into_iter().map(|each| each * unbiased);
            move_towards(&mut mean[statistics.clone()], of_mean.into_iter());
            move_towards(&mut variance[statistics.clone()], variances);
        }
    }
}

fn move_towards(running: &mut [f32], new: impl Iterator<Item = f32>) {
    let (kept, share) = ((1.0 - MOMENTUM) as f32, MOMENTUM as f32);
    running.iter_mut().zip(new).for_each(|(old, new)| *old = *old * kept + new * share);
}

impl Wanted {
    /// Whether the gradient of the state behind an input leads anywhere.
    fn behind(&self, input: usize) -> bool {
        self.parameters || self.inputs.get(input).is_none_or(|&wanted| wanted)
    }
}

/// Gradients of a cell.
#[derive(Debug)]
pub struct Gradients {
    /// Of each input; unspecified where it was not asked for.
    pub inputs: Vec<Buffer>,
    /// Of the packed parameters; zero where they were not asked for.
    pub parameters: Vec<f32>,
    /// Of the mixing weights.
    pub mixing: Vec<f32>,
}

impl Layout {
    fn of(isa: Isa, cell: &Cell, values: &Values<'_>) -> Self {
        let shapes: Vec<_> = values.inputs.iter().map(|(_, shape)| *shape).collect();
        let layout = Self::new(cell, &shapes, isa.lanes());
        let end = layout.links.iter().map(|link| link.parameters.end).max().unwrap_or(0);
        assert!(end <= values.parameters.len(), "packed parameters of this cell");
        let num_operations = cell.num_operations();
        assert_eq!(values.mixing.len(), num_operations, "one mixing weight for each operation");
        if let Some(factors) = values.factors {
            assert_eq!(factors.len(), num_operations * layout.batch, "a factor for each image");
        }
        layout
    }
}

impl<'a> Values<'a> {
    /// What an edge reads; `blocks` are the inputs and `states` the states that it may read there.
    fn input(&self, from: From, blocks: &'a Blocks, states: &'a Blocks) -> Input<'a> {
        match from {
            From::Input(number) => match &blocks[number] {
                Some(blocks) => Input::Blocks(blocks),
                None => Input::Planes(self.inputs[number].0),
            },
            From::State(state) => {
                Input::Blocks(states[state].as_ref().expect("states that are read are kept"))
            }
        }
    }

    /// What scales the terms of an edge.
    fn mixing(&self, link: &Link, batch: usize) -> Mixing<'a> {
        let Range { start, end } = link.mixing;
        let factors = self.factors.map(|all| &all[start * batch..end * batch]);
        Mixing { weights: &self.mixing[start..end], factors }
    }

    /// The inputs that pools and identities read, in blocks.
    fn blocks(&self, isa: Isa, layout: &Layout) -> Blocks {
        let inputs = self.inputs.iter().zip(&layout.links).enumerate();
        let blocks = inputs.map(|(number, ((input, _), link))| {
            layout.is_direct(From::Input(number)).then(|| run::to_blocks(isa, &link.plan, input))
        });
        blocks.collect()
    }
}

/// Batches of blocked maps, where they are there.
type Blocks = Vec<Option<Buffer>>;

/// On a thread of rayon's pool: any other would fall asleep and be woken for every pass.
fn in_pool<R: Send>(run: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| run())
}

/// Runs a cell; with statistics of its own where none are `given` (packed).
/// Returns the output, its shape, and what the backward pass needs.
pub fn forward(
    isa: Isa,
    cell: &Cell,
    values: &Values<'_>,
    given: Option<[&[f32]; 2]>,
    memory: Memory,
) -> (Buffer, [usize; 4], Tape) {
    let layout = Layout::of(isa, cell, values);
    let [height, width] = layout.sizes[cell.concat[0]];
    let shape = [layout.batch, cell.concat.len() * layout.channels, height, width];
    let mut out = Buffer::new(shape.iter().product());
    let tape = in_pool(|| run_forward(isa, cell, values, given, memory, &layout, &mut out));
    (out, shape, tape)
}

fn run_forward(
    isa: Isa,
    cell: &Cell,
    values: &Values<'_>,
    given: Option<[&[f32]; 2]>,
    memory: Memory,
    layout: &Layout,
    out: &mut [f32],
) -> Tape {
    let blocks = values.blocks(isa, layout);
    let mut tape = Tape { states: Vec::new(), edges: Vec::new() };
    let mut moments: Blocks = layout.groups.iter().map(|_| None).collect();
    for state in 0..layout.sizes.len() {
        let mut edges = Vec::new();
        for (number, link) in layout.edges_into(state) {
            debug_assert_eq!(
                number,
                tape.edges.len() + edges.len(),
                "in the order of their targets"
            );
            let input = values.input(link.from, &blocks, &tape.states);
            if let (None, Some(group)) = (given, link.group) {
                let of = layout.groups[group].normalized;
                moments[group].get_or_insert_with(|| {
                    Run::without_weights(isa, &link.plan, input).pool_moments(of)
                });
            }
            edges.push((link, input));
        }
        let places: Vec<_> = edges
            .iter()
            .map(|(link, _)| (link.statistics.clone(), link.plan.num_normalized()))
            .collect();
        let edges = edges.into_par_iter().with_max_len(1).map(|(link, input)| {
            let parameters = &values.parameters[link.parameters.clone()];
            let run = Run::new(isa, &link.plan, input, parameters);
            let pools = link.group.and_then(|group| moments[group].as_deref()).unwrap_or_default();
            let statistics = match given {
                Some(all) => Statistics::Given(all.map(|each| &each[link.statistics.clone()])),
                None => Statistics::OfBatch { pools },
            };
            let (norms, maps) = run.forward(statistics, values.mixing(link, layout.batch));
            (run, norms, maps)
        });
        let edges: Vec<_> = edges.collect();
        let mixed = edges.iter().map(|(run, norms, maps)| run.mixed(norms, maps));
        let sum = run::combine(isa, &mixed.collect::<Vec<_>>());
        let keeps = memory == Memory::Save && given.is_none();
        let edges = edges.into_iter().zip(places);
        tape.edges.extend(edges.map(|((_, norms, maps), (statistics, count))| Kept {
            norms,
            maps: keeps.then_some(maps),
            statistics,
            count,
        }));
        if let Some(place) = cell.concat.iter().position(|&each| each == state) {
            let first = cell.concat[0];
            assert_eq!(layout.sizes[state], layout.sizes[first], "joined states have one size");
            run::join(isa, layout, &sum, out, [place, cell.concat.len()]);
        }
        tape.states.push(layout.reads(state).then_some(sum));
    }
    tape
}

/// A backward pass on its way from the last state to the inputs.
struct Sweep<'a> {
    isa: Isa,
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
            let Some(Reader { plan, .. }) = readers.first() else { continue };
            let input = self.values.input(from, self.blocks, self.states);
            Run::without_weights(self.isa, plan, input).direct(&Direct::new(&readers), sum);
        }
    }
}

/// The gradients of a cell that [`forward`] ran on the same values with statistics of its own.
pub fn backward(
    isa: Isa,
    cell: &Cell,
    values: &Values<'_>,
    tape: &Tape,
    out_gradient: &[f32],
    wanted: &Wanted,
) -> Gradients {
    let layout = Layout::of(isa, cell, values);
    let mut all = Gradients {
        inputs: values.inputs.iter().map(|(input, _)| Buffer::new(input.len())).collect(),
        parameters: vec![0.0; values.parameters.len()],
        mixing: vec![0.0; values.mixing.len()],
    };
    in_pool(|| {
        run_backward(isa, cell, values, tape, out_gradient, wanted, &layout, &mut all);
    });
    all
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

#[expect(clippy::too_many_arguments, reason = "what `backward` is told, and where it writes")]
fn run_backward(
    isa: Isa,
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
    let blocks = values.blocks(isa, layout);
    let mut of_inputs: Blocks = blocks.iter().map(|_| None).collect();
    let mut of_states: Blocks = layout.sizes.iter().map(|_| None).collect();
    let norms = layout.links.iter().map(|_| None).collect();
    let mut sweep = Sweep { isa, layout, values, states: &tape.states, blocks: &blocks, norms };
    for (place, &state) in cell.concat.iter().enumerate() {
        let part = [place, cell.concat.len()];
        of_states[state] = Some(run::part(isa, layout, state, out_gradient, part));
    }
    for state in (0..layout.sizes.len()).rev() {
        let (before, later) = of_states.split_at_mut(state);
        let (this, later) = later.split_first_mut().expect("this state");
        if wanted.behind(state) {
            sweep.direct(From::State(state), state + 1, later, this);
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
                let run = Run::new(isa, &link.plan, input, parameters);
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
            run::to_planes(isa, &layout.links[state].plan, gradient, &mut inputs[state]);
        }
    }
}
