//! The bundled sample of CIFAR-10. It belongs to no crate, and so do its tests.

use std::path::Path;

use ec_darts::data::{Batch, DatasetKind, Loader, Source, load};

fn sample() -> Source {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/cifar10-mini");
    Source::new(DatasetKind::Cifar10, folder)
}

/// Expected: the file's bytes by hand, `(byte / 255 - mean) / std` in single precision.
#[test]
fn first_record_of_the_sample_has_its_values() {
    let dataset = load(&sample()).expect("the sample").train;
    assert_eq!((dataset.label(0), &*dataset.class_names()[5]), (5, "dog"));
    let loader = Loader {
        indices: [0].into(),
        normalization: DatasetKind::Cifar10.normalization().expect("published"),
        ..Loader::new(dataset, 1)
    };
    let Batch { images, labels, shape } = loader.batch(0, 0).expect("in memory");
    assert_eq!((labels, shape), (vec![5], [1, 3, 32, 32]));
    for (y, x, expected) in [
        (0, 0, [1.788_971_7, 1.949_623_6, 2.085_823]),
        (5, 17, [-0.655_735_9, -1.158_832_3, -1.287_242_5]),
        (31, 31, [-1.798_716_2, -1.786_965_8, -1.587_070_6]),
    ] {
        let found: [f32; 3] = std::array::from_fn(|c| images[(c * 32 + y) * 32 + x]);
        for (found, expected) in found.into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} at {y}, {x}, not {expected}");
        }
    }
}

#[test]
fn bundled_sample_is_whole() {
    let sample = load(&sample()).expect("the bundled sample");
    assert_eq!((sample.train.len(), sample.test.len()), (1000, 500));
    assert_eq!(sample.train.class_names()[6], "frog");
    for class in 0..10 {
        let count = (0..1000).filter(|&image| sample.train.label(image) == class).count();
        assert_eq!(count, 100, "class {class}");
    }
}

#[test]
fn sets_in_memory_can_be_read_at_another_size() {
    let source = Source { image_size: Some(16), ..sample() };
    let train = load(&source).expect("the sample").train;
    let pixels = train.pixels(0).expect("in memory");
    assert_eq!((train.size(), pixels.len()), ([16, 16], 768));
    let own = load(&Source { image_size: None, ..source }).expect("the sample").train;
    let sum = |pixels: &[u8]| pixels.iter().map(|&value| f64::from(value)).sum::<f64>();
    let (small, large) = (sum(&pixels), sum(&own.pixels(0).expect("in memory")) / 4.0);
    assert!((small - large).abs() < 0.01 * large, "{small} and {large}");
}
