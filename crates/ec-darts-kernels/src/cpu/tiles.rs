//! The innermost loops. Maps are blocked: `[block of channels][position][lane]`.
//!
//! Every function is `unsafe`: pointers must be valid for all positions that the sizes name.

use pulp::{Simd, WithSimd};

use super::simd::apart;

#[inline(always)]
pub unsafe fn load<S: Simd>(from: *const f32) -> S::f32s {
    // SAFETY: the caller grants `F32_LANES` readable values.
    unsafe { from.cast::<S::f32s>().read_unaligned() }
}

#[inline(always)]
pub unsafe fn store<S: Simd>(to: *mut f32, value: S::f32s) {
    // SAFETY: the caller grants `F32_LANES` writable values.
    unsafe { to.cast::<S::f32s>().write_unaligned(value) }
}

/// Prefetches memory that is needed soon, one cache line at a time.
#[inline(always)]
pub fn prefetch(from: &[f32]) {
    for line in from.chunks(16) {
        prefetch_line(line.as_ptr());
    }
}

/// Prefetches the cache line of an address, which may be any.
#[inline(always)]
pub fn prefetch_line(from: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint that reads nothing.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(from.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = from;
}

/// The places that a 1x1 convolution reads and writes.
#[derive(Clone, Copy)]
pub struct Mix {
    /// Number of channels read, and of blocks of channels written.
    pub channels: usize,
    pub blocks: usize,
    pub positions: usize,
    /// The distance from one block of channels to the next, of the input and of the output, in
    /// values.
    pub input_block: usize,
    pub out_block: usize,
}

/// 1x1 convolution: `out[block][p] = sum over channel of weights[channel][block] * input[p][channel]`.
///
/// # Safety
/// `input` has the channels and `out` the blocks for as many positions as `mix` says.
#[inline(always)]
pub unsafe fn pointwise<S: Simd>(
    simd: S,
    input: *const f32,
    weights: *const f32,
    out: *mut f32,
    mix: Mix,
) {
    apart(simd, Pointwise { input, weights, out, mix });
}

/// [`pointwise`], whose caller's promise it has.
struct Pointwise {
    input: *const f32,
    weights: *const f32,
    out: *mut f32,
    mix: Mix,
}

impl WithSimd for Pointwise {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { input, weights, out, mix } = self;
        let mut block = 0;
        while block < mix.blocks {
            // SAFETY: the caller's; a tile of two blocks is taken only where there are two.
            unsafe {
                if block + 2 <= mix.blocks {
                    pointwise_column::<S, 2>(simd, input, weights, out, mix, block);
                    block += 2;
                } else {
                    pointwise_column::<S, 1>(simd, input, weights, out, mix, block);
                    block += 1;
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn pointwise_column<S: Simd, const V: usize>(
    simd: S,
    input: *const f32,
    weights: *const f32,
    out: *mut f32,
    mix: Mix,
    block: usize,
) {
    let lanes = S::F32_LANES;
    let mut p = 0;
    // SAFETY: as in `pointwise`.
    unsafe {
        let weights = weights.add(block * lanes);
        let out = out.add(block * mix.out_block);
        // 16 registers hold 6x2 sums, 32 hold 8x2.
        if lanes >= 16 && V == 1 {
            while p + 16 <= mix.positions {
                pointwise_tile::<S, 16, V>(simd, input, weights, out, mix, p);
                p += 16;
            }
        }
        if lanes >= 16 || V == 1 {
            while p + 8 <= mix.positions {
                pointwise_tile::<S, 8, V>(simd, input, weights, out, mix, p);
                p += 8;
            }
        }
        // Tiles of six positions, and tiles of at least four for the rest, which hide the latency.
        while mix.positions - p >= 12 || matches!(mix.positions - p, 6 | 10 | 11) {
            pointwise_tile::<S, 6, V>(simd, input, weights, out, mix, p);
            p += 6;
        }
        while mix.positions - p >= 4 {
            if matches!(mix.positions - p, 5 | 9) {
                pointwise_tile::<S, 5, V>(simd, input, weights, out, mix, p);
                p += 5;
            } else {
                pointwise_tile::<S, 4, V>(simd, input, weights, out, mix, p);
                p += 4;
            }
        }
        match mix.positions - p {
            3 => pointwise_tile::<S, 3, V>(simd, input, weights, out, mix, p),
            2 => pointwise_tile::<S, 2, V>(simd, input, weights, out, mix, p),
            1 => pointwise_tile::<S, 1, V>(simd, input, weights, out, mix, p),
            _ => {}
        }
    }
}

/// `weights` and `out` are at the tile's first block.
#[inline(always)]
unsafe fn pointwise_tile<S: Simd, const T: usize, const V: usize>(
    simd: S,
    input: *const f32,
    mut weights: *const f32,
    out: *mut f32,
    mix: Mix,
    p: usize,
) {
    let lanes = S::F32_LANES;
    let mut sums = [[simd.splat_f32s(0.0); V]; T];
    // SAFETY: as in `pointwise`.
    unsafe {
        let mut first = 0;
        let mut input = input.add(p * lanes);
        while first < mix.channels {
            for lane in 0..lanes.min(mix.channels - first) {
                let mut columns = [simd.splat_f32s(0.0); V];
                for (v, column) in columns.iter_mut().enumerate() {
                    *column = load::<S>(weights.add(v * lanes));
                }
                for (t, sums) in sums.iter_mut().enumerate() {
                    let value = simd.splat_f32s(*input.add(t * lanes + lane));
                    for (sum, column) in sums.iter_mut().zip(&columns) {
                        *sum = simd.mul_add_e_f32s(*column, value, *sum);
                    }
                }
                weights = weights.add(mix.blocks * lanes);
            }
            first += lanes;
            input = input.add(mix.input_block);
        }
        for (t, sums) in sums.iter().enumerate() {
            for (v, sum) in sums.iter().enumerate() {
                store::<S>(out.add(v * mix.out_block + (p + t) * lanes), *sum);
            }
        }
    }
}

/// Adds the weight gradient of a 1x1 convolution: `to[channel][block] += sum over p of
/// input[p][channel] * gradient[block][p]`.
///
/// # Safety
/// As [`pointwise`], with the gradient in the place of its output; `input` and `to` hold whole
/// blocks of channels.
#[inline(always)]
pub unsafe fn pointwise_weights<S: Simd>(
    simd: S,
    input: *const f32,
    gradient: *const f32,
    to: *mut f32,
    mix: Mix,
) {
    apart(simd, PointwiseWeights { input, gradient, to, mix });
}

/// [`pointwise_weights`], whose caller's promise it has.
struct PointwiseWeights {
    input: *const f32,
    gradient: *const f32,
    to: *mut f32,
    mix: Mix,
}

impl WithSimd for PointwiseWeights {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { input, gradient, to, mix } = self;
        let lanes = S::F32_LANES;
        for row in 0..mix.channels.div_ceil(lanes) {
            let mut block = 0;
            // SAFETY: the caller's.
            unsafe {
                let input = input.add(row * mix.input_block);
                let to = to.add(row * lanes * mix.blocks * lanes);
                while block < mix.blocks {
                    let gradient = gradient.add(block * mix.out_block);
                    let to = to.add(block * lanes);
                    let both = block + 2 <= mix.blocks;
                    if lanes >= 16 && both {
                        outer::<S, 8, 2>(simd, input, gradient, to, mix);
                    } else if lanes >= 16 {
                        outer::<S, 16, 1>(simd, input, gradient, to, mix);
                    } else if both {
                        outer::<S, 4, 2>(simd, input, gradient, to, mix);
                    } else if lanes >= 8 {
                        outer::<S, 8, 1>(simd, input, gradient, to, mix);
                    } else {
                        outer::<S, 4, 1>(simd, input, gradient, to, mix);
                    }
                    block += if both { 2 } else { 1 };
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn outer<S: Simd, const I: usize, const V: usize>(
    simd: S,
    input: *const f32,
    gradient: *const f32,
    to: *mut f32,
    mix: Mix,
) {
    let lanes = S::F32_LANES;
    let mut first = 0;
    while first < lanes {
        let mut sums = [[simd.splat_f32s(0.0); V]; I];
        // SAFETY: as in `pointwise_weights`; `I` divides the number of lanes.
        unsafe {
            for p in 0..mix.positions {
                let mut columns = [simd.splat_f32s(0.0); V];
                for (v, column) in columns.iter_mut().enumerate() {
                    *column = load::<S>(gradient.add(v * mix.out_block + p * lanes));
                }
                let values = input.add(p * lanes + first);
                for (i, sums) in sums.iter_mut().enumerate() {
                    let value = simd.splat_f32s(*values.add(i));
                    for (sum, column) in sums.iter_mut().zip(&columns) {
                        *sum = simd.mul_add_e_f32s(*column, value, *sum);
                    }
                }
            }
            for (i, sums) in sums.iter().enumerate() {
                for (v, sum) in sums.iter().enumerate() {
                    let to = to.add((first + i) * mix.blocks * lanes + v * lanes);
                    store::<S>(to, simd.add_f32s(load::<S>(to), *sum));
                }
            }
        }
        first += I;
    }
}
