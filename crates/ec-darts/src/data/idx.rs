//! The IDX files of Fashion-MNIST, plain or gzipped.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::notice::Notices;
use super::{DatasetKind, ImageDataset, Source};
use crate::{Error, Result};

/// Largest number of pixel bytes in a file; Fashion-MNIST has 45 MiB.
const LARGEST: usize = 1 << 30;

/// Names of the classes, in the order of their labels.
///
/// # Source
/// Fashion-MNIST, README, "Labels".
const NAMES: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

/// Reads `{train,t10k}-{images-idx3,labels-idx1}-ubyte`, or the same names with `.gz`; grey becomes
/// RGB.
///
/// # Errors
/// [`Error::Data`] where a file is missing, is not an IDX file or has another length than its
/// header says; [`Error::Io`] where it cannot be read.
pub(super) fn load(source: &Source, notices: &mut Notices) -> Result<[ImageDataset; 2]> {
    let mut read = |part: &str| {
        let folder = &source.folder;
        let (path, sides, pixels) =
            read_idx::<3>(folder, &format!("{part}-images-idx3-ubyte"), notices)?;
        let [images, height, width] = sides;
        if height == 0 || width == 0 || images == 0 {
            let reason = format!("{images} images of {height}x{width} pixels");
            return Err(Error::Data { path, reason });
        }
        let (path, [count], labels) =
            read_idx::<1>(folder, &format!("{part}-labels-idx1-ubyte"), notices)?;
        let fail = |reason: String| Err(Error::Data { path, reason });
        if count != images {
            return fail(format!("{count} labels, but {images} images"));
        }
        let wrong = labels.iter().position(|&label| usize::from(label) >= NAMES.len());
        if let Some(record) = wrong {
            return fail(format!("label {record} is {}, allowed: 0 to 9", labels[record]));
        }
        let planes = pixels.chunks_exact(height * width);
        let rgb = planes.flat_map(|plane| plane.iter().chain(plane).chain(plane)).copied();
        let labels = labels.into_iter().map(u16::from).collect();
        let names = NAMES.map(String::from).to_vec();
        let known = DatasetKind::FashionMnist.normalization().expect("published");
        Ok(ImageDataset::in_memory([height, width], rgb.collect(), labels, names, known))
    };
    Ok([read("train")?, read("t10k")?])
}

/// Path, sides and bytes of a file with `D` dimensions.
fn read_idx<const D: usize>(
    folder: &Path,
    name: &str,
    notices: &mut Notices,
) -> Result<(PathBuf, [usize; D], Vec<u8>)> {
    let candidates = [folder.join(name), folder.join(format!("{name}.gz"))];
    let there = candidates.into_iter().filter(|path| path.is_file());
    let Some(path) = notices.first_of(there, "its content is that of") else {
        let reason = format!("no fashion-mnist here: {name} or {name}.gz is missing");
        return Err(Error::Data { path: folder.to_path_buf(), reason });
    };
    let fail = |reason: String| Error::Data { path: path.clone(), reason };
    let file = File::open(&path).map_err(Error::io("read", &path))?;
    let mut file = BufReader::new(file);
    let packed = file.fill_buf().map_err(Error::io("read", &path))?.starts_with(&[0x1f, 0x8b]);
    let mut content: Box<dyn Read> =
        if packed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    // No more than the expected bytes, and one to see whether there are more.
    let mut take = |most: usize| {
        let mut bytes = Vec::new();
        let read = content.by_ref().take(most as u64 + 1).read_to_end(&mut bytes);
        let what = if packed { "unpacked" } else { "read" };
        read.map_err(|error| fail(format!("cannot be {what}: {error}"))).map(|_| bytes)
    };
    // The header is two zeros, 8 for bytes, the number of dimensions; then the dimensions,
    // big-endian.
    let head = 4 + 4 * D;
    let start = take(head - 1)?;
    if start.len() < head || start[..4] != [0, 0, 8, D as u8] {
        return Err(fail(format!("no IDX file of bytes in {D} dimensions")));
    }
    let sides: [usize; D] = std::array::from_fn(|side| {
        let at = 4 + 4 * side;
        u32::from_be_bytes(start[at..at + 4].try_into().expect("four bytes")) as usize
    });
    let expected = sides.iter().try_fold(1_usize, |all, &side| all.checked_mul(side));
    let Some(expected) = expected.filter(|&bytes| bytes <= LARGEST) else {
        return Err(fail(format!("its head says {sides:?}, above {} MiB", LARGEST >> 20)));
    };
    let bytes = take(expected)?;
    match bytes.len() {
        found if found == expected => Ok((path, sides, bytes)),
        found if found < expected => {
            Err(fail(format!("{found} bytes behind the head, which says {sides:?}")))
        }
        _ => Err(fail(format!("more bytes behind the head than it says: {sides:?}"))),
    }
}
