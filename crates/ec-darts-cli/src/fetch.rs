//! `ec-darts data fetch`: archives from where their authors publish them.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};

use crate::print;

/// Names that can be fetched.
pub const NAMES: [&str; 4] = ["cifar10", "cifar100", "fashion-mnist", "tiny-imagenet"];

/// One file of a set.
struct Remote {
    name: &'static str,
    /// In hexadecimal digits.
    sha256: &'static str,
}

/// A set as it is published.
struct Archive {
    /// Address of the folder with the files.
    from: &'static str,
    files: &'static [Remote],
    /// What `--data` takes afterwards: the folder in the archive, or that of the files.
    folder: &'static str,
}

/// The published archives.
///
/// # Source
/// The sets' own pages; checksums as TensorFlow Datasets, TorchVision for Ruby and the readers of
/// Fashion-MNIST give them.
fn archive(name: &str) -> Option<Archive> {
    Some(match name {
        "cifar10" => Archive {
            from: "https://www.cs.toronto.edu/~kriz",
            files: &[Remote {
                name: "cifar-10-binary.tar.gz",
                sha256: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            }],
            folder: "cifar-10-batches-bin",
        },
        "cifar100" => Archive {
            from: "https://www.cs.toronto.edu/~kriz",
            files: &[Remote {
                name: "cifar-100-binary.tar.gz",
                sha256: "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
            }],
            folder: "cifar-100-binary",
        },
        "fashion-mnist" => Archive {
            from: "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
            files: &[
                Remote {
                    name: "train-images-idx3-ubyte.gz",
                    sha256: "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                },
                Remote {
                    name: "train-labels-idx1-ubyte.gz",
                    sha256: "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                },
                Remote {
                    name: "t10k-images-idx3-ubyte.gz",
                    sha256: "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                },
                Remote {
                    name: "t10k-labels-idx1-ubyte.gz",
                    sha256: "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
                },
            ],
            folder: "fashion-mnist",
        },
        "tiny-imagenet" => Archive {
            from: "http://cs231n.stanford.edu",
            files: &[Remote {
                name: "tiny-imagenet-200.zip",
                sha256: "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821",
            }],
            folder: "tiny-imagenet-200",
        },
        _ => return None,
    })
}

pub fn run(name: &str, out: &Path, mirror: Option<&str>) -> anyhow::Result<()> {
    let archive = archive(name).context("a name that can be fetched")?;
    let folder = fetch(&archive, out, mirror)?;
    print(&format!("{}\n", folder.display()))
}

/// Fetches what is not there yet; returns the folder for `--data`.
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
        if !path.exists() {
            download(&format!("{from}/{}", file.name), &path, file.sha256)?;
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

/// Goes on with `PATH.part` where there is one; the file has its name once its checksum is right.
fn download(url: &str, path: &Path, sha256: &str) -> anyhow::Result<()> {
    let part = PathBuf::from(format!("{}.part", path.display()));
    let have = fs::metadata(&part).map_or(0, |found| found.len());
    let mut request = ureq::get(url);
    if have > 0 {
        request = request.header("Range", format!("bytes={have}-"));
    }
    let answer = request.config().http_status_as_error(false).build().call();
    let mut answer = answer.with_context(|| format!("cannot fetch {url}"))?;
    let status = answer.status().as_u16();
    // 416: all is there already, or more than there should be; the checksum tells.
    if status != 416 {
        let goes_on = status == 206;
        if status != 200 && !goes_on {
            bail!("cannot fetch {url}: the server answers {status}");
        }
        let mut options = File::options();
        options.create(true).write(true).append(goes_on).truncate(!goes_on);
        let write = || format!("cannot write {}", part.display());
        let mut file = options.open(&part).with_context(write)?;
        let begun = if goes_on { have } else { 0 };
        let length = answer.body().content_length().map(|rest| begun + rest);
        let bar = bar(length, begun);
        let mut body = bar.wrap_read(answer.body_mut().as_reader());
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = body.read(&mut buffer).with_context(|| {
                format!("{url} was interrupted; the same command goes on where it stopped")
            })?;
            if count == 0 {
                break;
            }
            file.write_all(&buffer[..count]).with_context(write)?;
        }
        file.sync_all().with_context(write)?;
        bar.finish_and_clear();
    }
    let found = digest(&part)?;
    if found != sha256 {
        fs::remove_file(&part).with_context(|| format!("cannot remove {}", part.display()))?;
        bail!("{url} has the SHA-256 {found}, expected {sha256}; what was fetched is removed");
    }
    fs::rename(&part, path).with_context(|| format!("cannot rename {}", part.display()))
}

fn bar(length: Option<u64>, begun: u64) -> ProgressBar {
    let bar = match length {
        Some(length) => ProgressBar::new(length),
        None => ProgressBar::no_length(),
    };
    let style = "{wide_bar} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left";
    bar.set_style(ProgressStyle::with_template(style).expect("a valid template"));
    bar.with_position(begun)
}

fn digest(path: &Path) -> anyhow::Result<String> {
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

/// Unpacks beside the target, which appears when it is whole.
fn unpack(path: &Path, out: &Path, folder: &str) -> anyhow::Result<()> {
    let context = || format!("cannot unpack {}", path.display());
    let fresh = out.join(format!("{folder}.unpacking"));
    if fresh.exists() {
        fs::remove_dir_all(&fresh).with_context(context)?;
    }
    let file = File::open(path).with_context(context)?;
    if path.extension().is_some_and(|end| end == "zip") {
        unzip(file, &fresh).with_context(context)?;
    } else {
        let plain = flate2::read::GzDecoder::new(io::BufReader::new(file));
        tar::Archive::new(plain).unpack(&fresh).with_context(context)?;
    }
    let whole = fresh.join(folder);
    if !whole.is_dir() {
        bail!("{}: it has no folder {folder}", path.display());
    }
    fs::rename(whole, out.join(folder)).with_context(context)?;
    fs::remove_dir_all(&fresh).with_context(context)
}

/// Files of a zip archive, stored or deflated, into a folder; none outside it.
fn unzip(file: File, out: &Path) -> anyhow::Result<()> {
    let mut buffer = vec![0; rawzip::RECOMMENDED_BUFFER_SIZE];
    let archive = rawzip::ZipArchive::from_file(file, &mut buffer)?;
    let mut entries = archive.entries(&mut buffer);
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
            io::copy(&mut found.verifying_reader(found.reader()), &mut file)?;
        } else if method == rawzip::CompressionMethod::DEFLATE {
            let plain = flate2::read::DeflateDecoder::new(found.reader());
            io::copy(&mut found.verifying_reader(plain), &mut file)?;
        } else {
            bail!("{name} is packed by a method other than deflate");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A server of one file under any name. It breaks its first answers off after so many bytes, and
    /// notes the ranges that are asked for.
    struct Server {
        url: String,
        asked: Arc<Mutex<Vec<Option<u64>>>>,
    }

    impl Server {
        fn new(file: Vec<u8>, ranges: bool, mut breaks: Vec<usize>) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let url = format!("http://{}", listener.local_addr().expect("bound"));
            let asked = Arc::new(Mutex::new(Vec::new()));
            let notes = asked.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let mut stream = stream.expect("a connection");
                    let lines = BufReader::new(stream.try_clone().expect("a handle")).lines();
                    let head: Vec<String> = lines
                        .map(|line| line.expect("text"))
                        .take_while(|line| !line.is_empty())
                        .collect();
                    let from: Option<u64> = head.iter().find_map(|line| {
                        let lower = line.to_lowercase();
                        let range = lower.strip_prefix("range: bytes=")?;
                        range.trim_end_matches('-').parse().ok()
                    });
                    notes.lock().expect("notes").push(from);
                    let from = from.filter(|_| ranges).map(|from| from as usize);
                    let start = from.unwrap_or(0);
                    let status = match from {
                        Some(from) if from >= file.len() => "416 Range Not Satisfiable",
                        Some(_) => "206 Partial Content",
                        None => "200 OK",
                    };
                    let body = &file[start.min(file.len())..];
                    let end = if breaks.is_empty() { body.len() } else { breaks.remove(0) };
                    let head = format!(
                        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                        body.len()
                    );
                    // The client may be gone.
                    let _ = stream.write_all(head.as_bytes());
                    let _ = stream.write_all(&body[..end.min(body.len())]);
                }
            });
            Self { url, asked }
        }

        fn asked(&self) -> Vec<Option<u64>> {
            self.asked.lock().expect("notes").clone()
        }
    }

    fn sha256(bytes: &[u8]) -> String {
        Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// A set of one file, which lives as long as the test program.
    fn one_file(name: &'static str, sha256: String) -> Archive {
        let remote = Remote { name, sha256: sha256.leak() };
        Archive { from: "http://nowhere.invalid", files: vec![remote].leak(), folder: "set" }
    }

    #[test]
    fn an_interrupted_file_goes_on_where_it_stopped() {
        let bytes: Vec<u8> = (0..100_000_u32).map(|value| (value % 251) as u8).collect();
        let archive = one_file("a.gz", sha256(&bytes));
        let out = tempfile::tempdir().expect("a folder");
        let server = Server::new(bytes.clone(), true, vec![30_000, 20_000]);
        for have in [30_000, 50_000] {
            let error = fetch(&archive, out.path(), Some(&server.url)).expect_err("interrupted");
            assert!(format!("{error:#}").contains("goes on where it stopped"), "{error:#}");
            let part = fs::metadata(out.path().join("set/a.gz.part")).expect("a part");
            assert_eq!(part.len(), have);
        }
        let folder = fetch(&archive, out.path(), Some(&server.url)).expect("the rest");
        assert_eq!(fs::read(folder.join("a.gz")).expect("whole"), bytes);
        assert_eq!(server.asked(), [None, Some(30_000), Some(50_000)]);
        fetch(&archive, out.path(), Some(&server.url)).expect("there already");
        assert_eq!(server.asked().len(), 3, "nothing is fetched twice");
    }

    #[test]
    fn a_server_without_ranges_begins_anew() {
        let bytes = vec![7; 5000];
        let archive = one_file("a.gz", sha256(&bytes));
        let out = tempfile::tempdir().expect("a folder");
        let server = Server::new(bytes.clone(), false, vec![1000]);
        fetch(&archive, out.path(), Some(&server.url)).expect_err("interrupted");
        let folder = fetch(&archive, out.path(), Some(&server.url)).expect("whole");
        assert_eq!(fs::read(folder.join("a.gz")).expect("whole"), bytes);
    }

    #[test]
    fn a_whole_part_needs_nothing_more() {
        let bytes = vec![7; 5000];
        let archive = one_file("a.gz", sha256(&bytes));
        let out = tempfile::tempdir().expect("a folder");
        fs::create_dir(out.path().join("set")).expect("made");
        fs::write(out.path().join("set/a.gz.part"), &bytes).expect("written");
        let server = Server::new(bytes, true, Vec::new());
        let folder = fetch(&archive, out.path(), Some(&server.url)).expect("whole");
        assert!(folder.join("a.gz").exists() && !folder.join("a.gz.part").exists());
    }

    #[test]
    fn a_wrong_checksum_leaves_nothing() {
        let archive = one_file("a.gz", sha256(b"what it should be"));
        let out = tempfile::tempdir().expect("a folder");
        let server = Server::new(b"something else".to_vec(), true, Vec::new());
        let error = fetch(&archive, out.path(), Some(&server.url)).expect_err("another file");
        assert!(error.to_string().contains("expected"), "{error}");
        assert_eq!(fs::read_dir(out.path().join("set")).expect("made").count(), 0);
    }

    #[test]
    fn nobody_there_is_told() {
        let out = tempfile::tempdir().expect("a folder");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        drop(listener);
        let archive = one_file("a.gz", String::new());
        let error = fetch(&archive, out.path(), Some(&url)).expect_err("nobody");
        assert!(format!("{error:#}").contains(&format!("cannot fetch {url}/a.gz")), "{error:#}");
    }

    fn check_unpacked(name: &'static str, bytes: Vec<u8>) {
        let archive = one_file(name, sha256(&bytes));
        let out = tempfile::tempdir().expect("a folder");
        // What an unpacking that was killed leaves behind.
        fs::create_dir_all(out.path().join("set.unpacking/old")).expect("made");
        let server = Server::new(bytes, true, Vec::new());
        let folder = fetch(&archive, out.path(), Some(&server.url)).expect("unpacked");
        assert_eq!(fs::read(folder.join("deep/file.txt")).expect("unpacked"), b"content");
        assert!(!out.path().join("set.unpacking").exists());
        fetch(&archive, out.path(), Some(&server.url)).expect("there already");
        assert_eq!(server.asked().len(), 1);
    }

    #[test]
    fn archives_are_unpacked() {
        let encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut tar = tar::Builder::new(encoder);
        let mut header = tar::Header::new_gnu();
        header.set_size(7);
        header.set_mode(0o644);
        tar.append_data(&mut header, "set/deep/file.txt", &b"content"[..]).expect("in memory");
        let bytes = tar.into_inner().and_then(|gz| gz.finish()).expect("in memory");
        check_unpacked("a.tar.gz", bytes);

        let mut bytes = Vec::new();
        let mut zip = rawzip::ZipArchiveWriter::new(&mut bytes);
        for (name, packed) in [("set/deep/file.txt", true), ("set/plain.txt", false)] {
            let file = zip.new_file(name);
            let deflate = rawzip::CompressionMethod::DEFLATE;
            let file = if packed { file.compression_method(deflate) } else { file };
            let (mut entry, config) = file.start().expect("in memory");
            let descriptor = if packed {
                let level = flate2::Compression::fast();
                let encoder = flate2::write::DeflateEncoder::new(&mut entry, level);
                let mut writer = config.wrap(encoder);
                writer.write_all(b"content").expect("in memory");
                let (encoder, descriptor) = writer.finish().expect("in memory");
                encoder.finish().expect("in memory");
                descriptor
            } else {
                let mut writer = config.wrap(&mut entry);
                writer.write_all(b"content").expect("in memory");
                writer.finish().expect("in memory").1
            };
            entry.finish(descriptor).expect("in memory");
        }
        zip.finish().expect("in memory");
        check_unpacked("a.zip", bytes);
    }

    #[test]
    fn every_name_has_an_archive() {
        for name in NAMES {
            let archive = archive(name).expect(name);
            assert!(archive.files.iter().all(|file| file.sha256.len() == 64), "{name}");
        }
    }
}
