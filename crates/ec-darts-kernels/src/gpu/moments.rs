//! Sums over the units of a cube, in a fixed order; the moments of a tile: sum and sum of squared
//! distances from the mean.

use cubecl::prelude::*;

use super::planes::Four;

/// Adds the values of all units in a fixed order.
#[cube]
pub fn total(scratch: &mut Shared<[f32]>, value: f32, #[comptime] units: usize) -> f32 {
    let unit = UNIT_POS as usize;
    scratch[unit] = value;
    sync_cube();
    let mut half = comptime!(units.next_power_of_two() / 2).runtime();
    while half > 0 {
        if unit < half && unit + half < units {
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

/// Number of pixels of a tile, of which the last of a map have fewer.
#[cube]
pub fn pixels_of(
    tile_x: usize,
    tile_y: usize,
    height: usize,
    width: usize,
    columns: usize,
    rows: usize,
) -> f32 {
    let high = min(height - tile_y * rows, rows);
    let wide = min(width - tile_x * columns * 4, columns * 4);
    (high * wide) as f32
}

/// Writes the moments of the channels of a unit of y: those of its sums over all units of x.
///
/// # Shapes
/// - `partials`: `[channel][image][tile]`, from the channel `first` on: sum and sum of squared
///   distances
/// - `scratch`: at least `[at_once][threads]`
/// - `sums`: `[4 pixels][vectors]` fours, of which the first `pixels` are inside the map
#[cube]
pub fn write_moments(
    partials: &mut [f32],
    scratch: &mut Shared<[Four]>,
    sums: &Array<Four>,
    first: usize,
    outputs: usize,
    image: usize,
    count: f32,
    pixels: usize,
    #[comptime] quads: usize,
    #[comptime] threads: usize,
    #[comptime] vectors: usize,
    #[comptime] at_once: usize,
) {
    let unit = UNIT_POS_X as usize;
    let group = UNIT_POS_Y as usize;
    let position = group * quads + unit;
    let out = group * comptime!(4 * vectors);
    let tiles = CUBE_COUNT_X as usize;
    let num_tiles = CUBE_COUNT_Y as usize * tiles;
    let number = image * tiles + CUBE_POS_X as usize;
    #[unroll]
    for round in 0..comptime!(vectors / at_once) {
        #[unroll]
        for vector in 0..at_once {
            let mut sum = Four::new(0.0);
            #[unroll]
            for pixel in 0..4usize {
                if pixel < pixels {
                    sum += sums[pixel * vectors + round * at_once + vector];
                }
            }
            scratch[vector * threads + position] = sum;
        }
        add_up(scratch, quads, threads, at_once);
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
                if pixel < pixels {
                    let off = sums[pixel * vectors + round * at_once + vector] - mean;
                    sum += off * off;
                }
            }
            scratch[vector * threads + position] = sum;
        }
        add_up(scratch, quads, threads, at_once);
        if unit == 0 {
            #[unroll]
            for vector in 0..at_once {
                let squares = scratch[vector * threads + position];
                #[unroll]
                for lane in 0..4usize {
                    let channel = out + (round * at_once + vector) * 4 + lane;
                    if channel < outputs {
                        let to = ((first + channel) * num_tiles + number) * 2;
                        partials[to] = totals[vector].extract(lane);
                        partials[to + 1] = squares.extract(lane);
                    }
                }
            }
        }
        sync_cube();
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
    let mut half = comptime!(quads.next_power_of_two() / 2).runtime();
    while half > 0 {
        if unit < half && unit + half < quads {
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
