//! Between rows of positions and blocks of channels, eight by eight where the registers allow it.

/// `to[p * to_stride + c] = from[c * from_stride + p]` for `rows` values of `c` and `columns` of `p`.
///
/// # Safety
/// Both pointers must be valid for all of that. On x86-64 with `WIDE` the caller runs with AVX.
#[inline(always)]
pub unsafe fn transpose<const WIDE: bool>(
    from: *const f32,
    from_stride: usize,
    to: *mut f32,
    to_stride: usize,
    [rows, columns]: [usize; 2],
) {
    let mut row = 0;
    // SAFETY: the caller's.
    unsafe {
        if cfg!(target_arch = "x86_64") && WIDE {
            while row + 8 <= rows {
                let mut column = 0;
                while column + 8 <= columns {
                    let from = from.add(row * from_stride + column);
                    eight_by_eight(from, from_stride, to.add(column * to_stride + row), to_stride);
                    column += 8;
                }
                scalar(from, from_stride, to, to_stride, [row..row + 8, column..columns]);
                row += 8;
            }
        }
        scalar(from, from_stride, to, to_stride, [row..rows, 0..columns]);
    }
}

#[inline(always)]
unsafe fn scalar(
    from: *const f32,
    from_stride: usize,
    to: *mut f32,
    to_stride: usize,
    [rows, columns]: [std::ops::Range<usize>; 2],
) {
    for column in columns {
        for row in rows.clone() {
            // SAFETY: the caller's.
            unsafe { *to.add(column * to_stride + row) = *from.add(row * from_stride + column) };
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
unsafe fn eight_by_eight(_: *const f32, _: usize, _: *mut f32, _: usize) {
    unreachable!("on x86-64 only");
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn eight_by_eight(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
    use std::arch::x86_64::*;
    // No closure and no loop: code that is not inlined here loses the instruction set of its
    // caller.
    // SAFETY: the caller's pointers, and AVX.
    unsafe {
        let r0 = _mm256_loadu_ps(from);
        let r1 = _mm256_loadu_ps(from.add(from_stride));
        let r2 = _mm256_loadu_ps(from.add(2 * from_stride));
        let r3 = _mm256_loadu_ps(from.add(3 * from_stride));
        let r4 = _mm256_loadu_ps(from.add(4 * from_stride));
        let r5 = _mm256_loadu_ps(from.add(5 * from_stride));
        let r6 = _mm256_loadu_ps(from.add(6 * from_stride));
        let r7 = _mm256_loadu_ps(from.add(7 * from_stride));
        let (a0, a1) = (_mm256_unpacklo_ps(r0, r1), _mm256_unpackhi_ps(r0, r1));
        let (a2, a3) = (_mm256_unpacklo_ps(r2, r3), _mm256_unpackhi_ps(r2, r3));
        let (a4, a5) = (_mm256_unpacklo_ps(r4, r5), _mm256_unpackhi_ps(r4, r5));
        let (a6, a7) = (_mm256_unpacklo_ps(r6, r7), _mm256_unpackhi_ps(r6, r7));
        let (b0, b1) = (_mm256_shuffle_ps::<0x44>(a0, a2), _mm256_shuffle_ps::<0xEE>(a0, a2));
        let (b2, b3) = (_mm256_shuffle_ps::<0x44>(a1, a3), _mm256_shuffle_ps::<0xEE>(a1, a3));
        let (b4, b5) = (_mm256_shuffle_ps::<0x44>(a4, a6), _mm256_shuffle_ps::<0xEE>(a4, a6));
        let (b6, b7) = (_mm256_shuffle_ps::<0x44>(a5, a7), _mm256_shuffle_ps::<0xEE>(a5, a7));
        _mm256_storeu_ps(to, _mm256_permute2f128_ps::<0x20>(b0, b4));
        _mm256_storeu_ps(to.add(to_stride), _mm256_permute2f128_ps::<0x20>(b1, b5));
        _mm256_storeu_ps(to.add(2 * to_stride), _mm256_permute2f128_ps::<0x20>(b2, b6));
        _mm256_storeu_ps(to.add(3 * to_stride), _mm256_permute2f128_ps::<0x20>(b3, b7));
        _mm256_storeu_ps(to.add(4 * to_stride), _mm256_permute2f128_ps::<0x31>(b0, b4));
        _mm256_storeu_ps(to.add(5 * to_stride), _mm256_permute2f128_ps::<0x31>(b1, b5));
        _mm256_storeu_ps(to.add(6 * to_stride), _mm256_permute2f128_ps::<0x31>(b2, b6));
        _mm256_storeu_ps(to.add(7 * to_stride), _mm256_permute2f128_ps::<0x31>(b3, b7));
    }
}
