//! Cells of mixed operations of a differentiable search space as fused kernels, for CPUs (feature `flex`) and for
//! the devices of CubeCL (`cuda`, `rocm`, `vulkan`, `metal`, `wgpu`).
//!
//! Entry points: [`cell()`] and [`cell_given`], where [`serves`] says that the device supports the
//! cell. Their definition is the plain composition of Burn's operations in [`mod@reference`]; tests
//! compare value and every gradient of both. Invariant: the result does not depend on the number of
//! threads.
#![deny(missing_docs, clippy::print_stdout, clippy::print_stderr)]

use std::sync::Arc;

#[cfg(any(feature = "flex", feature = "cube"))]
use burn::backend::Dispatch;
use burn::tensor::{Device, Int, Tensor};

mod check;
#[cfg(feature = "cube")]
mod classifier;
#[cfg(feature = "flex")]
#[allow(missing_docs, reason = "private")]
mod cpu;
mod edge;
#[cfg(any(feature = "flex", feature = "cube"))]
mod extension;
#[cfg(feature = "flex")]
mod flex;
#[cfg(feature = "cube")]
mod gpu;
mod numbers;
pub mod reference;
mod select;
mod steps;

pub use edge::{Cell, Edge, EdgeOperation, Memory};
pub use numbers::{AdamNumbers, SgdNumbers};
pub use reference::mixed_sum;
pub use select::{pick, softmax_groups};
pub use steps::{adam, norm, sgd};

/// The constant added to the variance in every batch normalization, as in every network of the
/// paper's recipe.
pub const EPSILON: f64 = 1e-5;
/// Weight of the new batch in the running statistics.
pub const MOMENTUM: f64 = 0.1;

/// The factor from the biased variance of `count` values to the unbiased one.
///
/// A single value has no unbiased variance, and PyTorch refuses it; here its variance stays biased.
pub fn unbiased(count: usize) -> f32 {
    let n = count as f64;
    if count > 1 { (n / (n - 1.0)) as f32 } else { 1.0 }
}

/// Bytes of the buffers of a GPU's kernels for a cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CellBytes {
    /// Buffers from the forward pass to the backward pass: output, states, statistics.
    pub kept: u64,
    /// Maps before each normalization, which [`Memory::Save`] keeps too.
    pub maps: u64,
    /// The most of them at one time, where the backward pass makes them again.
    pub maps_at_once: u64,
    /// Buffers during the backward pass: gradients of the output, the states, the inputs and the
    /// weights, and temporary values.
    pub passing: u64,
}

/// The memory that the kernels of a GPU need for a cell; zero where the build has none.
///
/// # Shapes
/// - `shapes`: those of the inputs, `[batch, channels, height, width]`
///
/// # Panics
/// Where a shape does not fit the cell, or where the kernels do not support it.
pub fn cell_bytes(cell: &Cell, shapes: &[[usize; 4]]) -> CellBytes {
    #[cfg(feature = "cube")]
    {
        gpu::cell_bytes(cell, shapes)
    }
    #[cfg(not(feature = "cube"))]
    {
        let _ = (cell, shapes);
        CellBytes::default()
    }
}

/// The results of a cell.
#[derive(Clone, Debug)]
pub struct CellOutput {
    /// `[batch, concat.len() * channels, height, width]`.
    pub output: Tensor<4>,
    /// Running mean and unbiased variance, packed like the given ones, without gradient: updated
    /// for edges that ran, the same for others.
    pub running: [Tensor<1>; 2],
}

/// Whether a device has fused kernels for any cell.
pub fn has_kernels(device: &Device) -> bool {
    use burn::backend::DispatchDevice;
    match device.clone().inner().as_dispatch() {
        #[cfg(feature = "flex")]
        DispatchDevice::Flex(_) => true,
        #[cfg(feature = "cube")]
        DispatchDevice::Cube(_) => true,
        #[allow(unreachable_patterns, reason = "other backends of the program that uses this")]
        _ => false,
    }
}

/// Whether [`softmax_groups`] and [`pick`] are one kernel each on a device, not a composition.
pub fn in_one_kernel(device: &Device) -> bool {
    #[cfg(feature = "cube")]
    return is_cube(device);
    #[cfg(not(feature = "cube"))]
    {
        let _ = device;
        false
    }
}

/// Whether the kernels of CubeCL run on a device.
#[cfg(feature = "cube")]
fn is_cube(device: &Device) -> bool {
    matches!(device.clone().inner().as_dispatch(), burn::backend::DispatchDevice::Cube(_))
}

/// Whether a tensor has single precision on the CPU, without a gradient.
#[cfg(feature = "flex")]
fn is_flex<const D: usize>(tensor: &Tensor<D>) -> bool {
    matches!(tensor.device().as_dispatch(), burn::backend::DispatchDevice::Flex(_))
        && tensor.dtype() == burn::tensor::DType::F32
}

/// Whether a device has fused kernels for a cell. All other cells run on [`mod@reference`].
pub fn serves(device: &Device, cell: &Cell) -> bool {
    use burn::backend::DispatchDevice;
    match device.clone().inner().as_dispatch() {
        #[cfg(feature = "flex")]
        DispatchDevice::Flex(_) => cpu::serves(cell),
        #[cfg(feature = "cube")]
        DispatchDevice::Cube(_) => gpu::serves(cell),
        #[allow(unreachable_patterns, reason = "other backends of the program that uses this")]
        _ => {
            let _ = cell;
            false
        }
    }
}

/// A cell whose edges are mixed sums, normalized by the statistics of the batch.
///
/// ```text
/// state = sum over edges into it, over o of mixing[o] * factors[o] * o(x),  x the state that the edge reads
/// running_mean <- 0.9 running_mean + 0.1 mean
/// running_var  <- 0.9 running_var  + 0.1 var * n / (n - 1)
/// ```
/// `mean` and the biased `var` are those of the batch, `n` is batch times height times width of the
/// normalized map.
///
/// ```
/// use std::sync::Arc;
///
/// use burn::tensor::{Device, Tensor};
/// use ec_darts_kernels::{Cell, Edge, EdgeOperation, Memory, cell};
///
/// let edge = |operations| Edge {
///     operations,
///     channels: [2, 2],
///     stride: 1,
///     affine: false,
///     parameters: 0,
///     statistics: 0,
/// };
/// // One input through a 1x1 convolution, and a node that reads it by two operations.
/// let node = vec![EdgeOperation::Identity, EdgeOperation::MaxPool { norm: true }];
/// let mut mixed = Cell {
///     inputs: vec![edge(vec![EdgeOperation::Pointwise])],
///     nodes: vec![vec![(0, edge(node))]],
///     concat: vec![1],
///     fixed_inputs: true,
///     parts: 1,
/// };
/// mixed.place([0, 0]);
/// mixed.check().expect("a cell");
///
/// let device = Device::flex().autodiff();
/// let parameters = Tensor::ones([mixed.num_parameters()], &device).require_grad();
/// let mixing = Tensor::<1>::from_floats([1.0, 0.75, 0.25], &device).require_grad();
/// let running = [0.0, 1.0].map(|value| Tensor::full([mixed.num_statistics()], value, &device));
/// let input = Tensor::ones([1, 2, 4, 4], &device);
/// let mixed = Arc::new(mixed);
/// let all = cell(vec![input], parameters, mixing.clone(), running, None, mixed, Memory::Save);
/// assert_eq!(all.output.dims(), [1, 2, 4, 4]);
/// let gradients = all.output.sum().backward();
/// assert_eq!(mixing.grad(&gradients).expect("tracked").dims(), [3]);
/// ```
///
/// # Shapes
/// - `inputs`: one or two, `[batch, cell.inputs[i].channels[0], height, width]`
/// - `parameters`, `running` (mean, variance): packed, at the places of each [`Edge`]
/// - `mixing`: `[num_mixing_weights]` of all edges
/// - `factors`: drop path, `[num_mixing_weights][batch]`, 1 where absent; without gradient
///
/// The gradient of a parameter that no edge uses is zero.
///
/// # Panics
/// Where [`Cell::check`] finds a fault, or a shape does not fit the cell (the message names the
/// argument), or where [`serves`] returns false.
///
/// # Source
/// EC-DARTS, Eq. (5); DARTS, Eq. (1) and (2); drop path: DARTS, `cnn/utils.py`.
pub fn cell(
    inputs: Vec<Tensor<4>>,
    parameters: Tensor<1>,
    mixing: Tensor<1>,
    running: [Tensor<1>; 2],
    factors: Option<Arc<Vec<f32>>>,
    cell: Arc<Cell>,
    memory: Memory,
) -> CellOutput {
    cell.assert_fits(
        &inputs,
        &parameters,
        &mixing,
        &running,
        factors.as_deref().map(Vec::as_slice),
    );
    #[cfg(any(feature = "flex", feature = "cube"))]
    {
        let [mean, variance] = running.map(Tensor::into_dispatch);
        let tensors = <Dispatch as extension::CellOps>::cell(
            extension::CellInputs::new(inputs.into_iter().map(Tensor::into_dispatch)),
            parameters.into_dispatch(),
            mixing.into_dispatch(),
            mean,
            variance,
            factors,
            cell,
            memory,
        );
        CellOutput {
            output: Tensor::from_dispatch(tensors.output),
            running: [tensors.running_mean, tensors.running_var].map(Tensor::from_dispatch),
        }
    }
    #[cfg(not(any(feature = "flex", feature = "cube")))]
    {
        let _ = (inputs, parameters, mixing, running, factors, cell, memory);
        unreachable!("no device has fused kernels without the feature flex")
    }
}

/// As [`cell()`], normalized by the running statistics; without gradient.
///
/// # Panics
/// As [`cell()`].
pub fn cell_given(
    inputs: Vec<Tensor<4>>,
    parameters: Tensor<1>,
    mixing: Tensor<1>,
    running: [Tensor<1>; 2],
    cell: Arc<Cell>,
) -> Tensor<4> {
    cell.assert_fits(&inputs, &parameters, &mixing, &running, None);
    #[cfg(any(feature = "flex", feature = "cube"))]
    {
        let [mean, variance] = running.map(Tensor::into_dispatch);
        Tensor::from_dispatch(<Dispatch as extension::CellOps>::cell_given(
            extension::CellInputs::new(inputs.into_iter().map(Tensor::into_dispatch)),
            parameters.into_dispatch(),
            mixing.into_dispatch(),
            mean,
            variance,
            cell,
        ))
    }
    #[cfg(not(any(feature = "flex", feature = "cube")))]
    {
        let _ = (inputs, parameters, mixing, running, cell);
        unreachable!("no device has fused kernels without the feature flex")
    }
}

/// Logits of the mean over a map: a linear layer after a global average pool.
///
/// ```text
/// logits[n, k] = sum over c of mean over p of map[n, c, p] * weight[c, k] + bias[k]
/// ```
/// On the devices of CubeCL this is one kernel in single precision, because the backend's products
/// use tensor cores of reduced precision by themselves. On other devices it is the plain
/// composition.
///
/// # Shapes
/// - `map`: `[batch, channels, height, width]`
/// - `weight`: `[channels, num_classes]`, `bias`: `[num_classes]`
/// - output: `[batch, num_classes]`
pub fn classify(map: Tensor<4>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<2> {
    #[cfg(feature = "cube")]
    if is_cube(&map.device()) {
        return Tensor::from_dispatch(<Dispatch as classifier::ClassifierOps>::classify(
            map.into_dispatch(),
            weight.into_dispatch(),
            bias.into_dispatch(),
        ));
    }
    reference::classify(map, weight, bias)
}

/// The results of a loss.
#[derive(Clone, Debug)]
pub struct Loss {
    /// Mean cross entropy, `[1]`.
    pub loss: Tensor<1>,
    /// Number of images whose class has the largest logit (of equal logits the first counts),
    /// `[1]`, without gradient.
    pub correct: Tensor<1>,
}

/// Mean cross entropy of logits, and the number of images with the right class.
///
/// ```text
/// loss = mean over n of -(1 - s) log p[n, label] - s / K * sum over k of log p[n, k],   p = softmax(logits)
/// ```
/// `s` is the label smoothing, `K` the number of classes. This is one kernel on the devices of
/// CubeCL, forward and backward; on other devices the plain composition.
///
/// # Shapes
/// - `logits`: `[batch, num_classes]`
/// - `labels`: `[batch]`, class numbers
pub fn cross_entropy(logits: Tensor<2>, labels: Tensor<1, Int>, smoothing: f64) -> Loss {
    #[cfg(feature = "cube")]
    if is_cube(&logits.device()) {
        let tensors = <Dispatch as classifier::ClassifierOps>::cross_entropy(
            logits.into_dispatch(),
            labels.into_dispatch(),
            smoothing as f32,
        );
        return Loss {
            loss: Tensor::from_dispatch(tensors.loss),
            correct: Tensor::from_dispatch(tensors.correct),
        };
    }
    reference::cross_entropy(logits, labels, smoothing)
}

/// Compiles the example in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
