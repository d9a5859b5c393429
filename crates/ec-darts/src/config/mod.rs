//! Settings of a search or a retraining: TOML files, presets, overrides, and what is allowed.
//!
//! Entry point: [`Settings::load`]. Invariant: a value that [`Settings::load`] returns has passed
//! [`Settings::validate`], so no layer panics on it.

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

// The set of keys is that of the structs as JSON has them: every field is written, those that are off as
// null. A field that serde skips would be no setting.

/// All settings of a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchConfig {
    /// Images.
    pub data: DataConfig,
    /// Search space and supernet.
    pub network: NetworkConfig,
    /// The loop.
    pub search: LoopConfig,
    /// Induced Structural Transition.
    pub transition: TransitionConfig,
    /// What the rule has beside its relaxation.
    #[serde(default)]
    pub rule: RuleConfig,
    /// Stages, each with a supernet of its own.
    #[serde(default)]
    pub stages: StagesConfig,
    /// SGD on the weights.
    pub weights: WeightsConfig,
    /// Adam on alpha.
    pub alpha: AlphaConfig,
    /// Settings of the machine, which leave the result as it is, but for the kernels.
    pub run: RunConfig,
}

/// Search space and supernet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// Which layers there are, and with them the form of a cell.
    #[serde(default)]
    pub skeleton: Skeleton,
    /// What stands before the first cell.
    pub stem: StemKind,
    /// Channels of the first cell's nodes.
    #[doc(alias = "C")]
    pub init_channels: usize,
    /// Cells: in DARTS' skeleton two of them reductions, so that at least 3 leave one normal; in NAS-Bench-201's a
    /// third in each stage.
    #[doc(alias = "layers")]
    pub num_cells: usize,
    /// Intermediate nodes of a cell.
    pub num_nodes: usize,
    /// Edges that a node keeps in the genotype.
    pub edges_kept: usize,
    /// Candidate operations of every edge.
    pub primitives: Vec<Primitive>,
}

/// The loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoopConfig {
    /// Share of the training set whose batches move the weights; the rest moves alpha.
    pub train_fraction: f64,
    /// Share whose batches move alpha; off: all that is left.
    pub valid_fraction: Option<f64>,
    /// Take these shares of every class; off: of the set as a whole.
    #[serde(default)]
    pub per_class: bool,
    /// How alpha becomes mixing weights.
    pub relaxation: Relaxation,
    /// What the genotype is read from.
    pub strength: Strength,
    /// When alpha moves.
    pub order: Order,
    /// How far the gradient of alpha looks ahead.
    pub architect: ArchitectOrder,
    /// Passes over the training half, in each stage.
    pub epochs: usize,
    /// Images of a batch.
    pub batch_size: usize,
    /// Cap on the steps of an epoch, which then sees a random part of the images.
    pub steps_per_epoch: Option<usize>,
    /// Cap on the validation images on which accuracy is measured.
    pub measured_images: Option<usize>,
    /// Of weights, alpha, split, order and augmentation; at most 2^63 - 1, as TOML has no larger.
    pub seed: u64,
}

/// When alpha moves.
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
    /// EC-DARTS, Algorithm 1, read to the letter.
    Sequential,
    /// A step on the weights before each step on alpha.
    ///
    /// # Source
    /// GDAS and ProxylessNAS, in their public code.
    WeightsFirst,
    /// One step on both, by one gradient of the training loss.
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
    /// Per step.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
    /// Deviation of the first values.
    pub init_scale: f64,
    /// Largest norm of the gradient over both kinds of cells.
    pub clip_norm: Option<f64>,
    /// Epochs in which alpha does not move.
    #[serde(default)]
    pub frozen_epochs: usize,
    /// A step on alpha beside every so many steps on the weights.
    #[serde(default = "one")]
    pub every: usize,
}

fn one() -> usize {
    1
}

impl AlphaConfig {
    /// Whether a step of this number, counted from 0 in its epoch, moves alpha.
    pub fn moves_at(&self, epoch: usize, step: usize) -> bool {
        epoch >= self.frozen_epochs && step.is_multiple_of(self.every)
    }

    /// Steps on alpha before this one, where every epoch has so many steps that could move it.
    pub fn steps_before(&self, epoch: usize, step: usize, steps_per_epoch: usize) -> u64 {
        let Some(moving) = epoch.checked_sub(self.frozen_epochs) else { return 0 };
        let of_epoch = |steps: usize| steps.div_ceil(self.every) as u64;
        moving as u64 * of_epoch(steps_per_epoch) + of_epoch(step)
    }
}

/// Settings of the machine, which leave the result as it is, but for the kernels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Steps between checkpoints; there is one more at the end of every epoch.
    pub checkpoint_steps: usize,
    /// Threads that prepare batches.
    pub workers: usize,
    /// How operations are computed on the CPU. It changes the rounding, which training amplifies.
    #[serde(default)]
    pub kernels: KernelSetting,
    /// What the fused kernels keep between forward and backward pass.
    #[serde(default)]
    pub memory: MemorySetting,
}

/// How operations are computed on the CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KernelSetting {
    /// All operations of an edge at once.
    #[default]
    Fused,
    /// One operation of Burn after the other.
    Reference,
}

/// What the fused kernels keep between forward and backward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemorySetting {
    /// The maps where they fit into the memory that is free when the search begins.
    #[default]
    Auto,
    /// The maps.
    Save,
    /// Nothing: the maps are computed again.
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
    /// [`Error::ConfigValue`] where the space is none.
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
