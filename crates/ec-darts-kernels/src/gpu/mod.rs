//! The fused kernels for the devices of CubeCL: CUDA, ROCm, Vulkan, Metal and WebGPU, from one source.
//!
//! Entry point: [`crate::extension::CellKernels`] of the backend. Invariants: there are no atomics,
//! and every sum has a fixed order, so a pass gives the same bits every time; the work of a launch
//! is described by a table of offsets made on the host ([`plan`]), so that another cell of the same
//! widths needs no compilation.
//!
//! All maps are planes, `[batch][channel][position]`. A unit works on four neighbouring pixels of a row.
#![allow(missing_docs, reason = "private")]
#![allow(clippy::too_many_arguments, reason = "a kernel's arguments are its bindings")]
#![allow(unused_assignments, reason = "in a kernel a value that branches give is a variable first")]

mod backward;
mod blocks;
mod depthwise;
mod gather;
mod head;
mod kept;
mod launch;
mod launch_backward;
mod launches;
mod moments;
mod plan;
mod planes;
mod pools;
mod pools_back;
mod pools_strided;
mod product;
mod reached;
mod rows;
mod run;
mod scattered;
mod select;
mod sources;
mod staged;
mod steps;
mod sums;
mod table;
mod taps;
mod tile;
mod weights;
mod windows;

use std::sync::Arc;

use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;

use crate::edge::{Cell, Memory};
use crate::extension::{CellGradients, CellKernels, CellTensors, Wanted};
pub use plan::{cell_bytes, serves};
use run::{Inputs, Tape};

impl CellKernels for CubeBackend {
    type Inputs = Inputs;
    type Tape = Tape;

    fn inputs(
        inputs: Vec<CubeTensor>,
        parameters: CubeTensor,
        mixing: CubeTensor,
        factors: Option<Arc<Vec<f32>>>,
    ) -> Inputs {
        Inputs::new(inputs, parameters, mixing, factors)
    }

    fn forward(
        inputs: &Inputs,
        running: [CubeTensor; 2],
        cell: &Cell,
        memory: Memory,
    ) -> (CellTensors<Self>, Tape) {
        let (output, [running_mean, running_var], tape) =
            inputs.forward(cell, running, false, memory);
        (CellTensors { output, running_mean, running_var }, tape)
    }

    fn forward_given(inputs: &Inputs, running: [CubeTensor; 2], cell: &Cell) -> CubeTensor {
        inputs.forward(cell, running, true, Memory::Recompute).0
    }

    fn backward(
        inputs: &Inputs,
        _cell: &Cell,
        tape: &Tape,
        gradient: CubeTensor,
        wanted: &Wanted,
    ) -> CellGradients<Self> {
        inputs.backward(tape, gradient, wanted)
    }
}
