//! Gradients of weights, in parts with a fixed order.

use cubecl::prelude::*;

use super::backward::{Line, map_gradient};
use super::planes::{Four, Plane, gathered, lifted};
use super::sums::{OF_NORM, UNITS, factor};
use super::table::{BIAS, NONE, block, gather};

/// A block's gathered values for one of its channels, at four neighbouring pixels.
#[cube]
fn gathered_again(
    table: &[u32],
    row: usize,
    values: &[f32],
    weights: &[f32],
    norms: &[f32],
    image: usize,
    channels: usize,
    input: usize,
    y: usize,
    x: usize,
) -> Four {
    let way = table[row + block::GATHER];
    let in_height = table[row + block::HEIGHT] as usize;
    let in_width = table[row + block::WIDTH] as usize;
    let in_channels = table[row + block::CHANNELS] as usize;
    let of = select(way == gather::WINDOW, input / 9, input);
    let plane = plane_of(table, row, norms, image, channels, in_channels, of, in_height, in_width);
    let stride = table[row + block::STRIDE] as i32;
    let padding = table[row + block::PADDING] as i32 - BIAS as i32;
    gathered(
        values,
        &plane,
        y as i32 * stride - padding,
        x as i32 * stride - padding,
        weights,
        way,
        table[row + block::KERNEL],
        table[row + block::DILATION],
        stride,
        table[row + block::DEPTHWISE] as usize,
        input,
    )
}

/// The plane that a block reads for one channel of its source.
#[cube]
fn plane_of(
    table: &[u32],
    row: usize,
    norms: &[f32],
    image: usize,
    channels: usize,
    in_channels: usize,
    of: usize,
    in_height: usize,
    in_width: usize,
) -> Plane {
    let norm = table[row + block::SOURCE_NORM];
    let mut scale = f32::new(1.0);
    let mut shift = f32::new(0.0);
    if norm != NONE {
        let at = (norm as usize * channels + of) * OF_NORM;
        scale = norms[at + 2];
        shift = norms[at + 3];
    }
    Plane {
        first: table[row + block::SOURCE] as usize
            + (image * in_channels + of) * in_height * in_width,
        height: in_height as i32,
        width: in_width as i32,
        scale,
        shift,
        floor: select(table[row + block::RELU] == 1, f32::new(0.0), f32::new(f32::MIN)),
    }
}

/// Parts of the gradients of 1x1 convolutions: `dw[o, q] = sum over p of dz[o, p] y[q, p]`. Cubes: chunks of images,
/// parts of outputs and inputs, branches.
/// A unit has 4x4 weights; `splits` units share a weight and take pixels in turn.
/// A unit has 4x4 weights; `splits` of them share a weight and take pixels in turn.
#[cube(launch_unchecked)]
pub fn pointwise_gradients(
    table: &[u32],
    values: &[f32],
    other: &[f32],
    maps: &[f32],
    work: &mut [f32],
    weights: &[f32],
    norms: &[f32],
    first_row: usize,
    first_partial: usize,
    first_coefficient: usize,
    factors: usize,
    images: usize,
    images_per_chunk: usize,
    channels: usize,
    height: usize,
    width: usize,
    input_parts: usize,
    #[comptime] outputs_of: usize,
    #[comptime] inputs_of: usize,
    #[comptime] splits: usize,
    #[comptime] quads: usize,
    #[comptime] pair: bool,
) {
    let row = first_row + CUBE_POS_Z as usize * block::LEN;
    let inputs = table[row + block::INPUTS] as usize;
    let outputs = table[row + block::OUTPUTS] as usize;
    let first_output = CUBE_POS_Y as usize / input_parts * comptime!(4 * outputs_of);
    let first_input = CUBE_POS_Y as usize % input_parts * comptime!(4 * inputs_of);
    if first_output >= outputs || first_input >= inputs {
        terminate!();
    }
    let threads = comptime!(outputs_of * inputs_of * splits);
    let unit = UNIT_POS as usize;
    let split = unit / comptime!(outputs_of * inputs_of);
    let of_output = unit / inputs_of % outputs_of;
    let of_input = unit % inputs_of;
    let pixels = comptime!(4 * quads);
    let size = height * width;
    let per_row = width.div_ceil(4);
    let all = height * per_row;
    let mixing = table[row + block::MIXING];
    let mut gradients = Shared::<[f32]>::new_slice(comptime!(pixels * outputs_of * 4));
    let mut gathered = Shared::<[f32]>::new_slice(comptime!(pixels * inputs_of * 4));
    let mut sums = Array::<f32>::new(16usize);
    let begin = CUBE_POS_X as usize * images_per_chunk;
    let end = min(begin + images_per_chunk, images);
    for image in begin..end {
        let scale = factor(table, factors, mixing, image, images);
        let mut tile = 0usize;
        while tile < all {
            let mut entry = unit;
            while entry < comptime!(quads * outputs_of * 4) {
                let output = first_output + entry / quads;
                let place = tile + entry % quads;
                let y = place / per_row;
                let x = place % per_row * 4;
                #[unroll]
                for pixel in 0..4usize {
                    let mut value = f32::new(0.0);
                    if place < all && x + pixel < width && output < outputs {
                        let channel = table[row + block::FIRST] as usize + output;
                        let number = table[row + block::COEFFICIENTS] as usize;
                        let from = first_coefficient + (number * channels + channel) * OF_NORM;
                        let line = Line { a: norms[from], b: norms[from + 1], c: norms[from + 2] };
                        let at = (image * channels + channel) * size + y * width + x + pixel;
                        value = map_gradient(table, row, maps, &*work, &line, scale, at);
                    }
                    let at = entry % quads * 4 + pixel;
                    gradients[at * comptime!(outputs_of * 4) + entry / quads] = value;
                }
                entry += threads;
            }
            let mut entry = unit;
            while entry < comptime!(quads * inputs_of * 4) {
                let input = first_input + entry / quads;
                let place = tile + entry % quads;
                let y = place / per_row;
                let x = place % per_row * 4;
                let mut value = Four::new(0.0);
                if place < all && input < inputs {
                    if table[row + block::SOURCE_NORM] != NONE {
                        value = gathered_again(
                            table, row, maps, weights, norms, image, channels, input, y, x,
                        );
                    } else if pair.comptime() && table[row + block::INPUT] == 1 {
                        value = gathered_again(
                            table, row, other, weights, norms, image, channels, input, y, x,
                        );
                    } else {
                        value = gathered_again(
                            table, row, values, weights, norms, image, channels, input, y, x,
                        );
                    }
                }
                #[unroll]
                for pixel in 0..4usize {
                    let at = entry % quads * 4 + pixel;
                    // Beyond the row the gradient is zero, and this value is finite all the same.
                    gathered[at * comptime!(inputs_of * 4) + entry / quads] = value.extract(pixel);
                }
                entry += threads;
            }
            sync_cube();
            let mut at = split;
            while at < pixels {
                #[unroll]
                for output in 0..4usize {
                    let gradient =
                        gradients[at * comptime!(outputs_of * 4) + of_output * 4 + output];
                    #[unroll]
                    for input in 0..4usize {
                        sums[output * 4 + input] += gradient
                            * gathered[at * comptime!(inputs_of * 4) + of_input * 4 + input];
                    }
                }
                at += splits;
            }
            sync_cube();
            tile += quads;
        }
    }
    let number = CUBE_POS_X as usize * splits + split;
    let to =
        first_partial + table[row + block::POINTWISE_PARTIALS] as usize + number * outputs * inputs;
    #[unroll]
    for output in 0..4usize {
        #[unroll]
        for input in 0..4usize {
            let at_output = first_output + of_output * 4 + output;
            let at_input = first_input + of_input * 4 + input;
            if at_output < outputs && at_input < inputs {
                work[to + at_output * inputs + at_input] = sums[output * 4 + input];
            }
        }
    }
}

/// Parts of the gradients of depthwise convolutions:
/// `dw[q, t] = sum over p of dy[q, p] u[q, stride p + t]`. Cubes: chunks of images, channels, branches.
#[cube(launch_unchecked)]
pub fn depthwise_gradients(
    table: &[u32],
    values: &[f32],
    other: &[f32],
    maps: &[f32],
    work: &mut [f32],
    norms: &[f32],
    first_row: usize,
    first_partial: usize,
    images: usize,
    images_per_chunk: usize,
    channels: usize,
    height: usize,
    width: usize,
    #[comptime] pair: bool,
) {
    let row = first_row + CUBE_POS_Z as usize * block::LEN;
    if table[row + block::GATHER] != gather::DEPTHWISE {
        terminate!();
    }
    let kernel = table[row + block::KERNEL];
    if kernel == 3 {
        of_kernel(
            table,
            row,
            values,
            other,
            maps,
            work,
            norms,
            first_partial,
            images,
            images_per_chunk,
            channels,
            height,
            width,
            3usize,
            pair,
        );
    } else {
        of_kernel(
            table,
            row,
            values,
            other,
            maps,
            work,
            norms,
            first_partial,
            images,
            images_per_chunk,
            channels,
            height,
            width,
            5usize,
            pair,
        );
    }
}

#[cube]
fn of_kernel(
    table: &[u32],
    row: usize,
    values: &[f32],
    other: &[f32],
    maps: &[f32],
    work: &mut [f32],
    norms: &[f32],
    first_partial: usize,
    images: usize,
    images_per_chunk: usize,
    channels: usize,
    height: usize,
    width: usize,
    #[comptime] kernel: usize,
    #[comptime] pair: bool,
) {
    let input = CUBE_POS_Y as usize;
    let inputs = table[row + block::INPUTS] as usize;
    let size = height * width;
    let per_row = width.div_ceil(4);
    let all = height * per_row;
    let in_height = table[row + block::HEIGHT] as usize;
    let in_width = table[row + block::WIDTH] as usize;
    let stride = table[row + block::STRIDE] as i32;
    let dilation = table[row + block::DILATION] as i32;
    let padding = table[row + block::PADDING] as i32 - BIAS as i32;
    let is_inner = table[row + block::SOURCE_NORM] != NONE;
    let mut sums = Array::<f32>::new(comptime!(kernel * kernel));
    let begin = CUBE_POS_X as usize * images_per_chunk;
    let end = min(begin + images_per_chunk, images);
    for image in begin..end {
        let plane =
            plane_of(table, row, norms, image, channels, inputs, input, in_height, in_width);
        let from = table[row + block::GATHERED] as usize + (image * inputs + input) * size;
        let mut place = UNIT_POS as usize;
        while place < all {
            let y = place / per_row;
            let x = place % per_row * 4;
            let mut gradient = Array::<f32>::new(4usize);
            #[unroll]
            for pixel in 0..4usize {
                if x + pixel < width {
                    gradient[pixel] = work[from + y * width + x + pixel];
                } else {
                    gradient[pixel] = 0.0;
                }
            }
            #[unroll]
            for tap in 0..comptime!(kernel * kernel) {
                let at_y = y as i32 * stride - padding + (tap / kernel) as i32 * dilation;
                let at_x = x as i32 * stride - padding + (tap % kernel) as i32 * dilation;
                if at_y >= 0 && at_y < plane.height {
                    #[unroll]
                    for pixel in 0..4usize {
                        let at_x = at_x + pixel as i32 * stride;
                        if at_x >= 0 && at_x < plane.width {
                            let at = plane.first + (at_y * plane.width + at_x) as usize;
                            let mut value = f32::new(0.0);
                            if is_inner {
                                value = lifted(maps, at, &plane);
                            } else if pair.comptime() && table[row + block::INPUT] == 1 {
                                value = lifted(other, at, &plane);
                            } else {
                                value = lifted(values, at, &plane);
                            }
                            sums[tap] += gradient[pixel] * value;
                        }
                    }
                }
            }
            place += UNITS;
        }
    }
    let taps = comptime!(kernel * kernel);
    let mut scratch = Shared::<[f32]>::new_slice(comptime!(kernel * kernel * UNITS));
    let unit = UNIT_POS as usize;
    #[unroll]
    for tap in 0..taps {
        scratch[tap * UNITS + unit] = sums[tap];
    }
    sync_cube();
    // All taps at once: a barrier costs as much as many sums.
    let mut half = comptime!(UNITS / 2).runtime();
    while half > 0 {
        if unit < half {
            #[unroll]
            for tap in 0..taps {
                let other = scratch[tap * UNITS + unit + half];
                scratch[tap * UNITS + unit] += other;
            }
        }
        sync_cube();
        half /= 2;
    }
    if unit < taps {
        let to = first_partial
            + table[row + block::DEPTHWISE_PARTIALS] as usize
            + (CUBE_POS_X as usize * inputs + input) * taps;
        work[to + unit] = scratch[unit * UNITS];
    }
}
