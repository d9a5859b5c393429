//! Batches of files: order, memory, images that break later.

use std::sync::Arc;

use super::*;

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
    // Each takes 1,800 bytes: two are kept, or all.
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
    // Measured in the order of the list: broken images are left out.
    let listed = |set| Loader { augmentation: Augmentation::NONE, order: None, ..loader(set, 2) };
    let measured = listed(skip.clone());
    let labels: Vec<i32> =
        measured.epoch(0, 0).flat_map(|batch| batch.expect("the rest").labels).collect();
    assert_eq!(labels, [0, 0, 0, 0, 1, 1, 1, 1]);
    let told: Vec<String> = skip.replaced().iter().map(ToString::to_string).collect();
    let expected = "replaced 2: none of JPEG, PNG, WebP and BMP: train/n01/n01_4.JPEG, \
                    train/n02/n02_0.JPEG";
    assert_eq!(told, [expected]);
    // In random order the next image replaces a broken one: the fifth and sixth are the seventh.
    let trained = Loader { augmentation: Augmentation::NONE, ..loader(skip, 2) };
    let labels: Vec<i32> =
        trained.epoch(0, 0).flat_map(|batch| batch.expect("replaced").labels).collect();
    assert_eq!(labels.iter().filter(|&&label| label == 1).count(), 6);
    assert_eq!(labels.len(), 10);
    let alone = |image| Loader { indices: vec![image].into(), ..trained.clone() };
    let images = [4, 5, 6].map(|image| alone(image).batch(0, 0).expect("replaced").images);
    assert!(images[0] == images[2] && images[1] == images[2]);
    let batches: Vec<Result<Batch>> = listed(fail).epoch(0, 0).collect();
    let message = batches[1].as_ref().expect_err("broken").to_string();
    assert!(batches[0].is_ok() && message.contains("n01_4.JPEG"), "{message}");
}
