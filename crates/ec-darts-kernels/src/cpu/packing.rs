//! Weights: from their places in Burn's packed parameters to the places that the kernels read, and
//! back.

use super::buffer::Buffer;
use super::gather::Gather;
use super::plan::{ConvBlock, EdgePlan};

impl EdgePlan {
    /// Of each output of a block's 1x1 convolution: where its packed weights begin, and the row
    /// that the first of them is prepared in.
    fn pointwise_outputs<'a>(
        &'a self,
        block: &'a ConvBlock,
    ) -> impl Iterator<Item = (usize, usize, usize)> + 'a {
        let to = self.channels[1];
        let offset =
            block.packed + block.gather.packed_len() * self.channels[usize::from(block.second)];
        (0..to).map(move |out| {
            let row = match block.gather {
                Gather::Reduce if out >= to / 2 => block.source_blocks * self.lanes,
                _ => 0,
            };
            (out, offset + out * block.inputs, row)
        })
    }

    /// For each channel of a block's depthwise convolution: the index of its first packed weight,
    /// and the place in which this weight is prepared; the others follow with the distance of a
    /// register.
    fn depthwise_channels<'a>(
        &'a self,
        block: &'a ConvBlock,
    ) -> impl Iterator<Item = (usize, usize)> + 'a {
        let (taps, lanes) = (block.gather.taps(), self.lanes);
        let channels = if taps == 0 { 0 } else { self.channels[0] };
        (0..channels).map(move |channel| {
            let first = channel / lanes * taps * lanes + channel % lanes;
            (block.packed + channel * block.gather.packed_len(), first)
        })
    }

    /// Puts the packed weights into the layout of the kernels.
    pub fn prepare(&self, packed: &[f32]) -> Buffer {
        let mut all = Buffer::zeros(self.prepared_len);
        let lanes = self.lanes;
        for block in &self.blocks {
            let taps = block.gather.taps();
            for (from, first) in self.depthwise_channels(block) {
                for (tap, place) in block.gather.packed_taps().enumerate() {
                    let value = packed[from + place];
                    all[block.depthwise + first + tap * lanes] = value;
                    all[block.flipped + first + (taps - 1 - tap) * lanes] = value;
                }
            }
            let (columns, rows) = (self.width(), block.gathered_blocks * lanes);
            let inputs = block.inputs;
            for (out, from, row) in self.pointwise_outputs(block) {
                let values = &packed[from..from + inputs];
                let first = block.transposed + out * rows + row;
                all[first..first + inputs].copy_from_slice(values);
                let column = all[block.pointwise + row * columns + out..].iter_mut();
                for (to, value) in column.step_by(columns).zip(values) {
                    *to = *value;
                }
            }
        }
        all
    }

    /// Packs weight gradients in the kernels' layout.
    pub fn unpack_gradient(&self, gradient: &[f32], packed: &mut [f32]) {
        let lanes = self.lanes;
        for block in &self.blocks {
            let taps = block.gather.taps();
            for (to, first) in self.depthwise_channels(block) {
                let from = gradient[block.gradient + first..].iter().step_by(lanes);
                for (place, value) in block.gather.packed_taps().zip(from) {
                    packed[to + place] = *value;
                }
            }
            let offset = block.gradient + block.source_blocks * taps * lanes;
            let inputs = block.inputs;
            for (out, to, row) in self.pointwise_outputs(block) {
                let from = gradient[offset + row * self.width() + out..].iter();
                let to = &mut packed[to..to + inputs];
                for (to, value) in to.iter_mut().zip(from.step_by(self.width())) {
                    *to = *value;
                }
            }
        }
    }
}
