//! Backward through blocks: from the gradients of gathered values, and of identities, to those of sources. Pools are in
//! [`super::pools_back`].

use cubecl::prelude::*;

use super::moments::total;
use super::planes::{Four, Ways, read_four, write_four};
use super::scattered::scattered;
use super::staged::{Places, Planes, Tiles, clear_halo, every, fetch, locate, new_places, put};
use super::sums::{OF_NORM, factor};
use super::table::{NONE, block, source, term};
use super::windows::{
    WEIGHTS, correlate_any, fetch_weights, fours_of, put_weights, taps_of, window_at,
};

/// Whether a block's windows are read from tiles, in a source of which every row or every other one is computed.
#[cube]
fn is_of_tiles(table: &[u32], row: usize, split: usize) -> bool {
    table[row + block::STAGED] != NONE && table[row + block::STRIDE] as usize == split
}

/// Reads the gradients that a block gathered, and the window for a part of the source, where these are used from tiles.
#[cube]
fn fetch_block(
    fetched: &mut Array<Four>,
    window: &mut Array<Four>,
    table: &[u32],
    row: usize,
    work: &[f32],
    norms: &[f32],
    weights: &[f32],
    places: &Places,
    plane: usize,
    num: usize,
    channel: usize,
    split: usize,
    part: usize,
    unit: usize,
    #[comptime] tiles: Tiles,
) {
    if is_of_tiles(table, row, split) {
        let first = table[row + block::GATHERED] as usize + plane;
        fetch(fetched, work, places, first, num, 1i32, f32::new(0.0), unit, tiles);
        let taps = taps_of(table, row, part);
        let first = table[row + block::DEPTHWISE] as usize + channel * taps.kernel * taps.kernel;
        let units = comptime!(tiles.units);
        fetch_weights(
            window, weights, norms, first, 0usize, false, 1usize, &taps, unit, true, 1usize, units,
            false,
        );
    }
}

/// A quad of a part of a plane, `split` values apart.
#[cube]
fn read_part(
    values: &[f32],
    at: usize,
    lanes: usize,
    split: usize,
    #[comptime] tiles: Tiles,
) -> Four {
    let mut four = Four::new(0.0);
    if comptime!(tiles.access.is_whole()) && split == 1 {
        four = read_four(values, at, lanes, comptime!(tiles.access));
    } else {
        #[unroll]
        for pixel in 0..4usize {
            if pixel < lanes {
                four.insert(pixel, values[at + pixel * split]);
            }
        }
    }
    four
}

#[cube]
fn write_part(
    to: &mut [f32],
    at: usize,
    four: Four,
    lanes: usize,
    split: usize,
    #[comptime] tiles: Tiles,
) {
    if comptime!(tiles.access.is_whole()) && split == 1 {
        write_four(to, at, four, lanes, comptime!(tiles.access));
    } else {
        #[unroll]
        for pixel in 0..4usize {
            if pixel < lanes {
                to[at + pixel * split] = four.extract(pixel);
            }
        }
    }
}

/// Gradients of sources, from all blocks and identities of one node that read them. Cubes: tiles of quads;
/// sources, their parts (`num_parts` at most) and channels; chunks of images. A unit has a quad of a tile of `at_once`
/// images; windows of the search space are read from tiles in shared memory ([`super::staged`]). Where all blocks have
/// stride 2, the rows and columns of each parity are a part, with whole windows in it.
///
/// States add them to their gradients; an input (`to_target`) or two of them (`pair`) take them as
/// they are. A source between two blocks (`inner`) has its own normalization. Its cubes have all
/// tiles, and write the sums for its backward pass after the coefficients:
/// `[source][channel][chunk]`.
#[cube(launch_unchecked)]
pub fn sources(
    table: &[u32],
    values: &[f32],
    other: &[f32],
    weights: &[f32],
    norms: &mut [f32],
    work: &mut [f32],
    target: &mut [f32],
    other_target: &mut [f32],
    first_row: usize,
    first_coefficient: usize,
    first_sum: usize,
    factors: usize,
    images: usize,
    images_per_chunk: usize,
    channels: usize,
    most_channels: usize,
    num_parts: usize,
    height: usize,
    width: usize,
    #[comptime] inner: bool,
    #[comptime] to_target: bool,
    #[comptime] pair: bool,
    #[comptime] ways: Ways,
    #[comptime] tiles: Tiles,
) {
    let (columns, rows, at_once) = comptime!((tiles.columns, tiles.rows, tiles.planes));
    let channel = CUBE_POS_Y as usize % most_channels;
    let part = CUBE_POS_Y as usize / most_channels % num_parts;
    let number = CUBE_POS_Y as usize / most_channels / num_parts;
    let row = first_row + number * source::LEN;
    let of_source = table[row + source::CHANNELS] as usize;
    let split = table[row + source::SPLIT] as usize;
    if channel >= of_source || part >= split * split {
        terminate!();
    }
    let (down, right) = (part / 2, part % 2);
    let in_width = table[row + source::WIDTH] as usize;
    let in_size = table[row + source::HEIGHT] as usize * in_width;
    // Those of the part.
    let part_height = every(table[row + source::HEIGHT] as usize, down, split) as usize;
    let part_width = every(in_width, right, split) as usize;
    let mut scale = f32::new(1.0);
    let mut shift = f32::new(0.0);
    let mut mean = f32::new(0.0);
    if inner.comptime() {
        let at = (table[row + source::NORM] as usize * channels + channel) * OF_NORM;
        mean = norms[at];
        scale = norms[at + 2];
        shift = norms[at + 3];
    }
    let units = comptime!(columns * rows * at_once);
    let unit = UNIT_POS as usize;
    let of_image = unit / comptime!(columns * rows);
    let of_row = unit / columns % rows;
    let of_column = unit % columns;
    // Launches without windows need no tiles.
    let has_windows = comptime!(ways != Ways::Others);
    let mut tile =
        Shared::<[Four]>::new_slice(comptime!(if has_windows { tiles.len() } else { 1 }));
    // Those of a block, and of the next.
    let mut windows = Shared::<[Four]>::new_slice(comptime!(2 * WEIGHTS));
    let mut fetched = Array::<Four>::new(comptime!(tiles.steps()));
    let mut places = new_places(tiles);
    let mut next_window = Array::<Four>::new(comptime!(fours_of(1, units)));
    if has_windows {
        clear_halo(&mut tile, f32::new(0.0), unit, tiles);
    }
    let mut sum = f32::new(0.0);
    let mut products = f32::new(0.0);
    let end = min((CUBE_POS_Z as usize + 1) * images_per_chunk, images);
    let tiles_x = part_width.div_ceil(comptime!(4 * columns));
    let num_tiles = tiles_x * part_height.div_ceil(rows);
    let mut first = CUBE_POS_Z as usize * images_per_chunk;
    while first < end {
        let image = first + of_image;
        let plane_place = (image * of_source + channel) * in_size;
        let first_value = table[row + source::PLACE] as usize + plane_place;
        let mut number = CUBE_POS_X as usize;
        while number < num_tiles {
            let tile_y = number / tiles_x * rows;
            let tile_x = number % tiles_x * comptime!(4 * columns);
            let y = tile_y + of_row;
            let x = tile_x + of_column * 4;
            let has_quad = image < end && y < part_height && x < part_width;
            let (in_y, in_x) = (y * split + down, x * split + right);
            let at = in_y * in_width + in_x;
            let lanes = select(has_quad, part_width - min(x, part_width), 0usize);
            let mut read = Four::new(0.0);
            if pair.comptime() && table[row + source::INPUT] == 1 {
                read = read_part(other, first_value + at, lanes, split, tiles);
            } else {
                read = read_part(values, first_value + at, lanes, split, tiles);
            }
            let mut all = Four::new(0.0);
            let first_block = table[row + source::BLOCKS] as usize;
            let mut num_blocks = table[row + source::NUM_BLOCKS] as usize;
            if part > 0 {
                num_blocks = table[row + source::NUM_SPLIT] as usize;
            }
            // Of windows of the search space, which keep the number of channels.
            let plane = (first * of_source + channel) * height * width;
            if has_windows && num_blocks > 0 {
                let planes = Planes {
                    apart: of_source * height * width,
                    height: height as i32,
                    width: width as i32,
                    row: width as i32,
                    step: 1,
                    top: tile_y as i32,
                    left: tile_x as i32,
                    // That of any block.
                    padding: comptime!(tiles.halo as i32),
                };
                locate(&mut places, &planes, unit, tiles);
                let row = table[first_block] as usize;
                fetch_block(
                    &mut fetched,
                    &mut next_window,
                    table,
                    row,
                    &*work,
                    &*norms,
                    weights,
                    &places,
                    plane,
                    end - first,
                    channel,
                    split,
                    part,
                    unit,
                    tiles,
                );
                // The windows of the tile before were read by all units.
                sync_cube();
                put_weights(&mut windows, 0usize, &next_window, unit, 1usize, units);
            }
            for entry in 0..num_blocks {
                let of_block = table[first_block + entry] as usize;
                let way = table[of_block + block::STAGED];
                let mut back = Four::new(0.0);
                let window = entry % 2 * WEIGHTS;
                let padding = table[of_block + block::TILE_PADDING] as usize;
                let is_staged = has_windows && is_of_tiles(table, of_block, split);
                if has_windows {
                    // The tile, and the window in whose place the next one comes, were read by all units.
                    sync_cube();
                }
                if is_staged {
                    let floor = f32::new(f32::MIN);
                    put(&mut tile, &fetched, &places, &windows, 0usize, floor, unit, tiles);
                    sync_cube();
                }
                let has_next = has_windows && entry + 1 < num_blocks;
                if has_next {
                    let row = table[first_block + entry + 1] as usize;
                    fetch_block(
                        &mut fetched,
                        &mut next_window,
                        table,
                        row,
                        &*work,
                        &*norms,
                        weights,
                        &places,
                        plane,
                        end - first,
                        channel,
                        split,
                        part,
                        unit,
                        tiles,
                    );
                }
                if is_staged {
                    let from = window_at(of_image, of_row, of_column, padding, tiles);
                    let pitch = comptime!(tiles.pitch());
                    back = correlate_any(&tile, from, &windows, window, way, pitch);
                } else if has_quad {
                    back = scattered(
                        table, of_block, &*work, weights, image, channel, height, width, in_y,
                        in_x, split,
                    );
                }
                if has_next {
                    put_weights(&mut windows, WEIGHTS - window, &next_window, unit, 1usize, units);
                }
                if table[of_block + block::RELU] == 1 {
                    #[unroll]
                    for pixel in 0..4usize {
                        if read.extract(pixel) * scale + shift <= 0.0 {
                            back.insert(pixel, 0.0);
                        }
                    }
                }
                all += back;
            }
            // No identity reads a map between two blocks; pools have a launch of their own.
            if !inner.comptime() && has_quad {
                let terms = table[row + source::TERMS] as usize;
                for entry in 0..table[row + source::NUM_TERMS] as usize {
                    let of_term = terms + entry * term::LEN;
                    let mixing = table[of_term + term::MIXING];
                    let number = table[of_term + term::COEFFICIENTS] as usize;
                    let at_line = first_coefficient + (number * channels + channel) * OF_NORM;
                    let scale = norms[at_line] * factor(table, factors, mixing, image, images);
                    let reached = table[of_term + term::GRADIENT] as usize
                        + (image * channels + channel) * height * width
                        + at;
                    let value = read_four(&*work, reached, lanes, comptime!(tiles.access));
                    all += Four::new(scale) * value;
                }
            }
            let to = table[row + source::GRADIENT] as usize + plane_place + at;
            if pair.comptime() && table[row + source::INPUT] == 1 {
                write_part(other_target, to, all, lanes, split, tiles);
            } else if to_target.comptime() {
                write_part(target, to, all, lanes, split, tiles);
            } else if inner.comptime() {
                write_part(work, to, all, lanes, split, tiles);
                #[unroll]
                for pixel in 0..4usize {
                    if pixel < lanes {
                        sum += all.extract(pixel);
                        products += all.extract(pixel) * (read.extract(pixel) - mean);
                    }
                }
            } else {
                let before = read_part(&*work, to, lanes, split, tiles);
                write_part(work, to, before + all, lanes, split, tiles);
            }
            number += CUBE_COUNT_X as usize;
        }
        first += at_once;
    }
    if inner.comptime() {
        let mut scratch = Shared::<[f32]>::new_slice(units);
        let sum = total(&mut scratch, sum, units);
        let products = total(&mut scratch, products, units);
        if unit == 0 {
            let at = (number * channels + channel) * CUBE_COUNT_Z as usize + CUBE_POS_Z as usize;
            norms[first_sum + at * 2] = sum;
            norms[first_sum + at * 2 + 1] = products;
        }
    }
}
