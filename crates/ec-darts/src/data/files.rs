//! Images in files, decoded on demand and kept in memory where there is room.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use rayon::prelude::*;
use tracing::trace_span;

use super::BrokenImages;
use super::decode::{Picture, read_file, read_size};
use super::digest::{FileDigest, digest_of, digests};
use super::notice::{DataNotice, NoticeKind, Notices, reason};
use super::walk::Entry;
use crate::Result;

/// Options for decoding and keeping the files of both sets.
#[derive(Clone, Debug)]
pub(super) struct Decoding {
    pub broken: BrokenImages,
    /// Whether pictures are rotated as their Exif data say.
    pub orientation: bool,
    /// The folder of stored digests of files.
    pub digests: Option<PathBuf>,
    /// A picture with a shorter side above this is scaled down to it.
    pub most: usize,
    /// Memory left for decoded images, shared by both sets, in bytes.
    pub room: Arc<AtomicU64>,
}

/// The files of one set.
#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
    entries: Vec<Entry>,
    /// The digests, known after all files were decoded, or on demand.
    contents: OnceLock<Vec<FileDigest>>,
    /// The decoded pictures. An entry, once filled, stays.
    cache: Vec<OnceLock<Picture>>,
    /// Broken images by their numbers, with the reasons.
    broken: Mutex<BTreeMap<usize, String>>,
    decoding: Decoding,
    /// The memory left when this set was made, in bytes.
    room_bytes: u64,
}

impl Files {
    pub fn new(root: &Path, entries: Vec<Entry>, decoding: &Decoding) -> Self {
        Self {
            root: root.to_path_buf(),
            cache: entries.iter().map(|_| OnceLock::new()).collect(),
            entries,
            contents: OnceLock::new(),
            broken: Mutex::default(),
            decoding: decoding.clone(),
            room_bytes: decoding.room.load(Ordering::Relaxed),
        }
    }

    /// Decodes all files; removes broken files, also from `labels`.
    ///
    /// # Errors
    /// The error of the first broken file, where the settings do not skip broken files.
    pub fn check(&mut self, labels: &mut Vec<u16>, notices: &mut Notices) -> Result<()> {
        let read = |image| -> Result<FileDigest> {
            let path = self.path(image);
            let bytes = read_file(&path)?;
            self.keep(image, self.picture(&bytes, &path)?);
            Ok(digest_of(&bytes))
        };
        let all: Vec<Result<FileDigest>> =
            (0..self.entries.len()).into_par_iter().map(read).collect();
        let keep: Vec<bool> = all.iter().map(Result::is_ok).collect();
        let mut contents = Vec::with_capacity(all.len());
        for one in all {
            match one {
                Ok(digest) => contents.push(digest),
                Err(error) => notices.skip_for(error)?,
            }
        }
        retain(&mut self.entries, &keep);
        retain(&mut self.cache, &keep);
        retain(labels, &keep);
        self.contents = contents.into();
        Ok(())
    }

    /// The name below the root, and the digest of the content.
    pub fn content(&self, image: usize) -> (&Path, FileDigest) {
        let all = || digests(&self.root, &self.entries, self.decoding.digests.as_deref());
        (&self.entries[image].path, self.contents.get_or_init(all)[image])
    }

    /// Bytes to read before [`Self::content`] is known.
    pub fn bytes_to_read(&self) -> u64 {
        match self.contents.get() {
            Some(_) => 0,
            None => self.entries.iter().map(|entry| entry.bytes).sum(),
        }
    }

    /// Height and width by the header of a file.
    pub fn original_size(&self, image: usize) -> Result<[usize; 2]> {
        read_size(&self.path(image), self.decoding.orientation)
    }

    /// Largest memory for decoded images, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        let kept: u64 =
            self.cache.iter().filter_map(OnceLock::get).map(|it| it.pixels.len() as u64).sum();
        let whole = self.cache.iter().all(|picture| picture.get().is_some());
        if whole { kept } else { self.room_bytes }
    }

    pub fn replaced(&self) -> Vec<DataNotice> {
        let mut notices = Notices::new(&self.root, self.decoding.broken);
        for (&image, reason) in &*self.broken.lock().expect("no panic holds it") {
            notices.add(NoticeKind::Replaced, &self.entries[image].path, reason.as_str());
        }
        notices.finish()
    }

    /// An image and its number; or the next image, where this one is broken and may be skipped.
    ///
    /// The choice of the next image depends on the files alone.
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
            let mut broken = self.broken.lock().expect("no panic holds it");
            broken.insert(next, reason(error).1);
            next = after;
        }
    }

    pub fn path(&self, image: usize) -> PathBuf {
        self.root.join(&self.entries[image].path)
    }

    fn decode(&self, image: usize) -> Result<Cow<'_, Picture>> {
        if let Some(picture) = self.cache[image].get() {
            return Ok(Cow::Borrowed(picture));
        }
        let path = self.path(image);
        let _span = trace_span!("decode", file = %path.display()).entered();
        let picture = self.picture(&read_file(&path)?, &path)?;
        Ok(self.keep(image, picture))
    }

    fn picture(&self, bytes: &[u8], path: &Path) -> Result<Picture> {
        Picture::from_bytes(bytes, path, self.decoding.orientation, self.decoding.most)
    }

    /// Keeps a picture where there is room.
    fn keep(&self, image: usize, picture: Picture) -> Cow<'_, Picture> {
        let bytes = picture.pixels.len() as u64;
        let take = |room: u64| room.checked_sub(bytes);
        let room = &self.decoding.room;
        if room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
            return Cow::Owned(picture);
        }
        // Another thread may have been faster: its picture is the same.
        if let Err(again) = self.cache[image].set(picture) {
            room.fetch_add(again.pixels.len() as u64, Ordering::Relaxed);
        }
        Cow::Borrowed(self.cache[image].get().expect("set above"))
    }
}

fn retain<T>(items: &mut Vec<T>, keep: &[bool]) {
    let mut keep = keep.iter();
    items.retain(|_| *keep.next().expect("one for each"));
}
