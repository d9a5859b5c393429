//! Digests of the contents of files, computed once and stored.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::decode::read_file;
use super::walk::Entry;
use crate::files::write;

/// SHA-256 of a file's content; none where it cannot be read.
pub(super) type FileDigest = Option<[u8; 32]>;

/// First line of a file of digests; a file of another version is ignored and replaced.
const HEAD: &str = "ec-darts digests 1";
/// A file that changed less than this before it was read may change again without a new time.
const SETTLED: Duration = Duration::from_secs(2);

pub(super) fn digest_of(bytes: &[u8]) -> FileDigest {
    Some(Sha256::digest(bytes).into())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The user's folder for such files: `ec-darts` in `$XDG_CACHE_HOME`, `~/.cache`, or the cache
/// folder of the system; none where there is no home.
pub(super) fn user_folder() -> Option<PathBuf> {
    dirs::cache_dir().map(|folder| folder.join("ec-darts"))
}

/// Digests of all these files below `root`. A digest that `folder` stores for the same path, size
/// and time of change is reused; the file is not read. New digests are added there.
///
/// The stored digests only save time: where they cannot be read or written, or are damaged, every
/// file is read.
pub(super) fn digests(root: &Path, entries: &[Entry], folder: Option<&Path>) -> Vec<FileDigest> {
    let kept = folder.and_then(|folder| Some(kept_in(folder, &root.canonicalize().ok()?)));
    let mut known = kept.as_deref().and_then(read).unwrap_or_default();
    let now = SystemTime::now();
    let found: Vec<FileDigest> = entries
        .par_iter()
        .map(|entry| match line_of(entry).and_then(|line| known.get(&line)) {
            Some(digest) => Some(*digest),
            None => digest_of(&read_file(&root.join(&entry.path)).ok()?),
        })
        .collect();
    let settled = |entry: &Entry| {
        let changed = UNIX_EPOCH + Duration::from_nanos(entry.modified_ns);
        changed + SETTLED < now
    };
    let before = known.len();
    for (entry, digest) in entries.iter().zip(&found) {
        if let (Some(line), Some(digest), true) = (line_of(entry), digest, settled(entry)) {
            known.insert(line, *digest);
        }
    }
    if let (Some(path), true) = (kept, known.len() > before) {
        keep(&path, &known);
    }
    found
}

fn kept_in(folder: &Path, root: &Path) -> PathBuf {
    let name = hex(&Sha256::digest(root.as_os_str().as_encoded_bytes())[..16]);
    folder.join("digests").join(format!("{name}.txt"))
}

/// The line that identifies an unchanged file; none for a name that does not fit into a line of
/// text.
fn line_of(entry: &Entry) -> Option<String> {
    let name = entry.path.to_str().filter(|name| !name.contains('\n'))?;
    Some(format!("{} {} {name}", entry.bytes, entry.modified_ns))
}

/// Reads lines `DIGEST BYTES TIME PATH`, one per file; none where the file is not complete.
fn read(path: &Path) -> Option<HashMap<String, [u8; 32]>> {
    let text = fs::read_to_string(path).ok()?;
    let (head, lines) = text.split_once('\n')?;
    if head != format!("{HEAD} {}", hex(&Sha256::digest(lines))) {
        return None;
    }
    let byte = |digits: &str, at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    let entry = |line: &str| {
        let (digits, name) = line.split_once(' ')?;
        let mut digest = [0; 32];
        for (place, value) in digest.iter_mut().enumerate() {
            *value = byte(digits, 2 * place)?;
        }
        Some((name.to_string(), digest))
    };
    lines.lines().map(entry).collect()
}

fn keep(path: &Path, known: &HashMap<String, [u8; 32]>) {
    let mut lines: Vec<String> =
        known.iter().map(|(name, digest)| format!("{} {name}\n", hex(digest))).collect();
    lines.sort();
    let lines = lines.concat();
    let text = format!("{HEAD} {}\n{lines}", hex(&Sha256::digest(&lines)));
    // A cache that cannot be written only costs time at the next start.
    let _ = path.parent().map(fs::create_dir_all).map(|_| write(path, text.as_bytes()));
}
