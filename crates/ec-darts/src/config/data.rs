//! Settings of the images.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::data::{Augmentation, BrokenImages, ColorJitter, DatasetKind, ImageDataset, Source};
use crate::{Error, Result};

/// Settings of the images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// The data set.
    pub dataset: DatasetKind,
    /// Side of the images that the network reads, in pixels; off: the set's own.
    pub image_size: Option<usize>,
    /// Shorter side before the centre is cut out, in pixels; off: `image_size`.
    pub resize: Option<usize>,
    /// Use only this number of images of the training set, drawn by the seed.
    pub train_images: Option<usize>,
    /// Share of each class used for testing, for a folder that has no test images; off: 0.2.
    pub test_fraction: Option<f64>,
    /// Seed of the choice of those test images; off: 0.
    pub split_seed: Option<u64>,
    /// The treatment of a file that cannot be read; off: it is skipped.
    pub broken_images: Option<BrokenImages>,
    /// Whether images are rotated as their Exif data say; off: true.
    pub orientation: Option<bool>,
    /// Memory for decoded images, in MiB; off: 2048. It does not change the result.
    pub cache_mib: Option<u64>,
    /// Smallest share of an image that a random resized crop may cover; off: the centre is cropped.
    pub random_resized_crop: Option<f64>,
    /// Random change of brightness, as a share.
    pub brightness: Option<f64>,
    /// Random change of contrast, as a share.
    pub contrast: Option<f64>,
    /// Random change of saturation, as a share.
    pub saturation: Option<f64>,
    /// Random rotation of the hue, as a share of the circle.
    pub hue: Option<f64>,
    /// Black pixels around an image before a random crop, in pixels; 0 is off.
    pub crop_padding: usize,
    /// Mirror half of the images, chosen at random.
    pub flip: bool,
    /// Side of a square that cutout clears, in pixels.
    pub cutout: Option<usize>,
}

impl DataConfig {
    /// A set with random crop and flip as in DARTS for CIFAR, and all other settings off.
    pub fn new(dataset: DatasetKind) -> Self {
        Self {
            dataset,
            image_size: None,
            resize: None,
            train_images: None,
            test_fraction: None,
            split_seed: None,
            broken_images: None,
            orientation: None,
            cache_mib: None,
            random_resized_crop: None,
            brightness: None,
            contrast: None,
            saturation: None,
            hue: None,
            crop_padding: 4,
            flip: true,
            cutout: None,
        }
    }

    /// Side of the images that the network reads, in pixels; none for a folder without
    /// `image_size`.
    pub fn side(&self) -> Option<usize> {
        self.image_size.or(self.dataset.image_size())
    }

    /// The source that [`crate::data::load`] reads.
    pub fn source(&self, folder: impl AsRef<Path>) -> Source {
        let usual = Source::new(self.dataset, folder.as_ref());
        Source {
            image_size: self.image_size,
            resize: self.resize,
            test_fraction: self.test_fraction.unwrap_or(usual.test_fraction),
            split_seed: self.split_seed.unwrap_or(usual.split_seed),
            broken: self.broken_images.unwrap_or(usual.broken),
            orientation: self.orientation.unwrap_or(usual.orientation),
            cache_bytes: self.cache_mib.map_or(usual.cache_bytes, |mebibytes| mebibytes << 20),
            ..usual
        }
    }

    /// Checks that images have the size of the settings.
    ///
    /// # Errors
    /// [`Error::ConfigValue`] where the images have another size.
    pub fn check_images(&self, images: &ImageDataset) -> Result<()> {
        match self.image_size {
            Some(side) if images.size() != [side; 2] => {
                let [height, width] = images.size();
                Err(Error::ConfigValue {
                    origin: "the settings".into(),
                    key: "data.image_size".into(),
                    value: side.to_string(),
                    allowed: format!("the size of the images, {height}x{width}, or omitted for it"),
                })
            }
            _ => Ok(()),
        }
    }

    /// Random changes of a training image.
    pub fn augmentation(&self) -> Augmentation {
        let strength = |value: Option<f64>| value.unwrap_or(0.0) as f32;
        Augmentation {
            random_resized_crop: self.random_resized_crop,
            jitter: ColorJitter {
                brightness: strength(self.brightness),
                contrast: strength(self.contrast),
                saturation: strength(self.saturation),
                hue: strength(self.hue),
            },
            crop_padding: self.crop_padding,
            flip: self.flip,
            cutout: self.cutout.unwrap_or(0),
        }
    }

    /// Checks every value; errors name `origin`.
    ///
    /// # Errors
    /// [`Error::ConfigValue`] for the first value that is not allowed.
    pub fn validate(&self, origin: &str) -> Result<()> {
        let require = |holds: bool, name: &str, value: &dyn ToString, allowed: &str| {
            if holds {
                return Ok(());
            }
            Err(Error::ConfigValue {
                origin: origin.to_string(),
                key: format!("data.{name}"),
                value: value.to_string(),
                allowed: allowed.to_string(),
            })
        };
        match self.image_size {
            Some(side) => {
                let allowed = "8 to 1024 pixels, or omitted for the set's own";
                require((8..=1024).contains(&side), "image_size", &side, allowed)?;
            }
            None => {
                let allowed = "8 to 1024 pixels: images of a folder are of any size";
                let known = self.dataset != DatasetKind::Folder;
                require(known, "image_size", &"not set", allowed)?;
            }
        }
        if let Some(resize) = self.resize {
            let side = self.side().unwrap_or(8);
            let allowed = format!("{side} (image_size) to 2048 pixels, or omitted for image_size");
            require((side..=2048).contains(&resize), "resize", &resize, &allowed)?;
        }
        if let Some(images) = self.train_images {
            let allowed = "2 to 1000000000, or omitted for all";
            require((2..=1_000_000_000).contains(&images), "train_images", &images, allowed)?;
        }
        if let Some(fraction) = self.test_fraction {
            let inside = 0.0 < fraction && fraction < 1.0;
            let allowed = "0 < test_fraction < 1, or omitted for 0.2";
            require(inside, "test_fraction", &fraction, allowed)?;
        }
        if let Some(seed) = self.split_seed {
            let allowed = "0 to 9223372036854775807, or omitted for 0";
            require(i64::try_from(seed).is_ok(), "split_seed", &seed, allowed)?;
        }
        if let Some(mebibytes) = self.cache_mib {
            let allowed = "0 to 1048576 MiB, or omitted for 2048";
            require(mebibytes <= 1 << 20, "cache_mib", &mebibytes, allowed)?;
        }
        if let Some(least) = self.random_resized_crop {
            let inside = 0.0 < least && least <= 1.0;
            let allowed = "0 < random_resized_crop <= 1, or omitted for the centre";
            require(inside, "random_resized_crop", &least, allowed)?;
        }
        for (name, strength, most) in [
            ("brightness", self.brightness, 1.0),
            ("contrast", self.contrast, 1.0),
            ("saturation", self.saturation, 1.0),
            ("hue", self.hue, 0.5),
        ] {
            if let Some(strength) = strength {
                let allowed = format!("0 to {most}, or omitted for no change");
                require((0.0..=most).contains(&strength), name, &strength, &allowed)?;
            }
        }
        let padding = self.crop_padding;
        require(padding <= 32, "crop_padding", &padding, "0 to 32 pixels")?;
        if let Some(side) = self.cutout {
            let allowed = "1 to 64 pixels, or omitted for none";
            require((1..=64).contains(&side), "cutout", &side, allowed)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl Fn(&mut DataConfig), expected: &str) {
        let mut config = DataConfig::new(DatasetKind::Cifar10);
        change(&mut config);
        let error = config.validate("a.toml").expect_err(expected).to_string();
        assert!(error.starts_with(&format!("a.toml: `data.{expected}` is ")), "{error}");
        assert!(error.contains(", allowed: "), "{error}");
    }

    #[test]
    fn every_value_has_a_range() {
        check(|c| c.image_size = Some(7), "image_size");
        check(|c| c.dataset = DatasetKind::Folder, "image_size");
        check(|c| c.resize = Some(31), "resize");
        check(|c| (c.image_size, c.resize) = (Some(224), Some(223)), "resize");
        check(|c| c.train_images = Some(1), "train_images");
        check(|c| c.test_fraction = Some(1.0), "test_fraction");
        check(|c| c.split_seed = Some(u64::MAX), "split_seed");
        check(|c| c.cache_mib = Some(u64::MAX), "cache_mib");
        check(|c| c.random_resized_crop = Some(0.0), "random_resized_crop");
        check(|c| c.brightness = Some(f64::NAN), "brightness");
        check(|c| c.contrast = Some(-0.1), "contrast");
        check(|c| c.saturation = Some(1.1), "saturation");
        check(|c| c.hue = Some(0.6), "hue");
        check(|c| c.crop_padding = 33, "crop_padding");
        check(|c| c.cutout = Some(0), "cutout");
    }

    #[test]
    fn off_means_the_usual() {
        let config = DataConfig::new(DatasetKind::Imagenet);
        assert_eq!(config.source("here"), Source::new(DatasetKind::Imagenet, "here"));
        let off = Augmentation { crop_padding: 4, flip: true, ..Augmentation::NONE };
        assert_eq!(config.augmentation(), off);
    }
}
