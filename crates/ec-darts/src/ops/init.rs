//! First values of the weights: PyTorch's defaults, drawn from the seed and alike on every device.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};
use rand::{Rng, RngExt};

/// Draws all convolutions and linear layers of a module, in the order of its fields.
///
/// ```text
/// weight, bias ~ U(-1 / sqrt(fan_in), 1 / sqrt(fan_in))
/// ```
/// `fan_in` is the number of inputs of one output. Batch normalization is left as it is.
///
/// Burn's own initializers draw the same distribution, but from a generator of each backend that
/// all threads share: the same seed would give another network on another device.
///
/// # Source
/// PyTorch's default initialization, which DARTS leaves as it is.
pub fn draw_parameters<M: Module>(module: M, rng: &mut impl Rng) -> M {
    module.map(&mut Draw { rng, containers: Vec::new(), bound: 0.0 })
}

struct Draw<'a, R> {
    rng: &'a mut R,
    containers: Vec<String>,
    bound: f32,
}

impl<R: Rng> ModuleMapper for Draw<'_, R> {
    fn enter_module(&mut self, _name: &str, container: &str) {
        self.containers.push(container.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.containers.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let dims = param.lazy_shape().dims::<D>();
        let fan_in = match self.containers.last().map(String::as_str) {
            Some("Struct:Conv2d") if D == 4 => Some(dims[1..].iter().product::<usize>()),
            Some("Struct:Linear") if D == 2 => Some(dims[0]),
            // The bias follows its weight and has the same bound.
            Some("Struct:Linear") => None,
            _ => return param,
        };
        if let Some(fan_in) = fan_in {
            self.bound = 1.0 / (fan_in as f32).sqrt();
        }
        let bound = self.bound;
        let values: Vec<f32> = (0..dims.iter().product::<usize>())
            .map(|_| self.rng.random_range(-bound..bound))
            .collect();
        let data = TensorData::new(values, dims);
        param.map(|old| {
            let (device, tracked) = (old.device(), old.is_require_grad());
            Tensor::from_data(data, &device).set_require_grad(tracked)
        })
    }
}
