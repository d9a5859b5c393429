//! The tests run their own server.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

use super::archives::Remote;
use super::*;

/// A server of one file under any name. Its first answers break off after the numbers of bytes in
/// `breaks`; `asked` records the requested ranges.
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

/// A set of one file that lives as long as the test program.
fn one_file(name: &'static str, sha256: String) -> Archive {
    let remote = Remote { name, bytes: 1 << 20, sha256: sha256.leak() };
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
    // The files that a killed extraction leaves behind.
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
    check_unpacked("a.tar.gz", tar_of(b"content"));

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

fn tar_of(content: &[u8]) -> Vec<u8> {
    let encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(encoder);
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "set/deep/file.txt", content).expect("in memory");
    tar.into_inner().and_then(|gz| gz.finish()).expect("in memory")
}

#[test]
fn an_archive_that_unpacks_to_too_much_is_refused() {
    let bytes = tar_of(&vec![0; 2 << 20]);
    let archive = one_file("a.tar.gz", sha256(&bytes));
    let out = tempfile::tempdir().expect("a folder");
    let server = Server::new(bytes, true, Vec::new());
    let error = fetch(&archive, out.path(), Some(&server.url)).expect_err("too much");
    assert!(format!("{error:#}").contains("unpacks to more than 1 MiB"), "{error:#}");
    assert!(!out.path().join("set").exists());
}

#[test]
fn a_file_that_lies_there_is_checked() {
    let archive = one_file("a.gz", sha256(b"what it should be"));
    let out = tempfile::tempdir().expect("a folder");
    fs::create_dir(out.path().join("set")).expect("made");
    fs::write(out.path().join("set/a.gz"), b"something else").expect("written");
    let error = fetch(&archive, out.path(), None).expect_err("another file");
    let message = error.to_string();
    assert!(message.contains("a.gz is there already with the SHA-256"), "{message}");
    fs::write(out.path().join("set/a.gz"), b"what it should be").expect("written");
    fetch(&archive, out.path(), None).expect("nothing to fetch");
}

#[test]
fn a_server_that_sends_too_much_is_left() {
    let bytes = vec![7; (1 << 20) + 1];
    let archive = one_file("a.gz", sha256(&bytes));
    let out = tempfile::tempdir().expect("a folder");
    let server = Server::new(bytes, true, Vec::new());
    let error = fetch(&archive, out.path(), Some(&server.url)).expect_err("too long");
    assert!(error.to_string().contains("more than the expected 1048576 bytes"), "{error}");
    assert_eq!(fs::read_dir(out.path().join("set")).expect("made").count(), 0);
}

#[test]
fn a_server_that_says_nothing_is_left() {
    let archive = one_file("a.gz", String::new());
    let out = tempfile::tempdir().expect("a folder");
    for head in ["", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n12345"] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            stream.write_all(head.as_bytes()).expect("sent");
            // The connection stays open and silent for longer than the client waits.
            std::thread::sleep(std::time::Duration::from_secs(60));
        });
        let start = std::time::Instant::now();
        let error = fetch(&archive, out.path(), Some(&url)).expect_err("silence");
        assert!(format!("{error:#}").contains("timeout"), "{error:#}");
        assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    }
}

#[test]
fn every_name_has_an_archive() {
    for name in NAMES {
        let archive = archive(name).expect(name);
        assert!(archive.files.iter().all(|file| file.sha256.len() == 64), "{name}");
    }
}
