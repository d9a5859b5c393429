//! Pools of stride 2 backward, whose windows are not read from tiles: from the source and the gradients of the maps.

use cubecl::prelude::*;

use super::planes::{Four, Plane, quad, within};
use super::pools::{row_of, share_of};
use super::pools_back::{Pools, reached};

/// Number of columns of the three windows that contain pixels of a quad, whose first column is even.
const COLUMNS: usize = 7;

/// The gradients of a quad's pixels from pools of stride 2. `first` is the place of the image's plane in the gradients of
/// their maps.
///
/// Even rows are in one row of windows, odd ones in two. A window's largest value is that of a pixel; of equal values the
/// first has it, as in the forward pass. Every pixel of a mean has an equal share.
#[cube]
pub fn pooled_back(
    values: &[f32],
    plane: &Plane,
    table: &[u32],
    norms: &[f32],
    work: &[f32],
    pools: &Pools,
    image: usize,
    first: usize,
    y: i32,
    x: i32,
    is_max: bool,
) -> Four {
    let mut sums = Array::<f32>::new(4usize);
    #[unroll]
    for pixel in 0..4usize {
        sums[pixel] = 0.0;
    }
    let outside = select(is_max, f32::new(f32::MIN), f32::new(0.0));
    for down in y / 2..min((y + 1) / 2 + 1, pools.height) {
        let top = 2 * down - 1;
        let mut read = Array::<f32>::new(comptime!(3 * COLUMNS));
        #[unroll]
        for row in 0..3usize {
            let line = row_of(values, plane, top + row as i32, x - 1, outside, COLUMNS);
            #[unroll]
            for column in 0..COLUMNS {
                read[comptime!(row * COLUMNS + column)] = line[column];
            }
        }
        let of_rows = share_of(min(top + 3, plane.height) - max(top, 0));
        #[unroll]
        for side in 0..3usize {
            let right = x / 2 + side as i32;
            if within(right, pools.width) {
                let at = first + (down * pools.width + right) as usize;
                let mut share = reached(table, norms, work, pools, image, at);
                let mut largest = read[comptime!(2 * side)];
                let mut of_largest = i32::new(0);
                let mut sum = read[comptime!(2 * side)];
                #[unroll]
                for tap in 1..9usize {
                    let value = read[comptime!(tap / 3 * COLUMNS + 2 * side + tap % 3)];
                    let is_larger = value > largest;
                    largest = select(is_larger, value, largest);
                    of_largest = select(is_larger, tap as i32, of_largest);
                    sum += value;
                }
                if is_max {
                    share += pools.b * largest + pools.c;
                } else {
                    let left = 2 * right - 1;
                    let part = of_rows * share_of(min(left + 3, plane.width) - max(left, 0));
                    share = (share + pools.b * (sum * part) + pools.c) * part;
                }
                #[unroll]
                for pixel in 0..4usize {
                    let column = comptime!(pixel as i32 + 1 - 2 * side as i32);
                    if comptime!((0..3).contains(&column)) {
                        let has = !is_max || of_largest == (y - top) * 3 + column;
                        sums[pixel] += select(has, share, f32::new(0.0));
                    }
                }
            }
        }
    }
    quad(&sums)
}
