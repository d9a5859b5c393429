//! The Hessian of the validation loss in alpha. A large eigenvalue announces a collapse.
//!
//! Entry points: [`Curvature::new`], [`Curvature::dominant`]. Invariant: all is computed in double
//! precision on a copy, on the CPU; the state of the search does not change.
//!
//! A second derivative is the difference of two gradients. ReLU and maximum pooling are not smooth:
//! between the two points some of their inputs cross a kink, and each crossing leaves a finite
//! error. A very short distance has few crossings, but only double precision resolves it.

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Tensor, TensorData};
use ec_darts_space::PerKind;
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::Result;
use crate::architecture::{ArchitectureGradient, ArchitectureParameters};
use crate::batch::ImageBatch;
use crate::device::DeviceName;
use crate::network::Supernet;
use crate::objective::Objective;
use crate::ops::Kernels;

/// Half the distance between the points of the two gradients.
pub const RADIUS: f64 = 1e-8;

/// Largest disagreement of two products, as a part of the larger one.
const ASYMMETRY: f64 = 0.01;

/// Number of products of the Hessian with a vector per measurement of a search; each product takes
/// two gradients.
pub const ROUNDS: usize = 10;

/// The validation loss and its derivatives as a function of alpha, at the weights of a search.
///
/// ```text
/// L(alpha) = mean cross entropy of the supernet, normalized by the statistics of the batch
/// H = d^2 L / d alpha^2
/// ```
/// Where edges have weights, `alpha` means alpha and beta. All vectors contain alpha of the normal
/// cells, alpha of the reduction cells, then beta in the same way, row-major.
///
/// # Source
/// RobustDARTS, section 3; `src/search/analyze.py`.
pub struct Curvature<'a> {
    objective: Objective<'a>,
    supernet: Supernet,
    alpha: ArchitectureParameters,
    batch: ImageBatch,
}

impl<'a> Curvature<'a> {
    /// Copies all inputs of the loss; the terms that the rule adds to the loss are left out.
    ///
    /// # Errors
    /// [`crate::Error::Device`] in a program built without the CPU backend.
    pub fn new(
        objective: Objective<'a>,
        supernet: &Supernet,
        alpha: &ArchitectureParameters,
        batch: &ImageBatch,
    ) -> Result<Self> {
        let device = DeviceName::Flex.open()?.device;
        let mut double = Double { device: device.clone() };
        let supernet = supernet.valid().map(&mut double).train().no_grad();
        let alpha = alpha.valid().map(&mut double).train();
        let device = device.autodiff();
        let batch = ImageBatch {
            images: Tensor::from_data(batch.images.to_data(), (&device, DType::F64)),
            labels: Tensor::from_data(batch.labels.to_data(), &device),
        };
        Ok(Self { objective, supernet: supernet.with_kernels(Kernels::Reference), alpha, batch })
    }

    /// The current alpha.
    pub fn point(&self) -> Vec<f64> {
        let operations = self.alpha.operations().map(|param| param.val());
        flat(operations, self.alpha.edge_weights().map(|edges| edges.map(|param| param.val())))
    }

    /// A random direction of unit length.
    pub fn direction(&self, rng: &mut impl Rng) -> Vec<f64> {
        let mut direction: Vec<f64> =
            self.point().iter().map(|_| StandardNormal.sample(rng)).collect();
        let length = dot(&direction, &direction).sqrt();
        direction.iter_mut().for_each(|each| *each /= length);
        direction
    }

    /// The loss and its gradient at some alpha.
    pub fn gradient(&self, at: &[f64]) -> (f64, Vec<f64>) {
        let alpha = self.alpha.clone().map(&mut Replace { values: at });
        let loss = self.objective.loss(&self.supernet, &alpha, &self.batch);
        let gradients = GradientsParams::from_grads(loss.backward(), &alpha);
        let gradient = ArchitectureGradient::read(&gradients, &alpha);
        (doubles(loss.inner())[0], flat(gradient.operations, gradient.edges))
    }

    /// `H v`, by two gradients.
    ///
    /// ```text
    /// H v = (grad L(alpha + r v) - grad L(alpha - r v)) / (2 r),   r = 1e-8
    /// ```
    ///
    /// # Shapes
    /// - `direction`: as [`Self::point`], of unit length
    pub fn product(&self, direction: &[f64]) -> Vec<f64> {
        let side = |radius: f64| {
            let moved = self.point().iter().zip(direction).map(|(at, v)| at + radius * v).collect();
            let moved: Vec<f64> = moved;
            self.gradient(&moved).1
        };
        let (plus, minus) = (side(RADIUS), side(-RADIUS));
        plus.iter().zip(minus).map(|(plus, minus)| (plus - minus) / (2.0 * RADIUS)).collect()
    }

    /// The largest eigenvalue of `H`, approximated from below. None where a product is not finite,
    /// or where two products contradict the symmetry of `H`, as products across kinks do.
    ///
    /// ```text
    /// max of v.(H v) over unit vectors v in span(s, H s, ..., H^(rounds - 1) s)
    /// ```
    /// Power iteration visits the same vectors and returns the value of the last one, which is
    /// never larger. Where an eigenvalue below zero is the largest in absolute value, it returns
    /// that other eigenvalue.
    ///
    /// # Shapes
    /// - `start`: `s`, as [`Self::point`], of unit length
    ///
    /// # Source
    /// C. Lanczos, 1950; here all vectors are orthogonalized again.
    pub fn dominant(&self, start: &[f64], rounds: usize) -> Option<f64> {
        let mut vectors = vec![start.to_vec()];
        let (mut diagonal, mut beside, mut largest_size) = (Vec::new(), Vec::new(), 0.0_f64);
        for _ in 0..rounds {
            let last = &vectors[vectors.len() - 1];
            let mut next = self.product(last);
            let size = dot(&next, &next).sqrt();
            if !size.is_finite() {
                return None;
            }
            diagonal.push(dot(&next, last));
            // In exact arithmetic only the neighbour has an overlap, which is the off-diagonal
            // value.
            largest_size = size.max(largest_size);
            let neighbour = vectors.len().checked_sub(2);
            let is_symmetric =
                vectors[..vectors.len() - 1].iter().enumerate().all(|(place, vector)| {
                    let expected = if Some(place) == neighbour { beside[place] } else { 0.0 };
                    (dot(&next, vector) - expected).abs() <= ASYMMETRY * largest_size
                });
            if !is_symmetric {
                return None;
            }
            // Two passes make a vector orthogonal up to rounding.
            for vector in vectors.iter().chain(&vectors) {
                let along = dot(&next, vector);
                next.iter_mut().zip(vector).for_each(|(next, each)| *next -= along * each);
            }
            let length = dot(&next, &next).sqrt();
            // The span of the vectors so far is invariant under the Hessian, up to the error of a
            // product.
            if length <= 1e-9 * size {
                break;
            }
            next.iter_mut().for_each(|each| *each /= length);
            beside.push(length);
            vectors.push(next);
        }
        Some(largest(&diagonal, &beside[..diagonal.len() - 1]))
    }
}

/// The largest eigenvalue of a symmetric tridiagonal matrix with these values on and beside the
/// diagonal, by bisection.
fn largest(diagonal: &[f64], beside: &[f64]) -> f64 {
    let reach = |row: usize| {
        let left = row.checked_sub(1).map_or(0.0, |left| beside[left]);
        left.abs() + beside.get(row).map_or(0.0, |right| right.abs())
    };
    let most = |sum: f64, value: f64| sum.max(value);
    let mut low = diagonal.iter().copied().fold(f64::MIN, most);
    let mut high = (0..diagonal.len()).map(|row| diagonal[row] + reach(row)).fold(low, most);
    // All eigenvalues are below x where all pivots of the matrix minus x are below zero.
    let is_above = |x: f64| {
        let mut pivot = f64::NEG_INFINITY;
        (0..diagonal.len()).all(|row| {
            let square = row.checked_sub(1).map_or(0.0, |left| beside[left].powi(2));
            pivot = diagonal[row] - x - square / pivot;
            pivot < 0.0
        })
    };
    // The number of halvings is the number of digits of a double.
    for _ in 0..f64::MANTISSA_DIGITS {
        let middle = 0.5 * (low + high);
        if is_above(middle) { high = middle } else { low = middle }
    }
    high
}

/// Copies tensors to a device in double precision.
struct Double {
    device: Device,
}

impl ModuleMapper for Double {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| Tensor::from_data(tensor.into_data(), (&self.device, DType::F64)))
    }
}

/// Replaces values in the order of a module's parameters, and tracks them in autodiff.
struct Replace<'a> {
    values: &'a [f64],
}

impl ModuleMapper for Replace<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| {
            let (shape, device) = (tensor.dims(), tensor.device());
            let (own, rest) = self.values.split_at(shape.iter().product());
            self.values = rest;
            let data = TensorData::new(own.to_vec(), shape);
            Tensor::from_data(data, (&device, DType::F64)).require_grad()
        })
    }
}

fn flat(operations: PerKind<Tensor<2>>, edges: Option<PerKind<Tensor<2>>>) -> Vec<f64> {
    let all = std::iter::once(operations).chain(edges);
    all.flat_map(PerKind::into_values).flat_map(doubles).collect()
}

fn doubles<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    let data = tensor.try_into_data_dtype(DType::F64).expect("a device that can be read");
    data.try_to_vec().expect("double precision, as asked for")
}

fn dot(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(one, other)| one * other).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected: 2 - 2 cos(pi k / (n + 1)), the eigenvalues of the second difference.
    #[test]
    fn largest_of_second_differences() {
        for n in 1..12 {
            let angle = std::f64::consts::PI * n as f64 / (n + 1) as f64;
            let found = largest(&vec![2.0; n], &vec![-1.0; n - 1]);
            assert!((found - (2.0 - 2.0 * angle.cos())).abs() < 1e-14, "{n}: {found}");
        }
        assert_eq!(largest(&[-3.0, -1.0], &[0.0]), -1.0);
    }
}
