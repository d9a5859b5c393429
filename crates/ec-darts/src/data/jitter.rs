//! Random changes of colour.

use rand::Rng;

use super::random::{shuffle, unit};

/// Random changes of brightness, contrast, saturation and hue, in random order; 0 is off.
///
/// A factor is drawn from `[1 - x, 1 + x]`, but not below 0. The rotation of the hue is drawn from
/// `[-x, x]`, where 1 is the whole circle.
///
/// # Source
/// torchvision, `ColorJitter`; DARTS, `cnn/train_imagenet.py`, uses 0.4, 0.4, 0.4 and 0.2.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ColorJitter {
    /// Multiplies every value by a factor.
    pub brightness: f32,
    /// Moves values away from the mean grey of the image, or towards it.
    pub contrast: f32,
    /// Moves values away from each pixel's grey, or towards it.
    pub saturation: f32,
    /// Rotates the hue around the circle of colours.
    pub hue: f32,
}

impl ColorJitter {
    /// The image in changed colours, `[3, height, width]` like the input.
    pub(super) fn apply(&self, pixels: &[u8], rng: &mut impl Rng) -> Vec<u8> {
        let area = pixels.len() / 3;
        let mut rgb: Vec<[f32; 3]> = (0..area)
            .map(|at| [0, 1, 2].map(|c| f32::from(pixels[c * area + at]) / 255.0))
            .collect();
        let mut order = [0, 1, 2, 3];
        shuffle(&mut order, rng);
        for which in order {
            let strength =
                [self.brightness, self.contrast, self.saturation, self.hue][which as usize];
            if strength == 0.0 {
                continue;
            }
            let (least, most) = match which {
                3 => (-strength, strength),
                _ => ((1.0 - strength).max(0.0), 1.0 + strength),
            };
            let factor = least + (most - least) * unit(rng);
            match which {
                0 => rgb.iter_mut().for_each(|pixel| *pixel = blend(*pixel, 0.0, factor)),
                1 => {
                    let sum: f64 = rgb.iter().map(|&pixel| f64::from(grey(pixel))).sum();
                    let mean = (sum / area as f64) as f32;
                    rgb.iter_mut().for_each(|pixel| *pixel = blend(*pixel, mean, factor));
                }
                2 => rgb.iter_mut().for_each(|pixel| *pixel = blend(*pixel, grey(*pixel), factor)),
                _ => rgb.iter_mut().for_each(|pixel| *pixel = turned(*pixel, factor)),
            }
        }
        let channel = |c: usize| rgb.iter().map(move |pixel| (pixel[c] * 255.0).round() as u8);
        channel(0).chain(channel(1)).chain(channel(2)).collect()
    }
}

/// The share `factor` of the pixel plus the remaining share of `other`, within [0, 1].
fn blend(pixel: [f32; 3], other: f32, factor: f32) -> [f32; 3] {
    pixel.map(|value| (factor * value + (1.0 - factor) * other).clamp(0.0, 1.0))
}

/// Luma (ITU-R 601-2).
fn grey([red, green, blue]: [f32; 3]) -> f32 {
    0.299 * red + 0.587 * green + 0.114 * blue
}

/// The pixel with its hue rotated by `turn` of the circle; the largest and the smallest value stay.
fn turned(pixel: [f32; 3], turn: f32) -> [f32; 3] {
    let [red, green, blue] = pixel;
    let most = red.max(green).max(blue);
    let spread = most - red.min(green).min(blue);
    if spread == 0.0 {
        return pixel;
    }
    let hue = if most == red {
        (green - blue) / spread
    } else if most == green {
        2.0 + (blue - red) / spread
    } else {
        4.0 + (red - green) / spread
    };
    let hue = hue + 6.0 * turn;
    // The value of a channel falls from `most` along a ramp over the distance from its own colour.
    [5.0, 3.0, 1.0].map(|shift| {
        let place = (hue + shift).rem_euclid(6.0);
        most - spread * place.min(4.0 - place).clamp(0.0, 1.0)
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Purpose, stream_rng};
    use super::*;

    fn check_turn(pixel: [f32; 3], turn: f32, expected: [f32; 3]) {
        let found = turned(pixel, turn);
        let near = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(near, "{pixel:?} turned by {turn}: {found:?}, not {expected:?}");
    }

    /// Expected: `colorsys.hsv_to_rgb((h + turn) % 1, s, v)` of `h, s, v = colorsys.rgb_to_hsv(...)`.
    #[test]
    fn hues_turn_as_in_hsv() {
        check_turn([1.0, 0.0, 0.0], 1.0 / 3.0, [0.0, 1.0, 0.0]);
        check_turn([1.0, 0.0, 0.0], -1.0 / 3.0, [0.0, 0.0, 1.0]);
        check_turn([0.2, 0.4, 0.6], 0.0, [0.2, 0.4, 0.6]);
        check_turn([0.2, 0.4, 0.6], 0.1, [0.24, 0.2, 0.6]);
        check_turn([0.5, 0.5, 0.5], 0.3, [0.5, 0.5, 0.5]);
    }

    /// A single kind of change must equal one of the slow, written-out versions.
    #[test]
    fn each_change_is_what_its_name_says() {
        let pixels = [10, 100, 200, 60, 120, 180];
        let at = |index: u64, jitter: ColorJitter| {
            let found = jitter.apply(&pixels, &mut stream_rng(1, Purpose::Train, 0, index));
            found.into_iter().map(f32::from).collect::<Vec<_>>()
        };
        let greys = [0, 1].map(|at| {
            let [r, g, b] = [0, 2, 4].map(|c| f32::from(pixels[c + at]));
            0.299 * r + 0.587 * g + 0.114 * b
        });
        let mean = (greys[0] + greys[1]) / 2.0;
        let mut seen = [f32::INFINITY, f32::NEG_INFINITY];
        for index in 0..200 {
            let only = ColorJitter { brightness: 0.2, ..Default::default() };
            let found = at(index, only);
            // The largest value that is not clipped tells the factor.
            let factor = found[2] / 200.0;
            seen = [seen[0].min(factor), seen[1].max(factor)];
            for (found, &pixel) in found.iter().zip(&pixels) {
                assert!((found - f32::from(pixel) * factor).abs() < 1.1, "{found} of {pixel}");
            }
            let found = at(index, ColorJitter { contrast: 0.2, ..Default::default() });
            let factor = (found[2] - mean) / (200.0 - mean);
            assert!(factor > 0.78 && factor < 1.22, "{factor}");
            for (found, &pixel) in found.iter().zip(&pixels) {
                let expected = (mean + (f32::from(pixel) - mean) * factor).max(0.0);
                assert!((found - expected).abs() < 2.0, "{found}, not {expected}");
            }
            let found = at(index, ColorJitter { saturation: 0.2, ..Default::default() });
            for (place, found) in found.chunks_exact(2).enumerate() {
                for (which, &found) in found.iter().enumerate() {
                    let (pixel, grey) = (f32::from(pixels[2 * place + which]), greys[which]);
                    let share = (found - grey) / (pixel - grey);
                    assert!((0.75..1.25).contains(&share) || (pixel - grey).abs() < 10.0);
                }
            }
        }
        assert!(seen[0] < 0.83 && seen[0] > 0.79 && seen[1] > 1.17 && seen[1] < 1.21, "{seen:?}");
    }

    #[test]
    fn without_strength_the_image_stays() {
        let pixels: Vec<u8> = (0..=254).collect();
        let mut rng = stream_rng(1, Purpose::Train, 0, 0);
        assert_eq!(ColorJitter::default().apply(&pixels, &mut rng), pixels);
    }
}
