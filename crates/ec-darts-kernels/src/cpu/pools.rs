//! 3x3 pools with a border of one, of one block of channels: the innermost loops.
//!
//! Every function is `unsafe`: pointers must be valid for all positions that the sizes name.

use std::ops::Range;

use pulp::Simd;

use super::tiles::{load, store};

/// The pixels of a window inside the map.
#[inline(always)]
fn window(center: usize, size: usize) -> Range<usize> {
    center.saturating_sub(1)..(center + 2).min(size)
}

#[inline(always)]
fn join<S: Simd, const MAX: bool>(simd: S, a: S::f32s, b: S::f32s) -> S::f32s {
    if MAX { simd.max_f32s(a, b) } else { simd.add_f32s(a, b) }
}

/// A column of `N` pixels, `row` values apart.
///
/// # Safety
/// All of them are readable.
#[inline(always)]
unsafe fn column<S: Simd, const MAX: bool, const N: usize>(
    simd: S,
    input: *const f32,
    row: usize,
) -> S::f32s {
    // SAFETY: the caller's.
    unsafe {
        let mut sum = load::<S>(input);
        for line in 1..N {
            sum = join::<S, MAX>(simd, sum, load::<S>(input.add(line * row)));
        }
        sum
    }
}

/// The maximum or the mean of every window, for some rows of windows.
///
/// # Safety
/// `input` holds a whole map of the given size, `out` the rows.
#[inline(always)]
pub unsafe fn forward<S: Simd, const MAX: bool>(
    simd: S,
    input: *const f32,
    [height, width]: [usize; 2],
    out: *mut f32,
    (rows, columns): (Range<usize>, usize),
    stride: usize,
) {
    let lanes = S::F32_LANES;
    let size = [width, columns];
    for (number, y) in rows.enumerate() {
        let lines = window(y * stride, height);
        // SAFETY: the caller's; windows are cut to the map.
        unsafe {
            let input = input.add(lines.start * width * lanes);
            let out = out.add(number * columns * lanes);
            match lines.len() {
                3 => forward_row::<S, MAX, 3>(simd, input, out, size, stride),
                2 => forward_row::<S, MAX, 2>(simd, input, out, size, stride),
                _ => forward_row::<S, MAX, 1>(simd, input, out, size, stride),
            }
        }
    }
}

/// A row of windows that are `N` pixels high.
///
/// # Safety
/// As [`forward`]; `input` is at the first pixel of the first window's top.
#[inline(always)]
unsafe fn forward_row<S: Simd, const MAX: bool, const N: usize>(
    simd: S,
    input: *const f32,
    out: *mut f32,
    [width, columns]: [usize; 2],
    stride: usize,
) {
    let lanes = S::F32_LANES;
    let row = width * lanes;
    let share = |taps: usize| simd.splat_f32s(1.0 / (N * taps) as f32);
    let (whole, nothing) = (share(3), simd.splat_f32s(if MAX { f32::NEG_INFINITY } else { 0.0 }));
    // SAFETY: the caller's.
    unsafe {
        let (mut left, mut middle) = (nothing, column::<S, MAX, N>(simd, input, row));
        let write = |x: usize, share: S::f32s, [left, middle, right]: [S::f32s; 3]| {
            let sum = join::<S, MAX>(simd, join::<S, MAX>(simd, left, middle), right);
            let sum = if MAX { sum } else { simd.mul_f32s(sum, share) };
            store::<S>(out.add(x * lanes), sum);
        };
        if stride == 1 {
            // A window shares two columns with the one before.
            let mut now = share(2);
            for x in 0..width - 1 {
                let right = column::<S, MAX, N>(simd, input.add((x + 1) * lanes), row);
                write(x, now, [left, middle, right]);
                (left, middle, now) = (middle, right, whole);
            }
            write(width - 1, share(width.min(2)), [left, middle, nothing]);
            return;
        }
        for x in 0..columns {
            let center = x * stride;
            let mut right = nothing;
            if center + 1 < width {
                right = column::<S, MAX, N>(simd, input.add((center + 1) * lanes), row);
            }
            write(x, share(window(center, width).len()), [left, middle, right]);
            if x + 1 < columns {
                let next = input.add((center + stride) * lanes);
                left = column::<S, MAX, N>(simd, next.sub(lanes), row);
                middle = column::<S, MAX, N>(simd, next, row);
            }
        }
    }
}

/// Adds the input gradient of a mean; `gradient` is the output's.
///
/// # Safety
/// `gradient` and `to` hold whole maps of the given sizes.
#[inline(always)]
pub unsafe fn mean_backward<S: Simd>(
    simd: S,
    gradient: *const f32,
    to: *mut f32,
    [height, width]: [usize; 2],
    [rows, columns]: [usize; 2],
    stride: usize,
) {
    let lanes = S::F32_LANES;
    if stride == 1 {
        for y in 0..height {
            let lines = window(y, height);
            // SAFETY: the caller's; windows are cut to the map.
            unsafe {
                let gradient = gradient.add(lines.start * width * lanes);
                let to = to.add(y * width * lanes);
                let (first, size) = (lines.start, [height, width]);
                match lines.len() {
                    3 => mean_backward_row::<S, 3>(simd, gradient, to, first, size),
                    2 => mean_backward_row::<S, 2>(simd, gradient, to, first, size),
                    _ => mean_backward_row::<S, 1>(simd, gradient, to, first, size),
                }
            }
        }
        return;
    }
    for y in 0..rows {
        let lines = window(y * stride, height);
        for x in 0..columns {
            let taps = window(x * stride, width);
            let share = simd.splat_f32s(1.0 / (lines.len() * taps.len()) as f32);
            // SAFETY: the caller's; windows are cut to the map.
            unsafe {
                let value = load::<S>(gradient.add((y * columns + x) * lanes));
                let value = simd.mul_f32s(value, share);
                for line in lines.clone() {
                    for tap in taps.clone() {
                        let to = to.add((line * width + tap) * lanes);
                        store::<S>(to, simd.add_f32s(load::<S>(to), value));
                    }
                }
            }
        }
    }
}

/// A row of the input's gradient at stride 1: the shares from the windows, `N` high, of each pixel.
///
/// # Safety
/// As [`mean_backward`]; `gradient` is at line `first`, `to` at the row.
#[inline(always)]
unsafe fn mean_backward_row<S: Simd, const N: usize>(
    simd: S,
    gradient: *const f32,
    to: *mut f32,
    first: usize,
    [height, width]: [usize; 2],
) {
    let lanes = S::F32_LANES;
    let zero = simd.splat_f32s(0.0);
    let mut whole = [zero; N];
    for (line, share) in whole.iter_mut().enumerate() {
        *share = simd.splat_f32s(1.0 / (3 * window(first + line, height).len()) as f32);
    }
    let (mut left, mut middle) = (zero, zero);
    for x in 0..=width {
        let mut right = zero;
        if x < width {
            let inside = x > 0 && x + 1 < width;
            for (line, &whole) in whole.iter().enumerate() {
                let mut share = whole;
                if !inside {
                    let count = window(first + line, height).len() * window(x, width).len();
                    share = simd.splat_f32s(1.0 / count as f32);
                }
                // SAFETY: the caller's.
                let value = unsafe { load::<S>(gradient.add((line * width + x) * lanes)) };
                right = simd.mul_add_e_f32s(value, share, right);
            }
        }
        if x > 0 {
            // SAFETY: a pixel of the row.
            unsafe {
                let to = to.add((x - 1) * lanes);
                let sum = simd.add_f32s(simd.add_f32s(left, middle), right);
                store::<S>(to, simd.add_f32s(load::<S>(to), sum));
            }
        }
        (left, middle) = (middle, right);
    }
}

/// Adds the input gradient of a maximum; of equal values the first gets it.
///
/// # Safety
/// As [`forward`]; `out` is its output, `gradient` the output's, `to` the input's.
#[inline(always)]
pub unsafe fn max_backward<S: Simd>(
    simd: S,
    input: *const f32,
    to: *mut f32,
    [height, width]: [usize; 2],
    [out, gradient]: [*const f32; 2],
    [rows, columns]: [usize; 2],
    stride: usize,
) {
    let lanes = S::F32_LANES;
    for y in 0..rows {
        let lines = window(y * stride, height);
        // SAFETY: the caller's; windows are cut to the map.
        unsafe {
            let (above, row) = (lines.start * width * lanes, y * columns * lanes);
            let (input, to) = (input.add(above), to.add(above));
            let maps = [out.add(row), gradient.add(row)];
            let size = [width, columns];
            match lines.len() {
                3 => max_backward_row::<S, 3>(simd, input, to, maps, size, stride),
                2 => max_backward_row::<S, 2>(simd, input, to, maps, size, stride),
                _ => max_backward_row::<S, 1>(simd, input, to, maps, size, stride),
            }
        }
    }
}

/// Values and gradients of a column of `N` pixels.
type Column<V, const N: usize> = [[V; N]; 2];

/// Adds a row of windows, `N` pixels high; the columns of a window stay in registers.
///
/// # Safety
/// As [`max_backward`]; `input` and `to` are at the first pixel of the first window's top.
#[inline(always)]
unsafe fn max_backward_row<S: Simd, const N: usize>(
    simd: S,
    input: *const f32,
    to: *mut f32,
    [out, gradient]: [*const f32; 2],
    [width, columns]: [usize; 2],
    stride: usize,
) {
    let lanes = S::F32_LANES;
    let zero = simd.splat_f32s(0.0);
    // No value equals the placeholder of a missing pixel.
    let nothing: Column<S::f32s, N> = [[simd.splat_f32s(f32::NAN); N], [zero; N]];
    // SAFETY: the caller's.
    unsafe {
        let mut left = nothing;
        let mut middle = read::<S, N>(input, to, width, 0, nothing);
        for x in 0..columns {
            let center = x * stride;
            let mut right = read::<S, N>(input, to, width, center + 1, nothing);
            let largest = load::<S>(out.add(x * lanes));
            let mut rest = load::<S>(gradient.add(x * lanes));
            for n in 0..N {
                for [values, sums] in [&mut left, &mut middle, &mut right] {
                    let hit = simd.equal_f32s(values[n], largest);
                    sums[n] = simd.add_f32s(sums[n], simd.select_f32s(hit, rest, zero));
                    rest = simd.select_f32s(hit, zero, rest);
                }
            }
            if center > 0 {
                write::<S, N>(to, width, center - 1, left);
            }
            if stride == 1 {
                (left, middle) = (middle, right);
            } else {
                write::<S, N>(to, width, center, middle);
                write::<S, N>(to, width, center + 1, right);
                left = read::<S, N>(input, to, width, center + stride - 1, nothing);
                middle = read::<S, N>(input, to, width, center + stride, nothing);
            }
        }
        if stride == 1 {
            write::<S, N>(to, width, width - 1, left);
        }
    }
}

/// # Safety
/// As [`max_backward_row`].
#[inline(always)]
unsafe fn read<S: Simd, const N: usize>(
    input: *const f32,
    to: *const f32,
    width: usize,
    x: usize,
    nothing: Column<S::f32s, N>,
) -> Column<S::f32s, N> {
    let mut column = nothing;
    if x < width {
        let [values, sums] = &mut column;
        for n in 0..N {
            let place = (n * width + x) * S::F32_LANES;
            // SAFETY: the caller's.
            (values[n], sums[n]) =
                unsafe { (load::<S>(input.add(place)), load::<S>(to.add(place))) };
        }
    }
    column
}

/// # Safety
/// As [`max_backward_row`].
#[inline(always)]
unsafe fn write<S: Simd, const N: usize>(
    to: *mut f32,
    width: usize,
    x: usize,
    [_, sums]: Column<S::f32s, N>,
) {
    if x < width {
        for (n, sum) in sums.iter().enumerate() {
            // SAFETY: the caller's.
            unsafe { store::<S>(to.add((n * width + x) * S::F32_LANES), *sum) };
        }
    }
}
