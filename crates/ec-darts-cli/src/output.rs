//! Files that a command was asked to write.

use std::path::Path;

use anyhow::Context;
use ec_darts::files;

/// Writes a file completely or not at all; missing folders above it are created.
pub fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create the folder {}", folder.display()))?;
    }
    Ok(files::write(path, bytes)?)
}
