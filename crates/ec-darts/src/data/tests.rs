//! Sets in files, of every layout, whole and broken.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use proptest::prelude::*;

use super::decode::{Picture, Region};
use super::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name)
}

/// A folder whose files are made one by one.
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
        Source { image_size: Some(16), ..source }
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

fn labels(set: &ImageDataset) -> Vec<u16> {
    (0..set.len()).map(|image| set.label(image)).collect()
}

#[test]
fn tiny_imagenet_is_read() {
    let source = Source::new(DatasetKind::TinyImagenet, fixture("tiny-imagenet-tiny"));
    let Datasets { train, test, skipped } = load(&source).expect("the sample");
    assert_eq!((train.len(), test.len(), skipped.len()), (18, 9, 0));
    assert_eq!(train.class_names(), ["Egyptian cat", "oboe, hautboy, hautbois", "pretzel"]);
    assert_eq!(labels(&train), [[0; 6], [1; 6], [2; 6]].concat());
    for class in 0..3 {
        assert_eq!(labels(&test).iter().filter(|&&label| label == class).count(), 3);
    }
    assert_eq!((train.size(), test.size()), ([64, 64], [64, 64]));
    // Two greys at most differ in a colour picture somewhere.
    let grey = |image: usize| {
        let pixels = train.pixels(image).expect("whole");
        pixels[..4096] == pixels[4096..8192] && pixels[..4096] == pixels[8192..]
    };
    let greys: Vec<usize> = (0..18).filter(|&image| grey(image)).collect();
    assert_eq!(greys.len(), 1, "{greys:?}");
    assert_eq!(train.label(greys[0]), 1);
    assert_eq!(Some(test.normalization()), DatasetKind::TinyImagenet.normalization());
    let measured = train.measure().expect("whole");
    for c in 0..3 {
        let published = train.normalization();
        assert!((measured.mean[c] - published.mean[c]).abs() < 0.1, "{measured:?}");
        assert!((measured.std[c] - published.std[c]).abs() < 0.1, "{measured:?}");
    }
}

#[test]
fn imagenet_has_its_validation_images_in_folders_or_in_a_list() {
    let check = |place: &Place, expected: &[u16]| {
        let read = place.load(DatasetKind::Imagenet).expect("a whole set");
        assert_eq!((read.train.len(), read.skipped.len()), (10, 0));
        assert_eq!(labels(&read.test), expected);
        read
    };
    let place = imagenet();
    place.write("val.txt", "a.JPEG 1\nb.JPEG 0\n");
    check(&place, &[1, 0]);
    place.write("val/val.txt", "b.JPEG\tn02\t0 0 10 10\na.JPEG\tn01\n");
    check(&place, &[1, 0]);
    fs::remove_file(place.path().join("val/val.txt")).expect("there");
    fs::remove_file(place.path().join("val.txt")).expect("there");
    place.write("LOC_val_solution.csv", "ImageId,PredictionString\na,n02 1 2 3 4 n02 1 2 3 4\n");
    place.write("LOC_synset_mapping.txt", "n01 tench, Tinca tinca\nn02 goldfish\n");
    let read = check(&place, &[1]);
    assert_eq!(read.train.class_names(), ["tench, Tinca tinca", "goldfish"]);
    let place = imagenet();
    place.image("val/n02/c.JPEG", 1);
    check(&place, &[1]);
}

#[test]
fn a_folder_is_split_by_its_seed_or_has_a_split() {
    let place = Place::new();
    for image in 0..10 {
        place.image(&format!("cat/{image}.png"), image);
        place.image(&format!("dog/some/where/{image}.JPG"), 90 + image);
    }
    place.image("one/only.jpg", 200);
    place.write("cat/readme.txt", "no image");
    place.write(".hidden/x.jpg", "no image");
    let load_with = |seed: u64, fraction: f64| {
        let source = place.source(DatasetKind::Folder);
        let source = Source { split_seed: seed, test_fraction: fraction, ..source };
        load(&source).expect("a whole set")
    };
    let read = load_with(0, 0.3);
    assert_eq!(labels(&read.train), [vec![0; 7], vec![1; 7], vec![2]].concat());
    assert_eq!(labels(&read.test), [0, 0, 0, 1, 1, 1]);
    assert_eq!(
        (read.train.class_names(), read.skipped.len()),
        (&["cat", "dog", "one"].map(String::from)[..], 0)
    );
    let images = |set: &ImageDataset| -> BTreeSet<Vec<u8>> {
        (0..set.len()).map(|image| set.pixels(image).expect("whole").into_owned()).collect()
    };
    let (train, test) = (images(&read.train), images(&read.test));
    assert_eq!((train.len(), test.len(), train.intersection(&test).count()), (15, 6, 0));
    assert_eq!(read.test.digest(), load_with(0, 0.3).test.digest());
    assert_ne!(read.test.digest(), load_with(1, 0.3).test.digest());
    assert_eq!(load_with(0, 0.001).test.len(), 2, "at least one of each class");
    assert_eq!(load_with(0, 0.999).train.len(), 3, "at least one of each class");

    let place = Place::new();
    place.image("train/cat/1.png", 1);
    place.image("train/dog/1.png", 2);
    place.image("val/dog/2.png", 3);
    let read = place.load(DatasetKind::Folder).expect("a whole set");
    assert_eq!((labels(&read.train), labels(&read.test)), (vec![0, 1], vec![1]));
    place.image("test/cat/3.png", 4);
    assert_eq!(labels(&place.load(DatasetKind::Folder).expect("whole").test), [0]);
}

#[test]
fn a_folder_is_measured_over_its_training_images() {
    let place = Place::new();
    place.image("train/a/1.png", 1);
    place.image("train/b/1.png", 60);
    place.image("test/a/1.png", 200);
    let source = Source { image_size: Some(20), ..place.source(DatasetKind::Folder) };
    let Datasets { train, test, .. } = load(&source).expect("whole");
    let mut values = vec![Vec::new(); 3];
    for seed in [1, 60] {
        // The centre of 30x20.
        for (x, y, pixel) in picture(seed).enumerate_pixels() {
            if (5..25).contains(&x) && y < 20 {
                (0..3).for_each(|c| values[c].push(f64::from(pixel[c]) / 255.0));
            }
        }
    }
    let found = train.normalization();
    assert_eq!(found, test.normalization());
    for (c, values) in values.iter().enumerate() {
        let mean = values.iter().sum::<f64>() / 800.0;
        let square = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 800.0;
        assert!((f64::from(found.mean[c]) - mean).abs() < 1e-6, "{found:?}");
        assert!((f64::from(found.std[c]) - square.sqrt()).abs() < 1e-6, "{found:?}");
    }
    let place = Place::new();
    let black = DynamicImage::ImageRgb8(RgbImage::new(9, 9));
    for name in ["a/1.png", "b/1.png"] {
        place.write(name, encoded(&black, ImageFormat::Png));
    }
    place.check_error(DatasetKind::Folder, &["same value in every training image"]);
}

#[test]
fn every_kind_of_pixel_becomes_rgb() {
    let place = Place::new();
    let rgb = DynamicImage::ImageRgb8(picture(3));
    let read = |name: &str, bytes: &[u8]| {
        let picture = Picture::read(&place.write(name, bytes), usize::MAX).expect("an image");
        assert_eq!((picture.size, picture.pixels.len()), ([20, 30], 1800));
        picture.pixels
    };
    let expected = picture(3).into_raw();
    let png = |image: DynamicImage| encoded(&image, ImageFormat::Png);
    assert_eq!(read("rgb.png", &png(rgb.clone())), expected);
    assert_eq!(read("rgba.png", &png(rgb.to_rgba8().into())), expected);
    assert_eq!(read("rgb16.png", &png(rgb.to_rgb16().into())), expected);
    let grey: Vec<u8> = rgb.to_luma8().into_raw().iter().flat_map(|&value| [value; 3]).collect();
    assert_eq!(read("grey.png", &png(rgb.to_luma8().into())), grey);
    assert_eq!(read("grey-alpha.png", &png(rgb.to_luma_alpha8().into())), grey);
    assert_eq!(read("grey16.png", &png(rgb.to_luma8().into())), grey);
    let near = |found: Vec<u8>, expected: &[u8]| {
        let most = found.iter().zip(expected).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(most < Some(12), "{most:?}");
    };
    let mut smooth = picture(3);
    smooth.pixels_mut().for_each(|pixel| pixel[0] = 128);
    let smooth = DynamicImage::ImageRgb8(smooth);
    // A JPEG, whatever its name says.
    near(read("rgb.png", &encoded(&smooth, ImageFormat::Jpeg)), &smooth.to_rgb8().into_raw());
    let grey: Vec<u8> = smooth.to_luma8().into_raw().iter().flat_map(|&value| [value; 3]).collect();
    near(read("grey.jpg", &encoded(&smooth.to_luma8().into(), ImageFormat::Jpeg)), &grey);
}

/// Made by Pillow 12: `Image.fromarray(a, "CMYK").save("cmyk.jpg", quality=95, subsampling=0)` with
/// (200, 40, 10, 30) in the left half of 16x16 and (20, 100, 220, 60) in the right one.
/// Expected: `(255 - ink) (255 - black) / 255`, as Pillow's `convert("RGB")` says.
#[test]
fn inks_become_rgb() {
    let check = |bytes: &[u8], expected: [[i32; 3]; 2]| {
        let place = Place::new();
        let picture = Picture::read(&place.write("x.jpg", bytes), usize::MAX).expect("a JPEG");
        for (x, expected) in [2, 13].into_iter().zip(expected) {
            let found: [i32; 3] =
                std::array::from_fn(|c| picture.pixels[(5 * 16 + x) * 3 + c].into());
            let near = found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 4);
            assert!(near, "{found:?}, not {expected:?}");
        }
    };
    let mut bytes = fs::read(fixture("images/cmyk.jpg")).expect("there");
    check(&bytes, [[49, 190, 216], [180, 119, 27]]);
    // The same values read as YCCK: the mark of Adobe's segment says which it is. They are inverted
    // inks (55, 215, 245, 225) and (235, 155, 35, 195), now brightness, two colours and black.
    let mark = bytes.windows(5).position(|five| five == b"Adobe").expect("its segment") + 11;
    assert_eq!(bytes[mark], 0);
    bytes[mark] = 2;
    let ycck = |[y, blue, red, black]: [f64; 4]| {
        let (blue, red) = (blue - 128.0, red - 128.0);
        let rgb = [y + 1.402 * red, y - 0.344_136 * blue - 0.714_136 * red, y + 1.772 * blue];
        rgb.map(|value| ((255.0 - value.clamp(0.0, 255.0)) * black / 255.0) as i32)
    };
    check(&bytes, [ycck([55.0, 215.0, 245.0, 225.0]), ycck([235.0, 155.0, 35.0, 195.0])]);
}

/// Expected: Pillow 12, `Image.fromarray(p).resize((4, 3), Image.BILINEAR)` and, of the red channel,
/// `resize((5, 5), Image.BILINEAR, box=(2, 1, 5, 4))`; `p[y][x][c] = (37 y + 53 x + 91 c) % 256`.
#[test]
fn pictures_are_resized_as_by_pillow() {
    let value = |at: usize| (at / 30 * 37 + at / 3 % 10 * 53 + at % 3 * 91) as u8;
    let picture = Picture { size: [7, 10], pixels: (0..210).map(value).collect() };
    let check = |found: Vec<u8>, expected: &[u8]| {
        let most = found.iter().zip(expected).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(most <= Some(1), "{found:?}, not {expected:?}");
    };
    let whole = Region { top: 0.0, left: 0.0, height: 7.0, width: 10.0 };
    let down = picture.view(whole, [3, 4]);
    check(down[..12].into(), &[85, 157, 105, 148, 152, 116, 140, 107, 148, 124, 145, 110]);
    check(down[24..].into(), &[112, 127, 127, 130, 94, 153, 112, 142, 160, 113, 139, 100]);
    let part = Region { top: 1.0, left: 2.0, height: 3.0, width: 3.0 };
    let expected = [
        125, 157, 189, 221, 201, 147, 179, 211, 181, 141, 169, 201, 233, 111, 41, 191, 162, 102,
        72, 63, 213, 143, 21, 53, 85,
    ];
    check(picture.view(part, [5, 5])[..25].into(), &expected);
    // The centre at 3x3: `resize((3, 3), box=(1.5, 0, 8.5, 7))`.
    let centre = Region::centre([7, 10], [3, 3], None);
    let red = [143, 124, 132, 150, 111, 140, 114, 159, 108];
    check(picture.view(centre, [3, 3])[..9].into(), &red);
    assert_eq!(picture.view(whole, [7, 10])[..10], [0, 53, 106, 159, 212, 9, 62, 115, 168, 221]);
}

#[test]
fn the_centre_is_cut_after_a_resize() {
    // 224 of 256 of the shorter side of 400.
    let centre = Region::centre([400, 600], [224, 224], Some(256));
    assert_eq!(centre, Region { top: 25.0, left: 125.0, height: 350.0, width: 350.0 });
    let place = Place::new();
    let path = place.image("x.png", 4);
    let whole = decode(&path, 20, None).expect("an image");
    let expected: Vec<u8> = picture(4)
        .enumerate_pixels()
        .filter_map(|(x, _, pixel)| (5..25).contains(&x).then_some(pixel[0]))
        .collect();
    assert_eq!(whole[..400], expected);
    assert!(decode(&place.path().join("none.png"), 20, None).is_err());
}

#[test]
fn large_pictures_are_kept_smaller() {
    let place = Place::new();
    let read = |most| Picture::read(&place.image("x.png", 4), most).expect("an image");
    assert_eq!((read(20).size, read(10).size, read(7).size), ([20, 30], [10, 15], [7, 11]));
}

#[test]
fn broken_images_are_skipped_and_named_or_fatal() {
    let place = Place::new();
    for image in 0..4 {
        place.image(&format!("cat/{image}.jpg"), image);
        place.image(&format!("dog/{image}.jpg"), 90 + image);
    }
    let whole = fs::read(place.path().join("cat/0.jpg")).expect("there");
    place.write("cat/4-cut.jpg", &whole[..whole.len() / 2]);
    place.write("cat/5-text.jpg", "no image at all");
    place.write("dog/6-empty.png", "");
    place.write("dog/7-other.gif", "GIF89a");
    let png = encoded(&DynamicImage::ImageRgb8(picture(1)), ImageFormat::Png);
    place.write("dog/8-cut.png", &png[..png.len() / 2]);
    let source = place.source(DatasetKind::Folder);
    let read = load(&source).expect("the rest");
    assert_eq!(read.train.len() + read.test.len(), 8);
    let found: Vec<String> = read
        .skipped
        .iter()
        .map(|skipped| format!("{}: {}", skipped.path.display(), skipped.reason))
        .collect();
    let expected = [
        "cat/4-cut.jpg: the JPEG is cut short: no end marker behind its last scan",
        "cat/5-text.jpg: neither JPEG nor PNG",
        "dog/6-empty.png: the file is empty",
        "dog/7-other.gif: only JPEG and PNG are read",
        "dog/8-cut.png: ",
    ];
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.contains(expected), "{found}");
    }
    let message = load(&Source { broken: BrokenImages::Fail, ..source.clone() }).unwrap_err();
    assert!(message.to_string().contains("7-other.gif: only JPEG"), "{message}");
    fs::remove_file(place.path().join("dog/7-other.gif")).expect("there");
    let message = load(&Source { broken: BrokenImages::Fail, ..source }).unwrap_err();
    assert!(message.to_string().contains("the JPEG is cut short"), "{message}");

    let place = Place::new();
    place.image("cat/1.jpg", 1);
    place.write("dog/1.jpg", "woof");
    let expected = ["class \"dog\"", "1 files were skipped", "neither JPEG nor PNG"];
    place.check_error(DatasetKind::Folder, &expected);
}

#[test]
fn kinds_are_guessed() {
    let check = |files: &[&str], expected: DatasetKind| {
        let place = Place::new();
        files.iter().for_each(|name| drop(place.write(name, "")));
        assert_eq!(DatasetKind::guess(place.path()), expected, "{files:?}");
    };
    check(&["data_batch_1.bin"], DatasetKind::Cifar10);
    check(&["cifar-100-binary/train.bin"], DatasetKind::Cifar100);
    check(&["train-images-idx3-ubyte.gz"], DatasetKind::FashionMnist);
    check(&["wnids.txt", "train/n01443537/x.JPEG"], DatasetKind::TinyImagenet);
    check(&["train/n01443537/x.JPEG", "val/x.JPEG"], DatasetKind::Imagenet);
    check(&["train/cats/x.JPEG"], DatasetKind::Folder);
    check(&[], DatasetKind::Folder);
}

#[test]
fn sizes_of_files_are_told() {
    let place = imagenet();
    place.write("val.txt", "a.JPEG 1\n");
    let train = place.load(DatasetKind::Imagenet).expect("whole").train;
    assert_eq!((train.original_size(4).expect("whole"), train.size()), ([20, 30], [16, 16]));
}

#[test]
fn wrong_folders_say_what_is_missing() {
    let place = Place::new();
    for kind in DatasetKind::ALL {
        let name = if kind == DatasetKind::Folder { "0 classes" } else { kind.name() };
        place.check_error(kind, &[name]);
    }
    let place = Place::new();
    place.image("cat/1.jpg", 1);
    fs::create_dir(place.path().join("dog")).expect("made");
    place.check_error(DatasetKind::Folder, &["dog: a class without an image"]);
    let source = Source { image_size: None, ..place.source(DatasetKind::Folder) };
    fs::remove_dir(place.path().join("dog")).expect("there");
    let message = load(&source).unwrap_err().to_string();
    assert!(message.contains("`data.image_size` is not set"), "{message}");

    let place = imagenet();
    let lists = ["no list of the images", "val/val_annotations.txt", "LOC_val_solution.csv"];
    place.check_error(DatasetKind::Imagenet, &lists);
    place.write("val.txt", "a.JPEG n01\nb.JPEG n03\n");
    place.check_error(DatasetKind::Imagenet, &["val.txt: line 2: \"n03\" is no class"]);
    place.write("val.txt", "a.JPEG 2\n");
    place.check_error(DatasetKind::Imagenet, &["val.txt: line 1: \"2\" is no class"]);
    place.write("val.txt", "c.JPEG 1\n");
    place.check_error(DatasetKind::Imagenet, &["val.txt: it names no image that is there"]);
    place.write("val.txt", "a.JPEG 0\nc.JPEG 1\n");
    let skipped = place.load(DatasetKind::Imagenet).expect("the rest").skipped;
    assert!(
        skipped[0].path.ends_with("val/c.JPEG") && skipped[0].reason.contains("val.txt names it")
    );
    place.image("val/n01/x.JPEG", 1);
    place.image("val/n03/x.JPEG", 1);
    place.check_error(DatasetKind::Imagenet, &["n03: a folder that is no class"]);

    let place = Place::new();
    place.write("wnids.txt", "n01\nn02\n");
    place.image("train/n01/images/1.JPEG", 1);
    place.check_error(DatasetKind::TinyImagenet, &["n02: a class without an image"]);
    place.image("train/n02/images/1.JPEG", 1);
    place.check_error(DatasetKind::TinyImagenet, &["val", "no list of the images"]);
    place.image("train/n03/images/1.JPEG", 1);
    place.check_error(DatasetKind::TinyImagenet, &["n03: a folder that is no class"]);
}

/// A loader over the training images with every random change.
fn loader(set: Arc<ImageDataset>, num_workers: usize) -> Loader {
    Loader {
        indices: (0..set.len() as u32).collect(),
        normalization: set.normalization(),
        dataset: set,
        batch_size: 4,
        augmentation: Augmentation {
            random_resized_crop: Some(0.08),
            jitter: ColorJitter { brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.2 },
            crop_padding: 0,
            flip: true,
            cutout: 0,
        },
        order: Some(Purpose::Train),
        seed: 5,
        num_workers,
    }
}

#[test]
fn batches_of_files_depend_on_place_alone() {
    let place = imagenet();
    place.write("val.txt", "a.JPEG 1\n");
    let batches = |cache_bytes: u64, workers: usize| -> Vec<Batch> {
        let source = Source { cache_bytes, ..place.source(DatasetKind::Imagenet) };
        let loader = loader(load(&source).expect("whole").train, workers);
        loader.endless(1).take(5).map(|batch| batch.expect("whole")).collect()
    };
    let expected = batches(0, 0);
    assert_eq!(expected[0].shape, [4, 3, 16, 16]);
    assert_ne!(expected[0].images, expected[3].images, "another epoch, another order");
    // 1,800 bytes each: two are kept, or all.
    for (cache_bytes, workers) in [(0, 3), (4000, 0), (4000, 2), (1 << 20, 1)] {
        assert_eq!(batches(cache_bytes, workers), expected, "{cache_bytes} bytes, {workers}");
    }
}

#[test]
fn memory_is_kept_within_its_limit_and_files_are_not_read_again() {
    let place = imagenet();
    place.write("val.txt", "a.JPEG 1\n");
    let load_with = |cache_bytes| {
        let source = Source { cache_bytes, ..place.source(DatasetKind::Imagenet) };
        load(&source).expect("whole").train
    };
    let (none, some, all) = (load_with(0), load_with(4000), load_with(1 << 20));
    assert_eq!((none.memory_bytes(), all.memory_bytes()), (0, 18_000));
    assert!(some.memory_bytes() <= 4000, "{}", some.memory_bytes());
    let expected = all.pixels(3).expect("kept").into_owned();
    assert_eq!(*none.pixels(3).expect("decoded"), expected);
    assert_eq!((none.digest(), some.digest()), (all.digest(), all.digest()));
    fs::remove_dir_all(place.path().join("train")).expect("there");
    assert_eq!(*all.pixels(3).expect("kept"), expected);
    assert!(none.pixels(3).is_err(), "nothing to replace it with");
}

#[test]
fn an_image_that_breaks_later_is_replaced_or_fatal() {
    let place = imagenet();
    place.write("val.txt", "a.JPEG 1\n");
    let load_with = |broken| {
        let source = place.source(DatasetKind::Imagenet);
        load(&Source { cache_bytes: 0, broken, ..source }).expect("whole").train
    };
    let (skip, fail) = (load_with(BrokenImages::Skip), load_with(BrokenImages::Fail));
    for image in [4, 5] {
        let name = format!("train/n0{}/n0{}_{}.JPEG", image / 5 + 1, image / 5 + 1, image % 5);
        place.write(&name, "no image");
    }
    let plain = |set| Loader { augmentation: Augmentation::NONE, order: None, ..loader(set, 2) };
    let skip = plain(skip);
    let labels: Vec<i32> =
        skip.epoch(0, 0).flat_map(|batch| batch.expect("replaced").labels).collect();
    assert_eq!(labels, [0, 0, 0, 0, 1, 1, 1, 1, 1, 1], "the fifth and sixth are the seventh");
    let first = skip.batch(0, 1).expect("replaced");
    let length = 3 * 16 * 16;
    assert_eq!(first.images[..length], first.images[2 * length..3 * length]);
    let replaced = skip.dataset.replaced();
    assert_eq!(replaced.len(), 2);
    assert!(
        replaced[0].path.ends_with("n01_4.JPEG") && replaced[0].reason == "neither JPEG nor PNG"
    );
    let batches: Vec<Result<Batch>> = plain(fail).epoch(0, 0).collect();
    let message = batches[1].as_ref().expect_err("broken").to_string();
    assert!(batches[0].is_ok() && message.contains("n01_4.JPEG"), "{message}");
}

#[test]
fn digests_know_names_sizes_and_labels() {
    let digest = |names: &[(&str, u8)]| {
        let place = Place::new();
        names.iter().for_each(|&(name, seed)| drop(place.image(&format!("train/{name}"), seed)));
        place.load(DatasetKind::Folder).expect("whole").train.digest()
    };
    let base = [("a/1.png", 1), ("a/2.png", 2), ("a/3.png", 3), ("b/1.png", 4), ("b/2.png", 5)];
    let mut renamed = base;
    renamed[0].0 = "a/0.png";
    let mut moved = base;
    moved[1].0 = "b/3.png";
    let all: BTreeSet<String> = [base, renamed, moved].iter().map(|names| digest(names)).collect();
    assert_eq!(all.len(), 3);
    assert_eq!(digest(&base), digest(&base));
}

#[test]
fn sets_in_memory_can_be_read_at_another_size() {
    let kind = DatasetKind::Cifar10;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/cifar10-mini");
    let source = Source { image_size: Some(16), ..Source::new(kind, folder) };
    let train = load(&source).expect("the sample").train;
    let pixels = train.pixels(0).expect("in memory");
    assert_eq!((train.size(), pixels.len()), ([16, 16], 768));
    let own = load(&Source { image_size: None, ..source }).expect("the sample").train;
    let sum = |pixels: &[u8]| pixels.iter().map(|&value| f64::from(value)).sum::<f64>();
    let (small, large) = (sum(&pixels), sum(&own.pixels(0).expect("in memory")) / 4.0);
    assert!((small - large).abs() < 0.01 * large, "{small} and {large}");
}

fn idx(kind: u8, sides: &[u32], bytes: &[u8]) -> Vec<u8> {
    let mut all = vec![0, 0, 8, kind];
    sides.iter().for_each(|side| all.extend(side.to_be_bytes()));
    [all, bytes.to_vec()].concat()
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).expect("in memory");
    encoder.finish().expect("in memory")
}

#[test]
fn fashion_mnist_is_read_and_its_faults_are_told() {
    let place = Place::new();
    let pixels: Vec<u8> = (0..12).collect();
    place.write("train-images-idx3-ubyte.gz", gzipped(&idx(3, &[2, 2, 3], &pixels)));
    place.write("train-labels-idx1-ubyte", idx(1, &[2], &[9, 0]));
    place.write("t10k-images-idx3-ubyte", idx(3, &[1, 2, 3], &pixels[..6]));
    place.write("t10k-labels-idx1-ubyte.gz", gzipped(&idx(1, &[1], &[1])));
    let source = Source::new(DatasetKind::FashionMnist, place.path());
    let Datasets { train, test, .. } = load(&source).expect("whole");
    assert_eq!((labels(&train), labels(&test)), (vec![9, 0], vec![1]));
    assert_eq!((train.size(), &*train.class_names()[9]), ([2, 3], "Ankle boot"));
    assert_eq!(*train.pixels(1).expect("in memory"), [&pixels[6..]; 3].concat());
    let check = |name: &str, bytes: Vec<u8>, expected: &str| {
        let old = fs::read(place.path().join(name)).expect("there");
        place.write(name, bytes);
        place.check_error(DatasetKind::FashionMnist, &[name, expected]);
        place.write(name, old);
    };
    let (images, labels) = ("t10k-images-idx3-ubyte", "train-labels-idx1-ubyte");
    check(images, idx(3, &[1, 2, 3], &pixels), "12 bytes behind the head, which says [1, 2, 3]");
    check(images, idx(3, &[u32::MAX; 3], &pixels), "12 bytes behind the head");
    check(images, idx(1, &[6], &pixels), "no IDX file of bytes in 3 dimensions");
    check(images, vec![0, 0], "no IDX file");
    check(images, idx(3, &[0, 2, 3], &[]), "0 images of 2x3");
    check(labels, idx(1, &[3], &[1, 2, 3]), "3 labels, but 2 images");
    check(labels, idx(1, &[2], &[1, 10]), "label 1 is 10, allowed: 0 to 9");
    check("train-images-idx3-ubyte.gz", vec![0x1f, 0x8b, 8, 0, 1], "cannot be unpacked");
    fs::remove_file(place.path().join(labels)).expect("there");
    place.check_error(DatasetKind::FashionMnist, &[labels, "is missing"]);
}

proptest! {
    /// Inside the picture, of the area and ratio that torchvision allows but for rounding.
    #[test]
    fn random_regions_are_within_their_bounds(
        height in 8..600_usize, width in 8..600_usize, index: u64, least in 0.05..1.0_f64,
    ) {
        let augmentation = Augmentation { random_resized_crop: Some(least), ..Augmentation::NONE };
        let mut rng = stream_rng(1, Purpose::Train, 0, index);
        let region = augmentation.region([height, width], &mut rng).expect("switched on");
        let (h, w) = (height as f64, width as f64);
        prop_assert!(region.top >= 0.0 && region.top + region.height <= h + 1e-9);
        prop_assert!(region.left >= 0.0 && region.left + region.width <= w + 1e-9);
        prop_assert!(region.height >= 1.0 && region.width >= 1.0);
        let ratio = region.width / region.height;
        let (narrow, wide) = ((region.width - 1.0) / (region.height + 1.0), (region.width + 1.0) / (region.height - 1.0).max(0.5));
        prop_assert!(narrow <= 4.0 / 3.0 && wide >= 3.0 / 4.0, "{ratio}");
    }

    /// Reads or refuses.
    #[test]
    fn no_bytes_make_the_decoder_panic(
        cut in 0..2000_usize, at in 0..2000_usize, with: u8, jpeg: bool,
    ) {
        let format = if jpeg { ImageFormat::Jpeg } else { ImageFormat::Png };
        let mut bytes = encoded(&DynamicImage::ImageRgb8(picture(9)), format);
        let place = at % bytes.len();
        bytes[place] = with;
        bytes.truncate(bytes.len().saturating_sub(cut % 50));
        let place = Place::new();
        if let Ok(picture) = Picture::read(&place.write("x.jpg", &bytes), 64) {
            prop_assert_eq!(picture.pixels.len(), 3 * picture.size[0] * picture.size[1]);
        }
    }
}

/// A mean of many draws: the area of a random part lies evenly between its bounds.
#[test]
fn random_regions_spread_over_all_areas() {
    let augmentation = Augmentation { random_resized_crop: Some(0.08), ..Augmentation::NONE };
    let shares: Vec<f64> = (0..2000)
        .map(|index| {
            let mut rng = stream_rng(1, Purpose::Train, 0, index);
            let region = augmentation.region([400, 400], &mut rng).expect("switched on");
            region.height * region.width / 160_000.0
        })
        .collect();
    let mean = shares.iter().sum::<f64>() / 2000.0;
    let (least, most) = shares.iter().fold((1.0_f64, 0.0_f64), |(a, b), &x| (a.min(x), b.max(x)));
    // Some of the largest do not fit at their ratio and are drawn again: the mean is below 0.54.
    assert!((0.45..0.54).contains(&mean) && least < 0.09 && most > 0.97, "{mean} {least} {most}");
}
