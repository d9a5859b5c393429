//! The 1x1 product of a cube: gathered values and weights in shared memory, sums in registers.

use cubecl::prelude::*;

use super::planes::Four;

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

/// Writes a unit's part of the weights of some channels, which were read before.
///
/// # Shapes
/// - `weights`: `[channels][units of y][vectors]` fours
#[cube]
pub fn put_pointwise(
    weights: &mut Shared<[Four]>,
    fetched: &Array<Four>,
    position: usize,
    #[comptime] quads: usize,
    #[comptime] groups: usize,
    #[comptime] vectors: usize,
    #[comptime] chunk: usize,
) {
    #[unroll]
    for number in 0..comptime!((chunk * vectors).div_ceil(quads)) {
        let entry = position + comptime!(number * quads * groups);
        if entry < comptime!(chunk * groups * vectors) {
            weights[entry] = fetched[number];
        }
    }
}

/// Reads a unit's part of the weights of the next channels.
#[cube]
pub fn fetch_pointwise(
    fetched: &mut Array<Four>,
    weights: &[f32],
    pointwise: usize,
    first_input: usize,
    inputs: usize,
    outputs: usize,
    position: usize,
    #[comptime] quads: usize,
    #[comptime] groups: usize,
    #[comptime] vectors: usize,
    #[comptime] chunk: usize,
) {
    #[unroll]
    for number in 0..comptime!((chunk * vectors).div_ceil(quads)) {
        let entry = position + comptime!(number * quads * groups);
        let input = first_input + entry / comptime!(groups * vectors);
        let output = entry % comptime!(groups * vectors) * 4;
        let mut four = Four::new(0.0);
        if entry < comptime!(chunk * groups * vectors) && input < inputs {
            #[unroll]
            for lane in 0..4usize {
                if output + lane < outputs {
                    four.insert(lane, weights[pointwise + (output + lane) * inputs + input]);
                }
            }
        }
        fetched[number] = four;
    }
}
