//! Pools of 3x3 windows forward, for the four pixels of a quad, and the moments of their values.
//!
//! Columns first: neighbouring windows share the sum or the largest value of a column. A value that is no number stays so.

use cubecl::prelude::*;

use super::moments::{pixels_of, total};
use super::planes::{Access, Four, Plane, read_four, within, write_four};
use super::table::{NONE, block, gather};

/// Neighbouring values of a row, `outside` where there are none.
#[cube]
pub fn row_of(
    source: &[f32],
    plane: &Plane,
    y: i32,
    left: i32,
    outside: f32,
    #[comptime] columns: usize,
) -> Array<f32> {
    let mut row = Array::<f32>::new(columns);
    let begin = plane.first as i32 + y * plane.width + left;
    let has_row = within(y, plane.height);
    #[unroll]
    for column in 0..columns {
        row[column] = outside;
        if has_row && within(left + column as i32, plane.width) {
            row[column] = source[(begin + column as i32) as usize];
        }
    }
    row
}

/// The larger value; a NaN stays a NaN.
#[cube]
fn larger(largest: f32, value: f32) -> f32 {
    select(value > largest || value.is_nan(), value, largest)
}

/// `1 / count` of one to three pixels.
#[cube]
pub fn share_of(count: i32) -> f32 {
    let third = comptime!(1.0f32 / 3.0).runtime();
    select(count == 3, third, select(count == 2, f32::new(0.5), f32::new(1.0)))
}

/// Maxima or means over the pixels inside the map; the first window begins at `(top, left)`, strides are 1 and 2.
#[cube]
pub fn pooled(
    source: &[f32],
    plane: &Plane,
    top: i32,
    left: i32,
    stride: i32,
    is_max: bool,
    #[comptime] access: Access,
) -> Four {
    let mut value = Four::new(0.0);
    if stride == 1 {
        value = pooled_by(source, plane, top, left, is_max, 1usize, access);
    } else {
        value = pooled_by(source, plane, top, left, is_max, 2usize, access);
    }
    value
}

/// A row of the windows of a quad: the value before an aligned four, then the other `columns`.
#[cube]
fn line_of(
    source: &[f32],
    plane: &Plane,
    y: i32,
    left: i32,
    outside: f32,
    #[comptime] columns: usize,
    #[comptime] access: Access,
) -> Array<f32> {
    let mut line = Array::<f32>::new(columns);
    if comptime!(access.is_whole()) {
        let has_row = within(y, plane.height);
        let at = plane.first as i32 + y * plane.width + left + 1;
        line[0] = outside;
        if has_row && left >= 0 {
            line[0] = source[(at - 1) as usize];
        }
        #[unroll]
        for part in 0..comptime!(columns / 4) {
            let mut four = Four::new(outside);
            if has_row && within(left + 1 + comptime!(4 * part as i32), plane.width) {
                four = read_four(source, at as usize + comptime!(4 * part), 4usize, access);
            }
            #[unroll]
            for lane in 0..4usize {
                line[comptime!(1 + 4 * part + lane)] = four.extract(lane);
            }
        }
        if comptime!(columns == 6) {
            line[5] = outside;
            if has_row && left + 5 < plane.width {
                line[5] = source[(at + 4) as usize];
            }
        }
    } else {
        line = row_of(source, plane, y, left, outside, columns);
    }
    line
}

#[cube]
fn pooled_by(
    source: &[f32],
    plane: &Plane,
    top: i32,
    left: i32,
    is_max: bool,
    #[comptime] stride: usize,
    #[comptime] access: Access,
) -> Four {
    let columns = comptime!(3 + 3 * stride);
    let outside = select(is_max, f32::new(f32::MIN), f32::new(0.0));
    let mut of_columns = line_of(source, plane, top, left, outside, columns, access);
    #[unroll]
    for row in 1..3i32 {
        let line = line_of(source, plane, top + row, left, outside, columns, access);
        #[unroll]
        for column in 0..columns {
            let (before, value) = (of_columns[column], line[column]);
            of_columns[column] = select(is_max, larger(before, value), before + value);
        }
    }
    let mut four = Four::new(0.0);
    let of_rows = share_of(min(top + 3, plane.height) - max(top, 0));
    #[unroll]
    for pixel in 0..4usize {
        let column = comptime!(pixel * stride);
        let first = of_columns[column];
        let second = of_columns[comptime!(column + 1)];
        let third = of_columns[comptime!(column + 2)];
        if is_max {
            four.insert(pixel, larger(larger(first, second), third));
        } else {
            let begin = left + column as i32;
            let share = of_rows * share_of(min(begin + 3, plane.width) - max(begin, 0));
            four.insert(pixel, (first + second + third) * share);
        }
    }
    four
}

/// Maps of pools, and their `moments`, for tiles as in [`super::blocks`]. Cubes: tiles,
/// images, branches and their channels. A unit has a quad.
#[cube(launch_unchecked)]
pub fn pool_maps(
    table: &[u32],
    source: &[f32],
    maps: &mut [f32],
    partials: &mut [f32],
    first_row: usize,
    height: usize,
    width: usize,
    channels: usize,
    tiles_x: usize,
    #[comptime] moments: bool,
    #[comptime] columns: usize,
    #[comptime] rows: usize,
    #[comptime] access: Access,
) {
    let row = first_row + CUBE_POS_Z as usize / channels * block::LEN;
    let channel = CUBE_POS_Z as usize % channels;
    let image = CUBE_POS_Y as usize;
    let unit = UNIT_POS as usize;
    let tile_x = CUBE_POS_X as usize % tiles_x;
    let tile_y = CUBE_POS_X as usize / tiles_x;
    let y = tile_y * rows + unit / columns;
    let x = (tile_x * columns + unit % columns) * 4;
    let in_height = table[row + block::HEIGHT] as usize;
    let in_width = table[row + block::WIDTH] as usize;
    let plane = Plane {
        first: table[row + block::SOURCE] as usize
            + (image * channels + channel) * in_height * in_width,
        height: in_height as i32,
        width: in_width as i32,
        scale: 1.0,
        shift: 0.0,
        floor: f32::MIN,
    };
    let stride = table[row + block::STRIDE] as i32;
    let is_max = table[row + block::GATHER] == gather::MAX_POOL;
    let (top, left) = (y as i32 * stride - 1, x as i32 * stride - 1);
    let active = y < height && x < width;
    let lanes = select(active, width - min(x, width), 0usize);
    let mut value = Four::new(0.0);
    if active {
        value = pooled(source, &plane, top, left, stride, is_max, access);
    }
    let map = table[row + block::MAP];
    if map != NONE {
        let plane = (image * channels + channel) * height * width;
        let to = map as usize + plane + y * width + x;
        write_four(maps, to, value, lanes, access);
    }
    if moments.comptime() {
        let mut scratch = Shared::<[f32]>::new_slice(comptime!(columns * rows));
        let mut sum = f32::new(0.0);
        #[unroll]
        for pixel in 0..4usize {
            if pixel < lanes {
                sum += value.extract(pixel);
            }
        }
        let sum = total(&mut scratch, sum, comptime!(columns * rows));
        let mean = sum / pixels_of(tile_x, tile_y, height, width, columns, rows);
        let mut squares = f32::new(0.0);
        #[unroll]
        for pixel in 0..4usize {
            if pixel < lanes {
                let off = value.extract(pixel) - mean;
                squares += off * off;
            }
        }
        let squares = total(&mut scratch, squares, comptime!(columns * rows));
        if unit == 0 {
            let tile = image * CUBE_COUNT_X as usize + CUBE_POS_X as usize;
            let num_tiles = (CUBE_COUNT_Y * CUBE_COUNT_X) as usize;
            let to =
                ((table[row + block::SLOT] as usize * channels + channel) * num_tiles + tile) * 2;
            partials[to] = sum;
            partials[to + 1] = squares;
        }
    }
}
