//! Settings of SGD on the weights: the section `weights` of a search and of a retraining.

use serde::{Deserialize, Serialize};

use super::validate::require;
use crate::Result;
use crate::optim::{Decay, SgdSettings, warmup};

/// SGD on the weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightsConfig {
    /// Learning rate of the first epoch, per step.
    pub learning_rate: f64,
    /// Learning rate that an epoch after the last one would have, per step.
    pub min_learning_rate: f64,
    /// Schedule of the learning rate over the epochs.
    #[serde(default)]
    pub schedule: Decay,
    /// Number of epochs in which the learning rate rises to the schedule's value.
    #[serde(default)]
    pub warmup_epochs: usize,
    /// Factor of the old velocity in the new one.
    pub momentum: f64,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
    /// Largest global norm of the gradient.
    pub clip_norm: Option<f64>,
    /// Whether a step uses Nesterov momentum.
    #[serde(default)]
    pub nesterov: bool,
}

impl WeightsConfig {
    /// Learning rate of an epoch, counted from 0, per step.
    ///
    /// ```text
    /// schedule(epoch) * min(1, (epoch + 1) / warmup_epochs)
    /// ```
    ///
    /// # Source
    /// Warm-up: PC-DARTS, `train_search_imagenet.py` and `train_imagenet.py`.
    pub fn learning_rate_at(&self, epoch: usize, epochs: usize) -> f64 {
        let (max, min) = (self.learning_rate, self.min_learning_rate);
        let rate = self.schedule.learning_rate(max, min, epoch, epochs);
        rate * warmup(epoch, self.warmup_epochs)
    }

    /// Settings of the optimizer.
    pub fn sgd(&self) -> SgdSettings {
        let Self { momentum, weight_decay, clip_norm, nesterov, .. } = *self;
        SgdSettings { momentum, weight_decay, clip_norm, nesterov }
    }

    /// Checks every value; `section` is the name of the section that has `epochs`.
    pub(super) fn validate(&self, origin: &str, section: &str, epochs: usize) -> Result<()> {
        let require = |holds, key: &str, value: &dyn ToString, allowed: &str| {
            require(origin, holds, key, value, allowed)
        };
        let (most, least) = (self.learning_rate, self.min_learning_rate);
        let allowed = "a finite number above 0, per step";
        require(most.is_finite() && most > 0.0, "weights.learning_rate", &most, allowed)?;
        let fits = least.is_finite() && (0.0..=most).contains(&least);
        let allowed = "0 <= min_learning_rate <= learning_rate";
        require(fits, "weights.min_learning_rate", &least, allowed)?;
        let warmup = self.warmup_epochs;
        let allowed = format!("0 to below {section}.epochs");
        require(warmup < epochs, "weights.warmup_epochs", &warmup, &allowed)?;
        let fits = (0.0..1.0).contains(&self.momentum);
        require(fits, "weights.momentum", &self.momentum, "0 <= momentum < 1")?;
        let allowed = "true with weights.momentum above 0";
        require(!self.nesterov || self.momentum > 0.0, "weights.nesterov", &true, allowed)?;
        let decay = self.weight_decay;
        let fits = decay.is_finite() && decay >= 0.0;
        require(fits, "weights.weight_decay", &decay, "a finite number, 0 or more")?;
        if let Some(clip) = self.clip_norm {
            let allowed = "a finite number above 0, or omitted for no clipping";
            require(clip.is_finite() && clip > 0.0, "weights.clip_norm", &clip, allowed)?;
        }
        Ok(())
    }
}
