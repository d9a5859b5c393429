//! A cell composed of Burn's own operations: the definition of the fused kernels.
//!
//! Entry points: [`cell()`] and [`cell_given`], with the arguments and results of the fused ones.
//! They work on every device, for every cell. Invariant: differentiable in inputs, parameters and
//! mixing weights.

use std::sync::Arc;

use burn::tensor::activation::relu;
use burn::tensor::module::{avg_pool2d, batch_norm, batch_norm_train, conv2d, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, ConvOptions, MaxPoolOptions};
use burn::tensor::{Tensor, TensorData, s};

use crate::edge::{Cell, Edge, EdgeOperation};
use crate::{CellOutput, EPSILON, MOMENTUM, unbiased};

mod classifier;
mod steps;

pub use classifier::{classify, cross_entropy, ranks};
#[cfg(feature = "flex")]
pub(crate) use steps::clip_factor;
pub use steps::{adam, sgd};
#[cfg(feature = "cube")]
pub(crate) use steps::{before, keep_others};

/// As [`crate::cell()`].
///
/// # Panics
/// Where [`Cell::check`] finds a fault, or where a shape does not fit the cell, such as an odd size
/// before a factorized reduction.
pub fn cell(
    inputs: Vec<Tensor<4>>,
    parameters: Tensor<1>,
    mixing: Tensor<1>,
    running: [Tensor<1>; 2],
    factors: Option<Arc<Vec<f32>>>,
    cell: &Cell,
) -> CellOutput {
    let given = factors.as_deref().map(Vec::as_slice);
    cell.assert_fits(&inputs, &parameters, &mixing, &running, given);
    let mut statistics = Statistics::OfBatch(Vec::new());
    let output = compose(inputs, parameters, mixing, factors, cell, &mut statistics);
    let Statistics::OfBatch(mut seen) = statistics else { unreachable!("as made above") };
    seen.sort_by_key(|seen| seen.start);
    let [mean, variance] = running;
    let means = seen.iter().map(|seen| (seen.start, seen.mean.clone()));
    let variances = seen
        .iter()
        .map(|seen| (seen.start, seen.variance.clone() * f64::from(unbiased(seen.count))));
    CellOutput { output, running: [observe(mean, means), observe(variance, variances)] }
}

/// As [`crate::cell_given`].
///
/// # Panics
/// As [`cell()`].
pub fn cell_given(
    inputs: Vec<Tensor<4>>,
    parameters: Tensor<1>,
    mixing: Tensor<1>,
    running: [Tensor<1>; 2],
    cell: &Cell,
) -> Tensor<4> {
    cell.assert_fits(&inputs, &parameters, &mixing, &running, None);
    compose(inputs, parameters, mixing, None, cell, &mut Statistics::Given(running))
}

/// Sum of the terms, each scaled by its mixing weight, one after the other.
///
/// # Panics
/// Where there is no output, or where the number of weights is not that of the outputs.
pub fn mixed_sum(outputs: Vec<Tensor<4>>, weights: Tensor<1>) -> Tensor<4> {
    let [num_terms] = weights.dims();
    assert_eq!(outputs.len(), num_terms, "one mixing weight for each output");
    outputs
        .into_iter()
        .zip(weights.split(1, 0))
        .map(|(output, weight)| output * weight.reshape([1, 1, 1, 1]))
        .reduce(|sum, term| sum + term)
        .expect("a mixed sum has at least one term")
}

/// The mean and variance that batch normalizations use.
#[allow(clippy::large_enum_variant, reason = "two of them, on the stack of one call")]
enum Statistics {
    /// Those of the batch, which are collected here.
    OfBatch(Vec<Seen>),
    /// Given mean and variance, packed.
    Given([Tensor<1>; 2]),
}

/// The statistics of a batch at one batch normalization.
struct Seen {
    /// Place of its first channel among the packed statistics.
    start: usize,
    /// Number of values of a channel.
    count: usize,
    mean: Tensor<1>,
    /// The biased variance.
    variance: Tensor<1>,
}

/// Moves packed running values towards new ones, which are in the order of their places.
fn observe(running: Tensor<1>, new: impl Iterator<Item = (usize, Tensor<1>)>) -> Tensor<1> {
    let (is_tracked, [len]) = (running.device().is_autodiff(), running.dims());
    // Plain tensors: no gradient is needed here, and on an autodiff device every operation would
    // add to the graph.
    let running = running.without_autodiff();
    // New values that follow one another without a gap, and the place of the first of them.
    let mut runs: Vec<(usize, Vec<Tensor<1>>)> = Vec::new();
    let mut end = 0;
    for (start, values) in new {
        match runs.last_mut() {
            Some((_, run)) if start == end => run.push(values.without_autodiff()),
            _ => runs.push((start, vec![values.without_autodiff()])),
        }
        end = start + runs.last().map_or(0, |(_, run)| run[run.len() - 1].dims()[0]);
    }
    let (mut parts, mut done) = (Vec::new(), 0);
    let between = |from: usize, to: usize| (from < to).then(|| running.clone().slice(s![from..to]));
    for (start, run) in runs {
        parts.extend(between(done, start));
        let new = Tensor::cat(run, 0);
        done = start + new.dims()[0];
        let old = running.clone().slice(s![start..done]);
        parts.push(old * (1.0 - MOMENTUM) + new * MOMENTUM);
    }
    parts.extend(between(done, len));
    let moved = if parts.is_empty() { running } else { Tensor::cat(parts, 0) };
    if is_tracked { Tensor::from_inner(moved) } else { moved }
}

/// The values of a cell's edges, taken one after the other.
struct Composition<'a> {
    parameters: Tensor<1>,
    mixing: Tensor<1>,
    /// `[num_mixing_weights, batch]`.
    factors: Option<Tensor<2>>,
    statistics: &'a mut Statistics,
    /// Index of the next mixing weight.
    next: usize,
}

fn compose(
    inputs: Vec<Tensor<4>>,
    parameters: Tensor<1>,
    mixing: Tensor<1>,
    factors: Option<Arc<Vec<f32>>>,
    cell: &Cell,
    statistics: &mut Statistics,
) -> Tensor<4> {
    let (batch, device) = (inputs[0].dims()[0], inputs[0].device());
    let factors = factors.map(|factors| {
        let data = TensorData::new(factors.to_vec(), [cell.num_mixing_weights(), batch]);
        Tensor::<2>::from_data(data, &device)
    });
    let mut all = Composition { parameters, mixing, factors, statistics, next: 0 };
    let inputs = cell.inputs.iter().zip(inputs);
    let mut states: Vec<Tensor<4>> =
        inputs.map(|(own, input)| all.edge(own, input).expect("an input's operation")).collect();
    for edges in &cell.nodes {
        let node = all.node(edges, &states, cell.parts);
        states.push(node);
    }
    let joined: Vec<_> = cell.concat.iter().map(|&state| states[state].clone()).collect();
    if joined.len() == 1 { joined.into_iter().next().expect("one") } else { Tensor::cat(joined, 1) }
}

impl Composition<'_> {
    /// The next mixing weights.
    fn weights(&mut self, count: usize) -> Tensor<1> {
        let first = self.next;
        self.next += count;
        self.mixing.clone().slice(s![first..self.next])
    }

    /// The mixed sum of an edge, if it has operations.
    fn edge(&mut self, edge: &Edge, input: Tensor<4>) -> Option<Tensor<4>> {
        if edge.operations.is_empty() {
            return None;
        }
        let range = edge.parameter_range();
        // The edge's part comes first: backward, a slice costs as much as the tensor that it is cut
        // from.
        let own = (!range.is_empty()).then(|| self.parameters.clone().slice([range]));
        let mut values = Values { edge, own, parameters: 0, statistics: edge.statistics };
        let mut outputs = Vec::new();
        for (number, &each) in edge.operations.iter().enumerate() {
            let output = values.run(each, input.clone(), self.statistics);
            outputs.push(match &self.factors {
                Some(factors) => {
                    let of_images = factors.clone().slice(s![self.next + number, ..]);
                    let batch = output.dims()[0];
                    output * of_images.reshape([batch, 1, 1, 1])
                }
                None => output,
            });
        }
        Some(mixed_sum(outputs, self.weights(edge.operations.len())))
    }

    fn node(&mut self, edges: &[(usize, Edge)], states: &[Tensor<4>], parts: usize) -> Tensor<4> {
        let (mut mixed, mut by) = (Vec::new(), Vec::new());
        for (state, edge) in edges {
            let (x, width) = (states[*state].clone(), edge.channels[0]);
            if parts == 1 {
                mixed.extend(self.edge(edge, x));
                continue;
            }
            mixed.extend(self.edge(edge, x.clone().slice(s![.., ..width])));
            let weight = self.weights(1).reshape([1; 4]);
            by.push(around(x.slice(s![.., width..]), edge.stride) * weight);
        }
        join_parts(mixed, by, parts)
    }
}

/// A node from the outputs of its edges: the first part of its channels, and where there are
/// several parts the others.
///
/// # Panics
/// Where there are no other channels and no mixed ones.
pub fn join_parts(mixed: Vec<Tensor<4>>, around: Vec<Tensor<4>>, parts: usize) -> Tensor<4> {
    let sum = |terms: Vec<Tensor<4>>| terms.into_iter().reduce(|sum, term| sum + term);
    let mixed = sum(mixed);
    let Some(around) = sum(around) else { return mixed.expect("a node has edges") };
    let mixed = mixed.unwrap_or_else(|| {
        let [batch, others, height, width] = around.dims();
        let like = (&around.device(), around.dtype());
        Tensor::zeros([batch, others / (parts - 1), height, width], like)
    });
    shuffle(Tensor::cat(vec![mixed, around], 1), parts)
}

/// The channels that bypass the operations of an edge: unchanged, at stride 2 the maximum of 2x2
/// pixels.
///
/// # Source
/// PC-DARTS, section 3.2; `model_search.py`, `MixedOp`.
pub fn around(x: Tensor<4>, stride: usize) -> Tensor<4> {
    match stride {
        1 => x,
        stride => max_pool2d(x, MaxPoolOptions::new([2; 2]).with_stride([stride; 2])),
    }
}

/// Takes one channel of each part in turn.
///
/// # Source
/// PC-DARTS, `model_search.py`, `channel_shuffle`.
fn shuffle(map: Tensor<4>, parts: usize) -> Tensor<4> {
    let [batch, channels, height, width] = map.dims();
    map.reshape([batch, parts, channels / parts, height * width])
        .swap_dims(1, 2)
        .reshape([batch, channels, height, width])
}

/// The packed values of an edge, taken one after the other.
struct Values<'a> {
    edge: &'a Edge,
    /// The edge's part of the packed parameters, if it has any.
    own: Option<Tensor<1>>,
    /// Index of the next of them.
    parameters: usize,
    /// Index of the next value among the packed statistics.
    statistics: usize,
}

impl Values<'_> {
    fn take<const D: usize>(&mut self, shape: [usize; D]) -> Tensor<D> {
        let start = self.parameters;
        self.parameters += shape.iter().product::<usize>();
        let own = self.own.clone().expect("an edge with parameters");
        own.slice(s![start..self.parameters]).reshape(shape)
    }

    fn run(
        &mut self,
        operation: EdgeOperation,
        input: Tensor<4>,
        statistics: &mut Statistics,
    ) -> Tensor<4> {
        let (stride, blocks) = (self.edge.stride, operation.blocks(self.edge.channels));
        match operation {
            EdgeOperation::Identity => input,
            EdgeOperation::MaxPool { norm } => {
                let options =
                    MaxPoolOptions::new([3; 2]).with_stride([stride; 2]).with_padding([1; 2]);
                let pooled = max_pool2d(input, options);
                if norm { self.normalize(pooled, statistics) } else { pooled }
            }
            EdgeOperation::AvgPool { norm } => {
                let options = AvgPoolOptions::new([3; 2])
                    .with_stride([stride; 2])
                    .with_padding([1; 2])
                    .with_count_include_pad(false);
                let pooled = avg_pool2d(input, options);
                if norm { self.normalize(pooled, statistics) } else { pooled }
            }
            EdgeOperation::Pointwise => {
                let map =
                    conv2d(relu(input), self.take(blocks[0][0]), None, convolution(stride, 0));
                self.normalize(map, statistics)
            }
            EdgeOperation::Convolution { relu: has_relu } => {
                let input = if has_relu { relu(input) } else { input };
                let map = conv2d(input, self.take(blocks[0][0]), None, convolution(stride, 1));
                self.normalize(map, statistics)
            }
            EdgeOperation::FactorizedReduce => {
                let input = relu(input);
                let [even, odd] = [0, 1].map(|half: usize| self.take(blocks[0][half]));
                let shifted = input.clone().slice(s![.., .., 1.., 1..]);
                let even = conv2d(input, even, None, convolution(2, 0));
                let odd = conv2d(shifted, odd, None, convolution(2, 0));
                self.normalize(Tensor::cat(vec![even, odd], 1), statistics)
            }
            EdgeOperation::Separable { kernel, dilation, .. } => {
                let padding = dilation * (kernel - 1) / 2;
                blocks.iter().enumerate().fold(input, |input, (number, shapes)| {
                    let stride = if number == 0 { stride } else { 1 };
                    let channels = shapes[0][0];
                    let options =
                        ConvOptions::new([stride; 2], [padding; 2], [dilation; 2], channels);
                    let filtered = conv2d(relu(input), self.take(shapes[0]), None, options);
                    let map = conv2d(filtered, self.take(shapes[1]), None, convolution(1, 0));
                    self.normalize(map, statistics)
                })
            }
        }
    }

    /// The next batch normalization.
    fn normalize(&mut self, map: Tensor<4>, statistics: &mut Statistics) -> Tensor<4> {
        let [batch, num_channels, height, width] = map.dims();
        let device = map.device();
        let [gamma, beta] = if self.edge.affine {
            [0, 1].map(|_| self.take([num_channels]))
        } else {
            let like = (&device, map.dtype());
            [Tensor::ones([num_channels], like), Tensor::zeros([num_channels], like)]
        };
        let start = self.statistics;
        self.statistics += num_channels;
        match statistics {
            Statistics::Given(running) => {
                let [mean, variance] =
                    running.each_ref().map(|all| all.clone().slice(s![start..self.statistics]));
                batch_norm(map, gamma, beta, mean, variance, EPSILON)
            }
            Statistics::OfBatch(seen) => {
                let normalized = batch_norm_train(map, gamma, beta, EPSILON);
                seen.push(Seen {
                    start,
                    count: batch * height * width,
                    mean: normalized.mean,
                    variance: normalized.variance,
                });
                normalized.output
            }
        }
    }
}

/// The options of a convolution without dilation and groups.
fn convolution(stride: usize, padding: usize) -> ConvOptions<2> {
    ConvOptions::new([stride; 2], [padding; 2], [1; 2], 1)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Int};

    use super::*;

    /// Expected: a view as parts times channels of a part, transposed.
    #[test]
    fn a_channel_of_each_part_in_turn() {
        let map = Tensor::<1, Int>::arange(0..8, &Device::default()).float().reshape([1, 8, 1, 1]);
        let found: Vec<f32> = shuffle(map, 4).into_data().try_to_vec().expect("single precision");
        assert_eq!(found, [0.0, 2.0, 4.0, 6.0, 1.0, 3.0, 5.0, 7.0]);
    }
}
