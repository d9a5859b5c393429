//! The launches of a cell's forward pass, one method each.

use burn::tensor::{DType, Shape};
use burn_cubecl::cubecl;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use cubecl::server::Handle;

use super::launches::{Plan, Rows, Target};
use super::planes::{Access, Ways};
use super::sums::{OF_NORM, UNITS, VALUES};
use super::tile::Tile;
use super::{blocks, pools, sums};
use crate::MOMENTUM;

/// A handle and the number of its values.
#[derive(Clone, Debug)]
pub struct Values {
    pub handle: Handle,
    pub len: usize,
}

impl Values {
    pub fn arg(&self) -> BufferArg {
        // SAFETY: the handle holds `len` values; both are made together.
        unsafe { BufferArg::from_raw_parts(self.handle.clone(), self.len) }
    }

    pub fn of(tensor: &CubeTensor) -> Self {
        Self { handle: tensor.handle.clone(), len: tensor.meta.num_elements() }
    }
}

/// One pass over a cell.
pub struct Pass<'a> {
    pub plan: &'a Plan,
    pub client: Client,
    pub table: Values,
    pub inputs: Vec<Values>,
    pub parameters: Values,
    pub mixing: Values,
    pub states: Values,
    pub norms: Values,
    pub factors: usize,
    /// The way to read and write quads.
    pub access: Access,
}

/// A buffer for this number of values.
pub fn empty(client: &Client, len: usize) -> Values {
    Values { handle: client.empty(len.max(1) * size_of::<f32>()), len: len.max(1) }
}

/// A tensor in a buffer.
pub fn tensor(like: &CubeTensor, values: Values, shape: impl Into<Shape>) -> CubeTensor {
    let (client, device) = (like.client.clone(), like.device.clone());
    CubeTensor::new_contiguous(client, device, shape.into(), values.handle, DType::F32)
}

pub fn count(x: usize, y: usize, z: usize) -> CubeCount {
    let [x, y, z] = [x, y, z].map(|count| u32::try_from(count).expect("cubes of a launch"));
    CubeCount::Static(x, y, z)
}

pub fn dim(units: usize) -> CubeDim {
    CubeDim::new_1d(units as u32)
}

impl Pass<'_> {
    /// The buffers that the edges into a target read, one or two.
    pub fn values(&self, target: &Target) -> [&Values; 2] {
        match target.inputs_read[..] {
            [] => [&self.states; 2],
            [one] => [&self.inputs[one]; 2],
            [one, other, ..] => [one, other].map(|input| &self.inputs[input]),
        }
    }

    pub fn first_coefficient(&self) -> usize {
        self.plan.num_norms * self.plan.channels * OF_NORM
    }

    /// The place of the sums that make the coefficients between two blocks.
    pub fn first_sum(&self) -> usize {
        self.first_coefficient() + self.plan.num_coefficients * self.plan.channels * OF_NORM
    }

    /// Normalizations by given statistics.
    pub fn take(&self, running: &[CubeTensor; 2]) {
        let plan = self.plan;
        let all = plan.num_norms * plan.channels;
        if all == 0 {
            return;
        }
        let [mean, variance] = running.each_ref().map(|each| Values::of(each).arg());
        // SAFETY: places in the table are within the buffers, whose lengths come from the same
        // plan.
        unsafe {
            sums::given::launch_unchecked(
                &self.client,
                count(all.div_ceil(VALUES), 1, 1),
                dim(VALUES),
                self.table.arg(),
                mean,
                variance,
                self.parameters.arg(),
                self.norms.arg(),
                plan.norms.first,
                plan.places,
                plan.channels,
                all,
            );
        }
    }

    /// The running statistics, updated with those of the batch.
    pub fn observe(&self, running: [CubeTensor; 2]) -> [CubeTensor; 2] {
        let plan = self.plan;
        let len = running[0].meta.num_elements();
        if plan.num_norms == 0 {
            return running;
        }
        let moved = [(); 2].map(|()| empty(&self.client, len));
        let [mean, variance] = running.each_ref().map(|each| Values::of(each).arg());
        // SAFETY: as in `take`.
        unsafe {
            sums::observe::launch_unchecked(
                &self.client,
                count(len.div_ceil(VALUES), 1, 1),
                dim(VALUES),
                self.table.arg(),
                self.norms.arg(),
                mean,
                variance,
                moved[0].arg(),
                moved[1].arg(),
                plan.packed_numbers,
                plan.counts,
                plan.channels,
                MOMENTUM as f32,
            );
        }
        let mut moved = moved.into_iter();
        running.map(|each| {
            let shape = each.meta.shape().clone();
            tensor(&each, moved.next().expect("two of them"), shape)
        })
    }

    /// The maps of all pools of states, again.
    pub fn pool_maps(&self, to: &Values) {
        let plan = self.plan;
        let nowhere = empty(&self.client, 1);
        for &(size, rows) in &plan.pools {
            let tile = Tile::new(size, plan.channels);
            let [tiles_x, tiles_y] = tile.counts(size);
            // SAFETY: as in `take`.
            unsafe {
                pools::pool_maps::launch_unchecked(
                    &self.client,
                    count(tiles_x * tiles_y, plan.batch, rows.count * plan.channels),
                    dim(tile.quads()),
                    self.table.arg(),
                    self.states.arg(),
                    to.arg(),
                    nowhere.arg(),
                    rows.first,
                    size[0],
                    size[1],
                    plan.channels,
                    tiles_x,
                    false,
                    tile.columns,
                    tile.rows,
                    self.access,
                );
            }
        }
    }

    /// The maps of all blocks into a target, those of pools where they go somewhere, and their normalizations.
    pub fn blocks(&self, target: &Target, maps: &Values, pooled: Option<&Values>, moments: bool) {
        let plan = self.plan;
        let Tile { columns, rows: quads, groups, vectors, at_once, .. } = target.tile;
        let [tiles_x, tiles_y] = target.tile.counts(target.size);
        let tiles = tiles_x * tiles_y;
        let [height, width] = target.size;
        let [source, other] = self.values(target);
        for (inner, (rows, norms)) in target.blocks.iter().zip(&target.norms).enumerate() {
            let pools = if inner == 0 { target.pools } else { Rows::default() };
            if norms.count == 0 {
                continue;
            }
            let partials = plan.channels * norms.count * plan.batch * tiles * 2;
            let partials = empty(&self.client, if moments { partials } else { 1 });
            let staged = inner == 1 || target.has_depthwise;
            // In evaluation, pools of inputs need neither maps nor moments.
            let makes_pools = pools.count > 0 && (moments || target.inputs_read.is_empty());
            if let Some(pooled) = pooled.filter(|_| makes_pools) {
                // SAFETY: as in `take`.
                unsafe {
                    pools::pool_maps::launch_unchecked(
                        &self.client,
                        count(tiles, plan.batch, pools.count * plan.channels),
                        dim(columns * quads),
                        self.table.arg(),
                        source.arg(),
                        pooled.arg(),
                        partials.arg(),
                        pools.first,
                        height,
                        width,
                        plan.channels,
                        tiles_x,
                        moments,
                        columns,
                        quads,
                        self.access,
                    );
                }
            }
            // SAFETY: as in `take`; the launch that writes a map does not read it.
            unsafe {
                if rows.count > 0 {
                    blocks::blocks::launch_unchecked(
                        &self.client,
                        count(tiles, plan.batch, rows.count),
                        CubeDim::new_2d((columns * quads) as u32, groups as u32),
                        self.table.arg(),
                        source.arg(),
                        other.arg(),
                        maps.arg(),
                        self.parameters.arg(),
                        self.norms.arg(),
                        partials.arg(),
                        rows.first,
                        height,
                        width,
                        plan.channels,
                        tiles_x,
                        inner == 1,
                        inner == 0 && target.inputs_read.len() > 1,
                        inner == 0 && target.has_parts,
                        moments,
                        Ways::new(target.has_depthwise),
                        target.tile.tiles(target.size, target.halos[inner], self.access),
                        groups,
                        vectors,
                        at_once,
                        target.tile.tile_len(staged, target.halos[inner]),
                    );
                }
                if moments {
                    sums::moments::launch_unchecked(
                        &self.client,
                        count(plan.channels, norms.count, 1),
                        dim(UNITS),
                        self.table.arg(),
                        partials.arg(),
                        self.parameters.arg(),
                        self.norms.arg(),
                        norms.first,
                        plan.channels,
                        plan.batch,
                        tiles,
                        tiles_x,
                        columns,
                        quads,
                        height,
                        width,
                    );
                }
            }
        }
    }

    /// A target's state: the sum of its terms.
    pub fn node(&self, target: &Target, maps: &Values, pooled: &Values, output: &Values) {
        let plan = self.plan;
        let [height, width] = target.size;
        let quads = plan.channels * height * width.div_ceil(4);
        // SAFETY: as in `take`; a state is written after all that it reads.
        unsafe {
            sums::nodes::launch_unchecked(
                &self.client,
                count(quads.div_ceil(VALUES), target.node.count, plan.batch),
                dim(VALUES),
                self.table.arg(),
                // States are read where they are written, and the maps of their pools here; of two inputs none is read.
                target.inputs_read.first().map_or(pooled, |&input| &self.inputs[input]).arg(),
                self.states.arg(),
                maps.arg(),
                self.norms.arg(),
                self.mixing.arg(),
                output.arg(),
                target.node.first,
                self.factors,
                plan.channels,
                height,
                width,
                plan.output[1],
                target.inputs_read.is_empty(),
                self.access,
            );
        }
    }
}
