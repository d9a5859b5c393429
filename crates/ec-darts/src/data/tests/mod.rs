//! Sets in files, of every layout, whole and broken.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use proptest::prelude::*;

use super::decode::{Picture, Region};
use super::folder::layout;
use super::*;

mod digests;
mod fashion_mnist;
mod folders;
mod fuzz;
mod layouts;
mod loading;
mod pictures;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A temporary folder to which tests add single files.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(&path, bytes).expect("written");
        path
    }

    /// A picture of 20x30 that differs by its seed.
    fn image(&self, name: &str, seed: u8) -> PathBuf {
        let format = if name.ends_with("png") { ImageFormat::Png } else { ImageFormat::Jpeg };
        self.write(name, encoded(&DynamicImage::ImageRgb8(picture(seed)), format))
    }

    fn source(&self, kind: DatasetKind) -> Source {
        let source = Source::new(kind, self.path());
        Source { image_size: Some(16), digests: None, ..source }
    }

    fn load(&self, kind: DatasetKind) -> Result<Datasets> {
        load(&self.source(kind))
    }

    fn check_error(&self, kind: DatasetKind, expected: &[&str]) {
        let message = self.load(kind).expect_err("a broken set").to_string();
        for expected in expected {
            assert!(message.contains(expected), "{expected:?} in: {message}");
        }
    }
}

fn picture(seed: u8) -> RgbImage {
    RgbImage::from_fn(30, 20, |x, y| {
        let (x, y) = (x as u8, y as u8);
        Rgb([x.wrapping_mul(8).wrapping_add(seed), y.wrapping_mul(11), seed.wrapping_mul(40)])
    })
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).expect("a format of this kind of image");
    bytes.into_inner()
}

/// Two classes of five images, and two images for testing.
fn imagenet() -> Place {
    let place = Place::new();
    for image in 0..5 {
        place.image(&format!("train/n01/n01_{image}.JPEG"), image);
        place.image(&format!("train/n02/n02_{image}.JPEG"), 100 + image);
    }
    place.image("val/a.JPEG", 7);
    place.image("val/b.JPEG", 107);
    place
}

/// `PATH: REASON` of every file that was left out, in the order of the paths.
fn skipped(images: &Datasets) -> Vec<String> {
    let of = images.notices.iter().filter(|notice| notice.kind == NoticeKind::Skipped);
    let mut all: Vec<String> = of
        .flat_map(|notice| {
            notice.paths.iter().map(|path| format!("{}: {}", path.display(), notice.reason))
        })
        .collect();
    all.sort();
    all
}

fn labels(set: &ImageDataset) -> Vec<u16> {
    (0..set.len()).map(|image| set.label(image)).collect()
}
