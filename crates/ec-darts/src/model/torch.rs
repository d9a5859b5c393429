//! Names and shapes of a network in PyTorch, as in the public DARTS code.
//!
//! Batch normalization has no `num_batches_tracked` here: PyTorch does not need it for statistics
//! with a fixed momentum, and adds it where a file does not have it.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use burn::store::bridge::{from_pytorch, into_data};
use burn::store::pytorch_reader::PytorchReader;
use burn::tensor::{Device, TensorData};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use super::{DESCRIPTION, ModelDescription, NETWORK, TrainedModel};
use crate::network::{Skeleton, StemKind};
use crate::ops::EPSILON;
use crate::snapshot::Snapshot;
use crate::{Error, Result};

/// Parts of our paths and of PyTorch's paths, applied in this order.
///
/// # Source
/// DARTS, `cnn/model.py` and `cnn/operations.py`: positions in `nn.Sequential`.
const NAMES: [(&str, &str); 32] = [
    ("stem.Single.conv.", "stem.0."),
    ("stem.Single.bn.", "stem.1."),
    ("stem.Triple.conv1.", "stem0.0."),
    ("stem.Triple.bn1.", "stem0.1."),
    ("stem.Triple.conv2.", "stem0.3."),
    ("stem.Triple.bn2.", "stem0.4."),
    ("stem.Triple.conv3.", "stem1.1."),
    ("stem.Triple.bn3.", "stem1.2."),
    ("auxiliary_head.conv1.", "auxiliary_head.features.2."),
    ("auxiliary_head.bn1.", "auxiliary_head.features.3."),
    ("auxiliary_head.conv2.", "auxiliary_head.features.5."),
    ("auxiliary_head.bn2.", "auxiliary_head.features.6."),
    (".operations.", "._ops."),
    (".SepConv.0.depthwise.", ".op.1."),
    (".SepConv.0.pointwise.", ".op.2."),
    (".SepConv.0.bn.", ".op.3."),
    (".SepConv.1.depthwise.", ".op.5."),
    (".SepConv.1.pointwise.", ".op.6."),
    (".SepConv.1.bn.", ".op.7."),
    (".DilConv.depthwise.", ".op.1."),
    (".DilConv.pointwise.", ".op.2."),
    (".DilConv.bn.", ".op.3."),
    (".FactorizedReduce.conv1.", ".conv_1."),
    (".FactorizedReduce.conv2.", ".conv_2."),
    (".FactorizedReduce.bn.", ".bn."),
    (".Keep.conv.", ".op.1."),
    (".Keep.bn.", ".op.2."),
    (".Reduce.conv1.", ".conv_1."),
    (".Reduce.conv2.", ".conv_2."),
    (".Reduce.bn.", ".bn."),
    (".gamma", ".weight"),
    (".beta", ".bias"),
];

/// `cells.0.operations.2.DilConv.bn.gamma` to `cells.0._ops.2.op.3.weight`.
fn torch_name(path: &str) -> String {
    NAMES.iter().fold(path.to_string(), |name, (ours, theirs)| name.replace(ours, theirs))
}

/// An error about a skeleton that the public DARTS code does not have.
pub(super) fn check_skeleton(skeleton: Skeleton) -> Result<(), String> {
    match skeleton {
        Skeleton::Darts => Ok(()),
        Skeleton::NasBench201 => Err(format!(
            "`skeleton` is {}, allowed for PyTorch: darts, whose network the public DARTS code has; ONNX, \
             safetensors and burnpack have every network",
            skeleton.name()
        )),
    }
}

/// The weights of a linear layer transposed: PyTorch has `[out, in]`, Burn `[in, out]`.
fn turned(data: TensorData) -> TensorData {
    let &[rows, columns] = &data.shape()[..] else { return data };
    let values: Vec<f32> = data.iter().collect();
    let at = |place: usize| values[place % rows * columns + place / rows];
    TensorData::new((0..rows * columns).map(at).collect::<Vec<f32>>(), [columns, rows])
}

/// A safetensors file with PyTorch's names and shapes, and the description in its metadata.
pub(super) fn to_bytes(snapshot: Snapshot, description: String) -> Vec<u8> {
    let tensors: BTreeMap<String, TensorData> =
        named(snapshot).map(|(name, data)| (torch_name(&name), turned(data))).collect();
    let views = tensors.iter().map(|(name, data)| {
        let view = TensorView::new(Dtype::F32, data.shape().to_vec(), data.as_bytes());
        (name, view.expect("a network is kept in single precision"))
    });
    let metadata = HashMap::from([(DESCRIPTION.to_string(), description)]);
    safetensors::serialize(views, Some(metadata)).expect("names are unique and sizes fit")
}

/// Tensors of a network by the paths of its modules.
fn named(snapshot: Snapshot) -> impl Iterator<Item = (String, TensorData)> {
    let path = |name: String| name[NETWORK.len() + 1..].to_string();
    snapshot.tensors.into_iter().map(move |(name, data)| (path(name), data))
}

/// Tensors with PyTorch's names and shapes, and the description where the file has one.
#[derive(Debug)]
pub struct TorchFile {
    path: PathBuf,
    tensors: BTreeMap<String, TensorData>,
    /// Present where [`TrainedModel::export`] wrote the file.
    pub description: Option<ModelDescription>,
}

impl TorchFile {
    /// Reads a safetensors file, or a checkpoint of PyTorch (`.pt`): a state dict, or a dict with
    /// the key `state_dict`; both may be from `DataParallel`.
    ///
    /// # Errors
    /// [`Error::Io`] where the file cannot be read, [`Error::Model`] where it is neither of these.
    pub fn read(path: &Path) -> Result<Self> {
        let fail = |reason: String| Error::Model { path: path.to_path_buf(), reason };
        let bytes = fs::read(path).map_err(Error::io("read", path))?;
        let (tensors, description) = match SafeTensors::read_metadata(&bytes) {
            Ok((_, header)) => {
                let text = header.metadata().as_ref().and_then(|all| all.get(DESCRIPTION));
                let description = text.map(|text| ModelDescription::from_json(text));
                (safetensors(&bytes).map_err(fail)?, description.transpose().map_err(fail)?)
            }
            Err(error) => {
                let tensors = checkpoint(path).map_err(|reason| {
                    fail(format!("neither safetensors ({error}) nor of PyTorch ({reason})"))
                })?;
                (tensors, None)
            }
        };
        let strip = |name: String| name.trim_start_matches("module.").to_string();
        let tensors = tensors.into_iter().map(|(name, data)| (strip(name), data));
        let tensors = tensors.filter(|(name, _)| !name.ends_with("num_batches_tracked"));
        Ok(Self { path: path.to_path_buf(), tensors: tensors.collect(), description })
    }

    /// The network of a description with these weights.
    ///
    /// Where the file has no auxiliary head, the network's head is untrained. Public ImageNet
    /// networks have no last batch normalization in it (docs/deviations.md, `imagenet-head`); an
    /// identity takes its place.
    ///
    /// # Errors
    /// [`Error::Model`] with the first tensor that is missing, superfluous, not finite or of
    /// another shape, by PyTorch's name.
    pub fn model(self, description: ModelDescription, device: &Device) -> Result<TrainedModel> {
        let path = self.path.clone();
        self.fill(description, device).map_err(|reason| Error::Model { path, reason })
    }

    fn fill(
        mut self,
        description: ModelDescription,
        device: &Device,
    ) -> Result<TrainedModel, String> {
        if let Some(fault) = description.fault() {
            return Err(fault);
        }
        check_skeleton(description.skeleton)?;
        let mut snapshot = Snapshot::default();
        snapshot.save(&description.build(device), NETWORK);
        let has_head = self.tensors.keys().any(|name| name.starts_with("auxiliary_head."));
        if has_head && description.stem == StemKind::Imagenet {
            let scale = (1.0 + EPSILON).sqrt() as f32;
            for (part, value) in
                [("weight", scale), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)]
            {
                let neutral = || TensorData::new(vec![value; 768], [768]);
                let name = format!("auxiliary_head.features.6.{part}");
                self.tensors.entry(name).or_insert_with(neutral);
            }
        }
        for (path, own) in &mut snapshot.tensors {
            let name = torch_name(&path[NETWORK.len() + 1..]);
            if !has_head && name.starts_with("auxiliary_head.") {
                continue;
            }
            let mut expected = own.shape().to_vec();
            if expected.len() == 2 {
                expected.reverse();
            }
            let found = self.tensors.remove(&name);
            let found =
                found.ok_or_else(|| format!("{name}: expected {expected:?}, found nothing"))?;
            if found.shape().to_vec() != expected {
                let found = found.shape().to_vec();
                return Err(format!("{name}: expected {expected:?}, found {found:?}"));
            }
            if found.iter::<f32>().any(|value| !value.is_finite()) {
                return Err(format!("{name} has values that are not finite"));
            }
            *own = turned(found);
        }
        if let Some((name, data)) = self.tensors.first_key_value() {
            let found = data.shape().to_vec();
            return Err(format!("{name}: expected nothing of this name, found {found:?}"));
        }
        let network = description.fill(snapshot, device)?;
        Ok(TrainedModel { description, network })
    }
}

fn safetensors(bytes: &[u8]) -> Result<BTreeMap<String, TensorData>, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.iter() {
        let data = match view.dtype() {
            Dtype::F32 => {
                let (values, _) = view.data().as_chunks::<4>();
                let values = values.iter().map(|&four| f32::from_le_bytes(four));
                TensorData::new(values.collect::<Vec<f32>>(), view.shape())
            }
            Dtype::I64 if name.ends_with("num_batches_tracked") => continue,
            other => return Err(format!("{name} is {other:?}, expected F32")),
        };
        tensors.insert(name.to_string(), data);
    }
    Ok(tensors)
}

fn checkpoint(path: &Path) -> Result<BTreeMap<String, TensorData>, String> {
    let mut reader = PytorchReader::new(path).map_err(|error| error.to_string())?;
    // Besides the network, a checkpoint of the ImageNet code has an optimizer.
    if reader.keys().iter().any(|key| key.starts_with("state_dict.")) {
        reader = PytorchReader::with_top_level_key(path, "state_dict")
            .map_err(|error| error.to_string())?;
    }
    let read = |(name, tensor)| match into_data(from_pytorch(tensor)) {
        Ok(data) => Ok((name, data.convert::<f32>())),
        Err(error) => Err(format!("{name}: {error}")),
    };
    reader.into_tensors().into_iter().map(read).collect()
}
