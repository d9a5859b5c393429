//! The division of work among cubes: tiles of a map, weights of a convolution.

/// The division of work in a cube of [`super::blocks`].
#[derive(Clone, Copy, Debug)]
pub struct Tile {
    pub quads: usize,
    pub groups: usize,
    pub vectors: usize,
    /// Number of vectors whose moments are added at once.
    pub at_once: usize,
}

/// Limit of the bytes of a cube's values: the default of WebGPU.
const SHARED_BYTES: usize = 16 << 10;

/// Number of units of a cube: the default of WebGPU.
const UNITS: usize = 256;

impl Tile {
    /// The division for maps of `size` and this number of channels.
    pub fn new([height, width]: [usize; 2], channels: usize) -> Self {
        let groups = channels.div_ceil(16);
        let vectors = channels.div_ceil(groups).div_ceil(4);
        let mut quads = (height.div_ceil(4) * width).next_power_of_two().min(64);
        while quads > 16 && quads * groups > UNITS / 2 {
            quads /= 2;
        }
        let four = 4 * size_of::<f32>();
        let shared = super::blocks::CHUNK * (quads + groups * vectors) * four;
        let fits = |at_once: &usize| {
            vectors.is_multiple_of(*at_once)
                && shared + at_once * quads * groups * four <= SHARED_BYTES
        };
        let at_once = (1..=vectors).rev().find(fits).unwrap_or(1);
        Self { quads, groups, vectors, at_once }
    }

    /// The division for products of this number of channels, with as many cubes side by side as
    /// needed.
    pub fn of_products(size: [usize; 2], channels: usize) -> Self {
        Self::new(size, channels.min(64))
    }

    /// Number of tiles of a map.
    pub fn count(&self, [height, width]: [usize; 2]) -> usize {
        (height.div_ceil(4) * width).div_ceil(self.quads)
    }
}

/// The division of work in a cube of weight gradients: fours of outputs and inputs, and units that share a weight.
#[derive(Clone, Copy, Debug)]
pub struct WeightTile {
    pub outputs: usize,
    pub inputs: usize,
    pub splits: usize,
    pub quads: usize,
    /// Number of chunks of images, and number of images of each.
    pub chunks: usize,
    pub images: usize,
}

impl WeightTile {
    pub fn new(outputs: usize, inputs: usize, batch: usize) -> Self {
        let [outputs, inputs] = [outputs, inputs].map(|channels| channels.div_ceil(4).min(16));
        let room = SHARED_BYTES * 5 / 8 / size_of::<f32>() / (4 * (outputs + inputs));
        // A power of two, so that splits share pixels evenly.
        let quads = (room / 4 + 1).next_power_of_two() / 2;
        let quads = quads.clamp(1, 16);
        // A power of two as well: their sums are added in pairs.
        let splits = (UNITS / (outputs * inputs) + 1).next_power_of_two() / 2;
        let splits = splits.clamp(1, quads);
        let (chunks, images) = chunks(batch);
        Self { outputs, inputs, splits, quads, chunks, images }
    }
}

/// Number of chunks of images whose sums are made in parallel, and number of images of each.
pub fn chunks(batch: usize) -> (usize, usize) {
    let images = batch.div_ceil(16);
    (batch.div_ceil(images), images)
}
