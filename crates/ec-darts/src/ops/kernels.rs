//! The implementation of a cell: fused where the device has kernels for it, else Burn's operations.

use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use ec_darts_kernels::{Cell, Memory, cell, cell_given, reference, serves};

use super::Packed;
use super::norm::replace;

/// The implementation of a cell's operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kernels {
    /// Burn's operations, one after the other, on every device. This is the definition of the
    /// results.
    Reference,
    /// Fused kernels where the device has them for the cell; the reference elsewhere.
    Fused(Memory),
}

impl Default for Kernels {
    fn default() -> Self {
        Self::Fused(Memory::Save)
    }
}

impl Kernels {
    /// Whether a device has kernels for the whole cell.
    pub(crate) fn serve(self, device: &Device, cell: &Cell) -> bool {
        match self {
            Self::Reference => true,
            Self::Fused(_) => serves(device, cell),
        }
    }

    /// Runs a cell with its packed values. On an autodiff device it normalizes by the statistics of
    /// the batch and updates the running statistics; elsewhere, and where the values are frozen, it
    /// normalizes by the running statistics.
    ///
    /// # Shapes
    /// - `inputs`: one for each input of the cell, `[batch, channels, height, width]`
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
                // The fused kernel has no backward pass in this mode; a frozen cell may stand
                // behind trainable layers.
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
