//! The channels and the size of a map.

/// Channels and relative size of a map, for any size of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Map {
    /// Channels.
    pub channels: usize,
    /// The ratio of the image size to the map size, for rows and columns alike.
    pub shrink: usize,
}

impl Map {
    /// Rows and columns for an image of the given size.
    pub fn size(self, image: [usize; 2]) -> [usize; 2] {
        image.map(|side| side.div_ceil(self.shrink))
    }

    /// Rows times columns for a square image.
    pub(crate) fn positions(self, image_size: usize) -> usize {
        image_size.div_ceil(self.shrink).pow(2)
    }

    /// A map of half the size, with other channels.
    pub(super) fn halved(self, channels: usize) -> Self {
        Self { channels, shrink: 2 * self.shrink }
    }
}
