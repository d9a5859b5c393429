//! The launches of a cell, one method each.

use burn::tensor::{DType, Shape};
use burn_cubecl::cubecl;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use cubecl::server::Handle;

use super::plan::{Plan, Rows, Target};
use super::sums::{OF_NORM, UNITS};
use super::tile::{Tile, chunks};
use super::{backward, blocks, sums, weights};
use crate::MOMENTUM;

/// Units of a cube that works value by value.
const VALUES: usize = 256;

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

fn count(x: usize, y: usize, z: usize) -> CubeCount {
    let [x, y, z] = [x, y, z].map(|count| u32::try_from(count).expect("cubes of a launch"));
    CubeCount::Static(x, y, z)
}

fn dim(units: usize) -> CubeDim {
    CubeDim::new_1d(units as u32)
}

impl Pass<'_> {
    /// What the edges into a target read.
    fn values(&self, target: &Target) -> &Values {
        target.input.map_or(&self.states, |input| &self.inputs[input])
    }

    fn first_coefficient(&self) -> usize {
        self.plan.num_norms * self.plan.channels * OF_NORM
    }

    /// Normalizations by given statistics.
    pub fn take(&self, running: &[CubeTensor; 2]) {
        let plan = self.plan;
        let all = plan.num_norms * plan.channels;
        if all == 0 {
            return;
        }
        let [mean, variance] = running.each_ref().map(|each| Values::of(each).arg());
        // SAFETY: places in the table lie within the buffers, whose lengths the plan was made of.
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

    /// The running statistics moved by those of the batch.
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

    /// The maps of all blocks into a target, and their normalizations.
    pub fn blocks(&self, target: &Target, maps: &Values, moments: bool) {
        let plan = self.plan;
        let Tile { quads, groups, vectors, at_once } = target.tile;
        let tiles = target.tile.count(target.size);
        let [height, width] = target.size;
        for (inner, (rows, norms)) in target.blocks.iter().zip(&target.norms).enumerate() {
            if rows.count == 0 {
                continue;
            }
            let partials = plan.channels * norms.count * plan.batch * tiles * 2;
            let partials = empty(&self.client, if moments { partials } else { 1 });
            // SAFETY: as in `take`; a map is read between launches only by others than its own.
            unsafe {
                blocks::blocks::launch_unchecked(
                    &self.client,
                    count(tiles, plan.batch, rows.count),
                    CubeDim::new_2d(quads as u32, groups as u32),
                    self.table.arg(),
                    self.values(target).arg(),
                    maps.arg(),
                    self.parameters.arg(),
                    self.norms.arg(),
                    partials.arg(),
                    rows.first,
                    height,
                    width,
                    plan.channels,
                    inner == 1,
                    moments,
                    quads,
                    groups,
                    vectors,
                    at_once,
                );
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
                        quads,
                        height,
                        width,
                    );
                }
            }
        }
    }

    /// A target's state: the sum of its terms.
    pub fn node(&self, target: &Target, maps: &Values, output: &Values) {
        let plan = self.plan;
        let [height, width] = target.size;
        let len = plan.channels * height * width;
        // SAFETY: as in `take`; a state is written after all that it reads.
        unsafe {
            sums::nodes::launch_unchecked(
                &self.client,
                count(len.div_ceil(VALUES), target.node.count, plan.batch),
                dim(VALUES),
                self.table.arg(),
                // States are read where they are written.
                target.input.map_or(&self.mixing, |input| &self.inputs[input]).arg(),
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
                target.input.is_none(),
            );
        }
    }

    /// A gradient, zero at first where not all of it will be written.
    pub fn gradient(&self, len: usize, in_part: bool) -> Values {
        let gradient = empty(&self.client, len);
        if in_part {
            // SAFETY: the launch writes within the buffer's length.
            unsafe {
                sums::clear::launch_unchecked(
                    &self.client,
                    count(gradient.len.div_ceil(VALUES), 1, 1),
                    dim(VALUES),
                    gradient.arg(),
                );
            }
        }
        gradient
    }

    /// The gradients of all states as the output gives them.
    pub fn parts(&self, gradient: &Values, work: &Values) {
        let plan = self.plan;
        let len = plan.channels * plan.largest_size;
        // SAFETY: as in `take`.
        unsafe {
            sums::parts::launch_unchecked(
                &self.client,
                count(len.div_ceil(VALUES), plan.parts.count, plan.batch),
                dim(VALUES),
                self.table.arg(),
                gradient.arg(),
                work.arg(),
                plan.parts.first,
                plan.channels,
                plan.output[1],
            );
        }
    }

    /// The linear backward pass of the terms' normalizations.
    pub fn normalizations(
        &self,
        target: &Target,
        maps: &Values,
        work: &Values,
        to: (Option<&Values>, &Values),
    ) {
        let plan = self.plan;
        let [height, width] = target.size;
        let (chunks, images) = chunks(plan.batch);
        let partials = empty(&self.client, target.terms.count * plan.channels * chunks * 2);
        // SAFETY: as in `take`.
        unsafe {
            sums::gradient_sums::launch_unchecked(
                &self.client,
                count(chunks, plan.channels, target.terms.count),
                dim(UNITS),
                self.table.arg(),
                self.values(target).arg(),
                maps.arg(),
                work.arg(),
                self.norms.arg(),
                partials.arg(),
                target.terms.first,
                self.factors,
                plan.batch,
                plan.channels,
                height,
                width,
                images,
            );
        }
        self.coefficients(&target.terms, &partials, chunks, height * width, to);
    }

    fn coefficients(
        &self,
        rows: &Rows,
        partials: &Values,
        chunks: usize,
        size: usize,
        (parameters, mixing): (Option<&Values>, &Values),
    ) {
        let plan = self.plan;
        // Where parameters have no gradient, nothing is written there.
        let nowhere = empty(&self.client, 1);
        // SAFETY: as in `take`.
        unsafe {
            sums::coefficients::launch_unchecked(
                &self.client,
                count(rows.count, 1, 1),
                dim(UNITS),
                self.table.arg(),
                partials.arg(),
                self.norms.arg(),
                self.mixing.arg(),
                parameters.unwrap_or(&nowhere).arg(),
                mixing.arg(),
                rows.first,
                self.first_coefficient(),
                plan.channels,
                chunks,
                plan.batch * size,
                u32::from(parameters.is_some()),
            );
        }
    }

    pub fn products(&self, rows: &Rows, target: &Target, maps: &Values, work: &Values) {
        if rows.count == 0 {
            return;
        }
        let plan = self.plan;
        let [height, width] = target.size;
        let tile = Tile::of_products(target.size, target.inputs);
        let parts = target.inputs.div_ceil(4 * tile.groups * tile.vectors);
        // SAFETY: as in `take`.
        unsafe {
            backward::products::launch_unchecked(
                &self.client,
                count(tile.count(target.size), plan.batch, rows.count * parts),
                CubeDim::new_2d(tile.quads as u32, tile.groups as u32),
                self.table.arg(),
                maps.arg(),
                self.parameters.arg(),
                self.norms.arg(),
                work.arg(),
                rows.first,
                self.first_coefficient(),
                self.factors,
                plan.channels,
                height,
                width,
                parts,
                tile.quads,
                tile.groups,
                tile.vectors,
            );
        }
    }

    /// What comes back through second blocks, and the normalizations before them.
    pub fn inner(
        &self,
        target: &Target,
        maps: &Values,
        work: &Values,
        to: (Option<&Values>, &Values),
    ) {
        let plan = self.plan;
        let [height, width] = target.size;
        let tiles = (height * width.div_ceil(4)).div_ceil(UNITS);
        let chunks = plan.batch * tiles;
        let partials = empty(&self.client, target.inner_sources.count * plan.channels * chunks * 2);
        self.source_launch(&target.inner_sources, target, maps, work, &partials, true, false);
        self.coefficients(&target.inner_terms, &partials, chunks, height * width, to);
    }

    pub fn sources(&self, target: &Target, values: &Values, work: &Values, to: Option<&Values>) {
        let nowhere = empty(&self.client, 1);
        let to_target = to.is_some();
        let to = to.unwrap_or(&nowhere);
        self.source_launch(&target.sources, target, values, work, to, false, to_target);
    }

    fn source_launch(
        &self,
        rows: &Rows,
        target: &Target,
        values: &Values,
        work: &Values,
        to: &Values,
        inner: bool,
        to_target: bool,
    ) {
        let plan = self.plan;
        let [height, width] = target.size;
        let [in_height, in_width] = if inner { target.size } else { target.source_size };
        let channels = if inner { plan.channels } else { target.source_channels };
        let tiles = (in_height * in_width.div_ceil(4)).div_ceil(UNITS);
        // SAFETY: as in `take`; each cube adds to values of its own.
        unsafe {
            backward::sources::launch_unchecked(
                &self.client,
                count(tiles, rows.count * channels, plan.batch),
                dim(UNITS),
                self.table.arg(),
                values.arg(),
                self.parameters.arg(),
                self.norms.arg(),
                work.arg(),
                to.arg(),
                rows.first,
                self.first_coefficient(),
                self.factors,
                plan.batch,
                plan.channels,
                channels,
                height,
                width,
                inner,
                to_target,
            );
        }
    }

    /// The parts of the gradients of all weights of a target.
    pub fn weights(&self, target: &Target, maps: &Values, work: &Values, partials: &Values) {
        let plan = self.plan;
        let rows =
            Rows { first: target.first.first, count: target.first.count + target.last.count };
        if rows.count == 0 {
            return;
        }
        let [height, width] = target.size;
        let tile = target.weights;
        let parts = |channels: usize, of: usize| channels.div_ceil(4 * of);
        let input_parts = parts(target.inputs, tile.inputs);
        let output_parts = parts(target.outputs, tile.outputs);
        // SAFETY: as in `take`.
        unsafe {
            weights::pointwise_gradients::launch_unchecked(
                &self.client,
                count(tile.chunks, output_parts * input_parts, rows.count),
                dim(tile.outputs * tile.inputs * tile.splits),
                self.table.arg(),
                self.values(target).arg(),
                maps.arg(),
                work.arg(),
                self.parameters.arg(),
                self.norms.arg(),
                partials.arg(),
                rows.first,
                self.first_coefficient(),
                self.factors,
                plan.batch,
                tile.images,
                plan.channels,
                height,
                width,
                input_parts,
                tile.outputs,
                tile.inputs,
                tile.splits,
                tile.quads,
            );
            if target.has_depthwise {
                weights::depthwise_gradients::launch_unchecked(
                    &self.client,
                    count(tile.chunks, plan.channels, rows.count),
                    dim(UNITS),
                    self.table.arg(),
                    self.values(target).arg(),
                    maps.arg(),
                    work.arg(),
                    self.norms.arg(),
                    partials.arg(),
                    rows.first,
                    plan.batch,
                    tile.images,
                    plan.channels,
                    height,
                    width,
                );
            }
        }
    }

    /// The gradients of all weights of the cell from their parts.
    pub fn add_parts(&self, partials: &Values, gradient: &Values) {
        let plan = self.plan;
        if plan.weight_parts.count == 0 {
            return;
        }
        // SAFETY: as in `take`.
        unsafe {
            sums::add_parts::launch_unchecked(
                &self.client,
                count(plan.largest_part.div_ceil(VALUES), plan.weight_parts.count, 1),
                dim(VALUES),
                self.table.arg(),
                partials.arg(),
                gradient.arg(),
                plan.weight_parts.first,
            );
        }
    }
}
