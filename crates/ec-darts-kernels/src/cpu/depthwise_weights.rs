//! Weight gradients of depthwise convolutions of one block of channels: the innermost loops.
//!
//! Every function is `unsafe`: pointers must be valid for all positions that the sizes name.

use pulp::{Simd, WithSimd};

use super::depthwise::{Steps, reach};
use super::simd::apart;
use super::tiles::{load, store};

/// Adds the weight gradient of a depthwise convolution of one block of channels.
///
/// # Safety
/// As [`super::depthwise::convolve`]; `gradient` is the output's, its rows `gradient_row` values apart, `to` holds
/// `K * K` registers.
#[inline(always)]
pub unsafe fn weights<S: Simd, const K: usize>(
    simd: S,
    input: *const f32,
    gradient: (*const f32, usize),
    to: *mut f32,
    steps: Steps,
) {
    apart(simd, Weights::<K> { input, gradient, to, steps });
}

/// [`weights`], whose caller's promise it has.
struct Weights<const K: usize> {
    input: *const f32,
    gradient: (*const f32, usize),
    to: *mut f32,
    steps: Steps,
}

impl<const K: usize> WithSimd for Weights<K> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { input, gradient, to, steps } = self;
        let dense = S::F32_LANES >= 16 && steps.stride == 1 && matches!(steps.dilation, 1 | 2);
        // As in `depthwise::convolve`.
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
}

/// [`weights`] with as many sums at a time as 16 registers hold, enough to hide the latency.
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

/// [`weights`] for `R` rows of taps from `ky` on: each gradient is read once for all of them, `U`
/// gradients in parallel.
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

/// Adds one output's part to the gradients of `R` rows of taps.
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

/// [`weights`] for a row of taps, with 32 registers and stride 1.
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

/// Adds the part of `T` outputs of stride 1 to the gradients of a row of taps, one or two pixels apart.
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

/// [`add_dense`] for taps `D` pixels apart.
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
            // Three separate sums would wait for each other.
            let sums = &mut sums[if K == 3 { t % 2 } else { 0 }];
            for (kx, sum) in sums.iter_mut().enumerate() {
                *sum = simd.mul_add_e_f32s(values[t + kx * D], gradient, *sum);
            }
        }
    }
}
