//! Archives: extracted whole or not at all, and never above a limit of bytes.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context, bail};

/// The limit of extracted bytes per archive; the largest known archive has 400 MiB.
const MOST: u64 = if cfg!(test) { 1 << 20 } else { 1 << 30 };

/// Extracts beside the target folder, which appears only when it is complete.
pub(super) fn unpack(path: &Path, out: &Path, folder: &str) -> anyhow::Result<()> {
    let context = || format!("cannot unpack {}", path.display());
    let fresh = out.join(format!("{folder}.unpacking"));
    if fresh.exists() {
        fs::remove_dir_all(&fresh).with_context(context)?;
    }
    let file = File::open(path).with_context(context)?;
    if path.extension().is_some_and(|end| end == "zip") {
        unzip(file, &fresh).with_context(context)?;
    } else {
        let plain = Bounded::new(flate2::read::GzDecoder::new(io::BufReader::new(file)), MOST);
        tar::Archive::new(plain).unpack(&fresh).with_context(context)?;
    }
    let whole = fresh.join(folder);
    if !whole.is_dir() {
        bail!("{}: it has no folder {folder}", path.display());
    }
    fs::rename(whole, out.join(folder)).with_context(context)?;
    fs::remove_dir_all(&fresh).with_context(context)
}

/// Extracts the files of a zip archive, stored or deflated, into a folder, and none outside it.
fn unzip(file: File, out: &Path) -> anyhow::Result<()> {
    let mut buffer = vec![0; rawzip::RECOMMENDED_BUFFER_SIZE];
    let archive = rawzip::ZipArchive::from_file(file, &mut buffer)?;
    let mut entries = archive.entries(&mut buffer);
    let mut left = MOST;
    while let Some(entry) = entries.next_entry()? {
        let name = entry.file_path().try_normalize()?.as_ref().to_string();
        let path = out.join(&name);
        if entry.is_dir() {
            fs::create_dir_all(&path)?;
            continue;
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let method = entry.compression_method();
        let found = archive.get_entry(entry.wayfinder())?;
        let mut file = File::create(&path)?;
        if method == rawzip::CompressionMethod::STORE {
            let plain = found.verifying_reader(found.reader());
            left -= io::copy(&mut Bounded::new(plain, left), &mut file)?;
        } else if method == rawzip::CompressionMethod::DEFLATE {
            let plain = flate2::read::DeflateDecoder::new(found.reader());
            let plain = found.verifying_reader(plain);
            left -= io::copy(&mut Bounded::new(plain, left), &mut file)?;
        } else {
            bail!("{name} is packed by a method other than deflate");
        }
    }
    Ok(())
}

/// A reader that fails where its source gives more bytes than the limit.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R> Bounded<R> {
    fn new(inner: R, most: u64) -> Self {
        Self { inner, left: most }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            let reason = format!("it unpacks to more than {} MiB", MOST >> 20);
            io::Error::new(io::ErrorKind::FileTooLarge, reason)
        })?;
        Ok(count)
    }
}
