//! The classifier of a network and its loss as operations of Burn: on the devices of CubeCL two
//! kernels each, in single precision; on others the plain composition.

use std::fmt::Debug;
use std::marker::PhantomData;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, ExtensionType, TensorMetadata, backend_extension};
use burn_cubecl::CubeBackend;

/// The results of a loss, `[1]` each.
#[derive(ExtensionType, Debug)]
pub struct LossTensors<B: Backend> {
    /// Mean cross entropy.
    pub loss: FloatTensor<B>,
    /// Number of images whose class has the largest logit; without gradient.
    pub correct: FloatTensor<B>,
}

/// Classifier and loss on every backend that has kernels for them, and under automatic
/// differentiation.
#[backend_extension(Cube, Autodiff)]
pub trait ClassifierOps: Backend {
    /// Mean over the map, linear layer.
    fn classify(
        map: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// Mean cross entropy with label smoothing, and the number of correct images.
    fn cross_entropy(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        smoothing: f32,
    ) -> LossTensors<Self>;
}

/// Gradients of a classifier.
#[derive(Debug)]
pub struct ClassifierGradients<B: Backend> {
    /// Gradient of the map.
    pub map: FloatTensor<B>,
    /// Gradients of weight and bias, where requested.
    pub weights: Option<[FloatTensor<B>; 2]>,
}

/// Kernels of a backend for a classifier and its loss.
pub trait ClassifierKernels: Backend {
    /// Logits, and the means over the map.
    fn forward(
        map: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 2];

    /// The gradients from the gradient of the logits; `map` is the map's shape.
    fn backward(
        gradient: FloatTensor<Self>,
        pooled: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        map: [usize; 4],
        wants_weights: bool,
    ) -> ClassifierGradients<Self>;

    /// Mean cross entropy, and the number of correct images.
    fn loss(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        smoothing: f32,
    ) -> LossTensors<Self>;

    /// The gradient of the logits from that of the mean, `[1]`.
    fn loss_backward(
        gradient: FloatTensor<Self>,
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        smoothing: f32,
    ) -> FloatTensor<Self>;
}

impl ClassifierOps for CubeBackend {
    fn classify(
        map: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let [logits, _] = <Self as ClassifierKernels>::forward(map, weight, bias);
        logits
    }

    fn cross_entropy(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        smoothing: f32,
    ) -> LossTensors<Self> {
        Self::loss(logits, labels, smoothing)
    }
}

#[derive(Debug)]
struct LossBackward<B>(PhantomData<B>);

/// The parent is the logits.
impl<B: ClassifierKernels> Backward<B, 1> for LossBackward<B> {
    type State = (FloatTensor<B>, IntTensor<B>, f32);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (logits, labels, smoothing) = ops.state;
        let gradient = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            let gradient = B::loss_backward(gradient, logits, labels, smoothing);
            grads.register::<B>(node.id, gradient);
        }
    }
}

#[derive(Debug)]
struct ClassifierBackward<B>(PhantomData<B>);

/// The parents are map, weight and bias; the state holds means, weight and the map's shape.
impl<B: ClassifierKernels> Backward<B, 3> for ClassifierBackward<B> {
    type State = (FloatTensor<B>, FloatTensor<B>, [usize; 4]);

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (pooled, weight, shape) = ops.state;
        let gradient = grads.consume::<B>(&ops.node);
        let [map, of_weight, of_bias] = ops.parents.map(|node| node.map(|node| node.id));
        let wants_weights = of_weight.is_some() || of_bias.is_some();
        let all = B::backward(gradient, pooled, weight, shape, wants_weights);
        if let Some(node) = map {
            grads.register::<B>(node, all.map);
        }
        let nodes = [of_weight, of_bias];
        for (node, gradient) in nodes.into_iter().zip(all.weights.into_iter().flatten()) {
            if let Some(node) = node {
                grads.register::<B>(node, gradient);
            }
        }
    }
}

type Tracked<B, C> = FloatTensor<Autodiff<B, C>>;

impl<B: ClassifierKernels, C: CheckpointStrategy> ClassifierOps for Autodiff<B, C> {
    fn classify(map: Tracked<B, C>, weight: Tracked<B, C>, bias: Tracked<B, C>) -> Tracked<B, C> {
        let nodes = [&map, &weight, &bias].map(|tensor| tensor.node());
        let [map, weight, bias] = [map, weight, bias].map(|tensor| tensor.into_primitive());
        let shape = map.shape().dims();
        let backward = ClassifierBackward::<B>(PhantomData);
        let [logits, pooled] = B::forward(map, weight.clone(), bias);
        match backward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((pooled, weight, shape), logits),
            OpsKind::UnTracked(prep) => prep.finish(logits),
        }
    }

    fn cross_entropy(
        logits: Tracked<B, C>,
        labels: IntTensor<Self>,
        smoothing: f32,
    ) -> LossTensors<Self> {
        let node = logits.node();
        let logits = logits.into_primitive();
        let LossTensors { loss, correct } = B::loss(logits.clone(), labels.clone(), smoothing);
        let backward = LossBackward::<B>(PhantomData);
        let loss = match backward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((logits, labels, smoothing), loss),
            OpsKind::UnTracked(prep) => prep.finish(loss),
        };
        LossTensors { loss, correct: <Tracked<B, C>>::new(correct) }
    }
}
