//! Windows in tiles ([`super::staged`]): their weights in shared memory, and the weighted sums over them.

use cubecl::prelude::*;

use super::planes::{Four, quad, within};
use super::staged::{HALO, Tiles};
use super::sums::OF_NORM;
use super::table::{block, window};

/// Number of fours with the weights of a window.
pub const WEIGHTS: usize = 7;

/// The rows and columns of a window in a tile, `side` of each, among the `kernel` of its convolution: every one, or every
/// other one of a part.
#[derive(CubeType, Clone, Copy)]
pub struct Taps {
    pub side: usize,
    pub kernel: usize,
    apart: i32,
    first_y: i32,
    first_x: i32,
}

/// The taps of a block's window, or of one of its four parts.
///
/// A part has the source's rows of one parity, so a window of the kernel `k` begins there a row before the output:
/// `2 (y - 1 + r) + parity = 2 y - (k - 1) / 2 + t`.
#[cube]
pub fn taps_of(table: &[u32], row: usize, part: usize) -> Taps {
    let kernel = table[row + block::KERNEL] as usize;
    // Windows of 3x3 have even numbers.
    let side = select(table[row + block::STAGED] & 1 == 0, 3usize, 5usize);
    let mut apart = 1i32.runtime();
    let mut first_y = 0i32.runtime();
    let mut first_x = 0i32.runtime();
    if table[row + block::PARTS] > 1 {
        let first = (kernel / 2) as i32 - 2;
        apart = 2;
        first_y = first + (part / 2) as i32;
        first_x = first + (part % 2) as i32;
    }
    Taps { side, kernel, apart, first_y, first_x }
}

/// Number of fours of the weights of some planes for each unit.
pub fn fours_of(planes: usize, units: usize) -> usize {
    (planes * WEIGHTS).div_ceil(units)
}

/// Reads a unit's part of the weights of `planes` windows, and where a launch `lifts` by normalizations, of their scale and
/// shift: 1 and 0 for a plane without one. The `adjoint` has the weights in reverse.
#[cube]
pub fn fetch_weights(
    to: &mut Array<Four>,
    weights: &[f32],
    norms: &[f32],
    first: usize,
    first_norm: usize,
    has_norm: bool,
    num_planes: usize,
    window: &Taps,
    position: usize,
    #[comptime] adjoint: bool,
    #[comptime] planes: usize,
    #[comptime] units: usize,
    #[comptime] lifts: bool,
) {
    #[unroll]
    for part in 0..comptime!(fours_of(planes, units)) {
        let entry = position + comptime!(part * units);
        to[part] = weights_at(
            weights, norms, first, first_norm, has_norm, num_planes, window, entry, adjoint,
            planes, lifts,
        );
    }
}

#[cube]
fn weights_at(
    weights: &[f32],
    norms: &[f32],
    first: usize,
    first_norm: usize,
    has_norm: bool,
    num_planes: usize,
    window: &Taps,
    entry: usize,
    #[comptime] adjoint: bool,
    #[comptime] planes: usize,
    #[comptime] lifts: bool,
) -> Four {
    let mut four = Four::new(0.0);
    let number = entry / WEIGHTS;
    if entry < comptime!(planes * WEIGHTS) && number < num_planes {
        let side = window.side;
        let kernel = window.kernel;
        let of_window = first + number * kernel * kernel;
        #[unroll]
        for lane in 0..4usize {
            let tap = entry % WEIGHTS * 4 + lane;
            // A division by 3 or 5, exact for so few taps.
            let row = select(side == 3, tap * 11 / 32, tap * 13 / 64);
            let mut y = row as i32;
            let mut x = (tap - row * side) as i32;
            if adjoint.comptime() {
                x = side as i32 - 1 - x;
                y = side as i32 - 1 - y;
            }
            let x = window.first_x + x * window.apart;
            let y = window.first_y + y * window.apart;
            let has = within(y, kernel as i32) && within(x, kernel as i32);
            if tap < side * side && has {
                four.insert(lane, weights[of_window + y as usize * kernel + x as usize]);
            }
        }
        if lifts.comptime() && entry % WEIGHTS == comptime!(WEIGHTS - 1) {
            four.insert(1usize, 1.0);
            if has_norm {
                let at = first_norm + number * OF_NORM;
                four.insert(1usize, norms[at + 2]);
                four.insert(2usize, norms[at + 3]);
            }
        }
    }
    four
}

/// Writes what [`fetch_weights`] read, from the place `first` on.
///
/// # Shapes
/// - `to`: `[planes][WEIGHTS]` fours, the taps row by row; the last four has one tap, scale and shift
#[cube]
pub fn put_weights(
    to: &mut Shared<[Four]>,
    first: usize,
    fetched: &Array<Four>,
    position: usize,
    #[comptime] planes: usize,
    #[comptime] units: usize,
) {
    #[unroll]
    for part in 0..comptime!(fours_of(planes, units)) {
        let entry = position + comptime!(part * units);
        if entry < comptime!(planes * WEIGHTS) {
            to[first + entry] = fetched[part];
        }
    }
}

/// The place of a tap's weight in a window: its four, and its lane.
pub fn weight_at(kernel: usize, row: usize, tap: usize) -> (usize, usize) {
    let place = row * kernel + tap;
    (place / 4, place % 4)
}

/// The place of the first row of a quad's windows in a tile. The quad is that of a row and a column of a plane's tile.
#[cube]
pub fn window_at(
    plane: usize,
    row: usize,
    column: usize,
    padding: usize,
    #[comptime] tiles: Tiles,
) -> usize {
    (plane * comptime!(tiles.all_rows()) + row + comptime!(tiles.halo) - padding)
        * comptime!(tiles.pitch())
        + column
        + 1
}

/// Weighted sums over the windows of a quad, whose first row is at this place.
#[cube]
fn correlate_staged(
    tile: &Shared<[Four]>,
    at: usize,
    windows: &Shared<[Four]>,
    first: usize,
    #[comptime] pitch: usize,
    #[comptime] kernel: usize,
    #[comptime] dilation: usize,
) -> Four {
    let mut sums = Array::<f32>::new(4usize);
    #[unroll]
    for pixel in 0..4usize {
        sums[pixel] = 0.0;
    }
    #[unroll]
    for row in 0..kernel {
        let line = staged_row(tile, at + comptime!(row * dilation * pitch));
        #[unroll]
        for tap in 0..kernel {
            let (four, lane) = comptime!(weight_at(kernel, row, tap));
            let weight = windows[first + four].extract(lane);
            #[unroll]
            for pixel in 0..4usize {
                let from = comptime!(HALO + pixel + tap * dilation - dilation * (kernel / 2));
                sums[pixel] += weight * line[from];
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
    #[comptime] pitch: usize,
) -> Four {
    let mut value = Four::new(0.0);
    if way == window::OF_3 {
        value = correlate_staged(tile, at, windows, first, pitch, 3usize, 1usize);
    } else if way == window::OF_5 {
        value = correlate_staged(tile, at, windows, first, pitch, 5usize, 1usize);
    } else if way == window::WIDE_OF_3 {
        value = correlate_staged(tile, at, windows, first, pitch, 3usize, 2usize);
    } else {
        value = correlate_staged(tile, at, windows, first, pitch, 5usize, 2usize);
    }
    value
}

/// A row of a tile around a quad: its pixels, and [`HALO`] more on both sides. Those that are not used are not read.
#[cube]
pub fn staged_row(tile: &Shared<[Four]>, at: usize) -> Array<f32> {
    let mut line = Array::<f32>::new(12usize);
    #[unroll]
    for number in 0..3usize {
        let four = tile[at + number - 1];
        #[unroll]
        for lane in 0..4usize {
            line[comptime!(4 * number + lane)] = four.extract(lane);
        }
    }
    line
}
