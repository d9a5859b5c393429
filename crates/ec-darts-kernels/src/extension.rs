//! The fused edge as an operation of Burn, with its own backward pass.

use std::sync::Arc;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, ExtensionType, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Shape, TensorData};

use crate::edge::{Edge, Memory};
use crate::fused::{self, Isa, Tape, Values};

/// Output of a fused edge, and the statistics of its batch.
#[derive(ExtensionType, Debug)]
pub struct EdgeTensors<B: Backend> {
    /// `[batch, channels, height, width]`.
    pub output: FloatTensor<B>,
    /// `[num_norms * channels]`.
    pub mean: FloatTensor<B>,
    /// `[num_norms * channels]`, biased.
    pub variance: FloatTensor<B>,
}

/// What a backend offers for an edge. Other backends run the plain composition of Burn's
/// operations, which is the definition the modules give.
#[backend_extension(Flex, Autodiff)]
pub trait EdgeOps: Backend {
    /// An edge with the statistics of its batch.
    fn edge(
        input: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        mixing: FloatTensor<Self>,
        edge: Arc<Edge>,
        memory: Memory,
    ) -> EdgeTensors<Self>;

    /// An edge with given statistics; without gradient.
    fn edge_given(
        input: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        mixing: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        edge: Arc<Edge>,
    ) -> FloatTensor<Self>;
}

/// The inputs of an edge, contiguous.
#[derive(Clone, Debug)]
struct Inputs {
    input: FlexTensor,
    parameters: FlexTensor,
    mixing: FlexTensor,
}

impl Inputs {
    fn new(input: FlexTensor, parameters: FlexTensor, mixing: FlexTensor) -> Self {
        let [input, parameters, mixing] =
            [input, parameters, mixing].map(|tensor| tensor.to_contiguous());
        Self { input, parameters, mixing }
    }

    fn shape(&self) -> [usize; 4] {
        self.input.shape().dims()
    }

    fn values(&self) -> Values<'_> {
        Values {
            input: slice(&self.input),
            parameters: slice(&self.parameters),
            mixing: slice(&self.mixing),
        }
    }

    fn forward(&self, edge: &Edge, memory: Memory) -> (EdgeTensors<Flex>, Tape) {
        let shape = self.shape();
        let isa = Isa::best(edge.channels[1]);
        let (output, tape) = fused::forward(isa, edge, shape, self.values(), None, memory);
        let [mean, variance] = tape.norms.statistics();
        let statistics = Shape::from([mean.len()]);
        let tensors = EdgeTensors {
            output: tensor(output, out_shape(edge, shape)),
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

fn out_shape(edge: &Edge, [batch, _, height, width]: [usize; 4]) -> Shape {
    let [height, width] = [height, width].map(|size| size.div_ceil(edge.stride));
    Shape::from([batch, edge.channels[1], height, width])
}

impl EdgeOps for Flex {
    fn edge(
        input: FlexTensor,
        parameters: FlexTensor,
        mixing: FlexTensor,
        edge: Arc<Edge>,
        _memory: Memory,
    ) -> EdgeTensors<Self> {
        Inputs::new(input, parameters, mixing).forward(&edge, Memory::Recompute).0
    }

    fn edge_given(
        input: FlexTensor,
        parameters: FlexTensor,
        mixing: FlexTensor,
        mean: FlexTensor,
        variance: FlexTensor,
        edge: Arc<Edge>,
    ) -> FlexTensor {
        let inputs = Inputs::new(input, parameters, mixing);
        let (mean, variance) = (mean.to_contiguous(), variance.to_contiguous());
        let given = Some([slice(&mean), slice(&variance)]);
        let (shape, isa) = (inputs.shape(), Isa::best(edge.channels[1]));
        let values = inputs.values();
        let (output, _) = fused::forward(isa, &edge, shape, values, given, Memory::Recompute);
        tensor(output, out_shape(&edge, shape))
    }
}

#[derive(Debug)]
struct EdgeBackward;

impl Backward<Flex, 3> for EdgeBackward {
    type State = (Inputs, Arc<Edge>, Arc<Tape>);

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (inputs, edge, tape) = ops.state;
        let [input, parameters, mixing] = ops.parents;
        let gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
        let isa = Isa::best(edge.channels[1]);
        let shape = inputs.shape();
        let all = fused::backward(
            isa,
            &edge,
            shape,
            inputs.values(),
            &tape,
            slice(&gradient),
            parameters.is_some(),
        );
        let mut register = |node: Option<NodeId>, values: Vec<f32>, like: &FlexTensor| {
            if let Some(node) = node {
                grads.register::<Flex>(node, tensor(values, like.shape()));
            }
        };
        register(input.map(|node| node.id), all.input, &inputs.input);
        register(parameters.map(|node| node.id), all.parameters, &inputs.parameters);
        register(mixing.map(|node| node.id), all.mixing, &inputs.mixing);
    }
}

type Tracked<C> = FloatTensor<Autodiff<Flex, C>>;

impl<C: CheckpointStrategy> EdgeOps for Autodiff<Flex, C> {
    fn edge(
        input: Tracked<C>,
        parameters: Tracked<C>,
        mixing: Tracked<C>,
        edge: Arc<Edge>,
        memory: Memory,
    ) -> EdgeTensors<Self> {
        let nodes = [input.node(), parameters.node(), mixing.node()];
        let inputs = Inputs::new(
            input.into_primitive(),
            parameters.into_primitive(),
            mixing.into_primitive(),
        );
        let (output, tensors) = match EdgeBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (tensors, tape) = inputs.forward(&edge, memory);
                let state = (inputs, edge, Arc::new(tape));
                (prep.finish(state, tensors.output.clone()), tensors)
            }
            OpsKind::UnTracked(prep) => {
                let (tensors, _) = inputs.forward(&edge, Memory::Recompute);
                (prep.finish(tensors.output.clone()), tensors)
            }
        };
        EdgeTensors {
            output,
            mean: <Tracked<C>>::new(tensors.mean),
            variance: <Tracked<C>>::new(tensors.variance),
        }
    }

    fn edge_given(
        input: Tracked<C>,
        parameters: Tracked<C>,
        mixing: Tracked<C>,
        mean: Tracked<C>,
        variance: Tracked<C>,
        edge: Arc<Edge>,
    ) -> Tracked<C> {
        let [input, parameters, mixing, mean, variance] =
            [input, parameters, mixing, mean, variance].map(|tensor| tensor.into_primitive());
        let output = <Flex as EdgeOps>::edge_given(input, parameters, mixing, mean, variance, edge);
        <Tracked<C>>::new(output)
    }
}
