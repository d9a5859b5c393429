//! Genotypes as text: the flat and the nested Python form of the public DARTS code, the form of NAS-Bench-201,
//! and JSON.
//!
//! [`str::parse`] reads them all; [`Genotype::to_flat`], [`Genotype::to_nested`],
//! [`Genotype::to_nas_bench_201`], [`Genotype::to_json`] and others print them. Reading the printed
//! text gives the same genotype.
//!
//! ```text
//! flat     Genotype(normal=[('sep_conv_3x3', 1), ('skip_connect', 0), ...],
//!                   normal_concat=range(2, 6), reduce=[...], reduce_concat=[2, 3, 4, 5])
//! nested   Genotype(normal=[[('sep_conv_3x3', 1), ('skip_connect', 0)], ...], ...)
//! triples  Genotype(normal=[('sep_conv_3x3', 2, 1), ('skip_connect', 4, 0), ...], ...)
//! edges    Genotype(normal=[('sep_conv_3x3', 1), ('none', 0), ('none', 2), ...], ...)
//! one cell |nor_conv_3x3~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|avg_pool_3x3~2|
//! json     {"normal": {"nodes": [[{"primitive": "sep_conv_3x3", "from": 1}, ...], ...],
//!                      "concat": [2, 3, 4, 5]}, "reduction": {...}}
//! ```
//! The flat form has two picks for each node and tells nodes apart by counting. The form of all
//! edges has a pick for each edge, `none` where there is no connection. Triples name the node
//! before the source. These three leave out nodes without picks and picks that read such a node, as
//! the public code does.
//!
//! All Python forms accept blanks, line breaks, trailing commas, `#` comments, either quotes,
//! tuples for lists, keywords in any order and a leading `NAME =`. They also accept the variants
//! that public code prints: a dict, a list of pairs or JSON with the same keys, `list(range(2,
//! 6))`, `np.int64(1)`, a strength as the last part of a pick. Text around a genotype, as in a log,
//! is skipped; a second genotype is an error. No code in the text is evaluated.
//!
//! # Source
//! Flat: `quark0/darts`, `cnn/genotypes.py`. Nested: `khanrc/pt.darts`, `genotypes.py`. Triples:
//! `xiaomi-automl/FairDARTS`, `fairdarts/genotypes.py`. Edges: `SNAS-Series/SNAS-Series`,
//! `SNAS/genotypes.py`. One cell: `D-X-Y/AutoDL-Projects`,
//! `xautodl/models/cell_searchs/genotypes.py`. Strengths: `D-X-Y/AutoDL-Projects`, GDAS in the
//! space of DARTS.

mod cursor;
mod nas_bench_201;
mod nodes;
mod parser;

use std::fmt;
use std::fmt::Write as _;
use std::str::FromStr;

use crate::{CellGenotype, CellKind, Error, Genotype, Pick, Primitive};
use nodes::every_edge;

/// The number of picks per node in the flat form.
const FLAT_PICKS: usize = 2;

impl FromStr for Genotype {
    type Err = Error;

    /// Reads any of the forms; a text that begins with `{` and has no `normal_concat` is JSON.
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
    /// [`Error::Syntax`] or [`Error::Json`], also where [`CellGenotype::validate`] refuses a cell
    /// of the text.
    fn from_str(text: &str) -> Result<Self, Error> {
        // Some editors of Windows write this mark at the start of a file.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let is_ours = text.trim_start().starts_with('{') && !text.contains("_concat");
        if is_ours {
            return serde_json::from_str(text).map_err(Error::Json);
        }
        match nas_bench_201::place(text) {
            Some(range) => {
                let normal = nas_bench_201::cell(text, range)?;
                Ok(Self { normal, reduction: None })
            }
            None => parser::genotype(text),
        }
    }
}

impl Genotype {
    /// The flat Python form, on one line.
    ///
    /// # Errors
    /// [`Error::Form`] where a node does not have two picks, or where a reader would take the list
    /// for the form of all edges.
    pub fn to_flat(&self) -> Result<String, Error> {
        self.check_form("flat", |cell| {
            let mut nodes = cell.nodes.iter().enumerate();
            let other = nodes.find(|(_, picks)| picks.len() != FLAT_PICKS).map(|(node, picks)| {
                format!("node {node} has {} picks, expected {FLAT_PICKS}", picks.len())
            });
            other.or_else(|| {
                let picks: Vec<Pick> = cell.nodes.iter().flatten().copied().collect();
                let num_nodes = every_edge(&picks, &cell.concat)?;
                Some(format!("it reads like one pick for each edge of {num_nodes} nodes"))
            })
        })?;
        Ok(self.python(|cell| list(cell.nodes.iter().flatten().map(python_pick)), python_concat))
    }

    /// The triples of FairDARTS, on one line: primitive, state of the node, source.
    ///
    /// # Errors
    /// [`Error::Form`] where the output does not join all nodes with picks in their order: the code
    /// of FairDARTS joins them so, whatever the text says.
    pub fn to_triples(&self) -> Result<String, Error> {
        self.check_form("triples", not_all_joined)?;
        let triples = |cell: &CellGenotype| {
            let nodes = cell.node_states().zip(&cell.nodes);
            list(nodes.flat_map(|(state, picks)| {
                let triple =
                    move |pick: &Pick| format!("('{}', {state}, {})", pick.primitive, pick.from);
                picks.iter().map(triple)
            }))
        };
        Ok(self.python(triples, all_joined))
    }

    /// The form with a pick for each edge, on one line, as SNAS prints it: `none` where there is no
    /// connection.
    ///
    /// # Errors
    /// [`Error::Form`] where a node picks one source twice, or not all nodes with picks are joined.
    pub fn to_every_edge(&self) -> Result<String, Error> {
        self.check_form("every-edge", |cell| {
            let twice = |picks: &Vec<Pick>| {
                (1..picks.len())
                    .any(|at| picks[..at].iter().any(|pick| pick.from == picks[at].from))
            };
            let node = cell.nodes.iter().position(twice);
            let reason = node.map(|node| format!("node {node} picks one source twice"));
            reason.or_else(|| not_all_joined(cell))
        })?;
        let edges = |cell: &CellGenotype| {
            let nodes = cell.node_states().zip(&cell.nodes);
            list(nodes.flat_map(|(state, picks)| {
                let is_free = |from: &usize| picks.iter().all(|pick| pick.from != *from);
                let none = |from| Pick { primitive: Primitive::None, from };
                let rest = (0..state).filter(is_free).map(none);
                picks.iter().copied().chain(rest).map(|pick| python_pick(&pick)).collect::<Vec<_>>()
            }))
        };
        Ok(self.python(edges, all_joined))
    }

    /// The nested Python form, on one line; a node may have any number of picks.
    ///
    /// # Errors
    /// [`Error::Form`] where there is no reduction cell, as in all Python forms.
    pub fn to_nested(&self) -> Result<String, Error> {
        self.check_form("nested", |_| None)?;
        let nodes = |cell: &CellGenotype| {
            list(cell.nodes.iter().map(|node| list(node.iter().map(python_pick))))
        };
        Ok(self.python(nodes, python_concat))
    }

    /// The text of NAS-Bench-201, which has one kind of cell.
    ///
    /// # Errors
    /// [`Error::Form`] where there is a reduction cell, else as [`CellGenotype::to_nas_bench_201`].
    pub fn to_nas_bench_201(&self) -> Result<String, Error> {
        if self.reduction.is_some() {
            let (form, kind) = ("nas-bench-201", CellKind::Reduction);
            let reason = "it has one kind of cell, the normal one".into();
            return Err(Error::Form { form, kind, reason });
        }
        self.normal.to_nas_bench_201()
    }

    /// JSON on several lines.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a genotype has string keys only")
    }

    /// Checks that a Python form can express both cells; `reason` returns the property that it
    /// cannot express.
    fn check_form(
        &self,
        form: &'static str,
        reason: impl Fn(&CellGenotype) -> Option<String>,
    ) -> Result<(), Error> {
        if self.reduction.is_none() {
            let reason = "the genotype has none, and the form has two cells".into();
            return Err(Error::Form { form, kind: CellKind::Reduction, reason });
        }
        for (kind, cell) in self.cells() {
            if let Some(reason) = reason(cell) {
                return Err(Error::Form { form, kind, reason });
            }
        }
        Ok(())
    }

    fn python(
        &self,
        nodes: impl Fn(&CellGenotype) -> String,
        concat: impl Fn(&CellGenotype) -> String,
    ) -> String {
        let [normal, reduction] = CellKind::ALL.map(|kind| self.cell(kind));
        format!(
            "Genotype(normal={}, normal_concat={}, reduce={}, reduce_concat={})",
            nodes(normal),
            concat(normal),
            nodes(reduction),
            concat(reduction),
        )
    }
}

/// The flat form where it is possible, else the nested one; for a single cell the form of
/// NAS-Bench-201, else JSON.
impl fmt::Display for Genotype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.to_flat().or_else(|_| self.to_nested());
        let text = text.or_else(|_| self.to_nas_bench_201());
        f.write_str(&text.unwrap_or_else(|_| self.to_json()))
    }
}

fn python_pick(pick: &Pick) -> String {
    format!("('{}', {})", pick.primitive, pick.from)
}

/// All nodes, with and without picks; readers leave out the nodes without picks.
fn all_joined(cell: &CellGenotype) -> String {
    let std::ops::Range { start, end } = cell.node_states();
    format!("range({start}, {end})")
}

fn not_all_joined(cell: &CellGenotype) -> Option<String> {
    let is_all = cell.concat.iter().copied().eq(cell.states_with_picks());
    (!is_all).then(|| format!("the output joins {:?}, expected all nodes with picks", cell.concat))
}

/// The text `range(a, b)` for consecutive states, as the public code writes it, else a list.
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
