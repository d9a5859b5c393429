//! The backward pass of a block, strip by strip: to its weights and to its input.

use std::ops::Range;

use pulp::Simd;

use super::convolve::{Convolution, Scratch};
use super::depthwise;
use super::depthwise_weights;
use super::gather::{Gather, Padded};
use super::image;
use super::plan::ConvBlock;
use super::tiles::{self, Mix, prefetch};

impl Convolution<'_> {
    /// From the gradient of the normalized map, which together with the map gives that of the map
    /// ([`image::linear`]), to the gradient of the weights, which is added, and to that of the
    /// ReLU, added to `to` where `add`; each only where it is requested.
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
        let ConvBlock { gather, gathered_blocks, source_blocks, .. } = *self.block;
        assert!(gradient.len() >= blocks * map_len && map.len() >= blocks * map_len);
        let transposed = &self.prepared[self.block.transposed..];
        assert!(transposed.len() >= gathered_blocks * lanes * blocks * lanes);
        // The gradient of the gathered values goes straight into a map with the border that
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
                                depthwise_weights::weights::<S, 3>(simd, input, from, to, steps);
                            } else {
                                depthwise_weights::weights::<S, 5>(simd, input, from, to, steps);
                            }
                        }
                    }
                }
            }
            if straight && is_wanted {
                // The rows whose gradient is complete, while they are in the first level of cache.
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

    /// The adjoint of gathering; `between` has the gradient of the gathered values.
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
        let ConvBlock { gather, gathered_blocks, source_blocks, .. } = *self.block;
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
                // Its values before lay in the same places; those between stay zero.
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

    /// Some rows of the adjoint of a depthwise convolution; `padded` has the gradient, with zeros
    /// in the gaps of a stride.
    #[inline(always)]
    fn adjoint<S: Simd>(
        &self,
        simd: S,
        padded: &[f32],
        rows: Range<usize>,
        (to, add): (&mut [f32], bool),
    ) {
        let lanes = S::F32_LANES;
        let ConvBlock { gather, source_blocks, flipped, .. } = *self.block;
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
