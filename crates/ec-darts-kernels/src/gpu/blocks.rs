//! Blocks forward: gather, 1x1 convolution, and the moments of the result, for many branches at once.
//!
//! ```text
//! z[o, p] = sum over q of w[o, q] y[q, p]          y: depthwise convolution, pixel or window of the lifted source
//! ```
//! A unit has a quad of pixels and eight channels of the output in registers; the units of a cube share the quads'
//! gathered values. The windows of the search space are read from tiles ([`super::staged`]).

use cubecl::prelude::*;

use super::moments::{pixels_of, write_moments};
use super::planes::{Four, Plane, Ways, gathered, write_four};
use super::product::{add_product, fetch_pointwise, put_pointwise};
use super::staged::{
    Lift, Places, Planes, Tiles, clear_halo, every, fetch, locate, new_places, put,
};
use super::sums::OF_NORM;
use super::table::{BIAS, NONE, block, gather};
use super::windows::{
    WEIGHTS, correlate_any, fetch_weights, fours_of, put_weights, taps_of, window_at,
};

/// Cubes: tiles, images, branches. In a `pair`, a branch reads one of two inputs. A branch whose windows have parts
/// adds them up before the product.
/// `partials`: `[slot][channel][image][tile]`, sum and sum of squared distances from the tile's
/// mean.
#[cube(launch_unchecked)]
pub fn blocks(
    table: &[u32],
    source: &[f32],
    other: &[f32],
    maps: &mut [f32],
    weights: &[f32],
    norms: &[f32],
    partials: &mut [f32],
    first_row: usize,
    height: usize,
    width: usize,
    channels: usize,
    tiles_x: usize,
    #[comptime] inner: bool,
    #[comptime] pair: bool,
    #[comptime] has_parts: bool,
    #[comptime] moments: bool,
    #[comptime] ways: Ways,
    #[comptime] tiles: Tiles,
    #[comptime] groups: usize,
    #[comptime] vectors: usize,
    #[comptime] at_once: usize,
    #[comptime] tile_len: usize,
) {
    let (columns, rows, chunk) = comptime!((tiles.columns, tiles.rows, tiles.planes));
    let row = first_row + CUBE_POS_Z as usize * block::LEN;
    let way = table[row + block::GATHER];
    let image = CUBE_POS_Y as usize;
    let unit = UNIT_POS_X as usize;
    let group = UNIT_POS_Y as usize;
    let quads = comptime!(columns * rows);
    let threads = comptime!(columns * rows * groups);
    let position = group * quads + unit;
    let tile_x = CUBE_POS_X as usize % tiles_x;
    let tile_y = CUBE_POS_X as usize / tiles_x;
    let of_row = unit / columns;
    let of_column = unit % columns;
    let y = tile_y * rows + of_row;
    let x = (tile_x * columns + of_column) * 4;
    let active = y < height && x < width;
    let first = table[row + block::FIRST] as usize;
    let outputs = table[row + block::OUTPUTS] as usize;
    let out = group * comptime!(4 * vectors);

    let in_height = table[row + block::HEIGHT] as usize;
    let in_width = table[row + block::WIDTH] as usize;
    let in_channels = table[row + block::CHANNELS] as usize;
    let in_size = in_height * in_width;
    let from = table[row + block::SOURCE] as usize + image * in_channels * in_size;
    let stride = table[row + block::STRIDE] as i32;
    let dilation = table[row + block::DILATION];
    let padding = table[row + block::PADDING] as i32 - BIAS as i32;
    let top = y as i32 * stride - padding;
    let left = x as i32 * stride - padding;
    let source_norm = table[row + block::SOURCE_NORM] as usize * channels * OF_NORM;
    let floor = select(table[row + block::RELU] == 1, f32::new(0.0), f32::new(f32::MIN));

    let mut sums = Array::<Four>::new(comptime!(4 * vectors));
    let inputs = table[row + block::INPUTS] as usize;
    let kernel = table[row + block::KERNEL];
    let depthwise = table[row + block::DEPTHWISE] as usize;
    let pointwise = table[row + block::POINTWISE] as usize;
    let staged_way = table[row + block::STAGED];
    let mut staged = false.runtime();
    if comptime!(ways != Ways::Others) {
        staged = staged_way != NONE;
    }
    let mut tile = Shared::<[Four]>::new_slice(tile_len);
    // Those of the channels in turn, and of the next.
    let mut windows = Shared::<[Four]>::new_slice(comptime!(2 * chunk * WEIGHTS));
    let mut values = Shared::<[Four]>::new_slice(comptime!(chunk * columns * rows));
    let mut shared_weights = Shared::<[Four]>::new_slice(comptime!(chunk * groups * vectors));
    let of_tile = table[row + block::TILE_PADDING] as usize;
    let step = table[row + block::STRIDE] as usize;
    let mut parts = 1usize.runtime();
    if has_parts.comptime() {
        parts = table[row + block::PARTS] as usize;
    }
    let mut planes = Planes {
        apart: in_size,
        height: every(in_height, 0usize, step),
        width: every(in_width, 0usize, step),
        row: (step * in_width) as i32,
        step: step as i32,
        top: (tile_y * rows) as i32,
        left: (tile_x * columns * 4) as i32,
        padding: of_tile as i32,
    };
    let lift = comptime!(tiles.with(if inner { Lift::Norm } else { Lift::Relu }));
    let mut fetched = Array::<Four>::new(comptime!(tiles.steps()));
    let mut places = new_places(tiles);
    let mut next_windows = Array::<Four>::new(comptime!(fours_of(chunk, threads)));
    let mut next_weights = Array::<Four>::new(comptime!((chunk * vectors).div_ceil(quads)));
    // The last units bring the windows, because the first bring the weights of 1x1 convolutions.
    let last = comptime!(tiles.units - 1) - position;
    let taps = (kernel * kernel) as usize;
    let is_other = table[row + block::INPUT] == 1;
    if comptime!(ways != Ways::Others) && staged {
        clear_halo(&mut tile, f32::new(0.0), position, tiles);
        locate(&mut places, &planes, position, tiles);
        fetch_of(
            &mut fetched,
            &*maps,
            other,
            source,
            &places,
            from,
            inputs,
            step as i32,
            position,
            is_other,
            inner,
            pair,
            tiles,
        );
        fetch_weights(
            &mut next_windows,
            weights,
            norms,
            depthwise,
            source_norm,
            true,
            inputs,
            &taps_of(table, row, 0usize),
            last,
            false,
            chunk,
            threads,
            inner,
        );
        put_weights(&mut windows, 0usize, &next_windows, last, chunk, threads);
        if inner.comptime() {
            // The tile is lifted by what lies with the windows.
            sync_cube();
        }
    }
    fetch_pointwise(
        &mut next_weights,
        weights,
        pointwise,
        0usize,
        inputs,
        outputs,
        position,
        quads,
        groups,
        vectors,
        chunk,
    );
    let mut window = 0usize;
    let mut first_input = 0usize;
    let mut part = 0usize;
    while first_input < inputs {
        let mut next_part = part + 1;
        let mut next = first_input;
        if next_part == parts {
            next_part = 0;
            next += chunk;
        }
        let other_window = comptime!(chunk * WEIGHTS) - window;
        if comptime!(ways != Ways::Others) && staged {
            put(&mut tile, &fetched, &places, &windows, window, floor, position, lift);
            sync_cube();
            if next < inputs {
                let (down, right) = (next_part / 2, next_part % 2);
                if has_parts.comptime() && parts > 1 {
                    planes.height = every(in_height, down, step);
                    planes.width = every(in_width, right, step);
                    locate(&mut places, &planes, position, tiles);
                }
                let from = from + next * in_size + down * in_width + right;
                let num = inputs - next;
                fetch_of(
                    &mut fetched,
                    &*maps,
                    other,
                    source,
                    &places,
                    from,
                    num,
                    step as i32,
                    position,
                    is_other,
                    inner,
                    pair,
                    tiles,
                );
                let norm = source_norm + next * OF_NORM;
                fetch_weights(
                    &mut next_windows,
                    weights,
                    norms,
                    depthwise + next * taps,
                    norm,
                    true,
                    num,
                    &taps_of(table, row, next_part),
                    last,
                    false,
                    chunk,
                    threads,
                    inner,
                );
            }
        }
        if part == 0 {
            put_pointwise(
                &mut shared_weights,
                &next_weights,
                position,
                quads,
                groups,
                vectors,
                chunk,
            );
            fetch_pointwise(
                &mut next_weights,
                weights,
                pointwise,
                first_input + chunk,
                inputs,
                outputs,
                position,
                quads,
                groups,
                vectors,
                chunk,
            );
        }
        let mut channel = group;
        while channel < chunk {
            let input = first_input + channel;
            let mut value = Four::new(0.0);
            if comptime!(ways != Ways::Others) && staged {
                let at = window_at(channel, of_row, of_column, of_tile, tiles);
                let window = window + channel * WEIGHTS;
                let pitch = comptime!(tiles.pitch());
                value = correlate_any(&tile, at, &windows, window, staged_way, pitch);
                if has_parts.comptime() && part > 0 {
                    value += values[channel * quads + unit];
                }
            }
            if !staged && active && input < inputs {
                let of = select(way == gather::WINDOW, input / 9, input);
                let mut scale = f32::new(1.0);
                let mut shift = f32::new(0.0);
                if inner.comptime() {
                    let norm = source_norm + of * OF_NORM;
                    scale = norms[norm + 2];
                    shift = norms[norm + 3];
                }
                let plane = Plane {
                    first: from + of * in_size,
                    height: in_height as i32,
                    width: in_width as i32,
                    scale,
                    shift,
                    floor,
                };
                if inner.comptime() {
                    value = gathered(
                        &*maps,
                        &plane,
                        top,
                        left,
                        weights,
                        way,
                        kernel,
                        dilation,
                        stride,
                        depthwise,
                        input,
                        Ways::Depthwise,
                    );
                } else if pair.comptime() && table[row + block::INPUT] == 1 {
                    value = gathered(
                        other, &plane, top, left, weights, way, kernel, dilation, stride,
                        depthwise, input, ways,
                    );
                } else {
                    value = gathered(
                        source, &plane, top, left, weights, way, kernel, dilation, stride,
                        depthwise, input, ways,
                    );
                }
            }
            values[channel * quads + unit] = value;
            channel += groups;
        }
        if comptime!(ways != Ways::Others) && staged {
            // Their place was read before the last product.
            put_weights(&mut windows, other_window, &next_windows, last, chunk, threads);
        }
        sync_cube();
        if next_part == 0 {
            add_product(&mut sums, &values, &shared_weights, quads, groups, vectors, chunk);
        }
        // With tiles, the barrier after `put` separates this product from the next writes.
        if !staged {
            sync_cube();
        }
        window = other_window;
        first_input = next;
        part = next_part;
    }
    let to = table[row + block::MAP] as usize + (image * channels + first) * height * width;
    if active {
        #[unroll]
        for lane in 0..comptime!(4 * vectors) {
            let channel = out + lane;
            if channel < outputs {
                let to = to + channel * height * width + y * width + x;
                let mut four = Four::new(0.0);
                #[unroll]
                for pixel in 0..4usize {
                    four.insert(pixel, sums[pixel * vectors + lane / 4].extract(lane % 4));
                }
                write_four(maps, to, four, width - x, comptime!(tiles.access));
            }
        }
    }
    if moments.comptime() {
        // The tile takes the sums.
        sync_cube();
        write_moments(
            partials,
            &mut tile,
            &sums,
            table[row + block::SLOT] as usize * channels + first,
            outputs,
            image,
            pixels_of(tile_x, tile_y, height, width, columns, rows),
            select(active, min(width - min(x, width), 4), 0usize),
            quads,
            threads,
            vectors,
            at_once,
        );
    }
}

/// [`fetch`] from the branch's source.
#[cube]
fn fetch_of(
    fetched: &mut Array<Four>,
    maps: &[f32],
    other: &[f32],
    source: &[f32],
    places: &Places,
    first: usize,
    num: usize,
    step: i32,
    position: usize,
    is_other: bool,
    #[comptime] inner: bool,
    #[comptime] pair: bool,
    #[comptime] tiles: Tiles,
) {
    let zero = f32::new(0.0);
    if inner.comptime() {
        fetch(fetched, maps, places, first, num, step, zero, position, tiles);
    } else if pair.comptime() && is_other {
        fetch(fetched, other, places, first, num, step, zero, position, tiles);
    } else {
        fetch(fetched, source, places, first, num, step, zero, position, tiles);
    }
}
