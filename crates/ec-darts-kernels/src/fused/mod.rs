//! The fused kernels for CPUs: one edge of the search space, forward and backward.
//!
//! Entry points: [`forward`] and [`backward`]. Invariant: results do not depend on the number of
//! threads; images are taken in fixed chunks, and chunks are summed in their order.
//!
//! A batch normalization needs the whole batch, so an edge is a few passes over the images. Within
//! a pass one image goes through everything at once, in maps blocked by channels
//! (`[block][position][lane]`) that stay in the caches. What a backward pass needs of a batch
//! normalization is linear in the gradient and the map, so it is applied while both are read.

mod buffer;
mod image;
mod norm;
mod pass;
mod plan;
mod simd;
#[cfg(test)]
mod tests;
mod tiles;
mod transpose;

use rayon::prelude::*;

pub use buffer::Buffer;
pub use norm::Norms;
use pass::{Context, Pass, Step};
pub use plan::Plan;
pub use simd::Isa;

use crate::edge::{Edge, Memory};

/// Chunks of a batch: a multiple of any sensible number of threads.
const CHUNKS: usize = 16;

/// Values that an edge is computed from.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    /// `[batch][channel][position]`.
    pub input: &'a [f32],
    /// As [`Edge`] says.
    pub parameters: &'a [f32],
    /// One per operation.
    pub mixing: &'a [f32],
}

/// What an edge's backward pass needs besides its inputs.
#[derive(Debug)]
pub struct Tape {
    /// Statistics and scales.
    pub norms: Norms,
    maps: Option<Buffer>,
}

/// Gradients of an edge.
#[derive(Debug)]
pub struct Gradients {
    /// Of the input.
    pub input: Vec<f32>,
    /// Of the packed parameters; zero where they were not asked for.
    pub parameters: Vec<f32>,
    /// Of the mixing weights.
    pub mixing: Vec<f32>,
}

/// Runs an edge; with statistics of its own where none are `given` (`[norm][channel]` each).
pub fn forward(
    isa: Isa,
    edge: &Edge,
    shape: [usize; 4],
    values: Values<'_>,
    given: Option<[&[f32]; 2]>,
    memory: Memory,
) -> (Vec<f32>, Tape) {
    let plan = Plan::new(edge, shape, isa.lanes());
    assert_eq!(values.parameters.len(), plan.packed_len, "the packed parameters of this edge");
    assert_eq!(values.mixing.len(), plan.terms.len(), "one mixing weight for each operation");
    let prepared = plan.prepare(values.parameters);
    let run = Run::new(isa, &plan, &prepared, values.input);
    let mut maps = Buffer::new(plan.batch * plan.maps_len().max(1));
    let mut norms = match given {
        Some(given) => {
            let norms = Norms::given(&plan, given, values.parameters);
            run.maps(&mut maps, &norms);
            norms
        }
        None => run.maps_and_moments(&mut maps, values.parameters),
    };
    norms.mix(&plan, values.mixing);
    let out_len = plan.channels[1] * plan.out_size[0] * plan.out_size[1];
    let mut out = vec![0.0; plan.batch * out_len];
    out.par_chunks_mut(run.chunk * out_len)
        .zip(maps.par_chunks(run.chunk * plan.maps_len().max(1)))
        .enumerate()
        .for_each(|(chunk, (out, maps))| {
            run.pass(chunk, Step::Combine { norms: &norms, maps, out });
        });
    let maps = (memory == Memory::Save && given.is_none()).then_some(maps);
    (out, Tape { norms, maps })
}

/// The gradients of an edge that [`forward`] ran on the same values with statistics of its own.
pub fn backward(
    isa: Isa,
    edge: &Edge,
    shape: [usize; 4],
    values: Values<'_>,
    tape: &Tape,
    out_gradient: &[f32],
    with_parameters: bool,
) -> Gradients {
    let plan = Plan::new(edge, shape, isa.lanes());
    let prepared = plan.prepare(values.parameters);
    let run = Run::new(isa, &plan, &prepared, values.input);
    let mut norms = tape.norms.clone();
    let again;
    let maps = match &tape.maps {
        Some(maps) => maps,
        None => {
            let mut maps = Buffer::new(plan.batch * plan.maps_len().max(1));
            run.maps(&mut maps, &norms);
            again = maps;
            &again
        }
    };
    let (map_len, width) = (plan.map_len(), plan.width());
    let maps_len = plan.maps_len().max(1);
    let mut parameters = vec![0.0; plan.packed_len];

    let sums_len = (1 + plan.terms.len()) * width;
    let mut gradient = Buffer::new(plan.batch * map_len);
    let mut sums = vec![0.0; plan.batch * sums_len];
    gradient
        .par_chunks_mut(run.chunk * map_len)
        .zip(sums.par_chunks_mut(run.chunk * sums_len))
        .zip(maps.par_chunks(run.chunk * maps_len))
        .enumerate()
        .for_each(|(chunk, ((gradient, sums), maps))| {
            run.pass(chunk, Step::Sums { norms: &norms, maps, out_gradient, gradient, sums });
        });
    let mixing = norms.take_sums(&plan, &sums, values.mixing, &mut parameters);

    let chunks = plan.batch.div_ceil(run.chunk);
    let weights_len = if with_parameters { plan.gradient_len.max(1) } else { 1 };
    let mut weights = Buffer::zeros(chunks * weights_len);
    let inner_len = (plan.num_inner * map_len).max(1);
    let mut inner = Buffer::new(plan.batch * inner_len);
    if plan.num_inner > 0 {
        let sums_len = plan.num_inner * 2 * width;
        let mut sums = vec![0.0; plan.batch * sums_len];
        inner
            .par_chunks_mut(run.chunk * inner_len)
            .zip(sums.par_chunks_mut(run.chunk * sums_len))
            .zip(weights.par_chunks_mut(weights_len))
            .zip(maps.par_chunks(run.chunk * maps_len))
            .zip(gradient.par_chunks(run.chunk * map_len))
            .enumerate()
            .for_each(|(chunk, ((((inner, sums), weights), maps), gradient))| {
                let weights = with_parameters.then_some(weights);
                let norms = &norms;
                run.pass(
                    chunk,
                    Step::SecondBackward { norms, maps, gradient, inner, sums, weights },
                );
            });
        norms.take_inner_sums(&plan, &sums, &mut parameters);
    }

    let image_len = plan.channels[0] * plan.size[0] * plan.size[1];
    let mut input = vec![0.0; plan.batch * image_len];
    input
        .par_chunks_mut(run.chunk * image_len)
        .zip(weights.par_chunks_mut(weights_len))
        .zip(maps.par_chunks(run.chunk * maps_len))
        .zip(gradient.par_chunks(run.chunk * map_len))
        .zip(inner.par_chunks(run.chunk * inner_len))
        .enumerate()
        .for_each(|(chunk, ((((input_gradient, weights), maps), gradient), inner))| {
            let weights = with_parameters.then_some(weights);
            let norms = &norms;
            run.pass(
                chunk,
                Step::FirstBackward { norms, maps, gradient, inner, weights, input_gradient },
            );
        });
    if with_parameters && plan.gradient_len > 0 {
        let (first, rest) = weights.split_at_mut(weights_len);
        for chunk in rest.chunks_exact(weights_len) {
            for (sum, value) in first.iter_mut().zip(chunk) {
                *sum += value;
            }
        }
        plan.unpack_gradient(first, &mut parameters);
    }
    Gradients { input, parameters, mixing }
}

/// One batch through the passes.
struct Run<'a> {
    isa: Isa,
    context: Context<'a>,
    /// Images of a chunk.
    chunk: usize,
}

impl<'a> Run<'a> {
    fn new(isa: Isa, plan: &'a Plan, prepared: &'a [f32], input: &'a [f32]) -> Self {
        let context = Context { plan, prepared, input };
        Self { isa, context, chunk: plan.batch.div_ceil(CHUNKS) }
    }

    fn pass(&self, chunk: usize, step: Step<'_>) {
        self.isa.run(Pass { context: self.context, start: chunk * self.chunk, step });
    }

    /// The maps before each batch normalization, with the statistics that `norms` holds.
    fn maps(&self, maps: &mut Buffer, norms: &Norms) {
        let len = self.chunk * self.context.plan.maps_len().max(1);
        maps.par_chunks_mut(len).enumerate().for_each(|(chunk, maps)| {
            self.pass(chunk, Step::First { maps: &mut *maps, moments: None });
            self.pass(chunk, Step::Second { norms, maps, moments: None });
        });
    }

    /// The maps before each batch normalization, and the statistics of the batch.
    fn maps_and_moments(&self, maps: &mut Buffer, parameters: &[f32]) -> Norms {
        let plan = self.context.plan;
        let len = self.chunk * plan.maps_len().max(1);
        let moments_len = (plan.num_norms * 2 * plan.width()).max(1);
        let mut all = vec![0.0; plan.batch * moments_len];
        maps.par_chunks_mut(len)
            .zip(all.par_chunks_mut(self.chunk * moments_len))
            .enumerate()
            .for_each(|(chunk, (maps, moments))| {
                self.pass(chunk, Step::First { maps, moments: Some(moments) });
            });
        let norms = Norms::from_moments(plan, &all, parameters);
        if plan.num_inner == 0 {
            return norms;
        }
        maps.par_chunks_mut(len)
            .zip(all.par_chunks_mut(self.chunk * moments_len))
            .enumerate()
            .for_each(|(chunk, (maps, moments))| {
                let norms = &norms;
                self.pass(chunk, Step::Second { norms, maps, moments: Some(moments) });
            });
        Norms::from_moments(plan, &all, parameters)
    }
}
