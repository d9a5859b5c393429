//! Depthwise convolutions of one block of channels: the innermost loops.
//!
//! Every function is `unsafe`: pointers must be valid for all positions that the sizes name.

use pulp::{Simd, WithSimd};

use super::simd::apart;
use super::tiles::{load, store};

/// The places that a depthwise convolution reads and writes, in values.
#[derive(Clone, Copy)]
pub struct Steps {
    /// The distance from one row of inputs to the next.
    pub row: usize,
    pub stride: usize,
    pub dilation: usize,
    /// Number of rows and columns of the output.
    pub out: [usize; 2],
    pub filled: Filled,
}

/// The rows of the input with values other than zeros, counted from the first tap of the first
/// output.
#[derive(Clone, Copy)]
pub struct Filled {
    pub first: usize,
    pub end: usize,
    /// The distance from one of these rows to the next.
    pub step: usize,
}

impl Steps {
    /// Whether a row of taps reads values other than zeros for a row of outputs: in a small map,
    /// most taps of a wide kernel lie on the border.
    #[inline(always)]
    pub fn reads(&self, ky: usize, y: usize) -> bool {
        let Filled { first, end, step } = self.filled;
        let row = y * self.stride + ky * self.dilation;
        (first..end).contains(&row) && (step == 1 || (row - first).is_multiple_of(step))
    }
}

/// Depthwise convolution of one block of channels; adds to `out` where `ADD`.
///
/// # Safety
/// `input` is the first tap of the first output in a padded map, `weights` holds `K * K` registers.
#[inline(always)]
pub unsafe fn convolve<S: Simd, const K: usize, const ADD: bool>(
    simd: S,
    input: *const f32,
    weights: *const f32,
    out: *mut f32,
    steps: Steps,
) {
    apart(simd, Convolve::<K, ADD> { input, weights, out, steps });
}

/// [`convolve`], whose caller's promise it has.
struct Convolve<const K: usize, const ADD: bool> {
    input: *const f32,
    weights: *const f32,
    out: *mut f32,
    steps: Steps,
}

impl<const K: usize, const ADD: bool> WithSimd for Convolve<K, ADD> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { input, weights, out, steps } = self;
        // Constant steps become a part of each load's address.
        let known = |stride, dilation| Steps { stride, dilation, ..steps };
        // SAFETY: the caller's.
        unsafe {
            match (steps.stride, steps.dilation) {
                (1, 1) => lines::<S, K, ADD>(simd, input, weights, out, known(1, 1)),
                (1, 2) => lines::<S, K, ADD>(simd, input, weights, out, known(1, 2)),
                (2, 1) => lines::<S, K, ADD>(simd, input, weights, out, known(2, 1)),
                (2, 2) => lines::<S, K, ADD>(simd, input, weights, out, known(2, 2)),
                _ => lines::<S, K, ADD>(simd, input, weights, out, steps),
            }
        }
    }
}

/// [`convolve`], line by line.
///
/// # Safety
/// As [`convolve`].
#[inline(always)]
unsafe fn lines<S: Simd, const K: usize, const ADD: bool>(
    simd: S,
    input: *const f32,
    weights: *const f32,
    out: *mut f32,
    steps: Steps,
) {
    let lanes = S::F32_LANES;
    let [rows, columns] = steps.out;
    for y in 0..rows {
        let mut taps = [false; K];
        for (ky, reads) in taps.iter_mut().enumerate() {
            *reads = steps.reads(ky, y);
        }
        // SAFETY: the caller's; every tap of every output lies in the padded map.
        unsafe {
            let at = |x: usize| {
                let input = input.add(y * steps.stride * steps.row + x * steps.stride * lanes);
                (input, weights, out.add((y * columns + x) * lanes))
            };
            let mut x = 0;
            while x + 8 <= columns {
                outputs::<S, K, 8, ADD>(simd, at(x), steps, taps);
                x += 8;
            }
            if x + 4 <= columns {
                outputs::<S, K, 4, ADD>(simd, at(x), steps, taps);
                x += 4;
            }
            while x < columns {
                tile::<S, K, 1, ADD>(simd, at(x), steps, taps);
                x += 1;
            }
        }
    }
}

/// Input, weights and output of a tile.
type Tile = (*const f32, *const f32, *mut f32);

/// Computes `T` outputs of a row, with the dense method where there are registers for it.
///
/// # Safety
/// As [`convolve`], of these outputs.
#[inline(always)]
unsafe fn outputs<S: Simd, const K: usize, const T: usize, const ADD: bool>(
    simd: S,
    at: Tile,
    steps: Steps,
    taps: [bool; K],
) {
    // SAFETY: the caller's.
    unsafe {
        match (S::F32_LANES >= 16 && steps.stride == 1, steps.dilation) {
            (true, 1) => dense_tile::<S, K, 1, T, ADD>(simd, at, steps.row, taps),
            (true, 2) => dense_tile::<S, K, 2, T, ADD>(simd, at, steps.row, taps),
            _ => tile::<S, K, T, ADD>(simd, at, steps, taps),
        }
    }
}

/// Computes `T` outputs of a row from the rows of `taps` that read values other than zeros.
///
/// # Safety
/// As [`convolve`], of these outputs.
#[inline(always)]
unsafe fn tile<S: Simd, const K: usize, const T: usize, const ADD: bool>(
    simd: S,
    (input, weights, out): Tile,
    steps: Steps,
    taps: [bool; K],
) {
    let lanes = S::F32_LANES;
    // SAFETY: the caller's.
    unsafe {
        let mut sums = start::<S, T, ADD>(simd, out);
        for (ky, _) in taps.iter().enumerate().filter(|(_, reads)| **reads) {
            let line = input.add(ky * steps.dilation * steps.row);
            for kx in 0..K {
                let weight = load::<S>(weights.add((ky * K + kx) * lanes));
                let tap = line.add(kx * steps.dilation * lanes);
                for (t, sum) in sums.iter_mut().enumerate() {
                    let value = load::<S>(tap.add(t * steps.stride * lanes));
                    *sum = simd.mul_add_e_f32s(value, weight, *sum);
                }
            }
        }
        finish::<S, T>(out, sums);
    }
}

/// The first values of the sums of a tile.
///
/// # Safety
/// `out` holds `T` registers.
#[inline(always)]
unsafe fn start<S: Simd, const T: usize, const ADD: bool>(
    simd: S,
    out: *const f32,
) -> [S::f32s; T] {
    let mut sums = [simd.splat_f32s(0.0); T];
    if ADD {
        for (t, sum) in sums.iter_mut().enumerate() {
            // SAFETY: the caller's.
            *sum = unsafe { load::<S>(out.add(t * S::F32_LANES)) };
        }
    }
    sums
}

/// Writes the sums of a tile.
///
/// # Safety
/// As [`start`].
#[inline(always)]
unsafe fn finish<S: Simd, const T: usize>(out: *mut f32, sums: [S::f32s; T]) {
    // By reference, because an array that is consumed goes through memory.
    for (t, sum) in sums.iter().enumerate() {
        // SAFETY: the caller's.
        unsafe { store::<S>(out.add(t * S::F32_LANES), *sum) };
    }
}

/// [`tile`] with stride 1 and taps `D` pixels apart: the values read from a row are loaded once,
/// into as many of 32 registers as needed.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn dense_tile<S: Simd, const K: usize, const D: usize, const T: usize, const ADD: bool>(
    simd: S,
    (input, weights, out): Tile,
    row: usize,
    taps: [bool; K],
) {
    let lanes = S::F32_LANES;
    // SAFETY: the caller's; the last tap of the last output is the last value read.
    unsafe {
        let mut sums = start::<S, T, ADD>(simd, out);
        for (ky, _) in taps.iter().enumerate().filter(|(_, reads)| **reads) {
            let values = reach::<S, K, D, T>(simd, input.add(ky * D * row));
            for kx in 0..K {
                let weight = load::<S>(weights.add((ky * K + kx) * lanes));
                for (t, sum) in sums.iter_mut().enumerate() {
                    *sum = simd.mul_add_e_f32s(values[t + kx * D], weight, *sum);
                }
            }
        }
        finish::<S, T>(out, sums);
    }
}

/// Largest number of values that a dense tile reads from a row: eight outputs of 5 taps, 2 apart.
const REACH: usize = 8 + 4 * 2;

/// The pixels of a row that a dense tile reads.
///
/// # Safety
/// `line` holds `T + (K - 1) * D` registers.
#[inline(always)]
pub unsafe fn reach<S: Simd, const K: usize, const D: usize, const T: usize>(
    simd: S,
    line: *const f32,
) -> [S::f32s; REACH] {
    let mut values = [simd.splat_f32s(0.0); REACH];
    for (j, value) in values.iter_mut().enumerate().take(T + (K - 1) * D) {
        // SAFETY: the caller's.
        *value = unsafe { load::<S>(line.add(j * S::F32_LANES)) };
    }
    values
}
