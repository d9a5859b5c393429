//! A cell in double precision, one operation after the other: the expected results of the kernels.

use crate::edge::{Cell, Edge, EdgeOperation};

/// The values of a cell, as [`super::Values`].
#[derive(Clone)]
pub struct Values {
    pub inputs: Vec<Maps>,
    pub parameters: Vec<f64>,
    pub mixing: Vec<f64>,
    /// `[operation][batch]`.
    pub factors: Vec<f64>,
}

/// `[batch, channels, height, width]`.
#[derive(Clone)]
pub struct Maps {
    pub shape: [usize; 4],
    pub values: Vec<f64>,
}

/// The windows of a convolution.
#[derive(Clone, Copy)]
struct Window {
    kernel: usize,
    dilation: usize,
    stride: usize,
    /// Number of pixels before the first one that the first window reads.
    padding: isize,
}

impl Maps {
    fn new([batch, channels, height, width]: [usize; 4], of: impl Fn([usize; 4]) -> f64) -> Self {
        let mut values = Vec::new();
        for n in 0..batch {
            for c in 0..channels {
                for y in 0..height {
                    values.extend((0..width).map(|x| of([n, c, y, x])));
                }
            }
        }
        Self { shape: [batch, channels, height, width], values }
    }

    fn map(&self, of: impl Fn([usize; 4], f64) -> f64) -> Self {
        Self::new(self.shape, |place| of(place, self.at(place)))
    }

    fn at(&self, [n, c, y, x]: [usize; 4]) -> f64 {
        let [_, channels, height, width] = self.shape;
        self.values[((n * channels + c) * height + y) * width + x]
    }

    /// The pixel at signed coordinates, where it exists.
    fn pixel(&self, [n, c]: [usize; 2], [y, x]: [isize; 2]) -> Option<f64> {
        let place = [usize::try_from(y).ok()?, usize::try_from(x).ok()?];
        let [_, _, height, width] = self.shape;
        (place[0] < height && place[1] < width).then(|| self.at([n, c, place[0], place[1]]))
    }

    fn relu(&self) -> Self {
        self.map(|_, value| value.max(0.0))
    }

    /// The convolution with weights `[out, in, kernel, kernel]`; with one input per output, a
    /// depthwise one.
    fn convolve(&self, weights: &[f64], out: usize, depthwise: bool, window: Window) -> Self {
        let Window { kernel, dilation, stride, padding } = window;
        let [batch, channels, height, width] = self.shape;
        let inputs = if depthwise { 1 } else { channels };
        let shape = [batch, out, height.div_ceil(stride), width.div_ceil(stride)];
        Self::new(shape, |[n, o, y, x]| {
            let mut sum = 0.0;
            for i in 0..inputs {
                for tap in 0..kernel * kernel {
                    let place = [y, x].map(|each| (each * stride) as isize - padding);
                    let offset = [tap / kernel, tap % kernel].map(|t| (t * dilation) as isize);
                    let place = [place[0] + offset[0], place[1] + offset[1]];
                    let value = self.pixel([n, if depthwise { o } else { i }], place);
                    let weight = weights[(o * inputs + i) * kernel * kernel + tap];
                    sum += weight * value.unwrap_or(0.0);
                }
            }
            sum
        })
    }

    fn pool(&self, is_max: bool, stride: usize) -> Self {
        let [batch, channels, height, width] = self.shape;
        let shape = [batch, channels, height.div_ceil(stride), width.div_ceil(stride)];
        Self::new(shape, |[n, c, y, x]| {
            let [y, x] = [y, x].map(|each| (each * stride) as isize);
            let around = (0..9).filter_map(|t| self.pixel([n, c], [y + t / 3 - 1, x + t % 3 - 1]));
            let window: Vec<f64> = around.collect();
            if is_max {
                window.iter().copied().fold(f64::NEG_INFINITY, f64::max)
            } else {
                window.iter().sum::<f64>() / window.len() as f64
            }
        })
    }

    /// The map, normalized by the statistics of all images.
    fn norm(&self, affine: &[f64]) -> Self {
        let [batch, channels, height, width] = self.shape;
        let count = (batch * height * width) as f64;
        let sums = |of: &dyn Fn(usize, f64) -> f64| {
            let mut sums = vec![0.0; channels];
            for (place, &value) in self.values.iter().enumerate() {
                let channel = place / (height * width) % channels;
                sums[channel] += of(channel, value) / count;
            }
            sums
        };
        let mean = sums(&|_, value| value);
        let variance = sums(&|channel, value| (value - mean[channel]).powi(2));
        self.map(|[_, c, _, _], value| {
            let normalized = (value - mean[c]) / (variance[c] + 1e-5).sqrt();
            match affine {
                [] => normalized,
                all => normalized * all[c] + all[channels + c],
            }
        })
    }
}

/// Values in the order in which they are packed.
struct Packed<'a>(&'a [f64]);

impl<'a> Packed<'a> {
    fn take(&mut self, count: usize) -> &'a [f64] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn norm(&mut self, edge: &Edge, maps: &Maps) -> Maps {
        maps.norm(self.take(if edge.affine { 2 * edge.channels[1] } else { 0 }))
    }
}

fn operation(operation: EdgeOperation, edge: &Edge, x: &Maps, packed: &mut Packed<'_>) -> Maps {
    let &Edge { channels: [from, to], stride, .. } = edge;
    let dense = |kernel, stride, padding| Window { kernel, dilation: 1, stride, padding };
    match operation {
        EdgeOperation::Identity => x.clone(),
        EdgeOperation::MaxPool { norm } | EdgeOperation::AvgPool { norm } => {
            let is_max = matches!(operation, EdgeOperation::MaxPool { .. });
            let pooled = x.pool(is_max, stride);
            if norm { packed.norm(edge, &pooled) } else { pooled }
        }
        EdgeOperation::Pointwise => {
            let maps = x.relu().convolve(packed.take(from * to), to, false, dense(1, 1, 0));
            packed.norm(edge, &maps)
        }
        EdgeOperation::Convolution { relu } => {
            let x = if relu { x.relu() } else { x.clone() };
            let maps = x.convolve(packed.take(9 * from * to), to, false, dense(3, stride, 1));
            packed.norm(edge, &maps)
        }
        EdgeOperation::FactorizedReduce => {
            let halves = [0, -1].map(|padding| {
                let weights = packed.take(from * to / 2);
                x.relu().convolve(weights, to / 2, false, dense(1, 2, padding))
            });
            let [batch, half, height, width] = halves[0].shape;
            let maps = Maps::new([batch, to, height, width], |[n, c, y, x]| {
                halves[c / half].at([n, c % half, y, x])
            });
            packed.norm(edge, &maps)
        }
        EdgeOperation::Separable { kernel, dilation, repeats } => {
            let mut maps = x.clone();
            for stride in [stride, 1].into_iter().take(repeats) {
                let padding = (dilation * (kernel - 1) / 2) as isize;
                let window = Window { kernel, dilation, stride, padding };
                let weights = packed.take(from * kernel * kernel);
                let depthwise = maps.relu().convolve(weights, from, true, window);
                let mixed = depthwise.convolve(packed.take(from * to), to, false, dense(1, 1, 0));
                maps = packed.norm(edge, &mixed);
            }
            maps
        }
    }
}

/// The output of a cell.
pub fn cell(cell: &Cell, values: &Values) -> Maps {
    let mut packed = Packed(&values.parameters);
    let mut scales = values.mixing.iter().zip(values.factors.chunks(values.inputs[0].shape[0]));
    let mut add = |edge: &Edge, x: &Maps, sum: &mut Option<Maps>| {
        for &each in &edge.operations {
            let maps = operation(each, edge, x, &mut packed);
            let (weight, factors) = scales.next().expect("a scale for each operation");
            let term = maps.map(|[n, ..], value| weight * factors[n] * value);
            *sum = Some(match sum {
                Some(sum) => sum.map(|place, value| value + term.at(place)),
                None => term,
            });
        }
    };
    let mut states: Vec<Maps> = Vec::new();
    for (edge, input) in cell.inputs.iter().zip(&values.inputs) {
        let mut sum = None;
        add(edge, input, &mut sum);
        states.extend(sum);
    }
    for node in &cell.nodes {
        let mut sum = None;
        for (state, edge) in node {
            add(edge, &states[*state], &mut sum);
        }
        states.extend(sum);
    }
    let [batch, channels, height, width] = states[cell.concat[0]].shape;
    let shape = [batch, cell.concat.len() * channels, height, width];
    Maps::new(shape, |[n, c, y, x]| states[cell.concat[c / channels]].at([n, c % channels, y, x]))
}
