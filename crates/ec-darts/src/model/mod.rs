//! A trained network in one file: saving, loading, evaluation and export.
//!
//! Entry points: [`TrainedModel::load`], [`TrainedModel::save`]. Invariant: the file has all that
//! is necessary to use the network (genotype, size, classes, normalization of images). Its bytes
//! depend only on this and the weights.

mod description;
mod evaluate;
mod export;
mod onnx;
#[cfg(test)]
pub(crate) mod tests;
mod torch;

pub use description::ModelDescription;
pub use evaluate::{ClassAccuracy, Evaluation, Mistake, evaluate, evaluate_parts};
pub use export::ExportFormat;
pub use torch::TorchFile;

use std::fs;
use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;

use crate::data::{DatasetKind, ImageDataset, decode};
use crate::files::write;
use crate::network::EvaluationNetwork;
use crate::snapshot::Snapshot;
use crate::{Error, Result};

/// The first part of the names of the network's tensors.
const NETWORK: &str = "network";
/// Key of the description in files of other formats.
const DESCRIPTION: &str = "ec-darts";

/// A trained network and its description, ready to use.
///
/// Using it never changes it, whatever the device of an image. To train it further, take
/// `model.network.train()` ([`Module::train`]), which is on the autodiff device.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use ec_darts::data::DatasetKind;
/// use ec_darts::model::{ModelDescription, TrainedModel};
/// use ec_darts::network::{EvaluationConfig, Skeleton, StemKind};
/// use ec_darts_space::Preset;
///
/// let config = EvaluationConfig {
///     skeleton: Skeleton::Darts,
///     stem: StemKind::Cifar,
///     init_channels: 4,
///     num_cells: 3,
///     num_classes: 2,
/// };
/// let genotype = Preset::find("darts_v2")?.genotype();
/// let normalization = DatasetKind::Cifar10.normalization().expect("published figures");
/// let names = vec!["cat".to_string(), "dog".to_string()];
/// let description =
///     ModelDescription::new(genotype, &config, names, [8, 8], &normalization, "pets");
/// let device = Device::flex();
/// let network = description.build(&device);
/// let model = TrainedModel::new(description, network)?;
///
/// let again = TrainedModel::from_bytes(&model.to_bytes()?, &device)?;
/// let images = Tensor::ones([1, 3, 8, 8], &device);
/// let found = again.classify(images.clone(), 1);
/// assert_eq!(found, model.classify(images, 1));
/// println!("{} with probability {:.2}", found[0][0].0, found[0][0].1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TrainedModel {
    /// The description of the network.
    pub description: ModelDescription,
    /// The network with its auxiliary head, on a device without autodiff.
    pub network: EvaluationNetwork,
}

impl TrainedModel {
    /// Joins a network and its description.
    ///
    /// # Errors
    /// [`Error::Model`] where no network can have this description, or where the network has
    /// another one: the field, or the first tensor that is missing, superfluous, of another shape
    /// or not finite.
    pub fn new(description: ModelDescription, network: EvaluationNetwork) -> Result<Self> {
        let network = network.valid();
        let model = Self { description, network };
        if let Some(fault) = model.description.fault() {
            return Err(Error::model(format!("its description is wrong: {fault}")));
        }
        model
            .description
            .fill(model.snapshot(), &model.network.classifier.weight.device())
            .map_err(|reason| Error::model(format!("not the network it describes: {reason}")))?;
        Ok(model)
    }

    /// The file's bytes; equal models give equal bytes.
    ///
    /// # Errors
    /// [`Error::Model`] where a weight is not finite.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        Ok(self.finite_snapshot()?.to_bytes(&self.description.to_json()))
    }

    /// Writes the file completely or not at all.
    ///
    /// # Errors
    /// The errors of [`Self::to_bytes`]; [`Error::Io`] where the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        write(path, &self.to_bytes().map_err(|error| error.of_file(path))?)
    }

    /// Reads a file that [`Self::save`] wrote, onto a device, without autodiff.
    ///
    /// # Errors
    /// [`Error::Io`] where the file cannot be read; [`Error::Model`] where it is damaged, has
    /// another format, is no trained model, or where its tensors do not match its description.
    pub fn load(path: &Path, device: &Device) -> Result<Self> {
        let bytes = fs::read(path).map_err(Error::io("read", path))?;
        Self::from_bytes(&bytes, device).map_err(|error| error.of_file(path))
    }

    /// Reads the bytes of [`Self::to_bytes`].
    ///
    /// # Errors
    /// [`Error::Model`], as in [`Self::load`].
    pub fn from_bytes(bytes: &[u8], device: &Device) -> Result<Self> {
        Self::parse(bytes, device).map_err(Error::model)
    }

    fn parse(bytes: &[u8], device: &Device) -> Result<Self, String> {
        let (snapshot, text) = Snapshot::from_bytes(bytes)
            .map_err(|reason| format!("not a trained model of ec-darts: {reason}"))?;
        let description = ModelDescription::from_json(&text)?;
        let network = description
            .fill(snapshot, device)
            .map_err(|reason| format!("not the tensors of the network it describes: {reason}"))?;
        Ok(Self { description, network })
    }

    /// Checks that the images of a set have the model's size and classes.
    ///
    /// CIFAR without its list of names has numbers as names, which match any name. Other names must
    /// be equal at each place. A set may have only some of the model's classes, by their names.
    ///
    /// # Errors
    /// [`Error::Data`] with `folder`: another size, more classes, or a class that the model does
    /// not have.
    pub fn check_data(&self, dataset: &ImageDataset, folder: &Path) -> Result<()> {
        match self.fit(dataset) {
            Err(reason) => Err(Error::Data { path: folder.to_path_buf(), reason }),
            Ok(_) => Ok(()),
        }
    }

    /// The model's class for each class of a set, if the model can classify its images.
    ///
    /// # Errors
    /// The difference between the set's size or classes and the model's.
    fn fit(&self, dataset: &ImageDataset) -> Result<Vec<usize>, String> {
        let classes = self.classes_of(dataset)?;
        let image_size = &self.description.image_size;
        if dataset.size() != *image_size {
            let ([height, width], [model_height, model_width]) = (dataset.size(), *image_size);
            return Err(format!(
                "images of {height}x{width}, the model wants {model_height}x{model_width}"
            ));
        }
        Ok(classes)
    }

    /// Pixels of an image file in the evaluation's view during training.
    ///
    /// # Shapes
    /// - output: `[3, height, width]`, row-major, of the model's image size
    ///
    /// # Errors
    /// The errors of [`decode`].
    pub fn read_image(&self, path: &Path) -> Result<Vec<u8>> {
        let data = self.description.data.as_ref();
        let resize = data.and_then(|config| config.resize);
        let orientation = data.and_then(|config| config.orientation).unwrap_or(true);
        decode(path, self.description.image_size, resize, orientation)
    }

    /// The model's class for each class of a set.
    ///
    /// # Errors
    /// The first class that does not match.
    fn classes_of(&self, dataset: &ImageDataset) -> Result<Vec<usize>, String> {
        let ModelDescription { num_classes, class_names, .. } = &self.description;
        let found = dataset.class_names();
        if found.len() < *num_classes {
            let place = |name: &String| {
                let known = class_names.iter().position(|known| known == name);
                known.ok_or_else(|| {
                    let few = found.len();
                    format!("{few} classes, the model knows {num_classes}, and no class {name}")
                })
            };
            return found.iter().map(place).collect();
        }
        if found.len() > *num_classes {
            return Err(format!("{} classes, the model knows {num_classes}", found.len()));
        }
        let is_cifar = [DatasetKind::Cifar10, DatasetKind::Cifar100]
            .iter()
            .any(|kind| kind.name() == self.description.dataset);
        let unnamed = |names: &[String]| {
            is_cifar && names.iter().enumerate().all(|(class, name)| *name == class.to_string())
        };
        let mut pairs = found.iter().zip(class_names).enumerate();
        match pairs.find(|(_, (found, known))| found != known) {
            Some((class, (other, known))) if !unnamed(found) && !unnamed(class_names) => {
                Err(format!("class {class} is {other}, in the model it is {known}"))
            }
            _ => Ok((0..*num_classes).collect()),
        }
    }

    fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        snapshot.save(&self.network, NETWORK);
        snapshot
    }

    /// The snapshot to write; a file with a value that is not finite would be refused when it is
    /// read.
    fn finite_snapshot(&self) -> Result<Snapshot> {
        let snapshot = self.snapshot();
        match snapshot.non_finite() {
            Some(name) => {
                Err(Error::model(format!("not saved: {name} has values that are not finite")))
            }
            None => Ok(snapshot),
        }
    }
}
