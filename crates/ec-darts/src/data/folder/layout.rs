//! A folder of the user's own images: the places of its classes, and the choice of test images.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{Listing, Part, text};
use crate::Result;
use crate::data::notice::NoticeKind;
use crate::data::walk::{children, is_image};

/// Names of the folder of training images; the first name is looked for first.
const TRAIN: [&str; 2] = ["train", "training"];
/// Names of the folder of test images.
const TEST: [&str; 5] = ["test", "testing", "val", "valid", "validation"];

impl Listing<'_> {
    /// Reads `train/<class>/` and `test/<class>/` (or another of the names above), or `<class>/`,
    /// to be split.
    pub(super) fn any(&mut self) -> Result<()> {
        let folders = self.folders("".as_ref())?;
        let (train, test) = match self.split_folders(&folders)? {
            None => (PathBuf::new(), None),
            Some(split) => {
                self.outside_classes("".as_ref())?;
                split
            }
        };
        self.classes = self.folders(&train)?;
        self.parts(&train, test.as_deref())?;
        match test {
            Some(_) => Ok(()),
            None => self.split(),
        }
    }

    /// The folders of training and test images; none where each folder is a class.
    ///
    /// # Errors
    /// Where the folder has only such folders, and the folder of training images has no class.
    fn split_folders(
        &mut self,
        folders: &[OsString],
    ) -> Result<Option<(PathBuf, Option<PathBuf>)>> {
        let of = |names: &[&str]| {
            let mut found: Vec<(usize, PathBuf)> = Vec::new();
            for folder in folders {
                let lower = folder.to_string_lossy().to_lowercase();
                let place = names.iter().position(|name| *name == lower);
                found.extend(place.map(|place| (place, folder.into())));
            }
            found.sort();
            found.into_iter().map(|(_, folder)| folder).collect::<Vec<_>>()
        };
        let (all_trains, all_tests) = (of(&TRAIN), of(&TEST));
        let trains = self.with_folders(&all_trains)?;
        let tests = self.with_folders(&all_tests)?;
        let is_class = match trains.first() {
            None => true,
            // A class may have such a name, and may contain folders.
            Some(train) => tests.is_empty() && self.has_images(train)?,
        };
        if is_class {
            let parts = all_trains.len() + all_tests.len();
            if parts > 0 && parts == folders.len() {
                let reason = "no folder of a class: train/ needs one for each, with its images";
                return Err(self.fail("", reason));
            }
            return Ok(None);
        }
        for folder in folders {
            let path = self.path(folder);
            let part = Path::new(folder);
            if all_tests.iter().any(|test| test == part) && !tests.iter().any(|test| test == part) {
                self.notices.add(NoticeKind::Ignored, &path, "no folder of a class is in it");
            } else if !all_tests.iter().chain(&all_trains).any(|known| known == part) {
                let reason =
                    format!("not read, since classes are those of {}", trains[0].display());
                self.notices.add(NoticeKind::NotChosen, &path, reason);
            }
        }
        let train = self.notices.first_of(trains, "training images are those of");
        let test = self.notices.first_of(tests, "test images are those of");
        Ok(train.map(|train| (train, test)))
    }

    fn with_folders(&mut self, all: &[PathBuf]) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for path in all {
            if !self.folders(path)?.is_empty() {
                found.push(path.clone());
            }
        }
        Ok(found)
    }

    /// Whether a folder directly contains images.
    fn has_images(&mut self, below: &Path) -> Result<bool> {
        for child in children(&self.path(below), self.notices)? {
            if child.metadata.is_file()
                && is_image(&child.path, child.metadata.len(), self.notices)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Moves the test images of each class to the test set.
    ///
    /// # Errors
    /// Where a class would have no image left for training, or where no image would be left for
    /// testing.
    fn split(&mut self) -> Result<()> {
        let all = std::mem::take(&mut self.train);
        let (fraction, seed) = (self.source.test_fraction, self.source.split_seed);
        let mut counts = vec![[0_usize; 2]; self.classes.len()];
        for (entry, label) in all.entries.into_iter().zip(all.labels) {
            let is_test = is_test(&entry.path, fraction, seed);
            counts[usize::from(label)][usize::from(is_test)] += 1;
            let part: &mut Part = if is_test { &mut self.test } else { &mut self.train };
            part.push(entry, label);
        }
        let empty = match counts.iter().position(|[train, _]| *train == 0) {
            Some(class) => format!(
                "no image of class {:?} is left for training: by their names all {} are for testing",
                text(&self.classes[class]),
                counts[class][1]
            ),
            None if self.test.entries.is_empty() => format!(
                "no image is left for testing: by their names all {} are for training",
                self.train.entries.len()
            ),
            None => return Ok(()),
        };
        let advice = format!(
            "(data.test_fraction {fraction}, data.split_seed {seed}); change one of the two, or make train/ and test/"
        );
        Err(self.fail("", format!("{empty} {advice}")))
    }
}

/// Whether an image is set apart for testing. This depends on its name alone, so that adding or
/// removing other images does not change it.
///
/// ```text
/// SHA-256(seed, path)[..8] / 2^64 < fraction
/// ```
/// The seed is 8 bytes, little-endian, as is the number. The path is relative to the folder of the
/// data, with `/` between its parts.
pub(in crate::data) fn is_test(path: &Path, fraction: f64, seed: u64) -> bool {
    let parts: Vec<&[u8]> = path.iter().map(|part| part.as_encoded_bytes()).collect();
    let hash = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(parts.join(&b'/'));
    let first = hash.finalize().first_chunk().copied().expect("32 bytes");
    (u64::from_le_bytes(first) as f64) < fraction * 2_f64.powi(64)
}
