//! Notices for a person about the images that were read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, Serializer};

use super::{BrokenImages, ImageDataset};
use crate::{Error, Result};

/// Largest number of files that a notice names; the others are only counted.
const NAMED: usize = 1000;
/// Ratio of the numbers of images of two classes from which on a notice is given.
const UNBALANCED: usize = 10;
/// Largest number of files named in the text of a notice.
const IN_TEXT: usize = 3;

/// The kind of a notice about a file, a folder or a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoticeKind {
    /// An image that cannot be used; the set has one image less.
    Skipped,
    /// An image that broke after loading; in training, the next image of the set replaces it.
    Replaced,
    /// A file or folder that exists and is not read.
    Ignored,
    /// One of several possible places was chosen; the notice names the others.
    NotChosen,
    /// Classes from which a network can hardly learn well.
    Classes,
}

impl NoticeKind {
    /// The name of the kind in events and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Skipped => "skipped",
            Self::Replaced => "replaced",
            Self::Ignored => "ignored",
            Self::NotChosen => "not chosen",
            Self::Classes => "classes",
        }
    }
}

/// Files, folders or classes with the same kind and reason.
///
/// As text: `skipped 5: the file is empty: cat/1.jpg, cat/2.jpg, cat/3.jpg and 2 more`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataNotice {
    /// The kind.
    pub kind: NoticeKind,
    /// The reason.
    pub reason: String,
    /// The number of files, folders or classes.
    pub count: usize,
    /// Their names, at most a thousand: paths below the data's folder, or classes.
    #[serde(serialize_with = "as_text")]
    pub paths: Vec<PathBuf>,
}

/// Paths as text: JSON has only Unicode names.
fn as_text<S: Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(paths.iter().map(|path| path.to_string_lossy()))
}

impl fmt::Display for DataNotice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}: {}", self.kind.name(), self.count, self.reason)?;
        for (place, path) in self.paths.iter().take(IN_TEXT).enumerate() {
            write!(formatter, "{} {}", if place == 0 { ":" } else { "," }, path.display())?;
        }
        match self.count.saturating_sub(IN_TEXT) {
            0 => Ok(()),
            more => write!(formatter, " and {more} more"),
        }
    }
}

/// Collects notices; notices with the same kind and reason become one.
#[derive(Debug)]
pub(super) struct Notices {
    root: PathBuf,
    broken: BrokenImages,
    /// The names per kind and reason; a file that is met again counts once.
    found: BTreeMap<(NoticeKind, String), BTreeSet<PathBuf>>,
}

impl Notices {
    /// No notices yet about the data in a folder.
    pub fn new(root: &Path, broken: BrokenImages) -> Self {
        Self { root: root.to_path_buf(), broken, found: BTreeMap::new() }
    }

    pub fn add(&mut self, kind: NoticeKind, path: &Path, reason: impl Into<String>) {
        let paths = self.found.entry((kind, reason.into())).or_default();
        paths.insert(path.strip_prefix(&self.root).unwrap_or(path).to_path_buf());
    }

    /// # Errors
    /// [`Error::Data`] where broken images may not be skipped.
    pub fn skip(&mut self, path: &Path, reason: impl Into<String>) -> Result<()> {
        let reason = reason.into();
        if self.broken == BrokenImages::Fail {
            return Err(Error::Data { path: self.root.join(path), reason });
        }
        self.add(NoticeKind::Skipped, path, reason);
        Ok(())
    }

    /// As [`Self::skip`], for the error of reading a file or folder.
    pub fn skip_for(&mut self, error: Error) -> Result<()> {
        if self.broken == BrokenImages::Fail {
            return Err(error);
        }
        let (path, reason) = reason(error);
        self.skip(&path, reason)
    }

    /// Takes the first of some places that exists; the others that exist become a notice.
    pub fn first_of<T: AsRef<Path>>(
        &mut self,
        places: impl IntoIterator<Item = T>,
        what: &str,
    ) -> Option<T> {
        let mut places = places.into_iter();
        let first = places.next()?;
        let name = first.as_ref().strip_prefix(&self.root).unwrap_or(first.as_ref());
        let reason = format!("not read, since {what} {}", name.display());
        places.for_each(|place| self.add(NoticeKind::NotChosen, place.as_ref(), reason.clone()));
        Some(first)
    }

    /// Records notices about classes that a network can hardly learn, or that have no test images.
    pub fn of_classes(&mut self, train: &ImageDataset, test: &ImageDataset) {
        let (counts, tested) = (train.class_counts(), test.class_counts());
        let names = train.class_names();
        let mut note = |class: usize, reason: String| {
            self.add(NoticeKind::Classes, Path::new(&names[class]), reason);
        };
        if names.len() == 1 {
            note(0, "there is one class only, so there is nothing to tell apart".into());
        }
        for class in (0..names.len()).filter(|&class| tested[class] == 0) {
            note(class, "no test image, so its accuracy will not be known".into());
        }
        let most = counts.iter().copied().max().unwrap_or(0);
        for class in (0..names.len()).filter(|&class| counts[class] * UNBALANCED < most) {
            let reason =
                "training images are unbalanced: fewer than a tenth of the largest class's";
            note(class, format!("{reason} {most}"));
        }
    }

    /// The notices about a folder or its content, in a few words.
    pub fn about(&self, folder: &Path) -> String {
        let within = |path: &&PathBuf| self.root.join(path).starts_with(folder);
        let of = |((kind, reason), paths): (&(NoticeKind, String), &BTreeSet<PathBuf>)| {
            let path = paths.iter().find(within)?;
            Some(format!("; {} {}: {reason}", kind.name(), path.display()))
        };
        self.found.iter().filter_map(of).take(IN_TEXT).collect()
    }

    pub fn finish(self) -> Vec<DataNotice> {
        let notice = |((kind, reason), paths): (_, BTreeSet<PathBuf>)| DataNotice {
            kind,
            reason,
            count: paths.len(),
            paths: paths.into_iter().take(NAMED).collect(),
        };
        self.found.into_iter().map(notice).collect()
    }
}

/// The file that an error is about, and its fault.
pub(super) fn reason(error: Error) -> (PathBuf, String) {
    match error {
        Error::Data { path, reason } => (path, reason),
        Error::Io { path, source, .. } => (path, source.to_string()),
        other => (PathBuf::new(), other.to_string()),
    }
}
