//! Reading planes: four neighbouring pixels at a time, by a window or a pool.
//!
//! A unit works on a quad: pixels `y .. y + 4` of one column. Quads are numbered along the rows, so that units side by
//! side read pixels side by side; the last of a column may extend beyond it.

use cubecl::prelude::*;

use super::pools::pooled;
use super::table::gather;

/// Four neighbouring pixels of a column, or four channels of one pixel.
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

/// Whether a place lies in a row or column of this length: one comparison, as a negative number is a large one without
/// its sign.
#[cube]
pub fn within(place: i32, length: i32) -> bool {
    (place as u32) < (length as u32)
}

/// A lifted value, zero outside of the plane.
#[cube]
pub fn pixel(source: &[f32], plane: &Plane, y: i32, x: i32) -> f32 {
    let mut value = f32::new(0.0);
    if within(y, plane.height) && within(x, plane.width) {
        value = lifted(source, plane.first + (y * plane.width + x) as usize, plane);
    }
    value
}

/// Weighted sums over windows of stride 1, of the four pixels of a quad; the first window begins at
/// `(top, left)`. The `adjoint` has flipped weights, and reads gradients, which are not lifted.
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
    #[comptime] adjoint: bool,
) -> Four {
    let rows = comptime!(4 + (kernel - 1) * dilation);
    let mut sums = Array::<f32>::new(4usize);
    // Not unrolled: compiling takes longer than the loop costs.
    for column in 0..kernel {
        let x = left + (column * dilation) as i32;
        if within(x, plane.width) {
            let line = column_of(source, plane, top, x, rows, !adjoint);
            #[unroll]
            for tap in 0..kernel {
                let mut place = tap * kernel + column;
                if adjoint.comptime() {
                    place = comptime!(kernel * kernel - 1).runtime() - place;
                }
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

/// Values of a column inside the plane, from a row on that may lie before it.
#[cube]
pub fn column_of(
    source: &[f32],
    plane: &Plane,
    top: i32,
    x: i32,
    #[comptime] rows: usize,
    #[comptime] lift: bool,
) -> Array<f32> {
    let mut line = Array::<f32>::new(rows);
    let begin = plane.first as i32 + top * plane.width + x;
    #[unroll]
    for row in 0..rows {
        let y = top + row as i32;
        if within(y, plane.height) {
            let at = (begin + row as i32 * plane.width) as usize;
            line[row] = if lift.comptime() { lifted(source, at, plane) } else { source[at] };
        }
    }
    line
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

/// The ways to gather that a launch is compiled for: less to compile where it has fewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ways {
    All,
    Depthwise,
    /// All but depthwise convolutions.
    Others,
}

impl Ways {
    pub fn new(has_depthwise: bool) -> Self {
        if has_depthwise { Self::All } else { Self::Others }
    }
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
    #[comptime] ways: Ways,
) -> Four {
    let mut value = Four::new(0.0);
    if comptime!(ways != Ways::Others) && way == gather::DEPTHWISE {
        let at = depthwise + input * (kernel * kernel) as usize;
        // The windows of the search space are compiled separately: in registers, column by column.
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
                let top = top + number as i32 * stride;
                let mut sum = f32::new(0.0);
                for tap in 0..kernel * kernel {
                    let y = top + (tap / kernel * dilation) as i32;
                    let x = left + (tap % kernel * dilation) as i32;
                    sum += weights[at + tap as usize] * pixel(source, plane, y, x);
                }
                value.insert(number, sum);
            }
        }
    } else if comptime!(ways != Ways::Depthwise) && way >= gather::MAX_POOL {
        value = pooled(source, plane, top, left, stride, way == gather::MAX_POOL);
    } else if comptime!(ways != Ways::Depthwise) {
        value = picked(source, plane, top, left, way, stride, input);
    }
    value
}

/// One pixel of the windows of a quad's pixels: the first, or that of the channel among a window's.
#[cube]
pub fn picked(
    source: &[f32],
    plane: &Plane,
    top: i32,
    left: i32,
    way: u32,
    stride: i32,
    input: usize,
) -> Four {
    let tap = select(way == gather::WINDOW, (input % 9) as i32, 0);
    let mut value = Four::new(0.0);
    #[unroll]
    for number in 0..4usize {
        let top = top + number as i32 * stride;
        value.insert(number, pixel(source, plane, top + tap / 3, left + tap % 3));
    }
    value
}
