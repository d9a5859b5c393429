//! The binary versions of CIFAR-10 and CIFAR-100.

use std::fs;
use std::path::{Path, PathBuf};

use super::{DatasetKind, Datasets, ImageDataset};
use crate::{Error, Result};

const SIZE: [usize; 2] = [32, 32];
const PIXELS: usize = 3 * 32 * 32;

/// How one of the two sets lies on disk.
struct Layout {
    folder: &'static str,
    train: &'static [&'static str],
    test: &'static [&'static str],
    /// Classes of the label bytes of a record; the last is the one that is used.
    labels: &'static [(&'static str, usize)],
    names: &'static str,
}

impl DatasetKind {
    fn layout(self) -> Layout {
        match self {
            Self::Cifar10 => Layout {
                folder: "cifar-10-batches-bin",
                train: &[
                    "data_batch_1.bin",
                    "data_batch_2.bin",
                    "data_batch_3.bin",
                    "data_batch_4.bin",
                    "data_batch_5.bin",
                ],
                test: &["test_batch.bin"],
                labels: &[("label", 10)],
                names: "batches.meta.txt",
            },
            Self::Cifar100 => Layout {
                folder: "cifar-100-binary",
                train: &["train.bin"],
                test: &["test.bin"],
                labels: &[("coarse label", 20), ("fine label", 100)],
                names: "fine_label_names.txt",
            },
        }
    }
}

/// Reads training and test images from the folder of the binary version, or from the folder that
/// holds it. Files may have any number of records.
///
/// # Errors
/// [`Error::Data`] where a file is missing, is no whole number of records, or a label is out of
/// range; [`Error::Io`] where a file cannot be read.
///
/// # Source
/// The layout described with the data sets of Krizhevsky, Nair and Hinton.
pub fn load(kind: DatasetKind, folder: &Path) -> Result<Datasets> {
    let layout = kind.layout();
    let folder = find(kind, &layout, folder)?;
    let class_names = class_names(kind, &folder.join(layout.names))?;
    let read = |names: &[&str]| {
        let mut pixels = Vec::new();
        let mut labels = Vec::new();
        for name in names {
            read_records(&layout, &folder.join(name), &mut pixels, &mut labels)?;
        }
        Ok(ImageDataset::new(SIZE, pixels, labels, class_names.clone()))
    };
    Ok(Datasets { train: read(layout.train)?, test: read(layout.test)? })
}

/// The folder with the first training file in it.
fn find(kind: DatasetKind, layout: &Layout, folder: &Path) -> Result<PathBuf> {
    let fail = |reason: String| Error::Data { path: folder.to_path_buf(), reason };
    if !folder.is_dir() {
        return Err(fail("no such folder".into()));
    }
    let first = layout.train[0];
    let candidates = [folder.to_path_buf(), folder.join(layout.folder)];
    if let Some(found) = candidates.into_iter().find(|folder| folder.join(first).is_file()) {
        return Ok(found);
    }
    let other = match kind {
        DatasetKind::Cifar10 => DatasetKind::Cifar100,
        DatasetKind::Cifar100 => DatasetKind::Cifar10,
    };
    let there = |name: &str| folder.join(name).exists();
    let hint = if there(other.layout().train[0]) || there(other.layout().folder) {
        format!("; this looks like {}, set data.dataset to it", other.name())
    } else if there("data_batch_1") || there("train") || there("cifar-10-batches-py") {
        "; this looks like the Python version, the binary version is needed".into()
    } else {
        String::new()
    };
    Err(fail(format!(
        "no {} here: expected {first} in it or in {}/{hint}",
        kind.name(),
        layout.folder
    )))
}

fn class_names(kind: DatasetKind, path: &Path) -> Result<Vec<String>> {
    let count = kind.num_classes();
    if !path.exists() {
        return Ok((0..count).map(|class| class.to_string()).collect());
    }
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    let names: Vec<String> =
        text.lines().map(str::trim).filter(|name| !name.is_empty()).map(Into::into).collect();
    if names.len() == count {
        return Ok(names);
    }
    let reason = format!("{} class names, expected {count}", names.len());
    Err(Error::Data { path: path.to_path_buf(), reason })
}

fn read_records(
    layout: &Layout,
    path: &Path,
    pixels: &mut Vec<u8>,
    labels: &mut Vec<u16>,
) -> Result<()> {
    let fail = |reason: String| Error::Data { path: path.to_path_buf(), reason };
    if !path.is_file() {
        return Err(fail("the file is missing".into()));
    }
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    if bytes.is_empty() {
        return Err(fail("the file is empty".into()));
    }
    let record = layout.labels.len() + PIXELS;
    if bytes.len() % record != 0 {
        return Err(fail(format!(
            "{} bytes are no whole number of records of {record} bytes: {} bytes too many or {} \
             missing",
            bytes.len(),
            bytes.len() % record,
            record - bytes.len() % record
        )));
    }
    for (number, record) in bytes.chunks_exact(record).enumerate() {
        let (head, image) = record.split_at(layout.labels.len());
        for (&label, &(name, classes)) in head.iter().zip(layout.labels) {
            if usize::from(label) >= classes {
                return Err(fail(format!(
                    "{name} of record {number} is {label}, allowed: 0 to {}",
                    classes - 1
                )));
            }
        }
        labels.push(head[head.len() - 1].into());
        pixels.extend_from_slice(image);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, bytes) in files {
            fs::write(folder.path().join(name), bytes).expect("written");
        }
        folder
    }

    fn records(labels: &[&[u8]]) -> Vec<u8> {
        labels
            .iter()
            .flat_map(|head| head.iter().copied().chain(std::iter::repeat_n(7, PIXELS)))
            .collect()
    }

    /// The whole of CIFAR-10 with one file replaced.
    fn check(file: &str, bytes: Vec<u8>, expected: &str) {
        let mut files: Vec<(&str, Vec<u8>)> = DatasetKind::Cifar10
            .layout()
            .train
            .iter()
            .chain(DatasetKind::Cifar10.layout().test)
            .map(|&name| (name, records(&[&[3], &[9]])))
            .collect();
        files.retain(|(name, _)| *name != file);
        if !bytes.is_empty() || expected.contains("empty") {
            files.push((file, bytes));
        }
        let folder = folder_with(&files);
        let message = match load(DatasetKind::Cifar10, folder.path()) {
            Ok(read) => format!("{} and {}", read.train.len(), read.test.len()),
            Err(error) => error.to_string(),
        };
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn reads_records_and_says_what_is_wrong_with_others() {
        check("data_batch_2.bin", records(&[&[0]]), "9 and 2");
        check(
            "data_batch_2.bin",
            records(&[&[0], &[10]]),
            "data_batch_2.bin: label of record 1 is 10",
        );
        check("data_batch_2.bin", vec![0; 5000], "1927 bytes too many or 1146 missing");
        check("test_batch.bin", Vec::new(), "the file is empty");
        check("data_batch_5.bin", Vec::new(), "data_batch_5.bin: the file is missing");
        check("data_batch_1.bin", Vec::new(), "no cifar10 here");
        check("batches.meta.txt", b"cat\ndog\n".to_vec(), "2 class names, expected 10");
    }

    #[test]
    fn hundred_classes_have_two_labels() {
        let good = records(&[&[19, 99], &[0, 0]]);
        let load_with = |train: Vec<u8>| {
            let folder = folder_with(&[("train.bin", train), ("test.bin", good.clone())]);
            load(DatasetKind::Cifar100, folder.path()).map_err(|error| error.to_string())
        };
        assert_eq!(load_with(good.clone()).expect("good").train.label(0), 99);
        assert!(load_with(records(&[&[20, 1]])).unwrap_err().contains("coarse label of record 0"));
        assert!(load_with(records(&[&[1, 100]])).unwrap_err().contains("fine label of record 0"));
    }

    #[test]
    fn foreign_folders_get_a_hint() {
        let hundred = folder_with(&[("train.bin", records(&[&[1, 1]]))]);
        let message = load(DatasetKind::Cifar10, hundred.path()).unwrap_err().to_string();
        assert!(message.contains("looks like cifar100"), "{message}");
        let python = folder_with(&[("data_batch_1", vec![1])]);
        let message = load(DatasetKind::Cifar10, python.path()).unwrap_err().to_string();
        assert!(message.contains("Python version"), "{message}");
    }

    #[test]
    fn bundled_sample_is_whole() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/cifar10-mini");
        let sample = load(DatasetKind::Cifar10, &folder).expect("the bundled sample");
        assert_eq!((sample.train.len(), sample.test.len()), (1000, 500));
        assert_eq!(sample.train.class_names()[6], "frog");
        for class in 0..10 {
            let count = (0..1000).filter(|&image| sample.train.label(image) == class).count();
            assert_eq!(count, 100, "class {class}");
        }
    }
}
