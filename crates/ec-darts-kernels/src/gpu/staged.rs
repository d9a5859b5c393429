//! Tiles of planes in shared memory, with a halo: each value is read, lifted and compared with the bounds once, and windows
//! need no comparisons.
//!
//! A tile lies column by column, because the quads of a window are columns; the first row of a tile is that of the first
//! quads' windows, so windows of every padding begin with a whole quad.

use cubecl::prelude::*;

use super::planes::{Four, Plane, lifted, within};

/// Number of columns on both sides, and largest padding of a window.
pub const HALO: usize = 4;

/// Quads of a tile's column, with the halo and an odd number: units side by side read different banks.
pub fn pitch(rows: usize) -> usize {
    (rows + 2) | 1
}

/// Whether windows of this size are read from tiles.
#[cube]
pub fn is_staged(stride: i32, kernel: u32, dilation: u32) -> bool {
    stride == 1 && (kernel == 3 || kernel == 5) && (dilation == 1 || dilation == 2)
}

/// Brings a tile of `images` planes, which lie `apart`, into shared memory; `(top, left)` is its first pixel with the halo.
///
/// # Shapes
/// - `tile`: `[images][columns + 2 HALO][pitch]` quads
#[cube]
pub fn stage(
    tile: &mut Shared<[Four]>,
    source: &[f32],
    plane: &Plane,
    apart: usize,
    num_images: usize,
    top: i32,
    left: i32,
    #[comptime] columns: usize,
    #[comptime] rows: usize,
    #[comptime] images: usize,
    #[comptime] units: usize,
) {
    let wide = comptime!(columns + 2 * HALO);
    let high = comptime!(rows + 2);
    let mut entry = UNIT_POS as usize;
    while entry < comptime!(images * wide * high) {
        let column = entry % wide;
        let quad = entry / wide % high;
        let image = entry / comptime!(wide * high);
        let x = left + column as i32;
        let mut four = Four::new(0.0);
        if image < num_images && within(x, plane.width) {
            let y = top + (quad * 4) as i32;
            let begin = (plane.first + image * apart) as i32 + y * plane.width + x;
            #[unroll]
            for pixel in 0..4usize {
                if within(y + pixel as i32, plane.height) {
                    let at = (begin + pixel as i32 * plane.width) as usize;
                    four.insert(pixel, lifted(source, at, plane));
                }
            }
        }
        tile[(image * wide + column) * comptime!(pitch(rows)) + quad] = four;
        entry += units;
    }
}

/// The rows of a column from a quad on, as many as the windows of a quad have.
#[cube]
pub fn staged_column(
    tile: &Shared<[Four]>,
    at: usize,
    #[comptime] kernel: usize,
    #[comptime] dilation: usize,
) -> Array<f32> {
    let fours = comptime!((4 + (kernel - 1) * dilation).div_ceil(4));
    let mut line = Array::<f32>::new(comptime!(4 * fours));
    #[unroll]
    for number in 0..fours {
        let four = tile[at + number];
        #[unroll]
        for lane in 0..4usize {
            line[comptime!(4 * number + lane)] = four.extract(lane);
        }
    }
    line
}
