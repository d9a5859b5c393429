//! Operations on one image, whose maps stay in the first two levels of cache.

use pulp::Simd;

use super::gather::Padded;
use super::plan::{EdgePlan, Pool, Strip};
use super::pools;
use super::tiles::{load, store};
use super::transpose::transpose;

/// Number of positions transposed at a time: the block of channels stays in the first level of
/// cache.
const POSITIONS: usize = 256;

/// Channels among planes: their number, and the distance between them in planes.
#[derive(Clone, Copy, Debug)]
pub struct Planes {
    pub channels: usize,
    pub apart: usize,
}

impl Planes {
    /// All planes, one after the other.
    pub fn all(channels: usize) -> Self {
        Self { channels, apart: 1 }
    }

    /// Number of their values in blocks, for the given number of positions.
    pub fn blocked(self, lanes: usize, positions: usize) -> usize {
        self.channels.next_multiple_of(lanes) * positions
    }

    /// Number of positions of these blocks; the function asserts that `planes` has them.
    #[inline(always)]
    fn positions(self, lanes: usize, blocks: &[f32], planes: &[f32]) -> usize {
        let positions = blocks.len() / self.channels.next_multiple_of(lanes);
        assert_eq!(blocks.len(), self.blocked(lanes, positions), "whole blocks");
        assert!(planes.len() >= ((self.channels - 1) * self.apart + 1) * positions);
        positions
    }
}

/// From `[channel][position]` to blocks of channels, no smaller than `floor`; missing channels are
/// zero.
#[inline(always)]
pub fn to_blocks<S: Simd>(simd: S, from: &[f32], planes: Planes, floor: f32, to: &mut [f32]) {
    let lanes = S::F32_LANES;
    let Planes { channels, apart } = planes;
    let positions = planes.positions(lanes, to, from);
    let least = simd.splat_f32s(floor);
    for (block, to) in to.chunks_exact_mut(positions * lanes).enumerate() {
        let first = block * lanes;
        let count = lanes.min(channels.saturating_sub(first));
        if count < lanes {
            to.fill(0.0);
        }
        for (part, to) in to.chunks_mut(POSITIONS * lanes).enumerate() {
            let size = [count, to.len() / lanes];
            // SAFETY: `count` rows of `from` and as many rows of `to` are there; eight lanes are AVX.
            unsafe {
                let from = from.as_ptr().add(first * apart * positions + part * POSITIONS);
                if lanes >= 8 {
                    transpose::<true>(from, apart * positions, to.as_mut_ptr(), lanes, size);
                } else {
                    transpose::<false>(from, apart * positions, to.as_mut_ptr(), lanes, size);
                }
            }
            if floor > f32::NEG_INFINITY {
                for to in to.chunks_exact_mut(lanes) {
                    // SAFETY: a chunk of one register.
                    unsafe {
                        let value = simd.max_f32s(load::<S>(to.as_ptr()), least);
                        store::<S>(to.as_mut_ptr(), value);
                    }
                }
            }
        }
    }
}

/// The inverse of [`to_blocks`].
#[inline(always)]
pub fn from_blocks<S: Simd>(_simd: S, from: &[f32], planes: Planes, to: &mut [f32]) {
    let lanes = S::F32_LANES;
    let Planes { channels, apart } = planes;
    let positions = planes.positions(lanes, from, to);
    for (block, from) in from.chunks_exact(positions * lanes).enumerate() {
        let first = block * lanes;
        let count = lanes.min(channels - first);
        // SAFETY: `positions` rows of `from` and `count` rows of `to` are there; eight lanes are AVX.
        unsafe {
            let to = to.as_mut_ptr().add(first * apart * positions);
            let size = [positions, count];
            if lanes >= 8 {
                transpose::<true>(from.as_ptr(), lanes, to, apart * positions, size);
            } else {
                transpose::<false>(from.as_ptr(), lanes, to, apart * positions, size);
            }
        }
    }
}

/// `max(scale * x + shift, floor)` inside the border of `to`, which does not change; with a floor
/// of zero this is a ReLU.
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
        let lines = to[geometry.pad * row..].chunks_exact_mut(row);
        for (from, to) in from.chunks_exact(geometry.width * lanes).zip(lines) {
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
pub fn pool<S: Simd>(simd: S, plan: &EdgePlan, pool: Pool, input: &[f32], to: &mut [f32]) {
    for (block, to) in to.chunks_exact_mut(plan.map_len() / plan.blocks_of[1]).enumerate() {
        let part = Strip { block, rows: 0..plan.out_size[0] };
        pool_rows(simd, plan, pool, input, &part, to);
    }
}

/// A part of the output of [`pool`] for a blocked image.
#[inline(always)]
pub fn pool_rows<S: Simd>(
    simd: S,
    plan: &EdgePlan,
    pool: Pool,
    input: &[f32],
    Strip { block, rows }: &Strip,
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
    plan: &EdgePlan,
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

/// `to = first * gradient + second * map + third` per channel: the backward pass of a batch
/// normalization, applied while it is read.
/// The function takes, from each of the `blocks` maps of `map_len` values, the part from `begin` on
/// for which `to` has room.
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

/// `to = start + sum over maps of scale * map` per channel, added to the existing values where
/// `add`.
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
    assert!(start.len() >= blocks * lanes && len.is_multiple_of(lanes));
    for (block, to) in to.chunks_exact_mut(len).enumerate() {
        let first = block * len;
        let whole = len / (TILE * lanes) * TILE * lanes;
        let of = (maps, block, start, add);
        // SAFETY: checked above.
        unsafe {
            for place in (0..whole).step_by(TILE * lanes) {
                sum_registers::<S, TILE>(simd, of, first + place, to.as_mut_ptr().add(place));
            }
            for place in (whole..len).step_by(lanes) {
                sum_registers::<S, 1>(simd, of, first + place, to.as_mut_ptr().add(place));
            }
        }
    }
}

/// A map and its scale.
type Scaled<'a> = (&'a [f32], &'a [f32]);

/// Number of registers of a sum at a time.
const TILE: usize = 8;

/// [`weighted_sum`] of `T` registers from `place` on: maps with scales, the block, the start, and
/// whether to add.
///
/// # Safety
/// All maps have these registers; `to` is at the first.
#[inline(always)]
unsafe fn sum_registers<S: Simd, const T: usize>(
    simd: S,
    (maps, block, start, add): (&[Scaled<'_>], usize, &[f32], bool),
    place: usize,
    to: *mut f32,
) {
    let lanes = S::F32_LANES;
    // SAFETY: the caller's; scales and start hold a register for each block.
    unsafe {
        let mut sums = [load::<S>(start.as_ptr().add(block * lanes)); T];
        if add {
            for (t, sum) in sums.iter_mut().enumerate() {
                *sum = simd.add_f32s(*sum, load::<S>(to.add(t * lanes)));
            }
        }
        for (map, scale) in maps {
            let scale = load::<S>(scale.as_ptr().add(block * lanes));
            for (t, sum) in sums.iter_mut().enumerate() {
                let value = load::<S>(map.as_ptr().add(place + t * lanes));
                *sum = simd.mul_add_e_f32s(value, scale, *sum);
            }
        }
        for (t, sum) in sums.iter().enumerate() {
            store::<S>(to.add(t * lanes), *sum);
        }
    }
}

/// `from` where `value > floor`, else zero; added to the existing values where `add`.
#[inline(always)]
pub fn pass_above<S: Simd>(
    simd: S,
    floor: f32,
    value: &[f32],
    from: &[f32],
    (to, add): (&mut [f32], bool),
) {
    if add {
        pass_registers::<S, true>(simd, floor, value, from, to);
    } else {
        pass_registers::<S, false>(simd, floor, value, from, to);
    }
}

#[inline(always)]
fn pass_registers<S: Simd, const ADD: bool>(
    simd: S,
    floor: f32,
    value: &[f32],
    from: &[f32],
    to: &mut [f32],
) {
    let lanes = S::F32_LANES;
    let [zero, floor] = [0.0, floor].map(|value| simd.splat_f32s(value));
    let pairs = value.chunks_exact(lanes).zip(from.chunks_exact(lanes));
    for ((value, from), to) in pairs.zip(to.chunks_exact_mut(lanes)) {
        // SAFETY: chunks of one register.
        unsafe {
            let positive = simd.less_than_f32s(floor, load::<S>(value.as_ptr()));
            let mut sum = simd.select_f32s(positive, load::<S>(from.as_ptr()), zero);
            if ADD {
                sum = simd.add_f32s(load::<S>(to.as_ptr()), sum);
            }
            store::<S>(to.as_mut_ptr(), sum);
        }
    }
}

/// Clears `to` where `value > floor` does not hold; as many values of any layout.
#[inline(always)]
pub fn keep_above<S: Simd>(simd: S, floor: f32, value: &[f32], to: &mut [f32]) {
    let lanes = S::F32_LANES;
    let (values, last_values) = value.split_at(value.len() / lanes * lanes);
    let (registers, last) = to.split_at_mut(to.len() / lanes * lanes);
    let [zero, least] = [0.0, floor].map(|value| simd.splat_f32s(value));
    for (value, to) in values.chunks_exact(lanes).zip(registers.chunks_exact_mut(lanes)) {
        // SAFETY: chunks of one register.
        unsafe {
            let above = simd.less_than_f32s(least, load::<S>(value.as_ptr()));
            let kept = simd.select_f32s(above, load::<S>(to.as_ptr()), zero);
            store::<S>(to.as_mut_ptr(), kept);
        }
    }
    for (value, to) in last_values.iter().zip(last) {
        // A value that is not a number is not above.
        *to = if *value > floor { *to } else { 0.0 };
    }
}
