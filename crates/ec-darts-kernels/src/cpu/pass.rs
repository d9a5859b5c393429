//! The passes over a chunk of images; a batch normalization ends a pass.

use pulp::{Simd, WithSimd};

use super::buffer::Buffer;
use super::context::Context;
use super::convolve::Scratch;
use super::direct::Direct;
use super::image::{self, Planes};
use super::norm::Norms;
use super::plan::{Pool, Strip, Term};
use super::planes::PointwiseOfPlanes;
use super::strips::Strips;
use super::sums;

/// One pass over the images from `start` on, as many as its buffers hold.
pub struct Pass<'a> {
    pub context: Context<'a>,
    pub start: usize,
    pub task: Task<'a>,
}

/// The work of a pass.
pub enum Task<'a> {
    /// Moments of the output of each requested pool, `[image][pool][mean, squares][width]`.
    Pools { of: [bool; Pool::ALL.len()], moments: &'a mut [f32] },
    /// First blocks: their maps and, where requested, moments.
    First { maps: &'a mut [f32], moments: Option<&'a mut [f32]> },
    /// Second blocks, from the maps of the first.
    Second { norms: &'a Norms, maps: &'a mut [f32], moments: Option<&'a mut [f32]> },
    /// Sums of the gradient with each term.
    Sums { norms: &'a Norms, maps: &'a [f32], gradient: &'a [f32], sums: &'a mut [f32] },
    /// Backward through the second blocks.
    SecondBackward {
        norms: &'a Norms,
        maps: &'a [f32],
        gradient: &'a [f32],
        inner: &'a mut [f32],
        sums: &'a mut [f32],
        weights: Option<&'a mut [f32]>,
    },
    /// Backward through the first blocks.
    FirstBackward {
        norms: &'a Norms,
        maps: &'a [f32],
        gradient: &'a [f32],
        inner: &'a [f32],
        weights: Option<&'a mut [f32]>,
        to: Target<'a>,
    },
    /// Backward through operations without weights, added to the existing values where `add`.
    Direct { direct: &'a Direct<'a>, to: &'a mut [f32], add: bool },
}

/// The target of the gradient of an edge's source.
#[derive(Debug)]
pub enum Target<'a> {
    Nowhere,
    Planes(&'a mut [f32]),
    /// Blocks, added to the existing values where `add`.
    Blocks {
        to: &'a mut [f32],
        add: bool,
    },
}

/// The part of an edge in a mixed sum, of the whole batch.
pub struct Mixed<'a> {
    pub context: Context<'a>,
    pub norms: &'a Norms,
    pub maps: &'a [f32],
}

/// Number of maps that are read in parallel: edges with few terms are summed together.
const MAPS: usize = 7;
/// Number of lanes of the widest registers.
const MOST_LANES: usize = 16;

/// The sum of all edges into a state, for the images from `start` on: each map is read once.
pub struct Combine<'a> {
    pub edges: &'a [Mixed<'a>],
    pub start: usize,
    pub sum: &'a mut [f32],
}

impl WithSimd for Combine<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { edges, start, sum } = self;
        let lanes = S::F32_LANES;
        // All edges into a state make maps of one shape.
        let plan = edges[0].context.plan;
        let mut pooled: Vec<_> = edges.iter().map(|edge| Strips::new(edge.context.plan)).collect();
        for (number, sum) in sum.chunks_exact_mut(plan.map_len()).enumerate() {
            let image = start + number;
            for strip in Strip::all(plan) {
                let channels = strip.block * lanes..(strip.block + 1) * lanes;
                let sum = &mut sum[strip.range(plan)];
                let mut scaled = Vec::with_capacity(2 * MAPS);
                let mut shift = [0.0; MOST_LANES];
                let mut add = false;
                for (position, (edge, pooled)) in edges.iter().zip(&mut pooled).enumerate() {
                    let &Mixed { context, norms, maps } = edge;
                    let maps = context.maps(image, maps);
                    let terms = pooled.terms(simd, context, image, maps, &strip).enumerate();
                    let scale = |term| &norms.term_scale(term, image)[channels.clone()];
                    scaled.extend(terms.map(|(term, map)| (map, scale(term))));
                    let shifts = &norms.shift_sum(image)[channels.clone()];
                    shift.iter_mut().zip(shifts).for_each(|(sum, shift)| *sum += shift);
                    if scaled.len() >= MAPS || position + 1 == edges.len() {
                        image::weighted_sum(simd, &scaled, &shift, 1, (&mut *sum, add));
                        scaled.clear();
                        (shift, add) = ([0.0; MOST_LANES], true);
                    }
                }
            }
        }
    }
}

/// An image from one layout to the other.
pub enum Relayout<'a> {
    ToBlocks { from: &'a [f32], planes: Planes, to: &'a mut [f32] },
    FromBlocks { from: &'a [f32], planes: Planes, to: &'a mut [f32] },
}

impl WithSimd for Relayout<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self {
            Self::ToBlocks { from, planes, to } => {
                image::to_blocks(simd, from, planes, f32::NEG_INFINITY, to);
            }
            Self::FromBlocks { from, planes, to } => image::from_blocks(simd, from, planes, to),
        }
    }
}

impl WithSimd for Pass<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { context, start, task } = self;
        match task {
            Task::Pools { of, moments } => pools(simd, context, start, of, moments),
            Task::First { maps, moments } => first(simd, context, start, maps, moments),
            Task::Second { norms, maps, moments } => second(simd, context, norms, maps, moments),
            Task::Sums { norms, maps, gradient, sums } => {
                sum(simd, context, start, norms, [maps, gradient], sums);
            }
            Task::SecondBackward { norms, maps, gradient, inner, sums, weights } => {
                let maps = [maps, gradient];
                second_backward(simd, context, start, norms, maps, [inner, sums], weights);
            }
            Task::FirstBackward { norms, maps, gradient, inner, weights, to } => {
                let maps = [maps, gradient, inner];
                first_backward(simd, context, start, norms, maps, weights, to);
            }
            Task::Direct { direct, to, add } => direct.backward(simd, context, start, (to, add)),
        }
    }
}

#[inline(always)]
fn pools<S: Simd>(
    simd: S,
    context: Context<'_>,
    start: usize,
    of: [bool; Pool::ALL.len()],
    moments: &mut [f32],
) {
    let plan = context.plan;
    let len = 2 * plan.width();
    let mut pooled = Buffer::new(plan.map_len());
    for (number, moments) in moments.chunks_exact_mut(Pool::ALL.len() * len).enumerate() {
        let image = context.blocks(start + number);
        for (pool, to) in Pool::ALL.into_iter().zip(moments.chunks_exact_mut(len)) {
            if of[pool as usize] {
                image::pool(simd, plan, pool, image, &mut pooled);
                sums::moments(simd, &pooled, plan.blocks_of[1], to);
            }
        }
    }
}

#[inline(always)]
fn first<S: Simd>(
    simd: S,
    context: Context<'_>,
    start: usize,
    maps: &mut [f32],
    mut moments: Option<&mut [f32]>,
) {
    let plan = context.plan;
    let (map_len, width, blocks) = (plan.map_len(), plan.width(), plan.blocks_of[1]);
    if let Some(pointwise) = PointwiseOfPlanes::of(context) {
        return pointwise.forward(simd, start, maps, moments);
    }
    let mut room = context.room();
    let mut source = context.padded(plan.source, plan.blocks_of[0]);
    let mut scratch = Scratch::new(plan, None);
    for (number, maps) in maps.chunks_exact_mut(plan.maps_len().max(1)).enumerate() {
        let raw = context.image(simd, start + number, &mut room);
        let source = context.source(simd, raw, &mut source);
        for (block, map) in plan.blocks.iter().zip(maps.chunks_exact_mut(map_len)) {
            if block.second {
                continue;
            }
            context.convolution(block, source).forward(simd, map, &mut scratch);
            if let Some(moments) = moments.as_deref_mut() {
                let len = plan.num_norms * 2 * width;
                let to = &mut moments[number * len + 2 * block.norm * width..][..2 * width];
                sums::moments(simd, map, blocks, to);
            }
        }
    }
}

#[inline(always)]
fn second<S: Simd>(
    simd: S,
    context: Context<'_>,
    norms: &Norms,
    maps: &mut [f32],
    mut moments: Option<&mut [f32]>,
) {
    let plan = context.plan;
    let (map_len, width, blocks) = (plan.map_len(), plan.width(), plan.blocks_of[1]);
    let mut middle = context.padded(plan.middle, blocks);
    let mut scratch = Scratch::new(plan, None);
    for (number, maps) in maps.chunks_exact_mut(plan.maps_len().max(1)).enumerate() {
        for (position, block) in plan.blocks.iter().enumerate().filter(|(_, block)| block.second) {
            let (before, map) = maps.split_at_mut(position * map_len);
            let (before, map) = (&before[(position - 1) * map_len..], &mut map[..map_len]);
            let affine = norms.affine(block.norm - 1);
            image::pad(simd, before, plan.middle, Some(affine), 0.0, &mut middle);
            context.convolution(block, &middle).forward(simd, map, &mut scratch);
            if let Some(moments) = moments.as_deref_mut() {
                let len = plan.num_norms * 2 * width;
                let to = &mut moments[number * len + 2 * block.norm * width..][..2 * width];
                sums::moments(simd, map, blocks, to);
            }
        }
    }
}

#[inline(always)]
fn sum<S: Simd>(
    simd: S,
    context: Context<'_>,
    start: usize,
    norms: &Norms,
    [maps, gradient]: [&[f32]; 2],
    sums: &mut [f32],
) {
    let plan = context.plan;
    let (lanes, map_len, width) = (S::F32_LANES, plan.map_len(), plan.width());
    let mut pooled = Strips::new(plan);
    let zeros = vec![0.0; width];
    let len = (1 + plan.terms.len()) * width;
    for (number, gradient) in gradient.chunks_exact(map_len).enumerate() {
        let maps = context.maps(number, maps);
        let to = &mut sums[number * len..(number + 1) * len];
        for strip in Strip::all(plan) {
            let channels = strip.block * lanes..(strip.block + 1) * lanes;
            let terms = pooled.terms(simd, context, start + number, maps, &strip);
            let centered = terms.zip(&plan.terms).map(|(map, term)| {
                let mean = plan.norm_of(term).map_or(&zeros[..], |norm| norms.mean(norm));
                (map, &mean[channels.clone()])
            });
            let centered: Vec<_> = centered.collect();
            let gradient = &gradient[strip.range(plan)];
            sums::products(simd, gradient, &centered, &mut to[channels.start..], width);
        }
    }
}

#[inline(always)]
fn second_backward<S: Simd>(
    simd: S,
    context: Context<'_>,
    start: usize,
    norms: &Norms,
    [maps, gradient]: [&[f32]; 2],
    [inner, sums]: [&mut [f32]; 2],
    mut weights: Option<&mut [f32]>,
) {
    let plan = context.plan;
    let (map_len, width, blocks) = (plan.map_len(), plan.width(), plan.blocks_of[1]);
    let mut middle = context.padded(plan.middle, blocks);
    let mut scratch = Scratch::new(plan, Some(plan.middle));
    let len = plan.num_inner * map_len;
    for (number, inner) in inner.chunks_exact_mut(len.max(1)).enumerate() {
        let maps = context.maps(number, maps);
        let gradient = &gradient[number * map_len..(number + 1) * map_len];
        for (position, term) in plan.terms.iter().enumerate() {
            let Term::Conv { block: last } = *term else { continue };
            let block = &plan.blocks[last];
            if !block.second {
                continue;
            }
            let before = &maps[(last - 1) * map_len..last * map_len];
            let map = &maps[last * map_len..(last + 1) * map_len];
            let place = plan.blocks[last - 1].inner.expect("a second block has a first");
            let to = &mut inner[place * map_len..(place + 1) * map_len];
            let affine = norms.affine(block.norm - 1);
            let weights = weights.as_deref_mut();
            if weights.is_some() {
                image::pad(simd, before, plan.middle, Some(affine), 0.0, &mut middle);
            }
            let coefficients = norms.term_backward(position).of(start + number);
            let maps = [gradient, map];
            let convolution = context.convolution(block, &middle);
            let to = Some((to, false));
            convolution.backward(simd, maps, coefficients, weights, to, &mut scratch);
            let to = &mut inner[place * map_len..(place + 1) * map_len];
            let sums = &mut sums[(number * plan.num_inner + place) * 2 * width..][..2 * width];
            let mean = norms.mean(block.norm - 1);
            sums::pass_positive(simd, before, affine, mean, blocks, to, sums);
        }
    }
}

#[inline(always)]
fn first_backward<S: Simd>(
    simd: S,
    context: Context<'_>,
    start: usize,
    norms: &Norms,
    [maps, gradient, inner]: [&[f32]; 3],
    mut weights: Option<&mut [f32]>,
    mut target: Target<'_>,
) {
    let plan = context.plan;
    let map_len = plan.map_len();
    if let Some(pointwise) = PointwiseOfPlanes::of(context) {
        let to = match target {
            Target::Planes(to) => Some(to),
            Target::Nowhere => None,
            Target::Blocks { .. } => unreachable!("the gradient of planes is planes"),
        };
        return pointwise.backward(simd, start, norms, [maps, gradient], weights, to);
    }
    let mut room = context.room();
    let mut source = context.padded(plan.source, plan.blocks_of[0]);
    let mut scratch = Scratch::new(plan, Some(plan.source));
    let mut rectified = Buffer::new(plan.input_len());
    for (number, gradient) in gradient.chunks_exact(map_len).enumerate() {
        let maps = context.maps(number, maps);
        // Only the weights' gradient reads it again.
        let source = match weights {
            Some(_) => {
                let image = context.image(simd, start + number, &mut room);
                context.source(simd, image, &mut source)
            }
            None => &source[..],
        };
        let mut is_first = true;
        for (position, term) in plan.terms.iter().enumerate() {
            let Term::Conv { block: last } = *term else { continue };
            let number_of_first = if plan.blocks[last].second { last - 1 } else { last };
            let block = &plan.blocks[number_of_first];
            let map = &maps[number_of_first * map_len..(number_of_first + 1) * map_len];
            let (gradient, coefficients) = match block.inner {
                None => (gradient, norms.term_backward(position).of(start + number)),
                Some(place) => {
                    let all = number * plan.num_inner + place;
                    let inner = &inner[all * map_len..(all + 1) * map_len];
                    (inner, norms.inner_backward(place))
                }
            };
            let to = (&mut rectified[..], !is_first);
            let to = (!matches!(target, Target::Nowhere)).then_some(to);
            is_first = false;
            let weights = weights.as_deref_mut();
            let convolution = context.convolution(block, source);
            convolution.backward(simd, [gradient, map], coefficients, weights, to, &mut scratch);
        }
        match &mut target {
            Target::Nowhere => {}
            Target::Planes(to) => {
                let to = &mut to[number * plan.planes_len()..][..plan.planes_len()];
                image::from_blocks(simd, &rectified, Planes::all(plan.channels[0]), to);
                let raw = context.raw(start + number);
                image::keep_above(simd, plan.floor, raw, to);
            }
            Target::Blocks { to, add } => {
                let len = plan.input_len();
                let to = &mut to[number * len..(number + 1) * len];
                let raw = context.raw(start + number);
                image::pass_above(simd, plan.floor, raw, &rectified, (to, *add));
            }
        }
    }
}
