//! States of a cell in parts: a part of the channels goes through the operations of an edge, the others around them.
//!
//! Such states are planes, `[batch][channel][position]`, so that the shuffle costs nothing: channel `c` of part `p`
//! of what an edge makes is channel `c * parts + p` of its node. Operations read the first part of a state in blocks.
//! On the way back a state gathers in one pass what all nodes that read it pass around the operations.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::buffer::Buffer;
use super::cell::{Blocks, Values};
use super::image::{self, Planes};
use super::layout::{From, Layout};
use super::pass::Relayout;
use super::run::{self, CHUNKS};

/// A state of the whole batch.
pub struct State {
    /// `[batch][channel][position]`.
    pub planes: Buffer,
    /// The first part, in blocks.
    pub first: Buffer,
}

/// An edge that lets channels by: forward into a node, backward out of the state that it reads.
#[derive(Clone, Copy)]
struct Way<'a> {
    /// Forward the state that is read, backward the gradient of the node; of the whole batch.
    planes: &'a [f32],
    stride: usize,
    weight: f32,
}

/// Channels of a state and their size.
#[derive(Clone, Copy, Debug)]
struct Shape {
    channels: usize,
    parts: usize,
    size: [usize; 2],
}

impl Shape {
    fn of(layout: &Layout, state: usize) -> Self {
        Self { channels: layout.channels, parts: layout.parts, size: layout.sizes[state] }
    }

    fn positions(self) -> usize {
        self.size[0] * self.size[1]
    }

    /// Values of an image.
    fn len(self) -> usize {
        self.channels * self.positions()
    }

    /// Channels of a part.
    fn width(self) -> usize {
        self.channels / self.parts
    }

    /// Where a node has what the operations make.
    fn mixed(self) -> Planes {
        Planes { channels: self.width(), apart: self.parts }
    }

    /// Of each channel that goes by, its number where it is read and in the node.
    fn others(self) -> impl Iterator<Item = [usize; 2]> {
        let width = self.width();
        (width..self.channels).map(move |read| [read, read % width * self.parts + read / width])
    }
}

/// Images of a chunk.
fn chunk(layout: &Layout) -> usize {
    layout.batch.div_ceil(CHUNKS)
}

impl State {
    /// From the mixed sum of the edges into a state; `planes` are those of the states before it.
    pub fn new(
        layout: &Layout,
        state: usize,
        sum: &[f32],
        planes: &Blocks,
        values: &Values<'_>,
    ) -> Self {
        let (shape, isa) = (Shape::of(layout, state), layout.isas.nodes);
        let ways = layout.edges_into(state).filter_map(|(_, link)| {
            let (From::State(from), Some(weight)) = (link.from, link.around) else { return None };
            let planes = planes[from].as_deref().expect("states that are read are kept");
            Some(Way { planes, stride: link.plan.stride, weight: values.mixing[weight] })
        });
        let ways: Vec<_> = ways.collect();
        let through = Planes::all(shape.width());
        let (sum_len, first_len) =
            (sum.len() / layout.batch, through.blocked(isa.lanes(), shape.positions()));
        let mut planes = Buffer::new(layout.batch * shape.len());
        let mut first = Buffer::new(layout.batch * first_len);
        let images = planes.par_chunks_mut(shape.len()).zip(first.par_chunks_mut(first_len));
        images.enumerate().with_min_len(chunk(layout)).for_each(|(number, (planes, first))| {
            let sum = &sum[number * sum_len..(number + 1) * sum_len];
            if ways.is_empty() {
                let (all, to) = (Planes::all(shape.channels), &mut *planes);
                layout.isas.inputs.run(Relayout::FromBlocks { from: sum, planes: all, to });
            } else {
                isa.run(Node { shape, number, mixed: sum, ways: &ways, planes: &mut *planes });
            }
            let from = &planes[..shape.width() * shape.positions()];
            isa.run(Relayout::ToBlocks { from, planes: through, to: first });
        });
        Self { planes, first }
    }
}

/// Writes the planes of a state into their place among the joined ones of the output.
pub fn join(layout: &Layout, planes: &[f32], out: &mut [f32], [place, joined]: [usize; 2]) {
    let to = out.len() / layout.batch;
    let images = out.par_chunks_mut(to).zip(planes.par_chunks(to / joined));
    images.with_min_len(chunk(layout)).for_each(|(out, planes)| {
        out[place * to / joined..(place + 1) * to / joined].copy_from_slice(planes);
    });
}

/// An image of a node.
struct Node<'a> {
    shape: Shape,
    number: usize,
    mixed: &'a [f32],
    ways: &'a [Way<'a>],
    planes: &'a mut [f32],
}

impl WithSimd for Node<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { shape, number, mixed, ways, planes } = self;
        image::from_blocks(simd, mixed, shape.mixed(), planes);
        let positions = shape.positions();
        for [read, node] in shape.others() {
            let to = &mut planes[node * positions..(node + 1) * positions];
            for (way_number, way) in ways.iter().enumerate() {
                let read_positions = positions * way.stride * way.stride;
                let first = (number * shape.channels + read) * read_positions;
                let from = &way.planes[first..first + read_positions];
                if way_number == 0 {
                    to.fill(0.0);
                }
                match way.stride {
                    1 => add_scaled(to, from, way.weight),
                    _ => {
                        let columns = shape.size[1];
                        let rows = to.chunks_exact_mut(columns).zip(from.chunks_exact(4 * columns));
                        rows.for_each(|(to, from)| add_pooled(to, from, way.weight));
                    }
                }
            }
        }
    }
}

/// The way back of a cell's gradients around the operations.
pub struct Backward<'a> {
    layout: &'a Layout,
    values: &'a Values<'a>,
    /// Of the states, forward.
    planes: &'a Blocks,
    /// Of the output, and which states are joined there.
    joined: (&'a [f32], &'a [usize]),
    with_weights: bool,
    /// Of the nodes that it has come through, planes.
    of_nodes: Blocks,
    /// Gradients of mixing weights, with their places.
    pub weights: Vec<(usize, f32)>,
}

impl<'a> Backward<'a> {
    pub fn new(
        layout: &'a Layout,
        values: &'a Values<'a>,
        planes: &'a Blocks,
        joined: (&'a [f32], &'a [usize]),
        with_weights: bool,
    ) -> Self {
        let of_nodes = layout.sizes.iter().map(|_| None).collect();
        Self { layout, values, planes, joined, with_weights, of_nodes, weights: Vec::new() }
    }

    /// The gradient of a state in blocks, if it has one: of an input's state, or of what the operations make of a
    /// node. `first` is what comes back to the first part through the operations.
    pub fn state(&mut self, state: usize, first: Option<&[f32]>) -> Option<Buffer> {
        let layout = self.layout;
        let shape = Shape::of(layout, state);
        let (gradient, concat) = self.joined;
        let place = concat.iter().position(|&each| each == state);
        let links = layout.links.iter().filter(|link| link.from == From::State(state));
        let ways = links.filter_map(|link| {
            let (planes, weight) = (self.of_nodes[link.to].as_deref()?, link.around?);
            let way = Way { planes, stride: link.plan.stride, weight: self.values.mixing[weight] };
            Some((weight, way))
        });
        let (places, ways): (Vec<_>, Vec<_>) = ways.unzip();
        let joined = place.map(|place| (gradient, [place, concat.len()]));
        if joined.is_none() && ways.is_empty() {
            return None;
        }
        let state_planes = self.planes[state].as_deref().unwrap_or_default();
        let with_weights = self.with_weights && !ways.is_empty();
        let sources = Sources { joined, first, ways: &ways, state: state_planes, with_weights };
        let (planes, weights) = gather(layout, shape, &sources);
        self.weights.extend(places.into_iter().zip(weights));
        let is_input = state < layout.num_inputs();
        let (isa, of) = match is_input {
            true => (layout.isas.inputs, Planes::all(shape.channels)),
            false => (layout.isas.nodes, shape.mixed()),
        };
        let len = shape.len();
        let image = |image: usize| &planes[image * len..(image + 1) * len];
        let blocks = run::in_blocks(isa, layout, state, of, image);
        self.of_nodes[state] = (!is_input).then_some(planes);
        Some(blocks)
    }
}

/// What the gradient of a state is made of.
struct Sources<'a> {
    /// Of the output, with the state's place among the joined ones and their number.
    joined: Option<(&'a [f32], [usize; 2])>,
    /// Of the first part, in blocks, from the operations.
    first: Option<&'a [f32]>,
    ways: &'a [Way<'a>],
    /// The state itself, planes, where something reads it.
    state: &'a [f32],
    /// Whether the gradients of the weights are asked for.
    with_weights: bool,
}

/// The gradient of a state, `[batch][channel][position]`, and those of the weights of its ways.
fn gather(layout: &Layout, shape: Shape, sources: &Sources<'_>) -> (Buffer, Vec<f32>) {
    let count = sources.ways.len().max(1);
    let mut planes = Buffer::new(layout.batch * shape.len());
    let mut sums = vec![0.0; layout.batch * count];
    let per_chunk = chunk(layout);
    planes
        .par_chunks_mut(per_chunk * shape.len())
        .zip(sums.par_chunks_mut(per_chunk * count))
        .enumerate()
        .with_max_len(1)
        .for_each(|(chunk, (planes, sums))| {
            let start = chunk * per_chunk;
            layout.isas.nodes.run(Gather { shape, start, sources, planes, sums });
        });
    let weight = |way: usize| sums.iter().skip(way).step_by(count).sum::<f64>() as f32;
    let weights = if sources.with_weights { (0..count).map(weight).collect() } else { Vec::new() };
    (planes, weights)
}

/// [`gather`] of the images from `start` on.
struct Gather<'a> {
    shape: Shape,
    start: usize,
    sources: &'a Sources<'a>,
    planes: &'a mut [f32],
    /// `[image][way]`.
    sums: &'a mut [f64],
}

impl WithSimd for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { shape, start, sources, planes, sums } = self;
        let &Sources { joined, first, ways, state, with_weights } = sources;
        let (len, positions) = (shape.len(), shape.positions());
        let through = shape.width() * positions;
        let mut room = Buffer::new(through);
        for (number, to) in planes.chunks_exact_mut(len).enumerate() {
            let image = start + number;
            match joined {
                Some((all, [place, joined])) => {
                    to.copy_from_slice(&all[(image * joined + place) * len..][..len]);
                }
                None => to.fill(0.0),
            }
            if let Some(blocks) = first {
                let first_part = Planes::all(shape.width());
                let blocks_len = first_part.blocked(S::F32_LANES, positions);
                let blocks = &blocks[image * blocks_len..][..blocks_len];
                image::from_blocks(simd, blocks, first_part, &mut room);
                add_scaled(&mut to[..through], &room, 1.0);
            }
            let sums = &mut sums[number * ways.len()..][..ways.len()];
            for [read, node] in shape.others().filter(|_| !ways.is_empty()) {
                let to = &mut to[read * positions..][..positions];
                let x = &state[image * len + read * positions..][..positions];
                for (way, sum) in ways.iter().zip(&mut *sums) {
                    let node_positions = positions / (way.stride * way.stride);
                    let first = (image * shape.channels + node) * node_positions;
                    let gradient = &way.planes[first..][..node_positions];
                    match way.stride {
                        1 => {
                            add_scaled(to, gradient, way.weight);
                            if with_weights {
                                *sum += dot(gradient, x);
                            }
                        }
                        _ => {
                            let two = 2 * shape.size[1];
                            let rows = to.chunks_exact_mut(two).zip(x.chunks_exact(two));
                            for ((to, x), gradient) in rows.zip(gradient.chunks_exact(two / 4)) {
                                *sum += f64::from(pass_pooled(to, x, gradient, way.weight));
                            }
                        }
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn add_scaled(to: &mut [f32], from: &[f32], weight: f32) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += weight * from);
}

/// Sums side by side: one alone would wait for itself.
const SUMS: usize = 32;

#[inline(always)]
fn dot(first: &[f32], second: &[f32]) -> f64 {
    let mut sums = [0.0f32; SUMS];
    let (firsts, seconds) = (first.chunks_exact(SUMS), second.chunks_exact(SUMS));
    let rest = firsts.remainder().iter().zip(seconds.remainder());
    let rest: f64 = rest.map(|(first, second)| f64::from(first * second)).sum();
    for (firsts, seconds) in firsts.zip(seconds) {
        for (sum, (first, second)) in sums.iter_mut().zip(firsts.iter().zip(seconds)) {
            *sum += first * second;
        }
    }
    rest + sums.into_iter().map(f64::from).sum::<f64>()
}

/// The windows of 2x2 pixels in two rows.
#[inline(always)]
fn windows(rows: &[f32]) -> impl Iterator<Item = [f32; 4]> {
    let (top, bottom) = rows.split_at(rows.len() / 2);
    let pairs = top.as_chunks::<2>().0.iter().zip(bottom.as_chunks::<2>().0);
    pairs.map(|(&[a, b], &[c, d])| [a, b, c, d])
}

/// A value that is no number stays so.
#[inline(always)]
fn largest([a, b, c, d]: [f32; 4]) -> f32 {
    let larger = |a: f32, b: f32| if b > a || b.is_nan() { b } else { a };
    larger(larger(a, b), larger(c, d))
}

/// Adds the largest of each window of two rows.
#[inline(always)]
fn add_pooled(to: &mut [f32], rows: &[f32], weight: f32) {
    to.iter_mut().zip(windows(rows)).for_each(|(to, window)| *to += weight * largest(window));
}

/// Adds a row's gradient to the first of the largest of each window; returns the product of gradient and maxima.
#[inline(always)]
fn pass_pooled(to: &mut [f32], rows: &[f32], gradient: &[f32], weight: f32) -> f32 {
    let (top, bottom) = to.split_at_mut(rows.len() / 2);
    let to = top.as_chunks_mut::<2>().0.iter_mut().zip(bottom.as_chunks_mut::<2>().0);
    let mut product = 0.0;
    for ((([a, b], [c, d]), window), gradient) in to.zip(windows(rows)).zip(gradient) {
        let largest = largest(window);
        product += gradient * largest;
        let mut left = weight * gradient;
        for (to, value) in [a, b, c].into_iter().zip(window) {
            let own = if value == largest { left } else { 0.0 };
            *to += own;
            left -= own;
        }
        *d += left;
    }
    product
}
