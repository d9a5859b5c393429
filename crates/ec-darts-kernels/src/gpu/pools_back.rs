//! Pools backward: the gradients of windows, once each, and from these the gradients of sources.
//!
//! No value is looked at for not being a number: a normalization after the pool has made all its gradients no number by
//! then.

use cubecl::prelude::*;

use super::planes::{Access, Four, Plane, quad, read_four, within, write_four};
use super::pools::share_of;
use super::pools_strided::pooled_back;
use super::staged::{Planes, Tiles, clear_halo, stage};
use super::sums::{OF_NORM, factor};
use super::table::{kind, source, term};

/// Pools of one kind and shape that read a source. The gradient of a window, `dz = a f g + b z + c`, has the same `z` in
/// all of them, so they are added before they are spread over its pixels.
#[derive(CubeType, Clone, Copy)]
pub struct Pools {
    /// The first of their terms, and their number.
    first: usize,
    count: usize,
    /// Place of the channel's first coefficients, and the distance of those of two terms.
    coefficients: usize,
    apart: usize,
    factors: usize,
    images: usize,
    /// Height and width of their maps.
    pub height: i32,
    pub width: i32,
    /// Sums of the coefficients.
    pub b: f32,
    pub c: f32,
}

/// The sum of `a f g` for the first `lanes` pixels of a quad, from the place `at` in the maps' gradients on.
#[cube]
fn quad_reached(
    table: &[u32],
    norms: &[f32],
    work: &[f32],
    pools: &Pools,
    image: usize,
    at: usize,
    lanes: usize,
    #[comptime] access: Access,
) -> Four {
    let mut sum = Four::new(0.0);
    for number in 0..pools.count {
        let row = pools.first + number * term::LEN;
        let a = norms[pools.coefficients + table[row + term::COEFFICIENTS] as usize * pools.apart];
        let a = a * factor(table, pools.factors, table[row + term::MIXING], image, pools.images);
        let from = table[row + term::GRADIENT] as usize + at;
        sum += Four::new(a) * read_four(work, from, lanes, access);
    }
    sum
}

/// [`quad_reached`] for one pixel.
#[cube]
pub fn reached(
    table: &[u32],
    norms: &[f32],
    work: &[f32],
    pools: &Pools,
    image: usize,
    at: usize,
) -> f32 {
    let mut sum = f32::new(0.0);
    for number in 0..pools.count {
        let row = pools.first + number * term::LEN;
        let a = norms[pools.coefficients + table[row + term::COEFFICIENTS] as usize * pools.apart];
        let a = a * factor(table, pools.factors, table[row + term::MIXING], image, pools.images);
        sum += a * work[table[row + term::GRADIENT] as usize + at];
    }
    sum
}

/// Adds the gradients of sources from the pools that read them. Cubes: tiles of quads, sources and their channels, groups
/// of `at_once` images; a source of inputs has its gradient in `target`.
///
/// At stride 1 a cube brings a tile of the source into shared memory, makes the gradients of the
/// windows there, once each, and collects from these.
#[cube(launch_unchecked)]
pub fn pools_back(
    table: &[u32],
    values: &[f32],
    norms: &[f32],
    work: &mut [f32],
    target: &mut [f32],
    first_row: usize,
    first_coefficient: usize,
    factors: usize,
    images: usize,
    channels: usize,
    most_channels: usize,
    #[comptime] to_target: bool,
    #[comptime] tiles: Tiles,
) {
    let (columns, rows, at_once) = comptime!((tiles.columns, tiles.rows, tiles.planes));
    let row = first_row + CUBE_POS_Y as usize / most_channels * source::LEN;
    let channel = CUBE_POS_Y as usize % most_channels;
    let of_source = table[row + source::CHANNELS] as usize;
    if channel >= of_source {
        terminate!();
    }
    let units = comptime!(columns * rows * at_once);
    let unit = UNIT_POS as usize;
    let of_row = unit / columns % rows;
    let of_column = unit % columns;
    let in_height = table[row + source::HEIGHT] as usize;
    let in_width = table[row + source::WIDTH] as usize;
    let in_size = in_height * in_width;
    let tiles_x = in_width.div_ceil(comptime!(4 * columns));
    let tile_y = CUBE_POS_X as usize / tiles_x * rows;
    let tile_x = CUBE_POS_X as usize % tiles_x * comptime!(4 * columns);
    if tile_y >= in_height {
        terminate!();
    }
    let first = CUBE_POS_Z as usize * at_once;
    let of_image = unit / comptime!(columns * rows);
    let image = first + of_image;
    let y = tile_y + of_row;
    let x = tile_x + of_column * 4;
    let has_quad = image < images && y < in_height && x < in_width;
    let mut tile = Shared::<[Four]>::new_slice(comptime!(tiles.len()));
    // The gradients of windows, and the place of the pixel that has the largest value, in a tile
    // with one more row or quad on each side.
    let mut shares = Shared::<[Four]>::new_slice(comptime!(tiles.planes * windows_of(tiles)));
    let mut places = Shared::<[Four]>::new_slice(comptime!(tiles.planes * windows_of(tiles)));
    let place = table[row + source::PLACE] as usize;
    let mut all = Four::new(0.0);
    let end = table[row + source::NUM_TERMS] as usize;
    let mut entry = 0usize;
    while entry < end {
        let of_term = table[row + source::TERMS] as usize + entry * term::LEN;
        let count = table[of_term + term::ALIKE] as usize;
        let is_max = table[of_term + term::KIND] == kind::MAX_POOL;
        let coefficients = first_coefficient + channel * OF_NORM;
        let apart = channels * OF_NORM;
        let mut b = f32::new(0.0);
        let mut c = f32::new(0.0);
        for number in 0..count {
            let number = table[of_term + number * term::LEN + term::COEFFICIENTS] as usize;
            b += norms[coefficients + number * apart + 1];
            c += norms[coefficients + number * apart + 2];
        }
        let height = table[of_term + term::TO_HEIGHT] as i32;
        let width = table[of_term + term::TO_WIDTH] as i32;
        let pools = Pools {
            first: of_term,
            count,
            coefficients,
            apart,
            factors,
            images,
            height,
            width,
            b,
            c,
        };
        if table[of_term + term::STRIDE] == 1 {
            let outside = select(is_max, f32::new(f32::MIN), f32::new(0.0));
            let planes = Planes {
                apart: of_source * in_size,
                height: in_height as i32,
                width: in_width as i32,
                row: in_width as i32,
                step: 1,
                top: tile_y as i32,
                left: tile_x as i32,
                padding: 2,
            };
            // The tile was read by all units: a barrier follows that.
            clear_halo(&mut tile, outside, unit, tiles);
            let first_value = place + (first * of_source + channel) * in_size;
            stage(&mut tile, values, &planes, first_value, images - first, outside, unit, tiles);
            sync_cube();
            let mut window = unit;
            while window < comptime!(at_once * (rows + 2) * (columns + 2)) {
                let column = window % comptime!(columns + 2);
                let of_row = window / comptime!(columns + 2) % comptime!(rows + 2);
                let of_image = window / comptime!((columns + 2) * (rows + 2));
                let image = first + of_image;
                let middle_x = (tile_x + 4 * column) as i32 - 4;
                let middle_y = (tile_y + of_row) as i32 - 1;
                let mut share = Four::new(0.0);
                let mut taps = Four::new(0.0);
                if image < images && within(middle_y, height) && within(middle_x, width) {
                    let read = staged_rows(&tile, of_image, of_row, column, tiles);
                    let plane = (image * channels + channel) as i32 * height * width;
                    let at = (plane + middle_y * width + middle_x) as usize;
                    let lanes = min(width - middle_x, 4) as usize;
                    let access = comptime!(tiles.access);
                    let reached =
                        quad_reached(table, norms, &*work, &pools, image, at, lanes, access);
                    let of_rows = share_of(min(middle_y + 2, height) - max(middle_y - 1, 0));
                    #[unroll]
                    for number in 0..4usize {
                        let x = middle_x + number as i32;
                        if number < lanes {
                            let reached = reached.extract(number);
                            if is_max {
                                let found = largest_of(&read, number);
                                share.insert(number, reached + b * found.value + c);
                                taps.insert(number, found.tap);
                            } else {
                                let part = of_rows * share_of(min(x + 2, width) - max(x - 1, 0));
                                let mean = sum_of(&read, number) * part;
                                share.insert(number, (reached + b * mean + c) * part);
                            }
                        }
                    }
                }
                let to = of_image * comptime!(windows_of(tiles))
                    + of_row * comptime!(tiles.pitch())
                    + column;
                shares[to] = share;
                places[to] = taps;
                window += units;
            }
            sync_cube();
            let from = of_image * comptime!(windows_of(tiles))
                + of_row * comptime!(tiles.pitch())
                + of_column
                + 1;
            all += collected(&shares, &places, from, is_max, comptime!(tiles.pitch()));
        } else if has_quad {
            let plane = Plane {
                first: place + (image * of_source + channel) * in_size,
                height: in_height as i32,
                width: in_width as i32,
                scale: 1.0,
                shift: 0.0,
                floor: f32::MIN,
            };
            let at = (image * channels + channel) * (height * width) as usize;
            all += pooled_back(
                values, &plane, table, norms, &*work, &pools, image, at, y as i32, x as i32, is_max,
            );
        }
        entry += count;
    }
    let to = table[row + source::GRADIENT] as usize
        + (image * of_source + channel) * in_size
        + y * in_width
        + x;
    let lanes = select(has_quad, in_width - min(x, in_width), 0usize);
    let access = comptime!(tiles.access);
    if to_target.comptime() {
        let before = read_four(&*target, to, lanes, access);
        write_four(target, to, before + all, lanes, access);
    } else {
        let before = read_four(&*work, to, lanes, access);
        write_four(work, to, before + all, lanes, access);
    }
}

/// Number of fours for the windows of a plane's tile.
pub fn windows_of(tiles: Tiles) -> usize {
    (tiles.rows + 2) * tiles.pitch()
}

/// Number of columns around four windows side by side.
const COLUMNS_READ: usize = 6;

/// Three rows of a tile around a quad of windows, whose row and column begin before the tile. In the quads before and
/// after it only the windows beside the tile are whole, and no other is used.
#[cube]
fn staged_rows(
    tile: &Shared<[Four]>,
    plane: usize,
    row: usize,
    column: usize,
    #[comptime] tiles: Tiles,
) -> Array<f32> {
    let mut read = Array::<f32>::new(comptime!(3 * COLUMNS_READ));
    let first = (plane * comptime!(tiles.all_rows()) + row + comptime!(tiles.halo - 2))
        * comptime!(tiles.pitch());
    let before = first + max(column, 1) - 1;
    let after = first + min(column, comptime!(tiles.columns)) + 1;
    #[unroll]
    for row in 0..3usize {
        let below = comptime!(row * tiles.pitch());
        let four = tile[first + column + below];
        read[comptime!(row * COLUMNS_READ)] = tile[before + below].extract(3usize);
        #[unroll]
        for lane in 0..4usize {
            read[comptime!(row * COLUMNS_READ + 1 + lane)] = four.extract(lane);
        }
        read[comptime!(row * COLUMNS_READ + 5)] = tile[after + below].extract(0usize);
    }
    read
}

/// A window's largest value, and the first of its pixels, in rows, that has it.
#[derive(CubeType, Clone, Copy)]
struct Found {
    value: f32,
    tap: f32,
}

#[cube]
fn largest_of(read: &Array<f32>, #[comptime] first: usize) -> Found {
    let mut value = read[first];
    let mut tap = f32::new(0.0);
    #[unroll]
    for other in 1..9usize {
        let next = read[comptime!(other / 3 * COLUMNS_READ + first + other % 3)];
        let is_larger = next > value;
        value = select(is_larger, next, value);
        tap = select(is_larger, comptime!(other as f32).runtime(), tap);
    }
    Found { value, tap }
}

#[cube]
fn sum_of(read: &Array<f32>, #[comptime] first: usize) -> f32 {
    let mut sum = f32::new(0.0);
    #[unroll]
    for tap in 0..9usize {
        sum += read[comptime!(tap / 3 * COLUMNS_READ + first + tap % 3)];
    }
    sum
}

/// The gradients of a quad's pixels from those of the windows that contain them; `at` is the quad of windows above it.
#[cube]
fn collected(
    shares: &Shared<[Four]>,
    places: &Shared<[Four]>,
    at: usize,
    is_max: bool,
    #[comptime] pitch: usize,
) -> Four {
    let mut sums = Array::<f32>::new(4usize);
    #[unroll]
    for pixel in 0..4usize {
        sums[pixel] = 0.0;
    }
    #[unroll]
    for side in 0..3usize {
        #[unroll]
        for window in 0..6usize {
            // From the last window of the quad before to the first of the next.
            let from = at + comptime!(side * pitch + window.div_ceil(4)) - 1;
            let share = shares[from].extract(comptime!((window + 3) % 4));
            let tap = places[from].extract(comptime!((window + 3) % 4));
            #[unroll]
            for pixel in 0..4usize {
                // The column of the pixel in the window, whose row is the last in the first of the
                // windows below each other.
                let column = comptime!(pixel as i32 + 2 - window as i32);
                if comptime!((0..3).contains(&column)) {
                    let of_pixel = comptime!(((2 - side as i32) * 3 + column) as f32).runtime();
                    let has = !is_max || tap == of_pixel;
                    sums[pixel] += select(has, share, f32::new(0.0));
                }
            }
        }
    }
    quad(&sums)
}
