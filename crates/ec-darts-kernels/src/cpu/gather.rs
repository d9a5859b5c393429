//! Maps with a border, and the gathering of a block's inputs.

/// A map with a border of zeros on all four sides.
#[derive(Clone, Copy, Debug)]
pub struct Padded {
    pub height: usize,
    pub width: usize,
    pub pad: usize,
}

impl Padded {
    /// Number of positions of a row.
    pub fn row(self) -> usize {
        self.width + 2 * self.pad
    }

    /// Number of positions of the whole map.
    pub fn len(self) -> usize {
        self.row() * (self.height + 2 * self.pad)
    }

    /// Writes zeros to the borders of blocked maps.
    pub fn clear_border(self, lanes: usize, maps: &mut [f32]) {
        let (row, border) = (self.row() * lanes, self.pad * lanes);
        for map in maps.chunks_exact_mut(self.len() * lanes) {
            let (top, rows) = map.split_at_mut(self.pad * row);
            let (rows, bottom) = rows.split_at_mut(self.height * row);
            top.fill(0.0);
            bottom.fill(0.0);
            for row in rows.chunks_exact_mut(row) {
                let (row, right) = row.split_at_mut(row.len() - border);
                row[..border].fill(0.0);
                right.fill(0.0);
            }
        }
    }

    /// The first position that a kernel with its own padding reads.
    pub fn first(self, padding: usize) -> usize {
        (self.pad - padding) * (self.row() + 1)
    }
}

/// The way a block gathers its inputs before the 1x1 convolution.
#[derive(Clone, Copy, Debug)]
pub enum Gather {
    /// The inputs as they are.
    Copy,
    /// Even pixels, then odd pixels as additional channels.
    Reduce,
    /// The 3x3 window around a pixel, with nine times the channels.
    Window { stride: usize },
    /// Depthwise convolution with the middle of a kernel, where the map is so small that the other
    /// taps reach no pixel of it.
    Depthwise {
        /// Sides of the middle and of the whole kernel.
        kernel: usize,
        whole: usize,
        dilation: usize,
        stride: usize,
    },
}

impl Gather {
    /// The depthwise convolution of a map of the given height and width.
    pub fn depthwise(whole: usize, dilation: usize, stride: usize, size: [usize; 2]) -> Self {
        // The outer taps of a 5x5 kernel are two dilations from its centre.
        let is_small = size[0].max(size[1]) <= 2 * dilation;
        let kernel = if whole == 5 && is_small { 3 } else { whole };
        Self::Depthwise { kernel, whole, dilation, stride }
    }

    /// Number of used weights of a channel.
    pub fn taps(self) -> usize {
        match self {
            Self::Depthwise { kernel, .. } => kernel * kernel,
            _ => 0,
        }
    }

    /// Their places among all weights of the channel, in order.
    pub fn packed_taps(self) -> impl Iterator<Item = usize> {
        let (kernel, whole) = match self {
            Self::Depthwise { kernel, whole, .. } => (kernel, whole),
            _ => (0, 0),
        };
        let middle = (whole - kernel) / 2..(whole + kernel) / 2;
        middle.clone().flat_map(move |ky| middle.clone().map(move |kx| ky * whole + kx))
    }

    /// Number of weights of a channel, used or not.
    pub fn packed_len(self) -> usize {
        match self {
            Self::Depthwise { whole, .. } => whole * whole,
            _ => 0,
        }
    }

    pub fn padding(self) -> usize {
        match self {
            Self::Depthwise { kernel, dilation, .. } => dilation * (kernel - 1) / 2,
            Self::Window { .. } => 1,
            _ => 0,
        }
    }
}
