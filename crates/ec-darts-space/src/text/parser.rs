//! The grammar of the two Python forms.
//!
//! ```text
//! genotype = [ NAME "=" ] "Genotype" "(" field { "," field } [ "," ] ")"
//! field    = ( "normal" | "reduce" ) "=" nodes | ( "normal_concat" | "reduce_concat" ) "=" concat
//! nodes    = "[" { pick "," } "]" | "[" { "[" { pick "," } "]" "," } "]"
//! pick     = "(" STRING "," NUMBER ")"
//! concat   = "[" { NUMBER "," } "]" | "range" "(" NUMBER "," NUMBER ")"
//! ```
//! Syntax comes first and gives cells with places; then the cells are checked, so that a fault
//! such as a missing state is shown where it stands in the text.

use super::FLAT_PICKS;
use super::cursor::Cursor;
use crate::genotype::Place;
use crate::{CellGenotype, Error, Genotype, Pick};

const LIST: [char; 2] = ['[', ']'];
const CALL: [char; 2] = ['(', ')'];
const KEYWORDS: &str = "`normal`, `normal_concat`, `reduce` or `reduce_concat`";
const START: &str = "`Genotype(...)`, or json that begins with `{`";

/// A list and the place of its closing bracket.
type Closed<T> = (Vec<T>, usize);

/// A pick with the places of its primitive and its source.
#[derive(Clone)]
struct PlacedPick {
    pick: Pick,
    primitive_at: usize,
    source_at: usize,
}

/// Nodes with the place where each of them ends.
type Nodes = Closed<Closed<PlacedPick>>;

/// States with their places; a range is not written out before it is known to be small.
enum Concat {
    States(Closed<(usize, usize)>),
    Range { start: (usize, usize), end: (usize, usize) },
}

/// Reads either form.
pub(super) fn genotype(text: &str) -> Result<Genotype, Error> {
    let cursor = &mut Cursor::new(text);
    head(cursor)?;
    let (mut normal, mut normal_concat) = (None, None);
    let (mut reduce, mut reduce_concat) = (None, None);
    let (_, close) = cursor.items(CALL, |cursor| {
        let at = cursor.skip();
        match cursor.word() {
            "normal" => set(cursor, at, &mut normal, nodes),
            "normal_concat" => set(cursor, at, &mut normal_concat, concat),
            "reduce" => set(cursor, at, &mut reduce, nodes),
            "reduce_concat" => set(cursor, at, &mut reduce_concat, concat),
            _ => Err(cursor.unexpected_at(at, KEYWORDS)),
        }
    })?;
    if cursor.peek().is_some() {
        return Err(cursor.unexpected("nothing more"));
    }
    let missing = |keyword| cursor.error(close, format!("the keyword `{keyword}` is missing"));
    let normal = normal.ok_or_else(|| missing("normal"))?;
    let normal_concat = normal_concat.ok_or_else(|| missing("normal_concat"))?;
    let reduce = reduce.ok_or_else(|| missing("reduce"))?;
    let reduce_concat = reduce_concat.ok_or_else(|| missing("reduce_concat"))?;
    Ok(Genotype {
        normal: cell(cursor, &normal, &normal_concat)?,
        reduction: cell(cursor, &reduce, &reduce_concat)?,
    })
}

/// `Genotype`, or `NAME = Genotype`.
fn head(cursor: &mut Cursor<'_>) -> Result<(), Error> {
    let mut at = cursor.skip();
    let mut word = cursor.word();
    if !word.is_empty() && cursor.eat('=') {
        at = cursor.skip();
        word = cursor.word();
    }
    if word == "Genotype" { Ok(()) } else { Err(cursor.unexpected_at(at, START)) }
}

/// `"=" value`, for a keyword that has no value yet.
fn set<T>(
    cursor: &mut Cursor<'_>,
    keyword_at: usize,
    field: &mut Option<T>,
    value: impl FnOnce(&mut Cursor<'_>) -> Result<T, Error>,
) -> Result<(), Error> {
    if field.is_some() {
        return Err(cursor.error(keyword_at, "this keyword comes twice".into()));
    }
    cursor.expect('=')?;
    *field = Some(value(cursor)?);
    Ok(())
}

/// Nested where the list begins with a list, else flat.
fn nodes(cursor: &mut Cursor<'_>) -> Result<Nodes, Error> {
    let mut ahead = *cursor;
    ahead.expect(LIST[0])?;
    if ahead.peek() == Some(LIST[0]) {
        return cursor.items(LIST, |cursor| cursor.items(LIST, pick));
    }
    let (picks, close) = cursor.items(LIST, pick)?;
    if picks.len() % FLAT_PICKS != 0 {
        let reason = format!(
            "expected one more pick: the flat form has two for each node, found {}",
            picks.len()
        );
        return Err(cursor.error(close, reason));
    }
    let nodes = picks.chunks_exact(FLAT_PICKS).map(|picks| (picks.to_vec(), close));
    Ok((nodes.collect(), close))
}

fn pick(cursor: &mut Cursor<'_>) -> Result<PlacedPick, Error> {
    cursor.expect(CALL[0])?;
    let (name, primitive_at) = cursor.string()?;
    let primitive =
        name.parse().map_err(|error: Error| cursor.error(primitive_at, error.to_string()))?;
    cursor.expect(',')?;
    let (from, source_at) = cursor.number()?;
    cursor.eat(',');
    cursor.expect(CALL[1])?;
    Ok(PlacedPick { pick: Pick { primitive, from }, primitive_at, source_at })
}

fn concat(cursor: &mut Cursor<'_>) -> Result<Concat, Error> {
    if cursor.peek() == Some(LIST[0]) {
        return Ok(Concat::States(cursor.items(LIST, Cursor::number)?));
    }
    let at = cursor.skip();
    if cursor.word() != "range" {
        return Err(cursor.unexpected_at(at, "`range(...)` or a list of states"));
    }
    cursor.expect(CALL[0])?;
    let start = cursor.number()?;
    cursor.expect(',')?;
    let end = cursor.number()?;
    cursor.eat(',');
    cursor.expect(CALL[1])?;
    Ok(Concat::Range { start, end })
}

/// Checks a cell; a fault is reported where the text has it.
fn cell(cursor: &Cursor<'_>, nodes: &Nodes, concat: &Concat) -> Result<CellGenotype, Error> {
    let (nodes, nodes_close) = nodes;
    let (states, concat_close) = match concat {
        Concat::States((states, close)) => (states.clone(), *close),
        Concat::Range { start, end } => (written_out(*start, *end, nodes.len()), end.1),
    };
    let cell = CellGenotype {
        nodes: nodes.iter().map(|(picks, _)| picks.iter().map(|p| p.pick).collect()).collect(),
        concat: states.iter().map(|&(state, _)| state).collect(),
    };
    let Some(fault) = cell.fault() else {
        return Ok(cell);
    };
    let at = match fault.place {
        Place::Nodes => *nodes_close,
        Place::Node(node) => nodes[node].1,
        Place::PickPrimitive(node, pick) => nodes[node].0[pick].primitive_at,
        Place::PickSource(node, pick) => nodes[node].0[pick].source_at,
        Place::Concat => concat_close,
        Place::ConcatState(number) => states[number].1,
    };
    Err(cursor.error(at, fault.reason))
}

/// The states of a range, as far as needed to see that it goes beyond the last node.
///
/// The first state stands at the start of the range, the others belong to its end.
fn written_out(
    (start, start_at): (usize, usize),
    (end, end_at): (usize, usize),
    num_nodes: usize,
) -> Vec<(usize, usize)> {
    let states = (start..end).take(num_nodes + 1);
    states.map(|state| (state, if state == start { start_at } else { end_at })).collect()
}
