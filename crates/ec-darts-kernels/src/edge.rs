//! What the fused kernels are told: the operations, widths and stride of an edge, the edges of a cell.

/// One operation of an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EdgeOperation {
    /// The input itself; only at stride 1.
    Identity,
    /// 3x3 maximum over the pixels that are there.
    MaxPool {
        /// Whether batch normalization follows.
        norm: bool,
    },
    /// 3x3 mean over the pixels that are there.
    AvgPool {
        /// Whether batch normalization follows.
        norm: bool,
    },
    /// ReLU, 1x1 convolution, batch normalization; only at stride 1.
    Pointwise,
    /// 3x3 convolution with a border of one, batch normalization; only by itself.
    Convolution {
        /// Whether a ReLU stands before it.
        relu: bool,
    },
    /// ReLU, two 1x1 convolutions of stride 2, one pixel apart, batch normalization.
    FactorizedReduce,
    /// ReLU, depthwise convolution, 1x1 convolution, batch normalization.
    Separable {
        /// Side of the depthwise kernel, 3 or 5.
        kernel: usize,
        /// Pixels between two taps.
        dilation: usize,
        /// How often the block is repeated, 1 or 2; only the first has the stride.
        repeats: usize,
    },
}

impl EdgeOperation {
    /// Batch normalizations of the operation.
    pub fn num_norms(self) -> usize {
        match self {
            Self::Identity => 0,
            Self::MaxPool { norm } | Self::AvgPool { norm } => usize::from(norm),
            Self::Pointwise | Self::Convolution { .. } | Self::FactorizedReduce => 1,
            Self::Separable { repeats, .. } => repeats,
        }
    }
}

/// The operations of one edge.
///
/// Parameters are packed into one vector, in the order of the operations; each contributes its
/// weights in the layout of Burn (`[out, in, height, width]`), block by block, and behind each
/// block `gamma` and `beta` where the batch normalization is affine. A factorized reduction
/// contributes both its convolutions first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// In the order of the mixing weights.
    pub operations: Vec<EdgeOperation>,
    /// Channels in and out; they differ only where no operation needs them alike.
    pub channels: [usize; 2],
    /// Pixels between two outputs.
    pub stride: usize,
    /// Whether batch normalization has scale and shift.
    pub affine: bool,
}

/// Edges between states, computed as one.
///
/// A state is what an input's own edge makes of it, or a node: the sum of its edges. States are
/// numbered in this order, and all have the same channels. Parameters, mixing weights and
/// statistics of the edges follow one another in the order of their targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The edge behind each input.
    pub inputs: Vec<Edge>,
    /// Into each node: the states that are read, and the edges.
    pub nodes: Vec<Vec<(usize, Edge)>>,
    /// The states whose channels are joined in the output, each once.
    pub concat: Vec<usize>,
}

impl From<Edge> for Cell {
    /// One edge by itself.
    fn from(edge: Edge) -> Self {
        Self { inputs: vec![edge], nodes: Vec::new(), concat: vec![0] }
    }
}

/// What a fused cell keeps for its backward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Memory {
    /// Its states, and the maps before each batch normalization.
    #[default]
    Save,
    /// Its states only; the maps of the edges into a node are computed again in the backward pass.
    Recompute,
}
