//! Tiles of planes in shared memory, with a halo: each value is read, lifted and compared with the
//! bounds once, and windows need no comparisons.
//!
//! A tile lies row by row. Its halo has whole quads on both sides, so a quad of the tile is one of the plane.

use cubecl::prelude::*;

use super::planes::{Four, read_four, within};

/// Number of rows above and below, and largest padding of a window; columns on both sides, which are one quad.
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

/// The shape of the tiles of a cube: columns of quads, rows, and planes; the number of units that bring them, whether a
/// tile is as `wide` and as `tall` as its plane, the lift, and whether quads are read as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tiles {
    pub columns: usize,
    pub rows: usize,
    pub planes: usize,
    pub units: usize,
    pub wide: bool,
    pub tall: bool,
    pub lift: Lift,
    pub vectors: bool,
}

/// The lift of values between memory and a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lift {
    None,
    Relu,
    /// A normalization, then a ReLU.
    Norm,
}

impl Tiles {
    /// Rows with the halo.
    pub fn all_rows(&self) -> usize {
        self.rows + 2 * HALO
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
    fn steps(&self) -> usize {
        let [rows, columns] = self.brought();
        (self.planes * rows * columns).div_ceil(self.units)
    }

    /// Number of fours that a unit keeps between [`fetch`] and [`put`]: after its quads, the
    /// normalizations of their planes.
    pub fn of_unit(&self) -> usize {
        2 * self.steps()
    }

    pub fn with(&self, lift: Lift) -> Self {
        Self { lift, ..*self }
    }
}

/// Planes of which tiles are brought, from `(top, left)` on. Their rows lie
/// `row` values apart, their columns `step`: more than a width and one for every other row and column of a map. The planes
/// lie `apart`, and their normalizations, where they have one, `norms_apart` from `norm` on. There are `num` of them;
/// others are `outside`, as is all around a plane. Windows have this `padding`.
#[derive(CubeType, Clone, Copy)]
pub struct Planes {
    pub first: usize,
    pub apart: usize,
    pub num: usize,
    pub height: i32,
    pub width: i32,
    pub row: i32,
    pub step: i32,
    pub top: i32,
    pub left: i32,
    pub padding: i32,
    pub floor: f32,
    pub outside: f32,
    pub norm: usize,
    pub norms_apart: usize,
}

/// The number of rows or columns among `length` that lie `step` apart, 1 or 2, from the first on.
#[cube]
pub fn every(length: usize, first: usize, step: usize) -> i32 {
    ((length + step - 1 - first) >> (step - 1)) as i32
}

/// The place of a quad that a unit brings: its plane, and its row and column of quads in the tile, which begins with the
/// halo.
#[derive(CubeType, Clone, Copy)]
struct Place {
    plane: usize,
    row: usize,
    column: usize,
}

#[cube]
fn place_of(entry: usize, #[comptime] tiles: Tiles) -> Place {
    let rows = comptime!(tiles.brought()[0]);
    let columns = comptime!(tiles.brought()[1]);
    let row = entry / columns;
    Place {
        plane: row / rows,
        row: row % rows + comptime!(if tiles.tall { HALO } else { 0 }),
        column: entry % columns + comptime!(if tiles.wide { 1usize } else { 0usize }),
    }
}

/// Whether a quad is in a tile and its windows reach it.
#[cube]
fn is_used(place: &Place, padding: i32, #[comptime] tiles: Tiles) -> bool {
    let mut used = place.plane < comptime!(tiles.planes);
    if comptime!(!tiles.tall) {
        let from = place.row as i32 - HALO as i32 + padding;
        used = used && within(from, comptime!(tiles.rows as i32) + 2 * padding);
    }
    used
}

/// Reads a unit's part of tiles. The values are not used before [`put`], so other work hides the
/// time that memory takes.
#[cube]
pub fn fetch(
    fetched: &mut Array<Four>,
    source: &[f32],
    norms: &[f32],
    planes: &Planes,
    position: usize,
    #[comptime] tiles: Tiles,
) {
    #[unroll]
    for step in 0..comptime!(tiles.steps()) {
        fetch_quad(fetched, source, norms, planes, position, step, step, tiles);
    }
}

/// Reads one of the quads that a unit brings.
#[cube]
fn fetch_quad(
    fetched: &mut Array<Four>,
    source: &[f32],
    norms: &[f32],
    planes: &Planes,
    position: usize,
    step: usize,
    #[comptime] to: usize,
    #[comptime] tiles: Tiles,
) {
    let place = place_of(position + step * comptime!(tiles.units), tiles);
    let y = planes.top + place.row as i32 - HALO as i32;
    let x = planes.left + (place.column * 4) as i32 - HALO as i32;
    let mut four = Four::new(planes.outside);
    let has_plane = place.plane < planes.num && is_used(&place, planes.padding, tiles);
    if has_plane && within(y, planes.height) {
        let at = (planes.first + place.plane * planes.apart) as i32 + y * planes.row + x * planes.step;
        if comptime!(tiles.vectors) {
            if comptime!(tiles.wide) || within(x, planes.width) {
                four = read_four(source, at as usize, 4usize, true);
                if planes.step == 2 {
                    // Every other value of eight; the first of them may be the second of its four.
                    let second = read_four(source, at as usize + 4, 4usize, true);
                    let is_odd = at % 2 == 1;
                    let first = four;
                    four.insert(0usize, select(is_odd, first.extract(1usize), first.extract(0usize)));
                    four.insert(1usize, select(is_odd, first.extract(3usize), first.extract(2usize)));
                    four.insert(2usize, select(is_odd, second.extract(1usize), second.extract(0usize)));
                    four.insert(3usize, select(is_odd, second.extract(3usize), second.extract(2usize)));
                }
            }
        } else {
            #[unroll]
            for pixel in 0..4usize {
                if within(x + pixel as i32, planes.width) {
                    four.insert(pixel, source[(at + pixel as i32 * planes.step) as usize]);
                }
            }
        }
    }
    fetched[to] = four;
    if comptime!(tiles.lift == Lift::Norm) {
        let mut norm = Four::new(0.0);
        if has_plane {
            let at = planes.norm + place.plane * planes.norms_apart;
            norm.insert(0usize, norms[at + 2]);
            norm.insert(1usize, norms[at + 3]);
        }
        fetched[comptime!(to + tiles.steps())] = norm;
    }
}

/// Lifts what [`fetch`] read from these planes, and writes it to the tiles.
///
/// # Shapes
/// - `tile`: `[planes][rows + 2 HALO][pitch]` quads
#[cube]
pub fn put(
    tile: &mut Shared<[Four]>,
    fetched: &Array<Four>,
    planes: &Planes,
    position: usize,
    #[comptime] tiles: Tiles,
) {
    #[unroll]
    for step in 0..comptime!(tiles.steps()) {
        put_quad(tile, fetched, planes, position, step, step, tiles);
    }
}

/// Reads and writes a unit's part of tiles, quad by quad, where registers count more than the time of memory.
#[cube]
pub fn stage(
    tile: &mut Shared<[Four]>,
    source: &[f32],
    norms: &[f32],
    planes: &Planes,
    position: usize,
    #[comptime] tiles: Tiles,
) {
    let mut fetched = Array::<Four>::new(comptime!(tiles.of_unit()));
    for step in 0..comptime!(tiles.steps()) {
        fetch_quad(&mut fetched, source, norms, planes, position, step, 0usize, tiles);
        put_quad(tile, &fetched, planes, position, step, 0usize, tiles);
    }
}

#[cube]
fn put_quad(
    tile: &mut Shared<[Four]>,
    fetched: &Array<Four>,
    planes: &Planes,
    position: usize,
    step: usize,
    #[comptime] from: usize,
    #[comptime] tiles: Tiles,
) {
    let place = place_of(position + step * comptime!(tiles.units), tiles);
    if is_used(&place, planes.padding, tiles) {
        let mut four = fetched[from];
        if comptime!(tiles.lift == Lift::Norm) {
            // Zeros around a plane stay zero.
            let norm = fetched[comptime!(from + tiles.steps())];
            let y = planes.top + place.row as i32 - HALO as i32;
            let x = planes.left + (place.column * 4) as i32 - HALO as i32;
            let has_row = within(y, planes.height);
            #[unroll]
            for pixel in 0..4usize {
                let value = four.extract(pixel) * norm.extract(0usize) + norm.extract(1usize);
                let is_inside = comptime!(tiles.wide && tiles.vectors);
                let has = has_row && (is_inside || within(x + pixel as i32, planes.width));
                four.insert(pixel, select(has, value, f32::new(0.0)));
            }
        }
        if comptime!(tiles.lift != Lift::None) {
            #[unroll]
            for pixel in 0..4usize {
                let value = four.extract(pixel);
                four.insert(pixel, select(value < planes.floor, planes.floor, value));
            }
        }
        let to = place.plane * comptime!(tiles.all_rows() * tiles.pitch())
            + place.row * comptime!(tiles.pitch())
            + place.column;
        tile[to] = four;
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
            let beside = comptime!(tiles.wide) && !(column >= 1 && column <= comptime!(tiles.columns));
            let above = comptime!(tiles.tall)
                && !(row >= HALO && row < comptime!(tiles.rows + HALO));
            if beside || above {
                tile[entry] = Four::new(outside);
            }
            entry += comptime!(tiles.units);
        }
    }
}
