//! Pools of 3x3 windows forward, for the four pixels of a quad, and the moments of their values.
//!
//! Rows first: neighbouring windows share the sum or the largest value of a row. A value that is no number stays so.

use cubecl::prelude::*;

use super::moments::{pixels_of, total};
use super::planes::{Four, Plane, within};
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
) -> Four {
    let mut value = Four::new(0.0);
    if stride == 1 {
        value = pooled_by(source, plane, top, left, is_max, 1usize);
    } else {
        value = pooled_by(source, plane, top, left, is_max, 2usize);
    }
    value
}

#[cube]
fn pooled_by(
    source: &[f32],
    plane: &Plane,
    top: i32,
    left: i32,
    is_max: bool,
    #[comptime] stride: usize,
) -> Four {
    let rows = comptime!(3 + 3 * stride);
    let mut of_rows = Array::<f32>::new(rows);
    let mut four = Four::new(0.0);
    if is_max {
        #[unroll]
        for row in 0..rows {
            let line = row_of(source, plane, top + row as i32, left, f32::new(f32::MIN), 3usize);
            of_rows[row] = larger(larger(line[0], line[1]), line[2]);
        }
        #[unroll]
        for pixel in 0..4usize {
            let row = comptime!(pixel * stride);
            let two = larger(of_rows[row], of_rows[comptime!(row + 1)]);
            four.insert(pixel, larger(two, of_rows[comptime!(row + 2)]));
        }
    } else {
        let of_columns = share_of(min(left + 3, plane.width) - max(left, 0));
        #[unroll]
        for row in 0..rows {
            let line = row_of(source, plane, top + row as i32, left, f32::new(0.0), 3usize);
            of_rows[row] = line[0] + line[1] + line[2];
        }
        #[unroll]
        for pixel in 0..4usize {
            let row = comptime!(pixel * stride);
            let begin = top + row as i32;
            let share = of_columns * share_of(min(begin + 3, plane.height) - max(begin, 0));
            let sum = of_rows[row] + of_rows[comptime!(row + 1)] + of_rows[comptime!(row + 2)];
            four.insert(pixel, sum * share);
        }
    }
    four
}

/// Maps of pools, from the place `first_map` on, and their `moments`, for tiles as in [`super::blocks`]. Cubes: tiles,
/// images, branches and their channels. A unit has a quad.
#[cube(launch_unchecked)]
pub fn pool_maps(
    table: &[u32],
    source: &[f32],
    maps: &mut [f32],
    partials: &mut [f32],
    first_row: usize,
    first_map: usize,
    height: usize,
    width: usize,
    channels: usize,
    tiles_x: usize,
    #[comptime] moments: bool,
    #[comptime] columns: usize,
    #[comptime] rows: usize,
) {
    let row = first_row + CUBE_POS_Z as usize / channels * block::LEN;
    let channel = CUBE_POS_Z as usize % channels;
    let image = CUBE_POS_Y as usize;
    let unit = UNIT_POS as usize;
    let tile_x = CUBE_POS_X as usize % tiles_x;
    let tile_y = CUBE_POS_X as usize / tiles_x;
    let y = (tile_y * rows + unit / columns) * 4;
    let x = tile_x * columns + unit % columns;
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
    let mut value = Four::new(0.0);
    if active {
        value = pooled(source, &plane, top, left, stride, is_max);
    }
    let map = table[row + block::MAP];
    if map != NONE {
        let plane = (image * channels + channel) * height * width;
        let to = first_map + map as usize + plane + y * width + x;
        #[unroll]
        for pixel in 0..4usize {
            if active && y + pixel < height {
                maps[to + pixel * width] = value.extract(pixel);
            }
        }
    }
    if moments.comptime() {
        let mut scratch = Shared::<[f32]>::new_slice(comptime!(columns * rows));
        let mut sum = f32::new(0.0);
        #[unroll]
        for pixel in 0..4usize {
            if active && y + pixel < height {
                sum += value.extract(pixel);
            }
        }
        let sum = total(&mut scratch, sum, comptime!(columns * rows));
        let mean = sum / pixels_of(tile_x, tile_y, height, width, columns, rows);
        let mut squares = f32::new(0.0);
        #[unroll]
        for pixel in 0..4usize {
            if active && y + pixel < height {
                let off = value.extract(pixel) - mean;
                squares += off * off;
            }
        }
        let squares = total(&mut scratch, squares, comptime!(columns * rows));
        if unit == 0 {
            let tile = image * CUBE_COUNT_X as usize + CUBE_POS_X as usize;
            let num_tiles = (CUBE_COUNT_Y * CUBE_COUNT_X) as usize;
            let to = ((table[row + block::SLOT] as usize * channels + channel) * num_tiles + tile) * 2;
            partials[to] = sum;
            partials[to + 1] = squares;
        }
    }
}
