//! From an edge and a shape to blocks, offsets and sizes.

use std::ops::Range;

use super::gather::{Gather, Padded};
use crate::edge::{Cell, Edge, EdgeOperation};

/// Whether the kernels support all operations of a cell.
pub fn serves(cell: &Cell) -> bool {
    let has = |edge: &Edge| {
        edge.operations.iter().all(|operation| match *operation {
            EdgeOperation::Convolution { .. } => edge.operations.len() == 1,
            EdgeOperation::Pointwise => edge.stride == 1,
            EdgeOperation::Separable { kernel, repeats, .. } => {
                (kernel == 3 || kernel == 5) && (repeats == 1 || repeats == 2)
            }
            _ => true,
        })
    };
    (1..=2).contains(&cell.inputs.len()) && cell.edges().all(has)
}

/// A block: ReLU, gather, 1x1 convolution, batch normalization.
#[derive(Clone, Debug)]
pub struct ConvBlock {
    pub gather: Gather,
    /// Whether it reads the block before it, not the edge's input.
    pub second: bool,
    /// Number of blocks of channels of its input, before gathering.
    pub source_blocks: usize,
    /// Number of blocks of channels after gathering.
    pub gathered_blocks: usize,
    /// Number of channels after gathering that the 1x1 convolution reads.
    pub gathered: usize,
    /// Number of weights of each of its outputs.
    pub inputs: usize,
    /// Index of its batch normalization in the edge.
    pub norm: usize,
    /// Offset in the packed parameters: depthwise, then pointwise, then affine.
    pub packed: usize,
    /// Offsets in the prepared weights.
    pub depthwise: usize,
    pub flipped: usize,
    pub pointwise: usize,
    pub transposed: usize,
    /// Offset in the weight gradients: depthwise, then pointwise.
    pub gradient: usize,
    /// For a first block with a second one after it: its index among such blocks.
    pub inner: Option<usize>,
}

/// A 3x3 pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    Max,
    Mean,
}

impl Pool {
    pub const ALL: [Self; 2] = [Self::Max, Self::Mean];
}

/// One term of the mixed sum.
#[derive(Clone, Copy, Debug)]
pub enum Term {
    Identity,
    Pool {
        pool: Pool,
        norm: Option<usize>,
    },
    /// The index of its last block.
    Conv {
        block: usize,
    },
}

/// All offsets of one edge at one shape.
#[derive(Clone, Debug)]
pub struct EdgePlan {
    pub batch: usize,
    pub channels: [usize; 2],
    pub lanes: usize,
    /// Number of blocks of channels of input and output.
    pub blocks_of: [usize; 2],
    pub size: [usize; 2],
    pub out_size: [usize; 2],
    pub stride: usize,
    pub affine: bool,
    /// The least value of the input behind its ReLU; minus infinity without one.
    pub floor: f32,
    /// The input with the border that the widest kernel needs.
    pub source: Padded,
    /// The output with the border that the widest second kernel needs.
    pub middle: Padded,
    pub terms: Vec<Term>,
    pub blocks: Vec<ConvBlock>,
    pub num_norms: usize,
    pub num_inner: usize,
    pub packed_len: usize,
    pub prepared_len: usize,
    pub gradient_len: usize,
    pub packed_gamma: Vec<usize>,
}

impl EdgePlan {
    /// # Panics
    /// Where the operations do not fit the widths, the stride or the size.
    pub fn new(edge: &Edge, [batch, channels, height, width]: [usize; 4], lanes: usize) -> Self {
        let [cin, cout] = edge.channels;
        assert_eq!(channels, cin, "the edge's channels");
        let stride = edge.stride;
        let out_size = [height.div_ceil(stride), width.div_ceil(stride)];
        let blocks_of = [cin.div_ceil(lanes), cout.div_ceil(lanes)];
        let mut plan = Self {
            batch,
            channels: [cin, cout],
            lanes,
            blocks_of,
            size: [height, width],
            out_size,
            stride,
            affine: edge.affine,
            floor: 0.0,
            source: Padded { height, width, pad: 0 },
            middle: Padded { height: out_size[0], width: out_size[1], pad: 0 },
            terms: Vec::new(),
            blocks: Vec::new(),
            num_norms: 0,
            num_inner: 0,
            packed_len: 0,
            prepared_len: 0,
            gradient_len: 0,
            packed_gamma: Vec::new(),
        };
        for &operation in &edge.operations {
            if let EdgeOperation::Convolution { relu } = operation {
                assert_eq!(edge.operations.len(), 1, "a convolution stands by itself");
                plan.floor = if relu { 0.0 } else { f32::NEG_INFINITY };
            }
            plan.add(operation);
        }
        plan
    }

    fn add(&mut self, operation: EdgeOperation) {
        let alike = self.channels[0] == self.channels[1];
        let term = match operation {
            EdgeOperation::Identity => {
                assert!(alike && self.stride == 1, "an identity keeps its shape");
                Term::Identity
            }
            EdgeOperation::MaxPool { norm } | EdgeOperation::AvgPool { norm } => {
                assert!(alike, "a pool keeps its channels");
                let norm = norm.then(|| self.norm());
                let is_max = matches!(operation, EdgeOperation::MaxPool { .. });
                Term::Pool { pool: if is_max { Pool::Max } else { Pool::Mean }, norm }
            }
            EdgeOperation::Pointwise => {
                assert_eq!(self.stride, 1, "a 1x1 convolution has stride 1");
                self.block(Gather::Copy, false, None)
            }
            EdgeOperation::Convolution { .. } => {
                let gather = Gather::Window { stride: self.stride };
                self.source.pad = gather.padding();
                self.block(gather, false, None)
            }
            EdgeOperation::FactorizedReduce => {
                let [height, width] = self.size;
                assert!(
                    height % 2 == 0 && width % 2 == 0 && self.stride == 2,
                    "a factorized reduction halves even sizes, here {height}x{width}"
                );
                self.block(Gather::Reduce, false, None)
            }
            EdgeOperation::Separable { kernel, dilation, repeats } => {
                assert!(alike, "a depthwise convolution keeps its channels");
                assert!(kernel == 3 || kernel == 5, "depthwise kernels are 3x3 and 5x5");
                let inner = (repeats == 2).then(|| {
                    self.num_inner += 1;
                    self.num_inner - 1
                });
                let gather = Gather::depthwise(kernel, dilation, self.stride, self.size);
                self.source.pad = self.source.pad.max(gather.padding());
                let mut term = self.block(gather, false, inner);
                if repeats == 2 {
                    let gather = Gather::depthwise(kernel, dilation, 1, self.out_size);
                    self.middle.pad = self.middle.pad.max(gather.padding());
                    term = self.block(gather, true, None);
                }
                term
            }
        };
        self.terms.push(term);
    }

    fn norm(&mut self) -> usize {
        self.packed_gamma.push(self.packed_len);
        if self.affine {
            self.packed_len += 2 * self.channels[1];
        }
        self.num_norms += 1;
        self.num_norms - 1
    }

    fn block(&mut self, gather: Gather, second: bool, inner: Option<usize>) -> Term {
        let lanes = self.lanes;
        let source = usize::from(second);
        let (source_blocks, from) = (self.blocks_of[source], self.channels[source]);
        let (gathered_blocks, gathered, inputs) = match gather {
            Gather::Reduce => (2 * source_blocks, 2 * source_blocks * lanes, from),
            Gather::Window { .. } => ((9 * from).div_ceil(lanes), 9 * from, 9 * from),
            _ => (source_blocks, from, from),
        };
        let depthwise_len = source_blocks * gather.taps() * lanes;
        let pointwise_len = gathered_blocks * lanes * self.blocks_of[1] * lanes;
        let packed = self.packed_len;
        self.packed_len += gather.packed_len() * from + inputs * self.channels[1];
        let depthwise = self.prepared_len;
        let flipped = depthwise + depthwise_len;
        let pointwise = flipped + depthwise_len;
        let transposed = pointwise + pointwise_len;
        self.prepared_len = transposed + pointwise_len;
        let gradient = self.gradient_len;
        self.gradient_len += depthwise_len + pointwise_len;
        let norm = self.norm();
        self.blocks.push(ConvBlock {
            gather,
            second,
            source_blocks,
            gathered_blocks,
            gathered,
            inputs,
            norm,
            packed,
            depthwise,
            flipped,
            pointwise,
            transposed,
            gradient,
            inner,
        });
        Term::Conv { block: self.blocks.len() - 1 }
    }

    /// Number of values of one blocked map of the output.
    pub fn map_len(&self) -> usize {
        self.blocks_of[1] * self.out_size[0] * self.out_size[1] * self.lanes
    }

    /// Number of values of the input in planes.
    pub fn planes_len(&self) -> usize {
        self.channels[0] * self.size[0] * self.size[1]
    }

    /// Number of values of the blocked input.
    pub fn input_len(&self) -> usize {
        self.blocks_of[0] * self.size[0] * self.size[1] * self.lanes
    }

    /// Number of values of all channels of the output, padded to whole blocks.
    pub fn width(&self) -> usize {
        self.blocks_of[1] * self.lanes
    }

    /// Number of values of a channel in a batch normalization.
    pub fn num_normalized(&self) -> usize {
        self.batch * self.out_size[0] * self.out_size[1]
    }

    /// The normalization after a term, if there is one.
    pub fn norm_of(&self, term: &Term) -> Option<usize> {
        match *term {
            Term::Identity => None,
            Term::Pool { norm, .. } => norm,
            Term::Conv { block } => Some(self.blocks[block].norm),
        }
    }

    /// Whether a term reads the input itself, without weights.
    pub fn is_direct(&self) -> bool {
        self.terms.iter().any(|term| !matches!(term, Term::Conv { .. }))
    }

    /// Number of values of one image's maps before normalization, those of the convolutions.
    pub fn maps_len(&self) -> usize {
        self.blocks.len() * self.map_len()
    }
}

/// Number of values of a strip of one pool: two strips and the other inputs fit into a small first
/// level of cache.
const STRIP: usize = 2048;

/// Rows of one block of an edge's output.
#[derive(Clone, Debug)]
pub struct Strip {
    pub block: usize,
    pub rows: Range<usize>,
}

impl Strip {
    /// All parts of an output.
    pub fn all(plan: &EdgePlan) -> impl Iterator<Item = Self> {
        let [rows, step] = [plan.out_size[0], Self::most_rows(plan)];
        (0..plan.blocks_of[1]).flat_map(move |block| {
            let strips = (0..rows).step_by(step);
            strips.map(move |first| Self { block, rows: first..(first + step).min(rows) })
        })
    }

    /// Rows of the largest part.
    pub fn most_rows(plan: &EdgePlan) -> usize {
        (STRIP / (plan.out_size[1] * plan.lanes)).max(1)
    }

    /// Its values, of a map.
    pub fn range(&self, plan: &EdgePlan) -> Range<usize> {
        let [rows, columns] = plan.out_size;
        let row = |row: usize| (self.block * rows + row) * columns * plan.lanes;
        row(self.rows.start)..row(self.rows.end)
    }
}
