//! An edge with its values, and the images of its source.

use pulp::Simd;

use super::buffer::Buffer;
use super::convolve::Convolution;
use super::gather::Padded;
use super::image::{self, Planes};
use super::plan::{ConvBlock, EdgePlan};

/// The source of an edge, of the whole batch.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// `[batch][channel][position]`.
    Planes(&'a [f32]),
    /// `[batch][block][position][lane]`.
    Blocks(&'a [f32]),
}

/// The values that every pass reads.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub plan: &'a EdgePlan,
    pub prepared: &'a [f32],
    pub input: Input<'a>,
}

impl<'a> Context<'a> {
    /// An image of the edge's source, in blocks. Planes are converted into `room`, with the ReLU
    /// applied where no operation needs the values below the floor.
    #[inline(always)]
    pub fn image<'b, S: Simd>(&self, simd: S, number: usize, room: &'b mut [f32]) -> &'b [f32]
    where
        'a: 'b,
    {
        match self.input {
            Input::Planes(_) => {
                let planes = Planes::all(self.plan.channels[0]);
                let floor = if self.is_rectified() { self.plan.floor } else { f32::NEG_INFINITY };
                image::to_blocks(simd, self.raw(number), planes, floor, room);
                room
            }
            Input::Blocks(_) => self.blocks(number),
        }
    }

    /// An image of the edge's source in the source's own layout.
    pub fn raw(&self, number: usize) -> &'a [f32] {
        let (all, len) = match self.input {
            Input::Planes(all) => (all, self.plan.planes_len()),
            Input::Blocks(all) => (all, self.plan.input_len()),
        };
        &all[number * len..(number + 1) * len]
    }

    /// Whether the ReLU is already applied in [`Self::image`]: where only convolutions read it,
    /// without a border.
    fn is_rectified(&self) -> bool {
        matches!(self.input, Input::Planes(_)) && self.plan.source.pad == 0
    }

    /// The source of the convolutions: an image behind the ReLU, with its border.
    #[inline(always)]
    pub fn source<'b, S: Simd>(&self, simd: S, image: &'b [f32], room: &'b mut [f32]) -> &'b [f32] {
        if self.is_rectified() {
            return image;
        }
        image::pad(simd, image, self.plan.source, None, self.plan.floor, room);
        room
    }

    /// An image of the source of an edge that has terms without weights.
    ///
    /// # Panics
    /// Where the source is not in blocks.
    pub fn blocks(&self, number: usize) -> &'a [f32] {
        assert!(matches!(self.input, Input::Blocks(_)), "pools and identities read blocks");
        self.raw(number)
    }

    /// An image's maps before normalization, out of those of the batch.
    pub fn maps<'b>(&self, number: usize, all: &'b [f32]) -> &'b [f32] {
        let len = self.plan.maps_len();
        &all[number * len..(number + 1) * len]
    }

    /// A buffer for [`Self::image`].
    pub fn room(&self) -> Buffer {
        Buffer::new(match self.input {
            Input::Planes(_) => self.plan.input_len(),
            Input::Blocks(_) => 0,
        })
    }

    /// A buffer for maps with a border of zeros.
    pub fn padded(&self, geometry: Padded, blocks: usize) -> Buffer {
        let mut maps = Buffer::new(geometry.len() * blocks * self.plan.lanes);
        geometry.clear_border(self.plan.lanes, &mut maps);
        maps
    }

    pub fn convolution(&self, block: &'a ConvBlock, source: &'a [f32]) -> Convolution<'a> {
        Convolution { plan: self.plan, block, prepared: self.prepared, source }
    }
}
