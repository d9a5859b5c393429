//! From bytes to normalized values, with random crop, flip and cutout.

use rand::Rng;

use super::ImageDataset;
use super::random::below;

/// Mean and deviation of each channel, of values in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalization {
    /// Red, green, blue.
    pub mean: [f32; 3],
    /// Red, green, blue.
    pub std: [f32; 3],
}

impl Normalization {
    /// Mean and (population) deviation over all pixels of a set.
    pub fn measure(dataset: &ImageDataset) -> Self {
        let [height, width] = dataset.size();
        let mut sums = [[0_u64; 2]; 3];
        for image in 0..dataset.len() {
            let planes = dataset.pixels(image).chunks_exact(height * width);
            for (sum, plane) in sums.iter_mut().zip(planes) {
                for &value in plane {
                    sum[0] += u64::from(value);
                    sum[1] += u64::from(value) * u64::from(value);
                }
            }
        }
        let count = (dataset.len() * height * width) as f64;
        let mean = sums.map(|[sum, _]| sum as f64 / count / 255.0);
        let square = sums.map(|[_, square]| square as f64 / count / (255.0 * 255.0));
        let std = std::array::from_fn(|c: usize| (square[c] - mean[c] * mean[c]).sqrt() as f32);
        Self { mean: mean.map(|value| value as f32), std }
    }
}

/// Random changes of a training image.
///
/// # Source
/// DARTS, `cnn/utils.py`, `_data_transforms_cifar10` and `Cutout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Augmentation {
    /// Black pixels added on every side before a crop of the old size; 0 is off.
    pub crop_padding: usize,
    /// Mirror left and right in half of the cases.
    pub flip: bool,
    /// Side of a square set to the mean, around a random pixel, in pixels; 0 is off.
    pub cutout: usize,
}

impl Augmentation {
    /// The image as it is.
    pub const NONE: Self = Self { crop_padding: 0, flip: false, cutout: 0 };

    /// Writes a normalized image, `[3, height, width]`.
    ///
    /// The crop pads with black before, cutout writes zeros after the normalization.
    ///
    /// # Panics
    /// Where `pixels` or `output` has another length than the size says.
    pub fn apply(
        &self,
        pixels: &[u8],
        [height, width]: [usize; 2],
        normalization: &Normalization,
        rng: &mut impl Rng,
        output: &mut [f32],
    ) {
        assert_eq!((pixels.len(), output.len()), (3 * height * width, 3 * height * width));
        let mut shift = || match self.crop_padding {
            0 => 0,
            padding => below(rng, 2 * padding as u32 + 1) as isize - padding as isize,
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
            let centre = (below(rng, height as u32) as usize, below(rng, width as u32) as usize);
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
    use super::super::{Purpose, stream_rng};
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

    /// Every crop and flip must be one of the slow, per-pixel ones, and all of them must come up.
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
        let augmentation = Augmentation { crop_padding: 2, flip: true, cutout: 0 };
        let mut seen = std::collections::BTreeSet::new();
        for index in 0..1000 {
            let found = apply(augmentation, index);
            let place =
                (0..50).find(|&place| slow(place / 10, place / 2 % 5, place % 2 == 1) == found);
            seen.insert(place.expect("a crop of the padded image"));
        }
        assert_eq!(seen.len(), 50);
    }

    #[test]
    fn cutout_clears_a_square_clipped_at_the_border() {
        let augmentation = Augmentation { crop_padding: 0, flip: false, cutout: 4 };
        for index in 0..200 {
            let output = apply(augmentation, index);
            let cleared: Vec<usize> = (0..30).filter(|&pixel| output[pixel] == 0.0).collect();
            let rows: std::collections::BTreeSet<_> = cleared.iter().map(|p| p / 5).collect();
            let columns: std::collections::BTreeSet<_> = cleared.iter().map(|p| p % 5).collect();
            assert_eq!(cleared.len(), rows.len() * columns.len(), "a rectangle");
            assert!((2..=4).contains(&rows.len()) && (2..=4).contains(&columns.len()));
            assert!(
                (30..90).all(|p| (output[p] == 0.0) == (output[p % 30] == 0.0)),
                "all channels"
            );
        }
    }

    #[test]
    fn measured_normalization_is_that_of_the_pixels() {
        let pixels = [[0_u8, 255, 0, 255], [10, 10, 10, 10], [0, 0, 0, 255]].concat();
        let dataset = ImageDataset::new([2, 2], pixels, vec![0], vec!["only".into()]);
        let found = Normalization::measure(&dataset);
        assert!((found.mean[0] - 0.5).abs() < 1e-6 && (found.std[0] - 0.5).abs() < 1e-6);
        assert!((found.mean[1] - 10.0 / 255.0).abs() < 1e-6 && found.std[1].abs() < 1e-6);
        assert!(
            (found.mean[2] - 0.25).abs() < 1e-6 && (found.std[2] - 0.1875_f32.sqrt()).abs() < 1e-6
        );
    }
}
