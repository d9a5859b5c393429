//! Optimizers whose states we keep for each parameter.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use burn::module::{ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::{GradientsParams, RecordState, StateSink, StateSource};
use burn::tensor::container::TensorContainer;
use burn::tensor::{Tensor, TensorData};

use super::PartialStep;
use crate::ops::{Packs, Part, Path};
use crate::ops::{pick, put};
use crate::snapshot::{Snapshot, apart};

/// Applies an optimizer to every parameter of a module and keeps its states.
///
/// It replaces `ModuleOptimizer` of Burn 0.22.1, which restores its states on `Device::default()`,
/// whatever the device of the run, and names them by random parameter ids, so that two equal runs
/// have unequal checkpoints. In a packed tensor, only the parts that its layout describes move and
/// have a state; in files each part has its own state.
pub struct Stepper<O> {
    pub(super) optimizer: O,
    states: TensorContainer<ParamId>,
}

/// The ranges of packed tensors that took part in a pass.
pub type Ran = HashMap<ParamId, Vec<Range<usize>>>;

impl<O: PartialStep> Stepper<O> {
    /// A stepper without states: the next step is the first one of every parameter.
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
        self.step_of(learning_rate, module, gradients, None)
    }

    /// As [`Self::step`]. For the packed tensors named in `ran`, only these ranges and their state
    /// change.
    pub fn step_of<M: Packs>(
        &mut self,
        learning_rate: f64,
        module: M,
        gradients: &GradientsParams,
        ran: Option<&Ran>,
    ) -> M {
        let path = Path::new(&module, "");
        let Self { optimizer, states } = self;
        module.map(&mut Step { optimizer, states, gradients, learning_rate, keep: true, ran, path })
    }

    /// The module after [`Self::step`]; the states do not change.
    pub fn virtual_step<M: Packs>(
        &mut self,
        learning_rate: f64,
        module: M,
        gradients: &GradientsParams,
    ) -> M {
        let path = Path::new(&module, "");
        let Self { optimizer, states } = self;
        let ran = None;
        module.map(&mut Step {
            optimizer,
            states,
            gradients,
            learning_rate,
            keep: false,
            ran,
            path,
        })
    }

    /// Adds the states to a snapshot, named `prefix.path of the parameter.field`.
    pub fn save<M: Packs>(&self, module: &M, prefix: &str, snapshot: &mut Snapshot) {
        let path = Path::new(module, prefix);
        module.visit(&mut Save { stepper: self, path, snapshot });
    }

    /// Takes the states of a module's parameters out of a snapshot.
    ///
    /// `steps` returns the number of steps of a parameter by its name in the snapshot. After its
    /// first step a parameter has a complete state of its own shape; before that it has none.
    ///
    /// # Errors
    /// The first tensor or counter that is absent, or does not fit the parameter's state.
    pub fn load<M: Packs>(
        &mut self,
        module: &M,
        prefix: &str,
        snapshot: &mut Snapshot,
        steps: impl Fn(&str) -> u64,
    ) -> Result<(), String> {
        let path = Path::new(module, prefix);
        let mut load = Load { stepper: self, path, snapshot, steps: &steps, outcome: Ok(()) };
        module.visit(&mut load);
        load.outcome
    }
}

/// The fields of a state by their names in files.
#[derive(Default)]
struct Fields {
    tensors: Vec<(String, TensorData)>,
    counts: Vec<(String, u64)>,
}

impl Fields {
    /// A state's fields are named `.field`; each is a tensor of the parameter's shape or a number.
    fn of(state: &impl RecordState) -> Self {
        let mut sink = StateSink::default();
        state.state_flatten("", &mut sink);
        let field = |name: &str| name.trim_start_matches('.').to_string();
        let count = |value| u64::try_from(value).expect("optimizers count steps and nothing else");
        Self {
            tensors: sink.tensors.into_iter().map(|(name, data)| (field(&name), data)).collect(),
            counts: sink
                .scalars
                .into_iter()
                .map(|(name, value)| (field(&name), count(value)))
                .collect(),
        }
    }
}

struct Step<'a, O> {
    optimizer: &'a O,
    states: &'a mut TensorContainer<ParamId>,
    gradients: &'a GradientsParams,
    learning_rate: f64,
    keep: bool,
    ran: Option<&'a Ran>,
    path: Path,
}

impl<O: PartialStep> ModuleMapper for Step<'_, O> {
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
            // Parts that the module does not describe take no part in the step.
            let (rest, values, gradient) = match covered {
                Some(covered) => {
                    let values = pick(&old, covered);
                    (Some((old, covered)), values, pick(&gradient, covered))
                }
                None => (None, old, gradient),
            };
            let moved = self.ran.and_then(|ran| ran.get(&id)).map(Vec::as_slice);
            assert!(rest.is_none() || moved.is_none(), "ranges of a path are of whole tensors");
            let (new, state) =
                self.optimizer.step_of(self.learning_rate, values, gradient, state, moved);
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

impl<O: PartialStep> ModuleVisitor for Save<'_, O> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(state) = self.stepper.states.get::<O::State<D>>(&param.id) else { return };
        let Fields { tensors, counts } = Fields::of(&state);
        let met = self.path.met();
        for (field, data) in tensors {
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
        for (field, count) in counts {
            let names = match &met {
                Some(met) => met.names().collect(),
                None => vec![self.path.name()],
            };
            let names = names.into_iter().map(|path| format!("{path}.{field}"));
            self.snapshot.counts.extend(names.map(|name| (name, count)));
        }
    }
}

struct Load<'a, O> {
    stepper: &'a mut Stepper<O>,
    path: Path,
    snapshot: &'a mut Snapshot,
    steps: &'a dyn Fn(&str) -> u64,
    outcome: Result<(), String>,
}

/// A part of a state: the name of its parameter, its shape, and its range.
struct Piece {
    name: String,
    shape: Vec<usize>,
    start: usize,
}

impl<O: PartialStep> Load<'_, O> {
    /// The pieces of the current parameter of the visitor, and the shape of its whole state.
    fn pieces<const D: usize>(&self, param: &Param<Tensor<D>>) -> (Vec<Piece>, Vec<usize>) {
        let Some(met) = self.path.met() else {
            let shape = param.dims().to_vec();
            return (vec![Piece { name: self.path.name(), shape: shape.clone(), start: 0 }], shape);
        };
        let parts = met.names().zip(&met.parts().parts);
        let piece = |(name, part): (String, &Part)| {
            let start = met.parts().among_covered(part.start);
            Piece { name, shape: part.shape.clone(), start }
        };
        (parts.map(piece).collect(), vec![met.parts().num_covered()])
    }

    /// One field of a state, joined from its pieces.
    fn join(
        &mut self,
        pieces: &[Piece],
        field: &str,
        shape: &[usize],
    ) -> Result<TensorData, String> {
        let mut values = vec![0.0; shape.iter().product()];
        for piece in pieces {
            let data = self.snapshot.take(&format!("{}.{field}", piece.name), &piece.shape)?;
            let to = values[piece.start..].iter_mut();
            to.zip(data.iter::<f32>()).for_each(|(to, from)| *to = from);
        }
        Ok(TensorData::new(values, shape.to_vec()))
    }

    fn state<const D: usize>(
        &mut self,
        param: &Param<Tensor<D>>,
    ) -> Result<Option<O::State<D>>, String> {
        const STATE: &str = "state";
        let (pieces, shape) = self.pieces(param);
        let steps = pieces.first().map_or(0, |first| (self.steps)(&first.name));
        if steps == 0 {
            return Ok(None);
        }
        // States do not belong to the autodiff graph.
        let device = param.val().device().inner();
        let zero = || Tensor::<D>::zeros([1; D], &device);
        let (_, first) = self.stepper.optimizer.step(0.0, zero(), zero(), None);
        let fields = first.as_ref().map_or_else(Fields::default, Fields::of);
        let mut scalars = BTreeMap::new();
        for (field, _) in fields.counts {
            for Piece { name, .. } in &pieces {
                let name = format!("{name}.{field}");
                match self.snapshot.counts.remove(&name) {
                    Some(count) if count == steps => {}
                    found => {
                        let found = found.map_or("nothing".into(), |count| count.to_string());
                        return Err(format!("{name}: expected {steps} steps, found {found}"));
                    }
                }
            }
            scalars.insert(format!("{STATE}.{field}"), steps.into());
        }
        let mut source = StateSource::new(scalars);
        for (field, _) in fields.tensors {
            source.insert_tensor(format!("{STATE}.{field}"), self.join(&pieces, &field, &shape)?);
        }
        Ok(O::State::<D>::state_unflatten(STATE, &mut source, &device))
    }
}

impl<O: PartialStep> ModuleVisitor for Load<'_, O> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        // Running statistics have no optimizer steps.
        if self.outcome.is_err() || !param.val().is_require_grad() {
            return;
        }
        match self.state(param) {
            Ok(Some(state)) => self.stepper.states.register(param.id, state),
            Ok(None) => {}
            Err(reason) => self.outcome = Err(reason),
        }
    }
}
