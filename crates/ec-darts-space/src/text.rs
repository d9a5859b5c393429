//! Genotypes as text: the flat and the nested Python form of the public DARTS code, and JSON.
//!
//! [`str::parse`] reads all three; [`Genotype::to_flat`], [`Genotype::to_nested`] and
//! [`Genotype::to_json`] print them. Reading what was printed gives the same genotype.
//!
//! ```text
//! flat     Genotype(normal=[('sep_conv_3x3', 1), ('skip_connect', 0), ...],
//!                   normal_concat=range(2, 6), reduce=[...], reduce_concat=[2, 3, 4, 5])
//! nested   Genotype(normal=[[('sep_conv_3x3', 1), ('skip_connect', 0)], ...], ...)
//! json     {"normal": {"nodes": [[{"primitive": "sep_conv_3x3", "from": 1}, ...], ...],
//!                      "concat": [2, 3, 4, 5]}, "reduction": {...}}
//! ```
//! The flat form has two picks for each node and tells nodes apart by counting. In both Python
//! forms blanks, line breaks, trailing commas, `#` comments, either quotes, tuples for lists, keywords
//! in any order and a leading `NAME =` are accepted, and what public code makes of them: a dict, a
//! list of pairs or JSON with the same keys, `list(range(2, 6))`, `np.int64(1)`. Text around a genotype
//! is passed over, as in a log; a second genotype is an error. Nothing is evaluated.
//!
//! # Source
//! Flat: `quark0/darts`, `cnn/genotypes.py`. Nested: `khanrc/pt.darts`, `genotypes.py`.

mod cursor;
mod parser;

use std::fmt;
use std::fmt::Write as _;
use std::str::FromStr;

use crate::{CellGenotype, CellKind, Error, Genotype, Pick};

/// The number of picks per node in the flat form.
const FLAT_PICKS: usize = 2;

impl FromStr for Genotype {
    type Err = Error;

    /// Reads any of the three forms; one that begins with `{` and has no `normal_concat` is JSON.
    ///
    /// ```
    /// use ec_darts_space::Genotype;
    ///
    /// let text = "Genotype(normal=[('skip_conect', 0)], ...";
    /// assert_eq!(
    ///     text.parse::<Genotype>().unwrap_err().to_string(),
    ///     "line 1, column 20: unknown primitive `skip_conect`, expected one of none, \
    ///      max_pool_3x3, avg_pool_3x3, skip_connect, sep_conv_3x3, sep_conv_5x5, dil_conv_3x3, \
    ///      dil_conv_5x5, nor_conv_1x1, nor_conv_3x3\n  \
    ///      | Genotype(normal=[('skip_conect', 0)], ...\n  \
    ///      |                    ^"
    /// );
    /// ```
    ///
    /// # Errors
    /// [`Error::Syntax`] or [`Error::Json`], also where the text describes a cell that is refused
    /// by [`CellGenotype::validate`].
    fn from_str(text: &str) -> Result<Self, Error> {
        // Editors of Windows put it first.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let is_ours = text.trim_start().starts_with('{') && !text.contains("_concat");
        if is_ours {
            serde_json::from_str(text).map_err(Error::Json)
        } else {
            parser::genotype(text)
        }
    }
}

impl Genotype {
    /// The flat Python form, on one line.
    ///
    /// # Errors
    /// [`Error::NotFlat`] where a node has one pick, or three or more.
    pub fn to_flat(&self) -> Result<String, Error> {
        for kind in CellKind::ALL {
            for (node, picks) in self.cell(kind).nodes.iter().enumerate() {
                if picks.len() != FLAT_PICKS {
                    return Err(Error::NotFlat { kind, node, num_picks: picks.len() });
                }
            }
        }
        Ok(self.python(|cell| list(cell.nodes.iter().flatten().map(python_pick))))
    }

    /// The nested Python form, on one line; it has room for any number of picks.
    pub fn to_nested(&self) -> String {
        self.python(|cell| list(cell.nodes.iter().map(|node| list(node.iter().map(python_pick)))))
    }

    /// JSON on several lines.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a genotype has string keys only")
    }

    fn python(&self, nodes: impl Fn(&CellGenotype) -> String) -> String {
        let Self { normal, reduction } = self;
        format!(
            "Genotype(normal={}, normal_concat={}, reduce={}, reduce_concat={})",
            nodes(normal),
            python_concat(normal),
            nodes(reduction),
            python_concat(reduction),
        )
    }
}

/// The flat form where it is possible, else the nested one.
impl fmt::Display for Genotype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_flat().unwrap_or_else(|_| self.to_nested()))
    }
}

fn python_pick(pick: &Pick) -> String {
    format!("('{}', {})", pick.primitive, pick.from)
}

/// `range(a, b)` for neighbours in order, as the public code writes it, else a list.
fn python_concat(cell: &CellGenotype) -> String {
    let neighbours = cell.concat.windows(2).all(|pair| pair[0] + 1 == pair[1]);
    match (cell.concat.first(), cell.concat.last()) {
        (Some(first), Some(last)) if neighbours => format!("range({first}, {})", last + 1),
        _ => list(cell.concat.iter().map(usize::to_string)),
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    let mut text = String::from("[");
    for (number, item) in items.enumerate() {
        let separator = if number == 0 { "" } else { ", " };
        write!(text, "{separator}{item}").expect("a string takes any text");
    }
    text + "]"
}

#[cfg(test)]
mod tests;
