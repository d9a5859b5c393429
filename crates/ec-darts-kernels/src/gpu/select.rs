//! Mixing weights: small tensors for which Burn's own operations would take dozens of launches.

use burn::tensor::DType;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, cubecl};
use cubecl::prelude::*;
use std::sync::Arc;

use super::kept::table;
use super::launch::{Values, empty, tensor};
use super::sums::UNITS;
use super::table::NONE;
use crate::select::SelectKernels;

/// Softmax over the rows of a group, column by column. `groups`: the begin and the end of each
/// row's group.
#[cube(launch_unchecked)]
fn softmax(groups: &[u32], values: &[f32], output: &mut [f32], columns: usize) {
    let at = ABSOLUTE_POS;
    if at < output.len() {
        let row = at / columns;
        let column = at % columns;
        let begin = groups[row * 2] as usize;
        let end = groups[row * 2 + 1] as usize;
        let mut largest = values[begin * columns + column];
        for other in begin..end {
            largest = max(largest, values[other * columns + column]);
        }
        let mut sum = f32::new(0.0);
        for other in begin..end {
            sum += (values[other * columns + column] - largest).exp();
        }
        output[at] = (values[at] - largest).exp() / sum;
    }
}

/// `dv = y (g - sum over the group of g y)`.
#[cube(launch_unchecked)]
fn softmax_backward(
    groups: &[u32],
    output: &[f32],
    gradient: &[f32],
    of_values: &mut [f32],
    columns: usize,
) {
    let at = ABSOLUTE_POS;
    if at < of_values.len() {
        let row = at / columns;
        let column = at % columns;
        let mut sum = f32::new(0.0);
        for other in groups[row * 2] as usize..groups[row * 2 + 1] as usize {
            sum += gradient[other * columns + column] * output[other * columns + column];
        }
        of_values[at] = output[at] * (gradient[at] - sum);
    }
}

/// Values at places, `other` where there is no place.
#[cube(launch_unchecked)]
fn pick(places: &[u32], values: &[f32], output: &mut [f32], other: f32) {
    let at = ABSOLUTE_POS;
    if at < output.len() {
        let place = places[at];
        let mut value = other;
        if place != NONE {
            value = values[place as usize];
        }
        output[at] = value;
    }
}

fn launch(len: usize) -> (CubeCount, CubeDim) {
    let cubes = u32::try_from(len.div_ceil(UNITS)).expect("cubes of a launch");
    (CubeCount::Static(cubes, 1, 1), CubeDim::new_1d(UNITS as u32))
}

fn picked(values: &CubeTensor, places: &Arc<Vec<u32>>, other: f32) -> Values {
    let output = empty(&values.client, places.len());
    let (count, dim) = launch(places.len());
    // SAFETY: places are those of the values.
    unsafe {
        pick::launch_unchecked(
            &values.client,
            count,
            dim,
            table(values, places).arg(),
            Values::of(values).arg(),
            output.arg(),
            other,
        );
    }
    output
}

impl SelectKernels for CubeBackend {
    fn softmax(values: CubeTensor, groups: &Arc<Vec<u32>>) -> CubeTensor {
        let values = into_contiguous(values);
        assert_eq!(values.dtype, DType::F32, "mixing weights are in single precision");
        let [rows, columns] = values.meta.shape().dims();
        assert_eq!(groups.len(), 2 * rows, "a group of each row");
        let output = empty(&values.client, rows * columns);
        let (count, dim) = launch(rows * columns);
        // SAFETY: groups are ranges of the rows.
        unsafe {
            softmax::launch_unchecked(
                &values.client,
                count,
                dim,
                table(&values, groups).arg(),
                Values::of(&values).arg(),
                output.arg(),
                columns,
            );
        }
        tensor(&values, output, [rows, columns])
    }

    fn softmax_backward(
        output: CubeTensor,
        gradient: CubeTensor,
        groups: &Arc<Vec<u32>>,
    ) -> CubeTensor {
        let [output, gradient] = [output, gradient].map(into_contiguous);
        let [rows, columns] = output.meta.shape().dims();
        let of_values = empty(&output.client, rows * columns);
        let (count, dim) = launch(rows * columns);
        // SAFETY: as in `softmax`.
        unsafe {
            softmax_backward::launch_unchecked(
                &output.client,
                count,
                dim,
                table(&output, groups).arg(),
                Values::of(&output).arg(),
                Values::of(&gradient).arg(),
                of_values.arg(),
                columns,
            );
        }
        tensor(&output, of_values, [rows, columns])
    }

    fn pick(values: CubeTensor, places: &Arc<Vec<u32>>) -> CubeTensor {
        let values = into_contiguous(values);
        let output = picked(&values, places, 1.0);
        tensor(&values, output, [places.len()])
    }

    fn pick_backward(
        gradient: CubeTensor,
        places: &Arc<Vec<u32>>,
        shape: [usize; 2],
    ) -> CubeTensor {
        let gradient = into_contiguous(gradient);
        let mut inverse = vec![NONE; shape[0] * shape[1]];
        for (at, &place) in places.iter().enumerate().filter(|(_, place)| **place != NONE) {
            inverse[place as usize] = at as u32;
        }
        let of_values = picked(&gradient, &Arc::new(inverse), 0.0);
        tensor(&gradient, of_values, shape)
    }
}
