//! Images in folders: Tiny ImageNet, ImageNet, and a folder per class.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::files::{Decoding, Files, Skipped};
use super::random::split_class;
use super::{BrokenImages, DatasetKind, Datasets, ImageDataset, Normalization, Source};
use crate::{Error, Result};

/// Files of both sets together up to which all are decoded when a set is loaded, in bytes.
const CHECKED_BYTES: u64 = 512 << 20;
/// Folders within folders that are looked into.
const DEPTH: usize = 8;
/// Ends of names that are read.
const READ: [&str; 3] = ["jpg", "jpeg", "png"];
/// Ends of names that are images, but of no format that is read.
const OTHER: [&str; 9] = ["gif", "bmp", "webp", "tif", "tiff", "heic", "avif", "ppm", "jp2"];
/// Lists of the validation images, each with its class.
const INDICES: [&str; 5] = [
    "val/val_annotations.txt",
    "val/val.txt",
    "val.txt",
    "val_annotations.txt",
    "LOC_val_solution.csv",
];
/// Lists of names of classes.
const WORDS: [&str; 2] = ["words.txt", "LOC_synset_mapping.txt"];

/// Files of one set below the root, with their sizes in bytes, and a label for each.
#[derive(Default)]
struct Part {
    entries: Vec<(PathBuf, u64)>,
    labels: Vec<u16>,
}

/// What lies in a folder.
struct Listing<'a> {
    source: &'a Source,
    /// Folders or WordNet ids, in the order of their labels.
    classes: Vec<String>,
    train: Part,
    test: Part,
    skipped: Vec<Skipped>,
}

/// Lists the folder, and decodes all images where they are not too many.
///
/// # Errors
/// [`Error::Data`] where a folder, list or class is missing or empty, and where an image is broken
/// and may not be skipped; [`Error::Io`] where something cannot be read.
pub(super) fn load(source: &Source) -> Result<Datasets> {
    let mut listing = Listing {
        source,
        classes: Vec::new(),
        train: Part::default(),
        test: Part::default(),
        skipped: Vec::new(),
    };
    match source.kind {
        DatasetKind::TinyImagenet => listing.tiny_imagenet()?,
        DatasetKind::Imagenet => listing.imagenet()?,
        _ => listing.any()?,
    }
    listing.decode()
}

impl Listing<'_> {
    fn fail(&self, below: impl AsRef<Path>, reason: impl Into<String>) -> Error {
        Error::Data { path: self.source.folder.join(below), reason: reason.into() }
    }

    /// `wnids.txt`, `train/<wnid>/images/`, `val/images/` with `val/val_annotations.txt`.
    fn tiny_imagenet(&mut self) -> Result<()> {
        let path = self.source.folder.join("wnids.txt");
        if !path.is_file() {
            let reason = "no tiny-imagenet here: wnids.txt is missing";
            return Err(self.fail("", reason));
        }
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        self.classes = text.split_whitespace().map(String::from).collect();
        self.train_of("train")?;
        self.test_of_index("val/images")
    }

    /// `train/<wnid>/`, and `val/<wnid>/` or `val/` with a list of its images.
    fn imagenet(&mut self) -> Result<()> {
        if !self.source.folder.join("train").is_dir() {
            let reason = "no imagenet here: expected train/ with a folder for each class";
            return Err(self.fail("", reason));
        }
        self.classes = self.folders("train")?;
        self.train_of("train")?;
        match self.folders("val") {
            Ok(folders) if folders.iter().any(|folder| self.classes.contains(folder)) => {
                self.test_of("val")
            }
            _ => self.test_of_index("val"),
        }
    }

    /// `train/<class>/` and `test/<class>/` or `val/<class>/`, or `<class>/` to be split.
    fn any(&mut self) -> Result<()> {
        let there = |name: &&str| self.source.folder.join(name).is_dir();
        let train = if there(&"train") { "train" } else { "" };
        let test = ["test", "val"].into_iter().find(|name| !train.is_empty() && there(name));
        self.classes = self.folders(train)?;
        self.train_of(train)?;
        match test {
            Some(test) => self.test_of(test),
            None => {
                self.split();
                Ok(())
            }
        }
    }

    /// Sorted names of the folders in a folder.
    fn folders(&self, below: &str) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for (path, is_folder) in children(&self.source.folder.join(below))? {
            if is_folder {
                names.push(file_name(&path));
            }
        }
        Ok(names)
    }

    fn train_of(&mut self, below: &str) -> Result<()> {
        if self.classes.is_empty() || self.classes.len() > usize::from(u16::MAX) {
            let found = self.classes.len();
            let reason =
                format!("{found} classes, expected 1 to 65535: a folder of images for each");
            return Err(self.fail(below, reason));
        }
        self.train = self.part(below)?;
        let mut counts = vec![0; self.classes.len()];
        for &label in &self.train.labels {
            counts[usize::from(label)] += 1;
        }
        match counts.iter().position(|&count| count == 0) {
            Some(class) => {
                let folder = Path::new(below).join(&self.classes[class]);
                Err(self.fail(folder, "a class without an image: no JPEG or PNG in its folder"))
            }
            None => Ok(()),
        }
    }

    fn test_of(&mut self, below: &str) -> Result<()> {
        self.test = self.part(below)?;
        match self.test.entries.is_empty() {
            true => Err(self.fail(below, "no JPEG or PNG in its folders")),
            false => Ok(()),
        }
    }

    /// All images in the folders of the classes.
    fn part(&mut self, below: &str) -> Result<Part> {
        for folder in self.folders(below)? {
            if !self.classes.contains(&folder) {
                let path = Path::new(below).join(&folder);
                return Err(self.fail(path, "a folder that is no class of the training set"));
            }
        }
        let mut part = Part::default();
        for (label, class) in self.classes.clone().iter().enumerate() {
            let folder = self.source.folder.join(below).join(class);
            if folder.is_dir() {
                self.walk(&folder, DEPTH, &mut part.entries)?;
                part.labels.resize(part.entries.len(), label as u16);
            }
        }
        Ok(part)
    }

    fn walk(&mut self, folder: &Path, depth: usize, found: &mut Vec<(PathBuf, u64)>) -> Result<()> {
        for (path, is_folder) in children(folder)? {
            let end = path.extension().map(|end| end.to_string_lossy().to_lowercase());
            let ends = |known: &[&str]| end.as_deref().is_some_and(|end| known.contains(&end));
            if is_folder && depth > 0 {
                self.walk(&path, depth - 1, found)?;
            } else if !is_folder && ends(&READ) {
                let size = fs::metadata(&path).map_err(Error::io("read", &path))?.len();
                let below = path.strip_prefix(&self.source.folder).unwrap_or(&path);
                found.push((below.to_path_buf(), size));
            } else if !is_folder && ends(&OTHER) {
                self.skip(path, "only JPEG and PNG are read")?;
            }
        }
        Ok(())
    }

    fn skip(&mut self, path: PathBuf, reason: &str) -> Result<()> {
        let reason = reason.to_string();
        if self.source.broken == BrokenImages::Fail {
            return Err(Error::Data { path, reason });
        }
        self.skipped.push(Skipped { path, reason });
        Ok(())
    }

    /// Images in one folder, with a list of names and classes: WordNet ids, or numbers from 0.
    fn test_of_index(&mut self, below: &str) -> Result<()> {
        let Some(list) = INDICES.iter().find(|name| self.source.folder.join(name).is_file()) else {
            let reason = format!(
                "no folder of a class, and no list of the images either: one of {} is needed",
                INDICES.join(", ")
            );
            return Err(self.fail("val", reason));
        };
        let path = self.source.folder.join(list);
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let labels: BTreeMap<&str, usize> =
            self.classes.iter().enumerate().map(|(label, class)| (class.as_str(), label)).collect();
        let mut named = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let mut fields = line.split(['\t', ',', ' ']).filter(|field| !field.is_empty());
            let (name, class) = match (fields.next(), fields.next()) {
                (None, _) | (Some("ImageId"), _) => continue,
                (Some(name), class) => (name, class.unwrap_or_default()),
            };
            let counted = class.parse().ok().filter(|&label| label < self.classes.len());
            let Some(label) = labels.get(class).copied().or(counted) else {
                let reason =
                    format!("line {}: {class:?} is no class of the training set", number + 1);
                return Err(Error::Data { path, reason });
            };
            named.push((name.to_string(), label as u16));
        }
        for (name, label) in named {
            let name = Path::new(below).join(name);
            let ends = ["", ".JPEG", ".jpeg", ".jpg", ".png"];
            let candidates = ends.map(|end| PathBuf::from(format!("{}{end}", name.display())));
            let size = |path: &PathBuf| fs::metadata(self.source.folder.join(path)).ok();
            let found = candidates.into_iter().find_map(|path| Some((size(&path)?.len(), path)));
            match found {
                Some((size, path)) => {
                    self.test.entries.push((path, size));
                    self.test.labels.push(label);
                }
                None => {
                    let reason = format!("the file is missing, but {list} names it");
                    self.skip(self.source.folder.join(name), &reason)?;
                }
            }
        }
        match self.test.entries.is_empty() {
            true => Err(Error::Data { path, reason: "it names no image that is there".into() }),
            false => Ok(()),
        }
    }

    /// Moves a part of each class from the training to the test set.
    fn split(&mut self) {
        let all = std::mem::take(&mut self.train);
        let mut classes = vec![Vec::new(); self.classes.len()];
        for (image, &label) in (0..).zip(&all.labels) {
            classes[usize::from(label)].push(image);
        }
        let Source { test_fraction, split_seed, .. } = *self.source;
        for (class, images) in classes.iter().enumerate() {
            let (train, test) = split_class(images, test_fraction, split_seed, class);
            for (part, images) in [(&mut self.train, train), (&mut self.test, test)] {
                let entries = images.iter().map(|&image| all.entries[image as usize].clone());
                part.entries.extend(entries);
                part.labels.resize(part.entries.len(), class as u16);
            }
        }
    }

    fn decode(mut self) -> Result<Datasets> {
        let source = self.source;
        let size = source.image_size.or(source.kind.image_size()).ok_or_else(|| {
            let allowed =
                "a side in pixels, which a folder of images does not say by itself".into();
            let (origin, key) = ("the settings".into(), "data.image_size".into());
            Error::ConfigValue { origin, key, value: "not set".into(), allowed }
        })?;
        let decoding = Decoding {
            broken: source.broken,
            // A random crop of a larger picture would hardly show more.
            most: 2 * size.max(source.resize.unwrap_or(0)),
            room: Arc::new(AtomicU64::new(source.cache_bytes)),
        };
        let parts = [std::mem::take(&mut self.train), std::mem::take(&mut self.test)];
        let bytes: u64 = parts.iter().flat_map(|part| &part.entries).map(|(_, size)| size).sum();
        let class_names = self.class_names()?;
        let plain = Normalization { mean: [0.0; 3], std: [1.0; 3] };
        let known = source.kind.normalization();
        let mut sets = Vec::new();
        for Part { entries, mut labels } in parts {
            let mut files = Files::new(&source.folder, entries, &decoding);
            if bytes <= CHECKED_BYTES {
                self.skipped.extend(files.check(&mut labels)?);
            }
            let names = class_names.clone();
            let set = ImageDataset::in_files(files, labels, names, known.unwrap_or(plain));
            sets.push(set.with_size([size; 2], source.resize));
        }
        let [mut train, mut test]: [_; 2] = sets.try_into().expect("two parts");
        let mut seen = vec![false; self.classes.len()];
        train.labels().iter().for_each(|&label| seen[usize::from(label)] = true);
        if let Some(class) = seen.iter().position(|&seen| !seen) {
            let first = self.skipped.first().map_or_else(String::new, |skipped| {
                format!(", such as {} ({})", skipped.path.display(), skipped.reason)
            });
            let reason = format!(
                "no image of class {:?} can be read; {} files were skipped{first}",
                self.classes[class],
                self.skipped.len()
            );
            return Err(self.fail("", reason));
        }
        if known.is_none() {
            let measured = train.measure()?;
            if measured.std.contains(&0.0) {
                return Err(self.fail("", "a colour has the same value in every training image"));
            }
            train = train.with_normalization(measured);
            test = test.with_normalization(measured);
        }
        self.skipped.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Datasets { train: Arc::new(train), test: Arc::new(test), skipped: self.skipped })
    }

    /// The folders, or what a list of words calls them.
    fn class_names(&self) -> Result<Vec<String>> {
        let mut names = self.classes.clone();
        if self.source.kind == DatasetKind::Folder {
            return Ok(names);
        }
        let lists = WORDS.map(|name| self.source.folder.join(name));
        if let Some(path) = lists.into_iter().find(|path| path.is_file()) {
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

/// What is in a folder, sorted, and whether it is a folder; hidden files are left out.
fn children(folder: &Path) -> Result<Vec<(PathBuf, bool)>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let path = entry.map_err(Error::io("read", folder))?.path();
        if !file_name(&path).starts_with('.') {
            let is_folder = path.is_dir();
            all.push((path, is_folder));
        }
    }
    all.sort();
    Ok(all)
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
