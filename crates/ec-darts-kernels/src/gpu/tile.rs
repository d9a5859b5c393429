//! The division of work among cubes: tiles of a map, weights of a convolution.

use super::planes::Access;
use super::pools_back::windows_of;
use super::staged::{HALO, Lift, Tiles, pitch};
use super::taps::{FOURS, LAST_UNITS};
use super::windows::WEIGHTS;

/// The division of work in a cube of [`super::blocks`]: a tile of columns of quads and of rows, and
/// groups of output channels.
#[derive(Clone, Copy, Debug)]
pub struct Tile {
    pub columns: usize,
    pub rows: usize,
    pub groups: usize,
    pub vectors: usize,
    /// Number of channels gathered at a time.
    pub chunk: usize,
    /// Number of vectors whose moments are added at once.
    pub at_once: usize,
}

/// Limit of the bytes of a cube's values: the default of WebGPU.
const SHARED_BYTES: usize = 16 << 10;

/// Largest number of fours in shared memory.
const ROOM: usize = SHARED_BYTES / (4 * size_of::<f32>());

/// Channels of the output that a unit computes for its quad. Sixteen leave too few registers for
/// other units, and latency limits these kernels.
const OUTPUTS: usize = 8;

/// Number of units of a cube: the default of WebGPU.
const MOST_UNITS: usize = 256;

impl Tile {
    /// The division for maps of `size` and this number of channels.
    pub fn new([height, width]: [usize; 2], channels: usize) -> Self {
        let groups = channels.div_ceil(OUTPUTS).min(16);
        let vectors = channels.div_ceil(groups).div_ceil(4);
        let columns = evenly(width.div_ceil(4), (MOST_UNITS / groups).min(8));
        let rows = evenly(height, (MOST_UNITS / 2 / groups / columns).max(1));
        let tile = Self { columns, rows, groups, vectors, chunk: 1, at_once: 1 };
        // A power of two, so that groups gather equally many channels.
        let mut chunks = [8, 4, 2, 1].into_iter().filter(|chunk| *chunk <= groups.clamp(4, 8));
        let fits = |chunk: &usize| Self { chunk: *chunk, ..tile }.shared_len() <= ROOM;
        let chunk = chunks.find(fits).expect("a channel fits");
        let fits = |at_once: &usize| {
            let tile = Self { chunk, at_once: *at_once, ..tile };
            vectors.is_multiple_of(*at_once) && tile.shared_len() <= ROOM
        };
        let at_once = (1..=vectors).rev().find(fits).expect("a vector fits");
        Self { chunk, at_once, ..tile }
    }

    /// The division for products of this number of channels, with as many cubes side by side as
    /// needed.
    pub fn of_products(size: [usize; 2], channels: usize) -> Self {
        let tile = Self::new(size, channels.min(64));
        Self { chunk: tile.groups.clamp(4, 8), ..tile }
    }

    pub fn quads(&self) -> usize {
        self.columns * self.rows
    }

    /// The tiles of a cube's channels.
    pub fn tiles(&self, size: [usize; 2], halo: usize, access: Access) -> Tiles {
        let Self { columns, rows, groups, chunk, .. } = *self;
        tiles_of([columns, rows, chunk], halo, self.quads() * groups, size, access)
    }

    /// Number of tiles side by side, and below each other.
    pub fn counts(&self, [height, width]: [usize; 2]) -> [usize; 2] {
        [width.div_ceil(4 * self.columns), height.div_ceil(self.rows)]
    }

    /// Number of fours of the tiles of a cube's channels where these are `staged`, and of what is added up after them.
    pub fn tile_len(&self, staged: bool, halo: usize) -> usize {
        let tiles = self.chunk * (self.rows + 2 * halo) * pitch(self.columns);
        let sums = self.at_once * self.quads() * self.groups;
        if staged { tiles.max(sums) } else { sums }
    }

    /// Number of fours in shared memory.
    fn shared_len(&self) -> usize {
        let weights = self.groups * self.vectors + 2 * WEIGHTS;
        self.tile_len(true, HALO) + self.chunk * (self.quads() + weights)
    }
}

fn tiles_of(
    [columns, rows, planes]: [usize; 3],
    halo: usize,
    units: usize,
    [height, width]: [usize; 2],
    access: Access,
) -> Tiles {
    let (wide, tall) = (4 * columns >= width, rows >= height);
    Tiles { columns, rows, planes, halo, units, wide, tall, lift: Lift::None, access }
}

/// The largest number of equal parts that are at most this large.
fn evenly(count: usize, most: usize) -> usize {
    count.div_ceil(count.div_ceil(most))
}

/// The division of work in a cube of weight gradients: fours of outputs and inputs, and units that share a weight.
#[derive(Clone, Copy, Debug)]
pub struct WeightTile {
    pub outputs: usize,
    pub inputs: usize,
    pub splits: usize,
    pub quads: usize,
    pub pointwise: Chunks,
    pub staged: Staged,
    pub depthwise: Chunks,
}

impl WeightTile {
    pub fn new(outputs: usize, inputs: usize, batch: usize, size: [usize; 2]) -> Self {
        let [outputs, inputs] = [outputs, inputs].map(|channels| channels.div_ceil(4).min(16));
        let room = SHARED_BYTES * 5 / 8 / size_of::<f32>() / (4 * (outputs + inputs));
        // A power of two, so that splits share pixels evenly.
        let quads = (room / 4 + 1).next_power_of_two() / 2;
        let quads = quads.clamp(1, 16);
        // A power of two as well: their sums are added in pairs.
        let splits = (MOST_UNITS / (outputs * inputs) + 1).next_power_of_two() / 2;
        let splits = splits.clamp(1, quads);
        let staged = Staged::new(size, batch);
        // Long sums for each cube of a depthwise convolution, because it adds up those of all its units at the end.
        let depthwise = Chunks::of(batch, (4 * staged.images).min(batch));
        let pointwise = Chunks::of(batch, batch.div_ceil(64));
        Self { outputs, inputs, splits, quads, pointwise, staged, depthwise }
    }
}

/// A tile of [`super::staged`]: columns of quads, rows, and images.
#[derive(Clone, Copy, Debug)]
pub struct Staged {
    pub columns: usize,
    pub rows: usize,
    pub images: usize,
}

impl Staged {
    pub fn new([height, width]: [usize; 2], batch: usize) -> Self {
        let columns = evenly(width.div_ceil(4), 8);
        let rows = evenly(height, (MOST_UNITS / columns).min(64));
        let of_image = Self { columns, rows, images: 1 };
        let images = MOST_UNITS / (columns * rows);
        // Sums of all units and windows lie beside the tile.
        let room = ROOM - MOST_UNITS / 4 - 2 * WEIGHTS;
        let images = images.min(room / of_image.quads()).min(batch).max(1);
        // A power of two, so that equal chunks of images have no rest.
        Self { images: 1 << images.ilog2(), ..of_image }
    }

    pub fn units(&self) -> usize {
        self.columns * self.rows * self.images
    }

    /// The tiles of a cube's images.
    pub fn tiles(&self, size: [usize; 2], halo: usize, access: Access) -> Tiles {
        let Self { columns, rows, images } = *self;
        tiles_of([columns, rows, images], halo, self.units(), size, access)
    }

    /// A smaller tile, beside which there is room for two of the windows.
    pub fn of_pools(size: [usize; 2], batch: usize) -> Self {
        let Self { columns, rows, images } = Self::new(size, batch);
        let rows = evenly(rows, 16);
        let of_image = Self { columns, rows, images: 1 };
        let quads = of_image.quads() + 2 * windows_of(of_image.tiles(size, 2, Access::Pixels));
        Self { images: images.min(1 << (ROOM / quads).ilog2()), ..of_image }
    }

    /// Number of tiles of a map.
    pub fn count(&self, [height, width]: [usize; 2]) -> usize {
        width.div_ceil(4 * self.columns) * height.div_ceil(self.rows)
    }

    /// Number of quads in shared memory, with the halo.
    fn quads(&self) -> usize {
        self.images * (self.rows + 2 * HALO) * pitch(self.columns)
    }

    /// Number of quads that fit the tile, and later the sums of the units.
    pub fn shared(&self) -> usize {
        let of_sums = FOURS * (self.units().next_power_of_two() / 2).max(LAST_UNITS);
        self.quads().max(of_sums)
    }
}

/// Chunks of images whose sums are made in parallel.
#[derive(Clone, Copy, Debug)]
pub struct Chunks {
    pub count: usize,
    /// Number of images of each.
    pub images: usize,
}

impl Chunks {
    /// At most sixteen chunks.
    pub fn most(batch: usize) -> Self {
        Self::of(batch, batch.div_ceil(16))
    }

    /// Fewer for small maps: a unit adds up several quads before the units of a cube add their sums.
    pub fn new(batch: usize, [height, width]: [usize; 2]) -> Self {
        let quads = height * width.div_ceil(4);
        Self::of(batch, batch.div_ceil(16).max(MOST_UNITS / quads).min(batch))
    }

    pub fn of(batch: usize, images: usize) -> Self {
        Self { count: batch.div_ceil(images), images }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// WebGPU's defaults hold for all channels that the kernels serve.
    #[test]
    fn cubes_stay_within_the_limits() {
        let four = 4 * size_of::<f32>();
        for channels in 1..=256 {
            for size in [[1, 1], [3, 5], [4, 4], [8, 8], [7, 14], [16, 16], [32, 32], [112, 112]] {
                let tile = Tile::new(size, channels);
                let units = tile.quads() * tile.groups;
                let outputs = 4 * tile.groups * tile.vectors;
                assert!(units <= MOST_UNITS && outputs >= channels, "{tile:?}");
                assert!(tile.shared_len() <= ROOM, "{channels} channels, {size:?}: {tile:?}");
                let tile = Tile::of_products(size, channels);
                let values = tile.chunk * (tile.quads() + tile.groups * tile.vectors) * four;
                let lines = 3 * super::super::backward::MOST_CHANNELS * size_of::<f32>();
                assert!(values + lines <= SHARED_BYTES, "{channels} channels, {size:?}: {tile:?}");
            }
            for inputs in [3, 16, 48, 64, 256, 2304] {
                let tile = WeightTile::new(channels, inputs, 64, [8, 8]);
                let units = tile.outputs * tile.inputs * tile.splits;
                let values = (tile.quads + 1) * 4 * (tile.outputs + tile.inputs) + units;
                let lines = 4 * tile.outputs * 3 * size_of::<f32>();
                assert!(
                    units <= MOST_UNITS && values * four + lines <= SHARED_BYTES,
                    "{channels}: {tile:?}"
                );
            }
        }
    }

    /// All that a cube shares beside its tiles counts too.
    #[test]
    fn tiles_of_all_sizes_stay_within_the_limits() {
        for height in [1, 2, 3, 4, 5, 7, 8, 13, 16, 31, 32, 33, 64, 112] {
            for width in [1, 2, 3, 5, 7, 8, 13, 16, 31, 32, 33, 64, 112, 129] {
                for batch in [1, 2, 9, 64, 500] {
                    let tile = Staged::new([height, width], batch);
                    let tiles = tile.tiles([height, width], HALO, Access::Vectors);
                    let of_weights = tile.shared() + 4 * WEIGHTS;
                    let of_sources = tiles.len() + 2 * WEIGHTS + tile.units().div_ceil(4);
                    assert!(
                        tile.units() <= MOST_UNITS && of_weights.max(of_sources) <= ROOM,
                        "{tile:?}"
                    );
                    let tile = Staged::of_pools([height, width], batch);
                    let tiles = tile.tiles([height, width], HALO, Access::Vectors);
                    let of_pools = tiles.len() + 2 * tile.images * windows_of(tiles);
                    assert!(tile.units() <= MOST_UNITS && of_pools <= ROOM, "{tile:?}");
                }
            }
        }
    }
}
