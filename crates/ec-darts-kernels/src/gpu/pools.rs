//! Pools of 3x3 windows, forward and backward, for the four pixels of a quad.
//!
//! Rows first: neighbouring windows share the sum or the largest value of a row. A value that is no number is lost in no
//! pool forward. Backward none is looked for: a normalization after the pool has made all its gradients no number by then.

use cubecl::prelude::*;

use super::backward::Line;
use super::planes::{Four, Plane, quad, within};
use super::staged::{HALO, Planes, Tiles, clear_halo, pitch, stage};
use super::sums::{OF_NORM, factor};
use super::table::{kind, source, term};

/// Neighbouring values of a row, `outside` where there are none.
#[cube]
fn row_of(
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
fn share_of(count: i32) -> f32 {
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

/// The place of a window among those of the pool, from its middle: negative where there is none.
#[cube]
fn window_at(middle: i32, length: i32, stride: i32) -> i32 {
    let place = middle >> (stride - 1);
    select(place * stride == middle && within(place, length), place, i32::new(-1))
}

/// The number of rows of all windows that contain a pixel of a quad.
const ROWS: i32 = 8;

/// The gradients of a quad's pixels from a pool of stride 1 or 2, whose output's gradient is `dz = a g + b z + c`. `first`
/// is the place of `g`, whose map has this height and width.
///
/// Row by row of the source: a window is complete with its last row, and adds its gradient to the sums of its three rows. The
/// sum of the first of them is complete then. Few values are in registers at a time.
#[cube]
fn pooled_back(
    values: &[f32],
    plane: &Plane,
    work: &[f32],
    first: usize,
    line: &Line,
    height: i32,
    width: i32,
    stride: i32,
    y: i32,
    x: i32,
    is_max: bool,
) -> Four {
    let mut all = Four::new(0.0);
    if is_max {
        all = max_back(values, plane, work, first, line, height, width, stride, y, x);
    } else {
        all = mean_back(values, plane, work, first, line, height, width, stride, y, x);
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

/// A window's largest value is that of a pixel, so its gradient needs no map: `a g + b x + c` where the pixel has it. Of
/// equal values the first has it, as in the forward pass.
#[cube]
fn max_back(
    values: &[f32],
    plane: &Plane,
    work: &[f32],
    first: usize,
    line: &Line,
    height: i32,
    width: i32,
    stride: i32,
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
    let mut all = Four::new(0.0);
    for row in 0..ROWS {
        let at_y = y - 2 + row;
        let read = row_of(values, plane, at_y, x - 2, f32::new(f32::MIN), 5usize);
        rest[2] = line.b * read[2] + line.c;
        let down = window_at(at_y - 1, height, stride);
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
            let right = window_at(x - 1 + side as i32, width, stride);
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
                let reached = line.a * work[first + (down * width + right) as usize];
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
    work: &[f32],
    first: usize,
    line: &Line,
    height: i32,
    width: i32,
    stride: i32,
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
    let mut all = Four::new(0.0);
    for row in 0..ROWS {
        let at_y = y - 2 + row;
        let read = row_of(values, plane, at_y, x - 2, f32::new(0.0), 5usize);
        let down = window_at(at_y - 1, height, stride);
        let of_window = share_of(min(at_y + 1, plane.height) - max(at_y - 2, 0));
        #[unroll]
        for side in 0..3usize {
            of_rows[comptime!(6 + side)] =
                read[side] + read[comptime!(side + 1)] + read[comptime!(side + 2)];
            let right = window_at(x - 1 + side as i32, width, stride);
            if row >= 2 && down >= 0 && right >= 0 {
                let sum =
                    of_rows[side] + of_rows[comptime!(side + 3)] + of_rows[comptime!(side + 6)];
                let share = of_columns[side] * of_window;
                let reached = work[first + (down * width + right) as usize];
                sums[2] += (line.a * reached + line.b * (sum * share) + line.c) * share;
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

/// Adds the gradients of sources from the pools that read them. Cubes as in [`super::sources`], with tiles of `at_once`
/// images; a source of inputs has its gradient in `target`.
///
/// At stride 1 a cube brings a tile of the source into shared memory, makes the gradients of the windows there, once each,
/// and collects from these.
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
    height: usize,
    width: usize,
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
    let tiles_x = in_width.div_ceil(columns);
    let tile_y = CUBE_POS_X as usize / tiles_x * comptime!(4 * rows);
    let tile_x = CUBE_POS_X as usize % tiles_x * columns;
    if tile_y >= in_height {
        terminate!();
    }
    let first = CUBE_POS_Z as usize * at_once;
    let of_image = unit / comptime!(columns * rows);
    let image = first + of_image;
    let y = tile_y + of_row * 4;
    let x = tile_x + of_column;
    let has_quad = image < images && y < in_height && x < in_width;
    let mut tile = Shared::<[Four]>::new_slice(comptime!(tiles.len()));
    // The gradients of windows, and the place of the pixel that has the largest value, in a tile with one more pixel on each
    // side.
    let wide = comptime!(columns + 2);
    let high = comptime!(rows + 1);
    let mut shares =
        Shared::<[Four]>::new_slice(comptime!(at_once * (columns + 2) * window_pitch(rows)));
    let mut places =
        Shared::<[Four]>::new_slice(comptime!(at_once * (columns + 2) * window_pitch(rows)));
    let place = table[row + source::PLACE] as usize;
    let mut all = Four::new(0.0);
    let terms = table[row + source::TERMS] as usize;
    for entry in 0..table[row + source::NUM_TERMS] as usize {
        let of_term = terms + entry * term::LEN;
        let what = table[of_term + term::KIND];
        if what != kind::IDENTITY {
            let is_max = what == kind::MAX_POOL;
            let mixing = table[of_term + term::MIXING];
            let number = table[of_term + term::COEFFICIENTS] as usize;
            let at_line = first_coefficient + (number * channels + channel) * OF_NORM;
            let (a, b, c) = (norms[at_line], norms[at_line + 1], norms[at_line + 2]);
            let gradient = table[of_term + term::GRADIENT] as usize + channel * height * width;
            let stride = table[of_term + term::STRIDE] as i32;
            if stride == 1 {
                let outside = select(is_max, f32::new(f32::MIN), f32::new(0.0));
                let planes = Planes {
                    first: place + (first * of_source + channel) * in_size,
                    apart: of_source * in_size,
                    num: images - first,
                    height: in_height as i32,
                    width: in_width as i32,
                    top: tile_y as i32 - 2,
                    left: tile_x as i32,
                    floor: f32::MIN,
                    outside,
                    norm: 0,
                    norms_apart: 0,
                };
                // The tiles were read by all units.
                sync_cube();
                clear_halo(&mut tile, outside, unit, tiles);
                stage(&mut tile, values, norms, &planes, 2i32, unit, tiles);
                sync_cube();
                let mut window = unit;
                while window < comptime!(at_once * (columns + 2) * (rows + 1)) {
                    let column = window % wide;
                    let quad = window / wide % high;
                    let of_image = window / comptime!((columns + 2) * (rows + 1));
                    let image = first + of_image;
                    let middle_x = (tile_x + column) as i32 - 1;
                    let middle_y = (tile_y + 4 * quad) as i32 - 1;
                    let mut share = Four::new(0.0);
                    let mut taps = Four::new(0.0);
                    if image < images && within(middle_x, width as i32) {
                        let line =
                            Line { a: a * factor(table, factors, mixing, image, images), b, c };
                        let from = (of_image * comptime!(columns + 2 * HALO) + column + HALO - 2)
                            * comptime!(pitch(rows))
                            + quad;
                        let read = staged_rows(&tile, from, comptime!(pitch(rows)));
                        let first = (gradient + image * channels * height * width) as i32
                            + middle_y * width as i32
                            + middle_x;
                        let of_columns =
                            share_of(min(middle_x + 2, width as i32) - max(middle_x - 1, 0));
                        #[unroll]
                        for number in 0..4usize {
                            let y = middle_y + number as i32;
                            if within(y, height as i32) {
                                let reached = work[(first + number as i32 * width as i32) as usize];
                                if is_max {
                                    let found = largest_of(&read, number);
                                    share.insert(
                                        number,
                                        line.a * reached + line.b * found.value + line.c,
                                    );
                                    taps.insert(number, found.tap);
                                } else {
                                    let part = of_columns
                                        * share_of(min(y + 2, height as i32) - max(y - 1, 0));
                                    let mean = sum_of(&read, number) * part;
                                    share.insert(
                                        number,
                                        (line.a * reached + line.b * mean + line.c) * part,
                                    );
                                }
                            }
                        }
                    }
                    let to = (of_image * wide + column) * comptime!(window_pitch(rows)) + quad;
                    shares[to] = share;
                    places[to] = taps;
                    window += units;
                }
                sync_cube();
                let from = (of_image * wide + of_column) * comptime!(window_pitch(rows)) + of_row;
                all += collected(&shares, &places, from, is_max, comptime!(window_pitch(rows)));
            } else if has_quad {
                let plane = Plane {
                    first: place + (image * of_source + channel) * in_size,
                    height: in_height as i32,
                    width: in_width as i32,
                    scale: 1.0,
                    shift: 0.0,
                    floor: f32::MIN,
                };
                let line = Line { a: a * factor(table, factors, mixing, image, images), b, c };
                all += pooled_back(
                    values,
                    &plane,
                    &*work,
                    gradient + image * channels * height * width,
                    &line,
                    height as i32,
                    width as i32,
                    stride,
                    y as i32,
                    x as i32,
                    is_max,
                );
            }
        }
    }
    let to = table[row + source::GRADIENT] as usize
        + (image * of_source + channel) * in_size
        + y * in_width
        + x;
    #[unroll]
    for pixel in 0..4usize {
        if has_quad && y + pixel < in_height {
            let at = to + pixel * in_width;
            if to_target.comptime() {
                target[at] += all.extract(pixel);
            } else {
                work[at] += all.extract(pixel);
            }
        }
    }
}

/// Quads of a column of windows, an odd number: units side by side read different banks.
pub fn window_pitch(rows: usize) -> usize {
    (rows + 1) | 1
}

/// Number of rows around the four windows below each other that a unit makes.
const ROWS_READ: usize = 8;

/// Three columns of a tile, from a quad on.
#[cube]
fn staged_rows(tile: &Shared<[Four]>, at: usize, #[comptime] pitch: usize) -> Array<f32> {
    let mut read = Array::<f32>::new(comptime!(3 * ROWS_READ));
    #[unroll]
    for column in 0..3usize {
        #[unroll]
        for part in 0..2usize {
            let four = tile[at + comptime!(column * pitch + part)];
            #[unroll]
            for lane in 0..4usize {
                read[comptime!(column * ROWS_READ + 4 * part + lane)] = four.extract(lane);
            }
        }
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
        let next = read[comptime!(other % 3 * ROWS_READ + first + other / 3)];
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
        sum += read[comptime!(tap % 3 * ROWS_READ + first + tap / 3)];
    }
    sum
}

/// The gradients of a quad's pixels from those of the windows that contain them; `at` is the first of these.
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
    for side in 0..3usize {
        #[unroll]
        for window in 0..6usize {
            let from = at + comptime!(side * pitch + window / 4);
            let share = shares[from].extract(comptime!(window % 4));
            let tap = places[from].extract(comptime!(window % 4));
            #[unroll]
            for pixel in 0..4usize {
                // The row of the pixel in the window, whose column is the last in the first of the windows side by side.
                let row = comptime!(pixel as i32 + 2 - window as i32);
                if comptime!((0..3).contains(&row)) {
                    let of_pixel = comptime!((row * 3 + 2 - side as i32) as f32).runtime();
                    let has = !is_max || tap == of_pixel;
                    sums[pixel] += select(has, share, f32::new(0.0));
                }
            }
        }
    }
    quad(&sums)
}
