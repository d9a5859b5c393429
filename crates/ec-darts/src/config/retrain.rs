//! Settings of a retraining.

use serde::{Deserialize, Serialize};

use super::validate::{MOST, require};
use super::{DataConfig, KernelSetting, MemorySetting, RunConfig, Settings};
use crate::Result;
use crate::data::DatasetKind;
use crate::network::{EvaluationConfig, StemKind};
use crate::optim::Schedule;

/// All settings of a retraining, the stage that gives a genotype its accuracy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetrainConfig {
    /// Images.
    pub data: DataConfig,
    /// The network that is built from the genotype.
    pub network: RetrainNetworkConfig,
    /// The loop.
    pub retrain: RetrainLoopConfig,
    /// SGD on the weights.
    pub weights: RetrainWeightsConfig,
    /// What does not change the result, but for the kernels.
    pub run: RunConfig,
}

/// The network that is built from the genotype.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetrainNetworkConfig {
    /// What stands before the first cell.
    pub stem: StemKind,
    /// Channels of the first cell's nodes.
    #[doc(alias = "C")]
    pub init_channels: usize,
    /// Cells, two of them reductions.
    #[doc(alias = "layers")]
    pub num_cells: usize,
    /// Share of the auxiliary head's loss that is added while training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auxiliary_loss_weight: Option<f64>,
    /// Probability with which an operation is left out for an image, at the end of a linear ramp
    /// over the epochs.
    pub drop_path_prob: f64,
}

/// The loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetrainLoopConfig {
    /// Passes over the training images.
    pub epochs: usize,
    /// Images of a step.
    pub batch_size: usize,
    /// Parts into which a batch is cut, each with its own forward and backward pass and batch
    /// statistics; their gradients are added.
    pub accumulation: usize,
    /// Cap on the steps of an epoch, which then sees a random part of the images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps_per_epoch: Option<usize>,
    /// Share of the training images that is held out and measured instead of the test images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_fraction: Option<f64>,
    /// Epochs between two measurements; the last epoch is always measured.
    pub measure_every: usize,
    /// Weight of the uniform distribution in the targets.
    pub label_smoothing: f64,
    /// Decay of an average of the weights, which is then measured and kept instead of the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average_decay: Option<f64>,
    /// Of weights, order, augmentation and drop path; at most 2^63 - 1, as TOML has no larger.
    pub seed: u64,
}

/// SGD on the weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetrainWeightsConfig {
    /// Of the first epoch, per step.
    pub learning_rate: f64,
    /// Where the schedule would end, per step.
    pub min_learning_rate: f64,
    /// How the learning rate falls.
    pub schedule: Schedule,
    /// Epochs over which the learning rate rises to that of the schedule.
    pub warmup_epochs: usize,
    /// Share of the old velocity.
    pub momentum: f64,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
    /// Largest global norm of the gradient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
}

impl RetrainNetworkConfig {
    /// The network's shape for so many classes.
    pub fn evaluation(&self, num_classes: usize) -> EvaluationConfig {
        let Self { stem, init_channels, num_cells, .. } = *self;
        EvaluationConfig { stem, init_channels, num_cells, num_classes }
    }
}

impl Settings for RetrainConfig {
    fn run(&self) -> &RunConfig {
        &self.run
    }

    fn validate(&self, origin: &str) -> Result<()> {
        let require = |holds, key: &str, value: &dyn ToString, allowed: &str| {
            require(origin, holds, key, value, allowed)
        };
        let finite = f64::is_finite;
        let range = |value: usize, most: usize| (1..=most).contains(&value);
        self.data.validate(origin)?;

        let network = &self.network;
        let (channels, cells) = (network.init_channels, network.num_cells);
        let fits = range(channels, 4096) && channels.is_multiple_of(2);
        require(fits, "network.init_channels", &channels, "2 to 4096, even")?;
        let allowed = "3 to 64: two reductions and at least one normal cell";
        require((3..=64).contains(&cells), "network.num_cells", &cells, allowed)?;
        if let Some(weight) = network.auxiliary_loss_weight {
            let allowed = "a finite number above 0, or omitted for no auxiliary loss";
            let fits = finite(weight) && weight > 0.0;
            require(fits, "network.auxiliary_loss_weight", &weight, allowed)?;
        }
        let prob = network.drop_path_prob;
        let fits = (0.0..1.0).contains(&prob);
        require(fits, "network.drop_path_prob", &prob, "0 <= drop_path_prob < 1")?;

        let retrain = &self.retrain;
        let (epochs, batch) = (retrain.epochs, retrain.batch_size);
        require(range(epochs, 100_000), "retrain.epochs", &epochs, "1 to 100000")?;
        require(range(batch, 65_536), "retrain.batch_size", &batch, "1 to 65536")?;
        let parts = retrain.accumulation;
        require(range(parts, batch), "retrain.accumulation", &parts, "1 to batch_size")?;
        if let Some(cap) = retrain.steps_per_epoch {
            let allowed = "1 to 1000000000, or omitted for no cap";
            require(range(cap, MOST), "retrain.steps_per_epoch", &cap, allowed)?;
        }
        if let Some(fraction) = retrain.validation_fraction {
            let fits = 0.0 < fraction && fraction < 1.0;
            let allowed = "0 < validation_fraction < 1, or omitted to measure the test images";
            require(fits, "retrain.validation_fraction", &fraction, allowed)?;
        }
        let every = retrain.measure_every;
        require(range(every, MOST), "retrain.measure_every", &every, "1 to 1000000000 epochs")?;
        let smoothing = retrain.label_smoothing;
        let fits = (0.0..1.0).contains(&smoothing);
        require(fits, "retrain.label_smoothing", &smoothing, "0 <= label_smoothing < 1")?;
        if let Some(decay) = retrain.average_decay {
            let fits = 0.0 < decay && decay < 1.0;
            let allowed = "0 < average_decay < 1, or omitted for no average";
            require(fits, "retrain.average_decay", &decay, allowed)?;
        }
        let (seed, allowed) = (retrain.seed, "0 to 9223372036854775807");
        require(i64::try_from(seed).is_ok(), "retrain.seed", &seed, allowed)?;

        let weights = &self.weights;
        let (most, least) = (weights.learning_rate, weights.min_learning_rate);
        let allowed = "a finite number above 0, per step";
        require(finite(most) && most > 0.0, "weights.learning_rate", &most, allowed)?;
        let fits = finite(least) && (0.0..=most).contains(&least);
        let allowed = "0 <= min_learning_rate <= learning_rate";
        require(fits, "weights.min_learning_rate", &least, allowed)?;
        let warmup = weights.warmup_epochs;
        require(warmup < epochs, "weights.warmup_epochs", &warmup, "fewer than retrain.epochs")?;
        let momentum = weights.momentum;
        let fits = (0.0..1.0).contains(&momentum);
        require(fits, "weights.momentum", &momentum, "0 <= momentum < 1")?;
        let decay = weights.weight_decay;
        let fits = finite(decay) && decay >= 0.0;
        require(fits, "weights.weight_decay", &decay, "a finite number, 0 or more")?;
        if let Some(clip) = weights.clip_norm {
            let allowed = "a finite number above 0, or omitted for no clipping";
            require(finite(clip) && clip > 0.0, "weights.clip_norm", &clip, allowed)?;
        }
        self.run.validate(origin)
    }
}

/// The name of a file in `configs/` for retraining, and its settings.
pub type RetrainPreset = (&'static str, fn() -> RetrainConfig);

/// One preset for every file `configs/retrain_*.toml`.
pub const RETRAIN_PRESETS: &[RetrainPreset] = &[
    ("retrain_cifar10", RetrainConfig::cifar10),
    ("retrain_cifar100", RetrainConfig::cifar100),
    ("retrain_tiny_imagenet", RetrainConfig::tiny_imagenet),
    ("retrain_imagenet", RetrainConfig::imagenet),
    ("retrain_cifar10_cpu", RetrainConfig::cifar10_cpu),
    ("retrain_folder", RetrainConfig::folder),
    ("retrain_quick", RetrainConfig::quick),
];

impl RetrainConfig {
    /// CIFAR-10 as in the paper.
    ///
    /// # Source
    /// EC-DARTS, section 5.3; what it leaves open is DARTS, `cnn/train.py`.
    pub fn cifar10() -> Self {
        Self {
            data: DataConfig { cutout: Some(16), ..DataConfig::new(DatasetKind::Cifar10) },
            network: RetrainNetworkConfig {
                stem: StemKind::Cifar,
                init_channels: 36,
                num_cells: 20,
                auxiliary_loss_weight: Some(0.4),
                drop_path_prob: 0.2,
            },
            retrain: RetrainLoopConfig {
                epochs: 600,
                batch_size: 96,
                accumulation: 1,
                steps_per_epoch: None,
                validation_fraction: None,
                measure_every: 1,
                label_smoothing: 0.0,
                average_decay: None,
                seed: 0,
            },
            weights: RetrainWeightsConfig {
                learning_rate: 0.025,
                min_learning_rate: 0.0,
                schedule: Schedule::Cosine,
                warmup_epochs: 0,
                momentum: 0.9,
                weight_decay: 3e-4,
                clip_norm: Some(5.0),
            },
            run: RunConfig {
                checkpoint_steps: 200,
                workers: 2,
                kernels: KernelSetting::Fused,
                memory: MemorySetting::Auto,
            },
        }
    }

    /// CIFAR-100 as in the paper.
    pub fn cifar100() -> Self {
        let mut config = Self::cifar10();
        config.data.dataset = DatasetKind::Cifar100;
        config
    }

    /// Tiny ImageNet as in the paper: CIFAR's settings behind a stem of stride 2.
    ///
    /// # Source
    /// EC-DARTS, section 5.4.
    pub fn tiny_imagenet() -> Self {
        let mut config = Self::cifar10();
        config.data.dataset = DatasetKind::TinyImagenet;
        config.network.stem = StemKind::Stride2;
        config
    }

    /// ImageNet as in the paper.
    ///
    /// # Source
    /// EC-DARTS, section 5.5, with PC-DARTS' weight decay (docs/deviations.md, `imagenet-decay`);
    /// what both leave open is PC-DARTS, `train_imagenet.py`.
    pub fn imagenet() -> Self {
        let mut config = Self::cifar10();
        config.data = DataConfig {
            resize: Some(256),
            random_resized_crop: Some(0.08),
            brightness: Some(0.4),
            contrast: Some(0.4),
            saturation: Some(0.4),
            hue: Some(0.2),
            crop_padding: 0,
            ..DataConfig::new(DatasetKind::Imagenet)
        };
        config.network.stem = StemKind::Imagenet;
        config.network.init_channels = 48;
        config.network.num_cells = 14;
        config.network.drop_path_prob = 0.0;
        config.retrain.epochs = 250;
        config.retrain.batch_size = 1024;
        config.retrain.label_smoothing = 0.1;
        config.weights.learning_rate = 0.5;
        config.weights.schedule = Schedule::Linear;
        config.weights.warmup_epochs = 5;
        config.weights.weight_decay = 3e-5;
        config.run.workers = 4;
        config
    }

    /// A folder of one's own images, a folder per class, on a plain computer.
    pub fn folder() -> Self {
        let mut config = Self::cifar10();
        config.data = DataConfig {
            image_size: Some(64),
            resize: Some(72),
            random_resized_crop: Some(0.35),
            crop_padding: 0,
            ..DataConfig::new(DatasetKind::Folder)
        };
        config.network.stem = StemKind::Stride2;
        config.network.init_channels = 16;
        config.network.num_cells = 8;
        config.network.drop_path_prob = 0.1;
        config.retrain.epochs = 30;
        config.retrain.batch_size = 32;
        config.run.checkpoint_steps = 50;
        config
    }

    /// All of CIFAR-10 on two cores: a small network, few epochs.
    pub fn cifar10_cpu() -> Self {
        let mut config = Self::cifar10();
        config.network.stem = StemKind::Stride2;
        config.network.init_channels = 16;
        config.network.num_cells = 8;
        config.network.drop_path_prob = 0.0;
        config.data.cutout = None;
        config.retrain.epochs = 6;
        config
    }

    /// The bundled sample in about a minute on two cores.
    pub fn quick() -> Self {
        let mut config = Self::cifar10();
        config.network.init_channels = 8;
        config.network.num_cells = 5;
        config.network.drop_path_prob = 0.1;
        config.data.cutout = None;
        config.retrain.epochs = 10;
        config.retrain.batch_size = 32;
        config.run.checkpoint_steps = 20;
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl Fn(&mut RetrainConfig), expected: &str) {
        let mut config = RetrainConfig::cifar10();
        change(&mut config);
        let error = config.validate("a.toml").expect_err(expected).to_string();
        assert!(error.starts_with(&format!("a.toml: `{expected}` is ")), "{error}");
        assert!(error.contains(", allowed: "), "{error}");
    }

    #[test]
    fn every_value_has_a_range() {
        check(|c| c.data.cutout = Some(0), "data.cutout");
        check(|c| c.network.init_channels = 15, "network.init_channels");
        check(|c| c.network.num_cells = 2, "network.num_cells");
        check(|c| c.network.auxiliary_loss_weight = Some(0.0), "network.auxiliary_loss_weight");
        check(|c| c.network.drop_path_prob = 1.0, "network.drop_path_prob");
        check(|c| c.retrain.epochs = 0, "retrain.epochs");
        check(|c| c.retrain.batch_size = 0, "retrain.batch_size");
        check(|c| c.retrain.accumulation = 97, "retrain.accumulation");
        check(|c| c.retrain.steps_per_epoch = Some(0), "retrain.steps_per_epoch");
        check(|c| c.retrain.validation_fraction = Some(1.0), "retrain.validation_fraction");
        check(|c| c.retrain.measure_every = 0, "retrain.measure_every");
        check(|c| c.retrain.label_smoothing = 1.0, "retrain.label_smoothing");
        check(|c| c.retrain.average_decay = Some(1.0), "retrain.average_decay");
        check(|c| c.retrain.seed = u64::MAX, "retrain.seed");
        check(|c| c.weights.learning_rate = 0.0, "weights.learning_rate");
        check(|c| c.weights.min_learning_rate = 1.0, "weights.min_learning_rate");
        check(|c| c.weights.warmup_epochs = 600, "weights.warmup_epochs");
        check(|c| c.weights.momentum = -0.1, "weights.momentum");
        check(|c| c.weights.weight_decay = f64::NAN, "weights.weight_decay");
        check(|c| c.weights.clip_norm = Some(0.0), "weights.clip_norm");
        check(|c| c.run.workers = 65, "run.workers");
    }
}
