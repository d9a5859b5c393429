//! Burn's optimizers with the state of each parameter in our hands.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::{GradientsParams, Optimizer, RecordState, StateSink, StateSource};
use burn::tensor::container::TensorContainer;
use burn::tensor::{Device, Tensor};

use crate::snapshot::Snapshot;

/// Applies a Burn optimizer to every parameter of a module and keeps its states.
///
/// The arithmetic is Burn's. The bookkeeping is ours because `ModuleOptimizer` of Burn 0.22.1
/// restores its states on `Device::default()`, whatever device the run is on, and names them by
/// random parameter ids, so that two equal runs have unequal checkpoints.
pub struct Stepper<O> {
    optimizer: O,
    states: TensorContainer<ParamId>,
}

impl<O: Optimizer> Stepper<O> {
    /// Without states: every parameter takes its first step next.
    pub fn new(optimizer: O) -> Self {
        Self { optimizer, states: TensorContainer::new() }
    }

    /// Moves every parameter that has a gradient.
    pub fn step<M: Module>(
        &mut self,
        learning_rate: f64,
        module: M,
        gradients: &GradientsParams,
    ) -> M {
        let Self { optimizer, states } = self;
        module.map(&mut Step { optimizer, states, gradients, learning_rate, keep: true })
    }

    /// Where [`Self::step`] would lead, without taking it.
    pub fn virtual_step<M: Module>(
        &mut self,
        learning_rate: f64,
        module: M,
        gradients: &GradientsParams,
    ) -> M {
        let Self { optimizer, states } = self;
        module.map(&mut Step { optimizer, states, gradients, learning_rate, keep: false })
    }

    /// Adds the states to a snapshot, named `prefix.path of the parameter.field`.
    pub fn save<M: Module>(&self, module: &M, prefix: &str, snapshot: &mut Snapshot) {
        let mut sink = StateSink::default();
        let path = vec![prefix.to_string()];
        module.visit(&mut Save::<O> {
            states: &self.states,
            path,
            sink: &mut sink,
            marker: std::marker::PhantomData,
        });
        snapshot.tensors.extend(sink.tensors);
        for (name, value) in sink.scalars {
            let count = u64::try_from(value).expect("optimizers count steps and nothing else");
            snapshot.counts.insert(name, count);
        }
    }

    /// Takes the states of a module's parameters from a snapshot; what is absent has none.
    pub fn load<M: Module>(
        &mut self,
        module: &M,
        prefix: &str,
        snapshot: &mut Snapshot,
        device: &Device,
    ) {
        let counts = snapshot.counts.iter();
        let mut source =
            StateSource::new(counts.map(|(name, &count)| (name.clone(), count.into())).collect());
        let start = format!("{prefix}.");
        let names: Vec<String> =
            snapshot.tensors.keys().filter(|name| name.starts_with(&start)).cloned().collect();
        for name in names {
            if let Some(data) = snapshot.tensors.remove(&name) {
                source.insert_tensor(name, data);
            }
        }
        let path = vec![prefix.to_string()];
        module.visit(&mut Load::<O> {
            states: &mut self.states,
            path,
            source: &mut source,
            // States live beside the gradients, outside autodiff.
            device: &device.clone().inner(),
            marker: std::marker::PhantomData,
        });
    }
}

struct Step<'a, O> {
    optimizer: &'a O,
    states: &'a mut TensorContainer<ParamId>,
    gradients: &'a GradientsParams,
    learning_rate: f64,
    keep: bool,
}

impl<O: Optimizer> ModuleMapper for Step<'_, O> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = self.gradients.get::<D>(param.id) else {
            return param;
        };
        let id = param.id;
        param.map(|old| {
            let tracked = old.is_require_grad();
            let state = self.states.get::<O::State<D>>(&id);
            let (new, state) =
                self.optimizer.step(self.learning_rate, old.inner(), gradient, state);
            if let (true, Some(state)) = (self.keep, state) {
                self.states.register(id, state);
            }
            Tensor::from_inner(new).set_require_grad(tracked)
        })
    }
}

struct Save<'a, O> {
    states: &'a TensorContainer<ParamId>,
    path: Vec<String>,
    sink: &'a mut StateSink,
    marker: std::marker::PhantomData<O>,
}

impl<O: Optimizer> ModuleVisitor for Save<'_, O> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(state) = self.states.get::<O::State<D>>(&param.id) {
            state.state_flatten(&self.path.join("."), self.sink);
        }
    }
}

struct Load<'a, O> {
    states: &'a mut TensorContainer<ParamId>,
    path: Vec<String>,
    source: &'a mut StateSource,
    device: &'a Device,
    marker: std::marker::PhantomData<O>,
}

impl<O: Optimizer> ModuleVisitor for Load<'_, O> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.path.join(".");
        if self.source.has_under(&path)
            && let Some(state) = O::State::<D>::state_unflatten(&path, self.source, self.device)
        {
            self.states.register(param.id, state);
        }
    }
}
