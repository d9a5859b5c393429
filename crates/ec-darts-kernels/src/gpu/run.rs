//! A cell's launches, forward and backward.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeDevice, cubecl};
use cubecl::prelude::*;
use cubecl::server::Handle;

use super::launch::{Pass, Values, empty, tensor};
use super::launches::{Plan, Target};
use super::planes::Access;
use crate::edge::{Cell, Memory};
use crate::extension::{CellGradients, Wanted};

/// The values of a cell.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// `[batch, channels, height, width]`.
    pub inputs: Vec<CubeTensor>,
    pub parameters: CubeTensor,
    pub mixing: CubeTensor,
    /// Drop path, `[num_mixing_weights][batch]`.
    pub factors: Option<Arc<Vec<f32>>>,
}

/// The values that the backward pass needs besides the inputs.
#[derive(Debug)]
pub struct Tape {
    plan: Arc<Planned>,
    states: Handle,
    norms: Handle,
    /// The maps of each target, where they are kept.
    maps: Vec<Option<Handle>>,
    table: Handle,
    factors: usize,
}

/// A plan whose table is on the device.
#[derive(Debug)]
struct Planned {
    plan: Plan,
    table: Handle,
}

/// Plans of cells that ran before, so that a step builds and uploads none.
type Plans = HashMap<(CubeDevice, Cell, Vec<[usize; 4]>, [usize; 2]), Arc<Planned>>;

static PLANS: LazyLock<Mutex<Plans>> = LazyLock::new(Default::default);

/// An auxiliary model brings new cells every epoch: the old plans are dropped together.
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

/// The way to read quads. WGSL has no view of a buffer's values as fours.
fn access(plan: &Plan, client: &Client) -> Access {
    let has_view = ["cuda", "hip"].contains(&client.name());
    match plan.whole {
        true if has_view => Access::Vectors,
        true => Access::Quads,
        false => Access::Pixels,
    }
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

    /// Runs a cell with its own statistics, which update the running ones; or with these unchanged
    /// where `given`. Returns the output, the updated statistics, and the values for the backward
    /// pass.
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
        let pass = Pass {
            plan,
            table,
            inputs: self.inputs.iter().map(Values::of).collect(),
            parameters: Values::of(&self.parameters),
            mixing: Values::of(&self.mixing),
            states: empty(&client, plan.states_len),
            norms: empty(&client, plan.norms_len()),
            factors,
            access: access(plan, &client),
            client,
        };
        let output = empty(&pass.client, plan.output.iter().product());
        if given {
            pass.take(&running);
        }
        let pooled = empty(&pass.client, plan.pooled_len);
        let maps = plan.targets.iter().map(|target| {
            let maps = empty(&pass.client, target.maps_len);
            pass.blocks(target, &maps, Some(&pooled), !given);
            pass.node(target, &maps, &pooled, &output);
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

    /// The gradients of a cell that [`Self::forward`] ran with its own statistics.
    pub fn backward(
        &self,
        tape: &Tape,
        gradient: CubeTensor,
        wanted: &Wanted,
    ) -> CellGradients<CubeBackend> {
        let plan = &tape.plan.plan;
        let client = self.inputs[0].client.clone();
        let table_len = plan.table.len() + self.factors.as_ref().map_or(0, |each| each.len());
        let pass = Pass {
            plan,
            table: Values { handle: tape.table.clone(), len: table_len },
            inputs: self.inputs.iter().map(Values::of).collect(),
            parameters: Values::of(&self.parameters),
            mixing: Values::of(&self.mixing),
            states: Values { handle: tape.states.clone(), len: plan.states_len },
            norms: Values { handle: tape.norms.clone(), len: plan.norms_len() },
            factors: tape.factors,
            access: access(plan, &client),
            client,
        };
        // No gradient behind an input's own edge is requested.
        let skips =
            |input: usize| !wanted.inputs[input] && !wanted.parameters && plan.targets.len() > 1;
        let skips_target = |target: &Target| {
            let inputs = &target.inputs_read;
            !inputs.is_empty() && inputs.iter().all(|&input| skips(input))
        };
        let gradient_of = || pass.gradient(pass.parameters.len, !plan.covers_parameters);
        let parameters = wanted.parameters.then(gradient_of);
        let parameters = parameters.as_ref();
        let partials_len = if wanted.parameters { plan.partials_len } else { 0 };
        let work = empty(&pass.client, plan.states_len + plan.scratch_len + partials_len);
        pass.parts(&Values::of(&into_contiguous(gradient)), &work);
        // Not in `work`: the allocator's pages grow with the largest buffer.
        let pooled = empty(&pass.client, plan.pooled_len);
        pass.pool_maps(&pooled);
        let mut of_inputs = vec![None; self.inputs.len()];
        let mut skipped = 0;
        for (target, maps) in plan.targets.iter().zip(&tape.maps).rev() {
            if skips_target(target) {
                skipped |= target.inputs_read.iter().fold(0, |bits, input| bits | 1 << input);
                continue;
            }
            let maps = match maps {
                Some(handle) => Values { handle: handle.clone(), len: target.maps_len.max(1) },
                None => {
                    let maps = empty(&pass.client, target.maps_len);
                    pass.blocks(target, &maps, None, false);
                    maps
                }
            };
            // From all later nodes at once.
            pass.pools_back(target, &work, None);
            pass.normalizations(target, &maps, &pooled, &work, parameters);
            let mut inputs_read = target.inputs_read.iter();
            let wants_source =
                target.inputs_read.is_empty() || inputs_read.any(|&input| wanted.inputs[input]);
            if wants_source || target.has_depthwise {
                pass.products(&target.last, target, &maps, &work, parameters);
            }
            if target.inner_sources.count > 0 {
                pass.inner(target, &maps, &work);
            }
            if wants_source || wanted.parameters {
                pass.products(&target.first, target, &maps, &work, parameters);
            }
            if target.inputs_read.is_empty() {
                pass.states(target, &work);
            }
            let to = target.inputs_read.iter().map(|&input| {
                wanted.inputs[input].then(|| empty(&pass.client, pass.inputs[input].len))
            });
            let to: Vec<Option<Values>> = to.collect();
            pass.inputs(target, &work, &to);
            if let [Some(to)] = &to[..] {
                pass.pools_back(target, &work, Some(to));
            }
            for (&input, to) in target.inputs_read.iter().zip(to) {
                let shape = self.inputs[input].meta.shape().clone();
                of_inputs[input] = to.map(|to| tensor(&self.inputs[input], to, shape));
            }
            // Last, because what blocks gathered takes the place of its gradient.
            if wanted.parameters {
                pass.weights(target, &maps, &work);
            }
        }
        if let Some(parameters) = parameters {
            pass.add_parts(&work, parameters);
        }
        let like = &self.inputs[0];
        let mixing = wanted.mixing.then(|| {
            let mixing = empty(&pass.client, pass.mixing.len);
            pass.mixing_gradients(&mixing, skipped);
            tensor(like, mixing, self.mixing.meta.shape().clone())
        });
        let parameter_shape = self.parameters.meta.shape().clone();
        CellGradients {
            inputs: of_inputs,
            parameters: parameters.map(|values| tensor(like, values.clone(), parameter_shape)),
            mixing,
        }
    }
}
