//! Images: readers, the random halves, augmentation, and batches prepared ahead.
//!
//! Entry points: [`load`], [`Loader`]. Invariant: every batch is a pure function of seed, purpose,
//! epoch and step, so a resumed run needs no generator's state and any number of worker threads
//! makes the same batches.

mod augment;
mod cifar;
mod dataset;
mod loader;
mod random;

pub use augment::{Augmentation, Normalization};
pub use cifar::load;
pub use dataset::{DatasetKind, Datasets, ImageDataset};
pub use loader::{Batch, Batches, Loader};
pub use random::{Purpose, shuffled, split, stream_rng};
