//! Named tensors of modules, and the one file they are kept in.
//!
//! Invariant: names are paths, never ids, and the bytes depend on the content alone, so equal
//! states make equal files.

use std::collections::{BTreeMap, HashMap};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, Tensor, TensorData};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use crate::tensors::separate;

/// Named tensors and counters.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Tensors by name, single precision.
    pub tensors: BTreeMap<String, TensorData>,
    /// Counters by name (steps an optimizer has taken).
    pub counts: BTreeMap<String, u64>,
}

/// Key of the description in the file's metadata.
const DESCRIPTION: &str = "ec-darts";

impl Snapshot {
    /// Adds all parameters and running statistics of a module, named `prefix.path`.
    pub fn save<M: Module>(&mut self, module: &M, prefix: &str) {
        let path = vec![prefix.to_string()];
        // Burn settles a running statistic one pass later; `separate` settles it now.
        separate(module).visit(&mut Save { path, tensors: &mut self.tensors });
    }

    /// Replaces all parameters and running statistics of a module.
    ///
    /// # Errors
    /// The name of the first tensor that is absent or has another shape.
    pub fn load<M: Module>(&mut self, module: M, prefix: &str) -> Result<M, String> {
        let path = vec![prefix.to_string()];
        let mut load = Load { path, tensors: &mut self.tensors, missing: None };
        let module = module.map(&mut load);
        match load.missing {
            Some(problem) => Err(problem),
            None => Ok(module),
        }
    }

    /// The file's bytes, with a JSON description beside the tensors.
    pub fn to_bytes(&self, description: &str) -> Vec<u8> {
        let views = self.tensors.iter().map(|(name, data)| {
            let shape = data.shape().to_vec();
            let view = TensorView::new(Dtype::F32, shape, data.as_bytes())
                .expect("a snapshot holds single precision");
            (name, view)
        });
        let metadata = HashMap::from([(DESCRIPTION.to_string(), description.to_string())]);
        safetensors::serialize(views, Some(metadata)).expect("names are unique and sizes fit")
    }

    /// Reads what [`Self::to_bytes`] wrote: tensors and description.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<(Self, String), String> {
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
        let description = header.metadata().as_ref().and_then(|all| all.get(DESCRIPTION)).cloned();
        let description = description.ok_or("no description of ec-darts in it")?;
        let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
        let mut snapshot = Self::default();
        for (name, view) in file.iter() {
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
    path: Vec<String>,
    tensors: &'a mut BTreeMap<String, TensorData>,
}

impl ModuleVisitor for Save<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let data = param.val().into_data();
        assert_eq!(data.dtype(), DType::F32, "weights are kept in single precision");
        self.tensors.insert(self.path.join("."), data);
    }
}

struct Load<'a> {
    path: Vec<String>,
    tensors: &'a mut BTreeMap<String, TensorData>,
    missing: Option<String>,
}

impl ModuleMapper for Load<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.join(".");
        let dims: [usize; D] = param.dims();
        match self.tensors.remove(&name) {
            Some(data) if data.shape().to_vec() == dims => param.map(|old| {
                let (device, tracked) = (old.device(), old.is_require_grad());
                Tensor::from_data(data, &device).set_require_grad(tracked)
            }),
            found => {
                let found = found.map_or("nothing".into(), |data| format!("{:?}", data.shape()));
                self.missing.get_or_insert(format!("{name}: expected {dims:?}, found {found}"));
                param
            }
        }
    }
}
