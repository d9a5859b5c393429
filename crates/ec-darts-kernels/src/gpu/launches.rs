//! The launches of a cell: their rows in the table, and the sizes of their buffers.

use std::collections::HashMap;

use super::sums::OF_NORM;
use super::tile::{Chunks, Tile, WeightTile};

/// Rows of one launch in the table.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rows {
    pub first: usize,
    pub count: usize,
}

/// Sources whose gradients one launch computes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sources {
    pub rows: Rows,
    /// Largest height and width, of a part where sources have several.
    pub size: [usize; 2],
    pub channels: usize,
    /// Largest number of parts.
    pub num_parts: usize,
}

/// The source of a pool, its kind and its stride.
pub type PoolKey = (u32, u32, u32);

/// The first normalization behind a pool, and the place of its map among those of all pools.
#[derive(Clone, Copy, Debug)]
pub struct Pooled {
    pub norm: u32,
    pub map: u32,
}

/// A node, or the states behind one or both inputs, and all launches for the edges into it.
#[derive(Debug)]
pub struct Target {
    /// The inputs that its edges read; a node reads states.
    pub inputs_read: Vec<usize>,
    /// Height and width of the states.
    pub size: [usize; 2],
    /// Pools whose moments are needed.
    pub pools: Rows,
    /// Blocks that read a source, and the blocks after them.
    pub blocks: [Rows; 2],
    /// The normalizations after them.
    pub norms: [Rows; 2],
    /// One row per state.
    pub node: Rows,
    pub terms: Rows,
    /// Last blocks, and the first of two blocks; together all blocks with weights, one after the
    /// other.
    pub last: Rows,
    pub first: Rows,
    /// The maps of first blocks of two, and the sources of the edges.
    pub inner_sources: Rows,
    pub sources: Sources,
    /// Number of values of all maps.
    pub maps_len: usize,
    /// Largest number of channels that a block gathers, and that it computes.
    pub inputs: usize,
    pub outputs: usize,
    pub tile: Tile,
    pub weights: WeightTile,
    pub has_depthwise: bool,
    /// Rows of the halo for windows that read a source, and for those after a block.
    pub halos: [usize; 2],
    /// Whether a window has several parts.
    pub has_parts: bool,
    /// Pools that read the inputs, and those that read the target's states.
    pub input_pools: Sources,
    pub state_pools: Sources,
}

/// All launches of a cell at one shape.
#[derive(Debug)]
pub struct Plan {
    pub table: Vec<u32>,
    pub targets: Vec<Target>,
    pub batch: usize,
    pub channels: usize,
    pub num_norms: usize,
    /// Number of values of all states, and of the temporary values of a backward pass after them.
    pub states_len: usize,
    pub scratch_len: usize,
    pub num_coefficients: usize,
    /// Largest number of sources of a target between two blocks.
    pub num_inner_sources: usize,
    /// For each mixing weight, the parts of its gradient.
    pub mixed: Rows,
    /// Shape of the output.
    pub output: [usize; 4],
    /// States for the gradient of the output.
    pub parts: Rows,
    /// Sums of the partial weight gradients, the number of these values, and the largest number in
    /// a sum.
    pub weight_parts: Rows,
    pub partials_len: usize,
    pub largest_part: usize,
    /// All normalizations in order, and the places of their packed statistics.
    pub norms: Rows,
    pub places: usize,
    /// For each packed statistic, its channel among all normalizations; for each normalization, its
    /// number of values per channel.
    pub packed_numbers: usize,
    pub counts: usize,
    pub largest_size: usize,
    /// Pools of states whose map a launch has made.
    pub pooled: HashMap<PoolKey, Pooled>,
    /// Number of values of all these maps.
    pub pooled_len: usize,
    /// Their rows, by the size of the maps.
    pub pools: Vec<([usize; 2], Rows)>,
    /// Whether all quads of inputs and states are whole, also in the parts at stride 2.
    pub whole: bool,
    /// Whether every packed parameter gets its gradient.
    pub covers_parameters: bool,
}

impl Plan {
    /// Number of values of normalizations, coefficients and sums.
    pub fn norms_len(&self) -> usize {
        let entries = (self.num_norms + self.num_coefficients) * OF_NORM;
        let chunks = Chunks::most(self.batch).count;
        (entries + self.num_inner_sources * chunks * 2) * self.channels
    }
}
