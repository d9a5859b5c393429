//! Reading planes: four neighbouring pixels at a time, through the caches.
//!
//! A unit works on a quad: pixels `x .. x + 4` of one row. Quads are numbered along the rows; the last of a row may extend
//! beyond it.

use cubecl::prelude::*;

use super::table::gather;

/// Four neighbouring pixels of a row, or four channels of one pixel.
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

/// The way to read and write quads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Pixel by pixel: a quad may extend beyond its row.
    Pixels,
    /// All quads are whole, and lie at multiples of four.
    Quads,
    /// The same, and the device reads four values as one.
    Vectors,
}

impl Access {
    pub fn is_whole(self) -> bool {
        self != Self::Pixels
    }
}

/// The first `lanes` pixels of a quad, zero for the others. Of a whole quad these are all or none.
#[cube]
pub fn read_four(values: &[f32], at: usize, lanes: usize, #[comptime] access: Access) -> Four {
    let mut four = Four::new(0.0);
    if comptime!(access.is_whole()) {
        if lanes > 0 {
            four = whole_four(values, at / 4, access);
        }
    } else {
        #[unroll]
        for pixel in 0..4usize {
            if pixel < lanes {
                four.insert(pixel, values[at + pixel]);
            }
        }
    }
    four
}

/// A quad by its number among all fours of a buffer.
#[cube]
fn whole_four(values: &[f32], number: usize, #[comptime] access: Access) -> Four {
    let mut four = Four::new(0.0);
    if comptime!(access == Access::Vectors) {
        four = values.as_vectorized().with_vector_size::<Const<4>>()[number];
    } else {
        #[unroll]
        for pixel in 0..4usize {
            four.insert(pixel, values[4 * number + pixel]);
        }
    }
    four
}

/// Writes the first `lanes` pixels of a quad, as [`read_four`].
#[cube]
pub fn write_four(to: &mut [f32], at: usize, four: Four, lanes: usize, #[comptime] access: Access) {
    if comptime!(access == Access::Vectors) {
        if lanes > 0 {
            to.as_vectorized_mut().with_vector_size_mut::<Const<4>>()[at / 4] = four;
        }
    } else {
        let lanes = if comptime!(access.is_whole()) { min(lanes, 1) * 4 } else { lanes };
        #[unroll]
        for pixel in 0..4usize {
            if pixel < lanes {
                to[at + pixel] = four.extract(pixel);
            }
        }
    }
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
        let left = left + number as i32 * stride;
        value.insert(number, pixel(source, plane, top + tap / 3, left + tap % 3));
    }
    value
}
