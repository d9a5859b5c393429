//! The tensors of a snapshot as a module for Burn's stores.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor, TensorData};

use super::Snapshot;
use crate::ops::{Packed, Packs};

/// Tensors by name as a module of Burn; the names are the paths of the module.
///
/// A network with packed tensors uses it to enter and leave Burn's stores, which see each part
/// under its own name.
///
/// ```
/// use burn::tensor::{Device, TensorData};
/// use ec_darts::snapshot::{NamedTensors, Snapshot};
///
/// let mut snapshot = Snapshot::default();
/// snapshot.tensors.insert("network.a.weight".into(), TensorData::from([1.0_f32, 2.0]));
/// let named = NamedTensors::new(&snapshot, "network", &Device::flex());
/// let mut again = Snapshot::default();
/// again.save(&named, "network");
/// assert_eq!(again.tensors, snapshot.tensors);
/// ```
#[derive(Clone, Debug)]
pub struct NamedTensors {
    tensors: Vec<(Vec<String>, AnyTensor)>,
}

/// A parameter or running statistic; networks have no others.
#[derive(Clone, Debug)]
enum AnyTensor {
    One(Param<Tensor<1>>),
    Two(Param<Tensor<2>>),
    Four(Param<Tensor<4>>),
}

impl NamedTensors {
    /// The tensors below `prefix`, without the prefix in their names.
    ///
    /// # Panics
    /// Where a tensor does not have one, two or four dimensions.
    pub fn new(snapshot: &Snapshot, prefix: &str, device: &Device) -> Self {
        let start = format!("{prefix}.");
        let own = |(name, data): (&String, &TensorData)| {
            let path = name.strip_prefix(&start)?.split('.').map(String::from).collect();
            Some((path, AnyTensor::new(data.clone(), device)))
        };
        Self { tensors: snapshot.tensors.iter().filter_map(own).collect() }
    }

    /// The same tensors, each after a change.
    fn each(self, change: impl Fn(AnyTensor) -> AnyTensor) -> Self {
        let tensors = self.tensors.into_iter();
        Self { tensors: tensors.map(|(path, tensor)| (path, change(tensor))).collect() }
    }
}

/// Applies a function to the parameter, whatever its number of dimensions.
macro_rules! on_param {
    ($tensor:expr, $param:ident => $change:expr) => {
        match $tensor {
            AnyTensor::One($param) => AnyTensor::One($change),
            AnyTensor::Two($param) => AnyTensor::Two($change),
            AnyTensor::Four($param) => AnyTensor::Four($change),
        }
    };
}

impl AnyTensor {
    fn new(data: TensorData, device: &Device) -> Self {
        match data.shape().len() {
            1 => Self::One(Param::from_data(data, device)),
            2 => Self::Two(Param::from_data(data, device)),
            4 => Self::Four(Param::from_data(data, device)),
            rank => panic!("a network has no tensors of {rank} dimensions"),
        }
    }
}

/// The kind of container around a part of a path: variants begin with a capital letter.
fn container(part: &str) -> &'static str {
    if part.starts_with(char::is_uppercase) { "Enum:Variant" } else { "Struct:Named" }
}

impl Module for NamedTensors {
    fn collect_devices(&self, devices: Vec<Device>) -> Vec<Device> {
        self.tensors.iter().fold(devices, |devices, (_, tensor)| match tensor {
            AnyTensor::One(param) => param.collect_devices(devices),
            AnyTensor::Two(param) => param.collect_devices(devices),
            AnyTensor::Four(param) => param.collect_devices(devices),
        })
    }

    fn fork(self, device: &Device) -> Self {
        self.each(|tensor| on_param!(tensor, param => param.fork(device)))
    }

    fn to_device(self, device: &Device) -> Self {
        self.each(|tensor| on_param!(tensor, param => param.to_device(device)))
    }

    fn materialize(self) -> Self {
        self.each(|tensor| on_param!(tensor, param => param.materialize()))
    }

    fn train(self) -> Self {
        self.each(|tensor| on_param!(tensor, param => param.train()))
    }

    fn valid(&self) -> Self {
        self.clone().each(|tensor| on_param!(tensor, param => param.valid()))
    }

    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        for (path, tensor) in &self.tensors {
            path.iter().for_each(|part| visitor.enter_module(part, container(part)));
            match tensor {
                AnyTensor::One(param) => visitor.visit_float(param),
                AnyTensor::Two(param) => visitor.visit_float(param),
                AnyTensor::Four(param) => visitor.visit_float(param),
            }
            path.iter().rev().for_each(|part| visitor.exit_module(part, container(part)));
        }
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        let mut tensors = Vec::new();
        for (path, tensor) in self.tensors {
            path.iter().for_each(|part| mapper.enter_module(part, container(part)));
            let tensor = on_param!(tensor, param => mapper.map_float(param));
            path.iter().rev().for_each(|part| mapper.exit_module(part, container(part)));
            tensors.push((path, tensor));
        }
        Self { tensors }
    }
}

impl Packs for NamedTensors {
    fn packs(&self) -> Vec<&Packed> {
        Vec::new()
    }
}
