//! An exponential average of a module's weights.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;
use burn::tensor::container::TensorContainer;

use crate::ops::separate;

/// The average of all weights and running statistics over the steps of a training.
///
/// ```text
/// a <- d a + (1 - d) w        d = min(decay, (1 + step) / (10 + step))
/// ```
/// `a` begins with the initial weights `w`. The smaller `d` of the first steps soon removes their
/// influence.
///
/// # Source
/// Polyak and Juditsky (1992); the first steps as in TensorFlow, `ExponentialMovingAverage`.
#[derive(Debug)]
pub struct WeightAverage<M> {
    /// The average, as its own module.
    pub module: M,
    decay: f64,
}

impl<M: Module> WeightAverage<M> {
    /// The average at the beginning: the module as it is.
    pub fn new(module: &M, decay: f64) -> Self {
        Self { module: separate(module), decay }
    }

    /// Moves the average towards the weights after a step, counted from 0.
    pub fn update(&mut self, module: &M, step: u64) {
        let decay = self.decay.min((1 + step) as f64 / (10 + step) as f64);
        let mut collect = Collect { tensors: TensorContainer::new() };
        // Burn updates running statistics one pass later; `separate` updates them now.
        separate(module).visit(&mut collect);
        let mut blend = Blend { tensors: collect.tensors, decay };
        self.module = self.module.clone().map(&mut blend);
    }
}

struct Collect {
    tensors: TensorContainer<ParamId>,
}

impl ModuleVisitor for Collect {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.tensors.register(param.id, param.val().inner());
    }
}

struct Blend {
    tensors: TensorContainer<ParamId>,
    decay: f64,
}

impl ModuleMapper for Blend {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let new = self.tensors.get::<Tensor<D>>(&param.id).expect("a module of the same shape");
        param.map(|old| {
            let tracked = old.is_require_grad();
            let blended = old.inner() * self.decay + new * (1.0 - self.decay);
            Tensor::from_inner(blended).set_require_grad(tracked)
        })
    }
}
