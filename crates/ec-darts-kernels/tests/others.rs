//! Cells that the fused kernels do not support: `serves` says so, and the plain composition runs
//! them.

#![cfg(feature = "flex")]

use burn::tensor::{Device, Tensor};
use ec_darts_kernels::{Cell, Edge, EdgeOperation, reference, serves};

#[test]
fn what_is_not_served_runs_as_the_plain_composition() {
    let device = Device::flex();
    let separable = |kernel, repeats| EdgeOperation::Separable { kernel, dilation: 1, repeats };
    let convolution = EdgeOperation::Convolution { relu: true };
    for (operations, stride, is_served) in [
        (vec![separable(3, 2), separable(5, 1), EdgeOperation::Identity], 1, true),
        (vec![convolution], 1, true),
        (vec![separable(7, 1)], 1, false),
        (vec![separable(3, 3)], 1, false),
        (vec![convolution, EdgeOperation::Identity], 1, false),
        (vec![EdgeOperation::Pointwise], 1, true),
        (vec![EdgeOperation::Pointwise], 2, false),
    ] {
        let mut cell = Cell::from(Edge {
            operations,
            channels: [4; 2],
            stride,
            affine: true,
            parameters: 0,
            statistics: 0,
        });
        let [parameters, statistics] = cell.place([3, 2]);
        assert_eq!(serves(&device, &cell), is_served, "{cell:?}");
        let output = reference::cell_given(
            vec![Tensor::ones([2, 4, 5, 6], &device)],
            Tensor::ones([parameters], &device),
            Tensor::ones([cell.num_mixing_weights()], &device),
            [Tensor::zeros([statistics], &device), Tensor::ones([statistics], &device)],
            &cell,
        );
        assert_eq!(output.dims(), [2, 4, 5_usize.div_ceil(stride), 6 / stride]);
    }
}
