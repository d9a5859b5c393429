//! One edge over a batch: its passes, each over chunks of images on all threads.
//!
//! A batch normalization needs the whole batch, so an edge is a few passes over the images. Within
//! a pass one image goes through everything at once, in maps that stay in the caches. What a
//! backward pass needs of a batch normalization is linear in the gradient and the map, so it is
//! applied while both are read.

use rayon::prelude::*;

use super::buffer::Buffer;
use super::layout::Layout;
use super::norm::Norms;
use super::pass::{Context, Pass, Relayout, Step, Target};
use super::plan::Plan;
use super::simd::Isa;

/// Chunks of a batch: a multiple of any sensible number of threads. Every other pass takes them
/// from the last to the first, which the pass before has left in the caches.
const CHUNKS: usize = 16;

/// What an edge reads, of the whole batch.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// `[batch][channel][position]`.
    Planes(&'a [f32]),
    /// `[batch][block][position][lane]`.
    Blocks(&'a [f32]),
}

/// Where the gradient of what an edge reads goes.
#[derive(Debug)]
pub enum InputGradient<'a> {
    /// What it replaces.
    Planes(&'a mut [f32]),
    /// Nobody asks for it, nor for the parameters'.
    Nowhere,
    /// A sum that it is added to, if there is one.
    Blocks(&'a mut Option<Buffer>),
}

/// An edge with its values.
pub struct Run<'a> {
    isa: Isa,
    plan: &'a Plan,
    input: Input<'a>,
    parameters: &'a [f32],
    prepared: &'a [f32],
    /// Images of a chunk.
    chunk: usize,
}

impl<'a> Run<'a> {
    /// `prepared` are the parameters as the plan lays them out.
    pub fn new(
        isa: Isa,
        plan: &'a Plan,
        input: Input<'a>,
        parameters: &'a [f32],
        prepared: &'a [f32],
    ) -> Self {
        Self { isa, plan, input, parameters, prepared, chunk: plan.batch.div_ceil(CHUNKS) }
    }

    /// Adds the mixed sum to `sum`, or makes it; returns the normalizations and the maps.
    pub fn forward(
        &self,
        given: Option<[&[f32]; 2]>,
        mixing: &[f32],
        sum: &mut Option<Buffer>,
    ) -> (Norms, Buffer) {
        let plan = self.plan;
        let mut maps = Buffer::new(plan.batch * plan.maps_len().max(1));
        let mut norms = match given {
            Some(given) => {
                let norms = Norms::given(plan, given, self.parameters);
                self.maps(&mut maps, &norms);
                norms
            }
            None => self.maps_and_moments(&mut maps),
        };
        norms.mix(plan, mixing);
        let add = sum.is_some();
        let sum = sum.get_or_insert_with(|| Buffer::new(plan.batch * plan.map_len()));
        sum.par_chunks_mut(self.chunk * plan.map_len())
            .zip(maps.par_chunks(self.chunk * plan.maps_len().max(1)))
            .enumerate()
            .with_max_len(1)
            .for_each(|(chunk, (sum, maps))| {
                self.pass(chunk, Step::Combine { norms: &norms, maps, sum, add });
            });
        (norms, maps)
    }

    /// Writes the parameters' gradient and passes the input's on; returns the mixing weights'.
    #[expect(clippy::too_many_arguments, reason = "all that an edge's gradients depend on")]
    pub fn backward(
        &self,
        norms: &Norms,
        maps: Option<&Buffer>,
        mixing: &[f32],
        gradient: &[f32],
        with_parameters: bool,
        parameters: &mut [f32],
        to: InputGradient<'_>,
    ) -> Vec<f32> {
        let plan = self.plan;
        let mut norms = norms.clone();
        let again;
        let maps = match maps {
            Some(maps) => maps,
            None => {
                let mut maps = Buffer::new(plan.batch * plan.maps_len().max(1));
                self.maps(&mut maps, &norms);
                again = maps;
                &again
            }
        };
        let (map_len, width) = (plan.map_len(), plan.width());
        let maps_len = plan.maps_len().max(1);

        let sums_len = (1 + plan.terms.len()) * width;
        let mut sums = vec![0.0; plan.batch * sums_len];
        sums.par_chunks_mut(self.chunk * sums_len)
            .zip(maps.par_chunks(self.chunk * maps_len))
            .zip(gradient.par_chunks(self.chunk * map_len))
            .enumerate()
            .with_max_len(1)
            .for_each(|(chunk, ((sums, maps), gradient))| {
                self.pass(chunk, Step::Sums { norms: &norms, maps, gradient, sums });
            });
        let mixing_gradient = norms.take_sums(plan, &sums, mixing, parameters);
        if matches!(to, InputGradient::Nowhere) {
            return mixing_gradient;
        }

        let chunks = plan.batch.div_ceil(self.chunk);
        let weights_len = if with_parameters { plan.gradient_len.max(1) } else { 1 };
        let mut weights = Buffer::zeros(chunks * weights_len);
        let inner_len = (plan.num_inner * map_len).max(1);
        let mut inner = Buffer::new(plan.batch * inner_len);
        if plan.num_inner > 0 {
            let sums_len = plan.num_inner * 2 * width;
            let mut sums = vec![0.0; plan.batch * sums_len];
            inner
                .par_chunks_mut(self.chunk * inner_len)
                .zip(sums.par_chunks_mut(self.chunk * sums_len))
                .zip(weights.par_chunks_mut(weights_len))
                .zip(maps.par_chunks(self.chunk * maps_len))
                .zip(gradient.par_chunks(self.chunk * map_len))
                .enumerate()
                .with_max_len(1)
                .rev()
                .for_each(|(chunk, ((((inner, sums), weights), maps), gradient))| {
                    let weights = with_parameters.then_some(weights);
                    let norms = &norms;
                    self.pass(
                        chunk,
                        Step::SecondBackward { norms, maps, gradient, inner, sums, weights },
                    );
                });
            norms.take_inner_sums(plan, &sums, parameters);
        }

        let (to, to_len, target): (&mut [f32], _, _) = match to {
            InputGradient::Planes(to) => {
                (to, plan.channels[0] * plan.size[0] * plan.size[1], Target::Planes)
            }
            InputGradient::Blocks(sum) => {
                let add = sum.is_some();
                let sum = sum.get_or_insert_with(|| Buffer::new(plan.batch * plan.input_len()));
                (sum, plan.input_len(), Target::Blocks { add })
            }
            InputGradient::Nowhere => unreachable!("returned above"),
        };
        to.par_chunks_mut(self.chunk * to_len)
            .zip(weights.par_chunks_mut(weights_len))
            .zip(maps.par_chunks(self.chunk * maps_len))
            .zip(gradient.par_chunks(self.chunk * map_len))
            .zip(inner.par_chunks(self.chunk * inner_len))
            .enumerate()
            .with_max_len(1)
            .for_each(|(chunk, ((((to, weights), maps), gradient), inner))| {
                let weights = with_parameters.then_some(weights);
                let norms = &norms;
                self.pass(
                    chunk,
                    Step::FirstBackward { norms, maps, gradient, inner, weights, to, target },
                );
            });
        if with_parameters && plan.gradient_len > 0 {
            let (first, rest) = weights.split_at_mut(weights_len);
            for chunk in rest.chunks_exact(weights_len) {
                for (sum, value) in first.iter_mut().zip(chunk) {
                    *sum += value;
                }
            }
            plan.unpack_gradient(first, parameters);
        }
        mixing_gradient
    }

    fn pass(&self, chunk: usize, step: Step<'_>) {
        let context = Context { plan: self.plan, prepared: self.prepared, input: self.input };
        self.isa.run(Pass { context, start: chunk * self.chunk, step });
    }

    /// The maps before each batch normalization, with the statistics that `norms` holds.
    fn maps(&self, maps: &mut Buffer, norms: &Norms) {
        let len = self.chunk * self.plan.maps_len().max(1);
        maps.par_chunks_mut(len).enumerate().with_max_len(1).for_each(|(chunk, maps)| {
            self.pass(chunk, Step::First { maps: &mut *maps, moments: None });
            self.pass(chunk, Step::Second { norms, maps, moments: None });
        });
    }

    /// The maps before each batch normalization, and the statistics of the batch.
    fn maps_and_moments(&self, maps: &mut Buffer) -> Norms {
        let plan = self.plan;
        let len = self.chunk * plan.maps_len().max(1);
        let moments_len = (plan.num_norms * 2 * plan.width()).max(1);
        let mut all = vec![0.0; plan.batch * moments_len];
        maps.par_chunks_mut(len)
            .zip(all.par_chunks_mut(self.chunk * moments_len))
            .enumerate()
            .with_max_len(1)
            .for_each(|(chunk, (maps, moments))| {
                self.pass(chunk, Step::First { maps, moments: Some(moments) });
            });
        let norms = Norms::from_moments(plan, &all, self.parameters);
        if plan.num_inner == 0 {
            return norms;
        }
        maps.par_chunks_mut(len)
            .zip(all.par_chunks_mut(self.chunk * moments_len))
            .enumerate()
            .with_max_len(1)
            .rev()
            .for_each(|(chunk, (maps, moments))| {
                let norms = &norms;
                self.pass(chunk, Step::Second { norms, maps, moments: Some(moments) });
            });
        Norms::from_moments(plan, &all, self.parameters)
    }
}

/// Writes a state into its place among the joined ones of the output.
pub fn join(
    isa: Isa,
    layout: &Layout,
    state: &[f32],
    out: &mut [f32],
    [place, joined]: [usize; 2],
) {
    let (from, channels) = (state.len() / layout.batch, layout.channels);
    let to = out.len() / layout.batch;
    out.par_chunks_mut(to).zip(state.par_chunks(from)).for_each(|(out, state)| {
        let to = &mut out[place * to / joined..(place + 1) * to / joined];
        isa.run(Relayout::FromBlocks { from: state, channels, to });
    });
}

/// The gradient of a state among the joined ones of the output.
pub fn part(
    isa: Isa,
    layout: &Layout,
    state: usize,
    gradient: &[f32],
    [place, joined]: [usize; 2],
) -> Buffer {
    let [height, width] = layout.sizes[state];
    let (channels, lanes) = (layout.channels, isa.lanes());
    let to = channels.next_multiple_of(lanes) * height * width;
    let from = gradient.len() / layout.batch;
    let mut all = Buffer::new(layout.batch * to);
    all.par_chunks_mut(to).zip(gradient.par_chunks(from)).for_each(|(to, gradient)| {
        let from = &gradient[place * from / joined..(place + 1) * from / joined];
        isa.run(Relayout::ToBlocks { from, channels, to });
    });
    all
}
