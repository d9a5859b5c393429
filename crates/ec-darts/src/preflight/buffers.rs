//! Bytes of the buffers that the kernels of a GPU make, counted from the plans of their launches.

use ec_darts_kernels::{Cell, cell_bytes};
use ec_darts_space::{CellKind, NUM_INPUTS};

use super::VALUE;
use crate::network::{CellPlan, Stem, StemKind};
use crate::ops::Layout;

/// What a step makes.
#[derive(Default)]
pub(super) struct Buffers {
    /// From the forward pass to the backward pass, and weights.
    pub(super) kept: u64,
    /// Maps before normalization.
    maps: u64,
    /// Those that are there at once where they are computed again.
    maps_at_once: u64,
    /// During the backward pass of the largest cell.
    passing: u64,
}

impl Buffers {
    fn add(&mut self, cell: &Cell, shapes: &[[usize; 4]]) {
        let bytes = cell_bytes(cell, shapes);
        self.kept += bytes.kept;
        self.maps += bytes.maps;
        self.maps_at_once = self.maps_at_once.max(bytes.maps_at_once);
        self.passing = self.passing.max(bytes.passing);
    }

    pub(super) fn stem(&mut self, kind: StemKind, channels: usize, batch: usize, size: [usize; 2]) {
        let mut shape = [batch, 3, size[0], size[1]];
        let layers = kind.layers(channels);
        for (cell, (num_channels, shrink)) in Stem::describe(kind, channels).iter().zip(layers) {
            self.add(cell, &[shape]);
            let [height, width] = size.map(|side| side.div_ceil(shrink));
            shape = [batch, num_channels, height, width];
        }
    }

    /// A cell that works at `size`, with its weights before and after a step, gradients and velocities.
    pub(super) fn cell(
        &mut self,
        (cell, layout): &(Cell, Layout),
        plan: &CellPlan,
        batch: usize,
        size: [usize; 2],
    ) {
        self.kept += 4 * VALUE * layout.weights.len as u64;
        // Odd sizes have no reduction; that is said elsewhere.
        if plan.kind == CellKind::Reduction && size.iter().any(|side| side % 2 == 1) {
            return;
        }
        let shape =
            |(channels, [height, width]): (usize, [usize; 2])| [batch, channels, height, width];
        let inputs = plan.input_maps(size).map(shape);
        let channels = cell.inputs[0].channels[1];
        if cell.nodes.iter().flatten().all(|(_, edge)| edge.channels[0] == channels) {
            self.add(cell, &inputs);
            return;
        }
        // A cell in parts is computed edge by edge.
        for (edge, shape) in cell.inputs.iter().zip(inputs) {
            self.add(&Cell::from(edge.clone()), &[shape]);
        }
        let out = match plan.kind {
            CellKind::Normal => size,
            CellKind::Reduction => size.map(|side| side.div_ceil(2)),
        };
        for (from, edge) in cell.nodes.iter().flatten() {
            let read = if *from < NUM_INPUTS { size } else { out };
            self.add(&Cell::from(edge.clone()), &[shape((edge.channels[0], read))]);
            // The channels that go by, before and behind the sum of a node.
            self.kept += 2 * VALUE * (batch * channels * out[0] * out[1]) as u64;
        }
    }

    /// Maps kept, and computed again; buffers of unlike sizes leave about a tenth unused.
    pub(super) fn total(&self) -> [u64; 2] {
        [self.maps, self.maps_at_once].map(|maps| (self.kept + self.passing + maps) * 11 / 10)
    }
}
