//! Blocks forward: gather, 1x1 convolution, and the moments of the result, for many branches at once.
//!
//! ```text
//! z[o, p] = sum over q of w[o, q] y[q, p]          y: depthwise convolution, pixel or window of the lifted source
//! ```
//! A branch may also be a pool of which only the moments are needed: its `w` is the identity, and no map is written
//! (so a value that is no number reaches the moments of all channels, not of its own alone; training ends there). A
//! unit has a quad of pixels and eight channels of the output in registers; the units of a cube share the quads'
//! gathered values.

use cubecl::prelude::*;

use super::planes::{Four, Plane, Ways, gathered};
use super::table::{BIAS, block, gather};

/// Adds the product of gathered values and weights, both of a few channels, to a unit's sums.
///
/// # Shapes
/// - `values`: `[channels][units of x]` quads; `weights`: `[channels][units of y][vectors]` fours
/// - `sums`: `[4 pixels][vectors]` fours
#[cube]
pub fn add_product(
    sums: &mut Array<Four>,
    values: &Shared<[Four]>,
    weights: &Shared<[Four]>,
    #[comptime] quads: usize,
    #[comptime] groups: usize,
    #[comptime] vectors: usize,
    #[comptime] chunk: usize,
) {
    let unit = UNIT_POS_X as usize;
    let group = UNIT_POS_Y as usize;
    #[unroll]
    for channel in 0..chunk {
        let value = values[channel * quads + unit];
        #[unroll]
        for vector in 0..vectors {
            let weight = weights[(channel * groups + group) * vectors + vector];
            #[unroll]
            for pixel in 0..4usize {
                sums[pixel * vectors + vector] += weight * Four::new(value.extract(pixel));
            }
        }
    }
}

/// Number of pixels of the quads before one, in a map of this size.
#[cube]
pub fn pixels_before(quad: usize, height: usize, width: usize) -> usize {
    let row = min(quad / width * 4, height);
    row * width + quad % width * min(height - row, 4usize)
}

/// Cubes: tiles of quads, images, branches. In a `pair`, a branch reads one of two inputs.
/// `partials`: `[slot][channel][image][tile]`, sum and sum of squared distances from the tile's
/// mean.
#[cube(launch_unchecked)]
pub fn blocks(
    table: &[u32],
    source: &[f32],
    other: &[f32],
    maps: &mut [f32],
    weights: &[f32],
    norms: &[f32],
    partials: &mut [f32],
    first_row: usize,
    height: usize,
    width: usize,
    channels: usize,
    #[comptime] inner: bool,
    #[comptime] pair: bool,
    #[comptime] moments: bool,
    #[comptime] ways: Ways,
    #[comptime] quads: usize,
    #[comptime] groups: usize,
    #[comptime] vectors: usize,
    #[comptime] chunk: usize,
    #[comptime] at_once: usize,
) {
    let row = first_row + CUBE_POS_Z as usize * block::LEN;
    let way = table[row + block::GATHER];
    let image = CUBE_POS_Y as usize;
    let unit = UNIT_POS_X as usize;
    let group = UNIT_POS_Y as usize;
    let threads = comptime!(quads * groups);
    let position = group * quads + unit;
    let place = CUBE_POS_X as usize * quads + unit;
    let y = place / width * 4;
    let x = place % width;
    let active = y < height;
    let first = table[row + block::FIRST] as usize;
    let outputs = table[row + block::OUTPUTS] as usize;
    let out = group * comptime!(4 * vectors);

    let in_height = table[row + block::HEIGHT] as usize;
    let in_width = table[row + block::WIDTH] as usize;
    let in_channels = table[row + block::CHANNELS] as usize;
    let in_size = in_height * in_width;
    let from = table[row + block::SOURCE] as usize + image * in_channels * in_size;
    let stride = table[row + block::STRIDE] as i32;
    let dilation = table[row + block::DILATION];
    let padding = table[row + block::PADDING] as i32 - BIAS as i32;
    let top = y as i32 * stride - padding;
    let left = x as i32 * stride - padding;
    let source_norm = table[row + block::SOURCE_NORM];
    let floor = select(table[row + block::RELU] == 1, f32::new(0.0), f32::new(f32::MIN));

    let mut sums = Array::<Four>::new(comptime!(4 * vectors));
    let inputs = table[row + block::INPUTS] as usize;
    let is_pool = way >= gather::MAX_POOL;
    let kernel = table[row + block::KERNEL];
    let depthwise = table[row + block::DEPTHWISE] as usize;
    let pointwise = table[row + block::POINTWISE] as usize;
    let mut values = Shared::<[Four]>::new_slice(comptime!(chunk * quads));
    let mut shared_weights = Shared::<[Four]>::new_slice(comptime!(chunk * groups * vectors));
    let mut first_input = 0usize;
    while first_input < inputs {
        let mut channel = group;
        while channel < chunk {
            let input = first_input + channel;
            let mut value = Four::new(0.0);
            if active && input < inputs {
                let of = select(way == gather::WINDOW, input / 9, input);
                let mut scale = f32::new(1.0);
                let mut shift = f32::new(0.0);
                if inner.comptime() {
                    let norm = (source_norm as usize * channels + of) * 4;
                    scale = norms[norm + 2];
                    shift = norms[norm + 3];
                }
                let plane = Plane {
                    first: from + of * in_size,
                    height: in_height as i32,
                    width: in_width as i32,
                    scale,
                    shift,
                    floor,
                };
                if inner.comptime() {
                    value = gathered(
                        &*maps,
                        &plane,
                        top,
                        left,
                        weights,
                        way,
                        kernel,
                        dilation,
                        stride,
                        depthwise,
                        input,
                        Ways::Depthwise,
                    );
                } else if pair.comptime() && table[row + block::INPUT] == 1 {
                    value = gathered(
                        other, &plane, top, left, weights, way, kernel, dilation, stride,
                        depthwise, input, ways,
                    );
                } else {
                    value = gathered(
                        source, &plane, top, left, weights, way, kernel, dilation, stride,
                        depthwise, input, ways,
                    );
                }
            }
            values[channel * quads + unit] = value;
            channel += groups;
        }
        let mut entry = position;
        while entry < comptime!(chunk * groups * vectors) {
            let input = first_input + entry / comptime!(groups * vectors);
            let output = entry % comptime!(groups * vectors) * 4;
            let mut four = Four::new(0.0);
            #[unroll]
            for lane in 0..4usize {
                if input < inputs && output + lane < outputs {
                    if is_pool {
                        four.insert(
                            lane,
                            select(output + lane == input, f32::new(1.0), f32::new(0.0)),
                        );
                    } else {
                        four.insert(lane, weights[pointwise + (output + lane) * inputs + input]);
                    }
                }
            }
            shared_weights[entry] = four;
            entry += threads;
        }
        sync_cube();
        add_product(&mut sums, &values, &shared_weights, quads, groups, vectors, chunk);
        sync_cube();
        first_input += chunk;
    }
    let to = table[row + block::MAP] as usize + (image * channels + first) * height * width;
    if active && !is_pool {
        #[unroll]
        for lane in 0..comptime!(4 * vectors) {
            let channel = out + lane;
            if channel < outputs {
                let to = to + channel * height * width + y * width + x;
                #[unroll]
                for pixel in 0..4usize {
                    if y + pixel < height {
                        maps[to + pixel * width] =
                            sums[pixel * vectors + lane / 4].extract(lane % 4);
                    }
                }
            }
        }
    }
    if moments.comptime() {
        let mut scratch = Shared::<[Four]>::new_slice(comptime!(at_once * threads));
        let begin = CUBE_POS_X as usize * quads;
        let end = min(begin + quads, height.div_ceil(4) * width);
        let count =
            (pixels_before(end, height, width) - pixels_before(begin, height, width)) as f32;
        let slot = table[row + block::SLOT] as usize;
        let tiles = CUBE_COUNT_X as usize;
        let num_tiles = CUBE_COUNT_Y as usize * tiles;
        let tile = image * tiles + CUBE_POS_X as usize;
        #[unroll]
        for round in 0..comptime!(vectors / at_once) {
            #[unroll]
            for vector in 0..at_once {
                let mut sum = Four::new(0.0);
                #[unroll]
                for pixel in 0..4usize {
                    if active && y + pixel < height {
                        sum += sums[pixel * vectors + round * at_once + vector];
                    }
                }
                scratch[vector * threads + position] = sum;
            }
            add_up(&mut scratch, quads, threads, at_once);
            let mut totals = Array::<Four>::new(at_once);
            #[unroll]
            for vector in 0..at_once {
                totals[vector] = scratch[vector * threads + group * quads];
            }
            sync_cube();
            #[unroll]
            for vector in 0..at_once {
                let mean = totals[vector] / Four::new(count);
                let mut sum = Four::new(0.0);
                #[unroll]
                for pixel in 0..4usize {
                    if active && y + pixel < height {
                        let off = sums[pixel * vectors + round * at_once + vector] - mean;
                        sum += off * off;
                    }
                }
                scratch[vector * threads + position] = sum;
            }
            add_up(&mut scratch, quads, threads, at_once);
            if unit == 0 {
                #[unroll]
                for vector in 0..at_once {
                    let squares = scratch[vector * threads + position];
                    #[unroll]
                    for lane in 0..4usize {
                        let channel = out + (round * at_once + vector) * 4 + lane;
                        if channel < outputs {
                            let to = ((slot * channels + first + channel) * num_tiles + tile) * 2;
                            partials[to] = totals[vector].extract(lane);
                            partials[to + 1] = squares.extract(lane);
                        }
                    }
                }
            }
            sync_cube();
        }
    }
}

/// Adds the values of all units of x, for each unit of y, in a fixed order; the sum is at the first
/// unit.
///
/// # Shapes
/// - `scratch`: `[at_once][threads]`
#[cube]
fn add_up(
    scratch: &mut Shared<[Four]>,
    #[comptime] quads: usize,
    #[comptime] threads: usize,
    #[comptime] at_once: usize,
) {
    let unit = UNIT_POS_X as usize;
    let position = UNIT_POS_Y as usize * quads + unit;
    sync_cube();
    let mut half = comptime!(quads / 2).runtime();
    while half > 0 {
        if unit < half {
            #[unroll]
            for vector in 0..at_once {
                let at = vector * threads + position;
                let other = scratch[at + half];
                scratch[at] += other;
            }
        }
        sync_cube();
        half /= 2;
    }
}
