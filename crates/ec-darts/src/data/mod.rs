//! Images: readers, the random halves, augmentation, and batches prepared ahead.
//!
//! Entry points: [`load`], [`Loader`]. Invariant: every batch is a pure function of seed, purpose,
//! epoch and step, so a resumed run needs no state of a random generator, and any number of worker
//! threads makes the same batches.

mod augment;
mod cifar;
mod dataset;
mod decode;
mod digest;
mod files;
mod folder;
mod idx;
mod jitter;
mod kind;
mod loader;
mod notice;
mod random;
mod source;
mod walk;

#[cfg(test)]
mod tests;

pub use augment::{Augmentation, Normalization};
pub use dataset::ImageDataset;
pub use decode::decode;
pub use jitter::ColorJitter;
pub use kind::DatasetKind;
pub use loader::{Batch, Batches, Loader};
pub use notice::{DataNotice, NoticeKind};
pub(crate) use random::below;
pub use random::{Purpose, sample_per_class, shuffled, split, stream_rng};
pub use source::{BrokenImages, DataDigests, Datasets, Source};

use std::sync::Arc;

use crate::{Error, Result};
use notice::Notices;

/// Reads training and test images; docs/data.md describes the layouts.
///
/// Small sets of image files are decoded at once, so that broken files are left out here. In larger
/// sets, each file is decoded when a batch needs it, and kept in memory as long as there is room.
///
/// # Errors
/// [`Error::Data`] where the folder is not of this kind, a file or class is missing or wrong, or an
/// image is broken and may not be skipped; [`Error::Io`] where a file cannot be read;
/// [`Error::ConfigValue`] where a folder of images has no `image_size`.
pub fn load(source: &Source) -> Result<Datasets> {
    let folder = &source.folder;
    if !folder.is_dir() {
        let what = if folder.exists() { "this is a file, not a folder" } else { "no such folder" };
        return Err(Error::Data { path: folder.clone(), reason: what.into() });
    }
    let mut notices = Notices::new(folder, source.broken);
    let sets = match source.kind {
        DatasetKind::Cifar10 | DatasetKind::Cifar100 => cifar::load(source, &mut notices)?,
        DatasetKind::FashionMnist => idx::load(source, &mut notices)?,
        DatasetKind::Memory => {
            let reason =
                "`data.dataset` is memory: such images are handed over by a program, not read"
                    .into();
            return Err(Error::Data { path: folder.clone(), reason });
        }
        DatasetKind::TinyImagenet | DatasetKind::Imagenet | DatasetKind::Folder => {
            folder::load(source, &mut notices)?
        }
    };
    let [train, test] = sets.map(|set| {
        let size = source.image_size.map_or(set.size(), |side| [side; 2]);
        Arc::new(set.with_size(size, source.resize))
    });
    if test.is_empty() {
        let about = notices.about(folder);
        let reason = format!("no image for testing is left{about}");
        return Err(Error::Data { path: folder.clone(), reason });
    }
    notices.of_classes(&train, &test);
    Ok(Datasets { train, test, notices: notices.finish() })
}
