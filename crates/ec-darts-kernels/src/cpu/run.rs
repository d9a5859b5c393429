//! The edges into a state over a batch: their passes, each over chunks of images.
//!
//! Edges run side by side, and so do the chunks of each: a thread that would wait for the last chunk
//! of a pass takes one of another edge instead.
//!
//! A batch normalization needs the whole batch, so an edge is a few passes over the images. Within
//! a pass one image goes through everything at once, in maps that stay in the caches. What a
//! backward pass needs of a batch normalization is linear in the gradient and the map, so it is
//! applied while both are read.

use rayon::prelude::*;

use super::buffer::Buffer;
use super::context::{Context, Input};
use super::direct::Direct;
use super::image::Planes;
use super::layout::{Layout, Link};
use super::mixing::Mixing;
use super::norm::Norms;
use super::pass::{Combine, Mixed, Pass, Relayout, Step, Target};
use super::plan::{Plan, Pool, Term};
use super::simd::Isa;

/// Chunks of a batch: a multiple of any sensible number of threads. Every other pass takes them
/// from the last to the first, which the pass before has left in the caches.
pub const CHUNKS: usize = 16;
/// Of small maps, whose chunks would take no longer than it takes to prepare them.
const SMALL_CHUNKS: usize = 8;
/// Values of such a map, of the output.
const SMALL: usize = 1 << 12;

/// Images of a chunk.
fn chunk(plan: &Plan) -> usize {
    plan.batch.div_ceil(if plan.map_len() <= SMALL { SMALL_CHUNKS } else { CHUNKS })
}

/// Values of a gradient that a thread sums at a time.
const SUM: usize = 1 << 11;

/// Where the gradient of what an edge reads goes.
#[derive(Debug)]
pub enum InputGradient<'a> {
    /// What it replaces, where it is asked for.
    Planes(Option<&'a mut [f32]>),
    /// Nobody asks for it, nor for the parameters'.
    Nowhere,
    /// A sum that it is added to, if there is one.
    Blocks(&'a mut Option<Buffer>),
}

/// Where an edge's gradients go.
#[derive(Debug)]
pub struct EdgeGradient<'a> {
    pub parameters: &'a mut [f32],
    pub mixing: &'a mut [f32],
    pub input: InputGradient<'a>,
}

/// What an edge's batch normalizations normalize with.
#[derive(Clone, Copy, Debug)]
pub enum Statistics<'a> {
    /// Mean and variance, `[norm][channel]` each.
    Given([&'a [f32]; 2]),
    /// Those of the batch; of its pools, as [`Run::pool_moments`] finds them.
    OfBatch { pools: &'a [f32] },
}

/// An edge with its values.
pub struct Run<'a> {
    isa: Isa,
    plan: &'a Plan,
    input: Input<'a>,
    parameters: &'a [f32],
    /// The parameters as the plan lays them out.
    prepared: Buffer,
}

impl<'a> Run<'a> {
    pub fn new(link: &'a Link, input: Input<'a>, parameters: &'a [f32]) -> Self {
        let Link { isa, plan, .. } = link;
        Self { isa: *isa, plan, input, parameters, prepared: plan.prepare(parameters) }
    }

    /// For what has no weights: [`Self::pool_moments`] and [`Self::direct`].
    pub fn without_weights(link: &'a Link, input: Input<'a>) -> Self {
        let Link { isa, plan, .. } = link;
        Self { isa: *isa, plan, input, parameters: &[], prepared: Buffer::new(0) }
    }

    fn chunk(&self) -> usize {
        chunk(self.plan)
    }

    /// Moments of some pools of what the edge reads, for each image and pool.
    pub fn pool_moments(&self, of: [bool; Pool::ALL.len()]) -> Buffer {
        let len = Pool::ALL.len() * 2 * self.plan.width();
        let mut all = Buffer::zeros(self.plan.batch * len);
        if of.contains(&true) {
            let chunks = all.par_chunks_mut(self.chunk() * len).enumerate().with_max_len(1);
            chunks.for_each(|(chunk, moments)| self.pass(chunk, Step::Pools { of, moments }));
        }
        all
    }

    /// The maps before each batch normalization, and what to scale them with for the mixed sum.
    pub fn forward(&self, statistics: Statistics<'_>, mixing: Mixing<'_>) -> (Norms, Buffer) {
        let plan = self.plan;
        let mut maps = Buffer::new(plan.batch * plan.maps_len().max(1));
        let mut norms = match statistics {
            Statistics::Given(given) => {
                let norms = Norms::given(plan, given, self.parameters);
                self.maps(&mut maps, &norms);
                norms
            }
            Statistics::OfBatch { pools } => self.maps_and_moments(&mut maps, pools),
        };
        norms.mix(plan, mixing);
        (norms, maps)
    }

    /// The part of the edge in a state.
    fn mixed<'b>(&'b self, norms: &'b Norms, maps: &'b [f32]) -> Mixed<'b> {
        Mixed { context: self.context(), norms, maps }
    }

    /// Writes the gradients of parameters and mixing weights and passes on what convolutions give
    /// the input; returns the normalizations with the coefficients of their backward pass.
    pub fn backward(
        &self,
        norms: &Norms,
        maps: Option<&Buffer>,
        mixing: Mixing<'_>,
        gradient: &[f32],
        with_parameters: bool,
        to: EdgeGradient<'_>,
    ) -> Norms {
        let EdgeGradient { parameters, mixing: of_mixing, input: to } = to;
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
        let mut sums = Buffer::zeros(plan.batch * sums_len);
        sums.par_chunks_mut(self.chunk() * sums_len)
            .zip(maps.par_chunks(self.chunk() * maps_len))
            .zip(gradient.par_chunks(self.chunk() * map_len))
            .enumerate()
            .with_max_len(1)
            .for_each(|(chunk, ((sums, maps), gradient))| {
                self.pass(chunk, Step::Sums { norms: &norms, maps, gradient, sums });
            });
        of_mixing.copy_from_slice(&norms.take_sums(plan, &sums, mixing, parameters));
        if plan.blocks.is_empty() || matches!(to, InputGradient::Nowhere) {
            return norms;
        }

        let chunks = plan.batch.div_ceil(self.chunk());
        let weights_len = if with_parameters { plan.gradient_len.max(1) } else { 1 };
        let mut weights = Buffer::new(chunks * weights_len);
        let inner_len = (plan.num_inner * map_len).max(1);
        let mut inner = Buffer::new(plan.batch * inner_len);
        if plan.num_inner > 0 {
            let sums_len = plan.num_inner * 2 * width;
            let mut sums = Buffer::zeros(plan.batch * sums_len);
            inner
                .par_chunks_mut(self.chunk() * inner_len)
                .zip(sums.par_chunks_mut(self.chunk() * sums_len))
                .zip(weights.par_chunks_mut(weights_len))
                .zip(maps.par_chunks(self.chunk() * maps_len))
                .zip(gradient.par_chunks(self.chunk() * map_len))
                .enumerate()
                .with_max_len(1)
                .rev()
                .for_each(|(chunk, ((((inner, sums), weights), maps), gradient))| {
                    weights.fill(0.0);
                    let weights = with_parameters.then_some(weights);
                    let norms = &norms;
                    self.pass(
                        chunk,
                        Step::SecondBackward { norms, maps, gradient, inner, sums, weights },
                    );
                });
            norms.take_inner_sums(plan, &sums, parameters);
        }

        let targets: Vec<_> = match to {
            InputGradient::Planes(Some(to)) => {
                let len = plan.channels[0] * plan.size[0] * plan.size[1];
                to.chunks_mut(self.chunk() * len).map(Target::Planes).collect()
            }
            InputGradient::Planes(None) => (0..chunks).map(|_| Target::Nowhere).collect(),
            InputGradient::Blocks(sum) => {
                let (add, len) = (sum.is_some(), plan.input_len());
                let sum = sum.get_or_insert_with(|| Buffer::new(plan.batch * len));
                sum.chunks_mut(self.chunk() * len).map(|to| Target::Blocks { to, add }).collect()
            }
            InputGradient::Nowhere => unreachable!("returned above"),
        };
        targets
            .into_par_iter()
            .zip(weights.par_chunks_mut(weights_len))
            .zip(maps.par_chunks(self.chunk() * maps_len))
            .zip(gradient.par_chunks(self.chunk() * map_len))
            .zip(inner.par_chunks(self.chunk() * inner_len))
            .enumerate()
            .with_max_len(1)
            .for_each(|(chunk, ((((to, weights), maps), gradient), inner))| {
                if plan.num_inner == 0 {
                    weights.fill(0.0);
                }
                let weights = with_parameters.then_some(weights);
                let norms = &norms;
                self.pass(chunk, Step::FirstBackward { norms, maps, gradient, inner, weights, to });
            });
        if with_parameters && plan.gradient_len > 0 {
            let (first, rest) = weights.split_at_mut(weights_len);
            // A few values of all chunks at a time, each sum in the order of the chunks.
            first.par_chunks_mut(SUM).enumerate().for_each(|(part, first)| {
                for chunk in rest.chunks_exact(weights_len) {
                    let values = &chunk[part * SUM..];
                    first.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
                }
            });
            plan.unpack_gradient(first, parameters);
        }
        norms
    }

    /// Adds what reaches the edge's input without a convolution.
    pub fn direct(&self, direct: &Direct<'_>, to: &mut Option<Buffer>) {
        let (len, add) = (self.plan.input_len(), to.is_some());
        let to = to.get_or_insert_with(|| Buffer::new(self.plan.batch * len));
        to.par_chunks_mut(self.chunk() * len).enumerate().with_max_len(1).for_each(
            |(chunk, to)| {
                self.pass(chunk, Step::Direct { direct, to, add });
            },
        );
    }

    /// Moments of pools into their places among those of all normalizations.
    fn place_pools(&self, pools: &[f32], all: &mut [f32]) {
        let plan = self.plan;
        let len = 2 * plan.width();
        for term in &plan.terms {
            let Term::Pool { pool, norm: Some(norm) } = *term else { continue };
            let from = pools.chunks_exact(len).skip(pool as usize).step_by(Pool::ALL.len());
            let to = all.chunks_exact_mut(len).skip(norm).step_by(plan.num_norms);
            to.zip(from).for_each(|(to, from)| to.copy_from_slice(from));
        }
    }

    fn pass(&self, chunk: usize, step: Step<'_>) {
        self.isa.run(Pass { context: self.context(), start: chunk * self.chunk(), step });
    }

    fn context(&self) -> Context<'_> {
        Context { plan: self.plan, prepared: &self.prepared, input: self.input }
    }

    /// The maps before each batch normalization, with the statistics that `norms` holds.
    fn maps(&self, maps: &mut Buffer, norms: &Norms) {
        let len = self.chunk() * self.plan.maps_len().max(1);
        maps.par_chunks_mut(len).enumerate().with_max_len(1).for_each(|(chunk, maps)| {
            self.pass(chunk, Step::First { maps: &mut *maps, moments: None });
            self.pass(chunk, Step::Second { norms, maps, moments: None });
        });
    }

    /// The maps before each batch normalization, and the statistics of the batch.
    fn maps_and_moments(&self, maps: &mut Buffer, pools: &[f32]) -> Norms {
        let plan = self.plan;
        let len = self.chunk() * plan.maps_len().max(1);
        let moments_len = (plan.num_norms * 2 * plan.width()).max(1);
        let mut all = Buffer::zeros(plan.batch * moments_len);
        self.place_pools(pools, &mut all);
        maps.par_chunks_mut(len)
            .zip(all.par_chunks_mut(self.chunk() * moments_len))
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
            .zip(all.par_chunks_mut(self.chunk() * moments_len))
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

/// A state: the sum of the edges into it.
pub fn combine(edges: &[(Run<'_>, Norms, Buffer)]) -> Buffer {
    let [(Run { isa, plan, .. }, ..), ..] = edges else { panic!("a state has an edge") };
    let mixed = edges.iter().map(|(run, norms, maps)| run.mixed(norms, maps));
    let mixed: Vec<_> = mixed.collect();
    let mut sum = Buffer::new(plan.batch * plan.map_len());
    let chunk = chunk(plan);
    sum.par_chunks_mut(chunk * plan.map_len())
        .enumerate()
        .with_max_len(1)
        .for_each(|(number, sum)| isa.run(Combine { edges: &mixed, start: number * chunk, sum }));
    sum
}

/// What an edge reads of the whole batch, in blocks.
pub fn to_blocks(link: &Link, planes: &[f32]) -> Buffer {
    let plan = &link.plan;
    let (from, to) = (planes.len() / plan.batch, plan.input_len());
    let mut all = Buffer::new(plan.batch * to);
    all.par_chunks_mut(to).zip(planes.par_chunks(from)).for_each(|(to, from)| {
        let planes = Planes::all(plan.channels[0]);
        link.isa.run(Relayout::ToBlocks { from, planes, to });
    });
    all
}

/// What an edge reads of the whole batch, in planes.
pub fn to_planes(link: &Link, blocks: &[f32], planes: &mut [f32]) {
    let plan = &link.plan;
    let (from, to) = (plan.input_len(), planes.len() / plan.batch);
    planes.par_chunks_mut(to).zip(blocks.par_chunks(from)).for_each(|(to, from)| {
        let planes = Planes::all(plan.channels[0]);
        link.isa.run(Relayout::FromBlocks { from, planes, to });
    });
}

/// Writes a state into its place among the joined ones of the output.
pub fn join(layout: &Layout, state: &[f32], out: &mut [f32], [place, joined]: [usize; 2]) {
    let (from, planes) = (state.len() / layout.batch, Planes::all(layout.channels));
    let to = out.len() / layout.batch;
    out.par_chunks_mut(to).zip(state.par_chunks(from)).for_each(|(out, state)| {
        let to = &mut out[place * to / joined..(place + 1) * to / joined];
        layout.isas.inputs.run(Relayout::FromBlocks { from: state, planes, to });
    });
}

/// The gradient of a state among the joined ones of the output.
pub fn part(
    layout: &Layout,
    state: usize,
    gradient: &[f32],
    [place, joined]: [usize; 2],
) -> Buffer {
    let from = gradient.len() / layout.batch;
    let planes = Planes::all(layout.channels);
    in_blocks(layout.isas.inputs, layout, state, planes, |image| {
        &gradient[image * from + place * from / joined..][..from / joined]
    })
}

/// Channels of a state of the whole batch in blocks, from the planes of each image.
pub fn in_blocks<'a>(
    isa: Isa,
    layout: &Layout,
    state: usize,
    planes: Planes,
    of_image: impl Fn(usize) -> &'a [f32] + Sync,
) -> Buffer {
    let len = planes.blocked(isa.lanes(), layout.sizes[state].iter().product());
    let mut all = Buffer::new(layout.batch * len);
    all.par_chunks_mut(len).enumerate().for_each(|(image, to)| {
        isa.run(Relayout::ToBlocks { from: of_image(image), planes, to });
    });
    all
}
