//! Files in IDX format.

use super::*;

fn idx(kind: u8, sides: &[u32], bytes: &[u8]) -> Vec<u8> {
    let mut all = vec![0, 0, 8, kind];
    sides.iter().for_each(|side| all.extend(side.to_be_bytes()));
    [all, bytes.to_vec()].concat()
}

pub(super) fn gzipped(bytes: &[u8]) -> Vec<u8> {
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
    check(
        images,
        idx(3, &[1, 2, 3], &pixels),
        "more bytes behind the head than it says: [1, 2, 3]",
    );
    check(images, idx(3, &[u32::MAX; 3], &pixels), "above 1024 MiB");
    check(images, idx(3, &[3, 2, 3], &pixels), "12 bytes behind the head, which says [3, 2, 3]");
    // A file that would unpack to more bytes than its header says is not unpacked further.
    let bomb = idx(3, &[1, 2, 3], &vec![0; 100 << 20]);
    check(images, gzipped(&bomb), "more bytes behind the head than it says");
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
    /// Inside the picture, with an area and a ratio that torchvision allows, up to rounding.
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

    /// The file is read or refused.
    #[test]
    fn no_bytes_make_the_decoder_panic(
        cut in 0..2000_usize, at in 0..2000_usize, with: u8, format in 0..4_usize,
    ) {
        use ImageFormat::{Bmp, Jpeg, Png, WebP};
        let format = [Jpeg, Png, WebP, Bmp][format];
        let mut bytes = encoded(&DynamicImage::ImageRgb8(picture(9)), format);
        let place = at % bytes.len();
        bytes[place] = with;
        bytes.truncate(bytes.len().saturating_sub(cut % 50));
        let place = Place::new();
        if let Ok(picture) = Picture::read(&place.write("x.jpg", &bytes), true, 64) {
            prop_assert_eq!(picture.pixels.len(), 3 * picture.size[0] * picture.size[1]);
        }
    }
}
