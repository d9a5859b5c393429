//! The edges into a state over a batch: their passes, each over chunks of images.
//!
//! Edges run side by side, and so do the chunks of each: a thread that would wait for the last chunk
//! of a pass takes one of another edge instead.
//!
//! A batch normalization needs the whole batch, so an edge is a few passes over the images. Within
//! a pass one image goes through all operations at once, in maps that stay in the caches. The
//! backward pass of a batch normalization is linear in the gradient and the map, so it is applied
//! while both are read.

use rayon::prelude::*;

use super::buffer::Buffer;
use super::context::{Context, Input};
use super::direct::Direct;
use super::graph::{Graph, Link};
use super::image::Planes;
use super::mixing::Mixing;
use super::norm::Norms;
use super::pass::{Combine, Mixed, Pass, Relayout, Target, Task};
use super::plan::{EdgePlan, Pool, Term};
use super::simd::Isa;
use crate::extension::Wanted;

/// Number of chunks of a batch: a multiple of any sensible number of threads. Every other pass
/// takes the chunks from the last to the first, because the previous pass has left the last ones in
/// the caches.
pub const CHUNKS: usize = 16;
/// Number of chunks of small maps; more chunks would take longer to prepare than to compute.
const SMALL_CHUNKS: usize = 8;
/// Largest number of values of a small map of the output.
const SMALL: usize = 1 << 12;

/// Number of images per chunk.
fn chunk(plan: &EdgePlan) -> usize {
    plan.batch.div_ceil(if plan.map_len() <= SMALL { SMALL_CHUNKS } else { CHUNKS })
}

/// Number of values of a gradient that a thread sums at a time.
const SUM: usize = 1 << 11;

/// The target of the gradient of an edge's source.
#[derive(Debug)]
pub enum InputGradient<'a> {
    /// The values that it replaces, where it is requested.
    Planes(Option<&'a mut [f32]>),
    /// Neither this gradient nor that of the parameters is requested.
    Nowhere,
    /// A sum to which it is added, if there is one.
    Blocks(&'a mut Option<Buffer>),
}

/// The targets of an edge's gradients.
#[derive(Debug)]
pub struct EdgeGradient<'a> {
    pub parameters: &'a mut [f32],
    pub mixing: &'a mut [f32],
    pub input: InputGradient<'a>,
}

/// The mean and variance that an edge's batch normalizations use.
#[derive(Clone, Copy, Debug)]
pub enum Statistics<'a> {
    /// Mean and variance, `[norm][channel]` each.
    Given([&'a [f32]; 2]),
    /// Those of the batch; of its pools, as [`EdgeRun::pool_moments`] finds them.
    OfBatch { pools: &'a [f32] },
}

/// An edge with its values.
pub struct EdgeRun<'a> {
    isa: Isa,
    plan: &'a EdgePlan,
    input: Input<'a>,
    parameters: &'a [f32],
    /// The parameters in the layout of the plan.
    prepared: Buffer,
}

impl<'a> EdgeRun<'a> {
    pub fn new(link: &'a Link, input: Input<'a>, parameters: &'a [f32]) -> Self {
        let Link { isa, plan, .. } = link;
        Self { isa: *isa, plan, input, parameters, prepared: plan.prepare(parameters) }
    }

    /// An edge without parameters, for [`Self::pool_moments`] and [`Self::direct`].
    pub fn without_weights(link: &'a Link, input: Input<'a>) -> Self {
        let Link { isa, plan, .. } = link;
        Self { isa: *isa, plan, input, parameters: &[], prepared: Buffer::new(0) }
    }

    fn chunk(&self) -> usize {
        chunk(self.plan)
    }

    /// Moments of some pools of the edge's source, for each image and pool.
    pub fn pool_moments(&self, of: [bool; Pool::ALL.len()]) -> Buffer {
        let len = Pool::ALL.len() * 2 * self.plan.width();
        let mut all = Buffer::zeros(self.plan.batch * len);
        if of.contains(&true) {
            let chunks = all.par_chunks_mut(self.chunk() * len).enumerate().with_max_len(1);
            chunks.for_each(|(chunk, moments)| self.pass(chunk, Task::Pools { of, moments }));
        }
        all
    }

    /// The maps before each batch normalization, and their scales in the mixed sum.
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

    /// Writes the gradients of parameters and mixing weights, and passes on the gradient of the
    /// input through convolutions; returns the normalizations with the coefficients of their
    /// backward pass.
    pub fn backward(
        &self,
        norms: &Norms,
        maps: Option<&Buffer>,
        mixing: Mixing<'_>,
        gradient: &[f32],
        wanted: &Wanted,
        to: EdgeGradient<'_>,
    ) -> Norms {
        let EdgeGradient { parameters, mixing: of_mixing, input: to } = to;
        let (plan, with_parameters) = (self.plan, wanted.parameters);
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
        // Without a normalization they are those of the mixing weights alone.
        if plan.num_norms > 0 || wanted.mixing {
            sums.par_chunks_mut(self.chunk() * sums_len)
                .zip(maps.par_chunks(self.chunk() * maps_len))
                .zip(gradient.par_chunks(self.chunk() * map_len))
                .enumerate()
                .with_max_len(1)
                .for_each(|(chunk, ((sums, maps), gradient))| {
                    self.pass(chunk, Task::Sums { norms: &norms, maps, gradient, sums });
                });
        }
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
                        Task::SecondBackward { norms, maps, gradient, inner, sums, weights },
                    );
                });
            norms.take_inner_sums(plan, &sums, parameters);
        }

        let targets: Vec<_> = match to {
            InputGradient::Planes(Some(to)) => {
                let len = plan.planes_len();
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
                self.pass(chunk, Task::FirstBackward { norms, maps, gradient, inner, weights, to });
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

    /// Adds the gradient of the edge's input through operations without weights.
    pub fn direct(&self, direct: &Direct<'_>, to: &mut Option<Buffer>) {
        let (len, add) = (self.plan.input_len(), to.is_some());
        let to = to.get_or_insert_with(|| Buffer::new(self.plan.batch * len));
        to.par_chunks_mut(self.chunk() * len).enumerate().with_max_len(1).for_each(
            |(chunk, to)| {
                self.pass(chunk, Task::Direct { direct, to, add });
            },
        );
    }

    /// Copies the moments of pools to their places among those of all normalizations.
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

    fn pass(&self, chunk: usize, task: Task<'_>) {
        self.isa.run(Pass { context: self.context(), start: chunk * self.chunk(), task });
    }

    fn context(&self) -> Context<'_> {
        Context { plan: self.plan, prepared: &self.prepared, input: self.input }
    }

    /// The maps before each batch normalization, with the statistics of `norms`.
    fn maps(&self, maps: &mut Buffer, norms: &Norms) {
        if self.plan.blocks.is_empty() {
            return;
        }
        let len = self.chunk() * self.plan.maps_len().max(1);
        maps.par_chunks_mut(len).enumerate().with_max_len(1).for_each(|(chunk, maps)| {
            self.pass(chunk, Task::First { maps: &mut *maps, moments: None });
            self.pass(chunk, Task::Second { norms, maps, moments: None });
        });
    }

    /// The maps before each batch normalization, and the statistics of the batch.
    fn maps_and_moments(&self, maps: &mut Buffer, pools: &[f32]) -> Norms {
        let plan = self.plan;
        let len = self.chunk() * plan.maps_len().max(1);
        let moments_len = (plan.num_norms * 2 * plan.width()).max(1);
        let mut all = Buffer::zeros(plan.batch * moments_len);
        self.place_pools(pools, &mut all);
        if !plan.blocks.is_empty() {
            maps.par_chunks_mut(len)
                .zip(all.par_chunks_mut(self.chunk() * moments_len))
                .enumerate()
                .with_max_len(1)
                .for_each(|(chunk, (maps, moments))| {
                    self.pass(chunk, Task::First { maps, moments: Some(moments) });
                });
        }
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
                self.pass(chunk, Task::Second { norms, maps, moments: Some(moments) });
            });
        Norms::from_moments(plan, &all, self.parameters)
    }
}

/// A state: the sum of the edges into it.
pub fn combine(edges: &[(EdgeRun<'_>, Norms, Buffer)]) -> Buffer {
    let [(EdgeRun { isa, plan, .. }, ..), ..] = edges else { panic!("a state has an edge") };
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

/// The source of an edge, of the whole batch, in blocks.
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

/// The source of an edge, of the whole batch, in planes.
pub fn to_planes(link: &Link, blocks: &[f32], planes: &mut [f32]) {
    let plan = &link.plan;
    let (from, to) = (plan.input_len(), planes.len() / plan.batch);
    planes.par_chunks_mut(to).zip(blocks.par_chunks(from)).for_each(|(to, from)| {
        let planes = Planes::all(plan.channels[0]);
        link.isa.run(Relayout::FromBlocks { from, planes, to });
    });
}

/// Writes a state into its place among the joined states of the output.
pub fn join(graph: &Graph, state: &[f32], out: &mut [f32], [place, joined]: [usize; 2]) {
    let (from, planes) = (state.len() / graph.batch, Planes::all(graph.channels));
    let to = out.len() / graph.batch;
    out.par_chunks_mut(to).zip(state.par_chunks(from)).for_each(|(out, state)| {
        let to = &mut out[place * to / joined..(place + 1) * to / joined];
        graph.isas.inputs.run(Relayout::FromBlocks { from: state, planes, to });
    });
}

/// The gradient of a state among the joined states of the output.
pub fn part(graph: &Graph, state: usize, gradient: &[f32], [place, joined]: [usize; 2]) -> Buffer {
    let from = gradient.len() / graph.batch;
    let planes = Planes::all(graph.channels);
    in_blocks(graph.isas.inputs, graph, state, planes, |image| {
        &gradient[image * from + place * from / joined..][..from / joined]
    })
}

/// Channels of a state of the whole batch in blocks, from the planes of each image.
pub fn in_blocks<'a>(
    isa: Isa,
    graph: &Graph,
    state: usize,
    planes: Planes,
    of_image: impl Fn(usize) -> &'a [f32] + Sync,
) -> Buffer {
    let len = planes.blocked(isa.lanes(), graph.sizes[state].iter().product());
    let mut all = Buffer::new(graph.batch * len);
    all.par_chunks_mut(len).enumerate().for_each(|(image, to)| {
        isa.run(Relayout::ToBlocks { from: of_image(image), planes, to });
    });
    all
}
