//! Folders of every layout, whole and broken.

use super::*;

#[test]
fn tiny_imagenet_is_read() {
    let source = Source::new(DatasetKind::TinyImagenet, fixture("tiny-imagenet-tiny"));
    let Datasets { train, test, notices } = load(&source).expect("the sample");
    assert_eq!((train.len(), test.len()), (18, 9));
    assert!(notices.iter().all(|notice| notice.kind == NoticeKind::Ignored), "{notices:?}");
    assert_eq!(train.class_names(), ["Egyptian cat", "oboe, hautboy, hautbois", "pretzel"]);
    assert_eq!(labels(&train), [[0; 6], [1; 6], [2; 6]].concat());
    for class in 0..3 {
        assert_eq!(labels(&test).iter().filter(|&&label| label == class).count(), 3);
    }
    assert_eq!((train.size(), test.size()), ([64, 64], [64, 64]));
    // At most two pictures are grey; in all others the channels differ somewhere.
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
        assert_eq!((read.train.len(), skipped(&read).len()), (10, 0));
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
    place.write("cat/readme.txt", "no image");
    place.write(".hidden/x.jpg", "no image");
    let load_with = |seed: u64, fraction: f64| {
        let source = place.source(DatasetKind::Folder);
        load(&Source { split_seed: seed, test_fraction: fraction, ..source })
    };
    let read = load_with(0, 0.3).expect("a whole set");
    assert_eq!(read.train.class_names(), ["cat", "dog"]);
    let told: Vec<String> = read.notices.iter().map(ToString::to_string).collect();
    let expected = [
        "ignored 1: hidden: the name begins with a dot: .hidden",
        "ignored 1: no image: cat/readme.txt",
    ];
    assert_eq!(told, expected);
    let images = |set: &ImageDataset| -> BTreeSet<Vec<u8>> {
        (0..set.len()).map(|image| set.pixels(image).expect("whole").into_owned()).collect()
    };
    let (train, test) = (images(&read.train), images(&read.test));
    assert_eq!((train.len() + test.len(), train.intersection(&test).count()), (20, 0));
    assert_eq!(read.test.digest(), load_with(0, 0.3).expect("whole").test.digest());
    assert_ne!(read.test.digest(), load_with(1, 0.3).expect("whole").test.digest());
    let message = load_with(0, 0.999).unwrap_err().to_string();
    assert!(message.contains("is left for training: by their names all 10"), "{message}");
    let message = load_with(0, 1e-9).unwrap_err().to_string();
    let expected = "no image is left for testing: by their names all 20 are for training \
                    (data.test_fraction 0.000000001, data.split_seed 0); change one of the two";
    assert!(message.contains(expected), "{message}");

    // Added or removed images move no other image.
    let before = read.test.digest();
    let joins = (0..100).map(|image| format!("cat/a{image}.png"));
    let test_path = |name: &str| layout::is_test(Path::new(name), 0.3, 0);
    let (tested, trained): (Vec<_>, Vec<_>) = joins.partition(|name| test_path(name));
    assert!((15..45).contains(&tested.len()), "{}", tested.len());
    for name in &trained {
        place.image(name, 5);
    }
    let more = load_with(0, 0.3).expect("whole");
    assert_eq!((more.test.digest(), more.train.len()), (before, read.train.len() + trained.len()));

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
    for name in ["train/a/1.png", "train/b/1.png", "test/a/1.png"] {
        place.write(name, encoded(&black, ImageFormat::Png));
    }
    place.check_error(DatasetKind::Folder, &["same value in every training image"]);
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
    let found = skipped(&read);
    let expected = [
        "cat/4-cut.jpg: the JPEG is cut short: no end marker behind its scans",
        "cat/5-text.jpg: none of JPEG, PNG, WebP and BMP",
        "dog/6-empty.png: the file is empty",
        "dog/7-other.gif: only JPEG, PNG, WebP and BMP are read",
        "dog/8-cut.png: ",
    ];
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.contains(expected), "{found}");
    }
    let message = load(&Source { broken: BrokenImages::Fail, ..source.clone() }).unwrap_err();
    assert!(message.to_string().contains("7-other.gif: only JPEG,"), "{message}");
    fs::remove_file(place.path().join("dog/7-other.gif")).expect("there");
    let message = load(&Source { broken: BrokenImages::Fail, ..source }).unwrap_err();
    assert!(message.to_string().contains("the JPEG is cut short"), "{message}");

    let place = Place::new();
    place.image("train/cat/1.jpg", 1);
    place.image("test/cat/1.jpg", 2);
    place.write("train/dog/1.jpg", "woof");
    let expected = ["class \"dog\"", "skipped train/dog/1.jpg: none of JPEG"];
    place.check_error(DatasetKind::Folder, &expected);
}

#[test]
fn an_emptied_test_set_is_refused_at_once() {
    let place = Place::new();
    place.image("train/cat/1.jpg", 1);
    place.write("test/cat/1.jpg", "no image");
    let expected = ["no image for testing is left", "skipped test/cat/1.jpg: none of JPEG"];
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
    place.image("train/cat/1.jpg", 1);
    place.image("test/cat/2.jpg", 2);
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
    let skipped = skipped(&place.load(DatasetKind::Imagenet).expect("the rest"));
    assert_eq!(skipped, ["val/c.JPEG: the file is missing, but val.txt names it"]);
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

#[test]
fn digests_know_names_contents_and_labels() {
    let digest = |names: &[(&str, u8)]| {
        let place = Place::new();
        names.iter().for_each(|&(name, seed)| drop(place.image(&format!("train/{name}"), seed)));
        place.image("test/a/1.png", 77);
        place.load(DatasetKind::Folder).expect("whole").train.digest()
    };
    let base = [("a/1.png", 1), ("a/2.png", 2), ("a/3.png", 3), ("b/1.png", 4), ("b/2.png", 5)];
    let mut renamed = base;
    renamed[0].0 = "a/0.png";
    let mut moved = base;
    moved[1].0 = "b/3.png";
    let mut changed = base;
    changed[0].1 = 9;
    let all: BTreeSet<String> =
        [base, renamed, moved, changed].iter().map(|names| digest(names)).collect();
    assert_eq!(all.len(), 4);
    assert_eq!(digest(&base), digest(&base));
}
