//! The step from alpha to the mixing weights of a cell's operations, in few kernels:
//! [`softmax_groups`] and [`pick`].

#[cfg(feature = "cube")]
#[cfg(feature = "cube")]
use std::sync::Arc;

#[cfg(feature = "cube")]
pub(crate) use cube::SelectKernels;

use burn::tensor::activation::softmax;
use burn::tensor::{Tensor, TensorData};

/// Softmax over the rows of each group, column by column; the groups follow one another.
///
/// ```text
/// y[r, c] = exp(x[r, c]) / sum over q in the group of r of exp(x[q, c])
/// ```
/// This is one kernel on the devices of CubeCL, forward and backward; on other devices the plain
/// composition.
///
/// # Shapes
/// - `values`, output: `[rows, columns]`
/// - `sizes`: rows of each group
///
/// # Panics
/// Where the groups do not have the same number of rows as the values.
pub fn softmax_groups(values: Tensor<2>, sizes: &[usize]) -> Tensor<2> {
    let [rows, columns] = values.dims();
    assert_eq!(sizes.iter().sum::<usize>(), rows, "each row is in one group");
    let ends = sizes.iter().scan(0, |end, size| {
        *end += size;
        Some(*end)
    });
    let groups = ends.zip(sizes).map(|(end, size)| end - size..end);
    #[cfg(feature = "cube")]
    if crate::is_cube(&values.device()) {
        let of_row = groups.flat_map(|group| {
            let ends = [group.start as u32, group.end as u32];
            group.flat_map(move |_| ends)
        });
        let of_row = Arc::new(of_row.collect());
        return Tensor::from_dispatch(<cube::Dispatch as cube::SelectOps>::softmax_groups(
            values.into_dispatch(),
            of_row,
        ));
    }
    let group = |rows| softmax(values.clone().slice([rows, 0..columns]), 0);
    Tensor::cat(groups.map(group).collect(), 0)
}

/// The values at places counted row by row; one where there is no place.
///
/// # Shapes
/// - `values`: `[rows, columns]`
/// - `places`: each at most once, `[length of the output]`
///
/// # Panics
/// Where a place is beyond the values, or appears twice.
pub fn pick(values: Tensor<2>, places: &[Option<usize>]) -> Tensor<1> {
    let [rows, columns] = values.dims();
    let mut is_there = vec![false; rows * columns];
    for &place in places.iter().flatten() {
        assert!(!std::mem::replace(&mut is_there[place], true), "each place at most once");
    }
    #[cfg(feature = "cube")]
    if crate::is_cube(&values.device()) {
        let places = places.iter().map(|place| place.map_or(u32::MAX, |place| place as u32));
        return Tensor::from_dispatch(<cube::Dispatch as cube::SelectOps>::pick(
            values.into_dispatch(),
            Arc::new(places.collect()),
        ));
    }
    // A one stands after all values.
    let indices: Vec<i64> =
        places.iter().map(|place| place.unwrap_or(rows * columns) as i64).collect();
    let device = values.device();
    let indices = Tensor::from_data(TensorData::new(indices, [places.len()]), &device);
    let one = Tensor::ones([1], (&device, values.dtype()));
    Tensor::cat(vec![values.reshape([rows * columns]), one], 0).select(0, indices)
}

#[cfg(feature = "cube")]
mod cube {
    use std::fmt::Debug;
    use std::marker::PhantomData;
    use std::sync::Arc;

    pub use burn::backend::Dispatch;
    use burn::backend::autodiff::checkpoint::base::Checkpointer;
    use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
    use burn::backend::tensor::FloatTensor;
    use burn::backend::{Autodiff, Backend, TensorMetadata, backend_extension};
    use burn_cubecl::CubeBackend;

    /// The operations on every backend that has kernels for them and under automatic differentiation.
    #[backend_extension(Cube, Autodiff)]
    pub trait SelectOps: Backend {
        /// `groups`: the begin and the end of each row's group.
        fn softmax_groups(values: FloatTensor<Self>, groups: Arc<Vec<u32>>) -> FloatTensor<Self>;

        /// `places`: the place of each value of the output; the largest number where there is none.
        fn pick(values: FloatTensor<Self>, places: Arc<Vec<u32>>) -> FloatTensor<Self>;
    }

    /// Kernels of a backend for these operations.
    pub trait SelectKernels: Backend {
        /// `[rows, columns]`.
        fn softmax(values: FloatTensor<Self>, groups: &Arc<Vec<u32>>) -> FloatTensor<Self>;

        /// The gradient from the output and its gradient.
        fn softmax_backward(
            output: FloatTensor<Self>,
            gradient: FloatTensor<Self>,
            groups: &Arc<Vec<u32>>,
        ) -> FloatTensor<Self>;

        /// `[places.len()]`.
        fn pick(values: FloatTensor<Self>, places: &Arc<Vec<u32>>) -> FloatTensor<Self>;

        /// The gradient, of the shape of the values, from that of the output.
        fn pick_backward(
            gradient: FloatTensor<Self>,
            places: &Arc<Vec<u32>>,
            shape: [usize; 2],
        ) -> FloatTensor<Self>;
    }

    impl SelectOps for CubeBackend {
        fn softmax_groups(values: FloatTensor<Self>, groups: Arc<Vec<u32>>) -> FloatTensor<Self> {
            Self::softmax(values, &groups)
        }

        fn pick(values: FloatTensor<Self>, places: Arc<Vec<u32>>) -> FloatTensor<Self> {
            <Self as SelectKernels>::pick(values, &places)
        }
    }

    #[derive(Debug)]
    struct SoftmaxBackward<B>(PhantomData<B>);

    impl<B: SelectKernels> Backward<B, 1> for SoftmaxBackward<B> {
        type State = (FloatTensor<B>, Arc<Vec<u32>>);

        fn backward(
            self,
            ops: Ops<Self::State, 1>,
            grads: &mut Gradients,
            _checkpointer: &mut Checkpointer,
        ) {
            let (output, groups) = ops.state;
            let gradient = grads.consume::<B>(&ops.node);
            if let [Some(node)] = ops.parents {
                grads.register::<B>(node.id, B::softmax_backward(output, gradient, &groups));
            }
        }
    }

    #[derive(Debug)]
    struct PickBackward<B>(PhantomData<B>);

    impl<B: SelectKernels> Backward<B, 1> for PickBackward<B> {
        type State = (Arc<Vec<u32>>, [usize; 2]);

        fn backward(
            self,
            ops: Ops<Self::State, 1>,
            grads: &mut Gradients,
            _checkpointer: &mut Checkpointer,
        ) {
            let (places, shape) = ops.state;
            let gradient = grads.consume::<B>(&ops.node);
            if let [Some(node)] = ops.parents {
                grads.register::<B>(node.id, B::pick_backward(gradient, &places, shape));
            }
        }
    }

    type Tracked<B, C> = FloatTensor<Autodiff<B, C>>;

    impl<B: SelectKernels, C: CheckpointStrategy> SelectOps for Autodiff<B, C> {
        fn softmax_groups(values: Tracked<B, C>, groups: Arc<Vec<u32>>) -> Tracked<B, C> {
            let node = values.node();
            let output = <B as SelectKernels>::softmax(values.into_primitive(), &groups);
            match SoftmaxBackward::<B>(PhantomData).prepare::<C>([node]).compute_bound().stateful()
            {
                OpsKind::Tracked(prep) => prep.finish((output.clone(), groups), output),
                OpsKind::UnTracked(prep) => prep.finish(output),
            }
        }

        fn pick(values: Tracked<B, C>, places: Arc<Vec<u32>>) -> Tracked<B, C> {
            let node = values.node();
            let values = values.into_primitive();
            let shape = values.shape().dims();
            let output = <B as SelectKernels>::pick(values, &places);
            match PickBackward::<B>(PhantomData).prepare::<C>([node]).compute_bound().stateful() {
                OpsKind::Tracked(prep) => prep.finish((places, shape), output),
                OpsKind::UnTracked(prep) => prep.finish(output),
            }
        }
    }
}
