//! Mean loss and accuracy, summed step by step.

use serde::{Deserialize, Serialize};

/// Mean loss and accuracy over images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Mean {
    /// The sum of loss times number of images.
    pub loss: f64,
    /// Number of images with the right class.
    pub correct: u64,
    pub images: u64,
}

impl Mean {
    pub fn add(&mut self, loss: f64, correct: u64, images: usize) {
        self.loss += loss * images as f64;
        self.count(correct, images);
    }

    /// Adds accuracy alone.
    pub fn count(&mut self, correct: u64, images: usize) {
        self.correct += correct;
        self.images += images as u64;
    }

    pub fn loss(&self) -> f64 {
        self.loss / self.images.max(1) as f64
    }

    /// The mean loss, if there are any images.
    pub fn of_some(&self) -> Option<f64> {
        (self.images > 0).then(|| self.loss())
    }

    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.images.max(1) as f64
    }

    /// The reason why the sums cannot be those of at most `most` images, if so.
    pub fn fault(&self, most: u64) -> Option<String> {
        let Self { loss, correct, images } = *self;
        let is_sound = loss.is_finite() && correct <= images && images <= most;
        (!is_sound).then(|| {
            format!("a sum of loss {loss}, {correct} right of {images} images, of which there are {most}")
        })
    }
}
