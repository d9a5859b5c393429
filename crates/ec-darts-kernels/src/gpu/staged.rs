//! Tiles of planes in shared memory, with a halo: each value is read, lifted and compared with the
//! bounds once, and windows need no comparisons.
//!
//! A tile lies column by column, because the quads of a window are columns; the first row of a tile
//! is that of the first quads' windows, so windows of every padding begin with a whole quad.

use cubecl::prelude::*;

use super::planes::{Four, within};

/// Number of columns on both sides, and largest padding of a window.
pub const HALO: usize = 4;

/// Quads of a tile's column, with the halo and an odd number: units side by side read different banks.
pub fn pitch(rows: usize) -> usize {
    (rows + 2) | 1
}

/// The shape of the tiles of a cube: columns, rows of quads, and planes; the number of units that
/// bring them, whether a tile is as `wide` as its plane, and the lift.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tiles {
    pub columns: usize,
    pub rows: usize,
    pub planes: usize,
    pub units: usize,
    pub wide: bool,
    pub lift: Lift,
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
    /// Columns with the halo.
    pub fn all_columns(&self) -> usize {
        self.columns + 2 * HALO
    }

    /// Number of quads in shared memory.
    pub fn len(&self) -> usize {
        self.planes * self.all_columns() * pitch(self.rows)
    }

    /// Columns at the same distance that a unit brings: its own, and those of the halo where this is not empty.
    fn parts(&self) -> usize {
        if self.wide { 1 } else { self.all_columns().div_ceil(self.columns) }
    }

    /// Rows of quads that all units bring at once.
    fn rows_at_once(&self) -> usize {
        self.units / self.columns
    }

    /// Rows of quads that a unit brings.
    fn steps(&self) -> usize {
        (self.planes * (self.rows + 2)).div_ceil(self.rows_at_once())
    }

    /// Number of fours that a unit keeps between [`fetch`] and [`put`]: after its quads, the
    /// normalizations of their planes.
    pub fn of_unit(&self) -> usize {
        self.steps() * (self.parts() + 1)
    }

    fn norm_of(&self, step: usize) -> usize {
        self.steps() * self.parts() + step
    }

    pub fn with(&self, lift: Lift) -> Self {
        Self { lift, ..*self }
    }
}

/// Planes of which tiles are brought, from `(top, left)` on; `top` is the first row of their windows. Their rows lie
/// `row` values apart, their columns `step`: more than a width and one for every other row and column of a map. The planes
/// lie `apart`, and their normalizations, where they have one, `norms_apart` from `norm` on. There are `num` of them;
/// others are `outside`, as is all around a plane.
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
        let row = position / comptime!(tiles.columns) + comptime!(step * tiles.rows_at_once());
        fetch_row(fetched, source, norms, planes, row, position, step, tiles);
    }
}

/// Reads a unit's part of a row of quads, among those of all planes.
#[cube]
fn fetch_row(
    fetched: &mut Array<Four>,
    source: &[f32],
    norms: &[f32],
    planes: &Planes,
    row: usize,
    position: usize,
    #[comptime] step: usize,
    #[comptime] tiles: Tiles,
) {
    let columns = comptime!(tiles.columns);
    let high = comptime!(tiles.rows + 2);
    let parts = comptime!(tiles.parts());
    let of_column = position % columns;
    let number = row / high;
    let y = planes.top + (row % high * 4) as i32;
    let has = number < planes.num && row < comptime!(tiles.planes * (tiles.rows + 2));
    if comptime!(tiles.lift == Lift::Norm) {
        let mut norm = Four::new(0.0);
        if has {
            let at = planes.norm + number * planes.norms_apart;
            norm.insert(0usize, norms[at + 2]);
            norm.insert(1usize, norms[at + 3]);
        }
        fetched[comptime!(tiles.norm_of(step))] = norm;
    }
    let begin = (planes.first + number * planes.apart) as i32 + y * planes.row;
    #[unroll]
    for part in 0..parts {
        let x = planes.left + column_of(of_column, part, columns) as i32 - HALO as i32;
        let mut four = Four::new(planes.outside);
        if has && within(x, planes.width) {
            #[unroll]
            for pixel in 0..4usize {
                if within(y + pixel as i32, planes.height) {
                    let at = begin + x * planes.step + pixel as i32 * planes.row;
                    four.insert(pixel, source[at as usize]);
                }
            }
        }
        fetched[comptime!(step * parts + part)] = four;
    }
}

/// The column of a tile: first those inside, then those of the halo, which are none beyond its end.
#[cube]
fn column_of(of_column: usize, #[comptime] part: usize, #[comptime] columns: usize) -> usize {
    let mut column = of_column + HALO;
    if comptime!(part > 0) {
        let of_halo = of_column + comptime!((part.max(1) - 1) * columns);
        column = select(of_halo < HALO, of_halo, of_halo + columns);
    }
    column
}

/// Lifts what [`fetch`] read from these planes, and writes it to the tiles of windows with this `padding`.
///
/// # Shapes
/// - `tile`: `[planes][columns + 2 HALO][pitch]` quads
#[cube]
pub fn put(
    tile: &mut Shared<[Four]>,
    fetched: &Array<Four>,
    planes: &Planes,
    padding: i32,
    position: usize,
    #[comptime] tiles: Tiles,
) {
    #[unroll]
    for step in 0..comptime!(tiles.steps()) {
        let row = position / comptime!(tiles.columns) + comptime!(step * tiles.rows_at_once());
        put_row(tile, fetched, planes, padding, row, position, step, tiles);
    }
}

/// Reads and writes a unit's part of tiles, row by row, where registers count more than the time of memory.
#[cube]
pub fn stage(
    tile: &mut Shared<[Four]>,
    source: &[f32],
    norms: &[f32],
    planes: &Planes,
    padding: i32,
    position: usize,
    #[comptime] tiles: Tiles,
) {
    let mut fetched = Array::<Four>::new(comptime!(tiles.of_unit()));
    let mut row = position / comptime!(tiles.columns);
    while row < comptime!(tiles.planes * (tiles.rows + 2)) {
        fetch_row(&mut fetched, source, norms, planes, row, position, 0usize, tiles);
        put_row(tile, &fetched, planes, padding, row, position, 0usize, tiles);
        row += comptime!(tiles.rows_at_once());
    }
}

#[cube]
fn put_row(
    tile: &mut Shared<[Four]>,
    fetched: &Array<Four>,
    planes: &Planes,
    padding: i32,
    row: usize,
    position: usize,
    #[comptime] step: usize,
    #[comptime] tiles: Tiles,
) {
    let columns = comptime!(tiles.columns);
    let high = comptime!(tiles.rows + 2);
    let parts = comptime!(tiles.parts());
    // Windows with a padding of at most two end one quad earlier.
    let used = select(padding > 2, high.runtime(), comptime!(tiles.rows + 1).runtime());
    let of_column = position % columns;
    let quad = row % high;
    if quad < used && row < comptime!(tiles.planes * (tiles.rows + 2)) {
        let to = row / high * comptime!(tiles.all_columns() * pitch(tiles.rows)) + quad;
        #[unroll]
        for part in 0..parts {
            let column = column_of(of_column, part, columns);
            if column < comptime!(tiles.all_columns()) {
                let mut four = fetched[comptime!(step * parts + part)];
                if comptime!(tiles.lift == Lift::Norm) {
                    // Zeros around a plane stay zero.
                    let norm = fetched[comptime!(tiles.norm_of(step))];
                    let x = planes.left + column as i32 - HALO as i32;
                    let y = planes.top + (quad * 4) as i32;
                    let has_column = within(x, planes.width);
                    #[unroll]
                    for pixel in 0..4usize {
                        let value =
                            four.extract(pixel) * norm.extract(0usize) + norm.extract(1usize);
                        let has = has_column && within(y + pixel as i32, planes.height);
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
                tile[to + column * comptime!(pitch(tiles.rows))] = four;
            }
        }
    }
}

/// Writes the halo of tiles that are as wide as their planes, once for all of them.
#[cube]
pub fn clear_halo(
    tile: &mut Shared<[Four]>,
    outside: f32,
    position: usize,
    #[comptime] tiles: Tiles,
) {
    if comptime!(tiles.wide) {
        let quads = comptime!(pitch(tiles.rows));
        let mut entry = position;
        while entry < comptime!(tiles.planes * 2 * HALO * pitch(tiles.rows)) {
            let quad = entry % quads;
            let column = entry / quads % comptime!(2 * HALO);
            let number = entry / comptime!(2 * HALO * pitch(tiles.rows));
            let column = select(column < HALO, column, column + comptime!(tiles.columns));
            tile[(number * comptime!(tiles.all_columns()) + column) * quads + quad] =
                Four::new(outside);
            entry += comptime!(tiles.units);
        }
    }
}
