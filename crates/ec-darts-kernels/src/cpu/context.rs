//! An edge with its values, and the images of what it reads.

use pulp::Simd;

use super::buffer::Buffer;
use super::convolve::Convolution;
use super::gather::Padded;
use super::image::{self, Planes};
use super::plan::{Block, Plan};

/// What an edge reads, of the whole batch.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// `[batch][channel][position]`.
    Planes(&'a [f32]),
    /// `[batch][block][position][lane]`.
    Blocks(&'a [f32]),
}

/// What every pass reads.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub plan: &'a Plan,
    pub prepared: &'a [f32],
    pub input: Input<'a>,
}

impl<'a> Context<'a> {
    /// An image of what the edge reads, in blocks; `room` is where planes are converted, rectified
    /// where nothing needs what is below the floor.
    #[inline(always)]
    pub fn image<'b, S: Simd>(&self, simd: S, number: usize, room: &'b mut [f32]) -> &'b [f32]
    where
        'a: 'b,
    {
        match self.input {
            Input::Planes(all) => {
                let plan = self.plan;
                let len = plan.channels[0] * plan.size[0] * plan.size[1];
                let image = &all[number * len..(number + 1) * len];
                let floor = if self.is_rectified() { plan.floor } else { f32::NEG_INFINITY };
                image::to_blocks(simd, image, Planes::all(plan.channels[0]), floor, room);
                room
            }
            Input::Blocks(_) => self.blocks(number),
        }
    }

    /// Whether [`Self::image`] has been through the ReLU: where convolutions alone read it, without
    /// a border.
    fn is_rectified(&self) -> bool {
        matches!(self.input, Input::Planes(_)) && self.plan.source.pad == 0
    }

    /// What the convolutions read: an image behind the ReLU, with its border.
    #[inline(always)]
    pub fn source<'b, S: Simd>(&self, simd: S, image: &'b [f32], room: &'b mut [f32]) -> &'b [f32] {
        if self.is_rectified() {
            return image;
        }
        image::pad(simd, image, self.plan.source, None, self.plan.floor, room);
        room
    }

    /// An image of what an edge reads that has terms without weights.
    ///
    /// # Panics
    /// Where that is not in blocks.
    pub fn blocks(&self, number: usize) -> &'a [f32] {
        let Input::Blocks(all) = self.input else { panic!("pools and identities read blocks") };
        let len = self.plan.input_len();
        &all[number * len..(number + 1) * len]
    }

    /// An image's maps before normalization, of those of the batch.
    pub fn maps<'b>(&self, number: usize, all: &'b [f32]) -> &'b [f32] {
        let len = self.plan.maps_len();
        &all[number * len..(number + 1) * len]
    }

    /// Room for [`Self::image`].
    pub fn room(&self) -> Buffer {
        Buffer::new(match self.input {
            Input::Planes(_) => self.plan.input_len(),
            Input::Blocks(_) => 0,
        })
    }

    /// Room for maps with a border of zeros.
    pub fn padded(&self, geometry: Padded, blocks: usize) -> Buffer {
        let mut maps = Buffer::new(geometry.len() * blocks * self.plan.lanes);
        geometry.clear_border(self.plan.lanes, &mut maps);
        maps
    }

    pub fn convolution(&self, block: &'a Block, source: &'a [f32]) -> Convolution<'a> {
        Convolution { plan: self.plan, block, prepared: self.prepared, source }
    }
}
