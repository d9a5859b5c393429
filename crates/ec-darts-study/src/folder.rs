//! The folder of a study: its trials, and the identity of their images.

use std::fs::{self, File};
use std::path::Path;

use ec_darts::data::DataDigests;
use ec_darts::files::write;
use ec_darts::{Error, Result};

use crate::trial::io;

/// A file in the folder of a study: digests of the images of all its trials.
const IMAGES: &str = "images.json";

/// Locks the shared files of all trials, after other processes have released them, until the lock
/// is dropped.
///
/// # Errors
/// [`Error::Io`] where the folder cannot be written or locked.
pub fn hold(folder: &Path) -> Result<File> {
    let path = folder.join("lock");
    let held = File::options().create(true).truncate(false).write(true).open(&path);
    let held = held.map_err(io("write", &path))?;
    held.lock().map_err(io("lock", &path))?;
    Ok(held)
}

/// Binds the folder of a study to these images; it is created where it does not exist.
///
/// # Errors
/// [`Error::Folder`] where its trials use other images; [`Error::Io`] where it cannot be written or
/// locked.
pub fn hold_images(folder: &Path, digests: &DataDigests) -> Result<()> {
    fs::create_dir_all(folder).map_err(io("create the folder", folder))?;
    let _held = hold(folder)?;
    let path = folder.join(IMAGES);
    if !path.exists() {
        let text = serde_json::to_vec_pretty(digests).expect("plain values");
        return write(&path, &text);
    }
    let text = fs::read(&path).map_err(io("read", &path))?;
    match serde_json::from_slice::<DataDigests>(&text) {
        Ok(there) if there == *digests => Ok(()),
        Ok(_) => Err(Error::Folder {
            path: folder.to_path_buf(),
            reason: "its trials are on other images than these: name the same folder of images, or another folder \
                     for the study"
                .into(),
        }),
        Err(error) => Err(Error::Folder { path, reason: format!("damaged: {error}; remove it") }),
    }
}
