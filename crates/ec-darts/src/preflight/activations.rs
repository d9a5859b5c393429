//! What the maps of a network take while a step is computed, cell by cell.

use ec_darts_space::{CellGenotype, CellKind, NUM_INPUTS, Primitive, Recipe, SearchSpace};

use super::buffers::Buffers;
use super::{MemoryNeed, VALUE};
use crate::network::{CellPlan, StemKind};

/// Bytes that a step keeps, by kind.
#[derive(Default)]
pub(super) struct Activations {
    /// States of the cells, whatever the kernels.
    pub(super) kept: u64,
    /// Maps before normalization.
    maps: u64,
    /// Those of all edges into the node that has most.
    largest_node: u64,
    /// What Burn's own operations keep.
    reference: u64,
    /// Gradients and scratch of the largest cell.
    passing: u64,
}

/// Bytes of a map; kernels fill channels up to whole blocks of 8.
fn map(batch: u64, num_channels: usize, [height, width]: [usize; 2]) -> u64 {
    VALUE * batch * (num_channels.next_multiple_of(8) * height * width) as u64
}

impl Activations {
    /// With `host` bytes that are in the process whatever a step keeps.
    pub(super) fn total(&self, host: u64, buffers: &Buffers) -> MemoryNeed {
        // Buffers of unlike sizes leave about a tenth unused, as measured.
        let need = |maps: u64| host + (self.kept + self.passing + maps) * 11 / 10;
        MemoryNeed {
            host,
            save: need(self.maps),
            recompute: need(self.largest_node),
            reference: need(self.reference),
            gpu: buffers.total(),
            measuring: 0,
        }
    }

    /// Of each convolution: its output, and the map before its normalization.
    pub(super) fn stem(&mut self, kind: StemKind, channels: usize, batch: u64, size: [usize; 2]) {
        for (num_channels, shrink) in kind.layers(channels) {
            let size = size.map(|side| side.div_ceil(shrink));
            let layer = map(batch, num_channels, size);
            self.kept += layer;
            self.maps += layer;
            self.largest_node = self.largest_node.max(layer);
            self.reference += 3 * layer;
            // Two cells give the output's gradient, which is summed.
            self.passing = self.passing.max(3 * layer);
        }
    }

    pub(super) fn discrete_cell(
        &mut self,
        plan: &CellPlan,
        batch: u64,
        size: [usize; 2],
        genotype: &CellGenotype,
    ) {
        let reduces = plan.kind == CellKind::Reduction;
        let out = if reduces { size.map(|side| side.div_ceil(2)) } else { size };
        let (input, node) =
            (map(batch, plan.num_channels, size), map(batch, plan.num_channels, out));
        let picks = || genotype.nodes.iter().flatten();
        // States that an operation reads, and the joined ones.
        let is_read = |state: &usize| picks().any(|pick| pick.from == *state);
        let inner = (NUM_INPUTS..NUM_INPUTS + genotype.nodes.len()).filter(is_read).count() as u64;
        let inputs = (0..NUM_INPUTS).filter(is_read).count() as u64;
        let num_nodes = genotype.states_with_picks().count() as u64;
        let joined = genotype.concat.len() as u64 * node;
        self.kept += inputs * input + inner * node + joined;
        self.maps += 2 * input;
        self.reference += 8 * input;
        for picks in &genotype.nodes {
            let mut of_node = 0;
            for pick in picks {
                let stride = if reduces && pick.from < NUM_INPUTS { 2 } else { 1 };
                let blocks = num_blocks(pick.primitive, stride);
                of_node += blocks * node;
                self.reference += (3 * blocks + 1) * node;
            }
            self.maps += of_node;
            self.largest_node = self.largest_node.max(of_node);
        }
        self.gradients(plan, batch, size, joined + num_nodes * node, node);
    }

    /// Gradients of the nodes, of the preprocessed inputs and of the inputs themselves, and what one
    /// edge passes on.
    fn gradients(&mut self, plan: &CellPlan, batch: u64, size: [usize; 2], nodes: u64, node: u64) {
        let passed = plan.input_maps(size).map(|(channels, size)| map(batch, channels, size));
        let inputs = 2 * map(batch, plan.num_channels, size) + passed.iter().sum::<u64>();
        self.passing = self.passing.max(nodes + inputs + 2 * node);
    }

    pub(super) fn cell(
        &mut self,
        plan: &CellPlan,
        batch: u64,
        size: [usize; 2],
        space: &SearchSpace,
    ) {
        let num_nodes = space.topology().num_nodes();
        let reduces = plan.kind == CellKind::Reduction;
        let out = if reduces { size.map(|side| side.div_ceil(2)) } else { size };
        let (input, node) =
            (map(batch, plan.num_channels, size), map(batch, plan.num_channels, out));
        // Both preprocessed inputs and their maps; the nodes, once each and once joined.
        let nodes = 2 * num_nodes as u64 * node;
        self.kept += 2 * input + nodes;
        self.maps += 2 * input;
        let mut parameters = plan.inputs.iter().sum::<usize>() * plan.num_channels;
        self.reference += 8 * input;
        for target in 0..num_nodes {
            let mut of_node = 0;
            for source in 0..NUM_INPUTS + target {
                let stride = if reduces && source < NUM_INPUTS { 2 } else { 1 };
                let edge = space.topology().edge_number(source, target);
                let primitives = space.candidates(plan.kind, edge);
                let blocks = primitives.iter().map(|&each| num_blocks(each, stride)).sum::<u64>();
                let weights = primitives.iter().map(|&each| num_weights(each, plan, stride));
                parameters += weights.sum::<usize>();
                of_node += blocks * node;
                // Depthwise, pointwise and normalized maps; pools and scaled outputs besides.
                self.reference += (3 * blocks + primitives.len() as u64) * node;
            }
            self.maps += of_node;
            self.largest_node = self.largest_node.max(of_node);
        }
        // Weights before and after a step, gradients and velocities.
        self.kept += 4 * VALUE * parameters as u64;
        self.gradients(plan, batch, size, nodes, node);
    }
}

/// Weights of an operation of the search space.
fn num_weights(primitive: Primitive, plan: &CellPlan, stride: usize) -> usize {
    let channels = plan.num_channels;
    let block = |kernel: usize| channels * (kernel * kernel + channels);
    match primitive.recipe() {
        Recipe::Separable { kernel, repeats, .. } => repeats * block(kernel),
        Recipe::Convolution { kernel } => kernel * kernel * channels * channels,
        Recipe::Identity if stride == 2 => channels * channels,
        _ => 0,
    }
}

fn num_blocks(primitive: Primitive, stride: usize) -> u64 {
    primitive.recipe().num_blocks(stride) as u64
}
