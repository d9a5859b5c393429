//! `ec-darts data fetch`: archives from the addresses where their authors publish them.

mod archives;
mod download;
mod unpack;

#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

pub use archives::NAMES;
use archives::{Archive, archive};
use download::{digest, download};
use unpack::unpack;

use crate::print;

pub fn run(name: &str, out: &Path, mirror: Option<&str>) -> anyhow::Result<()> {
    let archive = archive(name).context("a name that can be fetched")?;
    let folder = fetch(&archive, out, mirror)?;
    print(&format!("{}\n", folder.display()))
}

/// Fetches the files that are missing; returns the folder for `--data`.
fn fetch(archive: &Archive, out: &Path, mirror: Option<&str>) -> anyhow::Result<PathBuf> {
    let folder = out.join(archive.folder);
    let from = mirror.unwrap_or(archive.from).trim_end_matches('/');
    let single = archive.files.iter().all(|file| !is_archive(file.name));
    if folder.exists() && !single {
        return Ok(folder);
    }
    let target = if single { &folder } else { out };
    fs::create_dir_all(target).with_context(|| format!("cannot create {}", target.display()))?;
    for file in archive.files {
        let path = target.join(file.name);
        if path.exists() {
            let found = digest(&path)?;
            ensure!(
                found == file.sha256,
                "{} is there already with the SHA-256 {found}, expected {}; remove it to fetch it anew",
                path.display(),
                file.sha256
            );
        } else {
            download(&format!("{from}/{}", file.name), &path, file)?;
        }
        if is_archive(file.name) {
            unpack(&path, out, archive.folder)?;
        }
    }
    Ok(folder)
}

fn is_archive(name: &str) -> bool {
    name.ends_with(".tar.gz") || name.ends_with(".zip")
}
