//! States of a cell in parts: a part of the channels passes through the operations of an edge, the
//! others bypass them.
//!
//! Such states are planes, `[batch][channel][position]`, so that the shuffle costs nothing: channel
//! `c` of part `p` of an edge's output is channel `c * parts + p` of its node. Operations read the
//! first part of a state in blocks. Backward, one pass over a state collects the gradients from all
//! bypasses of nodes that read it.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::buffer::Buffer;
use super::cell::{Blocks, Values};
use super::graph::{Graph, Origin};
use super::image::{self, Planes};
use super::pass::Relayout;
use super::run::{self, CHUNKS};

/// A state of the whole batch.
pub struct State {
    /// `[batch][channel][position]`.
    pub planes: Buffer,
    /// The first part, in blocks.
    pub first: Buffer,
}

/// The bypass of an edge: forward into a node, backward out of the state that it reads.
#[derive(Clone, Copy)]
struct Way<'a> {
    /// Forward, the state that is read; backward, the gradient of the node; of the whole batch.
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
    fn of(graph: &Graph, state: usize) -> Self {
        Self { channels: graph.channels, parts: graph.parts, size: graph.sizes[state] }
    }

    fn positions(self) -> usize {
        self.size[0] * self.size[1]
    }

    /// Number of values of an image.
    fn len(self) -> usize {
        self.channels * self.positions()
    }

    /// Number of channels of a part.
    fn width(self) -> usize {
        self.channels / self.parts
    }

    /// The planes of a node that the operations make.
    fn mixed(self) -> Planes {
        Planes { channels: self.width(), apart: self.parts }
    }

    /// For each bypassing channel, its number in the state that is read and in the node.
    fn others(self) -> impl Iterator<Item = [usize; 2]> {
        let width = self.width();
        (width..self.channels).map(move |read| [read, read % width * self.parts + read / width])
    }
}

/// Images of a chunk.
fn chunk(graph: &Graph) -> usize {
    graph.batch.div_ceil(CHUNKS)
}

impl State {
    /// A state from the mixed sum of its edges; `planes` are those of the states before it.
    pub fn new(
        graph: &Graph,
        state: usize,
        sum: &[f32],
        planes: &Blocks,
        values: &Values<'_>,
    ) -> Self {
        let (shape, isa) = (Shape::of(graph, state), graph.isas.nodes);
        let ways = graph.edges_into(state..state + 1).filter_map(|(_, link)| {
            let (Origin::State(from), Some(weight)) = (link.from, link.around) else { return None };
            let planes = planes[from].as_deref().expect("states that are read are kept");
            Some(Way { planes, stride: link.plan.stride, weight: values.mixing[weight] })
        });
        let ways: Vec<_> = ways.collect();
        let through = Planes::all(shape.width());
        let (sum_len, first_len) =
            (sum.len() / graph.batch, through.blocked(isa.lanes(), shape.positions()));
        let mut planes = Buffer::new(graph.batch * shape.len());
        let mut first = Buffer::new(graph.batch * first_len);
        let images = planes.par_chunks_mut(shape.len()).zip(first.par_chunks_mut(first_len));
        images.enumerate().with_min_len(chunk(graph)).for_each(|(number, (planes, first))| {
            let sum = &sum[number * sum_len..(number + 1) * sum_len];
            if ways.is_empty() {
                let (all, to) = (Planes::all(shape.channels), &mut *planes);
                graph.isas.inputs.run(Relayout::FromBlocks { from: sum, planes: all, to });
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
pub fn join(graph: &Graph, planes: &[f32], out: &mut [f32], [place, joined]: [usize; 2]) {
    let to = out.len() / graph.batch;
    let images = out.par_chunks_mut(to).zip(planes.par_chunks(to / joined));
    images.with_min_len(chunk(graph)).for_each(|(out, planes)| {
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

/// The backward pass of a cell's gradients through the bypasses.
pub struct Backward<'a> {
    graph: &'a Graph,
    values: &'a Values<'a>,
    /// The planes of the states, from the forward pass.
    planes: &'a Blocks,
    /// The gradient of the output, and the states that are joined there.
    joined: (&'a [f32], &'a [usize]),
    with_weights: bool,
    /// The gradients of the processed nodes, as planes.
    of_nodes: Blocks,
    /// Gradients of mixing weights, with their places.
    pub weights: Vec<(usize, f32)>,
}

impl<'a> Backward<'a> {
    pub fn new(
        graph: &'a Graph,
        values: &'a Values<'a>,
        planes: &'a Blocks,
        joined: (&'a [f32], &'a [usize]),
        with_weights: bool,
    ) -> Self {
        let of_nodes = graph.sizes.iter().map(|_| None).collect();
        Self { graph, values, planes, joined, with_weights, of_nodes, weights: Vec::new() }
    }

    /// The gradient of a state in blocks, if it has one: of an input's state, or of the operations'
    /// output in a node. `first` is the gradient of the first part through the operations.
    pub fn state(&mut self, state: usize, first: Option<&[f32]>) -> Option<Buffer> {
        let graph = self.graph;
        let shape = Shape::of(graph, state);
        let (gradient, concat) = self.joined;
        let place = concat.iter().position(|&each| each == state);
        let links = graph.links.iter().filter(|link| link.from == Origin::State(state));
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
        let (planes, weights) = gather(graph, shape, &sources);
        self.weights.extend(places.into_iter().zip(weights));
        let is_input = state < graph.num_inputs();
        let (isa, of) = match is_input {
            true => (graph.isas.inputs, Planes::all(shape.channels)),
            false => (graph.isas.nodes, shape.mixed()),
        };
        let len = shape.len();
        let image = |image: usize| &planes[image * len..(image + 1) * len];
        let blocks = run::in_blocks(isa, graph, state, of, image);
        self.of_nodes[state] = (!is_input).then_some(planes);
        Some(blocks)
    }
}

/// The sources of the gradient of a state.
struct Sources<'a> {
    /// The gradient of the output, with the state's place among the joined states and their number.
    joined: Option<(&'a [f32], [usize; 2])>,
    /// The gradient of the first part through the operations, in blocks.
    first: Option<&'a [f32]>,
    ways: &'a [Way<'a>],
    /// The planes of the state itself, where a bypass reads it.
    state: &'a [f32],
    /// Whether the gradients of the weights are requested.
    with_weights: bool,
}

/// The gradient of a state, `[batch][channel][position]`, and those of the weights of its ways.
fn gather(graph: &Graph, shape: Shape, sources: &Sources<'_>) -> (Buffer, Vec<f32>) {
    let count = sources.ways.len().max(1);
    let mut planes = Buffer::new(graph.batch * shape.len());
    let mut sums = vec![0.0; graph.batch * count];
    let per_chunk = chunk(graph);
    planes
        .par_chunks_mut(per_chunk * shape.len())
        .zip(sums.par_chunks_mut(per_chunk * count))
        .enumerate()
        .with_max_len(1)
        .for_each(|(chunk, (planes, sums))| {
            let start = chunk * per_chunk;
            graph.isas.nodes.run(Gather { shape, start, sources, planes, sums });
        });
    let weight = |way: usize| sums.iter().skip(way).step_by(count).sum::<f64>() as f32;
    let weights = if sources.with_weights { (0..count).map(weight).collect() } else { Vec::new() };
    (planes, weights)
}

/// The part of [`gather`] for the images from `start` on.
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

/// Number of parallel sums: a single one would wait for itself.
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

/// The maximum of four values; a NaN stays a NaN.
#[inline(always)]
fn largest([a, b, c, d]: [f32; 4]) -> f32 {
    let larger = |a: f32, b: f32| if b > a || b.is_nan() { b } else { a };
    larger(larger(a, b), larger(c, d))
}

/// Adds the maximum of each window of two rows.
#[inline(always)]
fn add_pooled(to: &mut [f32], rows: &[f32], weight: f32) {
    to.iter_mut().zip(windows(rows)).for_each(|(to, window)| *to += weight * largest(window));
}

/// Adds a row's gradient to the first maximum of each window; returns the product of gradient and
/// maxima.
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
