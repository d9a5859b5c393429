//! Tiles of planes in shared memory, with a halo: each value is read, lifted and compared with the
//! bounds once, and windows need no comparisons.
//!
//! A tile lies row by row. Its halo has whole quads on both sides, so a quad of the tile is one of the plane.

use cubecl::prelude::*;

use super::planes::{Access, Four, read_four, within};
use super::windows::WEIGHTS;

/// Largest number of rows above and below, and largest padding of a window; columns on both sides, which are one quad.
pub const HALO: usize = 4;

/// Quads of a tile's row, with the halo: units side by side, eight of which read at once, read different banks.
pub fn pitch(columns: usize) -> usize {
    let apart = |pitch: &usize| {
        let mut banks = [false; 8];
        (0..8).all(|unit| {
            let bank = &mut banks[(unit / columns * pitch + unit % columns) % 8];
            !std::mem::replace(bank, true)
        })
    };
    let least = columns + 2;
    (least..least + 8).find(apart).unwrap_or(least)
}

/// The shape of the tiles of a cube: columns of quads, rows, and planes; rows of the halo; the number of units that bring
/// them, whether a tile is as `wide` and as `tall` as its plane, the lift, and the way to read quads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tiles {
    pub columns: usize,
    pub rows: usize,
    pub planes: usize,
    pub halo: usize,
    pub units: usize,
    pub wide: bool,
    pub tall: bool,
    pub lift: Lift,
    pub access: Access,
}

/// The lift of values between memory and a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lift {
    None,
    Relu,
    /// A normalization, then a ReLU; each plane has its own.
    Norm,
    /// The same, with one for all planes.
    OneNorm,
}

impl Lift {
    pub fn has_norm(self) -> bool {
        matches!(self, Self::Norm | Self::OneNorm)
    }
}

impl Tiles {
    /// Rows with the halo.
    pub fn all_rows(&self) -> usize {
        self.rows + 2 * self.halo
    }

    /// Quads of a row in shared memory.
    pub fn pitch(&self) -> usize {
        pitch(self.columns)
    }

    /// Number of quads in shared memory.
    pub fn len(&self) -> usize {
        self.planes * self.all_rows() * self.pitch()
    }

    /// Rows and columns that are brought: of a halo that is outside of the plane none are.
    fn brought(&self) -> [usize; 2] {
        let rows = if self.tall { self.rows } else { self.all_rows() };
        [rows, if self.wide { self.columns } else { self.columns + 2 }]
    }

    /// Number of quads that a unit brings.
    pub fn steps(&self) -> usize {
        let [rows, columns] = self.brought();
        (self.planes * rows * columns).div_ceil(self.units)
    }

    pub fn with(&self, lift: Lift) -> Self {
        Self { lift, ..*self }
    }
}

/// Planes of which tiles are brought, from `(top, left)` on. They lie `apart`, their rows `row` values, their columns
/// `step`: more than a width and one for every other row and column of a map. Windows have this `padding`.
#[derive(CubeType, Clone, Copy)]
pub struct Planes {
    pub apart: usize,
    pub height: i32,
    pub width: i32,
    pub row: i32,
    pub step: i32,
    pub top: i32,
    pub left: i32,
    pub padding: i32,
}

/// The number of rows or columns among `length` that lie `step` apart, from the first on; tiles have steps of 1 and 2.
#[cube]
pub fn every(length: usize, first: usize, step: usize) -> i32 {
    let shift = min(step, 2) - 1;
    ((length + shift - first) >> shift) as i32
}

/// The plane of a quad that a unit brings.
#[cube]
fn plane_at(position: usize, step: usize, #[comptime] tiles: Tiles) -> usize {
    let [rows, columns] = comptime!(tiles.brought());
    (position + step * comptime!(tiles.units)) / comptime!(rows * columns)
}

/// The places of a quad that a unit brings: that of its first value after the first of all planes, negative where the
/// quad is outside; the number of its pixels that are inside; and the place in the tile.
#[derive(CubeType, Clone, Copy)]
struct Located {
    offset: i32,
    lanes: u32,
    to: u32,
}

/// Those of all quads that a unit brings.
#[derive(CubeType)]
pub struct Places {
    offsets: Array<i32>,
    lanes: Array<u32>,
    to: Array<u32>,
}

/// Room for the places, which [`locate`] computes.
#[cube]
pub fn new_places(#[comptime] tiles: Tiles) -> Places {
    Places {
        offsets: Array::<i32>::new(comptime!(tiles.steps())),
        lanes: Array::<u32>::new(comptime!(tiles.steps())),
        to: Array::<u32>::new(comptime!(tiles.steps())),
    }
}

#[cube]
pub fn locate(places: &mut Places, planes: &Planes, position: usize, #[comptime] tiles: Tiles) {
    #[unroll]
    for step in 0..comptime!(tiles.steps()) {
        let located = locate_quad(planes, position, step, tiles);
        places.offsets[step] = located.offset;
        places.lanes[step] = located.lanes;
        places.to[step] = located.to;
    }
}

#[cube]
fn locate_quad(planes: &Planes, position: usize, step: usize, #[comptime] tiles: Tiles) -> Located {
    let [rows, columns] = comptime!(tiles.brought());
    let entry = position + step * comptime!(tiles.units);
    let plane = plane_at(position, step, tiles);
    let row = entry / columns % rows + comptime!(if tiles.tall { tiles.halo } else { 0 });
    let column = entry % columns + comptime!(if tiles.wide { 1usize } else { 0usize });
    let y = planes.top + row as i32 - comptime!(tiles.halo as i32);
    let x = planes.left + (column * 4) as i32 - 4;
    // No window reads the other rows of a halo.
    let reach = row as i32 - comptime!(tiles.halo as i32) + planes.padding;
    let is_read = within(reach, comptime!(tiles.rows as i32) + 2 * planes.padding);
    let has = plane < comptime!(tiles.planes) && is_read && within(y, planes.height);
    let mut offset = i32::new(-1);
    let mut lanes = u32::new(0);
    if has && within(x, planes.width) {
        offset = (plane * planes.apart) as i32 + y * planes.row + x * planes.step;
        lanes = min(planes.width - x, 4) as u32;
    }
    let to = (plane * comptime!(tiles.all_rows() * tiles.pitch())
        + row * comptime!(tiles.pitch())
        + column) as u32;
    Located { offset, lanes, to }
}

/// Reads a unit's part of tiles, of the first `num` planes from a place on; others are `outside`, as is all around a plane.
/// The values are not used before [`put`], so other work hides the time that memory takes.
#[cube]
pub fn fetch(
    fetched: &mut Array<Four>,
    source: &[f32],
    places: &Places,
    first: usize,
    num: usize,
    step: i32,
    outside: f32,
    position: usize,
    #[comptime] tiles: Tiles,
) {
    #[unroll]
    for round in 0..comptime!(tiles.steps()) {
        let has = plane_at(position, round, tiles) < num;
        let (offset, lanes) = (places.offsets[round], places.lanes[round]);
        fetched[round] = fetch_quad(source, offset, lanes, first, has, step, outside, tiles);
    }
}

#[cube]
fn fetch_quad(
    source: &[f32],
    offset: i32,
    lanes: u32,
    first: usize,
    has: bool,
    step: i32,
    outside: f32,
    #[comptime] tiles: Tiles,
) -> Four {
    let mut four = Four::new(outside);
    if offset >= 0 && has {
        let at = first + offset as usize;
        if comptime!(tiles.access.is_whole()) {
            four = read_four(source, at, 4usize, comptime!(tiles.access));
            if step == 2 {
                // Every other value of eight; the first of them may be the second of its four.
                let first = four;
                let second = read_four(source, at + 4, 4usize, comptime!(tiles.access));
                let odd = at % 2 == 1;
                four.insert(0usize, select(odd, first.extract(1usize), first.extract(0usize)));
                four.insert(1usize, select(odd, first.extract(3usize), first.extract(2usize)));
                four.insert(2usize, select(odd, second.extract(1usize), second.extract(0usize)));
                four.insert(3usize, select(odd, second.extract(3usize), second.extract(2usize)));
            }
        } else {
            #[unroll]
            for pixel in 0..4usize {
                if (pixel as u32) < lanes {
                    four.insert(pixel, source[at + pixel * step as usize]);
                }
            }
        }
    }
    four
}

/// Lifts what [`fetch`] read, and writes it to the tiles. The normalizations of the planes lie with the windows from
/// `first_window` on ([`super::windows::put_weights`]).
///
/// # Shapes
/// - `tile`: `[planes][rows + 2 halo][pitch]` quads
#[cube]
pub fn put(
    tile: &mut Shared<[Four]>,
    fetched: &Array<Four>,
    places: &Places,
    windows: &Shared<[Four]>,
    first_window: usize,
    floor: f32,
    position: usize,
    #[comptime] tiles: Tiles,
) {
    #[unroll]
    for step in 0..comptime!(tiles.steps()) {
        let plane = plane_at(position, step, tiles);
        if plane < comptime!(tiles.planes) {
            let mut four = fetched[step];
            if comptime!(tiles.lift.has_norm()) {
                let plane =
                    if comptime!(tiles.lift == Lift::Norm) { plane } else { 0usize.runtime() };
                let norm = windows[first_window + plane * WEIGHTS + comptime!(WEIGHTS - 1)];
                // Zeros around a plane stay zero.
                let (scale, shift) = (norm.extract(1usize), norm.extract(2usize));
                if comptime!(tiles.access.is_whole()) {
                    let has = places.offsets[step] >= 0;
                    let zero = f32::new(0.0);
                    four = four * Four::new(select(has, scale, zero))
                        + Four::new(select(has, shift, zero));
                } else {
                    #[unroll]
                    for pixel in 0..4usize {
                        let value = four.extract(pixel) * scale + shift;
                        let has = (pixel as u32) < places.lanes[step];
                        four.insert(pixel, select(has, value, f32::new(0.0)));
                    }
                }
            }
            if comptime!(tiles.lift != Lift::None) {
                #[unroll]
                for pixel in 0..4usize {
                    let value = four.extract(pixel);
                    four.insert(pixel, select(value < floor, floor, value));
                }
            }
            tile[places.to[step] as usize] = four;
        }
    }
}

/// Reads and writes a unit's part of tiles, quad by quad, where registers count more than the time of memory.
#[cube]
pub fn stage(
    tile: &mut Shared<[Four]>,
    source: &[f32],
    planes: &Planes,
    first: usize,
    num: usize,
    outside: f32,
    position: usize,
    #[comptime] tiles: Tiles,
) {
    for step in 0..comptime!(tiles.steps()) {
        let located = locate_quad(planes, position, step, tiles);
        let plane = plane_at(position, step, tiles);
        if plane < comptime!(tiles.planes) {
            let has = plane < num;
            let (offset, lanes) = (located.offset, located.lanes);
            tile[located.to as usize] =
                fetch_quad(source, offset, lanes, first, has, 1i32, outside, tiles);
        }
    }
}

/// Writes the halo that is outside of the planes, once for all tiles.
#[cube]
pub fn clear_halo(
    tile: &mut Shared<[Four]>,
    outside: f32,
    position: usize,
    #[comptime] tiles: Tiles,
) {
    if comptime!(tiles.wide || tiles.tall) {
        let mut entry = position;
        while entry < comptime!(tiles.len()) {
            let column = entry % comptime!(tiles.pitch());
            let row = entry / comptime!(tiles.pitch()) % comptime!(tiles.all_rows());
            let beside =
                comptime!(tiles.wide) && !(column >= 1 && column <= comptime!(tiles.columns));
            let above = comptime!(tiles.tall)
                && !(row >= comptime!(tiles.halo) && row < comptime!(tiles.rows + tiles.halo));
            if beside || above {
                tile[entry] = Four::new(outside);
            }
            entry += comptime!(tiles.units);
        }
    }
}
