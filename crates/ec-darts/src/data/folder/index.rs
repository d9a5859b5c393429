//! Test images in one folder, and a list of their classes beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::Listing;
use crate::data::notice::NoticeKind;
use crate::data::walk::{Entry, children, is_image};
use crate::{Error, Result};

/// Names of lists of the validation images and their classes.
const INDICES: [&str; 5] = [
    "val/val_annotations.txt",
    "val/val.txt",
    "val.txt",
    "val_annotations.txt",
    "LOC_val_solution.csv",
];
/// Endings of names that a list may leave out.
const ENDS: [&str; 5] = ["", ".JPEG", ".jpeg", ".jpg", ".png"];

impl Listing<'_> {
    /// Images in one folder, with a list of names and classes: WordNet ids, or numbers from 0.
    pub(super) fn test_of_index(&mut self, below: &str) -> Result<()> {
        let lists = INDICES.map(|name| self.path(name)).into_iter().filter(|path| path.is_file());
        let Some(path) = self.notices.first_of(lists, "classes of test images are those of") else {
            let reason = format!(
                "no folder of a class, and no list of the images either: one of {} is needed",
                INDICES.join(", ")
            );
            return Err(self.fail("val", reason));
        };
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let list = path.strip_prefix(&self.source.folder).unwrap_or(&path).display();
        let mut taken = BTreeSet::new();
        for (name, label) in self.labels(&text, &path)? {
            let name = Path::new(below).join(name);
            let candidates = ENDS.map(|end| PathBuf::from(format!("{}{end}", name.display())));
            let metadata = |path: &PathBuf| fs::metadata(self.path(path)).ok();
            let found = candidates.into_iter().find_map(|path| Some((metadata(&path)?, path)));
            match found {
                Some((metadata, path)) if metadata.is_file() => {
                    let whole = self.path(&path);
                    if !taken.insert(whole.clone()) {
                        let reason = format!("{list} names it again; its first class counts");
                        self.notices.add(NoticeKind::Ignored, &whole, reason);
                    } else if is_image(&whole, metadata.len(), self.notices)? {
                        self.test.push(Entry::new(path, &metadata), label);
                    }
                }
                Some((_, path)) => self.notices.skip(&self.path(path), "no regular file")?,
                None => {
                    let reason = format!("the file is missing, but {list} names it");
                    self.notices.skip(&self.path(name), reason)?;
                }
            }
        }
        for child in children(&self.path(below), self.notices)? {
            let is_other =
                child.metadata.is_file() && !taken.contains(&child.path) && child.path != path;
            if is_other && is_image(&child.path, child.metadata.len(), self.notices)? {
                self.notices.add(
                    NoticeKind::Ignored,
                    &child.path,
                    format!("{list} does not name it"),
                );
            }
        }
        match self.test.entries.is_empty() {
            true => Err(Error::Data { path, reason: "it names no image that is there".into() }),
            false => Ok(()),
        }
    }

    /// The names in a list, with their labels.
    fn labels<'t>(&self, text: &'t str, path: &Path) -> Result<Vec<(&'t str, u16)>> {
        let labels: BTreeMap<&str, usize> = self
            .classes
            .iter()
            .enumerate()
            .filter_map(|(label, class)| Some((class.to_str()?, label)))
            .collect();
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
                return Err(Error::Data { path: path.to_path_buf(), reason });
            };
            named.push((name, label as u16));
        }
        Ok(named)
    }
}
