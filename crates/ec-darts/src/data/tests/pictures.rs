//! From files of pictures to pixels.

use super::*;

#[test]
fn every_kind_of_pixel_becomes_rgb() {
    let place = Place::new();
    let rgb = DynamicImage::ImageRgb8(picture(3));
    let read = |name: &str, bytes: &[u8]| {
        let picture = Picture::read(&place.write(name, bytes), true, usize::MAX).expect("an image");
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
    // A JPEG, whatever the ending of its name.
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
        let picture =
            Picture::read(&place.write("x.jpg", bytes), true, usize::MAX).expect("a JPEG");
        for (x, expected) in [2, 13].into_iter().zip(expected) {
            let found: [i32; 3] =
                std::array::from_fn(|c| picture.pixels[(5 * 16 + x) * 3 + c].into());
            let near = found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 4);
            assert!(near, "{found:?}, not {expected:?}");
        }
    };
    let mut bytes = fs::read(fixture("images/cmyk.jpg")).expect("there");
    check(&bytes, [[49, 190, 216], [180, 119, 27]]);
    // The same values read as YCCK: the mark in Adobe's segment tells the two apart. They are
    // inverted inks (55, 215, 245, 225) and (235, 155, 35, 195), here brightness, two colours and
    // black.
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
    // The crop takes 224 of 256 of the shorter side of 400.
    let centre = Region::centre([400, 600], [224, 224], Some(256));
    assert_eq!(centre, Region { top: 25.0, left: 125.0, height: 350.0, width: 350.0 });
    let place = Place::new();
    let path = place.image("x.png", 4);
    let whole = decode(&path, [20; 2], None, true).expect("an image");
    let expected: Vec<u8> = picture(4)
        .enumerate_pixels()
        .filter_map(|(x, _, pixel)| (5..25).contains(&x).then_some(pixel[0]))
        .collect();
    assert_eq!(whole[..400], expected);
    assert!(decode(&place.path().join("none.png"), [20; 2], None, true).is_err());
}

#[test]
fn large_pictures_are_kept_smaller() {
    let place = Place::new();
    let read = |most| Picture::read(&place.image("x.png", 4), true, most).expect("an image");
    assert_eq!((read(20).size, read(10).size, read(7).size), ([20, 30], [10, 15], [7, 11]));
}

/// The mean of many draws: the area of a random crop is uniform between its bounds.
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
    // Some of the largest crops do not fit at their ratio and are drawn again: the mean is below
    // 0.54.
    assert!((0.45..0.54).contains(&mean) && least < 0.09 && most > 0.97, "{mean} {least} {most}");
}

/// A JPEG of 16x8, red on the left and blue on the right, with Exif data behind its first marker.
fn noted(orientation: u8) -> Vec<u8> {
    let colour = |x| if x < 8 { Rgb([255, 60, 0]) } else { Rgb([0, 160, 255]) };
    let image = RgbImage::from_fn(16, 8, |x, _| colour(x));
    let bytes = encoded(&DynamicImage::ImageRgb8(image), ImageFormat::Jpeg);
    let mut note = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    note.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    let length = (note.len() as u16 + 2).to_be_bytes();
    [&bytes[..2], &[0xff, 0xe1], &length, &note, &bytes[2..]].concat()
}

#[test]
fn pictures_are_turned_as_their_cameras_noted() {
    let place = Place::new();
    // Height and width, and whether the first pixel is red.
    let check = |orientation: u8, apply: bool, size: [usize; 2], red: bool| {
        let path = place.write("x.jpg", noted(orientation));
        let picture = Picture::read(&path, apply, usize::MAX).expect("an image");
        assert_eq!(picture.size, size, "{orientation}");
        assert_eq!(picture.pixels[0] > picture.pixels[2], red, "{orientation}");
        assert_eq!(decode::read_size(&path, apply).expect("a head"), size, "{orientation}");
    };
    check(1, true, [8, 16], true);
    check(2, true, [8, 16], false);
    check(3, true, [8, 16], false);
    check(4, true, [8, 16], true);
    check(5, true, [16, 8], true);
    check(6, true, [16, 8], true);
    check(7, true, [16, 8], false);
    check(8, true, [16, 8], false);
    check(8, false, [8, 16], true);
    check(0, true, [8, 16], true);
    check(99, true, [8, 16], true);
    // Through a set: the training images of a folder, with the setting off and on.
    let place = Place::new();
    for (class, orientation) in [("a", 3), ("b", 1)] {
        place.write(&format!("train/{class}/1.jpg"), noted(orientation));
        place.write(&format!("test/{class}/1.jpg"), noted(4));
    }
    let source = Source { image_size: Some(8), ..place.source(DatasetKind::Folder) };
    let red_of = |orientation| {
        let set = load(&Source { orientation, ..source.clone() }).expect("whole").train;
        set.pixels(0).expect("whole")[0]
    };
    assert!(red_of(true) < 100 && red_of(false) > 200);
}

#[test]
fn what_follows_an_image_is_not_looked_at() {
    let place = Place::new();
    let whole = encoded(&DynamicImage::ImageRgb8(picture(3)), ImageFormat::Jpeg);
    let read = |bytes: &[u8]| Picture::read(&place.write("x.jpg", bytes), true, usize::MAX);
    let expected = read(&whole).expect("an image");
    // The film of a motion photo has bytes like any marker.
    let film =
        [b"....ftypmp42".as_slice(), &[0xff, 0xda, 0, 8], &[9; 3000], &[0xff, 0xda]].concat();
    for more in [&film[..], &[0; 1000], &[0xff], &[0xff, 0xd8, 0xff], b"\n"] {
        assert_eq!(read(&[&whole, more].concat()).expect("an image"), expected);
    }
    // Truncated files, also where a thumbnail within the header has an end marker.
    let thumbnail = [&[0xff, 0xe1, 0, 8], &[0xff, 0xd9, 0xff, 0xd9, 0xff, 0xd9][..]].concat();
    let with = [&whole[..2], &thumbnail, &whole[2..]].concat();
    assert_eq!(read(&with).expect("an image"), expected);
    for cut in 3..with.len() {
        let message = read(&with[..cut]).unwrap_err().to_string();
        assert!(message.contains("cut short"), "{cut}: {message}");
    }
}

/// Headers that ask for more memory than an image may have are refused before any memory is taken.
#[test]
fn bombs_are_refused() {
    let place = Place::new();
    let image = DynamicImage::ImageRgb8(picture(3));
    let of = |format| encoded(&image, format);
    let mut png = of(ImageFormat::Png);
    png[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
    let mut check = flate2::Crc::new();
    check.update(&png[12..29]);
    png[29..33].copy_from_slice(&check.sum().to_be_bytes());
    let mut bmp = of(ImageFormat::Bmp);
    bmp[18..26].copy_from_slice(&[0, 0x80, 0, 0, 0, 0x80, 0, 0]);
    let mut jpeg = of(ImageFormat::Jpeg);
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).expect("a frame");
    jpeg[frame + 5..frame + 9].fill(0xff);
    let mut webp = of(ImageFormat::WebP);
    assert_eq!(webp[12..16], *b"VP8L");
    webp[21..24].fill(0xff);
    webp[24] |= 0x0f;
    let before = crate::memory::peak_bytes();
    for (name, bytes) in [("a.png", png), ("b.bmp", bmp), ("c.jpg", jpeg), ("d.webp", webp)] {
        let found = Picture::read(&place.write(name, bytes), true, usize::MAX);
        let message = found.expect_err(name).to_string();
        // The encoder writes the size of a WebP twice.
        let expected = if name == "d.webp" { "inconsistent" } else { "limit" };
        assert!(message.to_lowercase().contains(expected), "{name}: {message}");
    }
    if let (Some(before), Some(after)) = (before, crate::memory::peak_bytes()) {
        assert!(after - before < 400 << 20, "{} MiB", (after - before) >> 20);
    }
}
