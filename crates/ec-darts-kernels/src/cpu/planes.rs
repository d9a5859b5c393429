//! 1x1 convolutions of planes, those behind the inputs of a cell, forward and backward.
//!
//! The lanes of a register are positions here, and a tile has as many channels as lanes. So the
//! many channels of an input stay planes, and only the few of the output change their layout. A
//! value of the map or of the input's gradient is the same sum, in the same order, as in
//! [`super::tiles`]; the gradient of a weight is summed over other strips.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::buffer::Buffer;
use super::context::{Context, Input};
use super::gather::Gather;
use super::image;
use super::norm::Norms;
use super::plan::{ConvBlock, EdgePlan};
use super::simd::apart;
use super::sums;
use super::tiles::{self, Mix, load, prefetch_line, store};
use super::transpose::transpose;

/// Number of values of a strip in the wider operand, but for the last strip of a map: half of a
/// small first level of cache.
const STRIP: usize = 4096;

/// Number of positions of a tile: two registers where they are narrow, to hide the latency.
fn tile_positions(lanes: usize) -> usize {
    lanes.max(8)
}

/// An edge that is a 1x1 convolution of planes, of maps that fill a tile.
#[derive(Clone, Copy)]
pub struct PointwiseOfPlanes<'a> {
    context: Context<'a>,
    plan: &'a EdgePlan,
    block: &'a ConvBlock,
    positions: usize,
}

/// Memory for a strip of the backward pass.
struct Room {
    /// The gradient of the convolution's output, in blocks and as planes.
    blocks: Buffer,
    planes: Buffer,
    /// The input in blocks, behind the ReLU.
    input: Buffer,
}

impl<'a> PointwiseOfPlanes<'a> {
    pub fn of(context: Context<'a>) -> Option<Self> {
        let Context { plan, input, .. } = context;
        let ([block], Input::Planes(_)) = (&plan.blocks[..], input) else { return None };
        let positions = plan.size[0] * plan.size[1];
        let is_alone = plan.terms.len() == 1 && matches!(block.gather, Gather::Copy);
        let fits = positions >= tile_positions(plan.lanes);
        (is_alone && fits).then_some(Self { context, plan, block, positions })
    }

    /// Strips of positions; the last one takes the rest too.
    fn strips(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (step, positions) = (self.step(), self.positions);
        let count = positions / step;
        (0..count).map(move |strip| {
            let end = if strip + 1 == count { positions } else { (strip + 1) * step };
            strip * step..end
        })
    }

    fn step(&self) -> usize {
        let (lanes, tile) = (self.plan.lanes, tile_positions(self.plan.lanes));
        let widest = self.block.gathered_blocks.max(self.plan.blocks_of[1]);
        (STRIP / (widest * lanes) / tile * tile).clamp(tile, self.positions)
    }

    fn room(&self) -> Room {
        // The last strip is shorter than two.
        let [input, output] = [self.block.gathered_blocks, self.plan.blocks_of[1]]
            .map(|blocks| 2 * self.step() * blocks * self.plan.lanes);
        let [blocks, planes, input] = [output, output, input].map(Buffer::new);
        Room { blocks, planes, input }
    }

    /// The maps of the images from `start` on before their normalization, in blocks, and where
    /// requested their moments.
    #[inline(always)]
    pub fn forward<S: Simd>(
        &self,
        simd: S,
        start: usize,
        maps: &mut [f32],
        mut moments: Option<&mut [f32]>,
    ) {
        let (lanes, blocks, positions) = (S::F32_LANES, self.plan.blocks_of[1], self.positions);
        let (channels, width) = (self.plan.channels[0], self.plan.width());
        let weights = &self.context.prepared[self.block.pointwise..];
        assert!(weights.len() >= channels * width);
        for (number, map) in maps.chunks_exact_mut(blocks * positions * lanes).enumerate() {
            let image = self.context.raw(start + number);
            assert!(image.len() >= channels * positions);
            let product = Product { channels, positions, row: positions, weights, blocks };
            let (floor, target) = (Some(self.plan.floor), Target::Blocks { to: map.as_mut_ptr() });
            // Its pointers have as many values as the product says, by the assertions above.
            apart(simd, Tiles { product, input: image.as_ptr(), floor, target });
            if let Some(moments) = moments.as_deref_mut() {
                sums::moments(simd, map, blocks, &mut moments[number * 2 * width..][..2 * width]);
            }
        }
    }

    /// From the gradients of the images from `start` on behind their normalization to the gradient
    /// of the weights, which is added, and to that of the input, as planes; each only where it is
    /// requested.
    #[inline(always)]
    pub fn backward<S: Simd>(
        &self,
        simd: S,
        start: usize,
        norms: &Norms,
        [maps, gradient]: [&[f32]; 2],
        mut weights: Option<&mut [f32]>,
        mut to: Option<&mut [f32]>,
    ) {
        let (lanes, blocks, positions) = (S::F32_LANES, self.plan.blocks_of[1], self.positions);
        let map_len = self.plan.map_len();
        let mut room = self.room();
        for (number, gradient) in gradient.chunks_exact(map_len).enumerate() {
            let image = self.context.raw(start + number);
            let maps = [gradient, self.context.maps(number, maps)];
            let coefficients = norms.term_backward(0).of(start + number);
            let mut to = to.as_deref_mut().map(|to| {
                let len = self.plan.planes_len();
                &mut to[number * len..(number + 1) * len]
            });
            for strip in self.strips() {
                let of_map = &mut room.blocks[..blocks * strip.len() * lanes];
                let place = [blocks, positions * lanes, strip.start * lanes];
                image::linear(simd, maps, coefficients, place, of_map);
                if let Some(weights) = weights.as_deref_mut() {
                    let input = &mut room.input;
                    self.add_weights(simd, image, &strip, of_map, (input, weights));
                }
                if let Some(to) = to.as_deref_mut() {
                    self.write_input(simd, image, &strip, of_map, (&mut room.planes, to));
                }
            }
        }
    }

    /// Adds the gradient of the weights from a strip of the map's gradient.
    #[inline(always)]
    fn add_weights<S: Simd>(
        &self,
        simd: S,
        image: &[f32],
        strip: &Range<usize>,
        of_map: &[f32],
        (input, weights): (&mut [f32], &mut [f32]),
    ) {
        let (lanes, blocks, len) = (S::F32_LANES, self.plan.blocks_of[1], strip.len());
        let gathered = self.block.gathered_blocks;
        let input = &mut input[..gathered * len * lanes];
        self.gather(simd, &image[strip.start..], len, input);
        let mix = Mix {
            channels: gathered * lanes,
            blocks,
            positions: len,
            input_block: len * lanes,
            out_block: len * lanes,
        };
        let to = &mut weights[self.block.gradient..];
        assert!(to.len() >= gathered * lanes * blocks * lanes);
        assert!(of_map.len() >= blocks * len * lanes);
        // SAFETY: sizes are checked above.
        unsafe {
            let (input, of_map) = (input.as_ptr(), of_map.as_ptr());
            tiles::pointwise_weights(simd, input, of_map, to.as_mut_ptr(), mix);
        }
    }

    /// A strip of the input's gradient from that of the map.
    #[inline(always)]
    fn write_input<S: Simd>(
        &self,
        simd: S,
        image: &[f32],
        strip: &Range<usize>,
        of_map: &[f32],
        (planes, to): (&mut [f32], &mut [f32]),
    ) {
        let (lanes, blocks, positions) = (S::F32_LANES, self.block.gathered_blocks, self.positions);
        let ([channels, outputs], len) = (self.plan.channels, strip.len());
        let weights = &self.context.prepared[self.block.transposed..];
        assert!(weights.len() >= outputs * blocks * lanes);
        assert!(image.len().min(to.len()) >= channels * positions && strip.end <= positions);
        let planes = &mut planes[..of_map.len()];
        assert!(planes.len() >= outputs * len);
        let of_blocks = of_map.chunks_exact(len * lanes);
        for (from, to) in of_blocks.zip(planes.chunks_exact_mut(len * lanes)) {
            // SAFETY: a block of as many positions in both.
            unsafe { turn::<S>(from.as_ptr(), lanes, to.as_mut_ptr(), len, [len, lanes]) };
        }
        let product = Product { channels: outputs, positions: len, row: len, weights, blocks };
        // SAFETY: sizes are checked above.
        let target = unsafe {
            Target::Planes {
                to: to.as_mut_ptr().add(strip.start),
                above: (image.as_ptr().add(strip.start), self.plan.floor),
                row: positions,
                channels,
            }
        };
        apart(simd, Tiles { product, input: planes.as_ptr(), floor: None, target });
    }

    /// A strip of the planes at the beginning of `image`, in blocks and behind the ReLU.
    #[inline(always)]
    fn gather<S: Simd>(&self, simd: S, image: &[f32], len: usize, to: &mut [f32]) {
        let lanes = S::F32_LANES;
        let channels = self.plan.channels[0];
        assert!(image.len() >= (channels - 1) * self.positions + len);
        let floor = simd.splat_f32s(self.plan.floor);
        for (block, to) in to.chunks_exact_mut(len * lanes).enumerate() {
            let count = lanes.min(channels - block * lanes);
            if count < lanes {
                to.fill(0.0);
            }
            // SAFETY: as many rows of both are there, by the assertion above.
            unsafe {
                let from = image.as_ptr().add(block * lanes * self.positions);
                turn::<S>(from, self.positions, to.as_mut_ptr(), lanes, [count, len]);
                for to in to.chunks_exact_mut(lanes) {
                    let value = simd.max_f32s(load::<S>(to.as_ptr()), floor);
                    store::<S>(to.as_mut_ptr(), value);
                }
            }
        }
    }
}

/// `to[p][c] = from[c][p]`, see [`transpose`].
#[inline(always)]
unsafe fn turn<S: Simd>(
    from: *const f32,
    from_row: usize,
    to: *mut f32,
    to_row: usize,
    size: [usize; 2],
) {
    // SAFETY: the caller's; eight lanes are AVX.
    unsafe {
        if S::F32_LANES >= 8 {
            transpose::<true>(from, from_row, to, to_row, size);
        } else {
            transpose::<false>(from, from_row, to, to_row, size);
        }
    }
}

/// `out[row][p] = sum over channel of weights[channel][row] * input[channel][p]`, the rows in
/// blocks of as many as lanes.
#[derive(Clone, Copy)]
struct Product<'a> {
    channels: usize,
    positions: usize,
    /// The distance from one channel of the input to the next.
    row: usize,
    weights: &'a [f32],
    blocks: usize,
}

/// The target of a product.
#[derive(Clone, Copy)]
enum Target {
    /// `[block][position][lane]`.
    Blocks { to: *mut f32 },
    /// `channels` rows, with zeros where the values of another such map are not above the number
    /// beside it.
    Planes { to: *mut f32, above: (*const f32, f32), row: usize, channels: usize },
}

/// All tiles of a product, whose pointers have as many values as it says; a `floor` is a ReLU of
/// the input.
struct Tiles<'a> {
    product: Product<'a>,
    input: *const f32,
    floor: Option<f32>,
    target: Target,
}

impl WithSimd for Tiles<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let step = tile_positions(S::F32_LANES);
        assert!(self.product.positions >= step, "a map fills a tile");
        let last = self.product.positions - step;
        let mut first = 0;
        loop {
            // Near the end, a tile computes some values again.
            let p = first.min(last);
            for block in 0..self.product.blocks {
                // SAFETY: the tile is inside the map, and the block is one of the product's.
                unsafe {
                    match (S::F32_LANES, self.floor) {
                        (16, Some(floor)) => self.tile::<S, 16, 1, true>(simd, p, block, floor),
                        (16, None) => self.tile::<S, 16, 1, false>(simd, p, block, 0.0),
                        (8, Some(floor)) => self.tile::<S, 8, 1, true>(simd, p, block, floor),
                        (8, None) => self.tile::<S, 8, 1, false>(simd, p, block, 0.0),
                        (_, Some(floor)) => self.tile::<S, 4, 2, true>(simd, p, block, floor),
                        (_, None) => self.tile::<S, 4, 2, false>(simd, p, block, 0.0),
                    }
                }
            }
            first += step;
            if first >= self.product.positions {
                return;
            }
        }
    }
}

impl Tiles<'_> {
    /// `L` rows, as many as lanes, and `V` registers of positions from `p` on.
    #[inline(always)]
    unsafe fn tile<S: Simd, const L: usize, const V: usize, const RELU: bool>(
        &self,
        simd: S,
        p: usize,
        block: usize,
        floor: f32,
    ) {
        let Product { channels, positions, row, weights, blocks } = self.product;
        let [zero, floor] = [0.0, floor].map(|value| simd.splat_f32s(value));
        let mut sums = [[zero; V]; L];
        // SAFETY: the caller's.
        unsafe {
            let mut input = self.input.add(p);
            let mut weights = weights.as_ptr().add(block * L);
            for _ in 0..channels {
                let mut values = [zero; V];
                for (v, value) in values.iter_mut().enumerate() {
                    *value = load::<S>(input.add(v * L));
                    if RELU {
                        *value = simd.max_f32s(*value, floor);
                    }
                }
                if RELU && block == 0 {
                    // The rows are too many for the processor to foresee.
                    prefetch_line(input.wrapping_add(V * L));
                }
                for (l, sums) in sums.iter_mut().enumerate() {
                    let weight = simd.splat_f32s(*weights.add(l));
                    for (sum, value) in sums.iter_mut().zip(&values) {
                        *sum = simd.mul_add_e_f32s(weight, *value, *sum);
                    }
                }
                // After the last channel they may be beyond the end, and are not read.
                input = input.wrapping_add(row);
                weights = weights.wrapping_add(blocks * L);
            }
            match self.target {
                Target::Blocks { to } => {
                    let mut tile = [[zero; V]; L];
                    tile.copy_from_slice(&sums);
                    let to = to.add((block * positions + p) * L);
                    turn::<S>(tile.as_ptr().cast(), V * L, to, L, [L, V * L]);
                }
                Target::Planes { to, above: (above, least), row, channels } => {
                    let least = simd.splat_f32s(least);
                    for (l, sums) in sums.iter().enumerate().take(channels - block * L) {
                        for (v, sum) in sums.iter().enumerate() {
                            let place = (block * L + l) * row + p + v * L;
                            let is_above = simd.less_than_f32s(least, load::<S>(above.add(place)));
                            store::<S>(to.add(place), simd.select_f32s(is_above, *sum, zero));
                            prefetch_line(above.wrapping_add(place + V * L));
                            prefetch_line(to.wrapping_add(place + V * L));
                        }
                    }
                }
            }
        }
    }
}
