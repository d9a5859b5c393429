//! Tiles of planes in shared memory, with a halo: each value is read, lifted and compared with the bounds once, and windows
//! need no comparisons.
//!
//! A tile lies column by column, because the quads of a window are columns; the first row of a tile is that of the first
//! quads' windows, so windows of every padding begin with a whole quad.

use cubecl::prelude::*;

use super::planes::{Four, Plane, quad, within};
use super::table::window;

/// Number of columns on both sides, and largest padding of a window.
pub const HALO: usize = 4;

/// Quads of a tile's column, with the halo and an odd number: units side by side read different banks.
pub fn pitch(rows: usize) -> usize {
    (rows + 2) | 1
}

/// Brings tiles of `planes` planes, which lie `apart`, into shared memory; `(top, left)` is their first pixel inside the halo
/// of columns, and the first row of the windows with this `padding`. The planes beyond `num_planes` are zero, and `outside`
/// is around a plane.
///
/// Where the launch `lifts`, values are normalized first: by the coefficients of the first plane at `norm`, and of the others
/// `norms_apart` from each other.
///
/// # Shapes
/// - `tile`: `[planes][columns + 2 HALO][pitch]` quads
#[cube]
pub fn stage(
    tile: &mut Shared<[Four]>,
    source: &[f32],
    norms: &[f32],
    plane: &Plane,
    apart: usize,
    norm: usize,
    norms_apart: usize,
    num_planes: usize,
    top: i32,
    left: i32,
    padding: i32,
    outside: f32,
    position: usize,
    #[comptime] lifts: bool,
    #[comptime] columns: usize,
    #[comptime] rows: usize,
    #[comptime] planes: usize,
    #[comptime] units: usize,
) {
    let wide = comptime!(columns + 2 * HALO);
    let high = comptime!(rows + 2);
    // Windows with a padding of at most two end one quad earlier.
    let used = select(padding > 2, high.runtime(), comptime!(rows + 1).runtime());
    // A unit keeps its column, and the units beside the tile's columns have those of the halo.
    let of_column = position % columns;
    let mut entry = position / columns;
    while entry < comptime!(planes * high) {
        let quad = entry % high;
        let number = entry / high;
        if quad < used {
            let y = top + (quad * 4) as i32;
            let to = number * comptime!(wide * pitch(rows)) + quad;
            let mut scale = f32::new(1.0);
            let mut shift = f32::new(0.0);
            if lifts.comptime() && number < num_planes {
                scale = norms[norm + number * norms_apart + 2];
                shift = norms[norm + number * norms_apart + 3];
            }
            let begin = (plane.first + number * apart) as i32 + y * plane.width;
            #[unroll]
            for part in 0..comptime!((columns + 2 * HALO).div_ceil(columns)) {
                // First the columns inside, then those of the halo.
                let mut column = of_column + HALO;
                if comptime!(part > 0) {
                    let of_halo = of_column + comptime!((part.max(1) - 1) * columns);
                    column = select(of_halo < HALO, of_halo, of_halo + columns);
                }
                if column < wide {
                    let x = left + column as i32 - HALO as i32;
                    let mut four = Four::new(outside);
                    if number < num_planes && within(x, plane.width) {
                        #[unroll]
                        for pixel in 0..4usize {
                            if within(y + pixel as i32, plane.height) {
                                let at = (begin + x + pixel as i32 * plane.width) as usize;
                                let mut value = source[at];
                                if lifts.comptime() {
                                    value = value * scale + shift;
                                }
                                four.insert(pixel, select(value < plane.floor, plane.floor, value));
                            }
                        }
                    }
                    tile[to + column * comptime!(pitch(rows))] = four;
                }
            }
        }
        entry += comptime!(units / columns);
    }
}

/// Number of fours with the weights of a window.
pub const WEIGHTS: usize = 7;

/// Brings the weights of `planes` windows into shared memory, column by column; the `adjoint` has them in reverse.
///
/// # Shapes
/// - `to`: `[planes][WEIGHTS]` fours
#[cube]
pub fn stage_weights(
    to: &mut Shared<[Four]>,
    weights: &[f32],
    first: usize,
    num_planes: usize,
    kernel: u32,
    position: usize,
    #[comptime] adjoint: bool,
    #[comptime] planes: usize,
    #[comptime] units: usize,
) {
    let taps = (kernel * kernel) as usize;
    let mut entry = position;
    while entry < comptime!(planes * WEIGHTS) {
        let number = entry / WEIGHTS;
        let mut four = Four::new(0.0);
        #[unroll]
        for lane in 0..4usize {
            let tap = entry % WEIGHTS * 4 + lane;
            if tap < taps && number < num_planes {
                // Divided by numbers that are known when the launch is compiled.
                let mut place = tap % 5 * 5 + tap / 5;
                if kernel == 3 {
                    place = tap % 3 * 3 + tap / 3;
                }
                if adjoint.comptime() {
                    place = taps - 1 - place;
                }
                four.insert(lane, weights[first + number * taps + place]);
            }
        }
        to[entry] = four;
        entry += units;
    }
}

/// Weighted sums over the windows of a quad, whose first column begins `at` a quad of the tile.
#[cube]
pub fn correlate_staged(
    tile: &Shared<[Four]>,
    at: usize,
    windows: &Shared<[Four]>,
    first: usize,
    #[comptime] rows: usize,
    #[comptime] kernel: usize,
    #[comptime] dilation: usize,
) -> Four {
    let mut sums = Array::<f32>::new(4usize);
    #[unroll]
    for column in 0..kernel {
        let from = at + comptime!(column * dilation * pitch(rows));
        let line = staged_column(tile, from, kernel, dilation);
        #[unroll]
        for tap in 0..kernel {
            let place = comptime!(column * kernel + tap);
            let weight = windows[first + comptime!(place / 4)].extract(comptime!(place % 4));
            #[unroll]
            for pixel in 0..4usize {
                sums[pixel] += weight * line[comptime!(pixel + tap * dilation)];
            }
        }
    }
    quad(&sums)
}

/// As [`correlate_staged`], for a window of the table.
#[cube]
pub fn correlate_any(
    tile: &Shared<[Four]>,
    at: usize,
    windows: &Shared<[Four]>,
    first: usize,
    way: u32,
    #[comptime] rows: usize,
) -> Four {
    let mut value = Four::new(0.0);
    if way == window::OF_3 {
        value = correlate_staged(tile, at, windows, first, rows, 3usize, 1usize);
    } else if way == window::OF_5 {
        value = correlate_staged(tile, at, windows, first, rows, 5usize, 1usize);
    } else if way == window::WIDE_OF_3 {
        value = correlate_staged(tile, at, windows, first, rows, 3usize, 2usize);
    } else {
        value = correlate_staged(tile, at, windows, first, rows, 5usize, 2usize);
    }
    value
}

/// The rows of a column from a quad on, as many as the windows of a quad have.
#[cube]
pub fn staged_column(
    tile: &Shared<[Four]>,
    at: usize,
    #[comptime] kernel: usize,
    #[comptime] dilation: usize,
) -> Array<f32> {
    let fours = comptime!((4 + (kernel - 1) * dilation).div_ceil(4));
    let mut line = Array::<f32>::new(comptime!(4 * fours));
    #[unroll]
    for number in 0..fours {
        let four = tile[at + number];
        #[unroll]
        for lane in 0..4usize {
            line[comptime!(4 * number + lane)] = four.extract(lane);
        }
    }
    line
}
