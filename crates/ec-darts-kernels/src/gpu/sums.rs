//! Sums: moments from their parts, running statistics, and nodes from their terms.

use cubecl::prelude::*;

use super::moments::{pixels_of, total};
use super::planes::{Access, Four, Plane, read_four, write_four};
use super::pools::pooled;
use super::table::{NONE, kind, node, norm, term};
use crate::EPSILON;

/// Number of values of one normalization for each channel: mean, biased variance, scale, shift.
pub const OF_NORM: usize = 4;

/// Number of units of a cube that adds up.
pub const UNITS: usize = 64;

/// Number of units of a cube for a whole channel.
pub const VALUES: usize = 256;

/// Mean, variance, scale and shift from the moments of tiles (see [`super::blocks`]), or from those of an earlier
/// launch. Cubes: channels, normalizations.
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
    tiles_x: usize,
    columns: usize,
    rows: usize,
    height: usize,
    width: usize,
) {
    let row = first_row + CUBE_POS_Y as usize * norm::LEN;
    let channel = CUBE_POS_X as usize;
    let mut scratch = Shared::<[f32]>::new_slice(UNITS);
    let alike = table[row + norm::ALIKE];
    if alike != NONE {
        if UNIT_POS == 0 {
            let from = (alike as usize * channels + channel) * OF_NORM;
            let (mean, variance) = (norms[from], norms[from + 1]);
            let to = (table[row + norm::NORM] as usize * channels + channel) * OF_NORM;
            finish(norms, to, mean, variance, weights, table[row + norm::GAMMA], channel, channels);
        }
        terminate!();
    }
    let num_tiles = images * tiles;
    let from = (CUBE_POS_Y as usize * channels + channel) * num_tiles * 2;
    let count = (images * height * width) as f32;
    let mut sum = f32::new(0.0);
    let mut tile = UNIT_POS as usize;
    while tile < num_tiles {
        sum += partials[from + tile * 2];
        tile += UNITS;
    }
    let mean = total(&mut scratch, sum, UNITS) / count;
    let mut squares = f32::new(0.0);
    let mut tile = UNIT_POS as usize;
    while tile < num_tiles {
        let place = tile % tiles;
        let pixels = pixels_of(place % tiles_x, place / tiles_x, height, width, columns, rows);
        let off = partials[from + tile * 2] / pixels - mean;
        squares += partials[from + tile * 2 + 1] + pixels * off * off;
        tile += UNITS;
    }
    let variance = total(&mut scratch, squares, UNITS) / count;
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

/// Normalizations by given statistics. `places`: the first statistic of each normalization.
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

/// Running statistics, moved towards those of the batch; `numbers`: for each packed statistic, its
/// channel among those that ran; `counts`: for each normalization, its number of values per
/// channel.
#[cube(launch_unchecked)]
pub fn observe(
    table: &[u32],
    norms: &[f32],
    mean: &[f32],
    variance: &[f32],
    new_mean: &mut [f32],
    new_variance: &mut [f32],
    numbers: usize,
    counts: usize,
    channels: usize,
    momentum: f32,
) {
    if ABSOLUTE_POS < new_mean.len() {
        let at = ABSOLUTE_POS;
        let number = table[numbers + at];
        let mut of_mean = mean[at];
        let mut of_variance = variance[at];
        if number != NONE {
            let from = number as usize * OF_NORM;
            let count = table[counts + number as usize / channels] as f32;
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

/// A term's values before its normalization, at the four pixels of a quad.
#[cube]
pub fn value_of(
    table: &[u32],
    row: usize,
    source: &[f32],
    maps: &[f32],
    image_channel: usize,
    height: usize,
    width: usize,
    y: usize,
    x: usize,
    #[comptime] access: Access,
) -> Four {
    let what = table[row + term::KIND];
    let place = table[row + term::VALUE] as usize;
    let mut value = Four::new(0.0);
    if what == kind::MAP {
        let at = place + image_channel * height * width + y * width + x;
        value = read_four(maps, at, width - x, access);
    } else {
        let in_height = table[row + term::HEIGHT] as usize;
        let in_width = table[row + term::WIDTH] as usize;
        let first = place + image_channel * in_height * in_width;
        if what == kind::IDENTITY {
            value = read_four(source, first + y * width + x, width - x, access);
        } else {
            let plane = Plane {
                first,
                height: in_height as i32,
                width: in_width as i32,
                scale: 1.0,
                shift: 0.0,
                floor: f32::MIN,
            };
            let stride = table[row + term::STRIDE] as i32;
            let top = y as i32 * stride - 1;
            let left = x as i32 * stride - 1;
            value = pooled(source, &plane, top, left, stride, what == kind::MAX_POOL, access);
        }
    }
    value
}

/// Number of maps whose values a unit reads at once.
const MAPS: usize = 4;

/// Nodes: sums of their terms, normalized and weighted. Cubes: quads of an image, nodes, images.
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
    #[comptime] access: Access,
) {
    let row = first_row + CUBE_POS_Y as usize * node::LEN;
    let image = CUBE_POS_Z as usize;
    let images = CUBE_COUNT_Z as usize;
    let size = height * width;
    let wide = width.div_ceil(4);
    let quads = height * wide;
    let index = (CUBE_POS_X * CUBE_DIM_X + UNIT_POS_X) as usize;
    if index < channels * quads {
        let channel = index / quads;
        let y = index % quads / wide;
        let x = index % wide * 4;
        let lanes = width - x;
        let place = y * width + x;
        let plane = image * channels + channel;
        let mut sum = Four::new(0.0);
        let terms = table[row + node::TERMS] as usize;
        let num_maps = table[row + node::NUM_MAPS] as usize;
        let mut number = 0usize;
        while number < num_maps {
            // All values of a few maps are read before one is used.
            let mut read = Array::<Four>::new(MAPS);
            #[unroll]
            for next in 0..MAPS {
                let mut four = Four::new(0.0);
                if number + next < num_maps {
                    let entry = terms + (number + next) * term::LEN;
                    let map = table[entry + term::VALUE] as usize;
                    four = read_four(maps, map + plane * size + place, lanes, access);
                }
                read[next] = four;
            }
            #[unroll]
            for next in 0..MAPS {
                if number + next < num_maps {
                    let entry = terms + (number + next) * term::LEN;
                    let from = (table[entry + term::NORM] as usize * channels + channel) * OF_NORM;
                    let weight = table[entry + term::MIXING];
                    let mut scale = mixing[weight as usize];
                    scale *= factor(table, factors, weight, image, images);
                    let value =
                        read[next] * Four::new(norms[from + 2]) + Four::new(norms[from + 3]);
                    sum += Four::new(scale) * value;
                }
            }
            number += MAPS;
        }
        for number in num_maps..table[row + node::NUM_TERMS] as usize {
            let entry = terms + number * term::LEN;
            let mut value = Four::new(0.0);
            if of_states.comptime() && table[entry + term::KIND] == kind::POOLED {
                let map = table[entry + term::VALUE] as usize;
                value = read_four(source, map + plane * size + place, lanes, access);
            } else if of_states.comptime() {
                value = value_of(table, entry, &*states, maps, plane, height, width, y, x, access);
            } else {
                value = value_of(table, entry, source, maps, plane, height, width, y, x, access);
            }
            let of_norm = table[entry + term::NORM];
            if of_norm != NONE {
                let from = (of_norm as usize * channels + channel) * OF_NORM;
                value = value * Four::new(norms[from + 2]) + Four::new(norms[from + 3]);
            }
            let weight = table[entry + term::MIXING];
            value *= Four::new(factor(table, factors, weight, image, images));
            sum += Four::new(mixing[weight as usize]) * value;
        }
        write_four(
            states,
            table[row + node::STATE] as usize + plane * size + place,
            sum,
            lanes,
            access,
        );
        let to = table[row + node::OUTPUT];
        if to != NONE {
            let to = (image * out_channels + to as usize + channel) * size + place;
            write_four(output, to, sum, lanes, access);
        }
    }
}
