//! A file from a server. The server may break off, send nothing or send too much; the checksum
//! decides.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};
use ureq::Agent;

use super::archives::Remote;

/// The time after which a silent server is given up.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 30 });

/// Continues `PATH.part` where it exists; the file gets its name once its checksum is right.
pub(super) fn download(url: &str, path: &Path, remote: &Remote) -> anyhow::Result<()> {
    let part = PathBuf::from(format!("{}.part", path.display()));
    let have = fs::metadata(&part).map_or(0, |found| found.len());
    // A part as long as the file, or longer, is not continued: the checksum decides about it.
    if have < remote.bytes {
        receive(url, &part, have, remote.bytes)?;
    }
    let found = digest(&part)?;
    if found != remote.sha256 {
        remove(&part)?;
        bail!(
            "{url} has the SHA-256 {found}, expected {}; the fetched file is removed",
            remote.sha256
        );
    }
    fs::rename(&part, path).with_context(|| format!("cannot rename {}", part.display()))
}

/// Adds the rest of a file from the server to a part of `have` bytes; `whole` bytes at most.
fn receive(url: &str, part: &Path, have: u64, whole: u64) -> anyhow::Result<()> {
    let limits = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_resolve(Some(PATIENCE))
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .timeout_per_read(Some(PATIENCE));
    let mut request = Agent::new_with_config(limits.build()).get(url);
    if have > 0 {
        request = request.header("Range", format!("bytes={have}-"));
    }
    let mut answer = request.call().with_context(|| format!("cannot fetch {url}"))?;
    let status = answer.status().as_u16();
    let goes_on = status == 206;
    // Status 416: the server has no more bytes than the part; the checksum decides.
    if status == 416 {
        return Ok(());
    }
    ensure!(status == 200 || goes_on, "cannot fetch {url}: the server answers {status}");
    let write = || format!("cannot write {}", part.display());
    let mut options = File::options();
    options.create(true).write(true).append(goes_on).truncate(!goes_on);
    let mut file = options.open(part).with_context(write)?;
    let mut done = if goes_on { have } else { 0 };
    let bar = bar(whole, done);
    let mut body = bar.wrap_read(answer.body_mut().as_reader());
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = body.read(&mut buffer).with_context(|| {
            format!("{url} was interrupted; the same command goes on where it stopped")
        })?;
        if count == 0 {
            break;
        }
        done += count as u64;
        if done > whole {
            remove(part)?;
            bail!("{url} sends more than the expected {whole} bytes; the fetched part is removed");
        }
        file.write_all(&buffer[..count]).with_context(write)?;
    }
    file.sync_all().with_context(write)?;
    bar.finish_and_clear();
    Ok(())
}

fn remove(part: &Path) -> anyhow::Result<()> {
    fs::remove_file(part).with_context(|| format!("cannot remove {}", part.display()))
}

fn bar(length: u64, begun: u64) -> ProgressBar {
    let style = "{wide_bar} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left";
    let bar = ProgressBar::new(length);
    bar.set_style(ProgressStyle::with_template(style).expect("a valid template"));
    bar.with_position(begun)
}

/// SHA-256 of a file.
pub(super) fn digest(path: &Path) -> anyhow::Result<String> {
    let read = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(read)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).with_context(read)? {
            0 => break,
            count => hash.update(&buffer[..count]),
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
