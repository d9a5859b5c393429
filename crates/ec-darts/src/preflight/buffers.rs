//! Bytes of the buffers of a GPU's kernels, counted from the plans of their launches.

use ec_darts_kernels::{Cell, cell_bytes};

use super::VALUE;
use crate::network::{CellPlan, Geometry, Map, ResidualBlock, Stem};
use crate::ops::Layout;

/// The buffers of a step.
#[derive(Default)]
pub(super) struct Buffers {
    /// Weights, and buffers from the forward pass to the backward pass.
    pub(super) kept: u64,
    /// Maps before normalization.
    maps: u64,
    /// Maps that exist at the same time where they are computed again.
    maps_at_once: u64,
    /// Buffers during the backward pass of the largest cell.
    passing: u64,
}

fn shape(batch: usize, map: Map, image: [usize; 2]) -> [usize; 4] {
    let [height, width] = map.size(image);
    [batch, map.channels, height, width]
}

fn bytes(shape: [usize; 4]) -> u64 {
    VALUE * shape.into_iter().product::<usize>() as u64
}

impl Buffers {
    fn add(&mut self, cell: &Cell, shapes: &[[usize; 4]]) {
        let bytes = cell_bytes(cell, shapes);
        self.kept += bytes.kept;
        self.maps += bytes.maps;
        self.maps_at_once = self.maps_at_once.max(bytes.maps_at_once);
        self.passing = self.passing.max(bytes.passing);
    }

    /// Adds the stem, the residual blocks, and the layers beside and behind these without their own
    /// kernels.
    pub(super) fn beside_cells(&mut self, geometry: &Geometry, batch: usize, image: [usize; 2]) {
        let shape = |map: Map| shape(batch, map, image);
        let mut read = Map { channels: 3, shrink: 1 };
        for (cell, &map) in Stem::describe(&geometry.stem).iter().zip(&geometry.stem) {
            self.add(cell, &[shape(read)]);
            read = map;
        }
        for plan in &geometry.residuals {
            for (cell, read) in ResidualBlock::describe(plan).iter().zip([plan.input, plan.output])
            {
                self.add(cell, &[shape(read)]);
            }
            let pooled = Map { channels: plan.input.channels, ..plan.output };
            self.kept += bytes(shape(pooled)) + 2 * bytes(shape(plan.output));
        }
        if geometry.last_norm {
            self.kept += 2 * bytes(shape(geometry.last));
        }
    }

    /// Adds a cell, with its weights before and after a step, gradients and velocities.
    pub(super) fn cell(
        &mut self,
        (cell, layout): &(Cell, Layout),
        plan: &CellPlan,
        batch: usize,
        image: [usize; 2],
    ) {
        self.kept += 4 * VALUE * layout.weights.len as u64;
        // Odd sizes have no reduction; another check reports this.
        let reads = plan.preprocessed();
        let is_odd = reads.size(image).iter().any(|side| side % 2 == 1);
        if plan.node != reads && is_odd {
            return;
        }
        let shape = |map: Map| shape(batch, map, image);
        let inputs: Vec<[usize; 4]> = plan.inputs.iter().map(|&input| shape(input)).collect();
        let channels = cell.inputs[0].channels[1];
        if cell.nodes.iter().flatten().all(|(_, edge)| edge.channels[0] == channels) {
            self.add(cell, &inputs);
            return;
        }
        // A cell in parts is computed edge by edge.
        for (edge, shape) in cell.inputs.iter().zip(inputs) {
            self.add(&Cell::from(edge.clone()), &[shape]);
        }
        for (from, edge) in cell.nodes.iter().flatten() {
            let read = plan.state(*from + plan.missing_inputs());
            let read = Map { channels: edge.channels[0], ..read };
            self.add(&Cell::from(edge.clone()), &[shape(read)]);
            // The channels that bypass the operations, before and after the sum of a node.
            self.kept += 2 * bytes(shape(plan.node));
        }
    }

    /// The totals with maps kept, and with maps computed again; buffers of different sizes leave
    /// about a tenth unused.
    pub(super) fn total(&self) -> [u64; 2] {
        [self.maps, self.maps_at_once].map(|maps| (self.kept + self.passing + maps) * 11 / 10)
    }
}
