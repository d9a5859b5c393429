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

pub use buffer::Buffer;
use direct::{Direct, Reader};
use layout::{From, Layout, Link};
use norm::Norms;
use run::{Input, InputGradient, Run, Statistics};
pub use simd::Isa;

use crate::edge::{Cell, Memory};

/// Values that a cell is computed from.
#[derive(Clone, Debug)]
pub struct Values<'a> {
    /// `[batch][channel][position]` and the shape, of each input.
    pub inputs: Vec<(&'a [f32], [usize; 4])>,
    /// Of all edges, each packed as [`crate::Edge`] says.
    pub parameters: &'a [f32],
    /// One per operation.
    pub mixing: &'a [f32],
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
}

impl Tape {
    /// Of the batch, `[norm][channel]` of all edges: mean and biased variance.
    pub fn statistics(&self) -> [Vec<f32>; 2] {
        let mut all = [Vec::new(), Vec::new()];
        for edge in &self.edges {
            for (all, of_edge) in all.iter_mut().zip(edge.norms.statistics()) {
                all.extend(of_edge);
            }
        }
        all
    }
}

/// Which gradients of a cell somebody asks for, besides those of the mixing weights.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Of each input.
    pub inputs: Vec<bool>,
    /// Of the packed parameters.
    pub parameters: bool,
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
        let lengths = layout.links.last().map_or([0; 2], |l| [l.parameters.end, l.mixing.end]);
        assert_eq!(values.parameters.len(), lengths[0], "the packed parameters of this cell");
        assert_eq!(values.mixing.len(), lengths[1], "one mixing weight for each operation");
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

/// Runs a cell; with statistics of its own where none are `given` (`[norm][channel]` each).
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
    let mut moments: Vec<Option<Vec<f32>>> = layout.groups.iter().map(|_| None).collect();
    for state in 0..layout.sizes.len() {
        let mut sum = None;
        for (number, link) in layout.edges_into(state) {
            let input = values.input(link.from, &blocks, &tape.states);
            let parameters = &values.parameters[link.parameters.clone()];
            let prepared = link.plan.prepare(parameters);
            let run = Run::new(isa, &link.plan, input, parameters, &prepared);
            let statistics = match given {
                Some(all) => Statistics::Given(all.map(|each| &each[link.statistics.clone()])),
                None => Statistics::OfBatch {
                    pools: link.group.map_or(&[], |group| {
                        let of = layout.groups[group].normalized;
                        moments[group].get_or_insert_with(|| run.pool_moments(of))
                    }),
                },
            };
            let mixing = &values.mixing[link.mixing.clone()];
            let (norms, maps) = run.forward(statistics, mixing, &mut sum);
            let keeps = memory == Memory::Save && given.is_none();
            debug_assert_eq!(number, tape.edges.len(), "edges are in the order of their targets");
            tape.edges.push(Kept { norms, maps: keeps.then_some(maps) });
        }
        let sum = sum.expect("every state has an edge");
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
            Run::new(self.isa, plan, input, &[], &[]).direct(&Direct::new(&readers), sum);
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
            if let Some(input) = all.inputs.get_mut(state) {
                input.fill(0.0);
            }
            continue;
        };
        for (number, link) in layout.edges_into(state) {
            let input = values.input(link.from, &blocks, &tape.states);
            let parameters = &values.parameters[link.parameters.clone()];
            let prepared = link.plan.prepare(parameters);
            let run = Run::new(isa, &link.plan, input, parameters, &prepared);
            let Kept { norms: of_forward, maps } = &tape.edges[number];
            let to = match link.from {
                From::Input(number) if wanted.behind(number) => match blocks[number] {
                    Some(_) => InputGradient::Blocks(&mut of_inputs[number]),
                    None => InputGradient::Planes(&mut all.inputs[number]),
                },
                From::State(state) if wanted.behind(state) => {
                    InputGradient::Blocks(&mut before[state])
                }
                _ => InputGradient::Nowhere,
            };
            sweep.norms[number] = Some(run.backward(
                of_forward,
                maps.as_ref(),
                &values.mixing[link.mixing.clone()],
                gradient,
                wanted.parameters,
                &mut all.parameters[link.parameters.clone()],
                &mut all.mixing[link.mixing.clone()],
                to,
            ));
        }
        if let Some(Some(_)) = blocks.get(state)
            && wanted.behind(state)
        {
            let to = &mut of_inputs[state];
            sweep.direct(From::Input(state), state, std::slice::from_ref(this), to);
            let gradient = to.as_deref().expect("made on the line above");
            run::to_planes(isa, &layout.links[state].plan, gradient, &mut all.inputs[state]);
        }
    }
}
