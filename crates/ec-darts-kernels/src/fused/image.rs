//! What is done to one image: maps that stay in the first two levels of cache.

use pulp::Simd;

use super::plan::{Block, Gather, Padded, Plan};
use super::tiles::{self, Steps, load, store};
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

/// `relu(scale * x + shift)` with a border of zeros.
#[inline(always)]
pub fn pad<S: Simd>(
    simd: S,
    from: &[f32],
    geometry: Padded,
    affine: Option<(&[f32], &[f32])>,
    to: &mut [f32],
) {
    let lanes = S::F32_LANES;
    let zero = simd.splat_f32s(0.0);
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
                    store::<S>(to.as_mut_ptr(), simd.max_f32s(value, zero));
                }
            }
        }
    }
}

/// What the 1x1 convolution of a block reads; `to` is room for it.
#[inline(always)]
pub fn gather<'a, S: Simd>(
    simd: S,
    plan: &Plan,
    block: &Block,
    source: &'a [f32],
    prepared: &[f32],
    to: &'a mut [f32],
) -> &'a [f32] {
    let lanes = S::F32_LANES;
    let geometry = if block.second { plan.middle } else { plan.source };
    if matches!(block.gather, Gather::Copy) && geometry.pad == 0 {
        return source;
    }
    let (row, map) = (geometry.row() * lanes, geometry.len() * lanes);
    let [rows, columns] = plan.out_size;
    let line = columns * lanes;
    assert!(source.len() >= block.source_blocks * map);
    assert!(to.len() >= block.gathered_blocks * rows * line);
    match block.gather {
        Gather::Copy | Gather::Reduce => {
            let step = if matches!(block.gather, Gather::Copy) { 1 } else { 2 };
            for channel_block in 0..block.gathered_blocks {
                let odd = channel_block / block.source_blocks;
                let from = &source[channel_block % block.source_blocks * map..][..map];
                let to = &mut to[channel_block * rows * line..][..rows * line];
                for (y, to) in to.chunks_exact_mut(line).enumerate() {
                    let from = &from[(geometry.pad + step * y + odd) * row..];
                    for (x, to) in to.chunks_exact_mut(lanes).enumerate() {
                        let place = (geometry.pad + step * x + odd) * lanes;
                        to.copy_from_slice(&from[place..place + lanes]);
                    }
                }
            }
        }
        Gather::Depthwise { kernel, dilation, stride } => {
            let steps = Steps { row, stride, dilation, out: plan.out_size };
            let first = geometry.first(block.gather.padding()) * lanes;
            let taps = kernel * kernel * lanes;
            assert!(prepared.len() >= block.depthwise + block.source_blocks * taps);
            for channel_block in 0..block.source_blocks {
                // SAFETY: the border is at least as wide as the kernel's reach.
                unsafe {
                    let input = source.as_ptr().add(channel_block * map + first);
                    let weights = prepared.as_ptr().add(block.depthwise + channel_block * taps);
                    let to = to.as_mut_ptr().add(channel_block * rows * line);
                    if kernel == 3 {
                        tiles::depthwise::<S, 3, false>(simd, input, weights, to, steps);
                    } else {
                        tiles::depthwise::<S, 5, false>(simd, input, weights, to, steps);
                    }
                }
            }
        }
    }
    to
}

/// The 1x1 convolution of a block.
#[inline(always)]
pub fn mix_channels<S: Simd>(
    simd: S,
    plan: &Plan,
    block: &Block,
    gathered: &[f32],
    prepared: &[f32],
    to: &mut [f32],
) {
    let lanes = S::F32_LANES;
    let positions = plan.out_size[0] * plan.out_size[1];
    let blocks = plan.blocks_of[1];
    assert!(gathered.len() >= block.gathered_blocks * positions * lanes);
    assert!(to.len() >= blocks * positions * lanes);
    assert!(prepared.len() >= block.pointwise + block.gathered_blocks * lanes * blocks * lanes);
    // SAFETY: sizes are checked above.
    unsafe {
        let weights = prepared.as_ptr().add(block.pointwise);
        let (from, to) = (gathered.as_ptr(), to.as_mut_ptr());
        tiles::pointwise::<S>(simd, from, block.gathered, weights, to, blocks, positions);
    }
}

/// Scratch of one block's backward pass.
pub struct BlockScratch<'a> {
    pub gathered: &'a mut [f32],
    pub gradient: &'a mut [f32],
    pub padded: &'a mut [f32],
}

/// From the gradient of a block's map to its weights' and its input's, the latter added to `to`.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "one place calls it for each kind of block")]
pub fn block_backward<S: Simd>(
    simd: S,
    plan: &Plan,
    block: &Block,
    prepared: &[f32],
    source: &[f32],
    map_gradient: &[f32],
    weights: Option<&mut [f32]>,
    to: &mut [f32],
    scratch: &mut BlockScratch<'_>,
) {
    let lanes = S::F32_LANES;
    let positions = plan.out_size[0] * plan.out_size[1];
    let blocks = plan.blocks_of[1];
    let geometry = if block.second { plan.middle } else { plan.source };
    let (rows, taps) = (block.gathered_blocks * lanes, block.gather.taps() * lanes);
    assert!(map_gradient.len() >= blocks * positions * lanes);
    assert!(scratch.gradient.len() >= block.gathered_blocks * positions * lanes);
    assert!(prepared.len() >= block.transposed + rows * blocks * lanes);
    // SAFETY: sizes are checked above.
    unsafe {
        tiles::pointwise::<S>(
            simd,
            map_gradient.as_ptr(),
            plan.channels[1],
            prepared.as_ptr().add(block.transposed),
            scratch.gradient.as_mut_ptr(),
            block.gathered_blocks,
            positions,
        );
    }
    if let Some(weights) = weights {
        let gathered = gather::<S>(simd, plan, block, source, prepared, scratch.gathered);
        let offset = block.gradient + block.source_blocks * taps;
        assert!(weights.len() >= offset + rows * blocks * lanes);
        // SAFETY: sizes are checked above; `gather` has checked the padded source.
        unsafe {
            tiles::pointwise_weights::<S>(
                simd,
                gathered.as_ptr(),
                block.gathered_blocks,
                map_gradient.as_ptr(),
                weights.as_mut_ptr().add(offset),
                blocks,
                positions,
            );
            if let Gather::Depthwise { kernel, dilation, stride } = block.gather {
                let row = geometry.row() * lanes;
                let steps = Steps { row, stride, dilation, out: plan.out_size };
                let first = geometry.first(block.gather.padding()) * lanes;
                for channel_block in 0..block.source_blocks {
                    let input = source.as_ptr().add(channel_block * geometry.len() * lanes + first);
                    let gradient = scratch.gradient.as_ptr().add(channel_block * positions * lanes);
                    let to = weights.as_mut_ptr().add(block.gradient + channel_block * taps);
                    if kernel == 3 {
                        tiles::depthwise_weights::<S, 3>(simd, input, gradient, to, steps);
                    } else {
                        tiles::depthwise_weights::<S, 5>(simd, input, gradient, to, steps);
                    }
                }
            }
        }
    }
    scatter::<S>(simd, plan, block, prepared, scratch, to);
}

/// The adjoint of [`gather`], added to `to`.
#[inline(always)]
fn scatter<S: Simd>(
    simd: S,
    plan: &Plan,
    block: &Block,
    prepared: &[f32],
    scratch: &mut BlockScratch<'_>,
    to: &mut [f32],
) {
    let lanes = S::F32_LANES;
    let [rows, columns] = plan.out_size;
    let geometry = if block.second { plan.middle } else { plan.source };
    let [height, width] = [geometry.height, geometry.width];
    let (map, line) = (height * width * lanes, columns * lanes);
    assert!(to.len() >= block.source_blocks * map);
    let gradient = &scratch.gradient[..block.gathered_blocks * rows * line];
    match block.gather {
        Gather::Copy => {
            for (to, from) in to.iter_mut().zip(gradient) {
                *to += from;
            }
        }
        Gather::Reduce => {
            for (channel_block, from) in gradient.chunks_exact(rows * line).enumerate() {
                let odd = channel_block / block.source_blocks;
                let to = &mut to[channel_block % block.source_blocks * map..][..map];
                for (y, from) in from.chunks_exact(line).enumerate() {
                    let to = &mut to[(2 * y + odd) * width * lanes..];
                    for (x, from) in from.chunks_exact(lanes).enumerate() {
                        let to = &mut to[(2 * x + odd) * lanes..][..lanes];
                        for (to, from) in to.iter_mut().zip(from) {
                            *to += from;
                        }
                    }
                }
            }
        }
        Gather::Depthwise { kernel, dilation, stride } => {
            let reach = Padded { height, width, pad: block.gather.padding() };
            let row = reach.row() * lanes;
            let steps = Steps { row, stride: 1, dilation, out: [height, width] };
            let taps = kernel * kernel * lanes;
            assert!(prepared.len() >= block.flipped + block.source_blocks * taps);
            let padded = &mut scratch.padded[..reach.len() * lanes];
            padded.fill(0.0);
            for (channel_block, from) in gradient.chunks_exact(rows * line).enumerate() {
                for (y, from) in from.chunks_exact(line).enumerate() {
                    let place = (reach.pad + stride * y) * row + reach.pad * lanes;
                    if stride == 1 {
                        padded[place..place + line].copy_from_slice(from);
                        continue;
                    }
                    for (x, from) in from.chunks_exact(lanes).enumerate() {
                        let place = place + stride * x * lanes;
                        padded[place..place + lanes].copy_from_slice(from);
                    }
                }
                // SAFETY: `padded` has the border of this kernel, `to` was checked above.
                unsafe {
                    let weights = prepared.as_ptr().add(block.flipped + channel_block * taps);
                    let to = to.as_mut_ptr().add(channel_block * map);
                    if kernel == 3 {
                        tiles::depthwise::<S, 3, true>(simd, padded.as_ptr(), weights, to, steps);
                    } else {
                        tiles::depthwise::<S, 5, true>(simd, padded.as_ptr(), weights, to, steps);
                    }
                }
            }
        }
    }
}

/// Pools all channels of a blocked image.
#[inline(always)]
pub fn pool<S: Simd>(simd: S, plan: &Plan, max: bool, input: &[f32], to: &mut [f32]) {
    let (map, out) = (plan.input_len(), plan.map_len());
    assert!(input.len() >= map && to.len() >= out);
    let blocks = plan.blocks_of[0];
    for block in 0..blocks {
        // SAFETY: sizes are checked above.
        unsafe {
            let input = input.as_ptr().add(block * map / blocks);
            let to = to.as_mut_ptr().add(block * out / blocks);
            if max {
                tiles::pool::<S, true>(simd, input, plan.size, to, plan.out_size, plan.stride);
            } else {
                tiles::pool::<S, false>(simd, input, plan.size, to, plan.out_size, plan.stride);
            }
        }
    }
}

/// Adds the input gradient of [`pool`]; `pooled` is its output.
#[inline(always)]
pub fn pool_backward<S: Simd>(
    simd: S,
    plan: &Plan,
    max: bool,
    input: &[f32],
    [pooled, gradient]: [&[f32]; 2],
    to: &mut [f32],
) {
    let (map, out) = (plan.input_len(), plan.map_len());
    assert!(input.len() >= map && to.len() >= map);
    assert!(pooled.len() >= out && gradient.len() >= out);
    let blocks = plan.blocks_of[0];
    for block in 0..blocks {
        // SAFETY: sizes are checked above.
        unsafe {
            let input = input.as_ptr().add(block * map / blocks);
            let to = to.as_mut_ptr().add(block * map / blocks);
            let at = |from: &[f32]| from.as_ptr().add(block * out / blocks);
            let maps = [at(pooled), at(gradient)];
            let (size, out_size, stride) = (plan.size, plan.out_size, plan.stride);
            if max {
                tiles::pool_backward::<S, true>(simd, input, to, size, maps, out_size, stride);
            } else {
                tiles::pool_backward::<S, false>(simd, input, to, size, maps, out_size, stride);
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

/// Sum of `gradient`, and of `gradient * (map - mean)`, per channel, added to `to`.
#[inline(always)]
pub fn products<S: Simd>(
    simd: S,
    gradient: &[f32],
    map: &[f32],
    mean: &[f32],
    blocks: usize,
    to: [&mut [f32]; 2],
) {
    let lanes = S::F32_LANES;
    let len = map.len() / blocks;
    let [sums, products] = to;
    assert!(mean.len() >= blocks * lanes && gradient.len() >= map.len());
    for block in 0..blocks {
        let range = block * len..(block + 1) * len;
        let zero = simd.splat_f32s(0.0);
        let (mut sum, mut product) = ([zero; 4], [zero; 4]);
        // SAFETY: checked above.
        let mean = unsafe { load::<S>(mean.as_ptr().add(block * lanes)) };
        let gradients = gradient[range.clone()].chunks_exact(4 * lanes);
        let maps = map[range].chunks_exact(4 * lanes);
        let rest =
            gradients.remainder().chunks_exact(lanes).zip(maps.remainder().chunks_exact(lanes));
        for (gradients, values) in gradients.zip(maps) {
            for t in 0..4 {
                // SAFETY: four registers.
                let (gradient, value) = unsafe {
                    let place = t * lanes;
                    (
                        load::<S>(gradients.as_ptr().add(place)),
                        load::<S>(values.as_ptr().add(place)),
                    )
                };
                sum[t] = simd.add_f32s(sum[t], gradient);
                let off = simd.sub_f32s(value, mean);
                product[t] = simd.mul_add_e_f32s(gradient, off, product[t]);
            }
        }
        for (gradient, value) in rest {
            // SAFETY: chunks of one register.
            let (gradient, value) =
                unsafe { (load::<S>(gradient.as_ptr()), load::<S>(value.as_ptr())) };
            sum[0] = simd.add_f32s(sum[0], gradient);
            product[0] = simd.mul_add_e_f32s(gradient, simd.sub_f32s(value, mean), product[0]);
        }
        let places = block * lanes..(block + 1) * lanes;
        // SAFETY: slices of one register.
        unsafe {
            store::<S>(sums[places.clone()].as_mut_ptr(), total::<S>(simd, sum));
            store::<S>(products[places].as_mut_ptr(), total::<S>(simd, product));
        }
    }
}

/// `to = first * gradient + second * map + third` per channel: the backward pass of a batch
/// normalization, applied while it is read.
#[inline(always)]
pub fn linear<S: Simd>(
    simd: S,
    gradient: &[f32],
    map: &[f32],
    coefficients: [&[f32]; 3],
    blocks: usize,
    to: &mut [f32],
) {
    let lanes = S::F32_LANES;
    let len = map.len() / blocks;
    for block in 0..blocks {
        let places = block * lanes..(block + 1) * lanes;
        // SAFETY: slices of one register.
        let [first, second, third] =
            coefficients.map(|each| unsafe { load::<S>(each[places.clone()].as_ptr()) });
        let range = block * len..(block + 1) * len;
        let from =
            gradient[range.clone()].chunks_exact(lanes).zip(map[range.clone()].chunks_exact(lanes));
        for ((gradient, value), to) in from.zip(to[range].chunks_exact_mut(lanes)) {
            // SAFETY: chunks of one register.
            unsafe {
                let sum = simd.mul_add_e_f32s(load::<S>(value.as_ptr()), second, third);
                let sum = simd.mul_add_e_f32s(load::<S>(gradient.as_ptr()), first, sum);
                store::<S>(to.as_mut_ptr(), sum);
            }
        }
    }
}

/// `to += scale * map` per channel; with a start, `to = start + scale * map`, or that added.
#[inline(always)]
pub fn accumulate<S: Simd>(
    simd: S,
    map: &[f32],
    scale: &[f32],
    start: Option<(&[f32], bool)>,
    blocks: usize,
    to: &mut [f32],
) {
    let lanes = S::F32_LANES;
    let len = map.len() / blocks;
    for block in 0..blocks {
        let places = block * lanes..(block + 1) * lanes;
        // SAFETY: slices of one register.
        let scale = unsafe { load::<S>(scale[places.clone()].as_ptr()) };
        // SAFETY: as above.
        let (start, add) = match start {
            Some((start, add)) => (unsafe { load::<S>(start[places].as_ptr()) }, add),
            None => (simd.splat_f32s(0.0), true),
        };
        let range = block * len..(block + 1) * len;
        for (value, to) in
            map[range.clone()].chunks_exact(lanes).zip(to[range].chunks_exact_mut(lanes))
        {
            // SAFETY: chunks of one register.
            unsafe {
                let start = if add { simd.add_f32s(load::<S>(to.as_ptr()), start) } else { start };
                let sum = simd.mul_add_e_f32s(load::<S>(value.as_ptr()), scale, start);
                store::<S>(to.as_mut_ptr(), sum);
            }
        }
    }
}

/// Adds `from` to `to` where `value > 0`; `value` and `to` may be of a map without border.
#[inline(always)]
pub fn add_where_positive<S: Simd>(simd: S, value: &[f32], from: &[f32], to: &mut [f32]) {
    let lanes = S::F32_LANES;
    let zero = simd.splat_f32s(0.0);
    let pairs = value.chunks_exact(lanes).zip(from.chunks_exact(lanes));
    for ((value, from), to) in pairs.zip(to.chunks_exact_mut(lanes)) {
        // SAFETY: chunks of one register.
        unsafe {
            let positive = simd.less_than_f32s(zero, load::<S>(value.as_ptr()));
            let add = simd.select_f32s(positive, load::<S>(from.as_ptr()), zero);
            store::<S>(to.as_mut_ptr(), simd.add_f32s(load::<S>(to.as_ptr()), add));
        }
    }
}

/// Clears `to` where the interior of a padded map is not positive.
#[inline(always)]
pub fn clear_where_zero<S: Simd>(simd: S, padded: &[f32], geometry: Padded, to: &mut [f32]) {
    let lanes = S::F32_LANES;
    let zero = simd.splat_f32s(0.0);
    let (line, row) = (geometry.width * lanes, geometry.row() * lanes);
    let maps = to.chunks_exact_mut(geometry.height * line);
    for (to, padded) in maps.zip(padded.chunks_exact(geometry.len() * lanes)) {
        for (y, to) in to.chunks_exact_mut(line).enumerate() {
            let place = (geometry.pad + y) * row + geometry.pad * lanes;
            let values = padded[place..place + line].chunks_exact(lanes);
            for (to, value) in to.chunks_exact_mut(lanes).zip(values) {
                // SAFETY: chunks of one register.
                unsafe {
                    let positive = simd.less_than_f32s(zero, load::<S>(value.as_ptr()));
                    let kept = simd.select_f32s(positive, load::<S>(to.as_ptr()), zero);
                    store::<S>(to.as_mut_ptr(), kept);
                }
            }
        }
    }
}
