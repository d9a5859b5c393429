//! The binary versions of CIFAR-10 and CIFAR-100.

use std::fs;
use std::path::{Path, PathBuf};

use super::notice::Notices;
use super::{DatasetKind, ImageDataset, Source};
use crate::{Error, Result};

const SIZE: [usize; 2] = [32, 32];
const PIXELS: usize = 3 * 32 * 32;

/// How one of the two sets lies on disk.
struct Archive {
    kind: DatasetKind,
    folder: &'static str,
    train: &'static [&'static str],
    test: &'static [&'static str],
    /// Names and numbers of classes of a record's label bytes; the last byte is the label.
    labels: &'static [(&'static str, usize)],
    names: &'static str,
}

const CIFAR10: Archive = Archive {
    kind: DatasetKind::Cifar10,
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
};

const CIFAR100: Archive = Archive {
    kind: DatasetKind::Cifar100,
    folder: "cifar-100-binary",
    train: &["train.bin"],
    test: &["test.bin"],
    labels: &[("coarse label", 20), ("fine label", 100)],
    names: "fine_label_names.txt",
};

impl Archive {
    fn num_classes(&self) -> usize {
        self.labels[self.labels.len() - 1].1
    }
}

/// Reads training and test images from the folder of the binary version, or from the folder that
/// contains it (`cifar-10-batches-bin`, `cifar-100-binary`). Files may have any number of records;
/// without the file of class names, numbers become the names.
///
/// # Errors
/// [`Error::Data`] where the folder or a file is missing, a file is empty or does not have a whole
/// number of records, a label is out of range, or the number of class names is wrong; [`Error::Io`]
/// where a file cannot be read.
///
/// # Source
/// The layout described with the data sets of Krizhevsky, Nair and Hinton.
pub(super) fn load(source: &Source, notices: &mut Notices) -> Result<[ImageDataset; 2]> {
    let (layout, other) = match source.kind {
        DatasetKind::Cifar100 => (CIFAR100, CIFAR10),
        _ => (CIFAR10, CIFAR100),
    };
    let folder = find(&layout, &other, &source.folder, notices)?;
    let class_names = class_names(&layout, &folder.join(layout.names))?;
    let known = layout.kind.normalization().expect("published");
    let read = |names: &[&str]| {
        let mut pixels = Vec::new();
        let mut labels = Vec::new();
        for name in names {
            read_records(&layout, &folder.join(name), &mut pixels, &mut labels)?;
        }
        Ok(ImageDataset::in_memory(SIZE, pixels, labels, class_names.clone(), known))
    };
    Ok([read(layout.train)?, read(layout.test)?])
}

/// The folder with the first training file in it.
fn find(
    layout: &Archive,
    other: &Archive,
    folder: &Path,
    notices: &mut Notices,
) -> Result<PathBuf> {
    let first = layout.train[0];
    let candidates = [folder.to_path_buf(), folder.join(layout.folder)];
    let there = candidates.into_iter().filter(|folder| folder.join(first).is_file());
    if let Some(found) = notices.first_of(there, "images are those of the folder itself") {
        return Ok(found);
    }
    let there = |name: &str| folder.join(name).exists();
    let pickled = |name: &str| folder.join(name).is_file();
    let hint = if there(other.train[0]) || there(other.folder) {
        format!("; this looks like {}, set data.dataset to it", other.kind.name())
    } else if ["data_batch_1", "train"].into_iter().any(pickled)
        || ["cifar-10-batches-py", "cifar-100-python"].into_iter().any(there)
    {
        "; this looks like the Python version, the binary version is needed".into()
    } else {
        String::new()
    };
    let reason = format!(
        "no {} here: expected {first} in it or in {}/{hint}",
        layout.kind.name(),
        layout.folder
    );
    Err(Error::Data { path: folder.to_path_buf(), reason })
}

fn class_names(layout: &Archive, path: &Path) -> Result<Vec<String>> {
    let count = layout.num_classes();
    if !path.is_file() {
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
    layout: &Archive,
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
    pixels.reserve(bytes.len());
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

    use proptest::prelude::*;

    use super::*;

    /// Loads through the function that all sets share.
    fn load(kind: DatasetKind, folder: &Path) -> Result<crate::data::Datasets> {
        crate::data::load(&Source::new(kind, folder))
    }

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

    /// Replaces one file of a whole CIFAR-10, and checks the message.
    fn check(file: &str, bytes: Vec<u8>, expected: &str) {
        let mut files: Vec<(&str, Vec<u8>)> = CIFAR10
            .train
            .iter()
            .chain(CIFAR10.test)
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
        let message = load(DatasetKind::Cifar10, &hundred.path().join("train.bin")).unwrap_err();
        assert!(message.to_string().ends_with("this is a file, not a folder"), "{message}");
        let message = load(DatasetKind::Cifar10, &hundred.path().join("absent")).unwrap_err();
        assert!(message.to_string().ends_with("absent: no such folder"), "{message}");
        for file in ["data_batch_1", "train", "cifar-10-batches-py", "cifar-100-python"] {
            let python = folder_with(&[(file, vec![1])]);
            for kind in [DatasetKind::Cifar10, DatasetKind::Cifar100] {
                let message = load(kind, python.path()).unwrap_err().to_string();
                assert!(message.contains("Python version"), "{message}");
            }
        }
    }

    #[test]
    fn the_folder_above_will_do() {
        let folder = tempfile::tempdir().expect("a folder");
        let inner = folder.path().join("cifar-100-binary");
        fs::create_dir(&inner).expect("made");
        for file in ["train.bin", "test.bin"] {
            fs::write(inner.join(file), records(&[&[1, 2]])).expect("written");
        }
        let read = load(DatasetKind::Cifar100, folder.path()).expect("found");
        assert_eq!((read.train.len(), read.train.class_names()[7].as_str()), (1, "7"));
        let message = load(DatasetKind::Cifar10, folder.path()).unwrap_err().to_string();
        assert!(message.contains("looks like cifar100"), "{message}");
    }

    proptest! {
        /// The bytes are read or refused, and the images read are those of the bytes.
        #[test]
        fn no_bytes_make_it_panic(
            kind in prop_oneof![Just(DatasetKind::Cifar10), Just(DatasetKind::Cifar100)],
            head in proptest::collection::vec(0..120_u8, 2),
            length in prop_oneof![0..4000_usize, Just(3073), Just(3074), Just(2 * 3073)],
            names in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let layout = if kind == DatasetKind::Cifar10 { CIFAR10 } else { CIFAR100 };
            let mut bytes = head.clone();
            bytes.resize(length, 9);
            let files = layout.train.iter().chain(layout.test).map(|&name| (name, bytes.clone()));
            let mut files: Vec<_> = files.collect();
            if names.len() > 20 {
                files.push((layout.names, names));
            }
            if let Ok(read) = load(kind, folder_with(&files).path()) {
                prop_assert_eq!(read.test.label(0), u16::from(head[layout.labels.len() - 1]));
                prop_assert_eq!(read.test.pixels(0).expect("in memory").len(), PIXELS);
            }
        }
    }

    #[test]
    fn bundled_hundred_classes_are_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cifar100-tiny");
        let crate::data::Datasets { train, test, .. } =
            load(DatasetKind::Cifar100, &folder).expect("the sample");
        assert_eq!((train.len(), test.len(), train.num_classes()), (40, 20, 100));
        let labels: Vec<u16> = (0..5).map(|image| train.label(image)).collect();
        assert_eq!(labels, [78, 91, 4, 24, 12]);
        assert_eq!((&*train.class_names()[78], &*test.class_names()[31]), ("snake", "elephant"));
        assert_eq!(test.label(0), 31);
    }
}
