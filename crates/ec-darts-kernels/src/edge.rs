//! The description of a cell: the operations, widths and stride of each edge, the edges into each node, and
//! the places of each edge's values among the packed ones.

use std::ops::Range;

/// One operation of an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EdgeOperation {
    /// The input itself; only at stride 1.
    Identity,
    /// 3x3 maximum over the pixels inside the map.
    MaxPool {
        /// Whether batch normalization follows.
        norm: bool,
    },
    /// 3x3 mean over the pixels inside the map.
    AvgPool {
        /// Whether batch normalization follows.
        norm: bool,
    },
    /// ReLU, 1x1 convolution, batch normalization; the fused kernels support it at stride 1.
    Pointwise,
    /// 3x3 convolution with a border of one, batch normalization; only alone on an edge.
    Convolution {
        /// Whether a ReLU comes before it.
        relu: bool,
    },
    /// ReLU, two 1x1 convolutions of stride 2, one pixel apart, batch normalization.
    FactorizedReduce,
    /// ReLU, depthwise convolution, 1x1 convolution, batch normalization.
    Separable {
        /// Side of the depthwise kernel, 3 or 5.
        kernel: usize,
        /// Distance between two taps, in pixels.
        dilation: usize,
        /// Number of blocks; only the first has the stride.
        repeats: usize,
    },
}

impl EdgeOperation {
    /// Shapes of the weights of each block, `[out, in, height, width]`; a batch normalization
    /// follows each block.
    ///
    /// `channels` are those of input and output.
    pub fn blocks(self, [from, to]: [usize; 2]) -> Vec<Vec<[usize; 4]>> {
        match self {
            Self::Identity | Self::MaxPool { norm: false } | Self::AvgPool { norm: false } => {
                vec![]
            }
            Self::MaxPool { norm: true } | Self::AvgPool { norm: true } => vec![vec![]],
            Self::Pointwise => vec![vec![[to, from, 1, 1]]],
            Self::Convolution { .. } => vec![vec![[to, from, 3, 3]]],
            Self::FactorizedReduce => vec![vec![[to / 2, from, 1, 1]; 2]],
            Self::Separable { kernel, repeats, .. } => {
                vec![vec![[from, 1, kernel, kernel], [to, from, 1, 1]]; repeats]
            }
        }
    }

    /// Number of batch normalizations of the operation.
    pub fn num_norms(self) -> usize {
        match self {
            Self::Identity => 0,
            Self::MaxPool { norm } | Self::AvgPool { norm } => usize::from(norm),
            Self::Pointwise | Self::Convolution { .. } | Self::FactorizedReduce => 1,
            Self::Separable { repeats, .. } => repeats,
        }
    }

    /// Number of values of its weights, and of scales and shifts where batch normalization is
    /// affine.
    pub fn num_parameters(self, channels: [usize; 2], affine: bool) -> usize {
        let weights = self.blocks(channels).into_iter().flatten();
        let weights: usize = weights.map(|shape| shape.iter().product::<usize>()).sum();
        weights + usize::from(affine) * 2 * channels[1] * self.num_norms()
    }
}

/// The operations of one edge.
///
/// Its parameters are contiguous among the packed ones of the cell, in the order of the operations.
/// Each operation has its weights in the layout of Burn (`[out, in, height, width]`), block by
/// block as in [`EdgeOperation::blocks`], and after each block `gamma` and `beta` where the batch
/// normalization is affine. Its running statistics are contiguous too, `[norm][channel]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Edge {
    /// The operations in the order of the mixing weights.
    pub operations: Vec<EdgeOperation>,
    /// Channels of input and output; they differ only where no operation needs them to be equal.
    pub channels: [usize; 2],
    /// Distance of the input pixels of two neighbouring outputs.
    pub stride: usize,
    /// Whether batch normalization has scale and shift.
    pub affine: bool,
    /// Place of its first value among the packed parameters of the cell.
    pub parameters: usize,
    /// Place of its first value among the packed statistics of the cell.
    pub statistics: usize,
}

impl Edge {
    /// Number of values of all its operations among the packed parameters.
    pub fn num_parameters(&self) -> usize {
        let operations = self.operations.iter();
        operations.map(|each| each.num_parameters(self.channels, self.affine)).sum()
    }

    /// Number of values of all its batch normalizations among the packed means; the variances have
    /// the same number.
    pub fn num_statistics(&self) -> usize {
        self.operations.iter().map(|each| each.num_norms()).sum::<usize>() * self.channels[1]
    }

    /// Its range of the packed parameters.
    pub fn parameter_range(&self) -> Range<usize> {
        self.parameters..self.parameters + self.num_parameters()
    }

    /// Its range of the packed statistics.
    pub fn statistic_range(&self) -> Range<usize> {
        self.statistics..self.statistics + self.num_statistics()
    }
}

/// Edges between states, computed together.
///
/// A state is the output of an input's own edge, or a node: the sum of its edges. States are
/// numbered in this order, and all have the same number of channels. Mixing weights of the edges
/// follow one another in the order of their targets. Parameters and statistics are at the places of
/// each edge, without overlaps; they need not cover the packed values, of which a cell may use a
/// part.
///
/// In a cell of several parts, an edge into a node applies its operations to the first part of the
/// channels that it reads; the other channels bypass them. Its last mixing weight is that of the
/// bypassing channels:
/// ```text
/// node = shuffle(join(sum over e, o of mixing[e, o] o(x[e][first part]),
///                     sum over e of mixing[e, last] around(x[e][other parts])))
/// ```
/// `around` is the identity, at stride 2 the maximum of 2x2 pixels. `shuffle` takes one channel of
/// each part in turn.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cell {
    /// The edge behind each input.
    pub inputs: Vec<Edge>,
    /// For each node, the states that it reads, and the edges.
    pub nodes: Vec<Vec<(usize, Edge)>>,
    /// The states whose channels are joined in the output, each once.
    pub concat: Vec<usize>,
    /// Whether the mixing weights of the inputs' own edges are constants. Their gradient is then
    /// left zero where no other gradient behind an input is needed, which saves that part of the
    /// backward pass.
    pub fixed_inputs: bool,
    /// Number of equal parts of the channels of a state. With more than one, the edges into nodes
    /// have the channels of the first part, and may have no operation.
    pub parts: usize,
}

impl Cell {
    /// All edges in the order of their targets.
    pub fn edges(&self) -> impl Iterator<Item = &Edge> {
        self.inputs.iter().chain(self.nodes.iter().flatten().map(|(_, edge)| edge))
    }

    /// Gives the edges places one after the other, in the order of their targets, among packed
    /// parameters and statistics; `start` is the first place of each. Returns their ends.
    pub fn place(&mut self, start: [usize; 2]) -> [usize; 2] {
        let nodes = self.nodes.iter_mut().flatten().map(|(_, edge)| edge);
        self.inputs.iter_mut().chain(nodes).fold(start, |start, edge| {
            [edge.parameters, edge.statistics] = start;
            [edge.parameter_range().end, edge.statistic_range().end]
        })
    }

    /// Number of values of all edges among the packed parameters; [`Self::place`] uses as many.
    pub fn num_parameters(&self) -> usize {
        self.edges().map(Edge::num_parameters).sum()
    }

    /// Number of values of all edges among the packed means; the variances have the same number.
    pub fn num_statistics(&self) -> usize {
        self.edges().map(Edge::num_statistics).sum()
    }

    /// Number of mixing weights: one for each operation of each edge, and in a cell of several
    /// parts one for the bypassing channels on each edge into a node.
    pub fn num_mixing_weights(&self) -> usize {
        let operations: usize = self.edges().map(|edge| edge.operations.len()).sum();
        let go_by = if self.parts > 1 { self.nodes.iter().map(Vec::len).sum() } else { 0 };
        operations + go_by
    }
}

impl From<Edge> for Cell {
    /// A cell with a single edge.
    fn from(edge: Edge) -> Self {
        Self {
            inputs: vec![edge],
            nodes: Vec::new(),
            concat: vec![0],
            fixed_inputs: false,
            parts: 1,
        }
    }
}

/// The maps that a fused cell keeps for its backward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Memory {
    /// Its states, and the maps before each batch normalization.
    #[default]
    Save,
    /// Only its states; the backward pass computes the maps of the edges into a node again.
    Recompute,
}
