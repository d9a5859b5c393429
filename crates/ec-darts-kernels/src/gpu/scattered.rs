//! Backward through windows that are not read from tiles: from the gradients of gathered values, through the caches.

use cubecl::prelude::*;

use super::planes::{Four, within};
use super::table::{BIAS, block, gather};

/// The gradient of four pixels of a source side by side, `split` apart, from the values that a block gathered there.
#[cube]
pub fn scattered(
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
    split: usize,
) -> Four {
    let way = table[row + block::GATHER];
    let inputs = table[row + block::INPUTS] as usize;
    let kernel = table[row + block::KERNEL];
    let dilation = table[row + block::DILATION];
    let stride = table[row + block::STRIDE] as i32;
    let padding = table[row + block::PADDING] as i32 - BIAS as i32;
    let first = table[row + block::GATHERED] as usize + image * inputs * height * width;
    let at = table[row + block::DEPTHWISE] as usize + channel * (kernel * kernel) as usize;
    let mut sums = Four::new(0.0);
    for row in 0..kernel {
        let down = y as i32 + padding - (row * dilation) as i32;
        let of_down = divided(down, stride);
        if of_down * stride == down && within(of_down, height as i32) {
            for column in 0..kernel {
                let tap = (row * kernel + column) as usize;
                let mut weight = f32::new(1.0);
                let mut from = first + channel * height * width;
                if way == gather::DEPTHWISE {
                    weight = weights[at + tap];
                }
                if way == gather::WINDOW {
                    from = first + (channel * 9 + tap) * height * width;
                }
                let before = padding - (column * dilation) as i32;
                #[unroll]
                for pixel in 0..4usize {
                    // The output whose window has this pixel at this tap, if there is one.
                    let right = (x + pixel * split) as i32 + before;
                    let of_right = divided(right, stride);
                    if of_right * stride == right && within(of_right, width as i32) {
                        let before = sums.extract(pixel);
                        let value = work[from + (of_down * width as i32 + of_right) as usize];
                        sums.insert(pixel, before + weight * value);
                    }
                }
            }
        }
    }
    sums
}

/// A quotient, exact where the stride divides the value, else a number that does not multiply back
/// to it. The strides of the search space need no division.
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
