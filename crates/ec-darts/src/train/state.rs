//! What a search remembers besides its tensors.

use ec_darts_space::Genotype;
use serde::{Deserialize, Serialize};

use super::event::{Phase, TransitionReport};

/// The place in the search, and what was summed up since the epoch began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Counted from 0.
    pub epoch: usize,
    pub phase: Phase,
    /// Next step of the phase.
    pub step: usize,
    /// Steps taken since the search began.
    pub total_step: u64,
    /// Of the supernet's steps in this epoch.
    pub train: Mean,
    /// Of the steps on alpha in this epoch.
    pub valid_loss: Mean,
    /// Of the measured supernet.
    pub supernet: Mean,
    /// Of the auxiliary model's steps in this epoch.
    pub auxiliary_train: Mean,
    /// Of the measured auxiliary model.
    pub auxiliary: Mean,
    /// This epoch's transition, once it is decided.
    pub transition: Option<TransitionReport>,
    /// Genotype of the auxiliary model in training or measurement.
    pub induced: Option<Genotype>,
    /// What the search returns.
    pub best: Option<Best>,
}

/// Genotype of the best epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Counted from 0.
    pub epoch: usize,
    /// Validation accuracy of the auxiliary model, fraction in [0, 1]; absent without transition,
    /// where the last epoch counts.
    pub accuracy: Option<f64>,
    /// The genotype of that epoch.
    pub genotype: Genotype,
}

/// Mean loss and accuracy over images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Mean {
    /// Loss times images, summed.
    pub loss: f64,
    /// Images with the right class.
    pub correct: u64,
    pub images: u64,
}

impl Mean {
    pub fn add(&mut self, loss: f64, correct: u64, images: usize) {
        self.loss += loss * images as f64;
        self.count(correct, images);
    }

    /// Accuracy alone.
    pub fn count(&mut self, correct: u64, images: usize) {
        self.correct += correct;
        self.images += images as u64;
    }

    pub fn loss(&self) -> f64 {
        self.loss / self.images.max(1) as f64
    }

    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.images.max(1) as f64
    }
}

impl Progress {
    pub fn new() -> Self {
        Self {
            epoch: 0,
            phase: Phase::Supernet,
            step: 0,
            total_step: 0,
            train: Mean::default(),
            valid_loss: Mean::default(),
            supernet: Mean::default(),
            auxiliary_train: Mean::default(),
            auxiliary: Mean::default(),
            transition: None,
            induced: None,
            best: None,
        }
    }

    /// The first step of the next epoch.
    pub fn next_epoch(&mut self) {
        *self = Self {
            epoch: self.epoch + 1,
            total_step: self.total_step,
            best: self.best.take(),
            ..Self::new()
        };
    }
}
