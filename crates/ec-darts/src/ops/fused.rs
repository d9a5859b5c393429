//! From modules to the fused kernels: what a cell is made of, and where its statistics go.

use std::sync::Arc;

use burn::module::{Param, RunningState};
use burn::nn::conv::Conv2d;
use burn::tensor::{Device, Tensor};
use ec_darts_kernels::{Cell, Edge, EdgeOperation, Memory, cell, cell_given, mixed_sum, serves};

use super::{DepthwiseSeparable, FactorizedReduce, Norm, Operation, Pool, ReluConvNorm};

/// How the operations of a cell are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kernels {
    /// One operation of Burn after the other, on every device: the definition.
    Reference,
    /// Fused, where the device has fused kernels; the reference elsewhere.
    Fused(Memory),
}

impl Default for Kernels {
    fn default() -> Self {
        Self::Fused(Memory::Save)
    }
}

impl Kernels {
    /// The memory policy, where a device computes fused.
    pub(crate) fn fused(self, device: &Device) -> Option<Memory> {
        match self {
            Self::Fused(memory) if serves(device, &any_cell()) => Some(memory),
            _ => None,
        }
    }

    /// Sum of the operations' outputs, each scaled by its mixing weight.
    ///
    /// ```text
    /// y = sum over o of mixing[o] * o(x)
    /// ```
    ///
    /// # Shapes
    /// - `input`: `[batch, channels, height, width]`
    /// - `mixing`: `[num_operations]`
    pub(crate) fn mix(
        self,
        operations: &[Operation],
        input: Tensor<4>,
        mixing: Tensor<1>,
    ) -> Tensor<4> {
        let Some(memory) = self.fused(&input.device()) else {
            let outputs = operations.iter().map(|operation| operation.forward(input.clone()));
            return mixed_sum(outputs.collect(), mixing);
        };
        let edge = EdgeParts::of(|parts| {
            operations.iter().for_each(|operation| parts.operation(operation));
        });
        CellParts::one(edge, &input).forward(vec![input], mixing, memory)
    }

    /// One operation by itself.
    pub(crate) fn operation(self, operation: &Operation, input: Tensor<4>) -> Tensor<4> {
        if let Operation::Identity(_) = operation {
            return input;
        }
        let parts = || EdgeParts::of(|parts| parts.operation(operation));
        self.edge(parts, |input| operation.forward(input), input)
    }

    /// An edge of one operation by itself; `reference` is what it means.
    pub(crate) fn edge<'a>(
        self,
        parts: impl FnOnce() -> EdgeParts<'a>,
        reference: impl FnOnce(Tensor<4>) -> Tensor<4>,
        input: Tensor<4>,
    ) -> Tensor<4> {
        let Some(memory) = self.fused(&input.device()) else {
            return reference(input);
        };
        let one = Tensor::ones([1], &input.device());
        CellParts::one(parts(), &input).forward(vec![input], one, memory)
    }
}

/// Stands for all cells that modules describe: the kernels serve all of them or none.
fn any_cell() -> Cell {
    Cell::from(Edge {
        operations: vec![EdgeOperation::Identity],
        channels: [1; 2],
        stride: 1,
        affine: false,
        parameters: 0,
        statistics: 0,
    })
}

/// What the kernels are told of an edge, gathered from modules.
#[derive(Default)]
pub(crate) struct EdgeParts<'a> {
    operations: Vec<EdgeOperation>,
    parameters: Vec<Tensor<1>>,
    norms: Vec<&'a Norm>,
    channels: Option<[usize; 2]>,
    stride: usize,
    affine: bool,
}

impl<'a> EdgeParts<'a> {
    pub(crate) fn of(gather: impl FnOnce(&mut Self)) -> Self {
        let mut parts = Self::default();
        gather(&mut parts);
        parts
    }

    pub(crate) fn operation(&mut self, operation: &'a Operation) {
        match operation {
            Operation::Identity(_) => {
                self.stride = 1;
                self.operations.push(EdgeOperation::Identity);
            }
            Operation::MaxPool(pool) => {
                let norm = self.pool(pool);
                self.operations.push(EdgeOperation::MaxPool { norm });
            }
            Operation::AvgPool(pool) => {
                let norm = self.pool(pool);
                self.operations.push(EdgeOperation::AvgPool { norm });
            }
            Operation::FactorizedReduce(module) => self.reduce(module),
            Operation::SepConv([first, second]) => self.separable(first, Some(second)),
            Operation::DilConv(block) => self.separable(block, None),
        }
    }

    fn pool(&mut self, pool: &'a Pool) -> bool {
        self.stride = pool.stride;
        if let Some(norm) = &pool.bn {
            self.norm(norm);
        }
        pool.bn.is_some()
    }

    pub(crate) fn pointwise(&mut self, module: &'a ReluConvNorm) {
        self.stride = 1;
        let [out, from, ..] = module.conv.weight.dims();
        self.channels = Some([from, out]);
        self.operations.push(EdgeOperation::Pointwise);
        self.weight(&module.conv);
        self.norm(&module.bn);
    }

    /// A 3x3 convolution with a border of one, and its normalization.
    pub(crate) fn convolution(&mut self, conv: &'a Conv2d, norm: &'a Norm, relu: bool) {
        self.stride = conv.stride[0];
        let [out, from, ..] = conv.weight.dims();
        self.channels = Some([from, out]);
        self.operations.push(EdgeOperation::Convolution { relu });
        self.weight(conv);
        self.norm(norm);
    }

    pub(crate) fn reduce(&mut self, module: &'a FactorizedReduce) {
        self.stride = 2;
        let [half, from, ..] = module.conv1.weight.dims();
        self.channels = Some([from, 2 * half]);
        self.operations.push(EdgeOperation::FactorizedReduce);
        self.weight(&module.conv1);
        self.weight(&module.conv2);
        self.norm(&module.bn);
    }

    fn separable(&mut self, first: &'a DepthwiseSeparable, second: Option<&'a DepthwiseSeparable>) {
        self.stride = first.depthwise.stride[0];
        let num_channels = first.depthwise.weight.dims()[0];
        self.channels = Some([num_channels; 2]);
        self.operations.push(EdgeOperation::Separable {
            kernel: first.depthwise.kernel_size[0],
            dilation: first.depthwise.dilation[0],
            repeats: if second.is_some() { 2 } else { 1 },
        });
        for block in [Some(first), second].into_iter().flatten() {
            self.weight(&block.depthwise);
            self.weight(&block.pointwise);
            self.norm(&block.bn);
        }
    }

    fn weight(&mut self, conv: &Conv2d) {
        self.parameters.push(conv.weight.val().flatten(0, 3));
    }

    fn norm(&mut self, norm: &'a Norm) {
        self.norms.push(norm);
        let affine = [&norm.gamma, &norm.beta].into_iter().flatten().map(Param::val);
        self.parameters.extend(affine);
        self.affine = norm.gamma.is_some();
    }
}

/// What the kernels are told of a cell: first the edge behind each input, then those into each
/// node.
pub(crate) struct CellParts<'a> {
    cell: Cell,
    /// Channels of every state.
    num_channels: usize,
    /// Height and width of each state.
    sizes: Vec<[usize; 2]>,
    parameters: Vec<Tensor<1>>,
    norms: Vec<&'a Norm>,
    /// Values of the edges so far, among the parameters and among the statistics.
    ends: [usize; 2],
}

impl<'a> CellParts<'a> {
    /// States of `num_channels`; those in `concat` are joined.
    pub(crate) fn new(num_channels: usize, concat: Vec<usize>) -> Self {
        Self {
            cell: Cell { inputs: Vec::new(), nodes: Vec::new(), concat },
            num_channels,
            sizes: Vec::new(),
            parameters: Vec::new(),
            norms: Vec::new(),
            ends: [0; 2],
        }
    }

    /// An edge by itself.
    fn one(edge: EdgeParts<'a>, input: &Tensor<4>) -> Self {
        let [_, from, ..] = input.dims();
        let num_channels = edge.channels.map_or(from, |[_, to]| to);
        let mut parts = Self::new(num_channels, vec![0]);
        parts.input(edge, input);
        parts
    }

    /// The edge behind an input.
    pub(crate) fn input(&mut self, edge: EdgeParts<'a>, input: &Tensor<4>) {
        let [_, from, height, width] = input.dims();
        let (edge, size) = self.edge(edge, from, [height, width]);
        self.cell.inputs.push(edge);
        self.sizes.push(size);
    }

    /// The edges into a node, each with the state it reads.
    pub(crate) fn node(&mut self, edges: Vec<(usize, EdgeParts<'a>)>) {
        let mut node = Vec::new();
        let mut node_size = None;
        for (state, edge) in edges {
            let (edge, size) = self.edge(edge, self.num_channels, self.sizes[state]);
            node.push((state, edge));
            node_size = Some(size);
        }
        self.cell.nodes.push(node);
        self.sizes.extend(node_size);
    }

    fn edge(
        &mut self,
        parts: EdgeParts<'a>,
        num_channels: usize,
        size: [usize; 2],
    ) -> (Edge, [usize; 2]) {
        let size = size.map(|side| side.div_ceil(parts.stride));
        self.norms.extend(parts.norms);
        self.parameters.extend(parts.parameters);
        let edge = Edge {
            operations: parts.operations,
            channels: parts.channels.unwrap_or([num_channels; 2]),
            stride: parts.stride,
            affine: parts.affine,
            parameters: self.ends[0],
            statistics: self.ends[1],
        };
        self.ends = [edge.parameter_range().end, edge.statistic_range().end];
        (edge, size)
    }

    /// # Shapes
    /// - `mixing`: `[num_operations]` of all edges
    pub(crate) fn forward(
        self,
        inputs: Vec<Tensor<4>>,
        mixing: Tensor<1>,
        memory: Memory,
    ) -> Tensor<4> {
        let device = inputs[0].device();
        let description = Arc::new(self.cell);
        let joined = |parts: Vec<Tensor<1>>| match parts.is_empty() {
            true => Tensor::zeros([0], &device),
            false => Tensor::cat(parts, 0),
        };
        let parameters = joined(self.parameters);
        let is_autodiff = device.is_autodiff();
        let state = |state: &RunningState<Tensor<1>>| match is_autodiff {
            true => state.value_sync(),
            false => state.value(),
        };
        let means = self.norms.iter().map(|norm| state(&norm.running_mean));
        let variances = self.norms.iter().map(|norm| state(&norm.running_var));
        let running = [joined(means.collect()), joined(variances.collect())];
        if !is_autodiff {
            return cell_given(inputs, parameters, mixing, running, description);
        }
        let all = cell(inputs, parameters, mixing, running, None, description, memory);
        let sizes: Vec<usize> =
            self.norms.iter().map(|norm| norm.running_mean.value().dims()[0]).collect();
        let [means, variances] = all.running.map(|all| all.split_with_sizes(sizes.clone(), 0));
        for ((norm, mean), variance) in self.norms.iter().zip(means).zip(variances) {
            norm.running_mean.update(mean);
            norm.running_var.update(variance);
        }
        all.output
    }
}
