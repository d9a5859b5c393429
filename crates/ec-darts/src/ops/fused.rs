//! From modules to the fused kernels: what an edge is made of, and where its statistics go.

use std::sync::Arc;

use burn::module::Param;
use burn::nn::conv::Conv2d;
use burn::tensor::{Device, Tensor};
use ec_darts_kernels::{Edge, EdgeOperation, Memory, edge, edge_given, mixed_sum, serves};

use super::{DepthwiseSeparable, FactorizedReduce, Norm, Operation, Pool, ReluConvNorm};

/// How the operations of an edge are computed.
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
    fn fused(self, device: &Device) -> Option<Memory> {
        match self {
            Self::Fused(memory) if serves(device) => Some(memory),
            _ => None,
        }
    }

    /// Sum of the operations' outputs, each scaled by its mixing weight; a single operation needs
    /// none.
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
        let mut parts = Parts::default();
        operations.iter().for_each(|operation| parts.operation(operation));
        parts.forward(input, mixing, memory)
    }

    /// One operation by itself.
    pub(crate) fn operation(self, operation: &Operation, input: Tensor<4>) -> Tensor<4> {
        match (operation, self.fused(&input.device())) {
            (Operation::Identity(_), _) | (_, None) => operation.forward(input),
            (_, Some(memory)) => Parts::of(|parts| parts.operation(operation)).alone(input, memory),
        }
    }

    /// The preprocessing at equal size.
    pub(crate) fn relu_conv_norm(self, module: &ReluConvNorm, input: Tensor<4>) -> Tensor<4> {
        match self.fused(&input.device()) {
            None => module.forward(input),
            Some(memory) => Parts::of(|parts| parts.pointwise(module)).alone(input, memory),
        }
    }

    /// The preprocessing behind a reduction.
    pub(crate) fn reduce(self, module: &FactorizedReduce, input: Tensor<4>) -> Tensor<4> {
        match self.fused(&input.device()) {
            None => module.forward(input),
            Some(memory) => Parts::of(|parts| parts.reduce(module)).alone(input, memory),
        }
    }
}

/// What the kernels are told, gathered from modules.
#[derive(Default)]
struct Parts<'a> {
    operations: Vec<EdgeOperation>,
    parameters: Vec<Tensor<1>>,
    norms: Vec<&'a Norm>,
    channels: Option<[usize; 2]>,
    stride: usize,
    affine: bool,
}

impl<'a> Parts<'a> {
    fn of(gather: impl FnOnce(&mut Self)) -> Self {
        let mut parts = Self::default();
        gather(&mut parts);
        parts
    }

    fn operation(&mut self, operation: &'a Operation) {
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

    fn pointwise(&mut self, module: &'a ReluConvNorm) {
        self.stride = 1;
        let [out, from, ..] = module.conv.weight.dims();
        self.channels = Some([from, out]);
        self.operations.push(EdgeOperation::Pointwise);
        self.weight(&module.conv);
        self.norm(&module.bn);
    }

    fn reduce(&mut self, module: &'a FactorizedReduce) {
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

    /// An operation with weight one.
    fn alone(self, input: Tensor<4>, memory: Memory) -> Tensor<4> {
        let one = Tensor::ones([1], &input.device());
        self.forward(input, one, memory)
    }

    fn forward(self, input: Tensor<4>, mixing: Tensor<1>, memory: Memory) -> Tensor<4> {
        let device = input.device();
        let [batch, num_channels, ..] = input.dims();
        let description = Arc::new(Edge {
            operations: self.operations,
            channels: self.channels.unwrap_or([num_channels; 2]),
            stride: self.stride,
            affine: self.affine,
        });
        let width = description.channels[1];
        let parameters = match self.parameters.is_empty() {
            true => Tensor::zeros([0], &device),
            false => Tensor::cat(self.parameters, 0),
        };
        if !device.is_autodiff() {
            let joined = |statistic: fn(&Norm) -> Tensor<1>| match self.norms.is_empty() {
                true => Tensor::zeros([0], &device),
                false => Tensor::cat(self.norms.iter().map(|norm| statistic(norm)).collect(), 0),
            };
            let statistics =
                [joined(|norm| norm.running_mean.value()), joined(|norm| norm.running_var.value())];
            return edge_given(input, parameters, mixing, statistics, description);
        }
        let all = edge(input, parameters, mixing, description, memory);
        let [_, _, height, out_width] = all.output.dims();
        for (number, norm) in self.norms.iter().enumerate() {
            let range = number * width..(number + 1) * width;
            let [mean, variance] =
                [&all.mean, &all.variance].map(|all| all.clone().slice([range.clone()]));
            norm.observe(mean, variance, batch * height * out_width);
        }
        all.output
    }
}
