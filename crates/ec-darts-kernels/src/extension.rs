//! The fused cell as an operation of Burn, with its own backward pass.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;

#[cfg(feature = "flex")]
use burn::backend::Flex;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, ExtensionType, backend_extension};
#[cfg(feature = "cube")]
use burn_cubecl::CubeBackend;

use crate::edge::{Cell, Memory};

/// The inputs of a fused cell, each `[batch, channels, height, width]`.
#[derive(ExtensionType, Debug)]
pub enum CellInputs<B: Backend> {
    /// The input of a single edge or a cell with one input.
    One(FloatTensor<B>),
    /// The inputs of a cell with two.
    Two(FloatTensor<B>, FloatTensor<B>),
}

impl<B: Backend> CellInputs<B> {
    /// # Panics
    /// Where there are neither one nor two tensors.
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

/// Output of a fused cell, and the running statistics after its batch.
#[derive(ExtensionType, Debug)]
pub struct CellTensors<B: Backend> {
    /// `[batch, channels, height, width]`.
    pub output: FloatTensor<B>,
    /// Running means, packed.
    pub running_mean: FloatTensor<B>,
    /// Running unbiased variances, packed.
    pub running_var: FloatTensor<B>,
}

/// The fused cell on every backend that has kernels for it, and under automatic differentiation.
/// Other backends run the plain composition of Burn's operations, which is the definition
/// (`reference.rs`).
#[allow(
    clippy::too_many_arguments,
    reason = "tensors of an operation cannot be bundled with what is none"
)]
#[backend_extension(Flex: cfg(feature = "flex"), Cube: cfg(feature = "cube"), Autodiff)]
pub trait CellOps: Backend {
    /// A cell with the statistics of its batch.
    fn cell(
        #[extension_type] inputs: CellInputs<Self>,
        parameters: FloatTensor<Self>,
        mixing: FloatTensor<Self>,
        running_mean: FloatTensor<Self>,
        running_var: FloatTensor<Self>,
        factors: Option<Arc<Vec<f32>>>,
        cell: Arc<Cell>,
        memory: Memory,
    ) -> CellTensors<Self>;

    /// A cell with given statistics; without gradient.
    fn cell_given(
        #[extension_type] inputs: CellInputs<Self>,
        parameters: FloatTensor<Self>,
        mixing: FloatTensor<Self>,
        running_mean: FloatTensor<Self>,
        running_var: FloatTensor<Self>,
        cell: Arc<Cell>,
    ) -> FloatTensor<Self>;
}

/// The requested gradients of a cell.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Whether the gradient of each input is requested.
    pub inputs: Vec<bool>,
    /// Whether the gradient of the packed parameters is requested.
    pub parameters: bool,
    /// Whether the gradient of the mixing weights is requested.
    pub mixing: bool,
}

/// Gradients of a cell.
#[derive(Debug)]
pub struct CellGradients<B: Backend> {
    /// Gradients of the requested inputs.
    pub inputs: Vec<Option<FloatTensor<B>>>,
    /// Gradient of the packed parameters, where requested.
    pub parameters: Option<FloatTensor<B>>,
    /// Gradient of the mixing weights, where requested.
    pub mixing: Option<FloatTensor<B>>,
}

/// Kernels of a backend for whole cells, forward and backward.
pub trait CellKernels: Backend {
    /// The values of a cell, as the kernels read them.
    type Inputs: Clone + Debug + Send + Sync + 'static;
    /// The other values that the backward pass needs.
    type Tape: Debug + Send + Sync + 'static;

    /// The inputs, packed parameters, mixing weights, and the factors of drop path.
    fn inputs(
        inputs: Vec<FloatTensor<Self>>,
        parameters: FloatTensor<Self>,
        mixing: FloatTensor<Self>,
        factors: Option<Arc<Vec<f32>>>,
    ) -> Self::Inputs;

    /// A pass with the statistics of the batch; it updates the mean and variance `running`.
    fn forward(
        inputs: &Self::Inputs,
        running: [FloatTensor<Self>; 2],
        cell: &Cell,
        memory: Memory,
    ) -> (CellTensors<Self>, Self::Tape);

    /// A pass with the running statistics.
    fn forward_given(
        inputs: &Self::Inputs,
        running: [FloatTensor<Self>; 2],
        cell: &Cell,
    ) -> FloatTensor<Self>;

    /// The gradients from the gradient of the output.
    fn backward(
        inputs: &Self::Inputs,
        cell: &Cell,
        tape: &Self::Tape,
        gradient: FloatTensor<Self>,
        wanted: &Wanted,
    ) -> CellGradients<Self>;
}

/// The cell of a backend that has kernels, outside the autodiff graph.
macro_rules! run_kernels {
    ($backend:ty) => {
        impl CellOps for $backend {
            fn cell(
                inputs: CellInputs<Self>,
                parameters: FloatTensor<Self>,
                mixing: FloatTensor<Self>,
                running_mean: FloatTensor<Self>,
                running_var: FloatTensor<Self>,
                factors: Option<Arc<Vec<f32>>>,
                cell: Arc<Cell>,
                _memory: Memory,
            ) -> CellTensors<Self> {
                let inputs = Self::inputs(inputs.into_vec(), parameters, mixing, factors);
                let running = [running_mean, running_var];
                <Self as CellKernels>::forward(&inputs, running, &cell, Memory::Recompute).0
            }

            fn cell_given(
                inputs: CellInputs<Self>,
                parameters: FloatTensor<Self>,
                mixing: FloatTensor<Self>,
                running_mean: FloatTensor<Self>,
                running_var: FloatTensor<Self>,
                cell: Arc<Cell>,
            ) -> FloatTensor<Self> {
                let inputs = Self::inputs(inputs.into_vec(), parameters, mixing, None);
                Self::forward_given(&inputs, [running_mean, running_var], &cell)
            }
        }
    };
}

#[cfg(feature = "flex")]
run_kernels!(Flex);
#[cfg(feature = "cube")]
run_kernels!(CubeBackend);

#[derive(Debug)]
struct CellBackward<B>(PhantomData<B>);

/// The parents are the inputs, the packed parameters and the mixing weights.
impl<B: CellKernels, const N: usize> Backward<B, N> for CellBackward<B> {
    type State = (B::Inputs, Arc<Cell>, Arc<B::Tape>);

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (all, cell, tape) = ops.state;
        let gradient = grads.consume::<B>(&ops.node);
        let nodes = ops.parents.map(|node| node.map(|node| node.id));
        let (inputs, [parameters, mixing]) = nodes.split_last_chunk().expect("at least these two");
        let wanted = Wanted {
            inputs: inputs.iter().map(Option::is_some).collect(),
            // The kernels skip the part behind an input where none of its gradients is requested;
            // the mixing weights of its own edge need it.
            parameters: parameters.is_some()
                || (mixing.is_some() && !cell.fixed_inputs && !cell.nodes.is_empty()),
            mixing: mixing.is_some(),
        };
        let gradients = B::backward(&all, &cell, &tape, gradient, &wanted);
        let mut register = |node: &Option<NodeId>, gradient: Option<FloatTensor<B>>| {
            if let (Some(node), Some(gradient)) = (node, gradient) {
                grads.register::<B>(*node, gradient);
            }
        };
        for (node, gradient) in inputs.iter().zip(gradients.inputs) {
            register(node, gradient);
        }
        register(parameters, gradients.parameters);
        register(mixing, gradients.mixing);
    }
}

type Tracked<B, C> = FloatTensor<Autodiff<B, C>>;

/// The arguments of a cell besides the tensors that have gradients.
struct Untracked<B: CellKernels, C: CheckpointStrategy> {
    running: [Tracked<B, C>; 2],
    factors: Option<Arc<Vec<f32>>>,
    cell: Arc<Cell>,
    memory: Memory,
}

/// A cell in the autodiff graph; the last two tensors are parameters and mixing weights.
fn tracked<B: CellKernels, C: CheckpointStrategy, const N: usize>(
    tensors: [Tracked<B, C>; N],
    Untracked { running, factors, cell, memory }: Untracked<B, C>,
) -> CellTensors<Autodiff<B, C>> {
    let nodes = tensors.each_ref().map(|tensor| tensor.node());
    let mut tensors = Vec::from(tensors.map(|tensor| tensor.into_primitive()));
    let others = tensors.split_off(N - 2);
    let [parameters, mixing]: [_; 2] = others.try_into().expect("the last two");
    let running = running.map(|tensor| tensor.into_primitive());
    let inputs = B::inputs(tensors, parameters, mixing, factors);
    let backward = CellBackward::<B>(PhantomData);
    let (output, tensors) = match backward.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => {
            let (tensors, tape) = B::forward(&inputs, running, &cell, memory);
            let state = (inputs, cell, Arc::new(tape));
            (prep.finish(state, tensors.output.clone()), tensors)
        }
        OpsKind::UnTracked(prep) => {
            let (tensors, _) = B::forward(&inputs, running, &cell, Memory::Recompute);
            (prep.finish(tensors.output.clone()), tensors)
        }
    };
    CellTensors {
        output,
        running_mean: <Tracked<B, C>>::new(tensors.running_mean),
        running_var: <Tracked<B, C>>::new(tensors.running_var),
    }
}

impl<B: CellKernels, C: CheckpointStrategy> CellOps for Autodiff<B, C> {
    fn cell(
        inputs: CellInputs<Self>,
        parameters: Tracked<B, C>,
        mixing: Tracked<B, C>,
        running_mean: Tracked<B, C>,
        running_var: Tracked<B, C>,
        factors: Option<Arc<Vec<f32>>>,
        cell: Arc<Cell>,
        memory: Memory,
    ) -> CellTensors<Self> {
        let running = [running_mean, running_var];
        let others = Untracked { running, factors, cell, memory };
        match inputs {
            CellInputs::One(one) => tracked([one, parameters, mixing], others),
            CellInputs::Two(one, other) => tracked([one, other, parameters, mixing], others),
        }
    }

    fn cell_given(
        inputs: CellInputs<Self>,
        parameters: Tracked<B, C>,
        mixing: Tracked<B, C>,
        running_mean: Tracked<B, C>,
        running_var: Tracked<B, C>,
        cell: Arc<Cell>,
    ) -> Tracked<B, C> {
        let inputs = inputs.into_vec().into_iter().map(|input| input.into_primitive());
        let [parameters, mixing, mean, variance] =
            [parameters, mixing, running_mean, running_var].map(|tensor| tensor.into_primitive());
        let inputs = B::inputs(inputs.collect(), parameters, mixing, None);
        <Tracked<B, C>>::new(B::forward_given(&inputs, [mean, variance], &cell))
    }
}
