//! Backward through blocks: from the gradients of gathered values, and of pools and identities, to
//! those of sources.

use cubecl::prelude::*;

use super::backward::Line;
use super::planes::{Four, Plane, Ways, correlate, lifted, within};
use super::sums::{OF_NORM, UNITS, factor, total};
use super::table::{BIAS, block, gather, kind, source, term};

/// The gradient of four neighbouring pixels of a source, from the values that a block gathered there.
#[cube]
fn scattered(
    table: &[u32],
    row: usize,
    work: &[f32],
    weights: &[f32],
    image: usize,
    channel: usize,
    height: usize,
    width: usize,
    y: usize,
    x: usize,
    #[comptime] ways: Ways,
) -> Four {
    let way = table[row + block::GATHER];
    let inputs = table[row + block::INPUTS] as usize;
    let kernel = table[row + block::KERNEL];
    let dilation = table[row + block::DILATION];
    let stride = table[row + block::STRIDE] as i32;
    let padding = table[row + block::PADDING] as i32 - BIAS as i32;
    let first = table[row + block::GATHERED] as usize + image * inputs * height * width;
    let plane = Plane {
        first: first + channel * height * width,
        height: height as i32,
        width: width as i32,
        scale: 1.0,
        shift: 0.0,
        floor: f32::MIN,
    };
    let top = y as i32 - padding;
    let left = x as i32 - padding;
    let at = table[row + block::DEPTHWISE] as usize + channel * (kernel * kernel) as usize;
    let mut sums = Four::new(0.0);
    let is_plain = comptime!(ways != Ways::Others) && way == gather::DEPTHWISE && stride == 1;
    if is_plain && kernel == 3 && dilation == 1 {
        sums = correlate(work, &plane, top, left, weights, at, 3usize, 1usize, true);
    } else if is_plain && kernel == 5 && dilation == 1 {
        sums = correlate(work, &plane, top, left, weights, at, 5usize, 1usize, true);
    } else if is_plain && kernel == 3 && dilation == 2 {
        sums = correlate(work, &plane, top, left, weights, at, 3usize, 2usize, true);
    } else if is_plain && kernel == 5 && dilation == 2 {
        sums = correlate(work, &plane, top, left, weights, at, 5usize, 2usize, true);
    } else {
        for column in 0..kernel {
            let right = x as i32 + padding - (column * dilation) as i32;
            let of_right = divided(right, stride);
            if of_right * stride == right && within(of_right, width as i32) {
                for row in 0..kernel {
                    let tap = (row * kernel + column) as usize;
                    let mut weight = f32::new(1.0);
                    let mut from = plane.first;
                    if way == gather::DEPTHWISE {
                        weight = weights[at + tap];
                    }
                    if way == gather::WINDOW {
                        from = first + (channel * 9 + tap) * height * width;
                    }
                    let above = padding - (row * dilation) as i32;
                    #[unroll]
                    for pixel in 0..4usize {
                        // The output whose window has this pixel at this tap, if there is one.
                        let down = (y + pixel) as i32 + above;
                        let of_down = divided(down, stride);
                        if of_down * stride == down && within(of_down, height as i32) {
                            let before = sums.extract(pixel);
                            let value = work[from + (of_down * width as i32 + of_right) as usize];
                            sums.insert(pixel, before + weight * value);
                        }
                    }
                }
            }
        }
    }
    sums
}

/// A quotient, exact where the stride divides the value, else a number that does not multiply back to it. The strides of
/// the search space need no division.
#[cube]
fn divided(value: i32, stride: i32) -> i32 {
    let mut quotient = value;
    if stride == 2 {
        quotient = value >> 1;
    } else if stride > 2 {
        quotient = value / stride;
    }
    quotient
}

/// The gradients of a quad's pixels from a pool of stride 1 or 2, whose output's gradient is `dz = a g + b z + c`. `first`
/// is the place of `g`.
#[cube]
fn pooled_back(
    values: &[f32],
    plane: &Plane,
    work: &[f32],
    first: usize,
    line: &Line,
    height: i32,
    width: i32,
    y: i32,
    x: i32,
    is_max: bool,
    #[comptime] stride: usize,
) -> Four {
    // The windows that contain a pixel of the quad begin at most two rows before it. One column of windows at a time is
    // in registers.
    let num_windows = comptime!(if stride == 1 { 6usize } else { 3usize });
    let rows = comptime!(if stride == 1 { 8usize } else { 7usize });
    let before = comptime!(if stride == 1 { 2usize } else { 1usize });
    let step = comptime!(stride as i32).runtime();
    let top = y - before as i32;
    let outside = select(is_max, f32::new(f32::MIN), f32::new(0.0));
    let mut sums = Array::<f32>::new(rows);
    for column in 0..3i32 {
        let centre = x - 1 + column;
        let right = divided(centre, step);
        if right * step == centre && within(right, width) {
            let mut read = Array::<f32>::new(comptime!(3 * rows));
            #[unroll]
            for tap in 0..3usize {
                let at_x = centre - 1 + tap as i32;
                let begin = plane.first as i32 + top * plane.width + at_x;
                let in_width = within(at_x, plane.width);
                #[unroll]
                for row in 0..rows {
                    let at_y = top + row as i32;
                    read[row * 3 + tap] = outside;
                    if in_width && within(at_y, plane.height) {
                        read[row * 3 + tap] = values[(begin + row as i32 * plane.width) as usize];
                    }
                }
            }
            let columns = min(centre + 2, plane.width) - max(centre - 1, 0);
            #[unroll]
            for window in 0..num_windows {
                let begin = top + window as i32 * step;
                let down = divided(begin + 1, step);
                if within(down, height) {
                    let mut largest = f32::new(f32::MIN);
                    let mut total = f32::new(0.0);
                    let mut largest_at = i32::new(-1);
                    #[unroll]
                    for tap in 0..9usize {
                        let value = read[window * stride * 3 + tap];
                        total += value;
                        // The first of equal values, as in the forward pass.
                        if value > largest || value.is_nan() {
                            largest = value;
                            largest_at = tap as i32;
                        }
                    }
                    let reached = work[first + (down * width + right) as usize];
                    let count = (min(begin + 3, plane.height) - max(begin, 0)) * columns;
                    let count = select(is_max, f32::new(1.0), count as f32);
                    let value = select(is_max, largest, total / count);
                    let share = (line.a * reached + line.b * value + line.c) / count;
                    #[unroll]
                    for row in 0..3usize {
                        // The pixel is in the window's last column if the window is in the first.
                        let has = !is_max || largest_at == row as i32 * 3 + 2 - column;
                        sums[window * stride + row] += select(has, share, f32::new(0.0));
                    }
                }
            }
        }
    }
    let mut all = Four::new(0.0);
    #[unroll]
    for pixel in 0..4usize {
        all.insert(pixel, sums[before + pixel]);
    }
    all
}

/// The gradients of a quad's pixels from a pool or an identity.
#[cube]
fn term_back(
    table: &[u32],
    row: usize,
    values: &[f32],
    plane: &Plane,
    work: &[f32],
    norms: &[f32],
    first_coefficient: usize,
    scale: f32,
    image: usize,
    channels: usize,
    channel: usize,
    height: usize,
    width: usize,
    y: usize,
    x: usize,
) -> Four {
    let number = table[row + term::COEFFICIENTS] as usize;
    let at = first_coefficient + (number * channels + channel) * OF_NORM;
    let line = Line { a: norms[at] * scale, b: norms[at + 1], c: norms[at + 2] };
    let what = table[row + term::KIND];
    let first =
        table[row + term::GRADIENT] as usize + (image * channels + channel) * height * width;
    let mut all = Four::new(0.0);
    if what == kind::IDENTITY {
        #[unroll]
        for pixel in 0..4usize {
            if y + pixel < height {
                all.insert(pixel, line.a * work[first + (y + pixel) * width + x]);
            }
        }
    } else {
        let is_max = what == kind::MAX_POOL;
        let (height, width) = (height as i32, width as i32);
        let (y, x) = (y as i32, x as i32);
        if table[row + term::STRIDE] == 1 {
            all =
                pooled_back(values, plane, work, first, &line, height, width, y, x, is_max, 1usize);
        } else {
            all =
                pooled_back(values, plane, work, first, &line, height, width, y, x, is_max, 2usize);
        }
    }
    all
}

/// Gradients of sources, from all blocks, pools and identities of one node that read them. Cubes: tiles of quads,
/// sources and channels, chunks of images.
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
    height: usize,
    width: usize,
    #[comptime] inner: bool,
    #[comptime] to_target: bool,
    #[comptime] pair: bool,
    #[comptime] ways: Ways,
) {
    let number = CUBE_POS_Y as usize / most_channels;
    let channel = CUBE_POS_Y as usize % most_channels;
    let row = first_row + number * source::LEN;
    let of_source = table[row + source::CHANNELS] as usize;
    if channel >= of_source {
        terminate!();
    }
    let in_height = table[row + source::HEIGHT] as usize;
    let in_width = table[row + source::WIDTH] as usize;
    let in_size = in_height * in_width;
    let mut scale = f32::new(1.0);
    let mut shift = f32::new(0.0);
    let mut mean = f32::new(0.0);
    if inner.comptime() {
        let at = (table[row + source::NORM] as usize * channels + channel) * OF_NORM;
        mean = norms[at];
        scale = norms[at + 2];
        shift = norms[at + 3];
    }
    let mut sum = f32::new(0.0);
    let mut products = f32::new(0.0);
    let begin = CUBE_POS_Z as usize * images_per_chunk;
    let end = min(begin + images_per_chunk, images);
    let quads = in_height.div_ceil(4) * in_width;
    let count = (end - begin) * quads;
    let mut index = CUBE_POS_X as usize * UNITS + UNIT_POS as usize;
    while index < count {
        let image = begin + index / quads;
        let place = index % quads;
        let plane_place = (image * of_source + channel) * in_size;
        let plane = Plane {
            first: table[row + source::PLACE] as usize + plane_place,
            height: in_height as i32,
            width: in_width as i32,
            scale,
            shift,
            floor: f32::MIN,
        };
        let y = place / in_width * 4;
        let x = place % in_width;
        let at = y * in_width + x;
        let mut all = Four::new(0.0);
        let rows = table[row + source::BLOCKS] as usize;
        for entry in 0..table[row + source::NUM_BLOCKS] as usize {
            let of_block = table[rows + entry] as usize;
            let mut back = scattered(
                table, of_block, &*work, weights, image, channel, height, width, y, x, ways,
            );
            if table[of_block + block::RELU] == 1 {
                #[unroll]
                for pixel in 0..4usize {
                    if y + pixel < in_height {
                        let at = plane.first + at + pixel * in_width;
                        let mut value = f32::new(0.0);
                        if pair.comptime() && table[row + source::INPUT] == 1 {
                            value = lifted(other, at, &plane);
                        } else {
                            value = lifted(values, at, &plane);
                        }
                        if value <= 0.0 {
                            back.insert(pixel, 0.0);
                        }
                    }
                }
            }
            all += back;
        }
        // No pool and no identity reads a map between two blocks.
        if !inner.comptime() {
            let terms = table[row + source::TERMS] as usize;
            for entry in 0..table[row + source::NUM_TERMS] as usize {
                let of_term = terms + entry * term::LEN;
                let scale = factor(table, factors, table[of_term + term::MIXING], image, images);
                all += term_back(
                    table,
                    of_term,
                    values,
                    &plane,
                    &*work,
                    &*norms,
                    first_coefficient,
                    scale,
                    image,
                    channels,
                    channel,
                    height,
                    width,
                    y,
                    x,
                );
            }
        }
        let to = table[row + source::GRADIENT] as usize + plane_place + at;
        #[unroll]
        for pixel in 0..4usize {
            if y + pixel < in_height {
                let value = all.extract(pixel);
                let below = pixel * in_width;
                if pair.comptime() && table[row + source::INPUT] == 1 {
                    other_target[to + below] = value;
                } else if to_target.comptime() {
                    target[to + below] = value;
                } else if inner.comptime() {
                    work[to + below] = value;
                    sum += value;
                    products += value * (values[plane.first + at + below] - mean);
                } else {
                    work[to + below] += value;
                }
            }
        }
        index += CUBE_COUNT_X as usize * UNITS;
    }
    if inner.comptime() {
        let mut scratch = Shared::<[f32]>::new_slice(UNITS);
        let sum = total(&mut scratch, sum, UNITS);
        let products = total(&mut scratch, products, UNITS);
        if UNIT_POS == 0 {
            let at = (number * channels + channel) * CUBE_COUNT_Z as usize + CUBE_POS_Z as usize;
            norms[first_sum + at * 2] = sum;
            norms[first_sum + at * 2 + 1] = products;
        }
    }
}
