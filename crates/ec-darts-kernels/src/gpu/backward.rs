//! Backward through blocks: from the gradient behind a normalization to that of gathered values.

use cubecl::prelude::*;

use super::planes::{Access, Four, read_four, write_four};
use super::product::{add_product, put_pointwise};
use super::sums::{OF_NORM, factor};
use super::table::{NONE, block};
use crate::EPSILON;

/// Largest number of channels of a block's output ([`super::serves`]).
pub const MOST_CHANNELS: usize = 256;

/// The backward pass of a normalization for one channel, linear in the gradient `g` that reaches its node and in the
/// map: `dz = a f g + b z + c`.
///
/// ```text
/// s1 = sum f g,  s2 = sum f g (z - mean),  r = 1 / sqrt(var + eps)
/// a = gamma r m,  b = -a r^2 s2 / n,  c = -a s1 / n - b mean
/// ```
#[derive(CubeType, Clone, Copy)]
pub struct Line {
    pub a: f32,
    pub b: f32,
    pub c: f32,
}

/// The coefficient of the normalization at a place, with the mixing weight `mix` behind it.
#[cube]
pub fn line_of(norms: &[f32], at: usize, mix: f32, sum: f32, products: f32, n: f32) -> Line {
    let mean = norms[at];
    let inverse = 1.0 / (norms[at + 1] + EPSILON as f32).sqrt();
    let a = norms[at + 2] * mix;
    let b = -(a * inverse * inverse * products / n);
    Line { a, b, c: -(a * sum / n) - b * mean }
}

/// The gradients of a map before its normalization, at the first `lanes` pixels of a quad; `at` is its first place in the
/// map.
#[cube]
pub fn map_gradient(
    table: &[u32],
    row: usize,
    maps: &[f32],
    work: &[f32],
    line: &Line,
    scale: f32,
    at: usize,
    lanes: usize,
    #[comptime] access: Access,
) -> Four {
    let reached = table[row + block::GRADIENT] as usize + at;
    let map = table[row + block::MAP] as usize + at;
    let of_map = read_four(maps, map, lanes, access);
    let of_gradient = read_four(work, reached, lanes, access);
    let value = Four::new(line.a * scale) * of_gradient + Four::new(line.b) * of_map;
    within_lanes(value + Four::new(line.c), lanes, access)
}

/// Zero beyond the map.
#[cube]
fn within_lanes(value: Four, lanes: usize, #[comptime] access: Access) -> Four {
    let mut value = value;
    if comptime!(!access.is_whole()) {
        #[unroll]
        for pixel in 0..4usize {
            value.insert(pixel, select(pixel < lanes, value.extract(pixel), f32::new(0.0)));
        }
    }
    value
}

/// The coefficients of a block's channel: existing ones, or computed from the sums that
/// [`super::sources`] left. The `first` cube writes these.
#[cube]
fn coefficients_of(
    table: &[u32],
    row: usize,
    norms: &mut [f32],
    parameter_gradient: &mut [f32],
    channel: usize,
    channels: usize,
    first_coefficient: usize,
    first_sum: usize,
    chunks: usize,
    n: f32,
    first: bool,
    wants_parameters: u32,
) -> Line {
    let number = table[row + block::COEFFICIENTS] as usize;
    let to = first_coefficient + (number * channels + channel) * OF_NORM;
    let mut a = f32::new(0.0);
    let mut b = f32::new(0.0);
    let mut c = f32::new(0.0);
    let sums = table[row + block::SUMS];
    if sums == NONE {
        a = norms[to];
        b = norms[to + 1];
        c = norms[to + 2];
    } else {
        let from = first_sum + (sums as usize * channels + channel) * chunks * 2;
        let mut sum = f32::new(0.0);
        let mut products = f32::new(0.0);
        for chunk in 0..chunks {
            sum += norms[from + chunk * 2];
            products += norms[from + chunk * 2 + 1];
        }
        let at = (table[row + block::NORM] as usize * channels + channel) * OF_NORM;
        let line = line_of(&*norms, at, f32::new(1.0), sum, products, n);
        a = line.a;
        b = line.b;
        c = line.c;
        if first {
            norms[to] = a;
            norms[to + 1] = b;
            norms[to + 2] = c;
            let gamma = table[row + block::GAMMA];
            if gamma != NONE && wants_parameters == 1 {
                let inverse = 1.0 / (norms[at + 1] + EPSILON as f32).sqrt();
                parameter_gradient[gamma as usize + channel] = inverse * products;
                parameter_gradient[gamma as usize + channels + channel] = sum;
            }
        }
    }
    Line { a, b, c }
}

/// Reads a unit's part of the next `chunk` channels of a map and its gradient, and of their weights. The values are
/// not used before the next round, so a product hides the time that memory takes.
#[cube]
fn fetch_outputs(
    reached: &mut Array<Four>,
    read: &mut Array<Four>,
    fetched: &mut Array<Four>,
    work: &[f32],
    maps: &[f32],
    weights: &[f32],
    gradient: usize,
    map: usize,
    pointwise: usize,
    first_output: usize,
    outputs: usize,
    first_input: usize,
    inputs: usize,
    size: usize,
    lanes: usize,
    group: usize,
    position: usize,
    #[comptime] quads: usize,
    #[comptime] groups: usize,
    #[comptime] vectors: usize,
    #[comptime] chunk: usize,
    #[comptime] access: Access,
) {
    #[unroll]
    for number in 0..comptime!(chunk.div_ceil(groups)) {
        let output = first_output + group + comptime!(number * groups);
        let lanes = select(output < outputs, lanes, 0usize);
        reached[number] = read_four(work, gradient + output * size, lanes, access);
        read[number] = read_four(maps, map + output * size, lanes, access);
    }
    #[unroll]
    for number in 0..comptime!((chunk * vectors).div_ceil(quads)) {
        let entry = position + comptime!(number * quads * groups);
        let output = first_output + entry / comptime!(groups * vectors);
        let input = first_input + entry % comptime!(groups * vectors) * 4;
        let mut four = Four::new(0.0);
        #[unroll]
        for lane in 0..4usize {
            if output < outputs && input + lane < inputs {
                four.insert(lane, weights[pointwise + output * inputs + input + lane]);
            }
        }
        fetched[number] = four;
    }
}

/// Gradients of the values that blocks gathered: `dy[q, p] = sum over o of w[o, q] dz[o, p]`.
/// Cubes: tiles of quads, images, branches and parts of their gathered channels.
#[cube(launch_unchecked)]
pub fn products(
    table: &[u32],
    maps: &[f32],
    weights: &[f32],
    norms: &mut [f32],
    work: &mut [f32],
    parameter_gradient: &mut [f32],
    first_row: usize,
    first_coefficient: usize,
    first_sum: usize,
    chunks: usize,
    factors: usize,
    channels: usize,
    height: usize,
    width: usize,
    num_parts: usize,
    wants_parameters: u32,
    #[comptime] quads: usize,
    #[comptime] groups: usize,
    #[comptime] vectors: usize,
    #[comptime] chunk: usize,
    #[comptime] access: Access,
) {
    let row = first_row + CUBE_POS_Z as usize / num_parts * block::LEN;
    let inputs = table[row + block::INPUTS] as usize;
    let outputs = table[row + block::OUTPUTS] as usize;
    let part = CUBE_POS_Z as usize % num_parts * comptime!(4 * groups * vectors);
    if part >= inputs {
        terminate!();
    }
    let image = CUBE_POS_Y as usize;
    let images = CUBE_COUNT_Y as usize;
    let unit = UNIT_POS_X as usize;
    let group = UNIT_POS_Y as usize;
    let threads = comptime!(quads * groups);
    let position = group * quads + unit;
    let size = height * width;
    let place = CUBE_POS_X as usize * quads + unit;
    let wide = width.div_ceil(4);
    let y = place / wide;
    let x = place % wide * 4;
    let active = y < height;
    let scale = factor(table, factors, table[row + block::MIXING], image, images);
    let pointwise = table[row + block::POINTWISE] as usize;
    let mut values = Shared::<[Four]>::new_slice(comptime!(chunk * quads));
    let mut shared_weights = Shared::<[Four]>::new_slice(comptime!(chunk * groups * vectors));
    let mut lines_of = Shared::<[f32]>::new_slice(comptime!(3 * MOST_CHANNELS));
    let mut output = position;
    while output < outputs {
        let line = coefficients_of(
            table,
            row,
            norms,
            parameter_gradient,
            table[row + block::FIRST] as usize + output,
            channels,
            first_coefficient,
            first_sum,
            chunks,
            (images * size) as f32,
            CUBE_POS_X == 0 && image == 0 && part == 0,
            wants_parameters,
        );
        lines_of[output * 3] = line.a;
        lines_of[output * 3 + 1] = line.b;
        lines_of[output * 3 + 2] = line.c;
        output += threads;
    }
    sync_cube();
    let entries = comptime!(chunk.div_ceil(groups));
    let mut sums = Array::<Four>::new(comptime!(4 * vectors));
    let mut reached = Array::<Four>::new(entries);
    let mut read = Array::<Four>::new(entries);
    let mut fetched = Array::<Four>::new(comptime!((chunk * vectors).div_ceil(quads)));
    let of_image = image * channels + table[row + block::FIRST] as usize;
    let at = of_image * size + y * width + x;
    let gradient = table[row + block::GRADIENT] as usize + at;
    let map = table[row + block::MAP] as usize + at;
    let lanes = select(active, width - x, 0usize);
    let mut first_output = 0usize;
    fetch_outputs(
        &mut reached,
        &mut read,
        &mut fetched,
        &*work,
        maps,
        weights,
        gradient,
        map,
        pointwise,
        first_output,
        outputs,
        part,
        inputs,
        size,
        lanes,
        group,
        position,
        quads,
        groups,
        vectors,
        chunk,
        access,
    );
    while first_output < outputs {
        #[unroll]
        for number in 0..entries {
            let entry = group + comptime!(number * groups);
            let output = first_output + entry;
            let mut value = Four::new(0.0);
            if output < outputs {
                let line = Line {
                    a: lines_of[output * 3] * scale,
                    b: lines_of[output * 3 + 1],
                    c: lines_of[output * 3 + 2],
                };
                let of_map = Four::new(line.b) * read[number] + Four::new(line.c);
                let all = Four::new(line.a) * reached[number] + of_map;
                if lanes > 0 {
                    value = within_lanes(all, lanes, access);
                }
            }
            if entry < chunk {
                values[entry * quads + unit] = value;
            }
        }
        put_pointwise(&mut shared_weights, &fetched, position, quads, groups, vectors, chunk);
        sync_cube();
        first_output += chunk;
        fetch_outputs(
            &mut reached,
            &mut read,
            &mut fetched,
            &*work,
            maps,
            weights,
            gradient,
            map,
            pointwise,
            first_output,
            outputs,
            part,
            inputs,
            size,
            lanes,
            group,
            position,
            quads,
            groups,
            vectors,
            chunk,
            access,
        );
        add_product(&mut sums, &values, &shared_weights, quads, groups, vectors, chunk);
        sync_cube();
    }
    let to = table[row + block::GATHERED] as usize + image * inputs * size + y * width + x;
    #[unroll]
    for lane in 0..comptime!(4 * vectors) {
        let input = part + group * comptime!(4 * vectors) + lane;
        if active && input < inputs {
            let mut four = Four::new(0.0);
            #[unroll]
            for pixel in 0..4usize {
                four.insert(pixel, sums[pixel * vectors + lane / 4].extract(lane % 4));
            }
            write_four(work, to + input * size, four, lanes, access);
        }
    }
}
