//! Sums of the gradients of depthwise convolutions, one for each tap: of a quad's windows, and of the units of a cube.

use cubecl::prelude::*;

use super::planes::Four;
use super::staged::HALO;
use super::windows::{staged_row, weight_at};

/// Largest number of rows and columns of a depthwise convolution ([`super::serves`]).
pub const MOST_TAPS: usize = 5;

/// The sums of a unit, one for each tap, and in how many fours they fit.
pub const ALL_TAPS: usize = MOST_TAPS * MOST_TAPS;
pub const FOURS: usize = ALL_TAPS.div_ceil(4);

/// Sums of this number of units are added by one unit each.
pub const LAST_UNITS: usize = 8;

/// A window of a tile, `side` rows and columns, which are every one or every other one of a convolution's `kernel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    side: usize,
    pub kernel: usize,
    dilation: usize,
    apart: usize,
    first: [i32; 2],
}

impl Window {
    /// One of [`super::table::window`].
    pub fn of_way(way: usize) -> Self {
        let side = [3, 5][way % 2];
        Self { side, kernel: side, dilation: 1 + way / 2, apart: 1, first: [0; 2] }
    }

    /// Of the window of this kernel at stride 2 ([`taps_of`](super::windows::taps_of)).
    pub fn of_part(kernel: usize, part: usize) -> Self {
        let first = [part / 2, part % 2].map(|parity| (kernel / 2 + parity) as i32 - 2);
        Self { side: 3, kernel, dilation: 1, apart: 2, first }
    }

    /// The convolution's row or column for one of a tile's.
    fn tap(&self, axis: usize, at: usize) -> Option<usize> {
        let tap = usize::try_from(self.first[axis] + (at * self.apart) as i32);
        tap.ok().filter(|tap| *tap < self.kernel)
    }

    /// The number of a tap's sum.
    fn sum(&self, row: usize, column: usize) -> Option<usize> {
        Some(self.tap(0, row)? * MOST_TAPS + self.tap(1, column)?)
    }
}

/// Adds the products of a quad's gradient with its windows to the sums of all taps, and gathers the quad's values.
#[cube]
pub fn add_quad(
    tile: &Shared<[Four]>,
    from: usize,
    gradient: &Array<f32>,
    windows: &Shared<[Four]>,
    first: usize,
    sums: &mut Array<f32>,
    gathered: &mut Array<f32>,
    #[comptime] pitch: usize,
    #[comptime] window: Window,
) {
    #[unroll]
    for row in 0..comptime!(window.side) {
        if comptime!(window.tap(0, row).is_some()) {
            let line = staged_row(tile, from + comptime!(row * window.dilation * pitch));
            #[unroll]
            for tap in 0..comptime!(window.side) {
                if comptime!(window.sum(row, tap).is_some()) {
                    let place = comptime!(window.sum(row, tap).unwrap_or(0));
                    let (four, lane) = comptime!(weight_at(window.side, row, tap));
                    let weight = windows[first + four].extract(lane);
                    #[unroll]
                    for number in 0..4usize {
                        let value = line[comptime!(
                            HALO + number + tap * window.dilation
                                - window.dilation * (window.side / 2)
                        )];
                        sums[place] += gradient[number] * value;
                        gathered[number] += weight * value;
                    }
                }
            }
        }
    }
}

/// Adds the sums of all units to those of the first units, in a fixed order, and leaves these in shared memory.
///
/// # Shapes
/// - `scratch`: at the end `[fours of taps][LAST_UNITS]`
#[cube]
pub fn add_units(scratch: &mut Shared<[Four]>, sums: &mut Array<f32>, #[comptime] units: usize) {
    let unit = UNIT_POS as usize;
    let mut half = comptime!(units.next_power_of_two() / 2).runtime();
    while half >= LAST_UNITS {
        if unit >= half && unit < 2 * half {
            #[unroll]
            for four in 0..FOURS {
                scratch[four * half + unit - half] = four_of(&*sums, four);
            }
        }
        sync_cube();
        if unit < half && unit + half < units {
            #[unroll]
            for four in 0..FOURS {
                let other = scratch[four * half + unit];
                #[unroll]
                for lane in 0..4usize {
                    if comptime!(four * 4 + lane < ALL_TAPS) {
                        sums[comptime!(four * 4 + lane)] += other.extract(lane);
                    }
                }
            }
        }
        sync_cube();
        half /= 2;
    }
    if unit < LAST_UNITS {
        #[unroll]
        for four in 0..FOURS {
            scratch[four * LAST_UNITS + unit] = four_of(&*sums, four);
        }
    }
    sync_cube();
}

#[cube]
fn four_of(sums: &Array<f32>, #[comptime] number: usize) -> Four {
    let mut four = Four::new(0.0);
    #[unroll]
    for lane in 0..4usize {
        if comptime!(number * 4 + lane < ALL_TAPS) {
            four.insert(lane, sums[comptime!(number * 4 + lane)]);
        }
    }
    four
}
