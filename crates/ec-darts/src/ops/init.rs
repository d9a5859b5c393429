//! Initial values of the weights: PyTorch's defaults, drawn from the seed and equal on every
//! device.

use burn::module::{ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};
use rand::{Rng, RngExt};

use super::{Packs, Part, Path, Role};
use crate::tensors::to_vec;

/// Draws all convolutions and linear layers of a module, in the order of its fields; in a packed
/// tensor, in the order of its parts.
///
/// ```text
/// weight, bias ~ U(-1 / sqrt(fan_in), 1 / sqrt(fan_in))
/// ```
/// `fan_in` is the number of inputs of one output. Batch normalization does not change.
///
/// Burn's own initializers draw the same distribution, but from a generator of each backend that
/// all threads share: the same seed would give another network on another device.
///
/// # Source
/// PyTorch's default initialization, which DARTS uses unchanged.
pub fn draw_parameters<M: Packs>(module: M, rng: &mut impl Rng) -> M {
    let path = Path::new(&module, "");
    module.map(&mut Draw { rng, path, containers: Vec::new(), bound: 0.0 })
}

struct Draw<'a, R> {
    rng: &'a mut R,
    path: Path,
    containers: Vec<String>,
    bound: f32,
}

impl<R: Rng> Draw<'_, R> {
    fn fill(&mut self, values: &mut [f32]) {
        let bound = self.bound;
        values.fill_with(|| self.rng.random_range(-bound..bound));
    }

    /// Draws the convolutions of a packed tensor.
    fn fill_parts(&mut self, parts: &[Part], values: &mut [f32]) {
        for part in parts.iter().filter(|part| part.role == Role::Convolution) {
            self.set_bound(part.shape[1..].iter().product());
            self.fill(&mut values[part.range()]);
        }
    }

    fn set_bound(&mut self, fan_in: usize) {
        self.bound = 1.0 / (fan_in as f32).sqrt();
    }
}

impl<R: Rng> ModuleMapper for Draw<'_, R> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.containers.push(container.to_string());
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.containers.pop();
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let dims = param.lazy_shape().dims::<D>();
        let mut values = vec![0.0; dims.iter().product()];
        match (self.containers.last().map(String::as_str), self.path.met()) {
            (_, Some(met)) if met.parts().parts.iter().all(|part| part.role == Role::Statistic) => {
                return param;
            }
            (_, Some(met)) => {
                values = to_vec(param.val());
                self.fill_parts(&met.parts().parts, &mut values);
            }
            (Some("Struct:Conv2d"), _) if D == 4 => {
                self.set_bound(dims[1..].iter().product());
                self.fill(&mut values);
            }
            (Some("Struct:Linear"), _) => {
                // The bias follows its weight and has the same bound.
                if D == 2 {
                    self.set_bound(dims[0]);
                }
                self.fill(&mut values);
            }
            _ => return param,
        }
        let data = TensorData::new(values, dims);
        param.map(|old| {
            let (device, tracked) = (old.device(), old.is_require_grad());
            Tensor::from_data(data, &device).set_require_grad(tracked)
        })
    }
}
