//! From an image file to RGB bytes of the size that a network reads.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::{ImageFormat, ImageReader};

use crate::{Error, Result};

/// The evaluation's view of an image file, as bytes in planes: what [`super::Normalization::apply`]
/// turns into the input of a network.
///
/// The shorter side is resized to `resize` (`image_size` where it is none), then the centre is cut
/// out, as in training without a random crop.
///
/// # Shapes
/// - output: `[3, image_size, image_size]`, row-major
///
/// # Errors
/// [`Error::Io`] where the file cannot be read, [`Error::Data`] where it is no whole JPEG or PNG.
pub fn decode(path: &Path, image_size: usize, resize: Option<usize>) -> Result<Vec<u8>> {
    let picture = Picture::read(path, usize::MAX)?;
    let region = Region::centre(picture.size, [image_size; 2], resize);
    Ok(picture.view(region, [image_size; 2]))
}

/// An RGB image, rows of interleaved bytes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Picture {
    /// Height and width.
    pub size: [usize; 2],
    /// `[height, width, 3]`.
    pub pixels: Vec<u8>,
}

/// A part of a picture, in pixels and parts of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Region {
    pub top: f64,
    pub left: f64,
    pub height: f64,
    pub width: f64,
}

impl Region {
    /// What remains where the shorter side is resized to `resize` and the centre is cut out.
    ///
    /// # Source
    /// torchvision, `Resize` and `CenterCrop`, in one step: neither the longer side nor the place of
    /// the cut is rounded to whole pixels.
    pub fn centre(size: [usize; 2], out: [usize; 2], resize: Option<usize>) -> Self {
        let [height, width] = size.map(|side| side as f64);
        let out = out.map(|side| side as f64);
        let kept = resize.map_or(1.0, |resize| out[0].min(out[1]) / resize as f64);
        let scale = kept * (height / out[0]).min(width / out[1]);
        let [tall, wide] = [scale * out[0], scale * out[1]];
        Self { top: (height - tall) / 2.0, left: (width - wide) / 2.0, height: tall, width: wide }
    }

    /// Whether it is the whole picture, so that a picture of the size asked for stays as it is.
    pub fn is_whole(&self, size: [usize; 2]) -> bool {
        let whole = Self { top: 0.0, left: 0.0, height: size[0] as f64, width: size[1] as f64 };
        *self == whole
    }
}

impl Picture {
    /// Reads a JPEG or PNG by its content, whatever its name ends with.
    ///
    /// Grey becomes RGB, 16 bits become 8, alpha is dropped, CMYK and YCCK are read as Adobe writes
    /// them (inverted). A picture whose shorter side is above `most` is made smaller.
    pub fn read(path: &Path, most: usize) -> Result<Self> {
        let bytes = fs::read(path).map_err(Error::io("read", path))?;
        let fail = |reason: String| Error::Data { path: path.to_path_buf(), reason };
        if bytes.is_empty() {
            return Err(fail("the file is empty".into()));
        }
        let reader = ImageReader::new(Cursor::new(&bytes)).with_guessed_format();
        let reader = reader.map_err(Error::io("read", path))?;
        match reader.format() {
            Some(ImageFormat::Png) => {}
            Some(ImageFormat::Jpeg) if is_whole_jpeg(&bytes) => {}
            Some(ImageFormat::Jpeg) => {
                return Err(fail(
                    "the JPEG is cut short: no end marker behind its last scan".into(),
                ));
            }
            _ => return Err(fail("neither JPEG nor PNG".into())),
        }
        let image = reader.decode().map_err(|error| fail(error.to_string()))?.into_rgb8();
        let size = [image.height() as usize, image.width() as usize];
        let picture = Self { size, pixels: image.into_raw() };
        let shorter = size[0].min(size[1]);
        if shorter <= most {
            return Ok(picture);
        }
        let size = size.map(|side| (side * most + shorter / 2) / shorter);
        let region = Region::centre(picture.size, picture.size, None);
        Ok(Self { size, pixels: picture.resized(region, size) })
    }

    /// From planes `[3, height, width]`.
    pub fn from_planes(planes: &[u8], size: [usize; 2]) -> Self {
        let area = size[0] * size[1];
        let pixels = (0..area).flat_map(|at| [0, 1, 2].map(|c| planes[c * area + at])).collect();
        Self { size, pixels }
    }

    /// A region at another size, as planes `[3, height, width]`.
    pub fn view(&self, region: Region, size: [usize; 2]) -> Vec<u8> {
        let resized;
        let pixels = if self.size == size && region.is_whole(size) {
            &self.pixels
        } else {
            resized = self.resized(region, size);
            &resized
        };
        let mut planes = Vec::with_capacity(pixels.len());
        for channel in 0..3 {
            planes.extend(pixels.iter().skip(channel).step_by(3));
        }
        planes
    }

    /// Bilinear, averaging over all pixels that fall together where the region becomes smaller:
    /// what Pillow's `resize` does, and torchvision on its images.
    fn resized(&self, region: Region, [height, width]: [usize; 2]) -> Vec<u8> {
        let side = |side: usize| u32::try_from(side).expect("a side of some pixels");
        let [from_height, from_width] = self.size.map(side);
        let source = ImageRef::new(from_width, from_height, &self.pixels, PixelType::U8x3)
            .expect("three bytes for each pixel");
        let mut target = Image::new(side(width), side(height), PixelType::U8x3);
        // Rounding may leave a region a hair outside, which is an error there.
        let top = region.top.max(0.0);
        let left = region.left.max(0.0);
        let tall = region.height.min(f64::from(from_height) - top);
        let wide = region.width.min(f64::from(from_width) - left);
        let options = ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
            .crop(left, top, wide, tall);
        let done = Resizer::new().resize(&source, &mut target, &options);
        done.expect("a region of the picture and pixels of one type");
        target.into_vec()
    }
}

/// Whether an end marker follows the last scan.
///
/// Decoders fill what is missing with grey. Entropy-coded bytes never look like these markers, and a
/// thumbnail within the head ends before the scan begins.
fn is_whole_jpeg(bytes: &[u8]) -> bool {
    let last = |marker: u8| bytes.windows(2).rposition(|pair| pair == [0xff, marker]);
    match (last(0xda), last(0xd9)) {
        (Some(scan), Some(end)) => scan < end,
        _ => false,
    }
}
