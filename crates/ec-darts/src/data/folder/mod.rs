//! Images in folders: Tiny ImageNet, ImageNet, and one folder per class.

mod index;
pub(super) mod layout;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::decode::FORMATS;
use super::files::{Decoding, Files};
use super::notice::{NoticeKind, Notices};
use super::walk::{self, Entry, children, is_image};
use super::{DatasetKind, ImageDataset, Normalization, Source};
use crate::{Error, Result};

/// Total size of the files of both sets up to which all files are decoded at loading, in bytes.
const CHECKED_BYTES: u64 = 512 << 20;
/// Names of lists with the names of classes.
const WORDS: [&str; 2] = ["words.txt", "LOC_synset_mapping.txt"];

/// Files of one set and their labels.
#[derive(Default)]
struct Part {
    entries: Vec<Entry>,
    labels: Vec<u16>,
}

impl Part {
    fn push(&mut self, entry: Entry, label: u16) {
        self.entries.push(entry);
        self.labels.push(label);
    }
}

/// The content of a folder.
struct Listing<'a> {
    source: &'a Source,
    notices: &'a mut Notices,
    /// Folders or WordNet ids, in the order of the labels.
    classes: Vec<OsString>,
    train: Part,
    test: Part,
}

/// Lists the folder, and decodes all images unless there are too many.
///
/// # Errors
/// [`Error::Data`] where a folder, list or class is missing or empty, and where an image is broken
/// and may not be skipped; [`Error::Io`] where a file or folder cannot be read.
pub(super) fn load(source: &Source, notices: &mut Notices) -> Result<[ImageDataset; 2]> {
    let (classes, train, test) = (Vec::new(), Part::default(), Part::default());
    let mut listing = Listing { source, notices, classes, train, test };
    match source.kind {
        DatasetKind::TinyImagenet => listing.tiny_imagenet()?,
        DatasetKind::Imagenet => listing.imagenet()?,
        _ => listing.any()?,
    }
    listing.decode()
}

impl Listing<'_> {
    fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        // Joining an empty name would add a slash to the path.
        match below.as_ref() {
            root if root.as_os_str().is_empty() => self.source.folder.clone(),
            below => self.source.folder.join(below),
        }
    }

    fn fail(&self, below: impl AsRef<Path>, reason: impl Into<String>) -> Error {
        Error::Data { path: self.path(below), reason: reason.into() }
    }

    /// Reads `wnids.txt`, `train/<wnid>/images/`, `val/images/` with `val/val_annotations.txt`.
    fn tiny_imagenet(&mut self) -> Result<()> {
        let path = self.path("wnids.txt");
        if !path.is_file() {
            return Err(self.fail("", "no tiny-imagenet here: wnids.txt is missing"));
        }
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        self.classes = text.split_whitespace().map(OsString::from).collect();
        self.only_these(&["train", "val"])?;
        self.parts("train".as_ref(), None)?;
        self.test_of_index("val/images")
    }

    /// Reads `train/<wnid>/`, and `val/<wnid>/` or `val/` with a list of its images.
    fn imagenet(&mut self) -> Result<()> {
        if !self.path("train").is_dir() {
            let reason = "no imagenet here: expected train/ with a folder for each class";
            return Err(self.fail("", reason));
        }
        self.classes = self.folders("train".as_ref())?;
        self.only_these(&["train", "val"])?;
        let is_class = |folder: &OsString| self.classes.contains(folder);
        let val = self.path("val");
        let in_folders = val.is_dir()
            && children(&val, self.notices)?
                .iter()
                .filter_map(|child| child.path.file_name())
                .any(|name| is_class(&name.to_os_string()));
        if in_folders {
            return self.parts("train".as_ref(), Some("val".as_ref()));
        }
        self.parts("train".as_ref(), None)?;
        self.test_of_index("val")
    }

    /// Records a notice about folders that the layout does not have.
    fn only_these(&mut self, known: &[&str]) -> Result<()> {
        for name in self.folders("".as_ref())? {
            if !known.iter().any(|known| *known == name) {
                let path = self.path(name);
                self.notices.add(NoticeKind::Ignored, &path, "no part of this layout");
            }
        }
        Ok(())
    }

    /// Sorted names of the folders in a folder. A link to this folder or to a folder above is left
    /// out, because it leads to all of them.
    fn folders(&mut self, below: &Path) -> Result<Vec<OsString>> {
        let folder = self.path(below);
        let whole = folder.canonicalize().unwrap_or_else(|_| folder.clone());
        let mut names = Vec::new();
        for child in children(&folder, self.notices)? {
            let target = child.is_link.then(|| child.path.canonicalize().ok()).flatten();
            if target.is_some_and(|target| whole.starts_with(target)) {
                let reason = "a link to a folder that it is in";
                self.notices.add(NoticeKind::Ignored, &child.path, reason);
            } else if child.metadata.is_dir() {
                names.extend(child.path.file_name().map(OsStr::to_os_string));
            }
        }
        Ok(names)
    }

    /// Records notices about images and other files in a folder of classes that belong to no class.
    fn outside_classes(&mut self, below: &Path) -> Result<()> {
        for child in children(&self.path(below), self.notices)? {
            if child.metadata.is_file()
                && is_image(&child.path, child.metadata.len(), self.notices)?
            {
                let reason = "an image in no folder of a class";
                self.notices.add(NoticeKind::Ignored, &child.path, reason);
            }
        }
        Ok(())
    }

    /// All images in the folders of the classes, for training and, where the folder of test images
    /// has class folders too, for testing.
    fn parts(&mut self, train: &Path, test: Option<&Path>) -> Result<()> {
        if self.classes.is_empty() || self.classes.len() > usize::from(u16::MAX) {
            let found = self.classes.len();
            let reason =
                format!("{found} classes, expected 1 to 65535: a folder of images for each");
            return Err(self.fail(train, reason));
        }
        let mut starts = Vec::new();
        for below in [Some(train), test].into_iter().flatten() {
            self.outside_classes(below)?;
            let folders = self.folders(below)?;
            if let Some(other) = folders.iter().find(|folder| !self.classes.contains(folder)) {
                let reason = "a folder that is no class of the training set";
                return Err(self.fail(below.join(other), reason));
            }
            let classes = self.classes.iter().filter(|class| folders.contains(class));
            starts.extend(classes.map(|class| below.join(class)));
        }
        let lists = walk::images(&self.source.folder, &starts, self.notices)?;
        for (start, list) in starts.iter().zip(lists) {
            let name = start.file_name().expect("the folder of a class");
            let label = self.classes.iter().position(|class| class == name).expect("listed");
            let is_test = test.is_some_and(|test| start.starts_with(test));
            let part = if is_test { &mut self.test } else { &mut self.train };
            list.into_iter().for_each(|entry| part.push(entry, label as u16));
        }
        self.check_classes(|class| train.join(class))
    }

    /// # Errors
    /// Where a class has no training image.
    fn check_classes(&self, folder: impl Fn(&OsString) -> PathBuf) -> Result<()> {
        let mut seen = vec![false; self.classes.len()];
        self.train.labels.iter().for_each(|&label| seen[usize::from(label)] = true);
        let Some(class) = seen.iter().position(|seen| !seen) else { return Ok(()) };
        let folder = folder(&self.classes[class]);
        let about = self.notices.about(&self.path(&folder));
        let reason = format!("a class without an image: no {FORMATS} in its folder{about}");
        Err(self.fail(folder, reason))
    }

    fn decode(mut self) -> Result<[ImageDataset; 2]> {
        let source = self.source;
        let size = source.image_size.or(source.kind.image_size()).ok_or_else(|| {
            let allowed =
                "a side in pixels, which a folder of images does not say by itself".into();
            let (origin, key) = ("the settings".into(), "data.image_size".into());
            Error::ConfigValue { origin, key, value: "not set".into(), allowed }
        })?;
        let decoding = Decoding {
            broken: source.broken,
            orientation: source.orientation,
            digests: source.digests.clone(),
            // A random crop of a larger picture would show hardly more detail.
            most: 2 * size.max(source.resize.unwrap_or(0)),
            room: Arc::new(AtomicU64::new(source.cache_bytes)),
        };
        let parts = [std::mem::take(&mut self.train), std::mem::take(&mut self.test)];
        let bytes: u64 = parts.iter().flat_map(|part| &part.entries).map(|entry| entry.bytes).sum();
        let class_names = self.class_names()?;
        let plain = Normalization { mean: [0.0; 3], std: [1.0; 3] };
        let known = source.kind.normalization();
        let mut sets = Vec::new();
        for Part { entries, mut labels } in parts {
            let mut files = Files::new(&source.folder, entries, &decoding);
            if bytes <= CHECKED_BYTES {
                files.check(&mut labels, self.notices)?;
            }
            let names = class_names.clone();
            let set = ImageDataset::in_files(files, labels, names, known.unwrap_or(plain));
            sets.push(set.with_size([size; 2], source.resize));
        }
        let [mut train, mut test]: [_; 2] = sets.try_into().expect("two parts");
        let mut seen = vec![false; self.classes.len()];
        train.labels().iter().for_each(|&label| seen[usize::from(label)] = true);
        if let Some(class) = seen.iter().position(|&seen| !seen) {
            let about = self.notices.about(&source.folder);
            let reason = format!("no image of class {:?} can be read{about}", class_names[class]);
            return Err(self.fail("", reason));
        }
        if known.is_none() {
            let measured = train.measure()?;
            if measured.std.contains(&0.0) {
                return Err(self.fail("", "a colour has the same value in every training image"));
            }
            train = train.with_normalization(measured)?;
            test = test.with_normalization(measured)?;
        }
        Ok([train, test])
    }

    /// The names of the folders, or their names in a list of words.
    fn class_names(&mut self) -> Result<Vec<String>> {
        let mut names: Vec<String> = self.classes.iter().map(|class| text(class)).collect();
        if self.source.kind == DatasetKind::Folder {
            return Ok(names);
        }
        let lists = WORDS.map(|name| self.path(name)).into_iter().filter(|path| path.is_file());
        if let Some(path) = self.notices.first_of(lists, "names of classes are those of") {
            let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
            let words: BTreeMap<&str, &str> =
                text.lines().filter_map(|line| line.split_once(['\t', ' '])).collect();
            for name in &mut names {
                if let Some(words) = words.get(name.as_str()) {
                    *name = words.trim().to_string();
                }
            }
        }
        Ok(names)
    }
}

/// A name as text; invalid bytes are written as `\xFF`, so that two names stay different.
fn text(name: &OsStr) -> String {
    match name.to_str() {
        Some(text) => text.to_string(),
        None => format!("{name:?}").trim_matches('"').to_string(),
    }
}
