//! The launches of a cell's backward pass, one method each.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use super::launch::{Pass, Values, count, dim, empty};
use super::launches::{Rows, Sources, Target};
use super::planes::Ways;
use super::sums::{UNITS, VALUES};
use super::table::source;
use super::tile::{Chunks, Staged, Tile};
use super::{backward, depthwise, pools_back, reached, sources, weights};

impl Pass<'_> {
    /// A buffer for a gradient, zero at first where not all of it will be written.
    pub fn gradient(&self, len: usize, in_part: bool) -> Values {
        let gradient = empty(&self.client, len);
        if in_part {
            // SAFETY: the launch writes within the buffer's length.
            unsafe {
                reached::clear::launch_unchecked(
                    &self.client,
                    count(gradient.len.div_ceil(VALUES), 1, 1),
                    dim(VALUES),
                    gradient.arg(),
                );
            }
        }
        gradient
    }

    /// The gradients of all states from that of the output.
    pub fn parts(&self, gradient: &Values, work: &Values) {
        let plan = self.plan;
        let len = plan.channels * plan.largest_size;
        // SAFETY: as in `take`.
        unsafe {
            reached::parts::launch_unchecked(
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
        pooled: &Values,
        work: &Values,
        parameters: Option<&Values>,
    ) {
        let plan = self.plan;
        let [height, width] = target.size;
        // Where parameters have no gradient, no value is written there.
        let nowhere = empty(&self.client, 1);
        // SAFETY: as in `take`.
        unsafe {
            reached::normalizations::launch_unchecked(
                &self.client,
                count(plan.channels, target.terms.count, 1),
                dim(VALUES),
                self.table.arg(),
                self.values(target)[0].arg(),
                maps.arg(),
                pooled.arg(),
                work.arg(),
                self.norms.arg(),
                self.mixing.arg(),
                parameters.unwrap_or(&nowhere).arg(),
                target.terms.first,
                self.first_coefficient(),
                self.factors,
                plan.batch,
                plan.channels,
                height,
                width,
                u32::from(parameters.is_some()),
                self.access,
            );
        }
    }

    /// The gradients of mixing weights, zero behind the inputs whose bits are in `skipped`.
    pub fn mixing_gradients(&self, gradient: &Values, skipped: u32) {
        let plan = self.plan;
        // SAFETY: as in `take`.
        unsafe {
            reached::mixing_gradients::launch_unchecked(
                &self.client,
                count(plan.mixed.count, 1, 1),
                dim(UNITS),
                self.table.arg(),
                self.norms.arg(),
                gradient.arg(),
                plan.mixed.first,
                self.first_coefficient(),
                plan.channels,
                skipped,
            );
        }
    }

    /// Gradients of the values that blocks gathered; first blocks of two compute their coefficients
    /// from the sums of [`Self::inner`].
    pub fn products(
        &self,
        rows: &Rows,
        target: &Target,
        maps: &Values,
        work: &Values,
        parameters: Option<&Values>,
    ) {
        if rows.count == 0 {
            return;
        }
        let plan = self.plan;
        let [height, width] = target.size;
        let tile = Tile::of_products(target.size, target.inputs);
        let parts = target.inputs.div_ceil(4 * tile.groups * tile.vectors);
        let quads = height * width.div_ceil(4);
        let nowhere = empty(&self.client, 1);
        // SAFETY: as in `take`.
        unsafe {
            backward::products::launch_unchecked(
                &self.client,
                count(quads.div_ceil(tile.quads()), plan.batch, rows.count * parts),
                CubeDim::new_2d(tile.quads() as u32, tile.groups as u32),
                self.table.arg(),
                maps.arg(),
                self.parameters.arg(),
                self.norms.arg(),
                work.arg(),
                parameters.unwrap_or(&nowhere).arg(),
                rows.first,
                self.first_coefficient(),
                self.first_sum(),
                Chunks::new(plan.batch, target.size).count,
                self.factors,
                plan.channels,
                height,
                width,
                parts,
                u32::from(parameters.is_some()),
                tile.quads(),
                tile.groups,
                tile.vectors,
                tile.chunk,
                self.access,
            );
        }
    }

    /// Gradients through second blocks, and the sums that the normalizations before them need.
    pub fn inner(&self, target: &Target, maps: &Values, work: &Values) {
        let (size, channels) = (target.size, self.plan.channels);
        let rows = target.inner_sources;
        let sources = Sources { rows, size, channels, num_parts: 1 };
        self.source_launch(&sources, target, [maps; 2], work, [None; 2], true);
    }

    /// Adds the gradients of states to the values there.
    pub fn states(&self, target: &Target, work: &Values) {
        self.source_launch(&target.sources, target, [&self.states; 2], work, [None; 2], false);
    }

    /// Gradients of the inputs of a target, `to` those that want it.
    pub fn inputs(&self, target: &Target, work: &Values, to: &[Option<Values>]) {
        let values = self.values(target);
        if let [Some(one), Some(other)] = to {
            let to = [Some(one), Some(other)];
            return self.source_launch(&target.sources, target, values, work, to, false);
        }
        for (number, to) in to.iter().enumerate().filter(|(_, to)| to.is_some()) {
            let rows = Rows { first: target.sources.rows.first + number * source::LEN, count: 1 };
            let sources = Sources { rows, ..target.sources };
            let (values, to) = ([values[number]; 2], [to.as_ref(), None]);
            self.source_launch(&sources, target, values, work, to, false);
        }
    }

    fn source_launch(
        &self,
        sources: &Sources,
        target: &Target,
        [values, other]: [&Values; 2],
        work: &Values,
        [to, other_to]: [Option<&Values>; 2],
        inner: bool,
    ) {
        let plan = self.plan;
        let nowhere = [(); 2].map(|()| empty(&self.client, 1));
        let [height, width] = target.size;
        let size = sources.size;
        let tile = Staged::new(size, plan.batch);
        // Sums over a channel are made in few parts.
        let (tiles, chunks) = if inner {
            (1, Chunks::new(plan.batch, target.size))
        } else {
            (tile.count(size), Chunks::of(plan.batch, tile.images))
        };
        let planes = sources.rows.count * sources.num_parts * sources.channels;
        // SAFETY: as in `take`; each cube adds to its own values.
        unsafe {
            sources::sources::launch_unchecked(
                &self.client,
                count(tiles, planes, chunks.count),
                dim(tile.units()),
                self.table.arg(),
                values.arg(),
                other.arg(),
                self.parameters.arg(),
                self.norms.arg(),
                work.arg(),
                to.unwrap_or(&nowhere[0]).arg(),
                other_to.unwrap_or(&nowhere[1]).arg(),
                sources.rows.first,
                self.first_coefficient(),
                self.first_sum(),
                self.factors,
                plan.batch,
                chunks.images,
                plan.channels,
                sources.channels,
                sources.num_parts,
                height,
                width,
                inner,
                to.is_some(),
                other_to.is_some(),
                if inner { Ways::Depthwise } else { Ways::new(target.has_depthwise) },
                tile.tiles(size, target.halos[usize::from(inner)], self.access),
            );
        }
    }

    /// Adds the gradients of sources from pools: those of a target's inputs `to` the input's gradient, else those of its
    /// states.
    pub fn pools_back(&self, target: &Target, work: &Values, to: Option<&Values>) {
        let sources = if to.is_some() { &target.input_pools } else { &target.state_pools };
        if sources.rows.count == 0 {
            return;
        }
        let values = if to.is_some() { self.values(target)[0] } else { &self.states };
        let plan = self.plan;
        let tile = Staged::of_pools(sources.size, plan.batch);
        let nowhere = empty(&self.client, 1);
        // SAFETY: as in `take`; each cube adds to its own values.
        unsafe {
            pools_back::pools_back::launch_unchecked(
                &self.client,
                count(
                    tile.count(sources.size),
                    sources.rows.count * sources.channels,
                    plan.batch.div_ceil(tile.images),
                ),
                dim(tile.units()),
                self.table.arg(),
                values.arg(),
                self.norms.arg(),
                work.arg(),
                to.unwrap_or(&nowhere).arg(),
                sources.rows.first,
                self.first_coefficient(),
                self.factors,
                plan.batch,
                plan.channels,
                sources.channels,
                to.is_some(),
                tile.tiles(sources.size, 2, self.access),
            );
        }
    }

    /// The parts of the gradients of all weights of a target. The values that its depthwise
    /// convolutions gathered take the place of their gradient, so that they need no memory.
    pub fn weights(&self, target: &Target, maps: &Values, work: &Values) {
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
        let [source, other] = self.values(target);
        let (first_partial, pair) = (self.first_partial(), target.inputs_read.len() > 1);
        if target.has_depthwise {
            // SAFETY: as in `take`.
            unsafe {
                depthwise::depthwise_gradients::launch_unchecked(
                    &self.client,
                    count(tile.depthwise.count, plan.channels, rows.count),
                    dim(tile.staged.units()),
                    self.table.arg(),
                    source.arg(),
                    other.arg(),
                    maps.arg(),
                    work.arg(),
                    self.parameters.arg(),
                    self.norms.arg(),
                    rows.first,
                    first_partial,
                    plan.batch,
                    tile.depthwise.images,
                    plan.channels,
                    height,
                    width,
                    pair,
                    target.has_parts,
                    tile.staged.tiles(
                        target.size,
                        target.halos[0].max(target.halos[1]),
                        self.access,
                    ),
                    tile.staged.shared(),
                );
            }
        }
        // SAFETY: as in `take`.
        unsafe {
            weights::pointwise_gradients::launch_unchecked(
                &self.client,
                count(tile.pointwise.count, output_parts * input_parts, rows.count),
                dim(tile.outputs * tile.inputs * tile.splits),
                self.table.arg(),
                source.arg(),
                other.arg(),
                maps.arg(),
                work.arg(),
                self.norms.arg(),
                rows.first,
                first_partial,
                self.first_coefficient(),
                self.factors,
                plan.batch,
                tile.pointwise.images,
                plan.channels,
                height,
                width,
                input_parts,
                tile.outputs,
                tile.inputs,
                tile.splits,
                tile.quads,
                pair,
                Ways::new(target.has_depthwise),
                self.access,
            );
        }
    }

    /// The place of the parts of weight gradients in the work of a backward pass.
    fn first_partial(&self) -> usize {
        self.plan.states_len + self.plan.scratch_len
    }

    /// The gradients of all weights of the cell from their parts.
    pub fn add_parts(&self, work: &Values, gradient: &Values) {
        let plan = self.plan;
        if plan.weight_parts.count == 0 {
            return;
        }
        // SAFETY: as in `take`.
        unsafe {
            reached::add_parts::launch_unchecked(
                &self.client,
                count(plan.largest_part.div_ceil(VALUES), plan.weight_parts.count, 1),
                dim(VALUES),
                self.table.arg(),
                work.arg(),
                gradient.arg(),
                plan.weight_parts.first,
                self.first_partial(),
            );
        }
    }
}
