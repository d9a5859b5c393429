//! Pools of stride 2 backward, whose windows are not read from tiles: from the source and the gradient of the output,
//! row by row.

use cubecl::prelude::*;

use super::planes::{Four, Plane, within};
use super::pools::{row_of, share_of};
use super::pools_back::{Pools, reached};

/// The place of a window among those of the pool, from its middle: negative where there is none.
#[cube]
fn window_at(middle: i32, length: i32) -> i32 {
    let place = middle >> 1;
    select(place * 2 == middle && within(place, length), place, i32::new(-1))
}

/// The number of rows of all windows that contain a pixel of a quad. The first lies before the
/// quad, whose own first row is even.
const ROWS: i32 = 7;

/// The gradients of a quad's pixels from pools of stride 2. `first` is the place of the image's plane in the gradients of
/// their maps.
///
/// Row by row of the source: a window is complete with its last row, and adds its gradient to the
/// sums of its three rows. The sum of the first of them is complete then. Few values are in
/// registers at a time.
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
    let mut all = Four::new(0.0);
    if is_max {
        all = max_back(values, plane, table, norms, work, pools, image, first, y, x);
    } else {
        all = mean_back(values, plane, table, norms, work, pools, image, first, y, x);
    }
    all
}

/// The next of four values.
#[cube]
fn shifted(four: Four, value: f32) -> Four {
    let mut next = Four::new(0.0);
    #[unroll]
    for lane in 0..3usize {
        next.insert(lane, four.extract(comptime!(lane + 1)));
    }
    next.insert(3usize, value);
    next
}

/// A window's largest value is that of a pixel, so its gradient needs no map: `a f g + b x + c` where
/// the pixel has it. Of equal values the first has it, as in the forward pass.
#[cube]
fn max_back(
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
) -> Four {
    // For three rows and the three windows side by side: the largest value, and whether the quad's column has it.
    let mut largest = Array::<f32>::new(9usize);
    let mut has = Array::<bool>::new(9usize);
    let mut rest = Array::<f32>::new(3usize);
    let mut sums = Array::<f32>::new(3usize);
    #[unroll]
    for at in 0..9usize {
        largest[at] = f32::MIN;
        has[at] = false;
    }
    let (height, width) = (pools.height, pools.width);
    let mut all = Four::new(0.0);
    for row in 0..ROWS {
        let at_y = y - 1 + row;
        let read = row_of(values, plane, at_y, x - 2, f32::new(f32::MIN), 5usize);
        rest[2] = pools.b * read[2] + pools.c;
        let down = window_at(at_y - 1, height);
        #[unroll]
        for side in 0..3usize {
            let mut most = read[side];
            let mut column = i32::new(0);
            #[unroll]
            for tap in 1..3usize {
                let value = read[comptime!(side + tap)];
                let is_larger = value > most;
                most = select(is_larger, value, most);
                column = select(is_larger, tap as i32, column);
            }
            largest[comptime!(6 + side)] = most;
            has[comptime!(6 + side)] = column == comptime!(2 - side as i32);
            let right = window_at(x - 1 + side as i32, width);
            if row >= 2 && down >= 0 && right >= 0 {
                let mut most = largest[side];
                let mut of_row = i32::new(0);
                let mut has_it = has[side];
                #[unroll]
                for tap in 1..3usize {
                    let at = comptime!(3 * tap + side);
                    let is_larger = largest[at] > most;
                    most = select(is_larger, largest[at], most);
                    of_row = select(is_larger, tap as i32, of_row);
                    has_it = (is_larger && has[at]) || (!is_larger && has_it);
                }
                let at = first + (down * width + right) as usize;
                let reached = reached(table, norms, work, pools, image, at);
                #[unroll]
                for tap in 0..3usize {
                    let share = reached + rest[tap];
                    sums[tap] += select(has_it && of_row == tap as i32, share, f32::new(0.0));
                }
            }
        }
        all = shifted(all, sums[0]);
        sums[0] = sums[1];
        sums[1] = sums[2];
        sums[2] = 0.0;
        rest[0] = rest[1];
        rest[1] = rest[2];
        #[unroll]
        for at in 0..6usize {
            largest[at] = largest[comptime!(at + 3)];
            has[at] = has[comptime!(at + 3)];
        }
    }
    all
}

/// Every pixel of a window has an equal share of its gradient.
#[cube]
fn mean_back(
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
) -> Four {
    // The sums of three rows of the three windows side by side.
    let mut of_rows = Array::<f32>::new(9usize);
    let mut of_columns = Array::<f32>::new(3usize);
    #[unroll]
    for side in 0..3usize {
        let middle = x - 1 + side as i32;
        of_columns[side] = share_of(min(middle + 2, plane.width) - max(middle - 1, 0));
    }
    let mut sums = Array::<f32>::new(3usize);
    let (height, width) = (pools.height, pools.width);
    let mut all = Four::new(0.0);
    for row in 0..ROWS {
        let at_y = y - 1 + row;
        let read = row_of(values, plane, at_y, x - 2, f32::new(0.0), 5usize);
        let down = window_at(at_y - 1, height);
        let of_window = share_of(min(at_y + 1, plane.height) - max(at_y - 2, 0));
        #[unroll]
        for side in 0..3usize {
            of_rows[comptime!(6 + side)] =
                read[side] + read[comptime!(side + 1)] + read[comptime!(side + 2)];
            let right = window_at(x - 1 + side as i32, width);
            if row >= 2 && down >= 0 && right >= 0 {
                let sum =
                    of_rows[side] + of_rows[comptime!(side + 3)] + of_rows[comptime!(side + 6)];
                let share = of_columns[side] * of_window;
                let at = first + (down * width + right) as usize;
                let reached = reached(table, norms, work, pools, image, at);
                sums[2] += (reached + pools.b * (sum * share) + pools.c) * share;
            }
        }
        // Windows that end in this row, and in the two before it, contain the pixel two rows above.
        all = shifted(all, sums[0] + sums[1] + sums[2]);
        sums[0] = sums[1];
        sums[1] = sums[2];
        sums[2] = 0.0;
        #[unroll]
        for at in 0..6usize {
            of_rows[at] = of_rows[comptime!(at + 3)];
        }
    }
    all
}
