//! The candidate operations of the search space as Burn modules.
//!
//! Entry point: [`Operation::new`]. Invariant: an operation maps `[batch, C, H, W]` to
//! `[batch, C, ceil(H / stride), ceil(W / stride)]`; `none` is no operation, it is never computed.

mod conv;
mod drop_path;
mod fused;
mod init;
mod norm;

use burn::module::Module;
use burn::nn::Identity;
use burn::tensor::module::{avg_pool2d, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, MaxPoolOptions};
use burn::tensor::{Device, Tensor};
use ec_darts_space::Primitive;

pub(crate) use conv::conv;
pub use conv::{DepthwiseSeparable, FactorizedReduce, ReluConvNorm};
pub use drop_path::DropPath;
pub use ec_darts_kernels::Memory;
pub use fused::Kernels;
pub(crate) use fused::{CellParts, EdgeParts};
pub use init::draw_parameters;
pub(crate) use norm::EPSILON;
pub use norm::Norm;

/// Which of the two networks an operation belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The supernet: no affine part in any batch normalization, and one behind each pool.
    Search,
    /// The network that is retrained: affine batch normalization, none behind the pools.
    Retrain,
}

impl Form {
    /// Whether batch normalization has scale and shift.
    pub fn affine(self) -> bool {
        self == Self::Retrain
    }
}

/// A 3x3 pool, padding 1, with batch normalization behind it in the supernet.
///
/// Maximum pooling ignores the padding, average pooling divides by the pixels that are there.
#[derive(Module, Debug)]
pub struct Pool {
    /// Pixels between two windows.
    pub stride: usize,
    /// Present in [`Form::Search`].
    pub bn: Option<Norm>,
}

impl Pool {
    fn new(num_channels: usize, stride: usize, form: Form, device: &Device) -> Self {
        let bn = (form == Form::Search).then(|| Norm::new(num_channels, false, device));
        Self { stride, bn }
    }

    fn normalize(&self, pooled: Tensor<4>) -> Tensor<4> {
        match &self.bn {
            Some(bn) => bn.forward(pooled),
            None => pooled,
        }
    }
}

/// A primitive with its weights.
///
/// # Source
/// DARTS, `cnn/operations.py`, `OPS`.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "handles of tensors; a few dozen per network")]
pub enum Operation {
    /// `max_pool_3x3`.
    MaxPool(Pool),
    /// `avg_pool_3x3`.
    AvgPool(Pool),
    /// `skip_connect` at stride 1.
    Identity(Identity),
    /// `skip_connect` at stride 2.
    FactorizedReduce(FactorizedReduce),
    /// `sep_conv_3x3` and `sep_conv_5x5`; only the first half has the stride.
    SepConv([DepthwiseSeparable; 2]),
    /// `dil_conv_3x3` and `dil_conv_5x5`.
    DilConv(DepthwiseSeparable),
}

impl Operation {
    /// The operation of a primitive, or nothing for `none`.
    pub fn new(
        primitive: Primitive,
        num_channels: usize,
        stride: usize,
        form: Form,
        device: &Device,
    ) -> Option<Self> {
        let pool = || Pool::new(num_channels, stride, form, device);
        let block = |kernel, stride, dilation| {
            DepthwiseSeparable::new(num_channels, kernel, stride, dilation, form.affine(), device)
        };
        let separable = |kernel| Self::SepConv([block(kernel, stride, 1), block(kernel, 1, 1)]);
        Some(match primitive {
            Primitive::None => return None,
            Primitive::MaxPool3x3 => Self::MaxPool(pool()),
            Primitive::AvgPool3x3 => Self::AvgPool(pool()),
            Primitive::SkipConnect if stride == 1 => Self::Identity(Identity),
            Primitive::SkipConnect => {
                let channels = [num_channels; 2];
                Self::FactorizedReduce(FactorizedReduce::new(channels, form.affine(), device))
            }
            Primitive::SepConv3x3 => separable(3),
            Primitive::SepConv5x5 => separable(5),
            Primitive::DilConv3x3 => Self::DilConv(block(3, stride, 2)),
            Primitive::DilConv5x5 => Self::DilConv(block(5, stride, 2)),
        })
    }

    /// # Shapes
    /// - `input`: `[batch, num_channels, height, width]`
    /// - output: `[batch, num_channels, ceil(height / stride), ceil(width / stride)]`
    ///
    /// # Panics
    /// `skip_connect` at stride 2 where height or width is odd.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        match self {
            Self::MaxPool(pool) => {
                let options =
                    MaxPoolOptions::new([3; 2]).with_stride([pool.stride; 2]).with_padding([1; 2]);
                pool.normalize(max_pool2d(input, options))
            }
            Self::AvgPool(pool) => {
                let options = AvgPoolOptions::new([3; 2])
                    .with_stride([pool.stride; 2])
                    .with_padding([1; 2])
                    .with_count_include_pad(false);
                pool.normalize(avg_pool2d(input, options))
            }
            Self::Identity(_) => input,
            Self::FactorizedReduce(reduce) => reduce.forward(input),
            Self::SepConv([first, second]) => second.forward(first.forward(input)),
            Self::DilConv(block) => block.forward(input),
        }
    }
}
