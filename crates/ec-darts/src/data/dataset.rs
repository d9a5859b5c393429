//! A set of labelled images, in memory or in files.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::OnceLock;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::decode::{Picture, Region};
use super::digest::hex;
use super::files::Files;
use super::{DataNotice, Normalization};
use crate::{Error, Result};

/// Largest number of images over which [`ImageDataset::measure`] takes the mean.
const MEASURED: usize = 10_000;
/// Number of files whose headers are read to estimate the size of images.
const LOOKED_AT: usize = 200;

/// Labelled RGB images, which a network reads at one size.
#[derive(Debug)]
pub struct ImageDataset {
    size: [usize; 2],
    resize: Option<usize>,
    storage: Storage,
    labels: Vec<u16>,
    class_names: Vec<String>,
    normalization: Normalization,
    digest: OnceLock<String>,
}

#[derive(Debug)]
enum Storage {
    /// Planes of images of one size.
    Memory { size: [usize; 2], pixels: Vec<u8> },
    /// Images in files, decoded on demand.
    Files(Files),
}

impl ImageDataset {
    /// Joins pixels and labels of images in memory. The normalization is measured. Settings call
    /// such a set [`super::DatasetKind::Memory`].
    ///
    /// ```
    /// use ec_darts::data::ImageDataset;
    ///
    /// // Two images of 8x8 pixels, a dark one and a bright one.
    /// let pixels = [[10; 3 * 64], [250; 3 * 64]].concat();
    /// let names = ["dark", "bright"].map(String::from).to_vec();
    /// let images = ImageDataset::new([8, 8], pixels, vec![0, 1], names)?;
    /// assert_eq!((images.len(), images.num_classes()), (2, 2));
    /// # Ok::<(), ec_darts::Error>(())
    /// ```
    ///
    /// # Shapes
    /// - `pixels`: `[labels.len(), 3, height, width]`, row-major
    ///
    /// # Errors
    /// [`Error::Images`] where a side is 0, the numbers do not fit, or a label has no class.
    pub fn new(
        size: [usize; 2],
        pixels: Vec<u8>,
        labels: Vec<u16>,
        class_names: Vec<String>,
    ) -> Result<Self> {
        let fail = |reason: String| Err(Error::Images { reason });
        let [height, width] = size;
        if height == 0 || width == 0 {
            return fail(format!("`size` is {height}x{width}, allowed: sides of 1 pixel or more"));
        }
        let area = height.checked_mul(width).and_then(|area| area.checked_mul(3));
        let expected = area.and_then(|length| length.checked_mul(labels.len()));
        if expected != Some(pixels.len()) {
            let count = labels.len();
            return fail(format!(
                "`pixels` has {} values, expected {count} labels x 3 x {height} x {width}",
                pixels.len()
            ));
        }
        let outside =
            labels.iter().enumerate().find(|(_, label)| usize::from(**label) >= class_names.len());
        if let Some((image, label)) = outside {
            let classes = class_names.len();
            return fail(format!(
                "label {label} of image {image}, allowed: below {classes} classes"
            ));
        }
        let plain = Normalization { mean: [0.0; 3], std: [1.0; 3] };
        let mut dataset = Self::in_memory(size, pixels, labels, class_names, plain);
        let measured = dataset.measure()?;
        // A channel with one constant value has no deviation to divide by; it becomes 0 all the
        // same.
        let std = measured.std.map(|std| if std > 0.0 { std } else { 1.0 });
        dataset.normalization = Normalization { std, ..measured };
        Ok(dataset)
    }

    /// Images of one size with a known normalization.
    pub(super) fn in_memory(
        size: [usize; 2],
        pixels: Vec<u8>,
        labels: Vec<u16>,
        class_names: Vec<String>,
        normalization: Normalization,
    ) -> Self {
        assert!(size[0] > 0 && size[1] > 0, "images with pixels");
        assert_eq!(pixels.len(), labels.len() * 3 * size[0] * size[1], "pixels of every image");
        assert!(labels.iter().all(|&label| usize::from(label) < class_names.len()), "a class each");
        let storage = Storage::Memory { size, pixels };
        let digest = OnceLock::new();
        Self { size, resize: None, storage, labels, class_names, normalization, digest }
    }

    /// Images in files, with one label each.
    pub(super) fn in_files(
        files: Files,
        labels: Vec<u16>,
        class_names: Vec<String>,
        normalization: Normalization,
    ) -> Self {
        let (size, storage, digest) = ([0; 2], Storage::Files(files), OnceLock::new());
        Self { size, resize: None, storage, labels, class_names, normalization, digest }
    }

    /// The same images, read by a network at this size.
    pub(super) fn with_size(mut self, size: [usize; 2], resize: Option<usize>) -> Self {
        (self.size, self.resize) = (size, resize);
        self
    }

    /// The same images with another normalization; test images take that of the training images.
    ///
    /// # Errors
    /// [`Error::Images`] where a mean is not finite, or where a deviation is not finite and above
    /// 0.
    pub fn with_normalization(mut self, normalization: Normalization) -> Result<Self> {
        let Normalization { mean, std } = normalization;
        let is_usable = mean.iter().all(|mean| mean.is_finite())
            && std.iter().all(|std| std.is_finite() && *std > 0.0);
        if !is_usable {
            let reason = format!(
                "the normalization has mean {mean:?} and deviation {std:?}, allowed: finite numbers, \
                 deviations above 0"
            );
            return Err(Error::Images { reason });
        }
        self.normalization = normalization;
        Ok(self)
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether the set has no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Height and width at which a network reads the images, in pixels.
    pub fn size(&self) -> [usize; 2] {
        self.size
    }

    /// Shorter side before the centre is cut out, in pixels, where it is above [`Self::size`].
    pub fn resize(&self) -> Option<usize> {
        self.resize
    }

    /// Number of classes.
    pub fn num_classes(&self) -> usize {
        self.class_names.len()
    }

    /// Names of the classes, in the order of their labels.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// The class of an image.
    pub fn label(&self, image: usize) -> u16 {
        self.labels[image]
    }

    /// The classes of all images, in their order.
    pub fn labels(&self) -> &[u16] {
        &self.labels
    }

    /// Mean and deviation of the training images, also in the test set.
    pub fn normalization(&self) -> Normalization {
        self.normalization
    }

    /// Memory that these images take, or will take when all images that fit are decoded, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        match &self.storage {
            Storage::Memory { pixels, .. } => pixels.len() as u64,
            Storage::Files(files) => files.memory_bytes(),
        }
    }

    /// Approximate memory that a thread takes while it decodes one of these images, in bytes: the
    /// largest of a sample of images, in the decoder and as a copy.
    pub fn decoding_bytes(&self) -> u64 {
        let Storage::Files(_) = &self.storage else { return 0 };
        let every = self.len().div_ceil(LOOKED_AT).max(1);
        let area = |image| self.original_size(image).map_or(0, |[height, width]| height * width);
        let largest = (0..self.len()).step_by(every).map(area).max().unwrap_or(0);
        2 * 3 * largest as u64
    }

    /// Number of images of each class, in the order of the labels.
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.num_classes()];
        self.labels.iter().for_each(|&label| counts[usize::from(label)] += 1);
        counts
    }

    /// Broken images found after loading. In random order, the next image of the set replaces each
    /// of them; where images are measured in the order of a list, they are left out.
    pub fn replaced(&self) -> Vec<DataNotice> {
        match &self.storage {
            Storage::Memory { .. } => Vec::new(),
            Storage::Files(files) => files.replaced(),
        }
    }

    /// The file of an image; none where the images are in memory.
    pub fn path(&self, image: usize) -> Option<PathBuf> {
        match &self.storage {
            Storage::Memory { .. } => None,
            Storage::Files(files) => Some(files.path(image)),
        }
    }

    /// Height and width of an image as stored in memory or in its file.
    ///
    /// # Errors
    /// [`crate::Error::Io`] and [`crate::Error::Data`] where its file cannot be read.
    pub fn original_size(&self, image: usize) -> Result<[usize; 2]> {
        match &self.storage {
            Storage::Memory { size, .. } => Ok(*size),
            Storage::Files(files) => files.original_size(image),
        }
    }

    /// Pixels of an image in the evaluation's view, `[3, height, width]`.
    ///
    /// # Errors
    /// [`crate::Error::Io`] and [`crate::Error::Data`] where its file cannot be read.
    pub fn pixels(&self, image: usize) -> Result<Cow<'_, [u8]>> {
        Ok(self.view(image, |_| None)?.1)
    }

    /// Pixels of a region, which is chosen from the stored size of the image, or of the centre; and
    /// the number of their image, which is another image where this one is broken.
    pub(super) fn view(
        &self,
        image: usize,
        region: impl FnOnce([usize; 2]) -> Option<Region>,
    ) -> Result<(usize, Cow<'_, [u8]>)> {
        let choose = |size: [usize; 2]| {
            region(size).unwrap_or_else(|| Region::centre(size, self.size, self.resize))
        };
        match &self.storage {
            Storage::Memory { size, pixels } => {
                let length = 3 * size[0] * size[1];
                let planes = &pixels[image * length..(image + 1) * length];
                let region = choose(*size);
                if *size == self.size && region.is_whole(*size) {
                    return Ok((image, Cow::Borrowed(planes)));
                }
                let picture = Picture::from_planes(planes, *size);
                Ok((image, Cow::Owned(picture.view(region, self.size))))
            }
            Storage::Files(files) => {
                let (image, picture) = files.get(image)?;
                Ok((image, Cow::Owned(picture.view(choose(picture.size), self.size))))
            }
        }
    }

    /// Mean and (population) standard deviation over all pixels of the images, or of 10,000 images
    /// spread evenly over a larger set; 0 and 1 for an empty set.
    ///
    /// Sums are exact, so the figures do not depend on the order of the images.
    ///
    /// # Errors
    /// [`crate::Error::Io`] and [`crate::Error::Data`] where a file cannot be read.
    pub fn measure(&self) -> Result<Normalization> {
        let every = self.len().div_ceil(MEASURED).max(1);
        let area = self.size[0] * self.size[1];
        let sums_of = |image: usize| -> Result<[[u64; 2]; 3]> {
            let pixels = self.pixels(image)?;
            let mut sums = [[0; 2]; 3];
            for (sum, plane) in sums.iter_mut().zip(pixels.chunks_exact(area)) {
                for &value in plane {
                    sum[0] += u64::from(value);
                    sum[1] += u64::from(value) * u64::from(value);
                }
            }
            Ok(sums)
        };
        let add = |a: [[u64; 2]; 3], b: [[u64; 2]; 3]| -> Result<[[u64; 2]; 3]> {
            Ok(std::array::from_fn(|c| [a[c][0] + b[c][0], a[c][1] + b[c][1]]))
        };
        let images: Vec<usize> = (0..self.len()).step_by(every).collect();
        let sums = images.par_iter().map(|&image| sums_of(image)).try_reduce(Default::default, add);
        Ok(Normalization::from_sums(sums?, (images.len() * area) as u64))
    }

    /// Bytes of files that [`Self::digest`] has to read because no stored digest exists.
    pub fn bytes_to_digest(&self) -> u64 {
        match &self.storage {
            Storage::Memory { .. } => 0,
            Storage::Files(files) => files.bytes_to_read(),
        }
    }

    /// SHA-256 over images and labels, in hexadecimal digits: over the pixels of a set in memory,
    /// over names and contents of files. It is computed once.
    ///
    /// Files are read for it, unless they were decoded when the set was loaded, or
    /// [`super::Source::digests`] has their digests. A file that cannot be read counts by its name.
    pub fn digest(&self) -> String {
        self.digest.get_or_init(|| self.compute_digest()).clone()
    }

    fn compute_digest(&self) -> String {
        let mut hash = Sha256::new();
        for (image, &label) in self.labels.iter().enumerate() {
            match &self.storage {
                Storage::Memory { size, pixels } => {
                    let length = 3 * size[0] * size[1];
                    hash.update(&pixels[image * length..(image + 1) * length]);
                }
                Storage::Files(files) => {
                    let (name, content) = files.content(image);
                    hash.update(name.as_os_str().as_encoded_bytes());
                    hash.update([0, content.is_some().into()]);
                    hash.update(content.unwrap_or_default());
                }
            }
            hash.update(u64::from(label).to_le_bytes());
        }
        hex(&hash.finalize())
    }
}
