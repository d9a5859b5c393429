//! A trained network in one file, and what is done with it.
//!
//! Entry points: [`TrainedModel::load`], [`TrainedModel::save`]. Invariant: the file says all that
//! is needed to use the network (genotype, size, classes, how images are normalized), and its bytes
//! depend on that and the weights alone.

mod evaluate;
mod export;
mod onnx;
mod torch;

pub use evaluate::{ClassAccuracy, Evaluation, Mistake, evaluate, evaluate_sets};
pub use export::ExportFormat;
pub use torch::TorchFile;

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use ec_darts_space::Genotype;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::DataConfig;
use crate::data::{
    DataDigests, DatasetKind, ImageDataset, Normalization, Purpose, decode, stream_rng,
};
use crate::files::write;
use crate::network::{EvaluationConfig, EvaluationNetwork, StemKind, check_size};
use crate::snapshot::Snapshot;
use crate::{COMMIT, Error, Result, VERSION};

/// Version of the file's layout.
const FORMAT: u32 = 1;
/// What the names of the network's tensors begin with.
const NETWORK: &str = "network";
/// Key of the description in files of other formats.
const DESCRIPTION: &str = "ec-darts";

/// All about a trained network but its weights; JSON in the file's metadata.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelDescription {
    /// Version of the file's layout.
    pub format: u32,
    /// Of the cells.
    pub genotype: Genotype,
    /// What stands before the first cell.
    pub stem: StemKind,
    /// Channels of the first cell's nodes.
    pub init_channels: usize,
    /// Cells, two of them reductions.
    pub num_cells: usize,
    /// Classes.
    pub num_classes: usize,
    /// Name of each class, in the order of the logits.
    pub class_names: Vec<String>,
    /// Height and width of the images, in pixels.
    pub image_size: [usize; 2],
    /// Mean of each channel (red, green, blue) of values in [0, 1]; subtracted first.
    pub mean: [f32; 3],
    /// Deviation of each channel; divided by.
    pub std: [f32; 3],
    /// Name of the data set it was trained on, as in settings (`cifar10`).
    pub dataset: String,
    /// How its images were read and split from the test images; absent where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<DataConfig>,
    /// Which images it was trained on, and which were set apart; absent where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digests: Option<DataDigests>,
    /// Version of the program that wrote it.
    pub version: String,
    /// Commit of that program.
    pub commit: String,
}

/// A network that is ready to be used.
#[derive(Debug)]
pub struct TrainedModel {
    /// What it is.
    pub description: ModelDescription,
    /// The network, with its auxiliary head.
    pub network: EvaluationNetwork,
}

impl ModelDescription {
    /// Of a network of this program.
    ///
    /// # Panics
    /// Where there is not a name for every class.
    pub fn new(
        genotype: Genotype,
        config: &EvaluationConfig,
        class_names: Vec<String>,
        image_size: [usize; 2],
        normalization: &Normalization,
        dataset: &str,
    ) -> Self {
        assert_eq!(class_names.len(), config.num_classes, "a name for every class");
        Self {
            format: FORMAT,
            genotype,
            stem: config.stem,
            init_channels: config.init_channels,
            num_cells: config.num_cells,
            num_classes: config.num_classes,
            class_names,
            image_size,
            mean: normalization.mean,
            std: normalization.std,
            dataset: dataset.into(),
            data: None,
            digests: None,
            version: VERSION.into(),
            commit: COMMIT.into(),
        }
    }

    /// Mean and deviation to remove from an image.
    pub fn normalization(&self) -> Normalization {
        Normalization { mean: self.mean, std: self.std }
    }

    /// The size of the network.
    pub fn config(&self) -> EvaluationConfig {
        EvaluationConfig {
            stem: self.stem,
            init_channels: self.init_channels,
            num_cells: self.num_cells,
            num_classes: self.num_classes,
        }
    }

    /// A network of this description with untrained weights, the same every time.
    pub fn build(&self, device: &Device) -> EvaluationNetwork {
        let mut rng = stream_rng(0, Purpose::Weights, 0, 0);
        self.config().init(&self.genotype, &mut rng, device)
    }

    fn to_json(&self) -> String {
        serde_json::to_string(self).expect("plain values")
    }

    /// Reads and checks the description in a file.
    fn from_json(text: &str) -> Result<Self, String> {
        let unreadable =
            |error: serde_json::Error| format!("its description cannot be read: {error}");
        let value: Value = serde_json::from_str(text).map_err(unreadable)?;
        // Checkpoints are of the same make, and lie in the same run folder.
        if value.get("progress").is_some() {
            return Err(
                "a checkpoint of a run, not a trained model; that is model.safetensors in \
                        the folder of a retraining"
                    .into(),
            );
        }
        // A later format may have other fields: its number is read first.
        if let Some(found) =
            value.get("format").filter(|format| format.as_u64() != Some(FORMAT.into()))
        {
            return Err(format!("format {found}, this version reads format {FORMAT}"));
        }
        let description: Self = serde_json::from_value(value).map_err(unreadable)?;
        match description.fault() {
            Some(fault) => Err(format!("its description is wrong: {fault}")),
            None => Ok(description),
        }
    }

    /// What no network can be built from: the field, its value and what is allowed.
    fn fault(&self) -> Option<String> {
        let allowed = |name: &str, value: String, allowed: &str| {
            Some(format!("`{name}` is {value}, allowed: {allowed}"))
        };
        let channels = self.init_channels;
        if !(2..=4096).contains(&channels) || !channels.is_multiple_of(2) {
            return allowed("init_channels", channels.to_string(), "an even number up to 4096");
        }
        if !(3..=1000).contains(&self.num_cells) {
            return allowed("num_cells", self.num_cells.to_string(), "3 to 1000");
        }
        if self.num_classes == 0 || self.class_names.len() != self.num_classes {
            return Some(format!(
                "{} class names, `num_classes` is {}",
                self.class_names.len(),
                self.num_classes
            ));
        }
        if self.image_size.iter().any(|side| !(1..=8192).contains(side)) {
            return allowed("image_size", format!("{:?}", self.image_size), "1 to 8192 pixels");
        }
        if let Err(Error::ConfigValue { value, allowed: sizes, .. }) =
            check_size(self.stem, self.image_size, false)
        {
            return allowed("stem", value, &sizes);
        }
        let usable = self.mean.iter().all(|mean| mean.is_finite())
            && self.std.iter().all(|std| std.is_finite() && *std > 0.0);
        match usable {
            true => None,
            false => allowed("std", format!("{:?}", self.std), "finite numbers above 0"),
        }
    }

    /// The network whose tensors a snapshot holds under `network`, and none besides.
    ///
    /// # Errors
    /// The first tensor that is missing, superfluous, of another shape or not finite.
    fn fill(&self, mut snapshot: Snapshot, device: &Device) -> Result<EvaluationNetwork, String> {
        let broken = |values: &burn::tensor::TensorData| {
            values.iter::<f32>().any(|value| !value.is_finite())
        };
        if let Some((name, _)) = snapshot.tensors.iter().find(|(_, values)| broken(values)) {
            return Err(format!("{name} has values that are not finite"));
        }
        let network = snapshot.load(self.build(device), NETWORK)?;
        match snapshot.tensors.keys().next() {
            Some(name) => Err(format!("it holds {name}, which this network does not have")),
            None => Ok(network),
        }
    }
}

impl TrainedModel {
    /// Joins a network and what is known about it.
    pub fn new(description: ModelDescription, network: EvaluationNetwork) -> Self {
        Self { description, network }
    }

    /// The file's bytes; equal models give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.snapshot().to_bytes(&self.description.to_json())
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        write(path, &self.to_bytes())
    }

    /// Reads a file that [`Self::save`] wrote, onto a device.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be read; [`Error::Model`] where it is damaged, of another
    /// format, no trained model, or its tensors are not those of the network it describes.
    pub fn load(path: &Path, device: &Device) -> Result<Self> {
        let bytes = fs::read(path).map_err(Error::io("read", path))?;
        Self::from_bytes(&bytes, device)
            .map_err(|reason| Error::Model { path: path.to_path_buf(), reason })
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn from_bytes(bytes: &[u8], device: &Device) -> Result<Self, String> {
        let (snapshot, text) = Snapshot::from_bytes(bytes)
            .map_err(|reason| format!("not a trained model of ec-darts: {reason}"))?;
        let description = ModelDescription::from_json(&text)?;
        let network = description
            .fill(snapshot, device)
            .map_err(|reason| format!("not the tensors of the network it describes: {reason}"))?;
        Ok(Self { description, network })
    }

    /// Whether images of a set have the model's size and classes.
    ///
    /// CIFAR without its list of names has numbers for names, which fit any; other names are equal, each at
    /// its place. A set may have some of the model's classes only, by their names.
    ///
    /// # Errors
    /// [`Error::Data`] with `folder`: another size, more classes, or a class that the model does not know.
    pub fn check_data(&self, dataset: &ImageDataset, folder: &Path) -> Result<()> {
        let image_size = &self.description.image_size;
        let fail = |reason| Err(Error::Data { path: folder.to_path_buf(), reason });
        if let Err(reason) = self.classes_of(dataset) {
            return fail(reason);
        }
        if dataset.size() != *image_size {
            let [height, width] = dataset.size();
            let [model_height, model_width] = image_size;
            return fail(format!(
                "images of {height}x{width}, the model wants {model_height}x{model_width}"
            ));
        }
        Ok(())
    }

    /// Pixels of an image file, as the evaluation during training would see it.
    ///
    /// # Shapes
    /// - output: `[3, height, width]`, row-major, of the model's image size
    ///
    /// # Errors
    /// Those of [`decode`].
    pub fn read_image(&self, path: &Path) -> Result<Vec<u8>> {
        let data = self.description.data.as_ref();
        let resize = data.and_then(|config| config.resize);
        let orientation = data.and_then(|config| config.orientation).unwrap_or(true);
        decode(path, self.description.image_size[0], resize, orientation)
    }

    /// The model's class for each class of a set.
    ///
    /// # Errors
    /// What does not fit.
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
}

#[cfg(test)]
pub(crate) mod tests {
    use burn::tensor::{Tensor, TensorData};
    use ec_darts_space::Preset;
    use rand::RngExt;

    use super::*;
    use crate::device::DeviceName;
    use crate::tensors::to_vec;

    const PLAIN: Normalization = Normalization { mean: [0.5; 3], std: [0.25; 3] };

    /// A small untrained model whose running statistics have moved.
    pub(crate) fn small(stem: StemKind, size: usize) -> TrainedModel {
        let genotype = Preset::find("ec_darts_cifar").expect("a preset").genotype();
        let config = EvaluationConfig { stem, init_channels: 4, num_cells: 3, num_classes: 3 };
        let names = ["cat", "dog", "owl"].map(String::from).to_vec();
        let description =
            ModelDescription::new(genotype, &config, names, [size; 2], &PLAIN, "cifar10");
        let device = DeviceName::Flex.open().expect("the CPU").device.autodiff();
        let network = description.build(&device);
        for cell in &network.cells {
            // The size does not matter to a convolution; cells alone spare the auxiliary head.
            let [older, newer] = [0, 1].map(|input: usize| {
                let edge = &cell.cell.inputs[input];
                let side = 8 * edge.stride;
                images([2, edge.channels[0], side, side], 2.0, &device)
            });
            cell.forward(older, newer, None);
        }
        TrainedModel::new(description, network)
    }

    fn logits(model: &TrainedModel, device: &Device) -> Vec<f32> {
        let [height, width] = model.description.image_size;
        to_vec(model.network.forward(images([2, 3, height, width], 1.0, device)))
    }

    /// Random values in (-scale, scale), the same every time: a device's own generator is shared
    /// with the tests that run beside this one.
    pub(crate) fn images(shape: [usize; 4], scale: f32, device: &Device) -> Tensor<4> {
        let mut rng = stream_rng(3, Purpose::Listed, 0, 0);
        let values: Vec<f32> =
            (0..shape.iter().product()).map(|_| rng.random_range(-scale..scale)).collect();
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    fn flex() -> Device {
        DeviceName::Flex.open().expect("the CPU").device
    }

    #[test]
    fn a_loaded_model_is_the_saved_one() {
        for (stem, size) in
            [(StemKind::Cifar, 16), (StemKind::Stride2, 16), (StemKind::Imagenet, 64)]
        {
            let model = small(stem, size);
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("model.safetensors");
            model.save(&path).expect("written");
            let loaded = TrainedModel::load(&path, &flex()).expect("read");
            assert_eq!(loaded.description, model.description);
            assert_eq!(loaded.to_bytes(), model.to_bytes(), "{stem:?}");
            let again = TrainedModel::from_bytes(&loaded.to_bytes(), &flex()).expect("read");
            assert_eq!(logits(&again, &flex()), logits(&loaded, &flex()));
            assert_ne!(logits(&again, &flex()), {
                let untrained = again.description.build(&flex());
                logits(&TrainedModel::new(again.description.clone(), untrained), &flex())
            });
        }
    }

    /// The file with its description changed must be refused with this text.
    fn check(change: impl FnOnce(&mut Value), expected: &str) {
        let (snapshot, text) =
            Snapshot::from_bytes(&small(StemKind::Cifar, 8).to_bytes()).expect("a snapshot");
        let mut description: Value = serde_json::from_str(&text).expect("JSON");
        change(&mut description);
        let bytes = snapshot.to_bytes(&description.to_string());
        let error = TrainedModel::from_bytes(&bytes, &flex()).expect_err(expected);
        assert!(error.contains(expected), "{expected:?} in: {error}");
    }

    #[test]
    fn files_that_are_no_model() {
        check(|all| all["format"] = 2.into(), "format 2, this version reads format 1");
        check(|all| all["progress"] = Value::Null, "a checkpoint of a run");
        check(|all| all["stem"] = "mnist".into(), "description cannot be read");
        check(|all| all["init_channels"] = 3.into(), "`init_channels` is 3");
        check(|all| all["init_channels"] = 6.into(), "stem.Single.conv.weight: expected [18");
        check(|all| all["num_cells"] = 2.into(), "`num_cells` is 2");
        check(|all| all["num_cells"] = 4.into(), "cells.");
        check(|all| all["image_size"] = vec![8, 6].into(), "cifar with images of 8x6");
        check(|all| all["num_classes"] = 4.into(), "3 class names, `num_classes` is 4");
        check(|all| all["std"] = vec![0.0; 3].into(), "`std` is [0.0, 0.0, 0.0]");
        check(
            |all| {
                all["num_classes"] = 2.into();
                all["class_names"] = vec!["a", "b"].into();
            },
            "classifier.weight: expected [768, 2], found Shape",
        );
        let cut = &small(StemKind::Cifar, 8).to_bytes()[..500];
        let error = TrainedModel::from_bytes(cut, &flex()).expect_err("a part");
        assert!(error.contains("not a trained model"), "{error}");
    }

    #[test]
    fn other_data_is_refused() {
        let model = small(StemKind::Cifar, 4);
        let check = |size: [usize; 2], names: &[&str], expected: &str| {
            let names = names.iter().map(ToString::to_string).collect();
            let pixels = vec![0; 3 * size[0] * size[1]];
            let dataset = ImageDataset::new(size, pixels, vec![0], names);
            let found = model.check_data(&dataset, Path::new("folder"));
            let found = found.map_or_else(|error| error.to_string(), |()| String::new());
            assert_eq!(found, expected);
        };
        check([4, 4], &["cat", "dog", "owl"], "");
        check([4, 4], &["0", "1", "2"], "");
        check([4, 4], &["0", "2", "1"], "folder: class 0 is 0, in the model it is cat");
        check([4, 4], &["dog", "owl"], "");
        check([4, 4], &["a", "b"], "folder: 2 classes, the model knows 3, and no class a");
        check([4, 4], &["a", "b", "c", "d"], "folder: 4 classes, the model knows 3");
        check([4, 4], &["cat", "owl", "dog"], "folder: class 1 is owl, in the model it is dog");
        check([4, 8], &["0", "1", "2"], "folder: images of 4x8, the model wants 4x4");
    }
}
