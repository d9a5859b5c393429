//! What is done to one image: maps that stay in the first two levels of cache.

use pulp::Simd;

use super::plan::{Padded, Plan, Pool};
use super::pools;
use super::strips::Part;
use super::tiles::{load, store};
use super::transpose::transpose;

/// From `[channel][position]` to blocks of channels; missing channels are zero.
#[inline(always)]
pub fn to_blocks<S: Simd>(_simd: S, from: &[f32], channels: usize, to: &mut [f32]) {
    let lanes = S::F32_LANES;
    let positions = from.len() / channels;
    assert!(from.len() >= channels * positions);
    for (block, to) in to.chunks_exact_mut(positions * lanes).enumerate() {
        let first = block * lanes;
        let count = lanes.min(channels.saturating_sub(first));
        if count < lanes {
            to.fill(0.0);
        }
        // SAFETY: `count` rows of `from` and `positions` rows of `to` are there; eight lanes are AVX.
        unsafe {
            let from = from.as_ptr().add(first * positions);
            let size = [count, positions];
            if lanes >= 8 {
                transpose::<true>(from, positions, to.as_mut_ptr(), lanes, size);
            } else {
                transpose::<false>(from, positions, to.as_mut_ptr(), lanes, size);
            }
        }
    }
}

/// The inverse of [`to_blocks`].
#[inline(always)]
pub fn from_blocks<S: Simd>(_simd: S, from: &[f32], channels: usize, to: &mut [f32]) {
    let lanes = S::F32_LANES;
    let positions = to.len() / channels;
    for (block, from) in from.chunks_exact(positions * lanes).enumerate() {
        let first = block * lanes;
        let count = lanes.min(channels - first);
        let to = &mut to[first * positions..(first + count) * positions];
        // SAFETY: `positions` rows of `from` and `count` rows of `to` are there; eight lanes are AVX.
        unsafe {
            let size = [positions, count];
            if lanes >= 8 {
                transpose::<true>(from.as_ptr(), lanes, to.as_mut_ptr(), positions, size);
            } else {
                transpose::<false>(from.as_ptr(), lanes, to.as_mut_ptr(), positions, size);
            }
        }
    }
}

/// `max(scale * x + shift, floor)` with a border of zeros; with a floor of zero a ReLU.
#[inline(always)]
pub fn pad<S: Simd>(
    simd: S,
    from: &[f32],
    geometry: Padded,
    affine: Option<(&[f32], &[f32])>,
    floor: f32,
    to: &mut [f32],
) {
    let lanes = S::F32_LANES;
    let [zero, floor] = [0.0, floor].map(|value| simd.splat_f32s(value));
    let positions = geometry.height * geometry.width;
    let (row, border) = (geometry.row() * lanes, geometry.pad * lanes);
    for (block, (from, to)) in from
        .chunks_exact(positions * lanes)
        .zip(to.chunks_exact_mut(geometry.len() * lanes))
        .enumerate()
    {
        let edge = geometry.pad * row;
        to[..edge].fill(0.0);
        let bottom = to.len() - edge;
        to[bottom..].fill(0.0);
        let (scale, shift) = match affine {
            Some((scale, shift)) => {
                assert!(scale.len().min(shift.len()) >= (block + 1) * lanes);
                // SAFETY: checked on the line above.
                unsafe {
                    (
                        load::<S>(scale.as_ptr().add(block * lanes)),
                        load::<S>(shift.as_ptr().add(block * lanes)),
                    )
                }
            }
            None => (simd.splat_f32s(1.0), zero),
        };
        let lines = to[edge..bottom].chunks_exact_mut(row);
        for (from, to) in from.chunks_exact(geometry.width * lanes).zip(lines) {
            to[..border].fill(0.0);
            to[row - border..].fill(0.0);
            let to = &mut to[border..row - border];
            for (from, to) in from.chunks_exact(lanes).zip(to.chunks_exact_mut(lanes)) {
                // SAFETY: chunks of one register.
                unsafe {
                    let value = simd.mul_add_e_f32s(load::<S>(from.as_ptr()), scale, shift);
                    store::<S>(to.as_mut_ptr(), simd.max_f32s(value, floor));
                }
            }
        }
    }
}

/// Pools all channels of a blocked image.
#[inline(always)]
pub fn pool<S: Simd>(simd: S, plan: &Plan, pool: Pool, input: &[f32], to: &mut [f32]) {
    for (block, to) in to.chunks_exact_mut(plan.map_len() / plan.blocks_of[1]).enumerate() {
        let part = Part { block, rows: 0..plan.out_size[0] };
        pool_rows(simd, plan, pool, input, &part, to);
    }
}

/// A part of what [`pool`] makes of a blocked image.
#[inline(always)]
pub fn pool_rows<S: Simd>(
    simd: S,
    plan: &Plan,
    pool: Pool,
    input: &[f32],
    Part { block, rows }: &Part,
    to: &mut [f32],
) {
    let (map, stride, columns) = (plan.size[0] * plan.size[1], plan.stride, plan.out_size[1]);
    let input = &input[block * map * S::F32_LANES..(block + 1) * map * S::F32_LANES];
    assert!(to.len() >= rows.len() * columns * S::F32_LANES && rows.end <= plan.out_size[0]);
    let out = (rows.clone(), columns);
    // SAFETY: sizes are checked above.
    unsafe {
        let (input, to) = (input.as_ptr(), to.as_mut_ptr());
        match pool {
            Pool::Max => pools::forward::<S, true>(simd, input, plan.size, to, out, stride),
            Pool::Mean => pools::forward::<S, false>(simd, input, plan.size, to, out, stride),
        }
    }
}

/// Adds the input gradient of [`pool`]; `pooled` is its output.
#[inline(always)]
pub fn pool_backward<S: Simd>(
    simd: S,
    plan: &Plan,
    pool: Pool,
    input: &[f32],
    [pooled, gradient]: [&[f32]; 2],
    to: &mut [f32],
) {
    let (map, out) = (plan.input_len(), plan.map_len());
    assert!(input.len() >= map && to.len() >= map);
    assert!(pooled.len() >= out && gradient.len() >= out);
    let blocks = plan.blocks_of[0];
    let (size, out_size, stride) = (plan.size, plan.out_size, plan.stride);
    for block in 0..blocks {
        // SAFETY: sizes are checked above.
        unsafe {
            let to = to.as_mut_ptr().add(block * map / blocks);
            let at = |from: &[f32]| from.as_ptr().add(block * out / blocks);
            let [pooled, gradient] = [at(pooled), at(gradient)];
            match pool {
                Pool::Max => {
                    let input = input.as_ptr().add(block * map / blocks);
                    let maps = [pooled, gradient];
                    pools::max_backward::<S>(simd, input, to, size, maps, out_size, stride);
                }
                Pool::Mean => {
                    pools::mean_backward::<S>(simd, gradient, to, size, out_size, stride);
                }
            }
        }
    }
}

/// Mean, and sum of squares around it, per channel; `to` holds both, one register per block each.
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

/// Four sums side by side: one alone would wait for itself.
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

/// Adds to the sums of one block of channels: of `gradient`, then of `gradient * (map - mean)` for
/// each map; `width` values apart.
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
    // The gradient is read once for a few maps.
    let (mut maps, mut to) = (maps, &mut to[width..]);
    loop {
        let count = if maps.len() >= 4 { 4 } else { maps.len().min(2) };
        let (now, later) = maps.split_at(count);
        match count {
            4 => products_of::<S, 4, 2>(simd, gradient, now, to, width),
            2 => products_of::<S, 2, 4>(simd, gradient, now, to, width),
            1 => products_of::<S, 1, 4>(simd, gradient, now, to, width),
            _ => return,
        }
        maps = later;
        if maps.is_empty() {
            return;
        }
        to = &mut to[count * width..];
    }
}

#[inline(always)]
fn add_to<S: Simd>(simd: S, value: S::f32s, to: &mut [f32]) {
    assert!(to.len() >= S::F32_LANES);
    // SAFETY: checked on the line above.
    unsafe { store::<S>(to.as_mut_ptr(), simd.add_f32s(load::<S>(to.as_ptr()), value)) };
}

/// [`products`] of `T` maps, each as `U` sums side by side: one alone would wait for itself.
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
    assert!(maps.len() == T && end % lanes == 0);
    for (map, mean) in maps {
        assert!(map.len() >= end && mean.len() >= lanes);
    }
    let zero = simd.splat_f32s(0.0);
    let mut means = [zero; T];
    let mut sums = [[zero; U]; T];
    // SAFETY: sizes are checked above; the gradient is a multiple of a register.
    unsafe {
        for (mean, (_, all)) in means.iter_mut().zip(maps) {
            *mean = load::<S>(all.as_ptr());
        }
        let mut place = 0;
        while place + U * lanes <= end {
            for u in 0..U {
                let gradient = load::<S>(gradient.as_ptr().add(place));
                for t in 0..T {
                    let off = simd.sub_f32s(load::<S>(maps[t].0.as_ptr().add(place)), means[t]);
                    sums[t][u] = simd.mul_add_e_f32s(gradient, off, sums[t][u]);
                }
                place += lanes;
            }
        }
        while place < end {
            let gradient = load::<S>(gradient.as_ptr().add(place));
            for t in 0..T {
                let off = simd.sub_f32s(load::<S>(maps[t].0.as_ptr().add(place)), means[t]);
                sums[t][0] = simd.mul_add_e_f32s(gradient, off, sums[t][0]);
            }
            place += lanes;
        }
    }
    for (t, sums) in sums.iter().enumerate() {
        let mut sum = sums[0];
        for &other in &sums[1..] {
            sum = simd.add_f32s(sum, other);
        }
        add_to(simd, sum, &mut to[t * width..]);
    }
}

/// `to = first * gradient + second * map + third` per channel: the backward pass of a batch
/// normalization, applied while it is read.
///
/// Of each of the `blocks` maps of `map_len` values, the part from `begin` on that `to` has room
/// for.
#[inline(always)]
pub fn linear<S: Simd>(
    simd: S,
    [gradient, map]: [&[f32]; 2],
    coefficients: [&[f32]; 3],
    [blocks, map_len, begin]: [usize; 3],
    to: &mut [f32],
) {
    let lanes = S::F32_LANES;
    let len = to.len() / blocks;
    for (block, to) in to.chunks_exact_mut(len).enumerate() {
        let places = block * lanes..(block + 1) * lanes;
        // SAFETY: slices of one register.
        let [first, second, third] =
            coefficients.map(|each| unsafe { load::<S>(each[places.clone()].as_ptr()) });
        let range = block * map_len + begin..block * map_len + begin + len;
        let from = gradient[range.clone()].chunks_exact(lanes).zip(map[range].chunks_exact(lanes));
        for ((gradient, value), to) in from.zip(to.chunks_exact_mut(lanes)) {
            // SAFETY: chunks of one register.
            unsafe {
                let sum = simd.mul_add_e_f32s(load::<S>(value.as_ptr()), second, third);
                let sum = simd.mul_add_e_f32s(load::<S>(gradient.as_ptr()), first, sum);
                store::<S>(to.as_mut_ptr(), sum);
            }
        }
    }
}

/// `to = start + sum over maps of scale * map` per channel, added to what is there where `add`.
#[inline(always)]
pub fn weighted_sum<S: Simd>(
    simd: S,
    maps: &[(&[f32], &[f32])],
    start: &[f32],
    blocks: usize,
    (to, add): (&mut [f32], bool),
) {
    let lanes = S::F32_LANES;
    let len = to.len() / blocks;
    for (map, scale) in maps {
        assert!(map.len() >= to.len() && scale.len() >= blocks * lanes);
    }
    for (block, to) in to.chunks_exact_mut(len).enumerate() {
        // SAFETY: slices of one register.
        let start = unsafe { load::<S>(start[block * lanes..(block + 1) * lanes].as_ptr()) };
        let mut place = block * len;
        for to in to.chunks_mut(4 * lanes) {
            let mut sums = [start; 4];
            let count = to.len() / lanes;
            for (map, scale) in maps {
                // SAFETY: checked above.
                unsafe {
                    let scale = load::<S>(scale.as_ptr().add(block * lanes));
                    let map = map.as_ptr().add(place);
                    if count == 4 {
                        for (t, sum) in sums.iter_mut().enumerate() {
                            *sum = simd.mul_add_e_f32s(load::<S>(map.add(t * lanes)), scale, *sum);
                        }
                    } else {
                        for (t, sum) in sums.iter_mut().enumerate().take(count) {
                            *sum = simd.mul_add_e_f32s(load::<S>(map.add(t * lanes)), scale, *sum);
                        }
                    }
                }
            }
            for (to, sum) in to.chunks_exact_mut(lanes).zip(sums) {
                // SAFETY: a chunk of one register.
                unsafe {
                    let old = if add { load::<S>(to.as_ptr()) } else { simd.splat_f32s(0.0) };
                    store::<S>(to.as_mut_ptr(), simd.add_f32s(old, sum));
                }
            }
            place += to.len();
        }
    }
}

/// `from` where `value > floor`, else zero; added to what is there where `add`.
#[inline(always)]
pub fn pass_above<S: Simd>(
    simd: S,
    floor: f32,
    value: &[f32],
    from: &[f32],
    (to, add): (&mut [f32], bool),
) {
    let lanes = S::F32_LANES;
    let [zero, floor] = [0.0, floor].map(|value| simd.splat_f32s(value));
    let pairs = value.chunks_exact(lanes).zip(from.chunks_exact(lanes));
    for ((value, from), to) in pairs.zip(to.chunks_exact_mut(lanes)) {
        // SAFETY: chunks of one register.
        unsafe {
            let positive = simd.less_than_f32s(floor, load::<S>(value.as_ptr()));
            let mut sum = simd.select_f32s(positive, load::<S>(from.as_ptr()), zero);
            if add {
                sum = simd.add_f32s(load::<S>(to.as_ptr()), sum);
            }
            store::<S>(to.as_mut_ptr(), sum);
        }
    }
}

/// Clears `to` where `scale * value + shift` is not positive; then per channel its sum, and that of
/// `to * (value - mean)`.
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
    assert!(len % lanes == 0 && values.len() >= to.len());
    let (totals, products) = sums.split_at_mut(blocks * lanes);
    for (block, (to, values)) in to.chunks_exact_mut(len).zip(values.chunks_exact(len)).enumerate()
    {
        let channels = block * lanes..(block + 1) * lanes;
        // SAFETY: slices of one register.
        let [scale, shift, mean] = [scale, shift, mean]
            .map(|each| unsafe { load::<S>(each[channels.clone()].as_ptr()) });
        let (mut total, mut product) = ([zero; 4], [zero; 4]);
        let (to, rest) = to.split_at_mut(len / (4 * lanes) * 4 * lanes);
        let (values, last) = values.split_at(to.len());
        for (to, values) in to.chunks_exact_mut(4 * lanes).zip(values.chunks_exact(4 * lanes)) {
            for t in 0..4 {
                let place = t * lanes;
                // SAFETY: four registers.
                unsafe {
                    let value = load::<S>(values.as_ptr().add(place));
                    let old = load::<S>(to.as_ptr().add(place));
                    let scaled = simd.mul_add_e_f32s(value, scale, shift);
                    let kept = simd.select_f32s(simd.less_than_f32s(zero, scaled), old, zero);
                    store::<S>(to.as_mut_ptr().add(place), kept);
                    total[t] = simd.add_f32s(total[t], kept);
                    let off = simd.sub_f32s(value, mean);
                    product[t] = simd.mul_add_e_f32s(kept, off, product[t]);
                }
            }
        }
        for (to, value) in rest.chunks_exact_mut(lanes).zip(last.chunks_exact(lanes)) {
            // SAFETY: chunks of one register.
            unsafe {
                let (value, old) = (load::<S>(value.as_ptr()), load::<S>(to.as_ptr()));
                let scaled = simd.mul_add_e_f32s(value, scale, shift);
                let kept = simd.select_f32s(simd.less_than_f32s(zero, scaled), old, zero);
                store::<S>(to.as_mut_ptr(), kept);
                total[0] = simd.add_f32s(total[0], kept);
                product[0] = simd.mul_add_e_f32s(kept, simd.sub_f32s(value, mean), product[0]);
            }
        }
        // SAFETY: slices of one register.
        unsafe {
            store::<S>(totals[channels.clone()].as_mut_ptr(), self::total::<S>(simd, total));
            store::<S>(products[channels].as_mut_ptr(), self::total::<S>(simd, product));
        }
    }
}
