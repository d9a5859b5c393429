//! Optimizers with the state of each parameter in our hands.

use std::collections::BTreeMap;

use burn::module::{ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::{GradientsParams, Optimizer, RecordState, StateSink, StateSource};
use burn::tensor::container::TensorContainer;
use burn::tensor::{Device, Tensor, TensorData};

use crate::ops::{Met, Packs, Part, Path};
use crate::snapshot::{Snapshot, apart};
use crate::tensors::{pick, put};

/// Applies an optimizer to every parameter of a module and keeps its states.
///
/// The bookkeeping is ours because `ModuleOptimizer` of Burn 0.22.1
/// restores its states on `Device::default()`, whatever device the run is on, and names them by
/// random parameter ids, so that two equal runs have unequal checkpoints. Of a packed tensor, only what
/// its layout describes is moved and has a state; in files each part has its own.
pub struct Stepper<O> {
    pub(super) optimizer: O,
    states: TensorContainer<ParamId>,
}

impl<O: Optimizer> Stepper<O> {
    /// Without states: every parameter takes its first step next.
    pub fn new(optimizer: O) -> Self {
        Self { optimizer, states: TensorContainer::new() }
    }

    /// Moves every parameter that has a gradient.
    pub fn step<M: Packs>(
        &mut self,
        learning_rate: f64,
        module: M,
        gradients: &GradientsParams,
    ) -> M {
        let path = Path::new(&module, "");
        let Self { optimizer, states } = self;
        module.map(&mut Step { optimizer, states, gradients, learning_rate, keep: true, path })
    }

    /// Where [`Self::step`] would lead, without taking it.
    pub fn virtual_step<M: Packs>(
        &mut self,
        learning_rate: f64,
        module: M,
        gradients: &GradientsParams,
    ) -> M {
        let path = Path::new(&module, "");
        let Self { optimizer, states } = self;
        module.map(&mut Step { optimizer, states, gradients, learning_rate, keep: false, path })
    }

    /// Adds the states to a snapshot, named `prefix.path of the parameter.field`.
    pub fn save<M: Packs>(&self, module: &M, prefix: &str, snapshot: &mut Snapshot) {
        let path = Path::new(module, prefix);
        module.visit(&mut Save { stepper: self, path, snapshot });
    }

    /// Takes the states of a module's parameters from a snapshot; what is absent has none.
    pub fn load<M: Packs>(
        &mut self,
        module: &M,
        prefix: &str,
        snapshot: &mut Snapshot,
        device: &Device,
    ) {
        let path = Path::new(module, prefix);
        let start = format!("{prefix}.");
        let is_own = |name: &str| name.starts_with(&start);
        let names: Vec<String> =
            snapshot.tensors.keys().filter(|name| is_own(name)).cloned().collect();
        let tensors = names.into_iter().filter_map(|name| snapshot.tensors.remove_entry(&name));
        let tensors = tensors.collect();
        let counts = snapshot.counts.iter().filter(|(name, _)| is_own(name));
        let counts = counts.map(|(name, &count)| (name.clone(), count)).collect();
        // States live beside the gradients, outside autodiff.
        let device = device.clone().inner();
        module.visit(&mut Load { stepper: self, path, tensors, counts, device });
    }
}

struct Step<'a, O> {
    optimizer: &'a O,
    states: &'a mut TensorContainer<ParamId>,
    gradients: &'a GradientsParams,
    learning_rate: f64,
    keep: bool,
    path: Path,
}

impl<O: Optimizer> ModuleMapper for Step<'_, O> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = self.gradients.get::<D>(param.id) else {
            return param;
        };
        let met = self.path.met();
        let covered = met.as_ref().and_then(|met| met.parts().covered.as_deref());
        if covered.is_some_and(<[_]>::is_empty) {
            return param;
        }
        let id = param.id;
        param.map(|old| {
            let tracked = old.is_require_grad();
            let state = match self.keep {
                true => self.states.remove::<O::State<D>>(&id),
                false => self.states.get::<O::State<D>>(&id),
            };
            let old = old.inner();
            // What the module does not describe has no part in the step.
            let (rest, values, gradient) = match covered {
                Some(covered) => {
                    let values = pick(&old, covered);
                    (Some((old, covered)), values, pick(&gradient, covered))
                }
                None => (None, old, gradient),
            };
            let (new, state) = self.optimizer.step(self.learning_rate, values, gradient, state);
            if let (true, Some(state)) = (self.keep, state) {
                self.states.register(id, state);
            }
            let new = match rest {
                Some((old, covered)) => put(old, covered, &new),
                None => new,
            };
            Tensor::from_inner(new).set_require_grad(tracked)
        })
    }
}

struct Save<'a, O> {
    stepper: &'a Stepper<O>,
    path: Path,
    snapshot: &'a mut Snapshot,
}

impl<O: Optimizer> ModuleVisitor for Save<'_, O> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(state) = self.stepper.states.get::<O::State<D>>(&param.id) else { return };
        // A state's fields come as `.field`, each a tensor of the parameter's shape or a number.
        let mut sink = StateSink::default();
        state.state_flatten("", &mut sink);
        let field = |name: &str| name.trim_start_matches('.').to_string();
        let met = self.path.met();
        for (name, data) in sink.tensors {
            let field = field(&name);
            let Some(met) = &met else {
                self.snapshot.tensors.insert(format!("{}.{field}", self.path.name()), data);
                continue;
            };
            let values: Vec<f32> = data.try_to_vec().expect("states are single precision");
            let place = |part: &Part| {
                let start = met.parts().among_covered(part.start);
                start..start + part.range().len()
            };
            let parts = apart(met, &values, place).into_iter();
            let parts = parts.map(|(name, data)| (format!("{name}.{field}"), data));
            self.snapshot.tensors.extend(parts);
        }
        for (name, value) in sink.scalars {
            let count = u64::try_from(value).expect("optimizers count steps and nothing else");
            let names = match &met {
                Some(met) => met.names().collect(),
                None => vec![self.path.name()],
            };
            let names = names.into_iter().map(|path| format!("{path}.{}", field(&name)));
            self.snapshot.counts.extend(names.map(|name| (name, count)));
        }
    }
}

struct Load<'a, O> {
    stepper: &'a mut Stepper<O>,
    path: Path,
    tensors: BTreeMap<String, TensorData>,
    counts: BTreeMap<String, u64>,
    device: Device,
}

impl<O: Optimizer> Load<'_, O> {
    /// What is there of a parameter, by field.
    fn fields<V: Clone>(all: &BTreeMap<String, V>, path: &str) -> Vec<(String, V)> {
        let start = format!("{path}.");
        let under = all.range(start.clone()..).take_while(|(name, _)| name.starts_with(&start));
        under.map(|(name, value)| (name[start.len()..].to_string(), value.clone())).collect()
    }

    /// The state of a packed tensor from those of its parts; what is absent is zero.
    fn join(&self, met: &Met) -> BTreeMap<String, TensorData> {
        let len = met.parts().num_covered();
        let mut joined: BTreeMap<String, Vec<f32>> = BTreeMap::new();
        for (name, part) in met.names().zip(&met.parts().parts) {
            for (field, data) in Self::fields(&self.tensors, &name) {
                let values = joined.entry(field).or_insert_with(|| vec![0.0; len]);
                let start = met.parts().among_covered(part.start);
                let to = values[start..start + part.range().len()].iter_mut();
                to.zip(data.iter::<f32>()).for_each(|(to, from)| *to = from);
            }
        }
        joined.into_iter().map(|(field, values)| (field, TensorData::new(values, [len]))).collect()
    }
}

impl<O: Optimizer> ModuleVisitor for Load<'_, O> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        const STATE: &str = "state";
        let met = self.path.met();
        let (tensors, first) = match &met {
            Some(met) => (self.join(met).into_iter().collect(), met.names().next()),
            None => (Self::fields(&self.tensors, &self.path.name()), Some(self.path.name())),
        };
        // All parts of a packed tensor have taken the same steps.
        let counts = first.map_or_else(Vec::new, |name| Self::fields(&self.counts, &name));
        let counts = counts.into_iter();
        let mut source = StateSource::new(
            counts.map(|(field, count)| (format!("{STATE}.{field}"), count.into())).collect(),
        );
        for (field, data) in tensors {
            source.insert_tensor(format!("{STATE}.{field}"), data);
        }
        if source.has_under(STATE)
            && let Some(state) = O::State::<D>::state_unflatten(STATE, &mut source, &self.device)
        {
            self.stepper.states.register(param.id, state);
        }
    }
}
