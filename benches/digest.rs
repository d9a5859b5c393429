//! Speed of hashing files for the digest of a set that is not decoded when it is loaded.
//!
//! ```text
//! cargo bench --bench digest
//! ```
//!
//! Writes 640 MiB of pictures into a temporary folder, which leaves them in the system's cache, and
//! hashes them without stored digests.

use std::fs;
use std::time::Instant;

use ec_darts::data::{self, DatasetKind, Source};

const IMAGES: usize = 6100;
/// Side of a picture, in pixels; its file is about as long as a photo of ImageNet.
const SIDE: u32 = 192;

/// A BMP with 24 bits per pixel, bottom row first.
fn bitmap(seed: u32) -> Vec<u8> {
    let pixels = 3 * SIDE * SIDE;
    let mut bytes = b"BM".to_vec();
    // Length of the file, a reserved field, offset of the pixels; length of the second header,
    // sides, planes and bits. The remaining fields say: not compressed, without a palette.
    for number in [54 + pixels, 0, 54, 40, SIDE, SIDE, 1 | 24 << 16, 0, pixels, 0, 0, 0, 0] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend((0..pixels).map(|at| (at.wrapping_mul(at ^ seed) >> 3) as u8));
    bytes
}

fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    for image in 0..IMAGES {
        let place = folder.path().join(if image % 5 == 0 { "test" } else { "train" });
        let place = place.join(if image % 2 == 0 { "even" } else { "odd" });
        fs::create_dir_all(&place)?;
        fs::write(place.join(format!("{image}.bmp")), bitmap(image as u32))?;
    }
    let mut source = Source::new(DatasetKind::Folder, folder.path());
    (source.image_size, source.digests) = (Some(64), None);
    let images = data::load(&source)?;
    let mebibytes = (images.train.bytes_to_digest() + images.test.bytes_to_digest()) >> 20;
    let start = Instant::now();
    images.digests();
    let seconds = start.elapsed().as_secs_f64();
    println!("{mebibytes} MiB in {seconds:.2} s: {:.0} MiB/s", mebibytes as f64 / seconds);
    Ok(())
}
