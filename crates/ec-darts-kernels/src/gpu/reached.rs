//! Gradients of the terms of nodes and of mixing weights, and sums of the parts of weight gradients.

use cubecl::prelude::*;

use super::backward::line_of;
use super::moments::total;
use super::planes::{Access, Four, read_four};
use super::sums::{OF_NORM, UNITS, VALUES, factor, value_of};
use super::table::{NONE, kind, mixed, part, term};
use crate::EPSILON;

/// Number of images whose values a unit reads at once.
const IMAGES: usize = 4;

/// Adds a quad's gradients and products of some images, all of whose values are read before one is used. The first
/// `lanes` pixels of the quad are in the map.
#[cube]
fn add_images(
    sums: &mut Array<f32>,
    table: &[u32],
    values: &[f32],
    first_value: usize,
    gradients: &[f32],
    first_gradient: usize,
    mean: f32,
    factors: usize,
    mixing: u32,
    first: usize,
    step: usize,
    images: usize,
    apart: usize,
    lanes: usize,
    #[comptime] access: Access,
) {
    let mut image = first;
    while image < images {
        let mut reached = Array::<Four>::new(IMAGES);
        let mut read = Array::<Four>::new(IMAGES);
        #[unroll]
        for number in 0..IMAGES {
            let image = image + number * step;
            let lanes = select(image < images, lanes, 0usize);
            reached[number] = read_four(gradients, first_gradient + image * apart, lanes, access);
            read[number] = read_four(values, first_value + image * apart, lanes, access);
        }
        #[unroll]
        for number in 0..IMAGES {
            let image = min(image + number * step, images - 1);
            let scale = factor(table, factors, mixing, image, images);
            #[unroll]
            for pixel in 0..4usize {
                let reached = scale * reached[number].extract(pixel);
                sums[0] += reached;
                sums[1] += reached * (read[number].extract(pixel) - mean);
            }
        }
        image += step * IMAGES;
    }
}

/// The backward pass of the normalizations of terms (see [`Line`](super::backward::Line)), with the
/// gradients of scale and shift; after each line the channel's part of the gradient of the mixing
/// weight. Cubes: channels, terms.
///
/// ```text
/// dm = sum over channels of gamma r s2 + beta s1,  dgamma = m r s2,  dbeta = m s1
/// ```
#[cube(launch_unchecked)]
pub fn normalizations(
    table: &[u32],
    source: &[f32],
    maps: &[f32],
    pooled: &[f32],
    work: &[f32],
    norms: &mut [f32],
    mixing: &[f32],
    parameter_gradient: &mut [f32],
    first_row: usize,
    first_coefficient: usize,
    factors: usize,
    images: usize,
    channels: usize,
    height: usize,
    width: usize,
    wants_parameters: u32,
    #[comptime] access: Access,
) {
    let row = first_row + CUBE_POS_Y as usize * term::LEN;
    let channel = CUBE_POS_X as usize;
    let size = height * width;
    let all = images * size;
    let mut scratch = Shared::<[f32]>::new_slice(VALUES);
    let of_norm = table[row + term::NORM];
    let at_norm = (of_norm as usize * channels + channel) * OF_NORM;
    let mut mean = f32::new(0.0);
    if of_norm != NONE {
        mean = norms[at_norm];
    }
    let gradient = table[row + term::GRADIENT] as usize;
    let weight = table[row + term::MIXING];
    // Those of the gradients, and of their products with the values.
    let mut sums = Array::<f32>::new(2usize);
    sums[0] = 0.0;
    sums[1] = 0.0;
    let wide = width.div_ceil(4);
    let quads = height * wide;
    // Units have their place in the map once, and take images in turn.
    let at_once = max(VALUES / quads, 1);
    let mut first_image = 0usize;
    let mut quad = UNIT_POS as usize;
    if quads <= VALUES {
        first_image = quad / quads;
        quad -= first_image * quads;
    }
    let what = table[row + term::KIND];
    let value = table[row + term::VALUE] as usize;
    while quad < quads && first_image < at_once {
        let y = quad / wide;
        let x = quad % wide * 4;
        let place = channel * size + y * width + x;
        let lanes = width - x;
        let apart = channels * size;
        if what == kind::MAP {
            add_images(
                &mut sums,
                table,
                maps,
                value + place,
                work,
                gradient + place,
                mean,
                factors,
                weight,
                first_image,
                at_once,
                images,
                apart,
                lanes,
                access,
            );
        } else if what == kind::POOLED {
            add_images(
                &mut sums,
                table,
                pooled,
                value + place,
                work,
                gradient + place,
                mean,
                factors,
                weight,
                first_image,
                at_once,
                images,
                apart,
                lanes,
                access,
            );
        } else {
            let mut image = first_image;
            while image < images {
                let plane = image * channels + channel;
                let values = value_of(table, row, source, maps, plane, height, width, y, x, access);
                let scale = factor(table, factors, weight, image, images);
                let reached = read_four(work, gradient + image * apart + place, lanes, access);
                #[unroll]
                for pixel in 0..4usize {
                    let reached = scale * reached.extract(pixel);
                    sums[0] += reached;
                    sums[1] += reached * (values.extract(pixel) - mean);
                }
                image += at_once;
            }
        }
        quad += VALUES;
    }
    let sum = total(&mut scratch, sums[0], VALUES);
    let products = total(&mut scratch, sums[1], VALUES);
    if UNIT_POS == 0 {
        let mix = mixing[weight as usize];
        let mut a = mix;
        let mut b = f32::new(0.0);
        let mut c = f32::new(0.0);
        let mut of_mixing = products;
        if of_norm != NONE {
            let line = line_of(&*norms, at_norm, mix, sum, products, all as f32);
            a = line.a;
            b = line.b;
            c = line.c;
            let scale = norms[at_norm + 2];
            let beta = norms[at_norm + 3] + mean * scale;
            of_mixing = scale * products + beta * sum;
            let gamma = table[row + term::GAMMA];
            if gamma != NONE && wants_parameters == 1 {
                let inverse = 1.0 / (norms[at_norm + 1] + EPSILON as f32).sqrt();
                let to = gamma as usize + channel;
                parameter_gradient[to] = mix * inverse * products;
                parameter_gradient[to + channels] = mix * sum;
            }
        }
        let number = table[row + term::COEFFICIENTS] as usize;
        let to = first_coefficient + (number * channels + channel) * OF_NORM;
        norms[to] = a;
        norms[to + 1] = b;
        norms[to + 2] = c;
        norms[to + 3] = of_mixing;
    }
}

/// Gradients of mixing weights from their parts, zero behind an input whose bit is in `skipped`. Cubes: mixing weights.
#[cube(launch_unchecked)]
pub fn mixing_gradients(
    table: &[u32],
    norms: &[f32],
    gradient: &mut [f32],
    first_row: usize,
    first_coefficient: usize,
    channels: usize,
    skipped: u32,
) {
    let row = first_row + CUBE_POS_X as usize * mixed::LEN;
    let mut scratch = Shared::<[f32]>::new_slice(UNITS);
    let number = table[row + mixed::COEFFICIENTS] as usize;
    let input = table[row + mixed::INPUT];
    let mut sum = f32::new(0.0);
    if input == NONE || (skipped >> input) & 1 == 0 {
        let mut channel = UNIT_POS as usize;
        while channel < channels {
            sum += norms[first_coefficient + (number * channels + channel) * OF_NORM + 3];
            channel += UNITS;
        }
    }
    let sum = total(&mut scratch, sum, UNITS);
    if UNIT_POS == 0 {
        gradient[CUBE_POS_X as usize] = sum;
    }
}

/// Gradients of states from that of the output, zero for those that are not joined. Cubes: values
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

/// Gradients of weights from their parts, which are in `work` from a place on. Cubes: weights of a
/// part, parts.
#[cube(launch_unchecked)]
pub fn add_parts(
    table: &[u32],
    work: &[f32],
    gradient: &mut [f32],
    first_row: usize,
    first_partial: usize,
) {
    let row = first_row + CUBE_POS_Y as usize * part::LEN;
    let size = table[row + part::SIZE] as usize;
    let index = (CUBE_POS_X * CUBE_DIM_X + UNIT_POS_X) as usize;
    if index < size {
        let from = first_partial + table[row + part::FROM] as usize + index;
        let mut sum = f32::new(0.0);
        for number in 0..table[row + part::NUM] as usize {
            sum += work[from + number * size];
        }
        gradient[table[row + part::TO] as usize + index] = sum;
    }
}

/// Writes zeros.
#[cube(launch_unchecked)]
pub fn clear(values: &mut [f32]) {
    if ABSOLUTE_POS < values.len() {
        values[ABSOLUTE_POS] = 0.0;
    }
}
