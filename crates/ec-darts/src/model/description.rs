//! The description of a trained network, without its weights, and its validation.

use burn::tensor::Device;
use ec_darts_space::Genotype;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::NETWORK;
use crate::config::DataConfig;
use crate::cost::NetworkCost;
use crate::data::{DataDigests, ImageDataset, Normalization, Purpose, stream_rng};
use crate::network::{EvaluationConfig, EvaluationNetwork, Skeleton, StemKind, check_size};
use crate::snapshot::Snapshot;
use crate::{COMMIT, Error, Result, VERSION};

/// Version of the file's layout.
const FORMAT: u32 = 1;
/// Largest size of a description that is read, in bytes: 65,536 classes with names of a hundred
/// letters.
const MAX_LEN: usize = 8 << 20;

/// The description of a trained network, without its weights; JSON in the file's metadata.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelDescription {
    /// Version of the file's layout.
    pub format: u32,
    /// The genotype of the cells.
    pub genotype: Genotype,
    /// The layers around the cells.
    #[serde(default, skip_serializing_if = "is_default")]
    pub skeleton: Skeleton,
    /// The layers before the first cell.
    pub stem: StemKind,
    /// Channels of the first cell's nodes.
    pub init_channels: usize,
    /// Number of cells; two of them are reductions.
    pub num_cells: usize,
    /// Number of classes.
    pub num_classes: usize,
    /// Name of each class, in the order of the logits.
    pub class_names: Vec<String>,
    /// Height and width of the images, in pixels.
    pub image_size: [usize; 2],
    /// Mean of each channel (red, green, blue), for values in [0, 1]; it is subtracted first.
    pub mean: [f32; 3],
    /// Standard deviation of each channel; values are divided by it.
    pub std: [f32; 3],
    /// Name of the data set of the training, as in settings (`cifar10`).
    pub dataset: String,
    /// Settings for reading and splitting its images; absent where unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<DataConfig>,
    /// Digests of the images of the training and of the test; absent where unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digests: Option<DataDigests>,
    /// Version of the program that wrote the file.
    pub version: String,
    /// Commit of that program.
    pub commit: String,
}

fn is_default(skeleton: &Skeleton) -> bool {
    *skeleton == Skeleton::default()
}

impl ModelDescription {
    /// The description of a network of this program; [`super::TrainedModel::new`] checks it.
    pub fn new(
        genotype: Genotype,
        config: &EvaluationConfig,
        class_names: Vec<String>,
        image_size: [usize; 2],
        normalization: &Normalization,
        dataset: &str,
    ) -> Self {
        Self {
            format: FORMAT,
            genotype,
            skeleton: config.skeleton,
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

    /// The description of a network for images like these: with their size, classes and
    /// normalization, and a name for the set.
    pub fn of_images(
        genotype: Genotype,
        config: &EvaluationConfig,
        images: &ImageDataset,
        dataset: &str,
    ) -> Self {
        let (names, size) = (images.class_names().to_vec(), images.size());
        Self::new(genotype, config, names, size, &images.normalization(), dataset)
    }

    /// Mean and standard deviation of the normalization.
    pub fn normalization(&self) -> Normalization {
        Normalization { mean: self.mean, std: self.std }
    }

    /// The size of the network.
    pub fn config(&self) -> EvaluationConfig {
        EvaluationConfig {
            skeleton: self.skeleton,
            stem: self.stem,
            init_channels: self.init_channels,
            num_cells: self.num_cells,
            num_classes: self.num_classes,
        }
    }

    /// A network of this description with untrained weights, which are the same every time.
    pub fn build(&self, device: &Device) -> EvaluationNetwork {
        let mut rng = stream_rng(0, Purpose::Weights, 0, 0);
        self.config().init(&self.genotype, &mut rng, device)
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("plain values")
    }

    /// Reads and checks the description in a file.
    pub(super) fn from_json(text: &str) -> Result<Self, String> {
        if text.len() > MAX_LEN {
            return Err(format!("its description has {} bytes, allowed: {MAX_LEN}", text.len()));
        }
        let unreadable =
            |error: serde_json::Error| format!("its description cannot be read: {error}");
        let value: Value = serde_json::from_str(text).map_err(unreadable)?;
        // Checkpoints have the same file format, and are in the same run folder.
        if value.get("progress").is_some() {
            return Err(
                "a checkpoint of a run, not a trained model; that is model.safetensors in \
                        the folder of a retraining"
                    .into(),
            );
        }
        // A later format may have other fields: the version is read first.
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

    /// The reason why no network can be built from this description: the field, its value and the
    /// allowed values.
    pub(super) fn fault(&self) -> Option<String> {
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
        if self.num_classes > 1 << 16 {
            return allowed("num_classes", self.num_classes.to_string(), "1 to 65536");
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
        if let Err(error) = self.genotype.validate() {
            return Some(format!("`genotype`: {error}"));
        }
        if let Some(reason) = self.skeleton.fault(&self.genotype) {
            return allowed(
                "skeleton",
                self.skeleton.name().into(),
                &format!("one that fits: {reason}"),
            );
        }
        if !self.mean.iter().all(|mean| mean.is_finite()) {
            return allowed("mean", format!("{:?}", self.mean), "finite numbers");
        }
        if !self.std.iter().all(|std| std.is_finite() && *std > 0.0) {
            return allowed("std", format!("{:?}", self.std), "finite numbers above 0");
        }
        let digests = self.digests.iter().flat_map(|digests| [&digests.train, &digests.test]);
        for digest in digests {
            if digest.len() != 64 || !digest.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return allowed("digests", format!("{digest:?}"), "64 hexadecimal digits each");
            }
        }
        self.data.as_ref().and_then(|data| self.data_fault(data))
    }

    /// The fault of the settings for reading the images, if there is one.
    fn data_fault(&self, data: &DataConfig) -> Option<String> {
        match data.validate("its description") {
            Err(Error::ConfigValue { key, value, allowed, .. }) => {
                return Some(format!("`{key}` is {value}, allowed: {allowed}"));
            }
            Err(error) => return Some(error.to_string()),
            Ok(()) => {}
        }
        let name = data.dataset.name();
        if name != self.dataset {
            return Some(format!("`data.dataset` is {name}, `dataset` is {}", self.dataset));
        }
        let side = data.image_size?;
        let size = self.image_size;
        (size != [side; 2])
            .then(|| format!("`data.image_size` is {side}, `image_size` is {size:?}"))
    }

    /// The network with the tensors that a snapshot has under `network`; it must have no others.
    ///
    /// The number of values is compared with the description before a network is built, so that a
    /// description cannot ask for more memory than its file takes.
    ///
    /// # Errors
    /// The first tensor that is missing, superfluous, of another shape or not finite.
    pub(super) fn fill(
        &self,
        mut snapshot: Snapshot,
        device: &Device,
    ) -> Result<EvaluationNetwork, String> {
        if let Some(name) = snapshot.non_finite() {
            return Err(format!("{name} has values that are not finite"));
        }
        self.check_count(&snapshot)?;
        let blank = self.config().blank(&self.genotype, &device.clone().inner());
        let network = snapshot.load(blank, NETWORK)?;
        match snapshot.tensors.keys().next() {
            Some(name) => Err(format!("it holds {name}, which this network does not have")),
            None => Ok(network),
        }
    }

    /// Checks that the snapshot has as many parameters as the network.
    fn check_count(&self, snapshot: &Snapshot) -> Result<(), String> {
        // Every cell of DARTS' skeleton has two preprocessings, each with a convolution and a batch
        // normalization. With so few cells, the count below takes little time.
        let most = snapshot.tensors.len() / 10;
        let has_tensors = self.skeleton == Skeleton::Darts;
        if has_tensors && self.num_cells > most {
            return Err(format!(
                "`num_cells` is {}, its tensors are those of at most {most}",
                self.num_cells
            ));
        }
        let is_parameter =
            |name: &str| !(name.ends_with(".running_mean") || name.ends_with(".running_var"));
        let parameters = snapshot.tensors.iter().filter(|(name, _)| is_parameter(name));
        let found: u64 = parameters.map(|(_, values)| values.num_elements() as u64).sum();
        // The number of parameters does not depend on the size of images, as long as reductions
        // reduce.
        let cost = NetworkCost::new(&self.genotype, &self.config(), 32 * self.stem.shrink());
        let expected = cost.parameters_with_auxiliary;
        match found == expected {
            true => Ok(()),
            false => Err(format!(
                "its tensors have {found} parameters, the network that it describes has {expected}"
            )),
        }
    }
}
