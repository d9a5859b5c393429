//! Images in files, decoded when they are asked for and kept where memory allows.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use rayon::prelude::*;
use tracing::trace_span;

use super::BrokenImages;
use super::decode::Picture;
use crate::{Error, Result};

/// A file that was left out, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

impl Skipped {
    fn new(error: Error) -> Self {
        match error {
            Error::Data { path, reason } => Self { path, reason },
            Error::Io { path, source, .. } => Self { path, reason: source.to_string() },
            other => Self { path: PathBuf::new(), reason: other.to_string() },
        }
    }
}

/// How files of both sets are decoded and kept.
#[derive(Clone, Debug)]
pub(super) struct Decoding {
    pub broken: BrokenImages,
    /// A larger shorter side is not kept.
    pub most: usize,
    /// Memory that is left for decoded images, shared by both sets.
    pub room: Arc<AtomicU64>,
}

/// The files of one set.
#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
    /// Below `root`, with its size in bytes.
    entries: Vec<(PathBuf, u64)>,
    /// Grows only: what is kept stays.
    cache: Vec<OnceLock<Picture>>,
    replaced: Mutex<BTreeMap<usize, Skipped>>,
    decoding: Decoding,
    /// Room when this set was made.
    room_bytes: u64,
}

impl Files {
    pub fn new(root: &Path, entries: Vec<(PathBuf, u64)>, decoding: &Decoding) -> Self {
        Self {
            root: root.to_path_buf(),
            cache: entries.iter().map(|_| OnceLock::new()).collect(),
            entries,
            replaced: Mutex::default(),
            decoding: decoding.clone(),
            room_bytes: decoding.room.load(Ordering::Relaxed),
        }
    }

    /// Decodes all files; those that are broken are taken out, of `labels` too.
    ///
    /// # Errors
    /// That of the first broken file, where they are not to be skipped.
    pub fn check(&mut self, labels: &mut Vec<u16>) -> Result<Vec<Skipped>> {
        let all: Vec<Option<Error>> =
            (0..self.entries.len()).into_par_iter().map(|image| self.decode(image).err()).collect();
        let keep: Vec<bool> = all.iter().map(Option::is_none).collect();
        let mut errors = all.into_iter().flatten();
        if self.decoding.broken == BrokenImages::Fail
            && let Some(first) = errors.next()
        {
            return Err(first);
        }
        retain(&mut self.entries, &keep);
        retain(&mut self.cache, &keep);
        retain(labels, &keep);
        Ok(errors.map(Skipped::new).collect())
    }

    /// Name below the root, and size in bytes.
    pub fn entry(&self, image: usize) -> (&Path, u64) {
        let (name, bytes) = &self.entries[image];
        (name, *bytes)
    }

    /// Height and width that the head of a file names.
    pub fn original_size(&self, image: usize) -> Result<[usize; 2]> {
        let path = self.root.join(&self.entries[image].0);
        let reader =
            image::ImageReader::open(&path).and_then(image::ImageReader::with_guessed_format);
        let size = reader.map_err(Error::io("read", &path))?.into_dimensions();
        let fail = |error: image::ImageError| Error::Data { path, reason: error.to_string() };
        size.map(|(width, height)| [height as usize, width as usize]).map_err(fail)
    }

    /// Memory for decoded images, at most.
    pub fn memory_bytes(&self) -> u64 {
        let kept: u64 =
            self.cache.iter().filter_map(OnceLock::get).map(|it| it.pixels.len() as u64).sum();
        let whole = self.cache.iter().all(|picture| picture.get().is_some());
        if whole { kept } else { self.room_bytes }
    }

    pub fn replaced(&self) -> Vec<Skipped> {
        self.replaced.lock().expect("no panic holds it").values().cloned().collect()
    }

    /// An image and its number, or the next one where it is broken and may be skipped.
    ///
    /// Which one that is depends on the files alone.
    pub fn get(&self, image: usize) -> Result<(usize, Cow<'_, Picture>)> {
        let count = self.entries.len();
        let mut next = image;
        loop {
            let error = match self.decode(next) {
                Ok(picture) => return Ok((next, picture)),
                Err(error) => error,
            };
            let after = (next + 1) % count;
            if self.decoding.broken == BrokenImages::Fail || after == image {
                return Err(error);
            }
            let mut replaced = self.replaced.lock().expect("no panic holds it");
            replaced.insert(next, Skipped::new(error));
            next = after;
        }
    }

    fn decode(&self, image: usize) -> Result<Cow<'_, Picture>> {
        if let Some(picture) = self.cache[image].get() {
            return Ok(Cow::Borrowed(picture));
        }
        let path = self.root.join(&self.entries[image].0);
        let _span = trace_span!("decode", file = %path.display()).entered();
        let picture = Picture::read(&path, self.decoding.most)?;
        let bytes = picture.pixels.len() as u64;
        let take = |room: u64| room.checked_sub(bytes);
        let room = &self.decoding.room;
        if room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
            return Ok(Cow::Owned(picture));
        }
        // Another thread may have been faster: its picture is the same.
        if let Err(again) = self.cache[image].set(picture) {
            room.fetch_add(again.pixels.len() as u64, Ordering::Relaxed);
        }
        Ok(Cow::Borrowed(self.cache[image].get().expect("set above")))
    }
}

fn retain<T>(items: &mut Vec<T>, keep: &[bool]) {
    let mut keep = keep.iter();
    items.retain(|_| *keep.next().expect("one for each"));
}
