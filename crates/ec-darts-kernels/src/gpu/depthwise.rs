//! Gradients of depthwise convolutions, in parts with a fixed order, and what the convolutions gathered.

use cubecl::prelude::*;

use super::planes::{Four, Plane, pixel, quad, read_four, write_four};
use super::staged::{
    Lift, Places, Planes, Tiles, clear_halo, every, fetch, locate, new_places, put,
};
use super::sums::OF_NORM;
use super::table::{BIAS, NONE, block, gather};
use super::taps::{ALL_TAPS, FOURS, LAST_UNITS, MOST_TAPS, Window, add_quad, add_units};
use super::weights::plane_of;
use super::windows::{WEIGHTS, fetch_weights, fours_of, put_weights, taps_of, window_at};

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
    let has_norm = table[row + block::SOURCE_NORM] != NONE;
    if way != NONE {
        let mut fetched = Array::<Four>::new(comptime!(fours_of(1, units)));
        let norm = (table[row + block::SOURCE_NORM] as usize * channels + input) * OF_NORM;
        for part in 0..num_parts {
            let taps = taps_of(table, row, part);
            fetch_weights(
                &mut fetched,
                weights,
                norms,
                of_weights,
                norm,
                has_norm,
                1usize,
                &taps,
                unit,
                false,
                1usize,
                units,
                true,
            );
            put_weights(&mut windows, part * WEIGHTS, &fetched, unit, 1usize, units);
        }
        // The tile is lifted by what lies with them.
        sync_cube();
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
    let plane = plane_of(table, row, norms, 0usize, channels, inputs, input, in_height, in_width);
    let of_tile = table[row + block::TILE_PADDING] as usize;
    let step = stride as usize;
    let mut planes = Planes {
        apart,
        height: every(in_height, 0usize, step),
        width: every(in_width, 0usize, step),
        row: (step * in_width) as i32,
        step: step as i32,
        top: 0,
        left: 0,
        padding: of_tile as i32,
    };
    let mut gradient = Array::<f32>::new(4usize);
    let mut value = Array::<f32>::new(4usize);
    clear_halo(&mut tile, f32::new(0.0), unit, tiles);
    let mut fetched = Array::<Four>::new(comptime!(tiles.steps()));
    let mut places = new_places(tiles);
    // A tile is read in one round, and its windows are computed in the next.
    // Windows that are not read from tiles share the loop: where they had one of their own in an `else`, the first two rows
    // of their sums were wrong on wgpu with CubeCL 0.11.3 (`kernels_agree_on_wgpu`, dilation 3).
    for round in 0..all * num_parts + 1 {
        if way != NONE && round > 0 {
            let tiles = comptime!(tiles.with(Lift::OneNorm));
            put(&mut tile, &fetched, &places, &windows, 0usize, plane.floor, unit, tiles);
            sync_cube();
        }
        if way != NONE && round < all * num_parts {
            let number = select(num_parts == 1, round, round / 4);
            let part = select(num_parts == 1, 0, round % 4);
            let first = begin + number / num_tiles * at_once;
            let (down, right) = (part / 2, part % 2);
            if round == 0 || num_parts > 1 || num_tiles > 1 {
                planes.height = every(in_height, down, step);
                planes.width = every(in_width, right, step);
                planes.top = (number % num_tiles / tiles_x * rows) as i32;
                planes.left = (number % tiles_x * comptime!(4 * columns)) as i32;
                locate(&mut places, &planes, unit, tiles);
            }
            let from = plane.first + first * apart + down * in_width + right;
            fetch_of(
                &mut fetched,
                table,
                row,
                maps,
                other,
                values,
                &places,
                from,
                end - first,
                step as i32,
                unit,
                pair,
                tiles,
            );
        }
        if round > 0 {
            let number = select(num_parts == 1, round - 1, (round - 1) / 4);
            let part = select(num_parts == 1, 0, (round - 1) % 4);
            let image = begin + number / num_tiles * at_once + of_image;
            let y = number % num_tiles / tiles_x * rows + of_row;
            let x = number % tiles_x * comptime!(4 * columns) + of_column * 4;
            let has_quad = image < end && y < height && x < width;
            let lanes = select(has_quad, width - min(x, width), 0usize);
            let at = gathered + (image * inputs + input) * height * width + y * width + x;
            if part == 0 {
                read_gradient(&mut gradient, &mut value, &*work, at, lanes, tiles);
            }
            let from = window_at(of_image, of_row, of_column, of_tile, tiles);
            let pitch = comptime!(tiles.pitch());
            if way != NONE && num_parts == 1 {
                #[unroll]
                for number in 0..4usize {
                    if way == comptime!(number as u32) {
                        let window = comptime!(Window::of_way(number));
                        add_quad(
                            &tile, from, &gradient, &windows, 0usize, &mut sums, &mut value, pitch,
                            window,
                        );
                    }
                }
            } else if has_parts.comptime() && way != NONE {
                #[unroll]
                for number in 0..8usize {
                    let window = comptime!(Window::of_part(3 + number / 4 * 2, number % 4));
                    let of_kernel = kernel == comptime!(window.kernel as u32);
                    if part == comptime!(number % 4) && of_kernel {
                        add_quad(
                            &tile,
                            from,
                            &gradient,
                            &windows,
                            part * WEIGHTS,
                            &mut sums,
                            &mut value,
                            pitch,
                            window,
                        );
                    }
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
                let top = y as i32 * stride - padding;
                let left = x as i32 * stride - padding;
                for tap in 0..kernel {
                    let at_y = top + (tap * dilation) as i32;
                    let mut read = Array::<f32>::new(comptime!(4 * MOST_TAPS));
                    if has_norm {
                        read = read_row(maps, &plane, at_y, left, stride, dilation, kernel);
                    } else if pair.comptime() && table[row + block::INPUT] == 1 {
                        read = read_row(other, &plane, at_y, left, stride, dilation, kernel);
                    } else {
                        read = read_row(values, &plane, at_y, left, stride, dilation, kernel);
                    }
                    let first = of_weights + (tap * kernel) as usize;
                    add_row(&mut sums, &mut value, &gradient, &read, weights, first, tap, kernel);
                }
            }
            sync_cube();
            if part + 1 == num_parts {
                write_four(work, at, quad(&value), lanes, comptime!(tiles.access));
            }
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

/// The gradients of a quad's values, zero outside of the map, and zeros for the values.
#[cube]
fn read_gradient(
    gradient: &mut Array<f32>,
    value: &mut Array<f32>,
    work: &[f32],
    at: usize,
    lanes: usize,
    #[comptime] tiles: Tiles,
) {
    let read = read_four(work, at, lanes, comptime!(tiles.access));
    #[unroll]
    for pixel in 0..4usize {
        gradient[pixel] = read.extract(pixel);
        value[pixel] = 0.0;
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
    places: &Places,
    first: usize,
    num: usize,
    step: i32,
    unit: usize,
    #[comptime] pair: bool,
    #[comptime] tiles: Tiles,
) {
    let zero = f32::new(0.0);
    if table[row + block::SOURCE_NORM] != NONE {
        fetch(fetched, maps, places, first, num, step, zero, unit, tiles);
    } else if pair.comptime() && table[row + block::INPUT] == 1 {
        fetch(fetched, other, places, first, num, step, zero, unit, tiles);
    } else {
        fetch(fetched, values, places, first, num, step, zero, unit, tiles);
    }
}

/// Adds the products of a quad's gradient with a row of its windows to the sums of the row's taps, and gathers the
/// quad's values.
#[cube]
fn add_row(
    sums: &mut Array<f32>,
    gathered: &mut Array<f32>,
    gradient: &Array<f32>,
    read: &Array<f32>,
    weights: &[f32],
    first: usize,
    row: u32,
    kernel: u32,
) {
    #[unroll]
    for tap in 0..MOST_TAPS {
        let mut of_tap = f32::new(0.0);
        if (tap as u32) < kernel {
            let weight = weights[first + tap];
            #[unroll]
            for number in 0..4usize {
                let value = read[comptime!(4 * tap + number)];
                of_tap += gradient[number] * value;
                gathered[number] += weight * value;
            }
        }
        // Registers have no numbers that are known later.
        #[unroll]
        for other in 0..MOST_TAPS {
            let is_it = row == other as u32;
            sums[comptime!(other * MOST_TAPS + tap)] += select(is_it, of_tap, f32::new(0.0));
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
