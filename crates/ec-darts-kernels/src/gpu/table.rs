//! Tables of offsets that describe the branches of a launch: data, never compiled.

/// No entry.
pub const NONE: u32 = u32::MAX;

/// The offset of a padding, which may be negative.
pub const BIAS: usize = 8;

/// Columns of a block: a convolution with its gather before and its normalization after it, or a
/// pool whose map and moments are needed.
pub mod block {
    /// One of [`super::gather`].
    pub const GATHER: usize = 0;
    /// Place of the source's first value.
    pub const SOURCE: usize = 1;
    /// Channels of the source.
    pub const CHANNELS: usize = 2;
    pub const HEIGHT: usize = 3;
    pub const WIDTH: usize = 4;
    /// Distance of the input pixels of two neighbouring outputs.
    pub const STRIDE: usize = 5;
    pub const KERNEL: usize = 6;
    pub const DILATION: usize = 7;
    /// Number of rows and columns by which the first window begins before the source, plus
    /// [`super::BIAS`].
    pub const PADDING: usize = 8;
    /// Places of its weights.
    pub const DEPTHWISE: usize = 9;
    pub const POINTWISE: usize = 10;
    /// Channels that the 1x1 convolution reads, and channels that it computes.
    pub const INPUTS: usize = 11;
    pub const OUTPUTS: usize = 12;
    /// Place of its map, none for a pool of an input, and the channel of the map for its first output.
    pub const MAP: usize = 13;
    pub const FIRST: usize = 14;
    /// Its normalization, among those of the launch.
    pub const SLOT: usize = 15;
    /// The normalization of its source, if it has one.
    pub const SOURCE_NORM: usize = 16;
    /// Whether a ReLU comes before it.
    pub const RELU: usize = 17;
    /// Place of the gradient at its normalization.
    pub const GRADIENT: usize = 18;
    /// Number of its coefficients.
    pub const COEFFICIENTS: usize = 19;
    /// Number of its mixing weight, where the gradient is a node's.
    pub const MIXING: usize = 20;
    /// Place of the gradient of the gathered values, and later of the values themselves (`depthwise_gradients`).
    pub const GATHERED: usize = 21;
    /// Places of its partial weight gradients.
    pub const POINTWISE_PARTIALS: usize = 22;
    pub const DEPTHWISE_PARTIALS: usize = 23;
    /// Its normalization, and the place of gamma, if there is one.
    pub const NORM: usize = 24;
    pub const GAMMA: usize = 25;
    /// The number of the sums for its coefficients, if these do not exist yet.
    pub const SUMS: usize = 26;
    /// The input that it reads, of two.
    pub const INPUT: usize = 27;
    /// One of [`super::window`], where its windows are read from tiles, and their padding there.
    pub const STAGED: usize = 28;
    pub const TILE_PADDING: usize = 29;
    /// Number of parts of a window, each in a part of the source: every other row and column, at stride 2.
    pub const PARTS: usize = 30;
    pub const LEN: usize = 31;
}

/// The way a block gathers its source before the 1x1 convolution.
pub mod gather {
    pub const DEPTHWISE: u32 = 0;
    /// One pixel of each window.
    pub const PIXEL: u32 = 1;
    /// Every pixel of a 3x3 window as a separate channel.
    pub const WINDOW: u32 = 2;
    pub const MAX_POOL: u32 = 3;
    pub const MEAN_POOL: u32 = 4;
}

/// Windows of tiles that are compiled: those of the search space at stride 1. At stride 2 a dilated window has its
/// rows in every other row of the source, and is one of the first two there; others are four parts within `OF_3`.
pub mod window {
    pub const OF_3: u32 = 0;
    pub const OF_5: u32 = 1;
    /// With dilation 2.
    pub const WIDE_OF_3: u32 = 2;
    pub const WIDE_OF_5: u32 = 3;
}

/// Columns of a node: a sum of terms.
pub mod node {
    pub const NUM_TERMS: usize = 0;
    /// Place of the first term in the table.
    pub const TERMS: usize = 1;
    /// Place of the state.
    pub const STATE: usize = 2;
    /// Channel of the output for its first channel, if it is joined there.
    pub const OUTPUT: usize = 3;
    /// Number of its terms with maps, which come first.
    pub const NUM_MAPS: usize = 4;
    pub const LEN: usize = 5;
}

/// Columns of a term of a node's sum.
pub mod term {
    /// One of [`super::kind`].
    pub const KIND: usize = 0;
    /// Place of the map, or of the source of a pool or an identity; for `POOLED` that among all pools' maps.
    pub const VALUE: usize = 1;
    pub const HEIGHT: usize = 2;
    pub const WIDTH: usize = 3;
    pub const STRIDE: usize = 4;
    /// Its normalization, if it has one.
    pub const NORM: usize = 5;
    pub const MIXING: usize = 6;
    /// Place of the node's gradient, and the number of the term's coefficients.
    pub const GRADIENT: usize = 7;
    pub const COEFFICIENTS: usize = 8;
    /// Place of gamma, if there is one.
    pub const GAMMA: usize = 9;
    /// Height and width of its map.
    pub const TO_HEIGHT: usize = 10;
    pub const TO_WIDTH: usize = 11;
    /// Number of pools of one kind and shape from this one on, among those that read a source.
    pub const ALIKE: usize = 12;
    pub const LEN: usize = 13;
}

/// Kinds of terms.
pub mod kind {
    pub const IDENTITY: u32 = 0;
    pub const MAX_POOL: u32 = 1;
    pub const MEAN_POOL: u32 = 2;
    pub const MAP: u32 = 3;
    /// A pool whose map another launch has made, for all nodes that read its source.
    pub const POOLED: u32 = 4;
}

/// Columns of a mixing weight.
pub mod mixed {
    /// Number of its term's coefficients.
    pub const COEFFICIENTS: usize = 0;
    /// The input before its term, if the term reads one.
    pub const INPUT: usize = 1;
    pub const LEN: usize = 2;
}

/// Columns of a normalization whose moments are complete.
pub mod norm {
    pub const NORM: usize = 0;
    /// Place of gamma, if there is one.
    pub const GAMMA: usize = 1;
    /// The normalization of an earlier launch that has the same moments, if there is one.
    pub const ALIKE: usize = 2;
    pub const LEN: usize = 3;
}

/// Columns of a source whose gradients are computed.
pub mod source {
    pub const PLACE: usize = 0;
    pub const HEIGHT: usize = 1;
    pub const WIDTH: usize = 2;
    /// Place of its gradient.
    pub const GRADIENT: usize = 3;
    /// Number of blocks that read it, and the places of the numbers of their rows.
    pub const NUM_BLOCKS: usize = 4;
    pub const BLOCKS: usize = 5;
    /// Number of terms that read it without weights, and the place of the first: identities in `sources`, pools in
    /// `pools_back`.
    pub const NUM_TERMS: usize = 6;
    pub const TERMS: usize = 7;
    /// The normalization of a source between two blocks.
    pub const NORM: usize = 8;
    pub const CHANNELS: usize = 9;
    /// The number of the input, of two.
    pub const INPUT: usize = 10;
    /// Distance of the rows and columns of its parts: 2 where all edges that read it have stride 2.
    pub const SPLIT: usize = 11;
    /// Number of blocks, from the first on, that read parts beside the first.
    pub const NUM_SPLIT: usize = 12;
    pub const LEN: usize = 13;
}

/// Columns of a sum of partial gradients.
pub mod part {
    pub const FROM: usize = 0;
    pub const NUM: usize = 1;
    pub const SIZE: usize = 2;
    pub const TO: usize = 3;
    pub const LEN: usize = 4;
}
