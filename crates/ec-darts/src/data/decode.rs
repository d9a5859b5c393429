//! From an image file to RGB bytes of the size that a network reads.

use std::fs::{self, File};
use std::io::{Cursor, Read};
use std::path::Path;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, ImageResult, Limits};

use crate::{Error, Result};

/// The supported formats, as text.
pub(super) const FORMATS: &str = "JPEG, PNG, WebP and BMP";
/// Largest size of an image file, in bytes.
pub(super) const LARGEST: u64 = 512 << 20;

/// Whether a format is supported.
pub(super) fn is_read(format: ImageFormat) -> bool {
    use ImageFormat::{Bmp, Jpeg, Png, WebP};
    matches!(format, Jpeg | Png | WebP | Bmp)
}

/// The evaluation's view of an image file as planes of bytes, the input of
/// [`super::Normalization::apply`].
///
/// With `orientation`, the image is rotated as its Exif data say. The shorter side is resized to
/// `resize` (without it, to fit `image_size`). Then the centre of `image_size` (height and width)
/// is cut out, as in training without a random crop.
///
/// # Shapes
/// - output: `[3, height, width]`, row-major
///
/// # Errors
/// [`Error::Io`] where the file cannot be read, [`Error::Data`] where it is not a regular file or
/// not a whole image of a supported format.
pub fn decode(
    path: &Path,
    image_size: [usize; 2],
    resize: Option<usize>,
    orientation: bool,
) -> Result<Vec<u8>> {
    let picture = Picture::read(path, orientation, usize::MAX)?;
    let region = Region::centre(picture.size, image_size, resize);
    Ok(picture.view(region, image_size))
}

/// An RGB image, rows of interleaved bytes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Picture {
    /// Height and width.
    pub size: [usize; 2],
    /// `[height, width, 3]`.
    pub pixels: Vec<u8>,
}

/// A rectangle of a picture, in pixels and fractions of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Region {
    pub top: f64,
    pub left: f64,
    pub height: f64,
    pub width: f64,
}

impl Region {
    /// The rectangle that remains where the shorter side is resized to `resize` and the centre is
    /// cut out.
    ///
    /// # Source
    /// torchvision, `Resize` and `CenterCrop`, in one step, without rounding of the longer side and
    /// of the place of the cut to whole pixels.
    pub fn centre(size: [usize; 2], out: [usize; 2], resize: Option<usize>) -> Self {
        let [height, width] = size.map(|side| side as f64);
        let out = out.map(|side| side as f64);
        let kept = resize.map_or(1.0, |resize| out[0].min(out[1]) / resize as f64);
        let scale = kept * (height / out[0]).min(width / out[1]);
        let [tall, wide] = [scale * out[0], scale * out[1]];
        Self { top: (height - tall) / 2.0, left: (width - wide) / 2.0, height: tall, width: wide }
    }

    /// Whether this is the whole picture, so that a picture of the output size does not change.
    pub fn is_whole(&self, size: [usize; 2]) -> bool {
        let whole = Self { top: 0.0, left: 0.0, height: size[0] as f64, width: size[1] as f64 };
        *self == whole
    }
}

impl Picture {
    /// Reads a file: [`read_file`], then [`Self::from_bytes`].
    pub fn read(path: &Path, orientation: bool, most: usize) -> Result<Self> {
        Self::from_bytes(&read_file(path)?, path, orientation, most)
    }

    /// Decodes an image by its content, whatever the ending of its name.
    ///
    /// Grey becomes RGB, 16 bits become 8, alpha is dropped, CMYK and YCCK are read inverted, as
    /// Adobe writes them. With `orientation`, the image is rotated as its Exif data say. A picture
    /// whose shorter side is above `most` is scaled down.
    pub fn from_bytes(bytes: &[u8], path: &Path, orientation: bool, most: usize) -> Result<Self> {
        let fail = |reason: String| Error::Data { path: path.to_path_buf(), reason };
        match image::guess_format(bytes) {
            Ok(ImageFormat::Jpeg) if !is_whole_jpeg(bytes) => {
                return Err(fail("the JPEG is cut short: no end marker behind its scans".into()));
            }
            Ok(format) if is_read(format) => {}
            _ => return Err(fail(format!("none of {FORMATS}"))),
        }
        let decoded = pixels(bytes, orientation).map_err(|error| fail(error.to_string()))?;
        let image = decoded.into_rgb8();
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

    /// An image from planes `[3, height, width]`.
    pub fn from_planes(planes: &[u8], size: [usize; 2]) -> Self {
        let area = size[0] * size[1];
        let pixels = (0..area).flat_map(|at| [0, 1, 2].map(|c| planes[c * area + at])).collect();
        Self { size, pixels }
    }

    /// A region resized to another size, as planes `[3, height, width]`.
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

    /// Bilinear interpolation that averages all source pixels of an output pixel where the region
    /// becomes smaller, like Pillow's `resize`, which torchvision uses.
    fn resized(&self, region: Region, [height, width]: [usize; 2]) -> Vec<u8> {
        let side = |side: usize| u32::try_from(side).expect("a side of some pixels");
        let [from_height, from_width] = self.size.map(side);
        let source = ImageRef::new(from_width, from_height, &self.pixels, PixelType::U8x3)
            .expect("three bytes for each pixel");
        let mut target = Image::new(side(width), side(height), PixelType::U8x3);
        // Rounding may put a region slightly outside, which would be an error there.
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

/// All bytes of a regular file that may be an image.
///
/// A FIFO or a device could be read for ever. So could files of `/proc`, which report a size of
/// zero.
///
/// # Errors
/// [`Error::Io`] where the file cannot be read; [`Error::Data`] where it is not a regular file, is
/// empty or above [`LARGEST`].
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>> {
    let fail = |reason: String| Err(Error::Data { path: path.to_path_buf(), reason });
    let metadata = fs::metadata(path).map_err(Error::io("read", path))?;
    if !metadata.is_file() {
        return fail("no regular file".into());
    }
    if metadata.len() == 0 {
        return fail("the file is empty".into());
    }
    let mut bytes = Vec::new();
    if metadata.len() <= LARGEST {
        let file = File::open(path).map_err(Error::io("read", path))?;
        bytes.reserve_exact(metadata.len() as usize + 1);
        file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    }
    match bytes.len() as u64 {
        1..=LARGEST => Ok(bytes),
        _ => fail(format!("above {} MiB, or empty by now", LARGEST >> 20)),
    }
}

/// Height and width of the rotated picture, by the header of a file.
///
/// # Errors
/// As for [`read_file`], and [`Error::Data`] where the header is not that of an image.
pub(super) fn read_size(path: &Path, orientation: bool) -> Result<[usize; 2]> {
    let fail = |reason: String| Error::Data { path: path.to_path_buf(), reason };
    if !fs::metadata(path).map_err(Error::io("read", path))?.is_file() {
        return Err(fail("no regular file".into()));
    }
    let reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format);
    let decoder = reader.map_err(Error::io("read", path))?.into_decoder();
    let size = decoder.map(|mut decoder| {
        let [width, height] = <[u32; 2]>::from(decoder.dimensions()).map(|side| side as usize);
        match turn(&mut decoder, orientation).to_exif() {
            5.. => [width, height],
            _ => [height, width],
        }
    });
    size.map_err(|error| fail(error.to_string()))
}

/// Decodes within the default memory limits of the crate `image`.
fn pixels(bytes: &[u8], orientation: bool) -> ImageResult<DynamicImage> {
    let mut limits = Limits::default();
    let mut decoder = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?.into_decoder()?;
    limits.reserve(decoder.total_bytes())?;
    decoder.set_limits(limits)?;
    let turn = turn(&mut decoder, orientation);
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(turn);
    Ok(image)
}

/// The rotation of a picture; Exif data that cannot be read mean none.
fn turn(decoder: &mut impl ImageDecoder, orientation: bool) -> Orientation {
    let noted = if orientation { decoder.orientation().ok() } else { None };
    noted.unwrap_or(Orientation::NoTransforms)
}

/// Whether a JPEG has its end marker. Bytes after the marker, such as the film of a motion photo,
/// are ignored.
///
/// Decoders fill a missing part with grey. The function steps over segments by their lengths, so
/// that markers in a thumbnail do not count; entropy-coded bytes never look like a marker.
fn is_whole_jpeg(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&[first, second]) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        at += match (first, second) {
            (0xff, 0xd9) => return true,
            // Stuffed zeros, fill bytes, restarts, and all bytes that are no marker.
            (0xff, 0 | 0xff | 0xd0..=0xd7) | (..0xff, _) => 1,
            (0xff, _) => match bytes.get(at + 2..).and_then(<[u8]>::first_chunk) {
                Some(&length) => 2 + usize::from(u16::from_be_bytes(length)).max(2),
                None => return false,
            },
        };
    }
    false
}
