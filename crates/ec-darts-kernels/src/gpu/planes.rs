//! Reading planes: four neighbouring pixels at a time, by a window or a pool.
//!
//! A unit works on a quad: pixels `x .. x + 4` of one row. Quads are numbered row by row; the last
//! of a row may extend beyond it.

use cubecl::prelude::*;

use super::table::gather;

/// Four neighbouring pixels, or four channels of one pixel.
pub type Four = Vector<f32, Const<4>>;

/// A plane of a source, and the lift of its values when they are read: `max(scale v + shift,
/// floor)`.
#[derive(CubeType, Clone, Copy)]
pub struct Plane {
    /// Place of its first value.
    pub first: usize,
    pub height: i32,
    pub width: i32,
    pub scale: f32,
    pub shift: f32,
    pub floor: f32,
}

/// A lifted value. A NaN stays a NaN; `max` of a GPU would hide it.
#[cube]
pub fn lifted(source: &[f32], at: usize, plane: &Plane) -> f32 {
    let value = source[at] * plane.scale + plane.shift;
    select(value < plane.floor, plane.floor, value)
}

/// A lifted value, zero outside of the plane.
#[cube]
pub fn pixel(source: &[f32], plane: &Plane, y: i32, x: i32) -> f32 {
    let mut value = f32::new(0.0);
    if y >= 0 && y < plane.height && x >= 0 && x < plane.width {
        value = lifted(source, plane.first + (y * plane.width + x) as usize, plane);
    }
    value
}

/// Weighted sums over windows of stride 1, of four neighbouring pixels; the first window begins at
/// `(top, left)`. `flipped` weights give the adjoint.
#[cube]
pub fn correlate(
    source: &[f32],
    plane: &Plane,
    top: i32,
    left: i32,
    weights: &[f32],
    first_weight: usize,
    #[comptime] kernel: usize,
    #[comptime] dilation: usize,
    #[comptime] flipped: bool,
) -> Four {
    let columns = comptime!(4 + (kernel - 1) * dilation);
    let mut sums = Array::<f32>::new(4usize);
    #[unroll]
    for row in 0..kernel {
        let y = top + (row * dilation) as i32;
        if y >= 0 && y < plane.height {
            let begin = plane.first as i32 + y * plane.width;
            let mut line = Array::<f32>::new(columns);
            #[unroll]
            for column in 0..columns {
                let x = left + column as i32;
                if x >= 0 && x < plane.width {
                    line[column] = lifted(source, (begin + x) as usize, plane);
                } else {
                    line[column] = 0.0;
                }
            }
            #[unroll]
            for tap in 0..kernel {
                let place = row * kernel + tap;
                let place = if flipped.comptime() { kernel * kernel - 1 - place } else { place };
                let weight = weights[first_weight + place];
                #[unroll]
                for pixel in 0..4usize {
                    sums[pixel] += weight * line[pixel + tap * dilation];
                }
            }
        }
    }
    quad(&sums)
}

/// Four values as one.
#[cube]
pub fn quad(values: &Array<f32>) -> Four {
    let mut four = Four::new(0.0);
    #[unroll]
    for pixel in 0..4usize {
        four.insert(pixel, values[pixel]);
    }
    four
}

/// The values of one of a block's gathered channels, at four neighbouring pixels.
#[cube]
pub fn gathered(
    source: &[f32],
    plane: &Plane,
    top: i32,
    left: i32,
    weights: &[f32],
    way: u32,
    kernel: u32,
    dilation: u32,
    stride: i32,
    depthwise: usize,
    input: usize,
) -> Four {
    let mut value = Four::new(0.0);
    if way == gather::DEPTHWISE {
        let at = depthwise + input * (kernel * kernel) as usize;
        // The windows of the search space are compiled separately: in registers, row by row.
        if stride == 1 && kernel == 3 && dilation == 1 {
            value = correlate(source, plane, top, left, weights, at, 3usize, 1usize, false);
        } else if stride == 1 && kernel == 5 && dilation == 1 {
            value = correlate(source, plane, top, left, weights, at, 5usize, 1usize, false);
        } else if stride == 1 && kernel == 3 && dilation == 2 {
            value = correlate(source, plane, top, left, weights, at, 3usize, 2usize, false);
        } else if stride == 1 && kernel == 5 && dilation == 2 {
            value = correlate(source, plane, top, left, weights, at, 5usize, 2usize, false);
        } else {
            #[unroll]
            for number in 0..4usize {
                let left = left + number as i32 * stride;
                let mut sum = f32::new(0.0);
                for tap in 0..kernel * kernel {
                    let y = top + (tap / kernel * dilation) as i32;
                    let x = left + (tap % kernel * dilation) as i32;
                    sum += weights[at + tap as usize] * pixel(source, plane, y, x);
                }
                value.insert(number, sum);
            }
        }
    } else {
        let tap = select(way == gather::WINDOW, (input % 9) as i32, 0);
        #[unroll]
        for number in 0..4usize {
            let left = left + number as i32 * stride;
            value.insert(number, pixel(source, plane, top + tap / 3, left + tap % 3));
        }
    }
    value
}

/// The maximum or mean of a 3x3 window, over the pixels inside the map.
#[cube]
pub fn pooled(source: &[f32], plane: &Plane, top: i32, left: i32, is_max: bool) -> f32 {
    let mut largest = f32::new(f32::MIN);
    let mut sum = f32::new(0.0);
    let mut count = f32::new(0.0);
    for tap in 0..9i32 {
        let y = top + tap / 3;
        let x = left + tap % 3;
        if y >= 0 && y < plane.height && x >= 0 && x < plane.width {
            let value = source[plane.first + (y * plane.width + x) as usize];
            // A NaN stays a NaN.
            largest = select(value > largest || value.is_nan(), value, largest);
            sum += value;
            count += 1.0;
        }
    }
    select(is_max, largest, sum / count)
}
