//! The innermost loops. Maps are blocked: `[block of channels][position][lane]`.
//!
//! Every function is `unsafe`: pointers must be valid for all positions that the sizes name.

use pulp::Simd;

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

/// Where a depthwise convolution reads and writes, in values.
#[derive(Clone, Copy)]
pub struct Steps {
    /// From one row of inputs to the next.
    pub row: usize,
    pub stride: usize,
    pub dilation: usize,
    /// Rows and columns of the output.
    pub out: [usize; 2],
}

/// Depthwise convolution of one block of channels; adds to `out` where `ADD`.
///
/// # Safety
/// `input` is the first tap of the first output in a padded map, `weights` holds `K * K` registers.
#[inline(always)]
pub unsafe fn depthwise<S: Simd, const K: usize, const ADD: bool>(
    simd: S,
    input: *const f32,
    weights: *const f32,
    out: *mut f32,
    steps: Steps,
) {
    let lanes = S::F32_LANES;
    let [rows, columns] = steps.out;
    for y in 0..rows {
        // SAFETY: the caller's; every tap of every output lies in the padded map.
        unsafe {
            let input = input.add(y * steps.stride * steps.row);
            let out = out.add(y * columns * lanes);
            let mut x = 0;
            while x + 8 <= columns {
                depthwise_tile::<S, K, 8, ADD>(simd, input, weights, out, steps, x);
                x += 8;
            }
            if x + 4 <= columns {
                depthwise_tile::<S, K, 4, ADD>(simd, input, weights, out, steps, x);
                x += 4;
            }
            while x < columns {
                depthwise_tile::<S, K, 1, ADD>(simd, input, weights, out, steps, x);
                x += 1;
            }
        }
    }
}

#[inline(always)]
unsafe fn depthwise_tile<S: Simd, const K: usize, const T: usize, const ADD: bool>(
    simd: S,
    input: *const f32,
    weights: *const f32,
    out: *mut f32,
    steps: Steps,
    x: usize,
) {
    let lanes = S::F32_LANES;
    // SAFETY: as in `depthwise`.
    unsafe {
        let input = input.add(x * steps.stride * lanes);
        let out = out.add(x * lanes);
        let mut sums = [simd.splat_f32s(0.0); T];
        if ADD {
            for (t, sum) in sums.iter_mut().enumerate() {
                *sum = load::<S>(out.add(t * lanes));
            }
        }
        for ky in 0..K {
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
        for (t, sum) in sums.iter().enumerate() {
            store::<S>(out.add(t * lanes), *sum);
        }
    }
}

/// Adds the weight gradient of a depthwise convolution of one block of channels.
///
/// # Safety
/// As [`depthwise`]; `gradient` is the output's, `to` holds `K * K` registers.
#[inline(always)]
pub unsafe fn depthwise_weights<S: Simd, const K: usize>(
    simd: S,
    input: *const f32,
    gradient: *const f32,
    to: *mut f32,
    steps: Steps,
) {
    let lanes = S::F32_LANES;
    let [rows, columns] = steps.out;
    let zero = simd.splat_f32s(0.0);
    for ky in 0..K {
        // Independent sums hide the latency: 3x4 or 5x2 of them fit the registers.
        let mut sums = [[zero; K]; 4];
        let unroll = if K == 3 { 4 } else { 2 };
        for y in 0..rows {
            // SAFETY: the caller's; every tap of every output lies in the padded map.
            unsafe {
                let line = input.add((y * steps.stride + ky * steps.dilation) * steps.row);
                let gradient = gradient.add(y * columns * lanes);
                let mut x = 0;
                while x + unroll <= columns {
                    for (u, sums) in sums.iter_mut().enumerate().take(unroll) {
                        let value = load::<S>(gradient.add((x + u) * lanes));
                        let line = line.add((x + u) * steps.stride * lanes);
                        for (kx, sum) in sums.iter_mut().enumerate() {
                            let tap = load::<S>(line.add(kx * steps.dilation * lanes));
                            *sum = simd.mul_add_e_f32s(value, tap, *sum);
                        }
                    }
                    x += unroll;
                }
                while x < columns {
                    let value = load::<S>(gradient.add(x * lanes));
                    let line = line.add(x * steps.stride * lanes);
                    for (kx, sum) in sums[0].iter_mut().enumerate() {
                        let tap = load::<S>(line.add(kx * steps.dilation * lanes));
                        *sum = simd.mul_add_e_f32s(value, tap, *sum);
                    }
                    x += 1;
                }
            }
        }
        let [first, second, third, fourth] = sums;
        for (kx, sum) in first.into_iter().enumerate() {
            let pairs = (simd.add_f32s(sum, second[kx]), simd.add_f32s(third[kx], fourth[kx]));
            let sum = simd.add_f32s(pairs.0, pairs.1);
            // SAFETY: `K * K` registers behind `to`.
            unsafe {
                let to = to.add((ky * K + kx) * lanes);
                store::<S>(to, simd.add_f32s(load::<S>(to), sum));
            }
        }
    }
}

/// 1x1 convolution: `out[block][p] = sum over channel of weights[channel][block] * input[p][channel]`.
///
/// # Safety
/// `input` holds `channels` (in whole blocks) and `out` holds `blocks` maps of `positions`.
#[inline(always)]
pub unsafe fn pointwise<S: Simd>(
    simd: S,
    input: *const f32,
    channels: usize,
    weights: *const f32,
    out: *mut f32,
    blocks: usize,
    positions: usize,
) {
    let mut block = 0;
    while block < blocks {
        // SAFETY: the caller's; a tile of two blocks is taken only where there are two.
        unsafe {
            if block + 2 <= blocks {
                pointwise_column::<S, 2>(
                    simd,
                    input,
                    channels,
                    weights,
                    out,
                    [block, blocks],
                    positions,
                );
                block += 2;
            } else {
                pointwise_column::<S, 1>(
                    simd,
                    input,
                    channels,
                    weights,
                    out,
                    [block, blocks],
                    positions,
                );
                block += 1;
            }
        }
    }
}

#[inline(always)]
unsafe fn pointwise_column<S: Simd, const V: usize>(
    simd: S,
    input: *const f32,
    channels: usize,
    weights: *const f32,
    out: *mut f32,
    [block, blocks]: [usize; 2],
    positions: usize,
) {
    let mut p = 0;
    // SAFETY: as in `pointwise`.
    unsafe {
        // 16 registers hold 6x2 sums, 32 hold 8x2.
        if S::F32_LANES >= 16 || V == 1 {
            while p + 8 <= positions {
                pointwise_tile::<S, 8, V>(
                    simd,
                    input,
                    channels,
                    weights,
                    out,
                    [block, blocks],
                    [p, positions],
                );
                p += 8;
            }
        }
        while p + 6 <= positions {
            pointwise_tile::<S, 6, V>(
                simd,
                input,
                channels,
                weights,
                out,
                [block, blocks],
                [p, positions],
            );
            p += 6;
        }
        if p + 4 <= positions {
            pointwise_tile::<S, 4, V>(
                simd,
                input,
                channels,
                weights,
                out,
                [block, blocks],
                [p, positions],
            );
            p += 4;
        }
        while p < positions {
            pointwise_tile::<S, 1, V>(
                simd,
                input,
                channels,
                weights,
                out,
                [block, blocks],
                [p, positions],
            );
            p += 1;
        }
    }
}

#[inline(always)]
unsafe fn pointwise_tile<S: Simd, const T: usize, const V: usize>(
    simd: S,
    input: *const f32,
    channels: usize,
    weights: *const f32,
    out: *mut f32,
    [block, blocks]: [usize; 2],
    [p, positions]: [usize; 2],
) {
    let lanes = S::F32_LANES;
    let mut sums = [[simd.splat_f32s(0.0); V]; T];
    // SAFETY: as in `pointwise`.
    unsafe {
        let mut weights = weights.add(block * lanes);
        let mut first = 0;
        let mut input = input.add(p * lanes);
        while first < channels {
            for lane in 0..lanes.min(channels - first) {
                let mut columns = [simd.splat_f32s(0.0); V];
                for (v, column) in columns.iter_mut().enumerate() {
                    *column = load::<S>(weights.add(v * lanes));
                }
                for (t, sums) in sums.iter_mut().enumerate() {
                    let value = simd.splat_f32s(*input.add(t * lanes + lane));
                    for (sum, column) in sums.iter_mut().zip(columns) {
                        *sum = simd.mul_add_e_f32s(column, value, *sum);
                    }
                }
                weights = weights.add(blocks * lanes);
            }
            first += lanes;
            input = input.add(positions * lanes);
        }
        for (t, sums) in sums.iter().enumerate() {
            for (v, sum) in sums.iter().enumerate() {
                store::<S>(out.add(((block + v) * positions + p + t) * lanes), *sum);
            }
        }
    }
}

/// Adds the weight gradient of a 1x1 convolution: `to[channel][block] += sum over p of input[p][channel] * gradient[block][p]`.
///
/// # Safety
/// As [`pointwise`]; `input` and `to` hold whole blocks of channels.
#[inline(always)]
pub unsafe fn pointwise_weights<S: Simd>(
    simd: S,
    input: *const f32,
    input_blocks: usize,
    gradient: *const f32,
    to: *mut f32,
    blocks: usize,
    positions: usize,
) {
    let lanes = S::F32_LANES;
    for row in 0..input_blocks {
        let mut block = 0;
        // SAFETY: the caller's.
        unsafe {
            let input = input.add(row * positions * lanes);
            let to = to.add(row * lanes * blocks * lanes);
            while block < blocks {
                let gradient = gradient.add(block * positions * lanes);
                let to = to.add(block * lanes);
                let both = block + 2 <= blocks;
                if lanes >= 16 && both {
                    outer::<S, 8, 2>(simd, input, gradient, to, blocks, positions);
                } else if lanes >= 16 {
                    outer::<S, 16, 1>(simd, input, gradient, to, blocks, positions);
                } else if both {
                    outer::<S, 4, 2>(simd, input, gradient, to, blocks, positions);
                } else if lanes >= 8 {
                    outer::<S, 8, 1>(simd, input, gradient, to, blocks, positions);
                } else {
                    outer::<S, 4, 1>(simd, input, gradient, to, blocks, positions);
                }
                block += if both { 2 } else { 1 };
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
    blocks: usize,
    positions: usize,
) {
    let lanes = S::F32_LANES;
    let mut first = 0;
    while first < lanes {
        let mut sums = [[simd.splat_f32s(0.0); V]; I];
        // SAFETY: as in `pointwise_weights`; `I` divides the number of lanes.
        unsafe {
            for p in 0..positions {
                let mut columns = [simd.splat_f32s(0.0); V];
                for (v, column) in columns.iter_mut().enumerate() {
                    *column = load::<S>(gradient.add((v * positions + p) * lanes));
                }
                let values = input.add(p * lanes + first);
                for (i, sums) in sums.iter_mut().enumerate() {
                    let value = simd.splat_f32s(*values.add(i));
                    for (sum, column) in sums.iter_mut().zip(columns) {
                        *sum = simd.mul_add_e_f32s(column, value, *sum);
                    }
                }
            }
            for (i, sums) in sums.iter().enumerate() {
                for (v, sum) in sums.iter().enumerate() {
                    let to = to.add((first + i) * blocks * lanes + v * lanes);
                    store::<S>(to, simd.add_f32s(load::<S>(to), *sum));
                }
            }
        }
        first += I;
    }
}

/// The pixels of a 3x3 window that are there.
#[inline(always)]
pub fn window(center: usize, size: usize) -> std::ops::Range<usize> {
    center.saturating_sub(1)..(center + 2).min(size)
}

/// 3x3 pool of one block of channels, padding 1.
///
/// # Safety
/// `input` and `out` hold whole maps of the given sizes.
#[inline(always)]
pub unsafe fn pool<S: Simd, const MAX: bool>(
    simd: S,
    input: *const f32,
    [height, width]: [usize; 2],
    out: *mut f32,
    [rows, columns]: [usize; 2],
    stride: usize,
) {
    let lanes = S::F32_LANES;
    for y in 0..rows {
        let lines = window(y * stride, height);
        for x in 0..columns {
            let center = x * stride;
            if lines.len() == 3 && center > 0 && center + 1 < width {
                // SAFETY: the whole window lies in the map.
                unsafe {
                    let corner = input.add((lines.start * width + center - 1) * lanes);
                    let at =
                        |ky: usize, kx: usize| load::<S>(corner.add((ky * width + kx) * lanes));
                    let pair = |a, b| if MAX { simd.max_f32s(a, b) } else { simd.add_f32s(a, b) };
                    let line = |ky| pair(pair(at(ky, 0), at(ky, 1)), at(ky, 2));
                    let mut sum = pair(pair(line(0), line(1)), line(2));
                    if !MAX {
                        sum = simd.mul_f32s(sum, simd.splat_f32s(1.0 / 9.0));
                    }
                    store::<S>(out.add((y * columns + x) * lanes), sum);
                }
                continue;
            }
            let taps = window(center, width);
            let count = (lines.len() * taps.len()) as f32;
            let mut sum = simd.splat_f32s(if MAX { f32::NEG_INFINITY } else { 0.0 });
            // SAFETY: the caller's; windows are cut to the map.
            unsafe {
                for line in lines.clone() {
                    for tap in taps.clone() {
                        let value = load::<S>(input.add((line * width + tap) * lanes));
                        sum =
                            if MAX { simd.max_f32s(sum, value) } else { simd.add_f32s(sum, value) };
                    }
                }
                if !MAX {
                    sum = simd.mul_f32s(sum, simd.splat_f32s(1.0 / count));
                }
                store::<S>(out.add((y * columns + x) * lanes), sum);
            }
        }
    }
}

/// Adds the input gradient of a 3x3 pool; of equal maxima the first gets it.
///
/// # Safety
/// As [`pool`]; `gradient` is the output's, `to` the input's.
#[inline(always)]
pub unsafe fn pool_backward<S: Simd, const MAX: bool>(
    simd: S,
    input: *const f32,
    to: *mut f32,
    [height, width]: [usize; 2],
    [out, gradient]: [*const f32; 2],
    [rows, columns]: [usize; 2],
    stride: usize,
) {
    let lanes = S::F32_LANES;
    let zero = simd.splat_f32s(0.0);
    for y in 0..rows {
        let lines = window(y * stride, height);
        for x in 0..columns {
            let taps = window(x * stride, width);
            let count = (lines.len() * taps.len()) as f32;
            // SAFETY: the caller's; windows are cut to the map.
            unsafe {
                let place = (y * columns + x) * lanes;
                let largest = load::<S>(out.add(place));
                let mut rest = load::<S>(gradient.add(place));
                if !MAX {
                    rest = simd.mul_f32s(rest, simd.splat_f32s(1.0 / count));
                }
                for line in lines.clone() {
                    for tap in taps.clone() {
                        let place = (line * width + tap) * lanes;
                        let old = load::<S>(to.add(place));
                        if MAX {
                            let hit = simd.equal_f32s(load::<S>(input.add(place)), largest);
                            let add = simd.select_f32s(hit, rest, zero);
                            rest = simd.select_f32s(hit, zero, rest);
                            store::<S>(to.add(place), simd.add_f32s(old, add));
                        } else {
                            store::<S>(to.add(place), simd.add_f32s(old, rest));
                        }
                    }
                }
            }
        }
    }
}
