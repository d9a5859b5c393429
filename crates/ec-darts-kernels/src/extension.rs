//! The fused cell as an operation of Burn, with its own backward pass.

use std::sync::Arc;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, ExtensionType, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Bytes, DType, Shape, TensorData};

use crate::cpu::{self, Buffer, Isa, Tape, Values, Wanted};
use crate::edge::{Cell, Memory};

/// What a fused cell reads, each `[batch, channels, height, width]`.
#[derive(ExtensionType, Debug)]
pub enum CellInputs<B: Backend> {
    /// A single edge.
    One(FloatTensor<B>),
    /// A cell.
    Two(FloatTensor<B>, FloatTensor<B>),
}

impl<B: Backend> CellInputs<B> {
    /// # Panics
    /// Where there are neither one nor two.
    pub fn new(tensors: impl IntoIterator<Item = FloatTensor<B>>) -> Self {
        let mut tensors = tensors.into_iter();
        match (tensors.next(), tensors.next(), tensors.next()) {
            (Some(one), None, _) => Self::One(one),
            (Some(one), Some(other), None) => Self::Two(one, other),
            _ => panic!("a cell has one or two inputs"),
        }
    }

    fn into_vec(self) -> Vec<FloatTensor<B>> {
        match self {
            Self::One(one) => vec![one],
            Self::Two(one, other) => vec![one, other],
        }
    }
}

/// Output of a fused cell, and the statistics of its batch.
#[derive(ExtensionType, Debug)]
pub struct CellTensors<B: Backend> {
    /// `[batch, channels, height, width]`.
    pub output: FloatTensor<B>,
    /// `[num_norms * channels]`.
    pub mean: FloatTensor<B>,
    /// `[num_norms * channels]`, biased.
    pub variance: FloatTensor<B>,
}

/// What a backend offers for a cell. Other backends run the plain composition of Burn's
/// operations, which is the definition the modules give.
#[backend_extension(Flex, Autodiff)]
pub trait CellOps: Backend {
    /// A cell with the statistics of its batch.
    fn cell(
        #[extension_type] inputs: CellInputs<Self>,
        parameters: FloatTensor<Self>,
        mixing: FloatTensor<Self>,
        cell: Arc<Cell>,
        memory: Memory,
    ) -> CellTensors<Self>;

    /// A cell with given statistics; without gradient.
    fn cell_given(
        #[extension_type] inputs: CellInputs<Self>,
        parameters: FloatTensor<Self>,
        mixing: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        cell: Arc<Cell>,
    ) -> FloatTensor<Self>;
}

/// What a cell is computed from, contiguous.
#[derive(Clone, Debug)]
struct Inputs {
    inputs: Vec<FlexTensor>,
    parameters: FlexTensor,
    mixing: FlexTensor,
}

impl Inputs {
    fn new(inputs: Vec<FlexTensor>, parameters: FlexTensor, mixing: FlexTensor) -> Self {
        let inputs = inputs.iter().map(FlexTensor::to_contiguous).collect();
        let [parameters, mixing] = [parameters, mixing].map(|tensor| tensor.to_contiguous());
        Self { inputs, parameters, mixing }
    }

    fn values(&self) -> Values<'_> {
        Values {
            inputs: self.inputs.iter().map(|input| (slice(input), input.shape().dims())).collect(),
            parameters: slice(&self.parameters),
            mixing: slice(&self.mixing),
            factors: None,
        }
    }

    fn forward(&self, cell: &Cell, memory: Memory) -> (CellTensors<Flex>, Tape) {
        let (output, shape, tape) = cpu::forward(Isa::of(cell), cell, &self.values(), None, memory);
        let [mean, variance] = tape.statistics();
        let statistics = Shape::from([mean.len()]);
        let tensors = CellTensors {
            output: held(output, Shape::from(shape)),
            mean: tensor(mean, statistics.clone()),
            variance: tensor(variance, statistics),
        };
        (tensors, tape)
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
    // SAFETY: a buffer is initialized and has as many bytes.
    let bytes = unsafe { Bytes::from_controller(Box::new(buffer), len) };
    FlexTensor::from_data(TensorData::from_bytes(bytes, shape, DType::F32))
}

impl CellOps for Flex {
    fn cell(
        inputs: CellInputs<Self>,
        parameters: FlexTensor,
        mixing: FlexTensor,
        cell: Arc<Cell>,
        _memory: Memory,
    ) -> CellTensors<Self> {
        Inputs::new(inputs.into_vec(), parameters, mixing).forward(&cell, Memory::Recompute).0
    }

    fn cell_given(
        inputs: CellInputs<Self>,
        parameters: FlexTensor,
        mixing: FlexTensor,
        mean: FlexTensor,
        variance: FlexTensor,
        cell: Arc<Cell>,
    ) -> FlexTensor {
        let inputs = Inputs::new(inputs.into_vec(), parameters, mixing);
        let (mean, variance) = (mean.to_contiguous(), variance.to_contiguous());
        let given = Some([slice(&mean), slice(&variance)]);
        let (output, shape, _) =
            cpu::forward(Isa::of(&cell), &cell, &inputs.values(), given, Memory::Recompute);
        held(output, Shape::from(shape))
    }
}

#[derive(Debug)]
struct CellBackward;

/// The parents are the inputs, the packed parameters and the mixing weights.
impl<const N: usize> Backward<Flex, N> for CellBackward {
    type State = (Inputs, Arc<Cell>, Arc<Tape>);

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (all, cell, tape) = ops.state;
        let gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
        let nodes = ops.parents.map(|node| node.map(|node| node.id));
        let (inputs, [parameters, mixing]) = nodes.split_last_chunk().expect("at least these two");
        let gradients = cpu::backward(
            Isa::of(&cell),
            &cell,
            &all.values(),
            &tape,
            slice(&gradient),
            &Wanted {
                inputs: inputs.iter().map(Option::is_some).collect(),
                parameters: parameters.is_some(),
            },
        );
        let mut register = |node: &Option<NodeId>, gradient: FlexTensor| {
            if let Some(node) = node {
                grads.register::<Flex>(*node, gradient);
            }
        };
        for ((node, values), like) in inputs.iter().zip(gradients.inputs).zip(&all.inputs) {
            register(node, held(values, like.shape()));
        }
        register(parameters, tensor(gradients.parameters, all.parameters.shape()));
        register(mixing, tensor(gradients.mixing, all.mixing.shape()));
    }
}

type Tracked<C> = FloatTensor<Autodiff<Flex, C>>;

/// A cell in the graph of gradients; the last two tensors are parameters and mixing weights.
fn tracked<C: CheckpointStrategy, const N: usize>(
    tensors: [Tracked<C>; N],
    cell: Arc<Cell>,
    memory: Memory,
) -> CellTensors<Autodiff<Flex, C>> {
    let nodes = tensors.each_ref().map(|tensor| tensor.node());
    let mut tensors = Vec::from(tensors.map(|tensor| tensor.into_primitive()));
    let others = tensors.split_off(N - 2);
    let [parameters, mixing] = others.try_into().expect("the last two");
    let inputs = Inputs::new(tensors, parameters, mixing);
    let (output, tensors) = match CellBackward.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => {
            let (tensors, tape) = inputs.forward(&cell, memory);
            let state = (inputs, cell, Arc::new(tape));
            (prep.finish(state, tensors.output.clone()), tensors)
        }
        OpsKind::UnTracked(prep) => {
            let (tensors, _) = inputs.forward(&cell, Memory::Recompute);
            (prep.finish(tensors.output.clone()), tensors)
        }
    };
    CellTensors {
        output,
        mean: <Tracked<C>>::new(tensors.mean),
        variance: <Tracked<C>>::new(tensors.variance),
    }
}

impl<C: CheckpointStrategy> CellOps for Autodiff<Flex, C> {
    fn cell(
        inputs: CellInputs<Self>,
        parameters: Tracked<C>,
        mixing: Tracked<C>,
        cell: Arc<Cell>,
        memory: Memory,
    ) -> CellTensors<Self> {
        match inputs {
            CellInputs::One(one) => tracked([one, parameters, mixing], cell, memory),
            CellInputs::Two(one, other) => tracked([one, other, parameters, mixing], cell, memory),
        }
    }

    fn cell_given(
        inputs: CellInputs<Self>,
        parameters: Tracked<C>,
        mixing: Tracked<C>,
        mean: Tracked<C>,
        variance: Tracked<C>,
        cell: Arc<Cell>,
    ) -> Tracked<C> {
        let inputs = inputs.into_vec().into_iter().map(Tracked::<C>::into_primitive);
        let inputs = CellInputs::new(inputs);
        let [parameters, mixing, mean, variance] =
            [parameters, mixing, mean, variance].map(|tensor| tensor.into_primitive());
        let output =
            <Flex as CellOps>::cell_given(inputs, parameters, mixing, mean, variance, cell);
        <Tracked<C>>::new(output)
    }
}
