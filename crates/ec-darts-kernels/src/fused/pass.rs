//! The passes over a chunk of images; a batch normalization ends a pass.

use pulp::{Simd, WithSimd};

use super::buffer::Buffer;
use super::convolve::{Convolution, Scratch};
use super::image;
use super::norm::Norms;
use super::plan::{Block, Padded, Plan, Term};
use super::run::Input;

/// What every pass reads.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub plan: &'a Plan,
    pub prepared: &'a [f32],
    pub input: Input<'a>,
}

/// One pass over the images from `start` on, as many as its buffers hold.
pub struct Pass<'a> {
    pub context: Context<'a>,
    pub start: usize,
    pub step: Step<'a>,
}

/// What a pass does.
pub enum Step<'a> {
    /// First blocks and pools: their maps and, where asked for, moments.
    First { maps: &'a mut [f32], moments: Option<&'a mut [f32]> },
    /// Second blocks, from the maps of the first.
    Second { norms: &'a Norms, maps: &'a mut [f32], moments: Option<&'a mut [f32]> },
    /// The mixed sum, added to what is there where `add`.
    Combine { norms: &'a Norms, maps: &'a [f32], sum: &'a mut [f32], add: bool },
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
    /// Backward through everything else.
    FirstBackward {
        norms: &'a Norms,
        maps: &'a [f32],
        gradient: &'a [f32],
        inner: &'a [f32],
        weights: Option<&'a mut [f32]>,
        to: &'a mut [f32],
        target: Target,
    },
}

/// How the gradient of what an edge reads is written.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    Planes,
    /// Added to what is there where `add`.
    Blocks {
        add: bool,
    },
}

/// An image from one layout to the other.
pub enum Relayout<'a> {
    ToBlocks { from: &'a [f32], channels: usize, to: &'a mut [f32] },
    FromBlocks { from: &'a [f32], channels: usize, to: &'a mut [f32] },
}

impl WithSimd for Relayout<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self {
            Self::ToBlocks { from, channels, to } => image::to_blocks(simd, from, channels, to),
            Self::FromBlocks { from, channels, to } => image::from_blocks(simd, from, channels, to),
        }
    }
}

impl WithSimd for Pass<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { context, start, step } = self;
        match step {
            Step::First { maps, moments } => first(simd, context, start, maps, moments),
            Step::Second { norms, maps, moments } => second(simd, context, norms, maps, moments),
            Step::Combine { norms, maps, sum, add } => {
                combine(simd, context, start, norms, maps, sum, add);
            }
            Step::Sums { norms, maps, gradient, sums } => {
                sum(simd, context, start, norms, [maps, gradient], sums);
            }
            Step::SecondBackward { norms, maps, gradient, inner, sums, weights } => {
                second_backward(simd, context, norms, [maps, gradient], inner, sums, weights);
            }
            Step::FirstBackward { norms, maps, gradient, inner, weights, to, target } => {
                let maps = [maps, gradient, inner];
                first_backward(simd, context, start, norms, maps, weights, (to, target));
            }
        }
    }
}

impl<'a> Context<'a> {
    /// An image of what the edge reads, in blocks; `room` is where planes are converted.
    #[inline(always)]
    fn image<'b, S: Simd>(&self, simd: S, number: usize, room: &'b mut [f32]) -> &'b [f32]
    where
        'a: 'b,
    {
        match self.input {
            Input::Planes(all) => {
                let len = self.plan.channels[0] * self.plan.size[0] * self.plan.size[1];
                let image = &all[number * len..(number + 1) * len];
                image::to_blocks(simd, image, self.plan.channels[0], room);
                room
            }
            Input::Blocks(all) => {
                let len = self.plan.input_len();
                &all[number * len..(number + 1) * len]
            }
        }
    }

    /// Room for [`Self::image`].
    fn room(&self) -> Buffer {
        Buffer::new(match self.input {
            Input::Planes(_) => self.plan.input_len(),
            Input::Blocks(_) => 0,
        })
    }

    fn padded(&self, geometry: Padded, blocks: usize) -> Buffer {
        Buffer::new(geometry.len() * blocks * self.plan.lanes)
    }

    fn convolution(&self, block: &'a Block, source: &'a [f32]) -> Convolution<'a> {
        Convolution { plan: self.plan, block, prepared: self.prepared, source }
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
    let mut room = context.room();
    let mut source = context.padded(plan.source, plan.blocks_of[0]);
    let mut scratch = Scratch::new(plan, false);
    let mut pooled = Buffer::new(map_len);
    for (number, maps) in maps.chunks_exact_mut(plan.maps_len().max(1)).enumerate() {
        let raw = context.image(simd, start + number, &mut room);
        let stats = moments.as_deref_mut().map(|all| {
            let len = (plan.num_norms * 2 * width).max(1);
            &mut all[number * len..(number + 1) * len]
        });
        image::pad(simd, raw, plan.source, None, plan.floor, &mut source);
        for (block, map) in plan.blocks.iter().zip(maps.chunks_exact_mut(map_len)) {
            if !block.second {
                context.convolution(block, &source).forward(simd, map, &mut scratch);
            }
        }
        let Some(stats) = stats else { continue };
        for (block, map) in plan.blocks.iter().zip(maps.chunks_exact(map_len)) {
            if !block.second {
                let to = &mut stats[2 * block.norm * width..][..2 * width];
                image::moments(simd, map, blocks, to);
            }
        }
        for term in &plan.terms {
            if let Term::Pool { max, norm: Some(norm), .. } = *term {
                image::pool(simd, plan, max, raw, &mut pooled);
                let to = &mut stats[2 * norm * width..][..2 * width];
                image::moments(simd, &pooled, blocks, to);
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
    let mut scratch = Scratch::new(plan, false);
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
                image::moments(simd, map, blocks, to);
            }
        }
    }
}

#[inline(always)]
fn combine<S: Simd>(
    simd: S,
    context: Context<'_>,
    start: usize,
    norms: &Norms,
    maps: &[f32],
    sum: &mut [f32],
    add: bool,
) {
    let plan = context.plan;
    let (map_len, blocks) = (plan.map_len(), plan.blocks_of[1]);
    let mut room = context.room();
    let mut pooled: Vec<Buffer> = plan.terms.iter().map(|_| Buffer::new(0)).collect();
    let reads_input = plan.terms.iter().any(|term| !matches!(term, Term::Conv { .. }));
    for (number, sum) in sum.chunks_exact_mut(map_len).enumerate() {
        let maps = &maps[number * plan.maps_len()..(number + 1) * plan.maps_len()];
        let raw: &[f32] =
            if reads_input { context.image(simd, start + number, &mut room) } else { &[] };
        for (term, pooled) in plan.terms.iter().zip(&mut pooled) {
            if let Term::Pool { max, .. } = *term {
                if pooled.is_empty() {
                    *pooled = Buffer::new(map_len);
                }
                image::pool(simd, plan, max, raw, pooled);
            }
        }
        let terms = plan.terms.iter().zip(&pooled).enumerate();
        let terms: Vec<(&[f32], &[f32])> = terms
            .map(|(position, (term, pooled))| {
                let map = match *term {
                    Term::Identity => raw,
                    Term::Pool { .. } => &pooled[..],
                    Term::Conv { block } => &maps[block * map_len..(block + 1) * map_len],
                };
                (map, norms.term_scale(position))
            })
            .collect();
        image::weighted_sum(simd, &terms, &norms.shift_sum, blocks, (sum, add));
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
    let (map_len, width, blocks) = (plan.map_len(), plan.width(), plan.blocks_of[1]);
    let mut room = context.room();
    let mut pooled = Buffer::new(map_len);
    let zeros = vec![0.0; width];
    let reads_input = plan.terms.iter().any(|term| !matches!(term, Term::Conv { .. }));
    for (number, gradient) in gradient.chunks_exact(map_len).enumerate() {
        let raw: &[f32] =
            if reads_input { context.image(simd, start + number, &mut room) } else { &[] };
        let maps = &maps[number * plan.maps_len()..(number + 1) * plan.maps_len()];
        let len = (1 + plan.terms.len()) * width;
        let (total, products) = sums[number * len..(number + 1) * len].split_at_mut(width);
        for (position, term) in plan.terms.iter().enumerate() {
            let (map, norm) = match *term {
                Term::Identity => (raw, None),
                Term::Pool { max, norm, .. } => {
                    image::pool(simd, plan, max, raw, &mut pooled);
                    (&pooled[..], norm)
                }
                Term::Conv { block } => {
                    (&maps[block * map_len..(block + 1) * map_len], Some(plan.blocks[block].norm))
                }
            };
            let mean = norm.map_or(&zeros[..], |norm| norms.mean(norm));
            let product = &mut products[position * width..(position + 1) * width];
            image::products(simd, gradient, map, mean, blocks, [&mut *total, product]);
        }
    }
}

#[inline(always)]
fn second_backward<S: Simd>(
    simd: S,
    context: Context<'_>,
    norms: &Norms,
    [maps, gradient]: [&[f32]; 2],
    inner: &mut [f32],
    sums: &mut [f32],
    mut weights: Option<&mut [f32]>,
) {
    let plan = context.plan;
    let (map_len, width, blocks) = (plan.map_len(), plan.width(), plan.blocks_of[1]);
    let mut middle = context.padded(plan.middle, blocks);
    let mut scratch = Scratch::new(plan, true);
    let len = plan.num_inner * map_len;
    for (number, inner) in inner.chunks_exact_mut(len.max(1)).enumerate() {
        let maps = &maps[number * plan.maps_len()..(number + 1) * plan.maps_len()];
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
            image::pad(simd, before, plan.middle, Some(affine), 0.0, &mut middle);
            let coefficients = norms.term_backward(position);
            let maps = [gradient, map];
            let weights = weights.as_deref_mut();
            let convolution = context.convolution(block, &middle);
            convolution.backward(simd, maps, coefficients, weights, (to, false), &mut scratch);
            image::clear_where_zero(simd, &middle, plan.middle, to);
            let sums = &mut sums[(number * plan.num_inner + place) * 2 * width..][..2 * width];
            let (total, product) = sums.split_at_mut(width);
            let mean = norms.mean(block.norm - 1);
            image::products(simd, to, before, mean, blocks, [total, product]);
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
    (to, target): (&mut [f32], Target),
) {
    let plan = context.plan;
    let (map_len, blocks) = (plan.map_len(), plan.blocks_of[1]);
    let mut room = context.room();
    let mut source = context.padded(plan.source, plan.blocks_of[0]);
    let mut scratch = Scratch::new(plan, true);
    let mut pooled = Buffer::new(map_len);
    let mut map_gradient = Buffer::new(map_len);
    let mut rectified = Buffer::new(plan.input_len());
    let mut whole = context.room();
    let zeros = vec![0.0; plan.width()];
    let reads_source = plan.blocks.iter().any(|block| !block.second);
    let image_len = match target {
        Target::Planes => plan.channels[0] * plan.size[0] * plan.size[1],
        Target::Blocks { .. } => plan.input_len(),
    };
    for (number, to) in to.chunks_exact_mut(image_len).enumerate() {
        let maps = &maps[number * plan.maps_len()..(number + 1) * plan.maps_len()];
        let gradient = &gradient[number * map_len..(number + 1) * map_len];
        let raw = context.image(simd, start + number, &mut room);
        if reads_source {
            image::pad(simd, raw, plan.source, None, plan.floor, &mut source);
        }
        // What passes no ReLU has a sum of its own: the edge's gradient, where that is in blocks.
        let (whole, planes): (&mut [f32], _) = match target {
            Target::Planes => (&mut whole, Some(to)),
            Target::Blocks { .. } => (to, None),
        };
        if !matches!(target, Target::Blocks { add: true }) {
            whole.fill(0.0);
        }
        let mut is_first = true;
        for (position, term) in plan.terms.iter().enumerate() {
            match *term {
                Term::Identity => {
                    let term = [(gradient, norms.term_scale(position))];
                    image::weighted_sum(simd, &term, &zeros, blocks, (&mut *whole, true));
                }
                Term::Pool { max, .. } => {
                    image::pool(simd, plan, max, raw, &mut pooled);
                    let coefficients = norms.term_backward(position);
                    let size = [blocks, map_len / blocks, 0];
                    let read = [gradient, &pooled[..]];
                    image::linear(simd, read, coefficients, size, &mut map_gradient);
                    let maps = [&pooled[..], &map_gradient[..]];
                    image::pool_backward(simd, plan, max, raw, maps, whole);
                }
                Term::Conv { block: last } => {
                    let number_of_first = if plan.blocks[last].second { last - 1 } else { last };
                    let block = &plan.blocks[number_of_first];
                    let map = &maps[number_of_first * map_len..(number_of_first + 1) * map_len];
                    let (gradient, coefficients) = match block.inner {
                        None => (gradient, norms.term_backward(position)),
                        Some(place) => {
                            let all = number * plan.num_inner + place;
                            let inner = &inner[all * map_len..(all + 1) * map_len];
                            (inner, norms.inner_backward(place))
                        }
                    };
                    let to = (&mut rectified[..], !is_first);
                    is_first = false;
                    let weights = weights.as_deref_mut();
                    let convolution = context.convolution(block, &source);
                    let maps = [gradient, map];
                    convolution.backward(simd, maps, coefficients, weights, to, &mut scratch);
                }
            }
        }
        if !is_first {
            image::add_where_above(simd, plan.floor, raw, &rectified, whole);
        }
        if let Some(planes) = planes {
            image::from_blocks(simd, whole, plan.channels[0], planes);
        }
    }
}
