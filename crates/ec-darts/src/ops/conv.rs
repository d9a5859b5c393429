//! The convolutional operations: each is ReLU, convolution(s), batch normalization.

use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::{Device, Tensor, activation::relu, s};

use super::Norm;

/// A convolution without bias; square kernel, stride, dilation, and padding on all four sides.
pub(crate) fn conv(
    channels: [usize; 2],
    kernel: usize,
    stride: usize,
    padding: usize,
    device: &Device,
) -> Conv2d {
    conv_config(channels, kernel, stride, padding).init(device)
}

fn conv_config(channels: [usize; 2], kernel: usize, stride: usize, padding: usize) -> Conv2dConfig {
    Conv2dConfig::new(channels, [kernel; 2])
        .with_stride([stride; 2])
        .with_padding(PaddingConfig2d::Explicit(padding, padding, padding, padding))
        .with_bias(false)
}

/// ReLU, 1x1 convolution, batch normalization: brings a cell's input to the cell's channels.
#[derive(Module, Debug)]
pub struct ReluConvNorm {
    /// The 1x1 convolution.
    pub conv: Conv2d,
    /// Its normalization.
    pub bn: Norm,
}

impl ReluConvNorm {
    /// From `channels[0]` to `channels[1]` channels.
    pub fn new(channels: [usize; 2], affine: bool, device: &Device) -> Self {
        Self { conv: conv(channels, 1, 1, 0, device), bn: Norm::new(channels[1], affine, device) }
    }

    /// # Shapes
    /// - `input`: `[batch, channels[0], height, width]`
    /// - output: `[batch, channels[1], height, width]`
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        self.bn.forward(self.conv.forward(relu(input)))
    }
}

/// Halves the map with two 1x1 convolutions, the second one pixel down and right.
///
/// ```text
/// y = BN(concat(conv1(relu(x)), conv2(relu(x)[1.., 1..])))
/// ```
///
/// # Source
/// DARTS, `cnn/operations.py`, `FactorizedReduce`.
#[derive(Module, Debug)]
pub struct FactorizedReduce {
    /// 1x1, stride 2, on the even pixels; first half of the channels.
    pub conv1: Conv2d,
    /// 1x1, stride 2, on the odd pixels; second half of the channels.
    pub conv2: Conv2d,
    /// Their common normalization.
    pub bn: Norm,
}

impl FactorizedReduce {
    /// From `channels[0]` to `channels[1]` channels, at half the height and width.
    ///
    /// # Panics
    /// Where `channels[1]` is odd.
    pub fn new(channels: [usize; 2], affine: bool, device: &Device) -> Self {
        let [from, to] = channels;
        assert!(to % 2 == 0, "a factorized reduction makes an even number of channels, not {to}");
        let half = || conv([from, to / 2], 1, 2, 0, device);
        Self { conv1: half(), conv2: half(), bn: Norm::new(to, affine, device) }
    }

    /// # Shapes
    /// - `input`: `[batch, channels[0], height, width]`
    /// - output: `[batch, channels[1], height / 2, width / 2]`
    ///
    /// # Panics
    /// Where height or width is odd: the two halves would differ in size.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let [_, _, height, width] = input.dims();
        assert!(
            height % 2 == 0 && width % 2 == 0,
            "a factorized reduction is undefined on odd sizes, here {height}x{width}"
        );
        let input = relu(input);
        let even = self.conv1.forward(input.clone());
        let odd = self.conv2.forward(input.slice(s![.., .., 1.., 1..]));
        self.bn.forward(Tensor::cat(vec![even, odd], 1))
    }
}

/// ReLU, depthwise convolution, 1x1 convolution, batch normalization.
///
/// With dilation 2 it is `dil_conv`; two in a row are `sep_conv`.
#[derive(Module, Debug)]
pub struct DepthwiseSeparable {
    /// One kernel per channel.
    pub depthwise: Conv2d,
    /// 1x1, mixes the channels.
    pub pointwise: Conv2d,
    /// Its normalization.
    pub bn: Norm,
}

impl DepthwiseSeparable {
    /// Padded so that stride 1 keeps the size.
    pub fn new(
        num_channels: usize,
        kernel: usize,
        stride: usize,
        dilation: usize,
        affine: bool,
        device: &Device,
    ) -> Self {
        let padding = dilation * (kernel - 1) / 2;
        let depthwise = conv_config([num_channels; 2], kernel, stride, padding)
            .with_dilation([dilation; 2])
            .with_groups(num_channels)
            .init(device);
        Self {
            depthwise,
            pointwise: conv([num_channels; 2], 1, 1, 0, device),
            bn: Norm::new(num_channels, affine, device),
        }
    }

    /// # Shapes
    /// - `input`: `[batch, num_channels, height, width]`
    /// - output: `[batch, num_channels, ceil(height / stride), ceil(width / stride)]`
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let filtered = self.depthwise.forward(relu(input));
        self.bn.forward(self.pointwise.forward(filtered))
    }
}
