//! Gradients of weights, in parts with a fixed order.

use cubecl::prelude::*;

use super::backward::{Line, map_gradient};
use super::planes::{Four, Plane, Ways, column_of, gathered, pixel, within};
use super::sums::{OF_NORM, factor};
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
    #[comptime] ways: Ways,
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
        ways,
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
    #[comptime] ways: Ways,
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
    let size = height * width;
    let all = height.div_ceil(4) * width;
    let mixing = table[row + block::MIXING];
    // One four more than quads: channels side by side lie in different banks.
    let stride = comptime!(quads + 1);
    let mut gradients = Shared::<[Four]>::new_slice(comptime!((quads + 1) * outputs_of * 4));
    let mut gathered = Shared::<[Four]>::new_slice(comptime!((quads + 1) * inputs_of * 4));
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
                let y = place / width * 4;
                let x = place % width;
                let mut value = Four::new(0.0);
                if place < all && output < outputs {
                    let channel = table[row + block::FIRST] as usize + output;
                    let number = table[row + block::COEFFICIENTS] as usize;
                    let from = first_coefficient + (number * channels + channel) * OF_NORM;
                    let line = Line { a: norms[from], b: norms[from + 1], c: norms[from + 2] };
                    let at = (image * channels + channel) * size + y * width + x;
                    value =
                        map_gradient(table, row, maps, &*work, &line, scale, at, y, height, width);
                }
                gradients[entry / quads * stride + entry % quads] = value;
                entry += threads;
            }
            let mut entry = unit;
            while entry < comptime!(quads * inputs_of * 4) {
                let input = first_input + entry / quads;
                let place = tile + entry % quads;
                let y = place / width * 4;
                let x = place % width;
                let mut value = Four::new(0.0);
                if place < all && input < inputs {
                    if comptime!(ways == Ways::All) && table[row + block::SOURCE_NORM] != NONE {
                        value = gathered_again(
                            table,
                            row,
                            maps,
                            weights,
                            norms,
                            image,
                            channels,
                            input,
                            y,
                            x,
                            Ways::Depthwise,
                        );
                    } else if pair.comptime() && table[row + block::INPUT] == 1 {
                        value = gathered_again(
                            table, row, other, weights, norms, image, channels, input, y, x, ways,
                        );
                    } else {
                        value = gathered_again(
                            table, row, values, weights, norms, image, channels, input, y, x, ways,
                        );
                    }
                }
                // Below the map the gradient is zero, and this value is finite all the same.
                gathered[entry / quads * stride + entry % quads] = value;
                entry += threads;
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

/// Largest number of rows and columns of a depthwise convolution ([`super::serves`]).
pub const MOST_TAPS: usize = 5;

/// Number of units of a cube of [`depthwise_gradients`] for each column of taps.
pub const OF_COLUMN: usize = 32;

/// Parts of the gradients of depthwise convolutions:
/// `dw[q, t] = sum over p of dy[q, p] u[q, stride p + t]`. Cubes: chunks of images, channels, branches. A unit has a
/// column of taps.
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
    let input = CUBE_POS_Y as usize;
    let inputs = table[row + block::INPUTS] as usize;
    let kernel = table[row + block::KERNEL];
    let begin = CUBE_POS_X as usize * images_per_chunk;
    let end = min(begin + images_per_chunk, images);
    let mut sums = Array::<f32>::new(MOST_TAPS);
    if UNIT_POS_Y < kernel {
        for image in begin..end {
            if table[row + block::SOURCE_NORM] != NONE {
                add_image(
                    table, row, maps, &*work, norms, image, channels, height, width, &mut sums,
                );
            } else if pair.comptime() && table[row + block::INPUT] == 1 {
                add_image(
                    table, row, other, &*work, norms, image, channels, height, width, &mut sums,
                );
            } else {
                add_image(
                    table, row, values, &*work, norms, image, channels, height, width, &mut sums,
                );
            }
        }
    }
    let threads = comptime!(MOST_TAPS * OF_COLUMN);
    let mut scratch = Shared::<[f32]>::new_slice(comptime!(MOST_TAPS * MOST_TAPS * OF_COLUMN));
    let unit = UNIT_POS as usize;
    #[unroll]
    for tap in 0..MOST_TAPS {
        scratch[tap * threads + unit] = sums[tap];
    }
    sync_cube();
    // All taps at once: a barrier costs as much as many sums.
    let mut half = comptime!(OF_COLUMN / 2).runtime();
    while half > 0 {
        if (UNIT_POS_X as usize) < half {
            #[unroll]
            for tap in 0..MOST_TAPS {
                let other = scratch[tap * threads + unit + half];
                scratch[tap * threads + unit] += other;
            }
        }
        sync_cube();
        half /= 2;
    }
    let kernel = kernel as usize;
    let taps = kernel * kernel;
    if unit < taps {
        let to = first_partial
            + table[row + block::DEPTHWISE_PARTIALS] as usize
            + (CUBE_POS_X as usize * inputs + input) * taps;
        work[to + unit] = scratch[unit / kernel * threads + unit % kernel * OF_COLUMN];
    }
}

/// Adds one image to the sums of a column of taps.
#[cube]
fn add_image(
    table: &[u32],
    row: usize,
    source: &[f32],
    work: &[f32],
    norms: &[f32],
    image: usize,
    channels: usize,
    height: usize,
    width: usize,
    sums: &mut Array<f32>,
) {
    let input = CUBE_POS_Y as usize;
    let inputs = table[row + block::INPUTS] as usize;
    let in_height = table[row + block::HEIGHT] as usize;
    let in_width = table[row + block::WIDTH] as usize;
    let plane = plane_of(table, row, norms, image, channels, inputs, input, in_height, in_width);
    let kernel = table[row + block::KERNEL];
    let stride = table[row + block::STRIDE] as i32;
    let dilation = table[row + block::DILATION] as i32;
    let padding = table[row + block::PADDING] as i32 - BIAS as i32;
    let from = table[row + block::GATHERED] as usize + (image * inputs + input) * height * width;
    let all = height.div_ceil(4) * width;
    let mut place = UNIT_POS_X as usize;
    while place < all {
        let y = place / width * 4;
        let x = place % width;
        let mut gradient = Array::<f32>::new(4usize);
        #[unroll]
        for pixel in 0..4usize {
            if y + pixel < height {
                gradient[pixel] = work[from + (y + pixel) * width + x];
            }
        }
        let top = y as i32 * stride - padding;
        let at_x = x as i32 * stride - padding + UNIT_POS_Y as i32 * dilation;
        if within(at_x, plane.width) {
            if stride == 1 && kernel == 3 && dilation == 1 {
                add_quad(source, &plane, top, at_x, &gradient, sums, 3usize, 1usize);
            } else if stride == 1 && kernel == 5 && dilation == 1 {
                add_quad(source, &plane, top, at_x, &gradient, sums, 5usize, 1usize);
            } else if stride == 1 && kernel == 3 && dilation == 2 {
                add_quad(source, &plane, top, at_x, &gradient, sums, 3usize, 2usize);
            } else if stride == 1 && kernel == 5 && dilation == 2 {
                add_quad(source, &plane, top, at_x, &gradient, sums, 5usize, 2usize);
            } else {
                #[unroll]
                for tap in 0..MOST_TAPS {
                    if (tap as u32) < kernel {
                        #[unroll]
                        for number in 0..4usize {
                            let at_y = top + number as i32 * stride + tap as i32 * dilation;
                            sums[tap] += gradient[number] * pixel(source, &plane, at_y, at_x);
                        }
                    }
                }
            }
        }
        place += OF_COLUMN;
    }
}

/// Adds the products of a quad's gradient with a column of the source, at stride 1.
#[cube]
fn add_quad(
    source: &[f32],
    plane: &Plane,
    top: i32,
    x: i32,
    gradient: &Array<f32>,
    sums: &mut Array<f32>,
    #[comptime] kernel: usize,
    #[comptime] dilation: usize,
) {
    let line = column_of(source, plane, top, x, comptime!(4 + (kernel - 1) * dilation), true);
    #[unroll]
    for tap in 0..kernel {
        #[unroll]
        for number in 0..4usize {
            sums[tap] += gradient[number] * line[number + tap * dilation];
        }
    }
}
