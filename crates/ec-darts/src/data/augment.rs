//! From bytes to normalized values, with random crop, flip, colour changes and cutout.

use std::borrow::Cow;

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::ColorJitter;
use super::decode::Region;
use super::random::{below, unit};

/// Mean and standard deviation of each channel, for values in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Normalization {
    /// Red, green, blue.
    pub mean: [f32; 3],
    /// Red, green, blue.
    pub std: [f32; 3],
}

impl Normalization {
    /// The figures from sums of the bytes and of their squares, for each channel, over `count`
    /// pixels.
    pub(super) fn from_sums(sums: [[u64; 2]; 3], count: u64) -> Self {
        if count == 0 {
            return Self { mean: [0.0; 3], std: [1.0; 3] };
        }
        let whole = count as f64 * 255.0;
        Self {
            mean: sums.map(|[sum, _]| (sum as f64 / whole) as f32),
            // In whole numbers: a difference of rounded numbers could be below 0.
            std: sums.map(|[sum, square]| {
                let spread = u128::from(count) * u128::from(square) - u128::from(sum).pow(2);
                ((spread as f64).sqrt() / whole) as f32
            }),
        }
    }

    /// Normalized values of an image, `[3, height, width]` in the order of the bytes.
    pub fn apply(&self, pixels: &[u8]) -> Vec<f32> {
        let area = pixels.len() / 3;
        let value = |(at, &byte): (usize, &u8)| {
            let channel = (at / area).min(2);
            (f32::from(byte) / 255.0 - self.mean[channel]) / self.std[channel]
        };
        pixels.iter().enumerate().map(value).collect()
    }
}

/// Random changes of a training image.
///
/// # Source
/// DARTS, `cnn/utils.py`, `_data_transforms_cifar10` and `Cutout`; `cnn/train_imagenet.py`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Augmentation {
    /// Smallest share of the image that a random resized crop covers; none takes the centre, as the
    /// evaluation does.
    pub random_resized_crop: Option<f64>,
    /// Random changes of the colours.
    pub jitter: ColorJitter,
    /// Black pixels added on every side before a crop of the old size; 0 is off.
    pub crop_padding: usize,
    /// Mirrors left and right in half of the cases.
    pub flip: bool,
    /// Side of a square set to the mean, around a random pixel and clipped at the border, in
    /// pixels; 0 is off. As in the source, an odd side clears the same square as the next smaller
    /// even side.
    pub cutout: usize,
}

impl Augmentation {
    /// No change of the image.
    pub const NONE: Self = Self {
        random_resized_crop: None,
        jitter: ColorJitter { brightness: 0.0, contrast: 0.0, saturation: 0.0, hue: 0.0 },
        crop_padding: 0,
        flip: false,
        cutout: 0,
    };

    /// The random region of an image of this size that is resized; none without random resized
    /// crop.
    ///
    /// # Source
    /// torchvision, `RandomResizedCrop.get_params`: up to ten draws of an area and a ratio of width to
    /// height in [3/4, 4/3], then the centre.
    pub(super) fn region(&self, size: [usize; 2], rng: &mut impl Rng) -> Option<Region> {
        let least = self.random_resized_crop?;
        let [height, width] = size.map(|side| side as f64);
        let (narrow, wide) = (3.0 / 4.0, 4.0 / 3.0);
        for _ in 0..10 {
            let area = height * width * (least + (1.0 - least) * f64::from(unit(rng)));
            let (from, to): (f64, f64) = (f64::ln(narrow), f64::ln(wide));
            let ratio = (from + (to - from) * f64::from(unit(rng))).exp();
            let sides = [(area / ratio).sqrt(), (area * ratio).sqrt()].map(|side| side.round());
            let [tall, broad] = sides.map(|side| side as usize);
            if (1..=size[0]).contains(&tall) && (1..=size[1]).contains(&broad) {
                let mut place = |room: usize| {
                    f64::from(below(rng, u32::try_from(room + 1).expect("a side of some pixels")))
                };
                let (top, left) = (place(size[0] - tall), place(size[1] - broad));
                return Some(Region { top, left, height: sides[0], width: sides[1] });
            }
        }
        let ratio = (width / height).clamp(narrow, wide);
        let (tall, broad) = (height.min(width / ratio), width.min(height * ratio));
        let (top, left) = ((height - tall) / 2.0, (width - broad) / 2.0);
        Some(Region { top, left, height: tall, width: broad })
    }

    /// Writes a normalized image, `[3, height, width]`.
    ///
    /// Colours change first. The crop then pads with black, and cutout writes zeros after the
    /// normalization.
    ///
    /// # Shapes
    /// - `pixels`, `output`: `[3, height, width]`, row-major
    ///
    /// # Panics
    /// Where the length of `pixels` or `output` does not match the size, or where the size or twice
    /// the padding does not fit into a `u32`.
    pub fn apply(
        &self,
        pixels: &[u8],
        [height, width]: [usize; 2],
        normalization: &Normalization,
        rng: &mut impl Rng,
        output: &mut [f32],
    ) {
        assert_eq!((pixels.len(), output.len()), (3 * height * width, 3 * height * width));
        let pixels = match self.jitter == ColorJitter::default() {
            true => Cow::Borrowed(pixels),
            false => Cow::Owned(self.jitter.apply(pixels, rng)),
        };
        let mut shift = || match self.crop_padding {
            0 => 0,
            padding => {
                let places = u32::try_from(2 * padding + 1).expect("a padding of some pixels");
                below(rng, places) as isize - padding as isize
            }
        };
        let (down, right) = (shift(), shift());
        let mirrored = self.flip && below(rng, 2) == 1;
        for channel in 0..3 {
            let (mean, std) = (normalization.mean[channel], normalization.std[channel]);
            let plane = &pixels[channel * height * width..][..height * width];
            let output = &mut output[channel * height * width..][..height * width];
            for (y, row) in output.chunks_exact_mut(width).enumerate() {
                let from_y = y.checked_add_signed(down).filter(|&y| y < height);
                for (x, value) in row.iter_mut().enumerate() {
                    let x = if mirrored { width - 1 - x } else { x };
                    let from_x = x.checked_add_signed(right).filter(|&x| x < width);
                    let byte = match (from_y, from_x) {
                        (Some(y), Some(x)) => plane[y * width + x],
                        _ => 0,
                    };
                    *value = (f32::from(byte) / 255.0 - mean) / std;
                }
            }
        }
        if self.cutout > 0 {
            let mut within = |size: usize| {
                below(rng, u32::try_from(size).expect("a side of some pixels")) as usize
            };
            let centre = (within(height), within(width));
            let range = |centre: usize, size: usize| {
                let start = centre.saturating_sub(self.cutout / 2);
                start..(centre + self.cutout / 2).min(size)
            };
            for plane in output.chunks_exact_mut(height * width) {
                for y in range(centre.0, height) {
                    plane[y * width..][range(centre.1, width)].fill(0.0);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ImageDataset, Purpose, stream_rng};
    use super::*;

    const PLAIN: Normalization = Normalization { mean: [0.0; 3], std: [1.0; 3] };

    fn image() -> Vec<u8> {
        (0..3 * 6 * 5).map(|value| value as u8 + 1).collect()
    }

    fn apply(augmentation: Augmentation, index: u64) -> Vec<f32> {
        let mut output = vec![f32::NAN; 3 * 6 * 5];
        let mut rng = stream_rng(3, Purpose::Train, 0, index);
        augmentation.apply(&image(), [6, 5], &PLAIN, &mut rng, &mut output);
        output
    }

    #[test]
    fn without_changes_the_image_is_normalized() {
        let normalization = Normalization { mean: [0.5, 0.25, 0.0], std: [0.5, 0.25, 2.0] };
        let mut output = vec![0.0; 90];
        let mut rng = stream_rng(0, Purpose::Train, 0, 0);
        Augmentation::NONE.apply(&image(), [6, 5], &normalization, &mut rng, &mut output);
        let expected =
            |value: f32, c: usize| (value / 255.0 - normalization.mean[c]) / normalization.std[c];
        for (index, &value) in output.iter().enumerate() {
            assert_eq!(value, expected(index as f32 + 1.0, index / 30), "{index}");
        }
    }

    /// Every crop and flip must equal one of a slow, per-pixel version, and each of these must
    /// occur.
    #[test]
    fn crops_and_flips_are_those_of_a_padded_image() {
        let slow = |down: usize, right: usize, mirrored: bool| -> Vec<f32> {
            let source = image();
            let at = |c: usize, y: usize, x: usize| {
                let inside = (2..8).contains(&y) && (2..7).contains(&x);
                if inside { f32::from(source[c * 30 + (y - 2) * 5 + x - 2]) / 255.0 } else { 0.0 }
            };
            let mut all = Vec::new();
            for c in 0..3 {
                for y in 0..6 {
                    for x in 0..5 {
                        let x = if mirrored { 4 - x } else { x };
                        all.push(at(c, y + down, x + right));
                    }
                }
            }
            all
        };
        let augmentation = Augmentation { crop_padding: 2, flip: true, ..Augmentation::NONE };
        let mut seen = std::collections::BTreeSet::new();
        for index in 0..1000 {
            let found = apply(augmentation, index);
            let place =
                (0..50).find(|&place| slow(place / 10, place / 2 % 5, place % 2 == 1) == found);
            seen.insert(place.expect("a crop of the padded image"));
        }
        assert_eq!(seen.len(), 50);
    }

    /// Every cutout must equal one of a slow, per-pixel version, and each of these must occur.
    fn check_cutout(side: usize, reach: usize) {
        let slow = |centre: usize| -> Vec<f32> {
            let near = |at: usize, centre: usize| at + reach >= centre && at < centre + reach;
            let clears = |p: usize| near(p / 5, centre / 5) && near(p % 5, centre % 5);
            let kept = apply(Augmentation::NONE, 0);
            (0..90).map(|p| if clears(p % 30) { 0.0 } else { kept[p] }).collect()
        };
        let mut seen = std::collections::BTreeSet::new();
        for index in 0..1000 {
            let found = apply(Augmentation { cutout: side, ..Augmentation::NONE }, index);
            let centre = (0..30).find(|&centre| slow(centre) == found);
            seen.insert(centre.expect("a square around a pixel"));
        }
        assert_eq!(seen.len(), 30, "side {side}");
    }

    #[test]
    fn cutout_clears_a_square_clipped_at_the_border() {
        check_cutout(4, 2);
        check_cutout(5, 2);
        check_cutout(2, 1);
    }

    #[test]
    fn padding_is_black_before_the_normalization_and_cutout_the_mean_after_it() {
        let normalization = Normalization { mean: [0.5; 3], std: [0.25; 3] };
        let augmentation = Augmentation { crop_padding: 1, cutout: 2, ..Augmentation::NONE };
        let mut seen = std::collections::BTreeSet::new();
        for index in 0..200 {
            let mut output = [f32::NAN; 3];
            let mut rng = stream_rng(3, Purpose::Train, 0, index);
            augmentation.apply(&[255; 3], [1, 1], &normalization, &mut rng, &mut output);
            assert_eq!(output, [0.0; 3]);
            let augmentation = Augmentation { cutout: 0, ..augmentation };
            augmentation.apply(&[255; 3], [1, 1], &normalization, &mut rng, &mut output);
            seen.insert(output[0] as i32);
        }
        assert_eq!(Vec::from_iter(seen), [-2, 2], "(0 - mean) / std and (1 - mean) / std");
    }

    #[test]
    fn measured_normalization_is_that_of_the_pixels() {
        let pixels = [[0_u8, 255, 0, 255], [10, 10, 10, 10], [0, 0, 0, 255]].concat();
        let dataset =
            ImageDataset::new([2, 2], pixels, vec![0], vec!["only".into()]).expect("a set");
        let found = dataset.measure().expect("in memory");
        assert!((found.mean[0] - 0.5).abs() < 1e-6 && (found.std[0] - 0.5).abs() < 1e-6);
        assert!((found.mean[1] - 10.0 / 255.0).abs() < 1e-6 && found.std[1] == 0.0);
        assert!(
            (found.mean[2] - 0.25).abs() < 1e-6 && (found.std[2] - 0.1875_f32.sqrt()).abs() < 1e-6
        );
    }
}
