//! A cell composed of Burn's own operations: the definition that fused kernels follow.
//!
//! Entry points: [`cell()`] and [`cell_given`], with the arguments and results of the fused ones.
//! Every device has it, for every cell. Invariant: differentiable in inputs, parameters and mixing
//! weights.

use std::sync::Arc;

use burn::tensor::activation::{log_softmax, relu};
use burn::tensor::module::{avg_pool2d, batch_norm, batch_norm_train, conv2d, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, ConvOptions, MaxPoolOptions};
use burn::tensor::{Int, Tensor, TensorData, s};

use crate::edge::{Cell, Edge, EdgeOperation};
use crate::steps::{AdamNumbers, SgdNumbers};
use crate::{CellOutput, EPSILON, Loss, MOMENTUM, unbiased};

/// As [`crate::cell()`].
///
/// # Panics
/// Where [`Cell::check`] finds a fault, or a shape does not fit the cell, as where a factorized reduction reads an
/// odd size.
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

/// As [`crate::sgd`].
pub fn sgd<const D: usize>(
    weights: Tensor<D>,
    mut gradient: Tensor<D>,
    velocity: Option<Tensor<D>>,
    norm: Option<Tensor<1>>,
    numbers: SgdNumbers,
) -> [Tensor<D>; 2] {
    if let (Some(norm), Some(clip)) = (norm, numbers.clip_norm) {
        let factor = ((norm + 1e-6).recip() * clip).clamp_max(1.0);
        gradient = gradient * factor.reshape([1; D]);
    }
    let gradient = weights.clone() * numbers.weight_decay + gradient;
    let velocity = match velocity {
        Some(velocity) => gradient.clone() + velocity * numbers.momentum,
        None => gradient.clone(),
    };
    let step = match numbers.nesterov {
        true => gradient + velocity.clone() * numbers.momentum,
        false => velocity.clone(),
    };
    [weights - step * numbers.learning_rate, velocity]
}

/// As [`crate::adam`].
pub fn adam<const D: usize>(
    weights: Tensor<D>,
    gradient: Tensor<D>,
    moments: Option<[Tensor<D>; 2]>,
    numbers: AdamNumbers,
) -> [Tensor<D>; 3] {
    let gradient = weights.clone() * numbers.weight_decay + gradient;
    let news =
        [gradient.clone() * (1.0 - numbers.beta1), gradient.square() * (1.0 - numbers.beta2)];
    let [first, second] = match moments {
        Some([first, second]) => {
            let [of_first, of_second] = news;
            [first * numbers.beta1 + of_first, second * numbers.beta2 + of_second]
        }
        None => news,
    };
    let root = numbers.second_correction().sqrt();
    let step = first.clone() * (root / numbers.first_correction())
        / (second.clone().sqrt() + numbers.epsilon * root);
    [weights - step * numbers.learning_rate, first, second]
}

/// As [`crate::classify`].
pub fn classify(map: Tensor<4>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<2> {
    let [batch, channels, height, width] = map.dims();
    let pooled = map.reshape([batch, channels, height * width]).mean_dim(2);
    pooled.reshape([batch, channels]).matmul(weight) + bias.unsqueeze()
}

/// As [`crate::cross_entropy`].
pub fn cross_entropy(logits: Tensor<2>, labels: Tensor<1, Int>, smoothing: f64) -> Loss {
    let [count, classes] = logits.dims();
    let is_tracked = logits.device().is_autodiff();
    let correct = ranks(logits.clone(), labels.clone()).equal_elem(0).float().sum();
    let correct = if is_tracked { Tensor::from_inner(correct) } else { correct };
    let places = labels.reshape([count, 1]);
    let logs = log_softmax(logits, 1);
    let mut loss = logs.clone().gather(1, places).mean().neg();
    if smoothing > 0.0 {
        let all = logs.sum_dim(1).mean().neg() / classes as f64;
        loss = loss * (1.0 - smoothing) + all * smoothing;
    }
    Loss { loss, correct }
}

/// How many classes are ahead of each image's own: those of a larger logit, and of equal ones those before it.
///
/// An image with a logit that is no number has no order of classes; its rank is 2^30 or more, so that it counts as
/// wrong among however many classes.
///
/// # Shapes
/// - `logits`: `[batch, num_classes]`
/// - `labels`, output: `[batch]`, the output on the device without autodiff
pub fn ranks(logits: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1, Int> {
    let logits = logits.without_autodiff();
    let labels = labels.without_autodiff();
    let (shape, device) = (logits.dims(), logits.device());
    let [count, classes] = shape;
    let places = labels.reshape([count, 1]);
    let own = logits.clone().gather(1, places.clone()).expand(shape);
    let numbers = Tensor::<1, Int>::arange(0..classes as i64, &device).reshape([1, classes]);
    let before = numbers.expand(shape).lower(places.expand(shape));
    let ahead =
        logits.clone().greater(own.clone()).bool_or(logits.clone().equal(own).bool_and(before));
    // A comparison with what is no number is false, also with itself.
    let unknown = logits.clone().not_equal(logits).any_dim(1).int() * (1 << 30);
    (ahead.int().sum_dim(1) + unknown).reshape([count])
}

/// Sum of the terms, each scaled by its mixing weight, one after the other.
///
/// # Panics
/// Where there is no output, or not one weight for each.
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

/// What batch normalizations normalize with.
#[allow(clippy::large_enum_variant, reason = "two of them, on the stack of one call")]
enum Statistics {
    /// Those of the batch, which are told here.
    OfBatch(Vec<Seen>),
    /// Mean and variance, packed.
    Given([Tensor<1>; 2]),
}

/// The batch in front of one batch normalization.
struct Seen {
    /// Where its channels begin among the packed statistics.
    start: usize,
    /// Values of a channel.
    count: usize,
    mean: Tensor<1>,
    /// Biased.
    variance: Tensor<1>,
}

/// Moves packed running values towards new ones, which are in the order of their places.
fn observe(running: Tensor<1>, new: impl Iterator<Item = (usize, Tensor<1>)>) -> Tensor<1> {
    let (is_tracked, [len]) = (running.device().is_autodiff(), running.dims());
    // Plain tensors: nothing here has a gradient, and on an autodiff device every operation would
    // pay for the graph.
    let running = running.without_autodiff();
    // New values that follow one another without a gap, and where the first of them lies.
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

fn compose(
    inputs: Vec<Tensor<4>>,
    parameters: Tensor<1>,
    mixing: Tensor<1>,
    factors: Option<Arc<Vec<f32>>>,
    cell: &Cell,
    statistics: &mut Statistics,
) -> Tensor<4> {
    let (batch, device) = (inputs[0].dims()[0], inputs[0].device());
    let num_operations = cell.num_operations();
    let factors = factors.map(|factors| {
        let data = TensorData::new(factors.to_vec(), [num_operations, batch]);
        Tensor::<2>::from_data(data, &device)
    });
    let mut operation = 0;
    let mut edge = |edge: &Edge, input: Tensor<4>| {
        let range = edge.parameter_range();
        // First the edge's part: what a slice costs on the way back is as much as what it is cut from.
        let own = (!range.is_empty()).then(|| parameters.clone().slice([range]));
        let mut values = Values { edge, own, parameters: 0, statistics: edge.statistics };
        let mut outputs = Vec::new();
        for (number, &each) in edge.operations.iter().enumerate() {
            let output = values.run(each, input.clone(), statistics);
            outputs.push(match &factors {
                Some(factors) => {
                    let of_images = factors.clone().slice(s![operation + number, ..]);
                    output * of_images.reshape([batch, 1, 1, 1])
                }
                None => output,
            });
        }
        let first = operation;
        operation += edge.operations.len();
        mixed_sum(outputs, mixing.clone().slice(s![first..operation]))
    };
    let mut states: Vec<Tensor<4>> =
        cell.inputs.iter().zip(inputs).map(|(own, input)| edge(own, input)).collect();
    for edges in &cell.nodes {
        let sum = edges
            .iter()
            .map(|(state, own)| edge(own, states[*state].clone()))
            .reduce(|sum, term| sum + term)
            .expect("every node has an edge");
        states.push(sum);
    }
    let joined: Vec<_> = cell.concat.iter().map(|&state| states[state].clone()).collect();
    if joined.len() == 1 { joined.into_iter().next().expect("one") } else { Tensor::cat(joined, 1) }
}

/// The packed values of an edge, taken one after the other.
struct Values<'a> {
    edge: &'a Edge,
    /// Its part of the packed parameters, if it has any.
    own: Option<Tensor<1>>,
    /// The next of them.
    parameters: usize,
    /// The next place among the packed statistics.
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

/// Of a convolution without dilation and groups.
fn convolution(stride: usize, padding: usize) -> ConvOptions<2> {
    ConvOptions::new([stride; 2], [padding; 2], [1; 2], 1)
}
