//! Values of tensors on the host.

use burn::tensor::Tensor;

/// The values of a tensor in single precision, row-major.
pub(crate) fn to_vec<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("tensors of this crate are single precision")
}

/// The value of a tensor of one element.
#[cfg(test)]
pub(crate) fn scalar<const D: usize>(tensor: Tensor<D>) -> f64 {
    f64::from(to_vec(tensor)[0])
}
