//! The image files in folders: only regular files, each once, also where links lead to them.

use std::collections::hash_map::{Entry as Place, HashMap};
use std::collections::{HashSet, VecDeque};
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use image::ImageFormat;

use super::decode::{FORMATS, LARGEST, is_read};
use super::notice::{NoticeKind, Notices};
use crate::{Error, Result};

/// Endings of names that count as an image without a look at the content.
const ENDS: [&str; 7] = ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp"];
/// Endings of names of images in unsupported formats.
const OTHER: [&str; 10] =
    ["gif", "tif", "tiff", "heic", "heif", "avif", "ppm", "pgm", "jp2", "jxl"];
/// Folders that systems and programs leave beside images, such as thumbnails.
const SYSTEM: [&str; 8] = [
    "@eadir",
    "#recycle",
    "#snapshot",
    "__macosx",
    "__pycache__",
    "$recycle.bin",
    "system volume information",
    "lost+found",
];

/// A regular file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    /// The path below the root.
    pub path: PathBuf,
    pub bytes: u64,
    /// Time of the last change, in nanoseconds since 1970.
    pub modified_ns: u64,
}

impl Entry {
    pub fn new(path: PathBuf, metadata: &Metadata) -> Self {
        let modified = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let modified_ns = modified.map_or(0, |since| since.as_nanos() as u64);
        Self { path, bytes: metadata.len(), modified_ns }
    }
}

/// An entry of a folder.
pub(super) struct Child {
    pub path: PathBuf,
    /// The metadata, behind links.
    pub metadata: Metadata,
    pub is_link: bool,
}

/// The entries of a folder, sorted. Hidden files, folders of systems, and entries that are neither
/// file nor folder are left out, with a notice.
///
/// # Errors
/// Where the folder or an entry cannot be read and may not be skipped.
pub(super) fn children(folder: &Path, notices: &mut Notices) -> Result<Vec<Child>> {
    let listed = fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let mut listed = match listed {
        Ok(entries) => entries.into_iter().map(|entry| entry.path()).collect::<Vec<_>>(),
        Err(error) => {
            notices.skip_for(Error::io("read", folder)(error))?;
            Vec::new()
        }
    };
    listed.sort();
    let mut all = Vec::new();
    for path in listed {
        let name = path.file_name().unwrap_or_default();
        if name.as_encoded_bytes().starts_with(b".") {
            notices.add(NoticeKind::Ignored, &path, "hidden: the name begins with a dot");
            continue;
        }
        let is_link = path.is_symlink();
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() && is_system(name) => {
                notices.add(NoticeKind::Ignored, &path, "a folder of the system, not of images");
            }
            Ok(metadata) if metadata.is_dir() || metadata.is_file() => {
                all.push(Child { path, metadata, is_link });
            }
            Ok(_) => notices.skip(&path, "no regular file")?,
            Err(_) if is_link => notices.skip(&path, "a link that leads nowhere")?,
            Err(error) => notices.skip_for(Error::io("read", path)(error))?,
        }
    }
    Ok(all)
}

fn is_system(name: &OsStr) -> bool {
    SYSTEM.contains(&&*name.to_string_lossy().to_lowercase())
}

/// Whether a file is an image of a supported format, by its name or else by its content.
///
/// # Errors
/// Where it is an image of another format, cannot be read or is too large, and may not be skipped.
pub(super) fn is_image(path: &Path, bytes: u64, notices: &mut Notices) -> Result<bool> {
    let end = path.extension().map(|end| end.to_string_lossy().to_lowercase());
    let ends = |known: &[&str]| end.as_deref().is_some_and(|end| known.contains(&end));
    if !ends(&ENDS) {
        match look(path) {
            Ok(Some(format)) if is_read(format) => {}
            Ok(found) if found.is_some() || ends(&OTHER) => {
                notices.skip(path, format!("only {FORMATS} are read"))?;
                return Ok(false);
            }
            Ok(_) => {
                notices.add(NoticeKind::Ignored, path, "no image");
                return Ok(false);
            }
            Err(error) => {
                notices.skip_for(Error::io("read", path)(error))?;
                return Ok(false);
            }
        }
    }
    if bytes > LARGEST {
        notices.skip(path, format!("above {} MiB", LARGEST >> 20))?;
    }
    Ok(bytes <= LARGEST)
}

/// The format by the first bytes of a file.
fn look(path: &Path) -> std::io::Result<Option<ImageFormat>> {
    let mut start = Vec::new();
    File::open(path)?.take(32).read_to_end(&mut start)?;
    let format = image::guess_format(&start).ok();
    // Two letters may begin a text too: the size of the second header must be a possible one.
    let is_bitmap = |start: &[u8]| start.len() > 17 && matches!(start[14..18], [12..=124, 0, 0, 0]);
    Ok(format.filter(|&format| format != ImageFormat::Bmp || is_bitmap(&start)))
}

/// The identity that two names of the same file or folder share.
#[cfg(unix)]
type Identity = (u64, u64);
#[cfg(not(unix))]
type Identity = PathBuf;

#[cfg(unix)]
fn identity(_path: &Path, metadata: &Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
fn identity(path: &Path, _metadata: &Metadata) -> Identity {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}

/// A file that was found, in the folder of this number.
struct Met {
    start: usize,
    identity: Identity,
    is_link: bool,
    entry: Entry,
}

/// The images in some folders and in all folders within, one list for each folder, in the order of
/// their paths.
///
/// A file or folder that is found twice is taken once, by a name that is not a link where there is
/// one, else by the first name. A link to a folder that contains the root is not followed.
///
/// # Errors
/// Where a file or folder cannot be read and may not be skipped.
pub(super) fn images(
    root: &Path,
    starts: &[PathBuf],
    notices: &mut Notices,
) -> Result<Vec<Vec<Entry>>> {
    let met = walk(root, starts, notices)?;
    let mut taken: HashMap<Identity, usize> = HashMap::new();
    let mut lists = vec![Vec::new(); starts.len()];
    let (links, files): (Vec<Met>, Vec<Met>) = met.into_iter().partition(|met| met.is_link);
    for Met { start, identity, entry, .. } in files.into_iter().chain(links) {
        match taken.entry(identity) {
            Place::Vacant(place) => {
                place.insert(start);
                lists[start].push(entry);
            }
            Place::Occupied(place) => {
                let other = starts[*place.get()].display();
                let reason = format!("the same file as one that is counted in {other}");
                notices.add(NoticeKind::Ignored, &entry.path, reason);
            }
        }
    }
    lists.iter_mut().for_each(|list: &mut Vec<Entry>| list.sort());
    Ok(lists)
}

/// Every name of an image, and every folder once: folders behind links come last.
fn walk(root: &Path, starts: &[PathBuf], notices: &mut Notices) -> Result<Vec<Met>> {
    // A link to the root or above would lead to all images again.
    let whole = root.canonicalize().map_err(Error::io("read", root))?;
    let known = |path: &Path| Some(identity(path, &fs::metadata(path).ok()?));
    let mut seen: HashSet<Identity> = whole.ancestors().filter_map(known).collect();
    // The folder that contains the first folders, such as `train`.
    seen.extend(starts.iter().filter_map(|start| known(root.join(start).parent()?)));
    let (mut folders, mut links) = (VecDeque::new(), VecDeque::new());
    for (number, start) in starts.iter().enumerate() {
        let path = root.join(start);
        let place = if path.is_symlink() { &mut links } else { &mut folders };
        place.push_back((number, path));
    }
    let mut met = Vec::new();
    while let Some((start, folder)) = folders.pop_front().or_else(|| links.pop_front()) {
        let new = match fs::metadata(&folder) {
            Ok(metadata) => seen.insert(identity(&folder, &metadata)),
            Err(error) => {
                notices.skip_for(Error::io("read", &folder)(error))?;
                continue;
            }
        };
        if !new {
            notices.add(NoticeKind::Ignored, &folder, "a folder that is read under another name");
            continue;
        }
        for Child { path, metadata, is_link } in children(&folder, notices)? {
            if metadata.is_dir() {
                let place = if is_link { &mut links } else { &mut folders };
                place.push_back((start, path));
            } else if is_image(&path, metadata.len(), notices)? {
                let identity = identity(&path, &metadata);
                let below = path.strip_prefix(root).unwrap_or(&path).to_path_buf();
                let entry = Entry::new(below, &metadata);
                met.push(Met { start, identity, is_link, entry });
            }
        }
    }
    Ok(met)
}
