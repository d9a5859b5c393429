//! Settings of a retraining.

use ec_darts_space::Genotype;
use serde::{Deserialize, Serialize};

use super::validate::{MOST, check_side, require};
use super::{DataConfig, RunConfig, Settings, SettingsKind, WeightsConfig};
use crate::Result;
use crate::network::{EvaluationConfig, Skeleton, StemKind};

/// All settings of a retraining, the training that gives a genotype its accuracy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetrainConfig {
    /// Images.
    pub data: DataConfig,
    /// The network of the genotype.
    pub network: RetrainNetworkConfig,
    /// Settings of the training loop.
    pub retrain: RetrainLoopConfig,
    /// SGD on the weights.
    pub weights: WeightsConfig,
    /// Settings of the machine. They do not change the result, except the kernels.
    pub run: RunConfig,
}

/// The network of the genotype.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetrainNetworkConfig {
    /// The layers around the cells.
    #[serde(default)]
    pub skeleton: Skeleton,
    /// The layers before the first cell.
    pub stem: StemKind,
    /// Channels of the first cell's nodes.
    #[doc(alias = "C")]
    pub init_channels: usize,
    /// Number of cells. In DARTS' skeleton two of them are reductions; in NAS-Bench-201's skeleton
    /// a third is in each stage.
    #[doc(alias = "layers")]
    pub num_cells: usize,
    /// Weight of the auxiliary head's loss in the training loss.
    pub auxiliary_loss_weight: Option<f64>,
    /// Probability that drop path leaves out an operation for an image. It rises linearly over the
    /// epochs to this value.
    pub drop_path_prob: f64,
}

/// Settings of the training loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetrainLoopConfig {
    /// Passes over the training images.
    pub epochs: usize,
    /// Images per step.
    pub batch_size: usize,
    /// Number of parts of a batch. Each part has its own forward and backward pass and batch
    /// statistics; the gradients are added.
    pub accumulation: usize,
    /// Limit of the steps of an epoch, which then uses a random part of the images.
    pub steps_per_epoch: Option<usize>,
    /// Share of the training images that is held out and measured in place of the test images.
    pub validation_fraction: Option<f64>,
    /// Number of epochs between two measurements; the last epoch is always measured.
    pub measure_every: usize,
    /// Weight of the uniform distribution in the targets.
    pub label_smoothing: f64,
    /// Decay rate of an average of the weights, which is measured and saved in place of the
    /// weights.
    pub average_decay: Option<f64>,
    /// Seed of weights, order, augmentation and drop path; at most 2^63 - 1, the largest number of
    /// TOML.
    pub seed: u64,
}

impl RetrainNetworkConfig {
    /// Checks that the cells of a genotype fit into the network.
    ///
    /// # Errors
    /// [`crate::Error::ConfigValue`] where they do not fit.
    pub fn check_genotype(&self, genotype: &Genotype) -> Result<()> {
        let fault = self.skeleton.fault(genotype);
        let allowed =
            fault.as_deref().map_or(String::new(), |fault| format!("one that fits: {fault}"));
        let (key, name) = ("network.skeleton", self.skeleton.name());
        require("the settings", fault.is_none(), key, &name, &allowed)
    }

    /// The network's size for this number of classes.
    pub fn evaluation(&self, num_classes: usize) -> EvaluationConfig {
        let Self { skeleton, stem, init_channels, num_cells, .. } = *self;
        EvaluationConfig { skeleton, stem, init_channels, num_cells, num_classes }
    }
}

impl Settings for RetrainConfig {
    const KIND: SettingsKind = SettingsKind::Retrain;
    const PAPER: &'static str = "retrain_cifar10";

    fn run(&self) -> &RunConfig {
        &self.run
    }

    fn data(&self) -> &DataConfig {
        &self.data
    }

    fn validate(&self, origin: &str) -> Result<()> {
        let require = |holds, key: &str, value: &dyn ToString, allowed: &str| {
            require(origin, holds, key, value, allowed)
        };
        let finite = f64::is_finite;
        let range = |value: usize, most: usize| (1..=most).contains(&value);
        self.data.validate(origin)?;

        let network = &self.network;
        network.evaluation(1).validate(origin)?;
        let has_head = network.skeleton.has_head();
        check_side(origin, &self.data, network.stem, has_head)?;
        if let Some(weight) = network.auxiliary_loss_weight {
            let allowed = "a finite number above 0, or omitted for no auxiliary loss";
            let fits = finite(weight) && weight > 0.0;
            require(fits, "network.auxiliary_loss_weight", &weight, allowed)?;
            let allowed =
                "none with `network.skeleton = \"nas-bench-201\"`, which has no auxiliary head";
            require(has_head, "network.auxiliary_loss_weight", &weight, allowed)?;
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

        self.weights.validate(origin, "retrain", epochs)?;
        self.run.validate(origin)
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
        check(|c| c.network.stem = StemKind::Imagenet, "network.stem");
        check(|c| c.network.auxiliary_loss_weight = Some(0.0), "network.auxiliary_loss_weight");
        let headless = |c: &mut RetrainConfig| {
            (c.network.skeleton, c.network.num_cells) = (Skeleton::NasBench201, 15);
        };
        check(headless, "network.auxiliary_loss_weight");
        check(|c| c.network.skeleton = Skeleton::NasBench201, "network.num_cells");
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
