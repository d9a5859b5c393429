//! Named tensors of modules, and their common file.
//!
//! Invariant: names are paths, never ids, and the bytes depend on the content alone, so equal
//! states make equal files. A packed tensor is stored as its parts, each under its own name. Every
//! file has a digest over all of its bytes; a file without a valid digest is refused.

mod digest;
mod named;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use burn::module::{ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Tensor, TensorData};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

pub use named::NamedTensors;

use crate::ops::{Met, Packs, Part, Path};
use crate::tensors::to_vec;

/// Named tensors and counters.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Tensors by name, single precision.
    pub tensors: BTreeMap<String, TensorData>,
    /// Counters by name, such as the steps of an optimizer.
    pub counts: BTreeMap<String, u64>,
}

/// Key of the description in the file's metadata.
const DESCRIPTION: &str = "ec-darts";

impl Snapshot {
    /// Adds all parameters and running statistics of a module, named `prefix.path`.
    pub fn save<M: Packs>(&mut self, module: &M, prefix: &str) {
        let path = Path::new(module, prefix);
        module.visit(&mut Save { path, tensors: &mut self.tensors, gradients: None });
    }

    /// Adds the gradients of a module's parameters, named as [`Self::save`] names the parameters.
    ///
    /// A parameter without a gradient is left out.
    pub fn save_gradients<M: Packs>(
        &mut self,
        module: &M,
        gradients: &GradientsParams,
        prefix: &str,
    ) {
        let path = Path::new(module, prefix);
        let gradients = Some(gradients);
        module.visit(&mut Save { path, tensors: &mut self.tensors, gradients });
    }

    /// Replaces all parameters and running statistics of a module.
    ///
    /// # Errors
    /// The name of the first tensor that is absent or has another shape.
    pub fn load<M: Packs>(&mut self, module: M, prefix: &str) -> Result<M, String> {
        let path = Path::new(&module, prefix);
        let mut load = Load { path, snapshot: self, problem: None };
        let module = module.map(&mut load);
        match load.problem {
            Some(problem) => Err(problem),
            None => Ok(module),
        }
    }

    /// Takes a tensor of this shape out.
    ///
    /// # Errors
    /// The name of the tensor, the expected shape and the fault.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<TensorData, String> {
        match self.tensors.remove(name) {
            Some(data) if data.shape()[..] == *shape => Ok(data),
            found => {
                let found =
                    found.map_or("nothing".into(), |data| format!("{:?}", data.shape().to_vec()));
                Err(format!("{name}: expected {shape:?}, found {found}"))
            }
        }
    }

    /// The name of a tensor with a value that is not finite, if there is one.
    pub fn non_finite(&self) -> Option<&str> {
        let broken = |data: &TensorData| data.iter::<f32>().any(|value| !value.is_finite());
        self.tensors.iter().find(|(_, data)| broken(data)).map(|(name, _)| name.as_str())
    }

    /// The file's bytes, with a JSON description beside the tensors and a digest over everything.
    pub fn to_bytes(&self, description: &str) -> Vec<u8> {
        let views = self.tensors.iter().map(|(name, data)| {
            let shape = data.shape().to_vec();
            let view = TensorView::new(Dtype::F32, shape, data.as_bytes())
                .expect("a snapshot holds single precision");
            (name.as_str(), view)
        });
        let digest = TensorView::new(Dtype::U8, vec![digest::LEN], &[0; digest::LEN]);
        let digest = (digest::NAME, digest.expect("as many bytes"));
        let metadata = HashMap::from([(DESCRIPTION.to_string(), description.to_string())]);
        let mut bytes = safetensors::serialize(views.chain([digest]), Some(metadata))
            .expect("names are unique and sizes fit");
        digest::seal(&mut bytes);
        bytes
    }

    /// Reads tensors and description from the bytes of [`Self::to_bytes`].
    ///
    /// # Errors
    /// The fault of the bytes; a single changed bit is enough.
    pub fn from_bytes(bytes: &[u8]) -> Result<(Self, String), String> {
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
        let description = header.metadata().as_ref().and_then(|all| all.get(DESCRIPTION)).cloned();
        let description = description.ok_or("no description of ec-darts in it")?;
        digest::check(bytes)?;
        let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
        let mut snapshot = Self::default();
        for (name, view) in file.iter().filter(|&(name, _)| name != digest::NAME) {
            if view.dtype() != Dtype::F32 {
                return Err(format!("{name} is {:?}, expected F32", view.dtype()));
            }
            let (values, _) = view.data().as_chunks::<4>();
            let values: Vec<f32> = values.iter().map(|&four| f32::from_le_bytes(four)).collect();
            snapshot.tensors.insert(name.to_string(), TensorData::new(values, view.shape()));
        }
        Ok((snapshot, description))
    }
}

struct Save<'a> {
    path: Path,
    tensors: &'a mut BTreeMap<String, TensorData>,
    /// The gradients that are saved in place of the parameters, if any.
    gradients: Option<&'a GradientsParams>,
}

impl ModuleVisitor for Save<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = match self.gradients {
            Some(gradients) => gradients.get::<D>(param.id),
            None => Some(param.val()),
        };
        let Some(tensor) = tensor else { return };
        let data = tensor.into_data();
        assert_eq!(data.dtype(), DType::F32, "weights are kept in single precision");
        match self.path.met() {
            Some(met) => {
                let values = data.try_to_vec().expect("single precision");
                self.tensors.extend(apart(&met, &values, Part::range));
            }
            None => {
                self.tensors.insert(self.path.name(), data);
            }
        }
    }
}

/// The parts of a packed tensor with their names; `range` is the place of each in `values`.
pub(crate) fn apart(
    met: &Met,
    values: &[f32],
    range: impl Fn(&Part) -> Range<usize>,
) -> Vec<(String, TensorData)> {
    let parts = met.names().zip(&met.parts().parts);
    let data = |part| TensorData::new(values[range(part)].to_vec(), part.shape.clone());
    parts.map(|(name, part)| (name, data(part))).collect()
}

struct Load<'a> {
    path: Path,
    snapshot: &'a mut Snapshot,
    problem: Option<String>,
}

impl Load<'_> {
    /// A tensor of this shape; or none, after a note of the fault.
    fn take(&mut self, name: &str, dims: &[usize]) -> Option<TensorData> {
        match self.snapshot.take(name, dims) {
            Ok(data) => Some(data),
            Err(problem) => {
                self.problem.get_or_insert(problem);
                None
            }
        }
    }

    /// The values of a packed tensor, with the parts replaced.
    fn pack(&mut self, met: &Met, mut values: Vec<f32>) -> Option<TensorData> {
        for (name, part) in met.names().zip(&met.parts().parts) {
            let data = self.take(&name, &part.shape)?;
            let to = values[part.range()].iter_mut();
            to.zip(data.iter::<f32>()).for_each(|(to, from)| *to = from);
        }
        let len = values.len();
        Some(TensorData::new(values, [len]))
    }
}

impl ModuleMapper for Load<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let data = match self.path.met() {
            Some(met) => self.pack(&met, to_vec(param.val())),
            None => self.take(&self.path.name(), &param.dims()),
        };
        let Some(data) = data else { return param };
        param.map(|old| {
            let (device, tracked) = (old.device(), old.is_require_grad());
            Tensor::from_data(data, &device).set_require_grad(tracked)
        })
    }
}
