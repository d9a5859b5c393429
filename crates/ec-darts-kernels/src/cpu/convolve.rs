//! ReLU'd map to convolved map and back, for one image, in strips of rows that stay in the first
//! level of cache.

use std::ops::Range;

use pulp::Simd;

use super::buffer::Buffer;
use super::depthwise::{self, Filled, Steps};
use super::image;
use super::plan::{Block, Gather, Padded, Plan};
use super::tiles::{self, Mix, prefetch};

/// Values of a strip in one operand of a 1x1 convolution: half of a small first level of cache.
const STRIP: usize = 4096;

/// A block, and what it is applied to.
#[derive(Clone, Copy)]
pub struct Convolution<'a> {
    pub plan: &'a Plan,
    pub block: &'a Block,
    pub prepared: &'a [f32],
    /// The ReLU'd map that it reads, with the border of its geometry.
    pub source: &'a [f32],
}

/// Room for the strips of any block of an edge, and for the gradient on the way to its input.
pub struct Scratch {
    gathered: Buffer,
    gradient: Buffer,
    map_gradient: Buffer,
    /// Its border stays zero, and what lies between the pixels of a stride.
    padded: Buffer,
}

impl Scratch {
    /// With `backward`, the geometry of what the blocks read whose gradients are wanted.
    pub fn new(plan: &Plan, backward: Option<Padded>) -> Self {
        let most = |of: fn(&Block) -> usize| plan.blocks.iter().map(of).max().unwrap_or(0);
        let positions = plan.out_size[0] * plan.out_size[1] * plan.lanes;
        let gathered = most(|block| block.gathered_blocks) * positions;
        let mut padded = Buffer::new(0);
        if let Some(geometry) = backward {
            let blocks = most(|block| block.source_blocks);
            padded = Buffer::new(blocks * geometry.len() * plan.lanes);
            if plan.stride == 1 {
                geometry.clear_border(plan.lanes, &mut padded);
            } else {
                padded.fill(0.0);
            }
        }
        let only = |len: usize| Buffer::new(if backward.is_some() { len } else { 0 });
        Self {
            gathered: Buffer::new(gathered),
            gradient: only(gathered),
            map_gradient: only(plan.map_len()),
            padded,
        }
    }
}

impl Convolution<'_> {
    fn geometry(&self) -> Padded {
        if self.block.second { self.plan.middle } else { self.plan.source }
    }

    /// Rows of the output, a few at a time.
    fn strips(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let [rows, columns] = self.plan.out_size;
        let widest = self.block.gathered_blocks.max(self.plan.blocks_of[1]);
        let step = (STRIP / (widest * columns * self.plan.lanes)).max(1);
        (0..rows).step_by(step).map(move |first| first..(first + step).min(rows))
    }

    /// Of a depthwise convolution, for some rows of its output of `columns` each: with its stride, and
    /// the distance between rows of its input that hold values.
    fn steps(
        &self,
        lanes: usize,
        rows: Range<usize>,
        columns: usize,
        [stride, step]: [usize; 2],
    ) -> Steps {
        let geometry = self.geometry();
        let padding = self.block.gather.padding();
        let Gather::Depthwise { dilation, .. } = self.block.gather else {
            unreachable!("asked of depthwise convolutions only");
        };
        let above = rows.start * stride;
        let filled = Filled {
            first: padding.saturating_sub(above),
            end: geometry.height + padding - above,
            step,
        };
        let out = [rows.len(), columns];
        Steps { row: geometry.row() * lanes, stride, dilation, out, filled }
    }

    /// What the 1x1 convolution reads of a strip, and the values between its blocks of channels.
    #[inline(always)]
    fn gather<'b, S: Simd>(
        &'b self,
        simd: S,
        strip: Range<usize>,
        room: &'b mut [f32],
    ) -> (&'b [f32], usize) {
        let (lanes, geometry) = (S::F32_LANES, self.geometry());
        let (row, map) = (geometry.row() * lanes, geometry.len() * lanes);
        let Block { gather, gathered_blocks, source_blocks, depthwise, .. } = *self.block;
        if matches!(gather, Gather::Copy) && geometry.pad == 0 {
            return (&self.source[strip.start * row..], map);
        }
        let columns = self.plan.out_size[1];
        let line = columns * lanes;
        let len = strip.len() * line;
        assert!(self.source.len() >= source_blocks * map);
        assert!(room.len() >= gathered_blocks * len);
        match gather {
            Gather::Copy | Gather::Reduce => {
                let step = if matches!(gather, Gather::Copy) { 1 } else { 2 };
                for (channel_block, to) in
                    room.chunks_exact_mut(len).take(gathered_blocks).enumerate()
                {
                    let odd = channel_block / source_blocks;
                    let from = &self.source[channel_block % source_blocks * map..][..map];
                    for (y, to) in strip.clone().zip(to.chunks_exact_mut(line)) {
                        let from = &from[(geometry.pad + step * y + odd) * row..];
                        for (x, to) in to.chunks_exact_mut(lanes).enumerate() {
                            let place = (geometry.pad + step * x + odd) * lanes;
                            to.copy_from_slice(&from[place..place + lanes]);
                        }
                    }
                }
            }
            Gather::Window { stride } => {
                room[(gathered_blocks - 1) * len..].fill(0.0);
                for (lane, tap, source, place) in self.window(lanes) {
                    let first = geometry.first(1) * lanes + source * map + lane;
                    let first = first + tap[0] * row + tap[1] * lanes;
                    let to = &mut room[place / lanes * len..][..len];
                    for (y, to) in strip.clone().zip(to.chunks_exact_mut(line)) {
                        let from = &self.source[first + y * stride * row..];
                        let from = from.iter().step_by(stride * lanes);
                        let to = to[place % lanes..].iter_mut().step_by(lanes);
                        to.zip(from).for_each(|(to, from)| *to = *from);
                    }
                }
            }
            Gather::Depthwise { kernel, stride, .. } => {
                let steps = self.steps(lanes, strip.clone(), columns, [stride, 1]);
                let first = geometry.first(gather.padding()) * lanes + strip.start * stride * row;
                let taps = kernel * kernel * lanes;
                assert!(self.prepared.len() >= depthwise + source_blocks * taps);
                for channel_block in 0..source_blocks {
                    // SAFETY: the border is at least as wide as the kernel's reach.
                    unsafe {
                        let input = self.source.as_ptr().add(channel_block * map + first);
                        let weights = self.prepared.as_ptr().add(depthwise + channel_block * taps);
                        let to = room.as_mut_ptr().add(channel_block * len);
                        if kernel == 3 {
                            depthwise::convolve::<S, 3, false>(simd, input, weights, to, steps);
                        } else {
                            depthwise::convolve::<S, 5, false>(simd, input, weights, to, steps);
                        }
                    }
                }
            }
        }
        (room, len)
    }

    /// Of each value of a window: its lane, its row and column in the window, its block of channels,
    /// and the place that it is gathered to.
    fn window(&self, lanes: usize) -> impl Iterator<Item = (usize, [usize; 2], usize, usize)> {
        let channels = self.plan.channels[0];
        (0..9 * channels).map(move |place| {
            let (channel, tap) = (place / 9, place % 9);
            (channel % lanes, [tap / 3, tap % 3], channel / lanes, place)
        })
    }

    /// The block's map before its normalization.
    #[inline(always)]
    pub fn forward<S: Simd>(self, simd: S, to: &mut [f32], scratch: &mut Scratch) {
        let (lanes, blocks) = (S::F32_LANES, self.plan.blocks_of[1]);
        let [rows, columns] = self.plan.out_size;
        let map = rows * columns * lanes;
        assert!(to.len() >= blocks * map);
        let weights = &self.prepared[self.block.pointwise..];
        assert!(weights.len() >= self.block.gathered_blocks * lanes * blocks * lanes);
        for strip in self.strips() {
            let positions = strip.len() * columns;
            let first = strip.start * columns * lanes;
            let (gathered, input_block) = self.gather(simd, strip, &mut scratch.gathered);
            let channels = self.block.gathered;
            let mix = Mix { channels, blocks, positions, input_block, out_block: map };
            // SAFETY: `gather` has filled the strip, other sizes are checked above.
            unsafe {
                let to = to.as_mut_ptr().add(first);
                tiles::pointwise::<S>(simd, gathered.as_ptr(), weights.as_ptr(), to, mix);
            }
        }
    }

    /// From the gradient of the normalized map, which with the map itself gives that of the map
    /// ([`image::linear`]), to the weights', which is added, and to the ReLU's, added to `to` where
    /// `add`; either only where it is asked for.
    #[inline(always)]
    pub fn backward<S: Simd>(
        self,
        simd: S,
        [gradient, map]: [&[f32]; 2],
        coefficients: [&[f32]; 3],
        mut weights: Option<&mut [f32]>,
        to: Option<(&mut [f32], bool)>,
        scratch: &mut Scratch,
    ) {
        let (lanes, blocks) = (S::F32_LANES, self.plan.blocks_of[1]);
        let [rows, columns] = self.plan.out_size;
        let (line, map_len) = (columns * lanes, rows * columns * lanes);
        let Block { gather, gathered_blocks, source_blocks, .. } = *self.block;
        assert!(gradient.len() >= blocks * map_len && map.len() >= blocks * map_len);
        let transposed = &self.prepared[self.block.transposed..];
        assert!(transposed.len() >= gathered_blocks * lanes * blocks * lanes);
        // Where the gradient of what was gathered goes: straight into a map with the border that
        // the adjoint of a depthwise convolution of stride 1 reads, or into the sum itself where it
        // was not gathered at all; else somewhere in between.
        let Scratch { gathered: room, gradient: between, map_gradient, padded } = scratch;
        let geometry = self.geometry();
        let straight = matches!(gather, Gather::Depthwise { stride: 1, .. });
        let (mut to, add, is_wanted) = match to {
            Some((to, add)) => (to, add, true),
            None => (&mut [][..], false, false),
        };
        let copied = matches!(gather, Gather::Copy) && !add && is_wanted;
        // The weights of a depthwise convolution read it too.
        let passes = is_wanted || matches!(gather, Gather::Depthwise { .. });
        let (passed, passed_block, passed_row, passed_first): (&mut [f32], _, _, _) = if copied {
            (std::mem::take(&mut to), map_len, line, 0)
        } else if straight {
            let first = geometry.pad * (geometry.row() + 1) * lanes;
            (padded, geometry.len() * lanes, geometry.row() * lanes, first)
        } else {
            (between, map_len, line, 0)
        };
        assert!(passed.len() >= gathered_blocks * passed_block);
        // Rows of the input whose gradient has been passed on.
        let mut passed_on = 0;
        for strip in self.strips() {
            let (begin, len) = (strip.start * line, strip.len() * line);
            for block in 0..blocks {
                let next = (block * map_len + begin + len).min(map.len());
                let end = (next + len).min(map.len());
                prefetch(&map[next..end]);
                prefetch(&gradient[next..end]);
            }
            image::linear(
                simd,
                [gradient, map],
                coefficients,
                [blocks, map_len, begin],
                &mut map_gradient[..blocks * len],
            );
            for (number, y) in strip.clone().enumerate().filter(|_| passes) {
                let mix = Mix {
                    channels: self.plan.channels[1],
                    blocks: gathered_blocks,
                    positions: columns,
                    input_block: len,
                    out_block: passed_block,
                };
                // SAFETY: a row of all blocks is in either map, checked above.
                unsafe {
                    let from = map_gradient.as_ptr().add(number * line);
                    let to = passed.as_mut_ptr().add(passed_first + y * passed_row);
                    tiles::pointwise::<S>(simd, from, transposed.as_ptr(), to, mix);
                }
            }
            if let Some(weights) = weights.as_deref_mut() {
                let positions = strip.len() * columns;
                let first = passed_first + strip.start * passed_row;
                let (gathered, input_block) = self.gather(simd, strip.clone(), room);
                let channels = gathered_blocks * lanes;
                let mix = Mix { channels, blocks, positions, input_block, out_block: len };
                let taps = gather.taps() * lanes;
                let offset = self.block.gradient + source_blocks * taps;
                assert!(weights.len() >= offset + channels * blocks * lanes);
                // SAFETY: checked on the line above; `gather` has filled the strip.
                unsafe {
                    let to = weights.as_mut_ptr().add(offset);
                    let gradient = map_gradient.as_ptr();
                    tiles::pointwise_weights::<S>(simd, gathered.as_ptr(), gradient, to, mix);
                }
                if let Gather::Depthwise { kernel, stride, .. } = gather {
                    let steps = self.steps(lanes, strip.clone(), columns, [stride, 1]);
                    let input =
                        geometry.first(gather.padding()) * lanes + strip.start * stride * steps.row;
                    for block in 0..source_blocks {
                        // SAFETY: as in `gather`; the gradient's rows were written above.
                        unsafe {
                            let input =
                                self.source.as_ptr().add(block * geometry.len() * lanes + input);
                            let from = passed.as_ptr().add(block * passed_block + first);
                            let to = weights.as_mut_ptr().add(self.block.gradient + block * taps);
                            let from = (from, passed_row);
                            if kernel == 3 {
                                depthwise::weights::<S, 3>(simd, input, from, to, steps);
                            } else {
                                depthwise::weights::<S, 5>(simd, input, from, to, steps);
                            }
                        }
                    }
                }
            }
            if straight && is_wanted {
                // The rows whose gradient is complete, while it is in the first level of cache.
                let end = if strip.end == rows {
                    rows
                } else {
                    strip.end.saturating_sub(gather.padding())
                };
                self.adjoint(simd, passed, passed_on..end, (&mut *to, add));
                passed_on = end.max(passed_on);
            }
        }
        if !straight && !copied && is_wanted {
            self.scatter(simd, between, padded, (to, add));
        }
    }

    /// The adjoint of gathering; `between` holds the gradient of what was gathered.
    #[inline(always)]
    fn scatter<S: Simd>(
        &self,
        simd: S,
        between: &[f32],
        padded: &mut [f32],
        (to, add): (&mut [f32], bool),
    ) {
        let lanes = S::F32_LANES;
        let [rows, columns] = self.plan.out_size;
        let geometry = self.geometry();
        let [height, width] = [geometry.height, geometry.width];
        let (map, line) = (height * width * lanes, columns * lanes);
        let Block { gather, gathered_blocks, source_blocks, .. } = *self.block;
        assert!(to.len() >= source_blocks * map);
        if !add && !matches!(gather, Gather::Depthwise { .. }) {
            to.fill(0.0);
        }
        match gather {
            Gather::Copy => {
                for (to, from) in to.iter_mut().zip(&between[..source_blocks * map]) {
                    *to += from;
                }
            }
            Gather::Reduce => {
                let maps = between.chunks_exact(rows * line).take(gathered_blocks);
                for (channel_block, from) in maps.enumerate() {
                    let odd = channel_block / source_blocks;
                    let to = &mut to[channel_block % source_blocks * map..][..map];
                    for (y, from) in from.chunks_exact(line).enumerate() {
                        let to = &mut to[(2 * y + odd) * width * lanes..];
                        for (x, from) in from.chunks_exact(lanes).enumerate() {
                            let to = &mut to[(2 * x + odd) * lanes..][..lanes];
                            for (to, from) in to.iter_mut().zip(from) {
                                *to += from;
                            }
                        }
                    }
                }
            }
            Gather::Window { stride } => {
                for (lane, tap, source, place) in self.window(lanes) {
                    let from = &between[place / lanes * rows * line..][..rows * line];
                    let to = &mut to[source * map..(source + 1) * map];
                    for (y, from) in from.chunks_exact(line).enumerate() {
                        // Counted from the border: the map begins at one.
                        let row = y * stride + tap[0];
                        if row == 0 || row > height {
                            continue;
                        }
                        let to = &mut to[(row - 1) * width * lanes..row * width * lanes];
                        for (x, from) in from[place % lanes..].iter().step_by(lanes).enumerate() {
                            let column = x * stride + tap[1];
                            if column > 0 && column <= width {
                                to[(column - 1) * lanes + lane] += from;
                            }
                        }
                    }
                }
            }
            Gather::Depthwise { stride, .. } => {
                let (row, len) = (geometry.row() * lanes, geometry.len() * lanes);
                // Whatever it held before lay in the same places: what is between stays zero.
                let maps = between.chunks_exact(rows * line).zip(padded.chunks_exact_mut(len));
                for (from, padded) in maps.take(source_blocks) {
                    for (y, from) in from.chunks_exact(line).enumerate() {
                        let place = (geometry.pad + stride * y) * row + geometry.pad * lanes;
                        for (x, from) in from.chunks_exact(lanes).enumerate() {
                            let place = place + stride * x * lanes;
                            padded[place..place + lanes].copy_from_slice(from);
                        }
                    }
                }
                self.adjoint(simd, padded, 0..height, (to, add));
            }
        }
    }

    /// Some rows of the adjoint of a depthwise convolution; `padded` holds the gradient, zero where
    /// a stride has left gaps.
    #[inline(always)]
    fn adjoint<S: Simd>(
        &self,
        simd: S,
        padded: &[f32],
        rows: Range<usize>,
        (to, add): (&mut [f32], bool),
    ) {
        let lanes = S::F32_LANES;
        let Block { gather, source_blocks, flipped, .. } = *self.block;
        let Gather::Depthwise { kernel, stride, .. } = gather else { return };
        let geometry = self.geometry();
        let Padded { height, width, .. } = geometry;
        let [row, len, map] =
            [geometry.row(), geometry.len(), height * width].map(|positions| positions * lanes);
        let first = geometry.first(gather.padding()) * lanes;
        let taps = kernel * kernel * lanes;
        assert!(rows.end <= height && to.len() >= source_blocks * map);
        assert!(self.prepared.len() >= flipped + source_blocks * taps);
        assert!(padded.len() >= source_blocks * len);
        let steps = self.steps(lanes, rows.clone(), width, [1, stride]);
        for block in 0..source_blocks {
            // SAFETY: the border is at least as wide as the kernel's reach, sizes are checked above.
            unsafe {
                let from = padded.as_ptr().add(block * len + first + rows.start * row);
                let weights = self.prepared.as_ptr().add(flipped + block * taps);
                let to = to.as_mut_ptr().add(block * map + rows.start * width * lanes);
                match (kernel, add) {
                    (3, true) => {
                        depthwise::convolve::<S, 3, true>(simd, from, weights, to, steps);
                    }
                    (3, false) => {
                        depthwise::convolve::<S, 3, false>(simd, from, weights, to, steps);
                    }
                    (_, true) => {
                        depthwise::convolve::<S, 5, true>(simd, from, weights, to, steps);
                    }
                    (_, false) => {
                        depthwise::convolve::<S, 5, false>(simd, from, weights, to, steps);
                    }
                }
            }
        }
    }
}
