//! Schedules of the learning rate of the weights over the epochs.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// A schedule of the learning rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    /// Along half a period of a cosine.
    #[default]
    Cosine,
    /// Along a line, with a smaller slope in the last five epochs.
    Linear,
}

/// Number of epochs at the end of the linear schedule, in which the slope is smaller.
const TAIL_EPOCHS: usize = 5;

impl Decay {
    /// Learning rate of an epoch (counted from 0), per step.
    ///
    /// ```text
    /// cosine:  min + (max - min) (1 + cos(pi * epoch / epochs)) / 2
    /// linear:  min + (max - min) (epochs - 5 - epoch) / (epochs - 5)     more than 5 epochs left
    ///          min + (max - min) (epochs - epoch) / (5 (epochs - 5))     the last 5
    /// ```
    /// A linear schedule of up to 5 epochs is a plain line.
    ///
    /// # Source
    /// Cosine as [`cosine_learning_rate`]; linear: PC-DARTS, `train_imagenet.py`, `adjust_lr`.
    pub fn learning_rate(self, max: f64, min: f64, epoch: usize, epochs: usize) -> f64 {
        let left = epochs - epoch;
        let line = match self {
            Self::Cosine => return cosine_learning_rate(max, min, epoch, epochs),
            Self::Linear if epochs <= TAIL_EPOCHS => left as f64 / epochs as f64,
            Self::Linear if left > TAIL_EPOCHS => {
                (left - TAIL_EPOCHS) as f64 / (epochs - TAIL_EPOCHS) as f64
            }
            Self::Linear => left as f64 / ((epochs - TAIL_EPOCHS) * TAIL_EPOCHS) as f64,
        };
        min + (max - min) * line
    }
}

/// Factor of the learning rate in an epoch (counted from 0) during the warm-up.
///
/// ```text
/// min(1, (epoch + 1) / warmup_epochs)
/// ```
///
/// # Source
/// PC-DARTS, `train_search_imagenet.py` and `train_imagenet.py`.
pub fn warmup(epoch: usize, warmup_epochs: usize) -> f64 {
    ((epoch + 1) as f64 / warmup_epochs.max(1) as f64).min(1.0)
}

/// Learning rate of an epoch (counted from 0), per step.
///
/// ```text
/// lr = min + (max - min) (1 + cos(pi * epoch / epochs)) / 2
/// ```
///
/// # Source
/// PyTorch, `CosineAnnealingLR` stepped once per epoch, as in DARTS, `cnn/train_search.py`.
pub fn cosine_learning_rate(max: f64, min: f64, epoch: usize, epochs: usize) -> f64 {
    min + (max - min) * (1.0 + (PI * epoch as f64 / epochs as f64).cos()) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of `adjust_lr` for 250 epochs at 0.5, by hand.
    #[test]
    fn the_line_is_that_of_pc_darts() {
        let rate = |epoch| Decay::Linear.learning_rate(0.5, 0.0, epoch, 250);
        assert!((rate(0) - 0.5).abs() < 1e-12);
        assert!((rate(100) - 0.5 * 145.0 / 245.0).abs() < 1e-12);
        assert!((rate(244) - 0.5 / 245.0).abs() < 1e-12);
        assert!((rate(245) - 0.5 * 5.0 / 1225.0).abs() < 1e-12);
        assert!((rate(249) - 0.5 / 1225.0).abs() < 1e-12);
    }

    #[test]
    fn the_rate_rises_evenly_and_stays() {
        let shares: Vec<f64> = (0..7).map(|epoch| warmup(epoch, 5)).collect();
        assert_eq!(shares, [0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0]);
        assert_eq!(warmup(0, 0), 1.0);
    }

    #[test]
    fn every_schedule_falls_from_its_greatest_value_and_stays_above_the_least() {
        for schedule in [Decay::Cosine, Decay::Linear] {
            for epochs in [1, 2, 5, 6, 40] {
                let rates: Vec<f64> = (0..epochs)
                    .map(|epoch| schedule.learning_rate(0.3, 0.01, epoch, epochs))
                    .collect();
                assert!((rates[0] - 0.3).abs() < 1e-12, "{schedule:?} {rates:?}");
                assert!(rates.is_sorted_by(|a, b| a >= b), "{schedule:?} {rates:?}");
                assert!(rates.iter().all(|&rate| rate > 0.01), "{schedule:?} {rates:?}");
            }
        }
    }
}
