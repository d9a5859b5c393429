//! Settings of a search or a retraining: TOML files, presets, overrides, and their validation.
//!
//! Entry point: [`Settings::load`]. Invariant: the settings that [`Settings::load`] returns have
//! passed [`Settings::validate`], so that they cause no panic elsewhere.

mod combination;
mod data;
mod load;
mod overrides;
mod preset;
mod retrain;
mod rule;
mod source;
mod stages;
mod validate;
mod weights;

#[cfg(test)]
mod tests;

use ec_darts_space::{Primitive, SearchSpace};
use serde::{Deserialize, Serialize};

pub use data::DataConfig;
pub use load::Settings;
pub use overrides::Override;
pub use preset::{PRESETS, Preset};
pub use retrain::{RetrainConfig, RetrainLoopConfig, RetrainNetworkConfig};
pub use rule::RuleConfig;
pub use source::{SettingsKind, Source};
pub use stages::{StagePlace, StagesConfig};
pub use weights::WeightsConfig;

use load::nearest;

use crate::architect::ArchitectOrder;
use crate::architecture::Strength;
use crate::network::{Geometry, Skeleton, Stack, StemKind};
use crate::relaxation::Relaxation;
use crate::{Error, Result};

// The set of keys comes from the structs in JSON: every field is written, and a field that is off
// is null. So serde must not skip a field, or its key would be unknown.

/// All settings of a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchConfig {
    /// Images.
    pub data: DataConfig,
    /// Search space and supernet.
    pub network: NetworkConfig,
    /// Settings of the search loop.
    pub search: LoopConfig,
    /// Induced Structural Transition.
    pub transition: TransitionConfig,
    /// Settings of the rule other than its relaxation.
    #[serde(default)]
    pub rule: RuleConfig,
    /// Stages, each with its own supernet.
    #[serde(default)]
    pub stages: StagesConfig,
    /// SGD on the weights.
    pub weights: WeightsConfig,
    /// Adam on alpha.
    pub alpha: AlphaConfig,
    /// Settings of the machine. They do not change the result, except the kernels.
    pub run: RunConfig,
}

/// Search space and supernet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// The layers around the cells, and with them the form of a cell.
    #[serde(default)]
    pub skeleton: Skeleton,
    /// The layers before the first cell.
    pub stem: StemKind,
    /// Channels of the first cell's nodes.
    #[doc(alias = "C")]
    pub init_channels: usize,
    /// Number of cells. In DARTS' skeleton two of them are reductions, so that at least 3 are
    /// needed for a normal one; in NAS-Bench-201's skeleton a third is in each stage.
    #[doc(alias = "layers")]
    pub num_cells: usize,
    /// Number of intermediate nodes of a cell.
    pub num_nodes: usize,
    /// Number of edges that a node keeps in the genotype.
    pub edges_kept: usize,
    /// Candidate operations of every edge.
    pub primitives: Vec<Primitive>,
}

/// Settings of the search loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoopConfig {
    /// Share of the training set for steps on the weights; the rest is for steps on alpha.
    pub train_fraction: f64,
    /// Share of the training set for steps on alpha; off: all the rest.
    pub valid_fraction: Option<f64>,
    /// Whether the shares are taken of every class; off: of the set as a whole.
    #[serde(default)]
    pub per_class: bool,
    /// How alpha becomes mixing weights.
    pub relaxation: Relaxation,
    /// The values from which the genotype is derived.
    pub strength: Strength,
    /// The order of the steps on alpha and on the weights.
    pub order: Order,
    /// The order of the gradient of alpha.
    pub architect: ArchitectOrder,
    /// Passes over the training half in each stage.
    pub epochs: usize,
    /// Images per batch.
    pub batch_size: usize,
    /// Limit of the steps of an epoch, which then uses a random part of the images.
    pub steps_per_epoch: Option<usize>,
    /// Limit of the validation images on which accuracy is measured.
    pub measured_images: Option<usize>,
    /// Seed of weights, alpha, split, order and augmentation; at most 2^63 - 1, the largest number
    /// of TOML.
    pub seed: u64,
}

/// The order of the steps on alpha and on the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// A step on alpha before each step on the weights.
    ///
    /// # Source
    /// DARTS, Algorithm 1 and `cnn/train_search.py`.
    Interleaved,
    /// An epoch of weights, the transition, then an epoch of alpha.
    ///
    /// # Source
    /// EC-DARTS, Algorithm 1, taken literally.
    Sequential,
    /// A step on the weights before each step on alpha.
    ///
    /// # Source
    /// GDAS and ProxylessNAS, in their public code.
    WeightsFirst,
    /// One step on both by one gradient of the training loss.
    ///
    /// # Source
    /// SNAS, section 3.1.
    SingleLevel,
}

/// Induced Structural Transition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransitionConfig {
    /// Whether an auxiliary model is induced in every epoch.
    pub enabled: bool,
}

/// Adam on alpha.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlphaConfig {
    /// Learning rate, per step.
    pub learning_rate: f64,
    /// Decay rate of the first moment.
    pub beta1: f64,
    /// Decay rate of the second moment.
    pub beta2: f64,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
    /// Standard deviation of the initial values.
    pub init_scale: f64,
    /// Largest norm of the gradient over both kinds of cells.
    pub clip_norm: Option<f64>,
    /// Number of epochs in which alpha does not move.
    #[serde(default)]
    pub frozen_epochs: usize,
    /// Number of steps on the weights per step on alpha.
    #[serde(default = "one")]
    pub every: usize,
}

fn one() -> usize {
    1
}

impl AlphaConfig {
    /// Whether a step, counted from 0 in its epoch, moves alpha.
    pub fn moves_at(&self, epoch: usize, step: usize) -> bool {
        epoch >= self.frozen_epochs && step.is_multiple_of(self.every)
    }

    /// Number of steps on alpha before this one, where every epoch has `steps_per_epoch` steps that
    /// could move alpha.
    pub fn steps_before(&self, epoch: usize, step: usize, steps_per_epoch: usize) -> u64 {
        let Some(moving) = epoch.checked_sub(self.frozen_epochs) else { return 0 };
        let of_epoch = |steps: usize| steps.div_ceil(self.every) as u64;
        moving as u64 * of_epoch(steps_per_epoch) + of_epoch(step)
    }
}

/// Settings of the machine. They do not change the result, except the kernels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Steps between two checkpoints; one more is saved at the end of every epoch.
    pub checkpoint_steps: usize,
    /// Number of threads that prepare batches.
    pub workers: usize,
    /// The implementation of operations on the CPU. It changes the rounding, which training
    /// amplifies.
    #[serde(default)]
    pub kernels: KernelSetting,
    /// The maps that the fused kernels keep between forward and backward pass.
    #[serde(default)]
    pub memory: MemorySetting,
}

/// The implementation of operations on the CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KernelSetting {
    /// Fused kernels: all operations of an edge at once.
    #[default]
    Fused,
    /// Burn's operations, one after the other.
    Reference,
}

/// The maps that the fused kernels keep between forward and backward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemorySetting {
    /// Keep the maps if they fit into the memory that is free when the search begins.
    #[default]
    Auto,
    /// Keep the maps.
    Save,
    /// Keep no maps: the backward pass computes them again.
    Recompute,
}

impl NetworkConfig {
    /// The layers of the supernet.
    ///
    /// # Errors
    /// As [`Self::space`].
    pub fn geometry(&self) -> Result<Geometry> {
        let num_joined = self.space()?.topology().joined().len();
        let Self { skeleton, stem, init_channels, num_cells, .. } = *self;
        Ok(Stack { skeleton, stem, init_channels, num_cells }.geometry(|_| num_joined))
    }

    /// The search space these settings describe.
    ///
    /// # Errors
    /// [`Error::ConfigValue`] where the settings describe no valid space.
    pub fn space(&self) -> Result<SearchSpace> {
        let fail = |key: &str, value: String, allowed: String| Error::ConfigValue {
            origin: "the settings".into(),
            key: key.into(),
            value,
            allowed,
        };
        let topology = self.skeleton.topology(self.num_nodes, self.edges_kept);
        let topology = topology.map_err(|error| {
            let value = format!("{} with {} edges kept", self.num_nodes, self.edges_kept);
            fail("network.num_nodes", value, error.to_string())
        })?;
        SearchSpace::new(self.primitives.clone(), topology).map_err(|_| {
            let names: Vec<&str> = self.primitives.iter().map(|each| each.name()).collect();
            let allowed = "distinct names, at least one other than `none`".to_string();
            fail("network.primitives", format!("{names:?}"), allowed)
        })
    }
}
