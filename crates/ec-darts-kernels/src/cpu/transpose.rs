//! Between rows of positions and blocks of channels, eight by eight where the registers allow it.

/// Number of rows and columns of a tile: whole cache lines on both sides.
const TILE: usize = 16;

/// `to[p * to_stride + c] = from[c * from_stride + p]` for `rows` values of `c` and `columns` of `p`.
///
/// The rows of one side are planes, and planes of 32x32 values lie a page apart: all their lines
/// share one set of the first level of cache, which holds eight. So of eight planes at a time, whole
/// lines are read or written before the next planes are touched.
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
    let [mut whole_rows, mut whole_columns] = [0, 0];
    // SAFETY: the caller's.
    unsafe {
        if cfg!(target_arch = "x86_64") && WIDE {
            [whole_rows, whole_columns] = [rows / 8 * 8, columns / 8 * 8];
            // Of a tile, first along the lines of the planes.
            let along_columns = from_stride > to_stride;
            for first_row in (0..whole_rows).step_by(TILE) {
                for first_column in (0..whole_columns).step_by(TILE) {
                    for part in 0..4 {
                        let [across, along] = [part / 2 * 8, part % 2 * 8];
                        let [row, column] =
                            if along_columns { [across, along] } else { [along, across] };
                        let [row, column] = [first_row + row, first_column + column];
                        if row < whole_rows && column < whole_columns {
                            let from = from.add(row * from_stride + column);
                            let to = to.add(column * to_stride + row);
                            eight_by_eight(from, from_stride, to, to_stride);
                        }
                    }
                }
            }
        }
        scalar(from, from_stride, to, to_stride, [0..whole_rows, whole_columns..columns]);
        scalar(from, from_stride, to, to_stride, [whole_rows..rows, 0..columns]);
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
