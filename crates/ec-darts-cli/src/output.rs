//! Files that a command was asked to write.

use std::path::Path;

use anyhow::Context;
use ec_darts::{Error, files};

/// Refuses an output file that is one of the files read, also through links.
///
/// # Errors
/// [`Error::ConfigSyntax`], naming the output file.
pub fn spare(out: &Path, read: impl IntoIterator<Item = impl AsRef<Path>>) -> ec_darts::Result<()> {
    // A file that does not exist yet is none of those.
    let Ok(there) = out.canonicalize() else { return Ok(()) };
    let is_there = |path: &Path| path.canonicalize().is_ok_and(|path| path == there);
    if !read.into_iter().any(|path| is_there(path.as_ref())) {
        return Ok(());
    }
    Err(Error::ConfigSyntax {
        origin: out.display().to_string(),
        reason: "this command reads the file and does not write over it; name another file".into(),
    })
}

/// Writes a file completely or not at all; missing folders above it are created.
pub fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create the folder {}", folder.display()))?;
    }
    Ok(files::write(path, bytes)?)
}
