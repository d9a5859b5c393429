//! A cell's launches, forward and backward.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeDevice, cubecl};
use cubecl::prelude::*;
use cubecl::server::Handle;

use super::plan::{Plan, Rows, Target, Tile, chunks};
use super::sums::{OF_NORM, UNITS};
use super::{backward, blocks, sums};
use crate::MOMENTUM;
use crate::edge::{Cell, Memory};
use crate::extension::CellGradients;

/// Units of a cube that works value by value.
const VALUES: usize = 256;

/// What a cell is computed from.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// `[batch, channels, height, width]`.
    pub inputs: Vec<CubeTensor>,
    pub parameters: CubeTensor,
    pub mixing: CubeTensor,
    /// Drop path, `[num_operations][batch]`.
    pub factors: Option<Arc<Vec<f32>>>,
}

/// What the backward pass needs besides the inputs.
#[derive(Debug)]
pub struct Tape {
    plan: Arc<Planned>,
    states: Handle,
    norms: Handle,
    /// Of each target, where they are kept.
    maps: Vec<Option<Handle>>,
    table: Handle,
    factors: usize,
}

/// A plan whose table lies on the device.
#[derive(Debug)]
struct Planned {
    plan: Plan,
    table: Handle,
}

/// Plans of cells that ran before, so that a step builds and uploads none.
type Plans = HashMap<(CubeDevice, Cell, Vec<[usize; 4]>, [usize; 2]), Arc<Planned>>;

static PLANS: LazyLock<Mutex<Plans>> = LazyLock::new(Default::default);

/// An auxiliary model brings new cells every epoch: old plans give way together.
const MOST_PLANS: usize = 512;

fn planned(inputs: &Inputs, cell: &Cell, statistics: usize) -> Arc<Planned> {
    let first = &inputs.inputs[0];
    let shapes: Vec<[usize; 4]> =
        inputs.inputs.iter().map(|each| each.meta.shape().dims()).collect();
    let lengths = [inputs.parameters.meta.num_elements(), statistics];
    let key = (first.device.clone(), cell.clone(), shapes, lengths);
    let mut plans = PLANS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(planned) = plans.get(&key) {
        return planned.clone();
    }
    if plans.len() >= MOST_PLANS {
        plans.clear();
    }
    let plan = Plan::new(cell, &key.2, lengths);
    let table = first.client.create_from_slice(u32::as_bytes(&plan.table));
    let planned = Arc::new(Planned { plan, table });
    plans.insert(key, planned.clone());
    planned
}

/// A handle and the number of its values.
#[derive(Clone, Debug)]
pub struct Values {
    handle: Handle,
    len: usize,
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
struct Pass<'a> {
    plan: &'a Plan,
    client: Client,
    table: Values,
    inputs: Vec<Values>,
    parameters: Values,
    mixing: Values,
    states: Values,
    norms: Values,
    factors: usize,
}

fn empty(client: &Client, len: usize) -> Values {
    Values { handle: client.empty(len.max(1) * size_of::<f32>()), len: len.max(1) }
}

/// A tensor in a buffer.
fn tensor(like: &CubeTensor, values: Values, shape: impl Into<Shape>) -> CubeTensor {
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

impl Inputs {
    pub fn new(
        inputs: Vec<CubeTensor>,
        parameters: CubeTensor,
        mixing: CubeTensor,
        factors: Option<Arc<Vec<f32>>>,
    ) -> Self {
        let inputs = inputs.into_iter().map(into_contiguous).collect();
        let [parameters, mixing] = [parameters, mixing].map(into_contiguous);
        Self { inputs, parameters, mixing, factors }
    }

    /// Runs a cell; with statistics of its own, which move the running ones, or with these as they are
    /// where `given`. Returns the output, the moved statistics, and what the backward pass needs.
    pub fn forward(
        &self,
        cell: &Cell,
        running: [CubeTensor; 2],
        given: bool,
        memory: Memory,
    ) -> (CubeTensor, [CubeTensor; 2], Tape) {
        let running = running.map(into_contiguous);
        let statistics = running[0].meta.num_elements();
        let planned = planned(self, cell, statistics);
        let plan = &planned.plan;
        let client = self.inputs[0].client.clone();
        let (table, factors) = match &self.factors {
            None => (Values { handle: planned.table.clone(), len: plan.table.len() }, 0),
            Some(factors) => {
                let bits = factors.iter().map(|factor| factor.to_bits());
                let table: Vec<u32> = plan.table.iter().copied().chain(bits).collect();
                let handle = client.create_from_slice(u32::as_bytes(&table));
                (Values { handle, len: table.len() }, plan.table.len())
            }
        };
        let per_channel = plan.num_norms + plan.num_coefficients;
        let pass = Pass {
            plan,
            table,
            inputs: self.inputs.iter().map(Values::of).collect(),
            parameters: Values::of(&self.parameters),
            mixing: Values::of(&self.mixing),
            states: empty(&client, plan.states_len),
            norms: empty(&client, per_channel * plan.channels * OF_NORM),
            factors,
            client,
        };
        let output = empty(&pass.client, plan.output.iter().product());
        if given {
            pass.take(&running);
        }
        let maps = plan.targets.iter().map(|target| {
            let maps = empty(&pass.client, target.maps_len);
            pass.blocks(target, &maps, !given);
            pass.node(target, &maps, &output);
            (memory == Memory::Save && !given).then_some(maps.handle)
        });
        let maps = maps.collect();
        let moved = if given { running } else { pass.observe(running) };
        let tape = Tape {
            states: pass.states.handle.clone(),
            norms: pass.norms.handle.clone(),
            maps,
            table: pass.table.handle.clone(),
            factors,
            plan: planned.clone(),
        };
        (tensor(&self.inputs[0], output, plan.output), moved, tape)
    }

    /// The gradients of a cell that [`Self::forward`] ran with statistics of its own.
    pub fn backward(
        &self,
        tape: &Tape,
        gradient: CubeTensor,
        wanted_inputs: &[bool],
        wants_parameters: bool,
    ) -> CellGradients<CubeBackend> {
        let plan = &tape.plan.plan;
        let client = self.inputs[0].client.clone();
        let per_channel = plan.num_norms + plan.num_coefficients;
        let table_len = plan.table.len() + self.factors.as_ref().map_or(0, |each| each.len());
        let pass = Pass {
            plan,
            table: Values { handle: tape.table.clone(), len: table_len },
            inputs: self.inputs.iter().map(Values::of).collect(),
            parameters: Values::of(&self.parameters),
            mixing: Values::of(&self.mixing),
            states: Values { handle: tape.states.clone(), len: plan.states_len },
            norms: Values {
                handle: tape.norms.clone(),
                len: per_channel * plan.channels * OF_NORM,
            },
            factors: tape.factors,
            client,
        };
        // Nobody asks for what lies behind an input's own edge.
        let skips =
            |input: usize| !wanted_inputs[input] && !wants_parameters && plan.targets.len() > 1;
        let mixing = pass.gradient(pass.mixing.len, (0..wanted_inputs.len()).any(skips));
        let parameters =
            wants_parameters.then(|| pass.gradient(pass.parameters.len, !plan.covers_parameters));
        let partials = wants_parameters.then(|| empty(&pass.client, plan.partials_len));
        let work = empty(&pass.client, plan.states_len + plan.scratch_len);
        pass.parts(&Values::of(&into_contiguous(gradient)), &work);
        let mut of_inputs = vec![None; self.inputs.len()];
        for (target, maps) in plan.targets.iter().zip(&tape.maps).rev() {
            if target.input.is_some_and(skips) {
                continue;
            }
            let input = target.input.map(|input| wanted_inputs[input]);
            let maps = match maps {
                Some(handle) => Values { handle: handle.clone(), len: target.maps_len.max(1) },
                None => {
                    let maps = empty(&pass.client, target.maps_len);
                    pass.blocks(target, &maps, false);
                    maps
                }
            };
            pass.normalizations(target, &maps, &work, [parameters.as_ref(), Some(&mixing)]);
            let wants_source = input != Some(false);
            if wants_source || target.has_depthwise {
                pass.products(&target.last, target, &maps, &work);
            }
            if target.inner_sources.count > 0 {
                pass.inner(target, &maps, &work, [parameters.as_ref(), Some(&mixing)]);
            }
            if wants_source || wants_parameters {
                pass.products(&target.first, target, &maps, &work);
            }
            if let Some(partials) = &partials {
                pass.weights(target, &maps, &work, partials);
            }
            match target.input {
                Some(number) if wanted_inputs[number] => {
                    let of_input = empty(&pass.client, pass.inputs[number].len);
                    pass.sources(target, &pass.inputs[number], &work, Some(&of_input));
                    let shape = self.inputs[number].meta.shape().clone();
                    of_inputs[number] = Some(tensor(&self.inputs[number], of_input, shape));
                }
                Some(_) => {}
                None => pass.sources(target, &pass.states, &work, None),
            }
        }
        if let (Some(partials), Some(parameters)) = (&partials, &parameters) {
            pass.add_parts(partials, parameters);
        }
        let like = &self.inputs[0];
        let mixing_shape = self.mixing.meta.shape().clone();
        let parameter_shape = self.parameters.meta.shape().clone();
        CellGradients {
            inputs: of_inputs,
            parameters: parameters.map(|values| tensor(like, values, parameter_shape)),
            mixing: tensor(like, mixing, mixing_shape),
        }
    }
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
    fn take(&self, running: &[CubeTensor; 2]) {
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
    fn observe(&self, running: [CubeTensor; 2]) -> [CubeTensor; 2] {
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
    fn blocks(&self, target: &Target, maps: &Values, moments: bool) {
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
    fn node(&self, target: &Target, maps: &Values, output: &Values) {
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
    fn gradient(&self, len: usize, in_part: bool) -> Values {
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
    fn parts(&self, gradient: &Values, work: &Values) {
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
    fn normalizations(
        &self,
        target: &Target,
        maps: &Values,
        work: &Values,
        to: [Option<&Values>; 2],
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
        [parameters, mixing]: [Option<&Values>; 2],
    ) {
        let plan = self.plan;
        let mixing = mixing.expect("mixing weights always have a gradient");
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

    fn products(&self, rows: &Rows, target: &Target, maps: &Values, work: &Values) {
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
    fn inner(&self, target: &Target, maps: &Values, work: &Values, to: [Option<&Values>; 2]) {
        let plan = self.plan;
        let [height, width] = target.size;
        let tiles = (height * width.div_ceil(4)).div_ceil(UNITS);
        let chunks = plan.batch * tiles;
        let partials = empty(&self.client, target.inner_sources.count * plan.channels * chunks * 2);
        self.source_launch(&target.inner_sources, target, maps, work, &partials, true, false);
        self.coefficients(&target.inner_terms, &partials, chunks, height * width, to);
    }

    fn sources(&self, target: &Target, values: &Values, work: &Values, to: Option<&Values>) {
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
    fn weights(&self, target: &Target, maps: &Values, work: &Values, partials: &Values) {
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
            backward::pointwise_gradients::launch_unchecked(
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
                backward::depthwise_gradients::launch_unchecked(
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
    fn add_parts(&self, partials: &Values, gradient: &Values) {
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
