//! From the map after the ReLU to the convolved map and back, for one image, in strips of rows that
//! stay in the first level of cache.

use std::ops::Range;

use pulp::Simd;

use super::buffer::Buffer;
use super::depthwise::{self, Filled, Steps};
use super::gather::{Gather, Padded};
use super::plan::{ConvBlock, EdgePlan};
use super::tiles::{self, Mix};

/// Number of values of a strip in one operand of a 1x1 convolution: half of a small first level of
/// cache.
const STRIP: usize = 4096;

/// A block and its input.
#[derive(Clone, Copy)]
pub struct Convolution<'a> {
    pub plan: &'a EdgePlan,
    pub block: &'a ConvBlock,
    pub prepared: &'a [f32],
    /// The map after the ReLU that it reads, with the border of its geometry.
    pub source: &'a [f32],
}

/// Memory for the strips of any block of an edge, and for the gradient on the path to its input.
pub struct Scratch {
    pub gathered: Buffer,
    pub gradient: Buffer,
    pub map_gradient: Buffer,
    /// The border stays zero, and so do the gaps between the pixels of a stride.
    pub padded: Buffer,
}

impl Scratch {
    /// With `backward`, the geometry of the blocks' inputs whose gradients are requested.
    pub fn new(plan: &EdgePlan, backward: Option<Padded>) -> Self {
        let most = |of: fn(&ConvBlock) -> usize| plan.blocks.iter().map(of).max().unwrap_or(0);
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
    pub fn geometry(&self) -> Padded {
        if self.block.second { self.plan.middle } else { self.plan.source }
    }

    /// Rows of the output, a few at a time.
    pub fn strips(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let [rows, columns] = self.plan.out_size;
        let widest = self.block.gathered_blocks.max(self.plan.blocks_of[1]);
        let step = (STRIP / (widest * columns * self.plan.lanes)).max(1);
        (0..rows).step_by(step).map(move |first| first..(first + step).min(rows))
    }

    /// The steps of a depthwise convolution for some rows of its output with `columns` each: its
    /// stride, and the distance between rows of its input that have values.
    pub fn steps(
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

    /// The part of a strip that the 1x1 convolution reads, and the values between its blocks of channels.
    #[inline(always)]
    pub fn gather<'b, S: Simd>(
        &'b self,
        simd: S,
        strip: Range<usize>,
        room: &'b mut [f32],
    ) -> (&'b [f32], usize) {
        let (lanes, geometry) = (S::F32_LANES, self.geometry());
        let (row, map) = (geometry.row() * lanes, geometry.len() * lanes);
        let ConvBlock { gather, gathered_blocks, source_blocks, depthwise, .. } = *self.block;
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

    /// For each value of a window: its lane, its row and column in the window, its block of
    /// channels, and the place to which it is gathered.
    pub fn window(&self, lanes: usize) -> impl Iterator<Item = (usize, [usize; 2], usize, usize)> {
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
}
