//! The kernels for CPUs behind Burn's Flex backend.

use std::ops::Range;
use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::{Bytes, DType, Shape, TensorData};

use crate::cpu::{self, Buffer, Isas, Tape, Values};
use crate::edge::{Cell, Memory};
use crate::extension::{CellGradients, CellKernels, CellTensors, Wanted};
use crate::numbers::SgdNumbers;
use crate::steps::{CpuSteps, SgdTensors};

/// The values of a cell, contiguous.
#[derive(Clone, Debug)]
pub struct Inputs {
    inputs: Vec<FlexTensor>,
    parameters: FlexTensor,
    mixing: FlexTensor,
    factors: Option<Arc<Vec<f32>>>,
}

impl Inputs {
    fn values(&self) -> Values<'_> {
        Values {
            inputs: self.inputs.iter().map(|input| (slice(input), input.shape().dims())).collect(),
            parameters: slice(&self.parameters),
            mixing: slice(&self.mixing),
            factors: self.factors.as_deref().map(Vec::as_slice),
        }
    }
}

fn slice(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice::<f32>().expect("contiguous and single precision")
}

fn tensor(values: Vec<f32>, shape: Shape) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// A tensor in the memory of a buffer.
fn held(buffer: Buffer, shape: Shape) -> FlexTensor {
    let len = buffer.len() * size_of::<f32>();
    // SAFETY: a buffer is initialized and has this number of bytes.
    let bytes = unsafe { Bytes::from_controller(Box::new(buffer), len) };
    FlexTensor::from_data(TensorData::from_bytes(bytes, shape, DType::F32))
}

impl CellKernels for Flex {
    type Inputs = Inputs;
    type Tape = Tape;

    fn inputs(
        inputs: Vec<FlexTensor>,
        parameters: FlexTensor,
        mixing: FlexTensor,
        factors: Option<Arc<Vec<f32>>>,
    ) -> Inputs {
        let inputs = inputs.iter().map(FlexTensor::to_contiguous).collect();
        let [parameters, mixing] = [parameters, mixing].map(|tensor| tensor.to_contiguous());
        Inputs { inputs, parameters, mixing, factors }
    }

    fn forward(
        inputs: &Inputs,
        running: [FlexTensor; 2],
        cell: &Cell,
        memory: Memory,
    ) -> (CellTensors<Self>, Tape) {
        let (output, shape, tape) =
            cpu::forward(Isas::of(cell), cell, &inputs.values(), None, memory);
        let shapes = running.each_ref().map(|each| each.shape());
        let [mut mean, mut variance] = running.map(|each| slice(&each.to_contiguous()).to_vec());
        tape.observe([&mut mean, &mut variance]);
        let [of_mean, of_variance] = shapes;
        let tensors = CellTensors {
            output: held(output, Shape::from(shape)),
            running_mean: tensor(mean, of_mean),
            running_var: tensor(variance, of_variance),
        };
        (tensors, tape)
    }

    fn forward_given(inputs: &Inputs, running: [FlexTensor; 2], cell: &Cell) -> FlexTensor {
        let [mean, variance] = running.each_ref().map(FlexTensor::to_contiguous);
        let given = Some([slice(&mean), slice(&variance)]);
        let (output, shape, _) =
            cpu::forward(Isas::of(cell), cell, &inputs.values(), given, Memory::Recompute);
        held(output, Shape::from(shape))
    }

    fn backward(
        inputs: &Inputs,
        cell: &Cell,
        tape: &Tape,
        gradient: FlexTensor,
        wanted: &Wanted,
    ) -> CellGradients<Self> {
        let gradient = gradient.to_contiguous();
        let values = inputs.values();
        let all = cpu::backward(Isas::of(cell), cell, &values, tape, slice(&gradient), wanted);
        let of_inputs = all.inputs.into_iter().zip(&inputs.inputs).zip(&wanted.inputs);
        let parameters = tensor(all.parameters, inputs.parameters.shape());
        CellGradients {
            inputs: of_inputs
                .map(|((values, like), wanted)| wanted.then(|| held(values, like.shape())))
                .collect(),
            parameters: wanted.parameters.then_some(parameters),
            mixing: wanted.mixing.then(|| tensor(all.mixing, inputs.mixing.shape())),
        }
    }
}

/// The values of a tensor, which is copied where others share its memory.
fn slice_mut(tensor: &mut FlexTensor) -> &mut [f32] {
    if tensor.layout().contiguous_offsets().is_none() {
        *tensor = tensor.to_contiguous();
    }
    let (start, end) = tensor.layout().contiguous_offsets().expect("contiguous by now");
    &mut tensor.storage_mut()[start..end]
}

impl CpuSteps for Flex {
    fn squares(gradient: FlexTensor) -> FlexTensor {
        tensor(vec![cpu::squares(slice(&gradient.to_contiguous()))], Shape::from([1]))
    }

    fn sgd_of(
        mut weights: FlexTensor,
        gradient: FlexTensor,
        mut velocity: FlexTensor,
        factor: FlexTensor,
        numbers: SgdNumbers,
        moved: Option<Vec<Range<usize>>>,
    ) -> SgdTensors<Self> {
        let factor = slice(&factor.to_contiguous())[0];
        let (gradient, values) = (gradient.to_contiguous(), slice_mut(&mut weights));
        let moved = moved.unwrap_or_else(|| std::iter::once(0..values.len()).collect());
        let of = [values, slice_mut(&mut velocity)];
        cpu::sgd(of, slice(&gradient), factor, numbers, &moved);
        SgdTensors { weights, velocity }
    }
}
