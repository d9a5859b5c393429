//! Folders of a user's own images with more than images in them: links, special files, other
//! layouts.

use super::*;

/// Every notice as text.
fn told(images: &Datasets) -> Vec<String> {
    images.notices.iter().map(ToString::to_string).collect()
}

/// Two classes with two images each for training and one for testing.
fn folder() -> Place {
    let place = Place::new();
    for (number, class) in (0..).zip(["cat", "dog"]) {
        place.image(&format!("train/{class}/1.jpg"), 10 * number);
        place.image(&format!("train/{class}/2.jpg"), 10 * number + 1);
        place.image(&format!("test/{class}/3.jpg"), 10 * number + 2);
    }
    place
}

/// Checks the numbers of training and test images, and the other notices about a folder.
fn check(place: &Place, counts: (usize, usize), expected: &[&str]) {
    let read = place.load(DatasetKind::Folder).expect("a usable folder");
    assert_eq!((read.train.len(), read.test.len()), counts, "{:?}", told(&read));
    assert_eq!(told(&read), expected);
}

#[test]
fn folders_of_test_images_have_many_names_and_one_is_taken() {
    let place = folder();
    check(&place, (4, 2), &[]);
    place.image("valid/cat/4.jpg", 40);
    place.image("validation/cat/5.jpg", 50);
    check(
        &place,
        (4, 2),
        &["not chosen 2: not read, since test images are those of test: valid, validation"],
    );
    fs::remove_dir_all(place.path().join("test")).expect("there");
    let no_dog = "classes 1: no test image, so its accuracy will not be known: dog";
    let rest = "not chosen 1: not read, since test images are those of valid: validation";
    check(&place, (4, 1), &[rest, no_dog]);
    place.image("annotations/x.jpg", 1);
    place.image("stray.jpg", 1);
    place.image("train/stray.jpg", 1);
    place.image("Val/readme.jpg", 1);
    let expected = [
        "ignored 2: an image in no folder of a class: stray.jpg, train/stray.jpg",
        "ignored 1: no folder of a class is in it: Val",
        "not chosen 1: not read, since classes are those of train: annotations",
        rest,
        no_dog,
    ];
    check(&place, (4, 1), &expected);
    let place = Place::new();
    place.image("Training/cat/1.jpg", 1);
    place.image("Testing/cat/2.jpg", 2);
    let one = "classes 1: there is one class only, so there is nothing to tell apart: cat";
    check(&place, (1, 1), &[one]);
}

#[test]
fn a_class_may_be_called_train() {
    let place = Place::new();
    for image in 0..20 {
        place.image(&format!("train/{image}.jpg"), image);
        place.image(&format!("train/old/{image}.jpg"), 200 - image);
        place.image(&format!("plane/{image}.jpg"), 100 + image);
    }
    let read = place.load(DatasetKind::Folder).expect("two classes");
    assert_eq!(read.train.class_names(), ["plane", "train"]);
    assert_eq!(read.train.len() + read.test.len(), 60);
    // Only parts, and no class in them.
    let place = Place::new();
    place.image("train/1.jpg", 1);
    place.image("test/1.jpg", 2);
    place.check_error(DatasetKind::Folder, &["no folder of a class: train/ needs one for each"]);
}

#[test]
fn content_decides_where_a_name_does_not() {
    let place = folder();
    let jpeg = fs::read(place.path().join("train/cat/1.jpg")).expect("there");
    let rgb = DynamicImage::ImageRgb8(picture(3));
    place.write("train/cat/a.jfif", encoded(&rgb, ImageFormat::Jpeg));
    place.write("train/cat/b.JPE", [&*jpeg, b"b"].concat());
    place.write("train/cat/c", encoded(&rgb, ImageFormat::Png));
    place.write("train/cat/d.photo", encoded(&rgb, ImageFormat::WebP));
    place.write("train/cat/e", encoded(&rgb, ImageFormat::Bmp));
    place.write("train/cat/f.bmp", encoded(&rgb, ImageFormat::Bmp));
    place.write("train/cat/g.gif", encoded(&rgb, ImageFormat::Jpeg));
    place.write("train/cat/h", "BMW, a text that begins as a bitmap does");
    place.write("train/cat/i", "GIF89a");
    place.write("train/cat/j", "");
    let expected = [
        "skipped 1: only JPEG, PNG, WebP and BMP are read: train/cat/i",
        "ignored 2: no image: train/cat/h, train/cat/j",
    ];
    check(&place, (11, 2), &expected);
}

#[test]
fn folders_of_systems_and_deep_folders() {
    let place = folder();
    place.image("train/@eaDir/cat/x.jpg", 1);
    place.image("@eaDir/x.jpg", 1);
    place.image("train/cat/@eaDir/1.jpg/SYNO_THUMB.jpg", 1);
    place.image("__MACOSX/x.jpg", 1);
    let deep = "x/".repeat(40);
    place.image(&format!("train/dog/{deep}1.jpg"), 77);
    let expected = "ignored 4: a folder of the system, not of images: @eaDir, __MACOSX, \
                    train/@eaDir and 1 more";
    check(&place, (5, 2), &[expected]);
}

#[test]
fn imbalance_is_told() {
    let place = folder();
    (0..21).for_each(|image| drop(place.image(&format!("train/cat/more/{image}.png"), 50 + image)));
    let expected = "classes 1: training images are unbalanced: fewer than a tenth of the largest \
                    class's 23: dog";
    check(&place, (25, 2), &[expected]);
}

#[cfg(unix)]
mod unix {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn links_show_nothing_twice() {
        let place = folder();
        let link = |to: &str, from: &str| symlink(to, place.path().join(from)).expect("linked");
        link("../..", "train/cat/loop");
        link("..", "test/dog/up");
        link("/", "train/dog/everything");
        link("../../train/cat", "test/dog/cats");
        check(
            &place,
            (4, 2),
            &["ignored 4: a folder that is read under another name: test/dog/cats, test/dog/up, \
             train/cat/loop and 1 more"],
        );
        // Links to files, and two names of one file.
        link("../cat/1.jpg", "train/dog/one.jpg");
        link("../../test/cat/3.jpg", "train/cat/three.jpg");
        let [old, new] =
            ["train/dog/2.jpg", "test/cat/two.jpg"].map(|name| place.path().join(name));
        fs::hard_link(old, new).expect("linked");
        check(
            &place,
            (4, 2),
            &[
                "ignored 4: a folder that is read under another name: test/dog/cats, test/dog/up, \
             train/cat/loop and 1 more",
                "ignored 1: the same file as one that is counted in test/cat: train/cat/three.jpg",
                "ignored 1: the same file as one that is counted in train/cat: train/dog/one.jpg",
                "ignored 1: the same file as one that is counted in train/dog: test/cat/two.jpg",
            ],
        );
    }

    /// In the place of class folders, these would be classes without an image.
    #[test]
    fn links_upwards_are_no_classes() {
        let place = folder();
        let link = |to: &str, from: &str| symlink(to, place.path().join(from)).expect("linked");
        link(".", "train/all");
        link("..", "train/above");
        link(".", "loop");
        link("/", "test/everything");
        check(
            &place,
            (4, 2),
            &[
                "ignored 4: a link to a folder that it is in: loop, test/everything, train/above and 1 more",
            ],
        );
    }

    /// Links to folders and images elsewhere.
    #[test]
    fn links_to_elsewhere_are_followed() {
        let (place, elsewhere) = (Place::new(), folder());
        let link = |to: &str, from: &str| {
            let from = place.path().join(from);
            fs::create_dir_all(from.parent().expect("a folder")).expect("made");
            symlink(elsewhere.path().join(to), from).expect("linked");
        };
        link("train/cat", "train/cat");
        link("train/dog/1.jpg", "train/dog/x.jpg");
        link("test", "test");
        check(&place, (3, 2), &[]);
        link("train/cat", "train/other");
        place.check_error(
            DatasetKind::Folder,
            &[
                "train/other: a class without an image",
                "ignored train/other: a folder that is read under another name",
            ],
        );
    }

    #[test]
    fn what_is_no_regular_file_is_not_opened() {
        let place = folder();
        let fifo = place.path().join("train/cat/fifo.jpg");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo");
        assert!(made.success());
        symlink("/dev/zero", place.path().join("train/cat/zero.png")).expect("linked");
        symlink("nowhere", place.path().join("train/dog/gone.jpg")).expect("linked");
        symlink("self.jpg", place.path().join("train/dog/self.jpg")).expect("linked");
        let mut expected =
            vec!["train/cat/fifo.jpg: no regular file", "train/cat/zero.png: no regular file"];
        if Path::new("/proc/self/mounts").is_file() {
            symlink("/proc/self/mounts", place.path().join("train/cat/proc.png")).expect("linked");
            expected.insert(1, "train/cat/proc.png: the file is empty");
        }
        expected.extend(["gone", "self"].map(|name| match name {
            "gone" => "train/dog/gone.jpg: a link that leads nowhere",
            _ => "train/dog/self.jpg: a link that leads nowhere",
        }));
        let start = Instant::now();
        let read = place.load(DatasetKind::Folder).expect("the rest");
        assert_eq!((read.train.len(), read.test.len()), (4, 2));
        assert_eq!(skipped(&read), expected);
        for path in [&fifo, Path::new("/dev/zero")] {
            let message = decode(path, [16; 2], None, true).unwrap_err().to_string();
            assert!(message.ends_with("no regular file"), "{message}");
        }
        assert!(start.elapsed() < Duration::from_secs(20));
        let source = Source { broken: BrokenImages::Fail, ..place.source(DatasetKind::Folder) };
        assert!(load(&source).unwrap_err().to_string().contains("fifo.jpg: no regular file"));
    }

    #[test]
    fn names_need_not_be_text() {
        let place = folder();
        let name = |bytes: &'static [u8]| std::ffi::OsStr::from_bytes(bytes);
        for (seed, class) in [(30, &b"\xffbird"[..]), (40, b"\xfebird")] {
            let class = place.path().join("train").join(name(class));
            fs::create_dir(&class).expect("made");
            let path = place.image("x.png", seed);
            fs::rename(path, class.join(name(b"\xfd.png"))).expect("moved");
        }
        let read = place.load(DatasetKind::Folder).expect("four classes");
        assert_eq!(read.train.class_names(), ["cat", "dog", "\\xFEbird", "\\xFFbird"]);
        assert_eq!(read.train.len(), 6);
        let told = serde_json::to_string(&read.notices).expect("any name is JSON");
        assert!(told.contains("no test image"), "{told}");
    }
}
