//! The text form of NAS-Bench-201's cells.

use std::ops::Range;

use super::cursor::Cursor;
use crate::genotype::CellPart;
use crate::{CellGenotype, CellTopology, Error, NUM_INPUTS, Pick, Primitive};

/// The difference between a state here and a node of the text: the text's node 0 is the newer
/// input, state 1.
const SHIFT: usize = 1;

impl CellGenotype {
    /// Reads the text of a cell of NAS-Bench-201.
    ///
    /// ```
    /// use ec_darts_space::{CellGenotype, Primitive};
    ///
    /// let text = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|";
    /// let cell = CellGenotype::from_nas_bench_201(text)?;
    /// assert_eq!(cell.count(|_| true), 3);
    /// assert_eq!(cell.to_nas_bench_201()?, text);
    /// # Ok::<(), ec_darts_space::Error>(())
    /// ```
    /// Edges that are `none` are left out. Edges that read a node without incoming edges are left
    /// out too, because such a node is zero. An edge that the text does not name is `none`.
    ///
    /// # Errors
    /// [`Error::Syntax`], also where the last node, which is the output, has no incoming edge.
    ///
    /// # Source
    /// AutoDL-Projects, `xautodl/models/cell_searchs/genotypes.py`, `Structure`.
    pub fn from_nas_bench_201(text: &str) -> Result<Self, Error> {
        cell(text, 0..text.len())
    }

    /// The text of a cell of NAS-Bench-201.
    ///
    /// # Errors
    /// [`Error::Cell`] where the cell is not of that space. Its cells have three nodes that read
    /// the newer input or one another, each source once; the last node is the output.
    pub fn to_nas_bench_201(&self) -> Result<String, Error> {
        let topology = CellTopology::nas_bench_201();
        let fault = |place: String, reason: &str| Err(Error::Cell { place, reason: reason.into() });
        self.validate()?;
        if self.nodes.len() != topology.num_nodes() || self.concat != topology.joined_of(self) {
            return fault("nodes".into(), "expected three, of which the output is the last");
        }
        let mut text = Vec::new();
        for (node, picks) in self.nodes.iter().enumerate() {
            if picks.iter().any(|pick| !topology.sources(node).contains(&pick.from)) {
                return fault(
                    format!("node {node}"),
                    "reads the older input, which this cell does not have",
                );
            }
            let mut edges = Vec::new();
            for from in topology.sources(node) {
                let mut own = picks.iter().filter(|pick| pick.from == from);
                let primitive = own.next().map_or(Primitive::None, |pick| pick.primitive);
                if own.next().is_some() {
                    return fault(format!("node {node}"), "picks one source twice");
                }
                edges.push(format!("{primitive}~{}", from - SHIFT));
            }
            text.push(format!("|{}|", edges.join("|")));
        }
        Ok(text.join("+"))
    }
}

/// The place of the text of a cell in a longer text, such as the output of public code about an
/// architecture.
pub(super) fn place(text: &str) -> Option<Range<usize>> {
    let is_ours = text.contains('~') && !text.contains("normal");
    let (start, end) = (text.find('|')?, text.rfind('|')? + 1);
    (is_ours && start < end).then_some(start..end)
}

/// The cell at a place in a text.
pub(super) fn cell(text: &str, range: Range<usize>) -> Result<CellGenotype, Error> {
    let topology = CellTopology::nas_bench_201();
    let cursor = &mut Cursor::new(&text[..range.end], range.start);
    let mut nodes = vec![Vec::new(); topology.num_nodes()];
    for (node, picks) in nodes.iter_mut().enumerate() {
        if node > 0 {
            cursor.expect('+')?;
        }
        cursor.expect('|')?;
        loop {
            picks.push(edge(cursor, node)?);
            cursor.expect('|')?;
            if matches!(cursor.peek(), None | Some('+')) {
                break;
            }
        }
    }
    if cursor.peek().is_some() {
        return Err(cursor.unexpected("nothing more"));
    }
    let places: Vec<Vec<usize>> =
        nodes.iter().map(|picks| picks.iter().map(|&(_, at)| at).collect()).collect();
    let listed: Vec<Vec<Pick>> =
        nodes.into_iter().map(|picks| picks.into_iter().map(|(pick, _)| pick).collect()).collect();
    // This check comes before any edge is left out: the same edge twice is a mistake, `none` or
    // not.
    for (picks, places) in listed.iter().zip(&places) {
        if let Some(at) = (1..picks.len()).find(|&at| picks[..at].contains(&picks[at])) {
            return Err(cursor.error(places[at], "this edge is named twice".into()));
        }
    }
    let is_there = |pick: &Pick| pick.primitive != Primitive::None;
    let kept = listed.into_iter().map(|picks| picks.into_iter().filter(is_there).collect());
    let mut cell = CellGenotype::of_picks(kept.collect());
    cell.concat = topology.joined_of(&cell);
    match cell.fault() {
        None => Ok(cell),
        Some(fault) => {
            debug_assert!(matches!(fault.place, CellPart::Concat));
            let reason = "nothing enters the last node, which is the output".into();
            Err(cursor.error(range.end, reason))
        }
    }
}

/// An edge and the place of its primitive.
fn edge(cursor: &mut Cursor<'_>, node: usize) -> Result<(Pick, usize), Error> {
    let at = cursor.skip();
    let name = cursor.word();
    let primitive = name.parse().map_err(|error: Error| cursor.error(at, error.to_string()))?;
    cursor.expect('~')?;
    let (source, source_at) = cursor.number()?;
    if source > node {
        let reason = format!("node {source} does not exist yet, allowed: 0 to {node}");
        return Err(cursor.error(source_at, reason));
    }
    debug_assert!(source + SHIFT < NUM_INPUTS + node);
    Ok((Pick { primitive, from: source + SHIFT }, at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SearchSpace;

    #[test]
    fn every_cell_of_the_space_is_read_and_printed() {
        let mut read = 0;
        for number in 0..15_625_usize {
            let digit = |edge: u32| Primitive::NAS_BENCH_201[number / 5_usize.pow(edge) % 5];
            let [a, b, c, d, e, f] = std::array::from_fn(|edge| digit(edge as u32).name());
            let text = format!("|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|");
            match CellGenotype::from_nas_bench_201(&text) {
                Ok(cell) => {
                    let printed = cell.to_nas_bench_201().unwrap();
                    assert_eq!(CellGenotype::from_nas_bench_201(&printed).unwrap(), cell, "{text}");
                    // An operation that reads a node of zeros gives zeros as well, and may be
                    // printed as `none`.
                    assert!(
                        printed == text || printed.matches("none").count() > 1,
                        "{text}: {printed}"
                    );
                    let genotype = crate::Genotype { normal: cell, reduction: None };
                    assert!(SearchSpace::nas_bench_201().contains(&genotype), "{text}");
                    read += 1;
                }
                Err(error) => assert!(error.to_string().contains("nothing enters"), "{error}"),
            }
        }
        let is_zero = |number: &usize| {
            let [a, b, c, d, e, f] =
                std::array::from_fn(|edge| !(number / 5_usize.pow(edge as u32)).is_multiple_of(5));
            let (one, two) = (a, b || (c && a));
            !(d || (e && one) || (f && two))
        };
        assert_eq!(read, 15_625 - (0..15_625).filter(is_zero).count());
    }

    #[test]
    fn faults_have_a_place() {
        let check = |text: &str, expected: &str| {
            let message = CellGenotype::from_nas_bench_201(text).unwrap_err().to_string();
            assert_eq!(message.lines().next(), Some(expected));
        };
        let rest = "|skip_connect~0|skip_connect~1|+|none~0|none~1|skip_connect~2|";
        check(
            &format!("|skip~0|+{rest}"),
            "line 1, column 2: unknown primitive `skip`, expected one of \
            none, max_pool_3x3, avg_pool_3x3, skip_connect, sep_conv_3x3, sep_conv_5x5, dil_conv_3x3, \
            dil_conv_5x5, nor_conv_1x1, nor_conv_3x3",
        );
        check(
            &format!("|skip_connect~1|+{rest}"),
            "line 1, column 15: node 1 does not exist yet, allowed: 0 to 0",
        );
        check("|none~0|", "line 1, column 9: expected `+`, found the end of the text");
        check(&format!("|none~0|none~0|+{rest}"), "line 1, column 9: this edge is named twice");
        check(&format!("|none~0|+{rest}+"), "line 1, column 72: expected nothing more, found `+`");
        check(
            "|none~0|+|none~0|none~1|+|none~0|none~1|skip_connect~2|",
            "line 1, column 56: nothing enters the last node, which is the output",
        );
        let darts = crate::Preset::ALL[0].genotype().normal;
        let message = darts.to_nas_bench_201().unwrap_err().to_string();
        assert_eq!(message, "nodes: expected three, of which the output is the last");
    }
}
