//! How a cell is computed: fused where the device has kernels for it, else as Burn's operations.

use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use ec_darts_kernels::{Cell, Memory, cell, cell_given, reference, serves};

use super::Packed;
use super::norm::replace;

/// How the operations of a cell are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kernels {
    /// One operation of Burn after the other, on every device: the definition.
    Reference,
    /// Fused, where the device has fused kernels for the cell; the reference elsewhere.
    Fused(Memory),
}

impl Default for Kernels {
    fn default() -> Self {
        Self::Fused(Memory::Save)
    }
}

impl Kernels {
    /// Whether they have a cell as a whole on a device.
    pub(crate) fn serve(self, device: &Device, cell: &Cell) -> bool {
        match self {
            Self::Reference => true,
            Self::Fused(_) => serves(device, cell),
        }
    }

    /// Runs a cell with its packed values; on an autodiff device by the statistics of the batch, which
    /// move the running ones, elsewhere and where the values are frozen by the running ones.
    ///
    /// # Shapes
    /// - `inputs`: one for each of the cell's, `[batch, channels, height, width]`
    /// - `mixing`: `[num_mixing_weights]` of all edges
    /// - `factors`: drop path, `[num_mixing_weights][batch]`; only on an autodiff device
    pub(crate) fn run(
        self,
        description: &Arc<Cell>,
        packed: &Packed,
        inputs: Vec<Tensor<4>>,
        mixing: Tensor<1>,
        factors: Option<Arc<Vec<f32>>>,
    ) -> Tensor<4> {
        let device = inputs[0].device();
        let fused = match self {
            Self::Fused(memory) if serves(&device, description) => Some(memory),
            _ => None,
        };
        let parameters = packed.weights.val();
        let running = [packed.running_mean.value(), packed.running_var.value()];
        let is_autodiff = device.is_autodiff();
        if !(is_autodiff && packed.training.is_enabled()) {
            return match fused {
                // The fused kernel has no backward pass; a frozen cell may stand behind what learns.
                Some(_) if !is_autodiff => {
                    cell_given(inputs, parameters, mixing, running, description.clone())
                }
                _ => reference::cell_given(inputs, parameters, mixing, running, description),
            };
        }
        let all = match fused {
            Some(memory) => {
                cell(inputs, parameters, mixing, running, factors, description.clone(), memory)
            }
            None => reference::cell(inputs, parameters, mixing, running, factors, description),
        };
        let [mean, variance] = all.running;
        replace(&packed.running_mean, mean);
        replace(&packed.running_var, variance);
        all.output
    }
}
