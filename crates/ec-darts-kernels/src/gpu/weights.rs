//! Gradients of weights, in parts with a fixed order.

use cubecl::prelude::*;

use super::backward::{Line, map_gradient};
use super::planes::{Access, Four, Plane, Ways, picked, read_four};
use super::sums::{OF_NORM, factor};
use super::table::{BIAS, NONE, block, gather};

/// The values of a block without a depthwise convolution for one of its channels, at four neighbouring pixels.
#[cube]
fn gathered_again(
    table: &[u32],
    row: usize,
    values: &[f32],
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
    picked(
        values,
        &plane,
        y as i32 * stride - padding,
        x as i32 * stride - padding,
        way,
        stride,
        input,
    )
}

/// The plane that a block reads for one channel of its source.
#[cube]
pub fn plane_of(
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
/// parts of outputs and inputs, branches. The values of depthwise convolutions are those that
/// [`depthwise_gradients`](super::depthwise::depthwise_gradients) left.
///
/// A unit has 4x4 weights, of outputs and inputs that lie `outputs_of` and `inputs_of` apart; `splits` units share a
/// weight and take quads in turn.
#[cube(launch_unchecked)]
pub fn pointwise_gradients(
    table: &[u32],
    values: &[f32],
    other: &[f32],
    maps: &[f32],
    work: &mut [f32],
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
    #[comptime] ways: Ways,
    #[comptime] access: Access,
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
    // A unit reads one quad of several channels. Units that are left over read none.
    let of_quad = unit % quads;
    let of_channel = unit / quads;
    let channels_apart = comptime!(threads / quads);
    let size = height * width;
    let wide = width.div_ceil(4);
    let all = height * wide;
    let mixing = table[row + block::MIXING];
    let of_map = table[row + block::FIRST] as usize + first_output;
    // One four more than quads: channels side by side lie in different banks.
    let stride = comptime!(quads + 1);
    let mut gradients = Shared::<[Four]>::new_slice(comptime!((quads + 1) * outputs_of * 4));
    let mut gathered = Shared::<[Four]>::new_slice(comptime!((quads + 1) * inputs_of * 4));
    let mut lines = Shared::<[f32]>::new_slice(comptime!(outputs_of * 4 * 3));
    let mut output = unit;
    while output < comptime!(outputs_of * 4) {
        if first_output + output < outputs {
            let number = table[row + block::COEFFICIENTS] as usize;
            let from = first_coefficient + (number * channels + of_map + output) * OF_NORM;
            #[unroll]
            for part in 0..3usize {
                lines[output * 3 + part] = norms[from + part];
            }
        }
        output += threads;
    }
    sync_cube();
    let mut sums = Array::<f32>::new(16usize);
    let begin = CUBE_POS_X as usize * images_per_chunk;
    let end = min(begin + images_per_chunk, images);
    for image in begin..end {
        let scale = factor(table, factors, mixing, image, images);
        let mut tile = 0usize;
        while tile < all {
            let place = tile + of_quad;
            let y = place / wide;
            let x = place % wide * 4;
            let at = y * width + x;
            let has_quad = place < all && of_channel < channels_apart;
            let lanes = width - x;
            let mut output = of_channel;
            while output < comptime!(outputs_of * 4) {
                let mut value = Four::new(0.0);
                if has_quad && first_output + output < outputs {
                    let line = Line {
                        a: lines[output * 3],
                        b: lines[output * 3 + 1],
                        c: lines[output * 3 + 2],
                    };
                    let at = (image * channels + of_map + output) * size + at;
                    value = map_gradient(table, row, maps, &*work, &line, scale, at, lanes, access);
                }
                if of_channel < channels_apart {
                    gradients[output * stride + of_quad] = value;
                }
                output += channels_apart;
            }
            let mut input = of_channel;
            while input < comptime!(inputs_of * 4) {
                let mut value = Four::new(0.0);
                if has_quad && first_input + input < inputs {
                    let input = first_input + input;
                    if comptime!(ways == Ways::All)
                        && table[row + block::GATHER] == gather::DEPTHWISE
                    {
                        let from = table[row + block::GATHERED] as usize
                            + (image * inputs + input) * size
                            + at;
                        value = read_four(&*work, from, lanes, access);
                    } else if pair.comptime() && table[row + block::INPUT] == 1 {
                        value =
                            gathered_again(table, row, other, norms, image, channels, input, y, x);
                    } else {
                        value =
                            gathered_again(table, row, values, norms, image, channels, input, y, x);
                    }
                }
                // Beyond the map the gradient is zero, and this value is finite all the same.
                if of_channel < channels_apart {
                    gathered[input * stride + of_quad] = value;
                }
                input += channels_apart;
            }
            sync_cube();
            let mut at = split;
            while at < quads {
                let mut inputs = Array::<Four>::new(4usize);
                #[unroll]
                for input in 0..4usize {
                    inputs[input] = gathered[(of_input + input * inputs_of) * stride + at];
                }
                #[unroll]
                for output in 0..4usize {
                    let gradient = gradients[(of_output + output * outputs_of) * stride + at];
                    #[unroll]
                    for input in 0..4usize {
                        let value = inputs[input];
                        #[unroll]
                        for pixel in 0..4usize {
                            sums[output * 4 + input] +=
                                gradient.extract(pixel) * value.extract(pixel);
                        }
                    }
                }
                at += splits;
            }
            sync_cube();
            tile += quads;
        }
    }
    let to = first_partial
        + table[row + block::POINTWISE_PARTIALS] as usize
        + CUBE_POS_X as usize * outputs * inputs;
    let mut scratch = Shared::<[Four]>::new_slice(threads);
    #[unroll]
    for output in 0..4usize {
        let mut four = Four::new(0.0);
        #[unroll]
        for input in 0..4usize {
            four.insert(input, sums[output * 4 + input]);
        }
        scratch[unit] = four;
        sync_cube();
        let mut half = comptime!(splits / 2).runtime();
        while half > 0 {
            if split < half {
                let other = scratch[unit + half * comptime!(outputs_of * inputs_of)];
                scratch[unit] += other;
            }
            sync_cube();
            half /= 2;
        }
        if split == 0 {
            let four = scratch[unit];
            let at_output = first_output + of_output + output * outputs_of;
            #[unroll]
            for input in 0..4usize {
                let at_input = first_input + of_input + input * inputs_of;
                if at_output < outputs && at_input < inputs {
                    work[to + at_output * inputs + at_input] = four.extract(input);
                }
            }
        }
        sync_cube();
    }
}
