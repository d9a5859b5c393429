//! Sums: moments from their parts, nodes from their terms, and what comes back to a node's terms.

use cubecl::prelude::*;

use super::blocks::pixels_before;
use super::planes::{Plane, pooled};
use super::table::{NONE, kind, node, norm, part, term};
use crate::EPSILON;

/// Values that one normalization has for each channel: mean, biased variance, scale, shift.
pub const OF_NORM: usize = 4;

/// Units of a cube that adds up.
pub const UNITS: usize = 64;

/// Adds the values of all units in a fixed order.
#[cube]
pub fn total(scratch: &mut Shared<[f32]>, value: f32) -> f32 {
    let unit = UNIT_POS as usize;
    scratch[unit] = value;
    sync_cube();
    let mut half = comptime!(UNITS / 2).runtime();
    while half > 0 {
        if unit < half {
            let other = scratch[unit + half];
            scratch[unit] += other;
        }
        sync_cube();
        half /= 2;
    }
    let sum = scratch[0];
    sync_cube();
    sum
}

/// Mean, variance, scale and shift from the moments of tiles (see [`super::blocks`]). Cubes: channels,
/// normalizations.
#[cube(launch_unchecked)]
pub fn moments(
    table: &[u32],
    partials: &[f32],
    weights: &[f32],
    norms: &mut [f32],
    first_row: usize,
    channels: usize,
    images: usize,
    tiles: usize,
    quads: usize,
    height: usize,
    width: usize,
) {
    let row = first_row + CUBE_POS_Y as usize * norm::LEN;
    let channel = CUBE_POS_X as usize;
    let mut scratch = Shared::<[f32]>::new_slice(UNITS);
    let num_tiles = images * tiles;
    let from = (CUBE_POS_Y as usize * channels + channel) * num_tiles * 2;
    let all = height * width.div_ceil(4);
    let count = (images * height * width) as f32;
    let mut sum = f32::new(0.0);
    let mut tile = UNIT_POS as usize;
    while tile < num_tiles {
        sum += partials[from + tile * 2];
        tile += UNITS;
    }
    let mean = total(&mut scratch, sum) / count;
    let mut squares = f32::new(0.0);
    let mut tile = UNIT_POS as usize;
    while tile < num_tiles {
        let begin = tile % tiles * quads;
        let end = min(begin + quads, all);
        let pixels = (pixels_before(end, width) - pixels_before(begin, width)) as f32;
        let off = partials[from + tile * 2] / pixels - mean;
        squares += partials[from + tile * 2 + 1] + pixels * off * off;
        tile += UNITS;
    }
    let variance = total(&mut scratch, squares) / count;
    if UNIT_POS == 0 {
        let to = (table[row + norm::NORM] as usize * channels + channel) * OF_NORM;
        finish(norms, to, mean, variance, weights, table[row + norm::GAMMA], channel, channels);
    }
}

/// Writes a channel's normalization.
#[cube]
fn finish(
    norms: &mut [f32],
    to: usize,
    mean: f32,
    variance: f32,
    weights: &[f32],
    gamma: u32,
    channel: usize,
    channels: usize,
) {
    let mut scale = 1.0 / (variance + EPSILON as f32).sqrt();
    let mut beta = f32::new(0.0);
    if gamma != NONE {
        scale *= weights[gamma as usize + channel];
        beta = weights[gamma as usize + channels + channel];
    }
    norms[to] = mean;
    norms[to + 1] = variance;
    norms[to + 2] = scale;
    norms[to + 3] = beta - mean * scale;
}

/// Normalizations by given statistics. `places`: of each normalization, where its statistics begin.
#[cube(launch_unchecked)]
pub fn given(
    table: &[u32],
    mean: &[f32],
    variance: &[f32],
    weights: &[f32],
    norms: &mut [f32],
    first_row: usize,
    places: usize,
    channels: usize,
    count: usize,
) {
    if ABSOLUTE_POS < count {
        let number = ABSOLUTE_POS / channels;
        let channel = ABSOLUTE_POS % channels;
        let from = table[places + number] as usize + channel;
        let gamma = table[first_row + number * norm::LEN + norm::GAMMA];
        let to = ABSOLUTE_POS * OF_NORM;
        finish(norms, to, mean[from], variance[from], weights, gamma, channel, channels);
    }
}

/// Running statistics moved towards those of the batch; `numbers`: of each normalization in the packed
/// statistics its number among those that ran, `counts`: the values of a channel that it saw.
#[cube(launch_unchecked)]
pub fn observe(
    table: &[u32],
    norms: &[f32],
    mean: &[f32],
    variance: &[f32],
    new_mean: &mut [f32],
    new_variance: &mut [f32],
    numbers: usize,
    channels: usize,
    momentum: f32,
) {
    if ABSOLUTE_POS < new_mean.len() {
        let at = ABSOLUTE_POS;
        let entry = numbers + at / channels * 2;
        let mut of_mean = mean[at];
        let mut of_variance = variance[at];
        if table[entry] != NONE {
            let from = (table[entry] as usize * channels + at % channels) * OF_NORM;
            let count = table[entry + 1] as f32;
            // A single value has no unbiased variance.
            let unbiased = select(count > 1.0, count / max(count - 1.0, 1.0), f32::new(1.0));
            of_mean = of_mean * (1.0 - momentum) + norms[from] * momentum;
            of_variance = of_variance * (1.0 - momentum) + norms[from + 1] * unbiased * momentum;
        }
        new_mean[at] = of_mean;
        new_variance[at] = of_variance;
    }
}

/// The factor of a term for an image: drop path.
#[cube]
pub fn factor(table: &[u32], factors: usize, mixing: u32, image: usize, images: usize) -> f32 {
    let mut value = f32::new(1.0);
    if factors > 0 && mixing != NONE {
        value = f32::reinterpret(table[factors + mixing as usize * images + image]);
    }
    value
}

/// A term's value before its normalization.
#[cube]
fn value_of(
    table: &[u32],
    row: usize,
    source: &[f32],
    maps: &[f32],
    image: usize,
    channels: usize,
    channel: usize,
    y: usize,
    x: usize,
    size: usize,
    at: usize,
) -> f32 {
    let what = table[row + term::KIND];
    let place = table[row + term::VALUE] as usize;
    let mut value = f32::new(0.0);
    if what == kind::MAP {
        value = maps[place + (image * channels + channel) * size + at];
    } else {
        let height = table[row + term::HEIGHT] as usize;
        let width = table[row + term::WIDTH] as usize;
        let first = place + (image * channels + channel) * height * width;
        if what == kind::IDENTITY {
            value = source[first + at];
        } else {
            let plane = Plane {
                first,
                height: height as i32,
                width: width as i32,
                scale: 1.0,
                shift: 0.0,
                floor: f32::MIN,
            };
            let stride = table[row + term::STRIDE] as usize;
            let top = (y * stride) as i32 - 1;
            let left = (x * stride) as i32 - 1;
            value = pooled(source, &plane, top, left, what == kind::MAX_POOL);
        }
    }
    value
}

/// Nodes: sums of their terms, normalized and weighted. Cubes: values of an image, nodes, images.
#[cube(launch_unchecked)]
pub fn nodes(
    table: &[u32],
    source: &[f32],
    states: &mut [f32],
    maps: &[f32],
    norms: &[f32],
    mixing: &[f32],
    output: &mut [f32],
    first_row: usize,
    factors: usize,
    channels: usize,
    height: usize,
    width: usize,
    out_channels: usize,
    #[comptime] of_states: bool,
) {
    let row = first_row + CUBE_POS_Y as usize * node::LEN;
    let image = CUBE_POS_Z as usize;
    let images = CUBE_COUNT_Z as usize;
    let size = height * width;
    let index = (CUBE_POS_X * CUBE_DIM_X + UNIT_POS_X) as usize;
    if index < channels * size {
        let channel = index / size;
        let at = index % size;
        let y = at / width;
        let x = at % width;
        let mut sum = f32::new(0.0);
        let terms = table[row + node::TERMS] as usize;
        for number in 0..table[row + node::NUM_TERMS] as usize {
            let entry = terms + number * term::LEN;
            let mut value = f32::new(0.0);
            if of_states.comptime() {
                value = value_of(
                    table, entry, &*states, maps, image, channels, channel, y, x, size, at,
                );
            } else {
                value =
                    value_of(table, entry, source, maps, image, channels, channel, y, x, size, at);
            }
            let of_norm = table[entry + term::NORM];
            if of_norm != NONE {
                let from = (of_norm as usize * channels + channel) * OF_NORM;
                value = value * norms[from + 2] + norms[from + 3];
            }
            let weight = table[entry + term::MIXING];
            value *= factor(table, factors, weight, image, images);
            sum += mixing[weight as usize] * value;
        }
        states[table[row + node::STATE] as usize + image * channels * size + index] = sum;
        let to = table[row + node::OUTPUT];
        if to != NONE {
            output[(image * out_channels + to as usize) * size + index] = sum;
        }
    }
}

/// Of each term: the sum of the gradient that reaches its node, and that of its product with the term's
/// distance from its mean. Cubes: chunks of images, channels, terms.
#[cube(launch_unchecked)]
pub fn gradient_sums(
    table: &[u32],
    source: &[f32],
    maps: &[f32],
    work: &[f32],
    norms: &[f32],
    partials: &mut [f32],
    first_row: usize,
    factors: usize,
    images: usize,
    channels: usize,
    height: usize,
    width: usize,
    images_per_chunk: usize,
) {
    let row = first_row + CUBE_POS_Z as usize * term::LEN;
    let channel = CUBE_POS_Y as usize;
    let size = height * width;
    let mut scratch = Shared::<[f32]>::new_slice(UNITS);
    let of_norm = table[row + term::NORM];
    let mut mean = f32::new(0.0);
    if of_norm != NONE {
        mean = norms[(of_norm as usize * channels + channel) * OF_NORM];
    }
    let gradient = table[row + term::GRADIENT] as usize;
    let weight = table[row + term::MIXING];
    let mut sum = f32::new(0.0);
    let mut products = f32::new(0.0);
    let first = CUBE_POS_X as usize * images_per_chunk;
    let last = min(first + images_per_chunk, images);
    for image in first..last {
        let scale = factor(table, factors, weight, image, images);
        let from = gradient + (image * channels + channel) * size;
        let mut at = UNIT_POS as usize;
        while at < size {
            let value = value_of(
                table,
                row,
                source,
                maps,
                image,
                channels,
                channel,
                at / width,
                at % width,
                size,
                at,
            );
            let reached = scale * work[from + at];
            sum += reached;
            products += reached * (value - mean);
            at += UNITS;
        }
    }
    let sum = total(&mut scratch, sum);
    let products = total(&mut scratch, products);
    if UNIT_POS == 0 {
        let chunks = CUBE_COUNT_X as usize;
        let to = ((CUBE_POS_Z as usize * channels + channel) * chunks + CUBE_POS_X as usize) * 2;
        partials[to] = sum;
        partials[to + 1] = products;
    }
}

/// The backward pass of normalizations, linear in the gradient `g` that reaches the node and in the map:
/// `dz = a f g + b z + c`; gradients of scale, shift and mixing weights. Cubes: terms.
///
/// ```text
/// s1 = sum f g,  s2 = sum f g (z - mean),  r = 1 / sqrt(var + eps)
/// a = gamma r m,  b = -a r^2 s2 / n,  c = -a s1 / n - b mean
/// dm = sum over channels of gamma r s2 + beta s1,  dgamma = m r s2,  dbeta = m s1
/// ```
#[cube(launch_unchecked)]
pub fn coefficients(
    table: &[u32],
    partials: &[f32],
    norms: &mut [f32],
    mixing: &[f32],
    parameter_gradient: &mut [f32],
    mixing_gradient: &mut [f32],
    first_row: usize,
    first_coefficient: usize,
    channels: usize,
    chunks: usize,
    count: usize,
    affine: u32,
) {
    let row = first_row + CUBE_POS_X as usize * term::LEN;
    let mut scratch = Shared::<[f32]>::new_slice(UNITS);
    let of_norm = table[row + term::NORM];
    let weight = table[row + term::MIXING];
    let gamma = table[row + term::GAMMA];
    let n = count as f32;
    let mut mix = f32::new(1.0);
    if weight != NONE {
        mix = mixing[weight as usize];
    }
    let mut of_mixing = f32::new(0.0);
    let mut channel = UNIT_POS as usize;
    while channel < channels {
        let from = (CUBE_POS_X as usize * channels + channel) * chunks * 2;
        let mut sum = f32::new(0.0);
        let mut products = f32::new(0.0);
        for chunk in 0..chunks {
            sum += partials[from + chunk * 2];
            products += partials[from + chunk * 2 + 1];
        }
        let mut a = mix;
        let mut b = f32::new(0.0);
        let mut c = f32::new(0.0);
        if of_norm != NONE {
            let at = (of_norm as usize * channels + channel) * OF_NORM;
            let mean = norms[at];
            let scale = norms[at + 2];
            let beta = norms[at + 3] + mean * scale;
            let inverse = 1.0 / (norms[at + 1] + EPSILON as f32).sqrt();
            a = scale * mix;
            b = -(a * inverse * inverse * products / n);
            c = -(a * sum / n) - b * mean;
            of_mixing += scale * products + beta * sum;
            if gamma != NONE && affine == 1 {
                let to = gamma as usize + channel;
                parameter_gradient[to] = mix * inverse * products;
                parameter_gradient[to + channels] = mix * sum;
            }
        } else {
            of_mixing += products;
        }
        let number = table[row + term::COEFFICIENTS] as usize;
        let to = first_coefficient + (number * channels + channel) * OF_NORM;
        norms[to] = a;
        norms[to + 1] = b;
        norms[to + 2] = c;
        channel += UNITS;
    }
    let of_mixing = total(&mut scratch, of_mixing);
    if UNIT_POS == 0 && weight != NONE {
        mixing_gradient[weight as usize] = of_mixing;
    }
}

/// Gradients of states as the output's gradient gives them, zero for those that are not joined. Cubes: values
/// of an image, states, images.
#[cube(launch_unchecked)]
pub fn parts(
    table: &[u32],
    gradient: &[f32],
    work: &mut [f32],
    first_row: usize,
    channels: usize,
    out_channels: usize,
) {
    let row = first_row + CUBE_POS_Y as usize * part::LEN;
    let image = CUBE_POS_Z as usize;
    let size = table[row + part::SIZE] as usize;
    let index = (CUBE_POS_X * CUBE_DIM_X + UNIT_POS_X) as usize;
    if index < channels * size {
        let mut value = f32::new(0.0);
        let from = table[row + part::FROM];
        if from != NONE {
            value = gradient[(image * out_channels + from as usize) * size + index];
        }
        work[table[row + part::TO] as usize + image * channels * size + index] = value;
    }
}

/// Gradients of weights from their parts. Cubes: weights of a part, parts.
#[cube(launch_unchecked)]
pub fn add_parts(table: &[u32], partials: &[f32], gradient: &mut [f32], first_row: usize) {
    let row = first_row + CUBE_POS_Y as usize * part::LEN;
    let size = table[row + part::SIZE] as usize;
    let index = (CUBE_POS_X * CUBE_DIM_X + UNIT_POS_X) as usize;
    if index < size {
        let from = table[row + part::FROM] as usize + index;
        let mut sum = f32::new(0.0);
        for number in 0..table[row + part::NUM] as usize {
            sum += partials[from + number * size];
        }
        gradient[table[row + part::TO] as usize + index] = sum;
    }
}

/// Zeros.
#[cube(launch_unchecked)]
pub fn clear(values: &mut [f32]) {
    if ABSOLUTE_POS < values.len() {
        values[ABSOLUTE_POS] = 0.0;
    }
}
