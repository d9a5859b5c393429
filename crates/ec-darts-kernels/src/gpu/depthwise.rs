//! Gradients of depthwise convolutions, in parts with a fixed order, and what the convolutions gathered.

use cubecl::prelude::*;

use super::planes::{Four, Plane, pixel, read_four, write_four};
use super::staged::{HALO, Lift, Planes, Tiles, clear_halo, every, fetch, put};
use super::sums::OF_NORM;
use super::table::{BIAS, NONE, block, gather};
use super::weights::plane_of;
use super::windows::{WEIGHTS, stage_weights, staged_row, taps_of, weight_at, window_at};

/// Largest number of rows and columns of a depthwise convolution ([`super::serves`]).
pub const MOST_TAPS: usize = 5;

/// The sums of a unit, one for each tap, and in how many fours they fit.
const ALL_TAPS: usize = MOST_TAPS * MOST_TAPS;
pub const FOURS: usize = ALL_TAPS.div_ceil(4);

/// Sums of this number of units are added by one unit each.
pub const LAST_UNITS: usize = 8;

/// Parts of the gradients of depthwise convolutions, and their values for [`super::weights::pointwise_gradients`]:
///
/// ```text
/// dw[q, t] = sum over p of dy[q, p] u[q, stride p + t],    y[q, p] = sum over t of w[q, t] u[q, stride p + t]
/// ```
/// Cubes: chunks of images, channels, branches. A unit has a quad of a tile of `at_once` images, reads `dy` there, and
/// writes `y` in its place. Where a launch `has_parts`, windows of stride 2 come in four.
#[cube(launch_unchecked)]
pub fn depthwise_gradients(
    table: &[u32],
    values: &[f32],
    other: &[f32],
    maps: &[f32],
    work: &mut [f32],
    weights: &[f32],
    norms: &[f32],
    first_row: usize,
    first_partial: usize,
    images: usize,
    images_per_chunk: usize,
    channels: usize,
    height: usize,
    width: usize,
    #[comptime] pair: bool,
    #[comptime] has_parts: bool,
    #[comptime] tiles: Tiles,
    #[comptime] shared: usize,
) {
    let (columns, rows, at_once) = comptime!((tiles.columns, tiles.rows, tiles.planes));
    let row = first_row + CUBE_POS_Z as usize * block::LEN;
    if table[row + block::GATHER] != gather::DEPTHWISE {
        terminate!();
    }
    let units = comptime!(columns * rows * at_once);
    let unit = UNIT_POS as usize;
    let input = CUBE_POS_Y as usize;
    let inputs = table[row + block::INPUTS] as usize;
    let kernel = table[row + block::KERNEL];
    let way = table[row + block::STAGED];
    let dilation = table[row + block::DILATION];
    let stride = table[row + block::STRIDE] as i32;
    let padding = table[row + block::PADDING] as i32 - BIAS as i32;
    let of_weights = table[row + block::DEPTHWISE] as usize + input * (kernel * kernel) as usize;
    // Those of all parts.
    let num_parts = table[row + block::PARTS] as usize;
    let mut windows =
        Shared::<[Four]>::new_slice(comptime!(if has_parts { 4 * WEIGHTS } else { WEIGHTS }));
    if way != NONE {
        for part in 0..num_parts {
            stage_weights(
                &mut windows,
                part * WEIGHTS,
                weights,
                of_weights,
                1usize,
                &taps_of(table, row, part),
                unit,
                false,
                1usize,
                units,
            );
        }
    }
    let in_height = table[row + block::HEIGHT] as usize;
    let in_width = table[row + block::WIDTH] as usize;
    let apart = inputs * in_height * in_width;
    let gathered = table[row + block::GATHERED] as usize;
    let of_image = unit / comptime!(columns * rows);
    let of_row = unit / columns % rows;
    let of_column = unit % columns;
    let mut tile = Shared::<[Four]>::new_slice(shared);
    let mut sums = Array::<f32>::new(ALL_TAPS);
    let begin = CUBE_POS_X as usize * images_per_chunk;
    let end = min(begin + images_per_chunk, images);
    let tiles_x = width.div_ceil(comptime!(4 * columns));
    let num_tiles = tiles_x * height.div_ceil(rows);
    let all = (end - begin).div_ceil(at_once) * num_tiles;
    let norm = (table[row + block::SOURCE_NORM] as usize * channels + input) * OF_NORM;
    let plane = plane_of(table, row, norms, 0usize, channels, inputs, input, in_height, in_width);
    let of_tile = table[row + block::TILE_PADDING] as usize;
    let step = stride as usize;
    let mut planes = Planes {
        first: plane.first + begin * apart,
        apart,
        num: end - begin,
        height: every(in_height, 0usize, step),
        width: every(in_width, 0usize, step),
        row: (step * in_width) as i32,
        step: step as i32,
        top: 0,
        left: 0,
        padding: of_tile as i32,
        floor: plane.floor,
        outside: 0.0,
        norm,
        norms_apart: 0,
    };
    let mut fetched = Array::<Four>::new(comptime!(tiles.of_unit()));
    if way != NONE {
        clear_halo(&mut tile, f32::new(0.0), unit, tiles);
        fetch_of(&mut fetched, table, row, maps, other, values, norms, &planes, unit, pair, tiles);
    }
    for number in 0..all {
        let first = begin + number / num_tiles * at_once;
        let image = first + of_image;
        let y = number % num_tiles / tiles_x * rows + of_row;
        let x = number % tiles_x * comptime!(4 * columns) + of_column * 4;
        let lanes = width - min(x, width);
        let has_quad = image < end && y < height && x < width;
        let at = (image * inputs + input) * height * width + y * width + x;
        let mut gradient = Array::<f32>::new(4usize);
        let mut value = Array::<f32>::new(4usize);
        let mut read = Four::new(0.0);
        if has_quad {
            read = read_four(&*work, gathered + at, lanes, comptime!(tiles.vectors));
        }
        #[unroll]
        for number in 0..4usize {
            gradient[number] = read.extract(number);
            value[number] = 0.0;
        }
        if way != NONE {
            for part in 0..num_parts {
                if table[row + block::SOURCE_NORM] != NONE {
                    put(&mut tile, &fetched, &planes, unit, comptime!(tiles.with(Lift::Norm)));
                } else {
                    put(&mut tile, &fetched, &planes, unit, comptime!(tiles.with(Lift::Relu)));
                }
                sync_cube();
                let mut next = number;
                let mut next_part = part + 1;
                if next_part == num_parts {
                    next_part = 0;
                    next += 1;
                }
                if next < all {
                    let first = begin + next / num_tiles * at_once;
                    let (down, right) = (next_part / 2, next_part % 2);
                    planes.first = plane.first + first * apart + down * in_width + right;
                    planes.num = end - first;
                    planes.height = every(in_height, down, step);
                    planes.width = every(in_width, right, step);
                    planes.top = (next % num_tiles / tiles_x * rows) as i32;
                    planes.left = (next % tiles_x * comptime!(4 * columns)) as i32;
                    fetch_of(
                        &mut fetched,
                        table,
                        row,
                        maps,
                        other,
                        values,
                        norms,
                        &planes,
                        unit,
                        pair,
                        tiles,
                    );
                }
                let from = window_at(of_image, of_row, of_column, of_tile, tiles);
                let pitch = comptime!(tiles.pitch());
                if num_parts == 1 {
                    #[unroll]
                    for number in 0..4usize {
                        if way == comptime!(number as u32) {
                            let window = comptime!(Window::of_way(number));
                            add_quad(
                                &tile, from, &gradient, &windows, 0usize, &mut sums, &mut value,
                                pitch, window,
                            );
                        }
                    }
                } else if has_parts.comptime() {
                    #[unroll]
                    for number in 0..8usize {
                        let window = comptime!(Window::of_part(3 + number / 4 * 2, number % 4));
                        if part == comptime!(number % 4) && kernel == comptime!(window.kernel as u32)
                        {
                            let at = part * WEIGHTS;
                            add_quad(
                                &tile, from, &gradient, &windows, at, &mut sums, &mut value, pitch,
                                window,
                            );
                        }
                    }
                }
                sync_cube();
            }
        } else if has_quad {
            let plane = Plane {
                first: plane.first + image * apart,
                height: plane.height,
                width: plane.width,
                scale: plane.scale,
                shift: plane.shift,
                floor: plane.floor,
            };
            let at_y = y as i32 * stride - padding;
            let left = x as i32 * stride - padding;
            for row_of in 0..kernel {
                let at_y = at_y + (row_of * dilation) as i32;
                let mut read = Array::<f32>::new(comptime!(4 * MOST_TAPS));
                if table[row + block::SOURCE_NORM] != NONE {
                    read = read_row(maps, &plane, at_y, left, stride, dilation, kernel);
                } else if pair.comptime() && table[row + block::INPUT] == 1 {
                    read = read_row(other, &plane, at_y, left, stride, dilation, kernel);
                } else {
                    read = read_row(values, &plane, at_y, left, stride, dilation, kernel);
                }
                #[unroll]
                for tap in 0..MOST_TAPS {
                    let mut of_tap = f32::new(0.0);
                    if (tap as u32) < kernel {
                        let weight = weights[of_weights + (row_of * kernel + tap as u32) as usize];
                        #[unroll]
                        for number in 0..4usize {
                            let read = read[comptime!(4 * tap + number)];
                            of_tap += select(number < lanes, gradient[number] * read, f32::new(0.0));
                            value[number] += weight * read;
                        }
                    }
                    // Registers have no numbers that are known later.
                    #[unroll]
                    for of_row in 0..MOST_TAPS {
                        let is_it = row_of == of_row as u32;
                        sums[comptime!(of_row * MOST_TAPS + tap)] +=
                            select(is_it, of_tap, f32::new(0.0));
                    }
                }
            }
        }
        if has_quad {
            let mut four = Four::new(0.0);
            #[unroll]
            for number in 0..4usize {
                four.insert(number, value[number]);
            }
            write_four(work, gathered + at, four, lanes, comptime!(tiles.vectors));
        }
    }
    add_units(&mut tile, &mut sums, units);
    let size = (kernel * kernel) as usize;
    let to = first_partial
        + table[row + block::DEPTHWISE_PARTIALS] as usize
        + (CUBE_POS_X as usize * inputs + input) * size;
    let mut number = unit;
    while number < FOURS {
        let mut four = Four::new(0.0);
        for other in 0..comptime!(units.min(LAST_UNITS)) {
            four += tile[number * LAST_UNITS + other];
        }
        #[unroll]
        for lane in 0..4usize {
            let tap = number * 4 + lane;
            let (y, x) = (tap / MOST_TAPS, tap % MOST_TAPS);
            if y < kernel as usize && x < kernel as usize {
                work[to + y * kernel as usize + x] = four.extract(lane);
            }
        }
        number += units;
    }
}

/// [`fetch`] from the branch's source.
#[cube]
fn fetch_of(
    fetched: &mut Array<Four>,
    table: &[u32],
    row: usize,
    maps: &[f32],
    other: &[f32],
    values: &[f32],
    norms: &[f32],
    planes: &Planes,
    unit: usize,
    #[comptime] pair: bool,
    #[comptime] tiles: Tiles,
) {
    if table[row + block::SOURCE_NORM] != NONE {
        fetch(fetched, maps, norms, planes, unit, comptime!(tiles.with(Lift::Norm)));
    } else if pair.comptime() && table[row + block::INPUT] == 1 {
        fetch(fetched, other, norms, planes, unit, tiles);
    } else {
        fetch(fetched, values, norms, planes, unit, tiles);
    }
}

/// A window of a tile, `side` rows and columns, which are every one or every other one of a convolution's `kernel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    side: usize,
    kernel: usize,
    dilation: usize,
    apart: usize,
    first: [i32; 2],
}

impl Window {
    /// One of [`super::table::window`].
    fn of_way(way: usize) -> Self {
        let side = [3, 5][way % 2];
        Self { side, kernel: side, dilation: 1 + way / 2, apart: 1, first: [0; 2] }
    }

    /// Of the window of this kernel at stride 2 ([`taps_of`](super::windows::taps_of)).
    fn of_part(kernel: usize, part: usize) -> Self {
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
fn add_quad(
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
                            HALO + number + tap * window.dilation - window.dilation * (window.side / 2)
                        )];
                        sums[place] += gradient[number] * value;
                        gathered[number] += weight * value;
                    }
                }
            }
        }
    }
}

/// The values of a row of any window, for each tap those of the four pixels of a quad.
#[cube]
fn read_row(
    source: &[f32],
    plane: &Plane,
    y: i32,
    left: i32,
    stride: i32,
    dilation: u32,
    kernel: u32,
) -> Array<f32> {
    let mut read = Array::<f32>::new(comptime!(4 * MOST_TAPS));
    #[unroll]
    for tap in 0..MOST_TAPS {
        if (tap as u32) < kernel {
            #[unroll]
            for number in 0..4usize {
                let x = left + number as i32 * stride + (tap as u32 * dilation) as i32;
                read[comptime!(4 * tap + number)] = pixel(source, plane, y, x);
            }
        }
    }
    read
}

/// Adds the sums of all units to those of the first units, in a fixed order, and leaves these in shared memory.
///
/// # Shapes
/// - `scratch`: at the end `[fours of taps][LAST_UNITS]`
#[cube]
fn add_units(scratch: &mut Shared<[Four]>, sums: &mut Array<f32>, #[comptime] units: usize) {
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
