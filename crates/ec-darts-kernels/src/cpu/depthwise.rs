//! Depthwise convolutions of one block of channels: the innermost loops.
//!
//! Every function is `unsafe`: pointers must be valid for all positions that the sizes name.

use pulp::Simd;

use super::tiles::{load, store};

/// Where a depthwise convolution reads and writes, in values.
#[derive(Clone, Copy)]
pub struct Steps {
    /// From one row of inputs to the next.
    pub row: usize,
    pub stride: usize,
    pub dilation: usize,
    /// Rows and columns of the output.
    pub out: [usize; 2],
    pub filled: Filled,
}

/// Rows of the input that hold anything but zeros, counted from the first tap of the first output.
#[derive(Clone, Copy)]
pub struct Filled {
    pub first: usize,
    pub end: usize,
    /// From one of them to the next.
    pub step: usize,
}

impl Steps {
    /// Whether a row of taps reads anything but zeros for a row of outputs: of a small map, most
    /// taps of a wide kernel lie on the border.
    #[inline(always)]
    fn reads(&self, ky: usize, y: usize) -> bool {
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
    // Steps that the compiler knows are a part of each load's address.
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

/// `T` outputs of a row: densely where there are registers for it.
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

/// `T` outputs of a row, from the rows of `taps` that read anything.
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

/// What the sums of a tile start with.
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
    // By reference: an array that is consumed goes through memory.
    for (t, sum) in sums.iter().enumerate() {
        // SAFETY: the caller's.
        unsafe { store::<S>(out.add(t * S::F32_LANES), *sum) };
    }
}

/// [`tile`] of stride 1 whose taps are `D` pixels apart: what they read of a row is loaded once, into
/// as many of 32 registers as it takes.
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

/// Values that a dense tile reads of a row at most: eight outputs of 5 taps, 2 apart.
const REACH: usize = 8 + 4 * 2;

/// What a dense tile reads of a row.
///
/// # Safety
/// `line` holds `T + (K - 1) * D` registers.
#[inline(always)]
unsafe fn reach<S: Simd, const K: usize, const D: usize, const T: usize>(
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

/// Adds the weight gradient of a depthwise convolution of one block of channels.
///
/// # Safety
/// As [`convolve`]; `gradient` is the output's, its rows `gradient_row` values apart, `to` holds
/// `K * K` registers.
#[inline(always)]
pub unsafe fn weights<S: Simd, const K: usize>(
    simd: S,
    input: *const f32,
    gradient: (*const f32, usize),
    to: *mut f32,
    steps: Steps,
) {
    let dense = S::F32_LANES >= 16 && steps.stride == 1 && matches!(steps.dilation, 1 | 2);
    // As in `convolve`.
    let known = |stride, dilation| Steps { stride, dilation, ..steps };
    // SAFETY: the caller's.
    unsafe {
        match (steps.stride, steps.dilation) {
            _ if dense => {
                for ky in 0..K {
                    dense_weights::<S, K>(simd, input, gradient, to, steps, ky);
                }
            }
            (1, 1) => all_weights::<S, K>(simd, input, gradient, to, known(1, 1)),
            (1, 2) => all_weights::<S, K>(simd, input, gradient, to, known(1, 2)),
            (2, 1) => all_weights::<S, K>(simd, input, gradient, to, known(2, 1)),
            (2, 2) => all_weights::<S, K>(simd, input, gradient, to, known(2, 2)),
            _ => all_weights::<S, K>(simd, input, gradient, to, steps),
        }
    }
}

/// [`weights`] in as many sums at a time as 16 registers hold: enough to hide the latency.
///
/// # Safety
/// As [`weights`].
#[inline(always)]
unsafe fn all_weights<S: Simd, const K: usize>(
    simd: S,
    input: *const f32,
    gradient: (*const f32, usize),
    to: *mut f32,
    steps: Steps,
) {
    // SAFETY: the caller's.
    unsafe {
        if K == 3 {
            row_weights::<S, K, 3, 1>(simd, input, gradient, to, steps, 0);
        } else {
            for ky in (0..K / 2 * 2).step_by(2) {
                row_weights::<S, K, 2, 1>(simd, input, gradient, to, steps, ky);
            }
            row_weights::<S, K, 1, 2>(simd, input, gradient, to, steps, K - 1);
        }
    }
}

/// [`weights`] of `R` rows of taps from `ky` on: a gradient is read once for all of them, `U`
/// gradients side by side.
///
/// # Safety
/// As [`weights`].
#[inline(always)]
unsafe fn row_weights<S: Simd, const K: usize, const R: usize, const U: usize>(
    simd: S,
    input: *const f32,
    (gradient, gradient_row): (*const f32, usize),
    to: *mut f32,
    steps: Steps,
    ky: usize,
) {
    let lanes = S::F32_LANES;
    let [rows, columns] = steps.out;
    let mut sums = [[[simd.splat_f32s(0.0); K]; R]; U];
    for y in (0..rows).filter(|&y| (ky..ky + R).any(|ky| steps.reads(ky, y))) {
        // SAFETY: the caller's; every tap of every output lies in the padded map.
        unsafe {
            let line = input.add((y * steps.stride + ky * steps.dilation) * steps.row);
            let gradient = gradient.add(y * gradient_row);
            let at = |x: usize| (gradient.add(x * lanes), line.add(x * steps.stride * lanes));
            let whole = columns / U * U;
            for x in (0..whole).step_by(U) {
                for (u, sums) in sums.iter_mut().enumerate() {
                    add_taps::<S, K, R>(simd, at(x + u), steps, sums);
                }
            }
            for x in whole..columns {
                add_taps::<S, K, R>(simd, at(x), steps, &mut sums[0]);
            }
        }
    }
    for r in 0..R {
        for kx in 0..K {
            let mut sum = sums[0][r][kx];
            for sums in &sums[1..] {
                sum = simd.add_f32s(sum, sums[r][kx]);
            }
            // SAFETY: `K * K` registers behind `to`.
            unsafe {
                let to = to.add(((ky + r) * K + kx) * lanes);
                store::<S>(to, simd.add_f32s(load::<S>(to), sum));
            }
        }
    }
}

/// What one output adds to the gradients of `R` rows of taps.
///
/// # Safety
/// `gradient` is at the output, `line` at its first tap.
#[inline(always)]
unsafe fn add_taps<S: Simd, const K: usize, const R: usize>(
    simd: S,
    (gradient, line): (*const f32, *const f32),
    steps: Steps,
    sums: &mut [[S::f32s; K]; R],
) {
    // SAFETY: the caller's.
    unsafe {
        let value = load::<S>(gradient);
        for (r, sums) in sums.iter_mut().enumerate() {
            let line = line.add(r * steps.dilation * steps.row);
            for (kx, sum) in sums.iter_mut().enumerate() {
                let tap = load::<S>(line.add(kx * steps.dilation * S::F32_LANES));
                *sum = simd.mul_add_e_f32s(tap, value, *sum);
            }
        }
    }
}

/// [`weights`] of a row of taps, for 32 registers and stride 1.
///
/// # Safety
/// As [`weights`].
#[inline(always)]
unsafe fn dense_weights<S: Simd, const K: usize>(
    simd: S,
    input: *const f32,
    (gradient, gradient_row): (*const f32, usize),
    to: *mut f32,
    steps: Steps,
    ky: usize,
) {
    let lanes = S::F32_LANES;
    let [rows, columns] = steps.out;
    let mut sums = [[simd.splat_f32s(0.0); K]; 2];
    for y in (0..rows).filter(|&y| steps.reads(ky, y)) {
        // SAFETY: the caller's; every tap of every output lies in the padded map.
        unsafe {
            let line = input.add((y + ky * steps.dilation) * steps.row);
            let gradient = gradient.add(y * gradient_row);
            let at = |x: usize| (gradient.add(x * lanes), line.add(x * lanes));
            let mut x = 0;
            while x + 8 <= columns {
                add_dense::<S, K, 8>(simd, at(x), steps.dilation, &mut sums);
                x += 8;
            }
            if x + 4 <= columns {
                add_dense::<S, K, 4>(simd, at(x), steps.dilation, &mut sums);
                x += 4;
            }
            for x in x..columns {
                add_taps::<S, K, 1>(simd, at(x), steps, std::array::from_mut(&mut sums[0]));
            }
        }
    }
    let [totals, others] = sums;
    for (kx, (total, other)) in totals.iter().zip(&others).enumerate() {
        // SAFETY: `K * K` registers behind `to`.
        unsafe {
            let to = to.add((ky * K + kx) * lanes);
            store::<S>(to, simd.add_f32s(load::<S>(to), simd.add_f32s(*total, *other)));
        }
    }
}

/// What `T` outputs of stride 1 add to the gradients of a row of taps, one or two pixels apart.
///
/// # Safety
/// `gradient` is at the outputs, `line` at their first tap.
#[inline(always)]
unsafe fn add_dense<S: Simd, const K: usize, const T: usize>(
    simd: S,
    at: (*const f32, *const f32),
    dilation: usize,
    sums: &mut [[S::f32s; K]; 2],
) {
    // SAFETY: the caller's.
    unsafe {
        if dilation == 1 {
            add_dense_taps::<S, K, 1, T>(simd, at, sums);
        } else {
            add_dense_taps::<S, K, 2, T>(simd, at, sums);
        }
    }
}

/// [`add_dense`] of taps `D` pixels apart.
///
/// # Safety
/// As [`add_dense`].
#[inline(always)]
unsafe fn add_dense_taps<S: Simd, const K: usize, const D: usize, const T: usize>(
    simd: S,
    (gradient, line): (*const f32, *const f32),
    sums: &mut [[S::f32s; K]; 2],
) {
    // SAFETY: the caller's.
    unsafe {
        let values = reach::<S, K, D, T>(simd, line);
        for t in 0..T {
            let gradient = load::<S>(gradient.add(t * S::F32_LANES));
            // Three sums by themselves would wait for each other.
            let sums = &mut sums[if K == 3 { t % 2 } else { 0 }];
            for (kx, sum) in sums.iter_mut().enumerate() {
                *sum = simd.mul_add_e_f32s(values[t + kx * D], gradient, *sum);
            }
        }
    }
}
