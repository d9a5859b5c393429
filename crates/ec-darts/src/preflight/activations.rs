//! Memory of a network's maps during a step, counted cell by cell.

use ec_darts_space::{CellGenotype, NUM_INPUTS, Primitive, Recipe, SearchSpace};

use super::VALUE;
use crate::network::{CellPlan, Geometry, Map};

/// Bytes that a step keeps, by kind.
#[derive(Default)]
pub(super) struct Activations {
    /// States of the cells, with any kernels.
    pub(super) kept: u64,
    /// Maps before normalization.
    pub(super) maps: u64,
    /// Maps of all edges into the node with the most of them.
    pub(super) largest_node: u64,
    /// Maps that Burn's own operations keep.
    pub(super) reference: u64,
    /// Gradients and temporary memory of the largest cell.
    pub(super) passing: u64,
}

/// Bytes of a map; kernels fill channels up to whole blocks of 8.
fn map(batch: u64, map: Map, image: [usize; 2]) -> u64 {
    let [height, width] = map.size(image);
    VALUE * batch * (map.channels.next_multiple_of(8) * height * width) as u64
}

impl Activations {
    /// Adds the stem and the residual blocks: for each convolution, its output and the map before
    /// its normalization; for a block also the parallel 1x1 convolution, its input and the sum; and
    /// the last normalization with its ReLU.
    pub(super) fn beside_cells(&mut self, geometry: &Geometry, batch: u64, image: [usize; 2]) {
        let bytes = |of: Map| map(batch, of, image);
        let blocks = geometry.residuals.iter();
        for layer in geometry.stem.iter().chain(blocks.clone().flat_map(|block| [&block.output; 2]))
        {
            let layer = bytes(*layer);
            self.kept += layer;
            self.maps += layer;
            self.largest_node = self.largest_node.max(layer);
            self.reference += 3 * layer;
            // Two cells give gradients of the output, which are summed.
            self.passing = self.passing.max(3 * layer);
        }
        for block in blocks {
            self.kept +=
                2 * bytes(block.output) + bytes(Map { shrink: block.output.shrink, ..block.input });
        }
        if geometry.last_norm {
            self.kept += 3 * bytes(geometry.last);
        }
    }

    pub(super) fn discrete_cell(
        &mut self,
        plan: &CellPlan,
        batch: u64,
        image: [usize; 2],
        genotype: &CellGenotype,
    ) {
        let [input, node] = [plan.preprocessed(), plan.node].map(|of| map(batch, of, image));
        let picks = || genotype.nodes.iter().flatten();
        // States that an operation reads, and the joined states.
        let is_read = |state: &usize| picks().any(|pick| pick.from == *state);
        let inner = genotype.node_states().filter(is_read).count() as u64;
        let inputs = (0..NUM_INPUTS).filter(is_read).count() as u64;
        let num_nodes = genotype.states_with_picks().count() as u64;
        let joined = genotype.concat.len() as u64 * node;
        self.kept += inputs * input + inner * node + joined;
        let num_inputs = plan.inputs.len() as u64;
        self.maps += num_inputs * input;
        self.reference += 4 * num_inputs * input;
        for picks in &genotype.nodes {
            let mut of_node = 0;
            for pick in picks {
                let blocks = num_blocks(pick.primitive, plan.stride(pick.from));
                of_node += blocks * node;
                self.reference += (3 * blocks + 1) * node;
            }
            self.maps += of_node;
            self.largest_node = self.largest_node.max(of_node);
        }
        self.gradients(plan, batch, image, joined + num_nodes * node);
    }

    /// Gradients of the nodes, of the preprocessed inputs and of the inputs themselves, and the
    /// gradient that one edge passes on.
    fn gradients(&mut self, plan: &CellPlan, batch: u64, image: [usize; 2], nodes: u64) {
        let bytes = |of: Map| map(batch, of, image);
        let own = plan.inputs.len() as u64 * bytes(plan.preprocessed());
        let inputs = own + plan.inputs.iter().map(|&input| bytes(input)).sum::<u64>();
        self.passing = self.passing.max(nodes + inputs + 2 * bytes(plan.node));
    }

    pub(super) fn cell(
        &mut self,
        plan: &CellPlan,
        batch: u64,
        image: [usize; 2],
        space: &SearchSpace,
        parts: usize,
    ) {
        let topology = space.topology();
        let [input, node] = [plan.preprocessed(), plan.node].map(|of| map(batch, of, image));
        // The preprocessed inputs and their maps; the nodes, once alone and once joined.
        let num_inputs = plan.inputs.len() as u64;
        let nodes = 2 * topology.num_nodes() as u64 * node;
        self.kept += num_inputs * input + nodes;
        self.maps += num_inputs * input;
        // The channels that pass through the operations, in a cell of several parts.
        let through = Map { channels: plan.node.channels / parts, ..plan.node };
        let through = map(batch, through, image);
        if parts > 1 {
            self.kept += (num_inputs + topology.num_nodes() as u64) * through;
        }
        let read: usize = plan.inputs.iter().map(|input| input.channels).sum();
        let mut parameters = read * plan.node.channels;
        self.reference += 4 * num_inputs * input;
        for target in 0..topology.num_nodes() {
            let mut of_node = 0;
            for source in topology.sources(target) {
                let stride = plan.stride(source);
                let edge = topology.edge_number(source, target);
                let primitives = space.candidates(plan.kind, edge);
                let blocks = primitives.iter().map(|&each| num_blocks(each, stride)).sum::<u64>();
                let weights = primitives.iter().map(|&each| num_weights(each, plan, stride));
                parameters += weights.sum::<usize>();
                of_node += blocks * through;
                // Depthwise, pointwise and normalized maps; in addition pools and scaled outputs.
                self.reference += (3 * blocks + primitives.len() as u64) * node;
            }
            self.maps += of_node;
            self.largest_node = self.largest_node.max(of_node);
        }
        // Weights before and after a step, gradients and velocities.
        self.kept += 4 * VALUE * parameters as u64;
        self.gradients(plan, batch, image, nodes);
    }
}

/// Number of weights of an operation of the search space.
fn num_weights(primitive: Primitive, plan: &CellPlan, stride: usize) -> usize {
    let channels = plan.node.channels;
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
