//! Sums over an image, per channel, for batch normalizations and their backward passes.

use pulp::Simd;

use super::tiles::{load, store};

/// The mean and the sum of squares around it, per channel; `to` has both, one register per block
/// each.
#[inline(always)]
pub fn moments<S: Simd>(simd: S, map: &[f32], blocks: usize, to: &mut [f32]) {
    let lanes = S::F32_LANES;
    let (means, squares) = to.split_at_mut(blocks * lanes);
    let len = map.len() / blocks;
    let share = simd.splat_f32s(lanes as f32 / len as f32);
    for block in 0..blocks {
        let map = &map[block * len..(block + 1) * len];
        let sums = sum_by_four(simd, map, |sum, value| simd.add_f32s(sum, value));
        let mean = simd.mul_f32s(total::<S>(simd, sums), share);
        let sums = sum_by_four(simd, map, |sum, value| {
            let off = simd.sub_f32s(value, mean);
            simd.mul_add_e_f32s(off, off, sum)
        });
        let places = block * lanes..(block + 1) * lanes;
        // SAFETY: slices of one register.
        unsafe {
            store::<S>(means[places.clone()].as_mut_ptr(), mean);
            store::<S>(squares[places].as_mut_ptr(), total::<S>(simd, sums));
        }
    }
}

/// Four parallel sums: a single one would wait for itself.
#[inline(always)]
fn sum_by_four<S: Simd>(
    simd: S,
    map: &[f32],
    add: impl Fn(S::f32s, S::f32s) -> S::f32s,
) -> [S::f32s; 4] {
    let lanes = S::F32_LANES;
    let mut sums = [simd.splat_f32s(0.0); 4];
    let fours = map.chunks_exact(4 * lanes);
    let rest = fours.remainder();
    for values in fours {
        for (t, sum) in sums.iter_mut().enumerate() {
            // SAFETY: four registers.
            *sum = add(*sum, unsafe { load::<S>(values.as_ptr().add(t * lanes)) });
        }
    }
    for value in rest.chunks_exact(lanes) {
        // SAFETY: one register.
        sums[0] = add(sums[0], unsafe { load::<S>(value.as_ptr()) });
    }
    sums
}

#[inline(always)]
fn total<S: Simd>(simd: S, sums: [S::f32s; 4]) -> S::f32s {
    simd.add_f32s(simd.add_f32s(sums[0], sums[1]), simd.add_f32s(sums[2], sums[3]))
}

/// Adds to the sums of one block of channels: the sum of `gradient`, then of `gradient * (map -
/// mean)` for each map, `width` values apart.
#[inline(always)]
pub fn products<S: Simd>(
    simd: S,
    gradient: &[f32],
    maps: &[(&[f32], &[f32])],
    to: &mut [f32],
    width: usize,
) {
    let lanes = S::F32_LANES;
    let sums = sum_by_four(simd, gradient, |sum, value| simd.add_f32s(sum, value));
    add_to(simd, total::<S>(simd, sums), &mut to[..lanes]);
    // The gradient is read once for several maps.
    let mut done = 0;
    while done < maps.len() {
        let left = maps.len() - done;
        let count = if left >= 4 { 4 } else { left.min(2) };
        let (now, to) = (&maps[done..done + count], &mut to[(1 + done) * width..]);
        match count {
            4 => products_of::<S, 4, 2>(simd, gradient, now, to, width),
            2 => products_of::<S, 2, 4>(simd, gradient, now, to, width),
            _ => products_of::<S, 1, 4>(simd, gradient, now, to, width),
        }
        done += count;
    }
}

#[inline(always)]
fn add_to<S: Simd>(simd: S, value: S::f32s, to: &mut [f32]) {
    assert!(to.len() >= S::F32_LANES);
    // SAFETY: checked on the line above.
    unsafe { store::<S>(to.as_mut_ptr(), simd.add_f32s(load::<S>(to.as_ptr()), value)) };
}

/// [`products`] of `T` maps, each as `U` parallel sums: a single one would wait for itself.
#[inline(always)]
fn products_of<S: Simd, const T: usize, const U: usize>(
    simd: S,
    gradient: &[f32],
    maps: &[(&[f32], &[f32])],
    to: &mut [f32],
    width: usize,
) {
    let lanes = S::F32_LANES;
    let end = gradient.len();
    assert!(maps.len() == T && end.is_multiple_of(lanes));
    for (map, mean) in maps {
        assert!(map.len() >= end && mean.len() >= lanes);
    }
    let zero = simd.splat_f32s(0.0);
    let mut means = [zero; T];
    let mut sums = [[zero; T]; U];
    // SAFETY: sizes are checked above; the gradient is a multiple of a register.
    unsafe {
        for (mean, (_, all)) in means.iter_mut().zip(maps) {
            *mean = load::<S>(all.as_ptr());
        }
        let tile = U * lanes;
        let whole = end / tile * tile;
        for place in (0..whole).step_by(tile) {
            add_products::<S, T>(simd, gradient, maps, means, place, &mut sums);
        }
        for place in (whole..end).step_by(lanes) {
            add_products::<S, T>(simd, gradient, maps, means, place, &mut sums[..1]);
        }
    }
    let [first, rest @ ..] = &sums[..] else { return };
    for (t, &first) in first.iter().enumerate() {
        let mut sum = first;
        for sums in rest {
            sum = simd.add_f32s(sum, sums[t]);
        }
        add_to(simd, sum, &mut to[t * width..]);
    }
}

/// Adds the products of the registers from `place` on, each to sums of its own.
///
/// # Safety
/// The gradient and all maps hold as many registers from `place` on as there are sums.
#[inline(always)]
unsafe fn add_products<S: Simd, const T: usize>(
    simd: S,
    gradient: &[f32],
    maps: &[(&[f32], &[f32])],
    means: [S::f32s; T],
    place: usize,
    sums: &mut [[S::f32s; T]],
) {
    for (u, sums) in sums.iter_mut().enumerate() {
        let place = place + u * S::F32_LANES;
        // SAFETY: the caller's.
        unsafe {
            let gradient = load::<S>(gradient.as_ptr().add(place));
            for (t, sum) in sums.iter_mut().enumerate() {
                let off = simd.sub_f32s(load::<S>(maps[t].0.as_ptr().add(place)), means[t]);
                *sum = simd.mul_add_e_f32s(gradient, off, *sum);
            }
        }
    }
}

/// Clears `to` where `scale * value + shift` is not positive; then computes per channel its sum,
/// and that of `to * (value - mean)`.
#[inline(always)]
pub fn pass_positive<S: Simd>(
    simd: S,
    values: &[f32],
    (scale, shift): (&[f32], &[f32]),
    mean: &[f32],
    blocks: usize,
    to: &mut [f32],
    sums: &mut [f32],
) {
    let lanes = S::F32_LANES;
    let (len, zero) = (to.len() / blocks, simd.splat_f32s(0.0));
    assert!(len.is_multiple_of(lanes) && values.len() >= to.len());
    let (totals, products) = sums.split_at_mut(blocks * lanes);
    for (block, (to, values)) in to.chunks_exact_mut(len).zip(values.chunks_exact(len)).enumerate()
    {
        let channels = block * lanes..(block + 1) * lanes;
        // SAFETY: slices of one register.
        let [scale, shift, mean] =
            [scale, shift, mean].map(|each| unsafe { load::<S>(each[channels.clone()].as_ptr()) });
        let channel = [scale, shift, mean];
        let mut all = [[zero; 2]; 4];
        let whole = len / (4 * lanes) * 4 * lanes;
        // SAFETY: `len` is a multiple of a register, and both have as many values.
        unsafe {
            for place in (0..whole).step_by(4 * lanes) {
                pass_registers(simd, values, channel, place, to, &mut all);
            }
            for place in (whole..len).step_by(lanes) {
                pass_registers(simd, values, channel, place, to, &mut all[..1]);
            }
        }
        let [total, product] = [0, 1].map(|sum: usize| all.map(|each| each[sum]));
        // SAFETY: slices of one register.
        unsafe {
            store::<S>(totals[channels.clone()].as_mut_ptr(), self::total::<S>(simd, total));
            store::<S>(products[channels].as_mut_ptr(), self::total::<S>(simd, product));
        }
    }
}

/// [`pass_positive`] for the registers from `place` on, each with its own sums.
///
/// # Safety
/// `values` and `to` hold as many registers from `place` on as there are sums.
#[inline(always)]
unsafe fn pass_registers<S: Simd>(
    simd: S,
    values: &[f32],
    [scale, shift, mean]: [S::f32s; 3],
    place: usize,
    to: &mut [f32],
    sums: &mut [[S::f32s; 2]],
) {
    let zero = simd.splat_f32s(0.0);
    for (u, [total, product]) in sums.iter_mut().enumerate() {
        let place = place + u * S::F32_LANES;
        // SAFETY: the caller's.
        unsafe {
            let value = load::<S>(values.as_ptr().add(place));
            let to = to.as_mut_ptr().add(place);
            let scaled = simd.mul_add_e_f32s(value, scale, shift);
            let positive = simd.less_than_f32s(zero, scaled);
            let kept = simd.select_f32s(positive, load::<S>(to), zero);
            store::<S>(to, kept);
            *total = simd.add_f32s(*total, kept);
            *product = simd.mul_add_e_f32s(kept, simd.sub_f32s(value, mean), *product);
        }
    }
}
