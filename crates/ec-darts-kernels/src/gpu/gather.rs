//! The sources of an operation's blocks, and the values that these gather.

use super::table::{BIAS, NONE, block, gather, window};
use crate::edge::EdgeOperation;

/// The numbers of a block besides its place.
#[derive(Clone, Copy)]
pub struct Gather {
    pub way: u32,
    pub stride: usize,
    pub kernel: usize,
    pub dilation: usize,
    pub padding: usize,
    pub relu: bool,
}

impl Gather {
    pub fn pixel(stride: usize, offset: usize) -> Self {
        // The pixel after the window's corner: an offset is a negative padding.
        let padding = BIAS - offset;
        Self { way: gather::PIXEL, stride, kernel: 1, dilation: 1, padding, relu: true }
    }

    pub fn depthwise(kernel: usize, dilation: usize, stride: usize) -> Self {
        let padding = BIAS + dilation * (kernel - 1) / 2;
        Self { way: gather::DEPTHWISE, stride, kernel, dilation, padding, relu: true }
    }

    pub fn whole(stride: usize, relu: bool) -> Self {
        let padding = BIAS + 1;
        Self { way: gather::WINDOW, stride, kernel: 3, dilation: 1, padding, relu }
    }

    pub fn pool(way: u32, stride: usize) -> Self {
        Self { way, stride, kernel: 3, dilation: 1, padding: BIAS + 1, relu: false }
    }

    /// The windows of a tile: one of those that are compiled, their padding, and their number.
    fn windows(&self) -> (u32, usize, usize) {
        match (self.stride, self.kernel, self.dilation) {
            _ if self.way != gather::DEPTHWISE => (NONE, 0, 1),
            (1, 3, 1) => (window::OF_3, 1, 1),
            (1, 5, 1) => (window::OF_5, 2, 1),
            (1, 3, 2) => (window::WIDE_OF_3, 2, 1),
            (1, 5, 2) => (window::WIDE_OF_5, 4, 1),
            (2, 3 | 5, 1) => (window::OF_3, 1, 4),
            (2, 3, 2) => (window::OF_3, 1, 1),
            (2, 5, 2) => (window::OF_5, 2, 1),
            _ => (NONE, 0, 1),
        }
    }

    pub fn taps(&self) -> usize {
        if self.way == gather::DEPTHWISE { self.kernel * self.kernel } else { 0 }
    }
}

/// The source of an edge.
#[derive(Clone, Copy, PartialEq)]
pub struct Source {
    /// Number of the input, among the inputs of the launch.
    pub input: usize,
    pub place: usize,
    pub channels: usize,
    pub size: [usize; 2],
    /// Place of the source's gradient.
    pub gradient: usize,
}

pub fn place(value: usize) -> u32 {
    // Kernels compute places with a sign.
    assert!(i32::try_from(value).is_ok(), "values of a cell are counted in 31 bits, here {value}");
    value as u32
}

/// The columns of a block that follow from its source and gather.
pub fn block_row(from: &Source, gather: &Gather) -> [u32; block::LEN] {
    let mut row = [0; block::LEN];
    row[block::GATHER] = gather.way;
    row[block::SOURCE] = place(from.place);
    row[block::CHANNELS] = place(from.channels);
    row[block::HEIGHT] = place(from.size[0]);
    row[block::WIDTH] = place(from.size[1]);
    row[block::STRIDE] = place(gather.stride);
    row[block::KERNEL] = place(gather.kernel);
    row[block::DILATION] = place(gather.dilation);
    row[block::PADDING] = place(gather.padding);
    row[block::SOURCE_NORM] = NONE;
    row[block::SUMS] = NONE;
    row[block::INPUT] = place(from.input);
    row[block::RELU] = u32::from(gather.relu);
    let (window, padding, parts) = gather.windows();
    row[block::STAGED] = window;
    row[block::TILE_PADDING] = place(padding);
    row[block::PARTS] = place(parts);
    row
}

/// The blocks of an operation with weights: each in one part, or two parts that share its channels.
pub fn gathers(operation: EdgeOperation, stride: usize, from: &Source) -> Vec<Vec<Gather>> {
    match operation {
        EdgeOperation::Pointwise => {
            assert_eq!(stride, 1, "a 1x1 convolution has stride 1");
            vec![vec![Gather::pixel(1, 0)]]
        }
        EdgeOperation::Convolution { relu } => vec![vec![Gather::whole(stride, relu)]],
        EdgeOperation::FactorizedReduce => {
            let [height, width] = from.size;
            assert!(
                height % 2 == 0 && width % 2 == 0 && stride == 2,
                "a factorized reduction halves even sizes, here {height}x{width}"
            );
            vec![vec![Gather::pixel(2, 0), Gather::pixel(2, 1)]]
        }
        EdgeOperation::Separable { kernel, dilation, repeats } => (0..repeats)
            .map(|repeat| {
                let stride = if repeat == 0 { stride } else { 1 };
                vec![Gather::depthwise(kernel, dilation, stride)]
            })
            .collect(),
        EdgeOperation::Identity | EdgeOperation::MaxPool { .. } | EdgeOperation::AvgPool { .. } => {
            unreachable!("without weights")
        }
    }
}
