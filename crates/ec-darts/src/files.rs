//! Files that are written completely or not at all.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Writes a sibling file, syncs it and renames it: readers see either the old content or the new
/// content.
///
/// # Errors
/// [`Error::Io`]; the old file is untouched and the sibling removed.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let written = File::create(&partial)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&partial, path))
        .and_then(|()| sync_folder(path));
    written.map_err(|source| {
        // If even this fails, there is no remedy.
        let _ = fs::remove_file(&partial);
        Error::io("write", path)(source)
    })
}

/// Syncs the folder, so that a rename survives a power cut; only Unix can and must do this.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    // A bare file name is in the current folder; its parent is the empty name.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}
