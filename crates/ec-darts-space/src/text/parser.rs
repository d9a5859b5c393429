//! The grammar of the Python forms.
//!
//! ```text
//! genotype = NAME "(" ( fields | dict | "[" { "(" KEY "," value ")" "," } "]" ) ")" | dict
//! NAME     = "Genotype" | "OrderedDict" | "dict"
//! fields   = { KEY "=" value "," }
//! dict     = "{" { KEY ":" value "," } "}"
//! KEY      = "normal" | "reduce" | "reduction", for nodes, or one of them and "_concat"
//! nodes    = "[" { pick "," } "]" | "[" { "[" { pick "," } "]" "," } "]"
//! pick     = "(" STRING "," [ NUMBER "," ] NUMBER ")" | "(" STRING "," NUMBER "," DECIMAL ")"
//! concat   = states | ( "list" | "tuple" ) "(" states ")"
//! states   = "[" { NUMBER "," } "]" | "range" "(" [ NUMBER "," ] NUMBER ")"
//! ```
//! The grammar treats lists and tuples alike; keys of dicts stand in quotes. The parser first reads
//! the syntax, which gives cells with places, and then checks the cells, so that a fault such as a
//! missing state is shown at its place in the text. A pick of two numbers names its node and its
//! source, and may only stand in a flat list; a decimal is a strength, which is skipped.

use super::cursor::Cursor;
use super::nodes::{Closed, Listing, PlacedPick};
use crate::genotype::CellPart;
use crate::topology::MAX_NODES;
use crate::{CellGenotype, Error, Genotype, NUM_INPUTS, Pick};

const LIST: [char; 2] = ['[', ']'];
const CALL: [char; 2] = ['(', ')'];
const DICT: [char; 2] = ['{', '}'];
const NAMES: [&str; 3] = ["Genotype", "OrderedDict", "dict"];
const KEYWORDS: &str = "`normal`, `normal_concat`, `reduce` or `reduce_concat`";
const START: &str = "`Genotype(...)`, or json that begins with `{`";

/// States with their places; the parser expands a range only after it knows that the range is
/// small.
enum Concat {
    States(Closed<(usize, usize)>),
    Range { start: (usize, usize), end: (usize, usize) },
}

/// The parts of a genotype that the text has given so far, with their places.
#[derive(Default)]
struct Fields {
    normal: Option<Listing>,
    normal_concat: Option<Concat>,
    reduce: Option<Listing>,
    reduce_concat: Option<Concat>,
}

/// Reads any of the forms, also with other text around it, as in a log.
pub(super) fn genotype(text: &str) -> Result<Genotype, Error> {
    let start = start(text, 0);
    let cursor = &mut Cursor::new(text, start.unwrap_or(0));
    if start.is_none() {
        // The error names the text that stands there instead.
        head(cursor)?;
    }
    let mut fields = Fields::default();
    let close = fields.read(cursor)?;
    // A genotype that stands alone was written by hand, and the text after it may be a mistake.
    if start.is_none_or(|start| is_first(text, start)) && !cursor.is_at_line_end() {
        return Err(cursor.unexpected("nothing more"));
    }
    if let Some(second) = self::start(text, cursor.skip()) {
        let reason = "a second genotype begins here, leave one of the two in the text";
        return Err(cursor.error(second, reason.into()));
    }
    fields.genotype(cursor, close)
}

/// The first place, from `from` on, where a genotype begins; comments are searched last.
fn start(text: &str, from: usize) -> Option<usize> {
    let places = || text[from..].match_indices(['{', 'G', 'O', 'd']).map(|(at, _)| from + at);
    let is_comment = |at: usize| {
        let line = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        text[line..at].contains('#')
    };
    let begins = |at: &usize| begins_here(text, *at);
    let open = places().filter(begins).find(|&at| !is_comment(at));
    open.or_else(|| if from == 0 { places().find(begins) } else { None })
}

fn begins_here(text: &str, at: usize) -> bool {
    let is_inside = text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    let name = NAMES.iter().find(|name| text[at..].starts_with(**name));
    let call = name.and_then(|name| text[at + name.len()..].trim_start().strip_prefix('('));
    let inner = match (name, call) {
        (Some(_), Some(_)) if is_inside => return false,
        (Some(&"Genotype"), Some(_)) => return true,
        (Some(_), Some(inner)) => inner,
        _ => match text[at..].strip_prefix('{') {
            Some(inner) => inner,
            None => return false,
        },
    };
    let opening = |c: char| c.is_whitespace() || "([{'\"".contains(c);
    let key = inner.trim_start_matches(opening);
    key.starts_with("normal") || key.starts_with("reduc")
}

/// Whether only comments and a `NAME =` stand before a place.
fn is_first(text: &str, place: usize) -> bool {
    let mut cursor = Cursor::new(text, 0);
    cursor.skip() == place
        || (!cursor.word().is_empty() && cursor.eat('=') && cursor.skip() == place)
}

/// `Genotype`, or `NAME = Genotype`.
fn head(cursor: &mut Cursor<'_>) -> Result<(), Error> {
    let mut at = cursor.skip();
    let mut word = cursor.word();
    if !word.is_empty() && cursor.eat('=') {
        at = cursor.skip();
        word = cursor.word();
    }
    if word == NAMES[0] { Ok(()) } else { Err(cursor.unexpected_at(at, START)) }
}

impl Fields {
    /// Reads all fields; returns the place where the last bracket closes.
    fn read(&mut self, cursor: &mut Cursor<'_>) -> Result<usize, Error> {
        if cursor.peek() == Some(DICT[0]) {
            return self.entries(cursor);
        }
        cursor.word();
        let mut inside = *cursor;
        inside.expect(CALL[0])?;
        match inside.peek() {
            Some(next) if next == DICT[0] => {
                self.entries(&mut inside)?;
            }
            Some(next) if next == LIST[0] => {
                inside.items(LIST, |cursor| {
                    cursor.expect(CALL[0])?;
                    self.entry(cursor, ',')?;
                    cursor.expect(CALL[1])
                })?;
            }
            _ => {
                let keyword = |cursor: &mut Cursor<'_>| {
                    let at = cursor.skip();
                    let word = cursor.word();
                    self.set(cursor, (word, at), '=')
                };
                return Ok(cursor.items(CALL, keyword)?.1);
            }
        }
        *cursor = inside;
        cursor.eat(',');
        cursor.expect(CALL[1])
    }

    /// Reads the entries of a dict.
    fn entries(&mut self, cursor: &mut Cursor<'_>) -> Result<usize, Error> {
        Ok(cursor.items(DICT, |cursor| self.entry(cursor, ':'))?.1)
    }

    /// Reads a key in quotes and its value.
    fn entry(&mut self, cursor: &mut Cursor<'_>, separator: char) -> Result<(), Error> {
        let key = cursor.string(KEYWORDS)?;
        self.set(cursor, key, separator)
    }

    /// Reads the value of a key that has no value yet.
    fn set(
        &mut self,
        cursor: &mut Cursor<'_>,
        (key, at): (&str, usize),
        separator: char,
    ) -> Result<(), Error> {
        match key {
            "normal" => set(cursor, (at, separator), &mut self.normal, nodes),
            "reduce" | "reduction" => set(cursor, (at, separator), &mut self.reduce, nodes),
            "normal_concat" => set(cursor, (at, separator), &mut self.normal_concat, concat),
            "reduce_concat" | "reduction_concat" => {
                set(cursor, (at, separator), &mut self.reduce_concat, concat)
            }
            _ => Err(cursor.unexpected_at(at, KEYWORDS)),
        }
    }

    /// Both cells, checked; `close` is the place that an error about a missing keyword shows.
    fn genotype(self, cursor: &Cursor<'_>, close: usize) -> Result<Genotype, Error> {
        let missing = |keyword| cursor.error(close, format!("the keyword `{keyword}` is missing"));
        let normal = self.normal.ok_or_else(|| missing("normal"))?;
        let normal_concat = self.normal_concat.ok_or_else(|| missing("normal_concat"))?;
        let reduce = self.reduce.ok_or_else(|| missing("reduce"))?;
        let reduce_concat = self.reduce_concat.ok_or_else(|| missing("reduce_concat"))?;
        Ok(Genotype {
            normal: cell(cursor, &normal, &normal_concat)?,
            reduction: Some(cell(cursor, &reduce, &reduce_concat)?),
        })
    }
}

/// Reads a separator and a value, for a keyword that has no value yet.
fn set<T>(
    cursor: &mut Cursor<'_>,
    (keyword_at, separator): (usize, char),
    field: &mut Option<T>,
    value: impl FnOnce(&mut Cursor<'_>) -> Result<T, Error>,
) -> Result<(), Error> {
    if field.is_some() {
        return Err(cursor.error(keyword_at, "this keyword comes twice".into()));
    }
    cursor.expect(separator)?;
    *field = Some(value(cursor)?);
    Ok(())
}

/// The brackets of the tuple or list that comes next; the brackets of a list where neither comes
/// next.
fn brackets(cursor: &mut Cursor<'_>) -> [char; 2] {
    if cursor.peek() == Some(CALL[0]) { CALL } else { LIST }
}

fn list<T>(
    cursor: &mut Cursor<'_>,
    item: impl FnMut(&mut Cursor<'_>) -> Result<T, Error>,
) -> Result<Closed<T>, Error> {
    let brackets = brackets(cursor);
    cursor.items(brackets, item)
}

/// The nodes: nested where the list begins with a list whose first item is not a name, else flat.
fn nodes(cursor: &mut Cursor<'_>) -> Result<Listing, Error> {
    let mut ahead = *cursor;
    let mut opens = || {
        let open = brackets(&mut ahead)[0];
        ahead.eat(open)
    };
    if opens() && opens() && matches!(ahead.peek(), Some('(' | ')' | '[' | ']')) {
        let node = |cursor: &mut Cursor<'_>| {
            let (picks, _) = list(cursor, pick)?;
            match picks.iter().find_map(|pick| pick.node) {
                None => Ok(picks),
                Some(_) => {
                    let reason = "a pick names its node, which is told by the list around it";
                    Err(cursor.error(picks[0].primitive_at, reason.into()))
                }
            }
        };
        return Ok(Listing::Nested(list(cursor, node)?));
    }
    Ok(Listing::Flat(list(cursor, pick)?))
}

fn pick(cursor: &mut Cursor<'_>) -> Result<PlacedPick, Error> {
    // JSON has no tuples.
    let [open, close] = if cursor.peek() == Some(LIST[0]) { LIST } else { CALL };
    cursor.expect(open)?;
    let (name, primitive_at) = cursor.string("the name of a primitive in quotes")?;
    let primitive =
        name.parse().map_err(|error: Error| cursor.error(primitive_at, error.to_string()))?;
    cursor.expect(',')?;
    let (mut from, mut source_at) = cursor.number()?;
    let mut node = None;
    if cursor.eat(',') && cursor.peek() != Some(close) && !cursor.decimal() {
        node = Some((from, source_at));
        (from, source_at) = cursor.number()?;
    }
    cursor.eat(',');
    cursor.expect(close)?;
    Ok(PlacedPick { pick: Pick { primitive, from }, node, primitive_at, source_at })
}

fn concat(cursor: &mut Cursor<'_>) -> Result<Concat, Error> {
    let mut ahead = *cursor;
    if !matches!(ahead.word(), "list" | "tuple") {
        return states(cursor);
    }
    *cursor = ahead;
    cursor.expect(CALL[0])?;
    let states = states(cursor)?;
    cursor.eat(',');
    cursor.expect(CALL[1])?;
    Ok(states)
}

fn states(cursor: &mut Cursor<'_>) -> Result<Concat, Error> {
    if matches!(cursor.peek(), Some('[' | '(')) {
        return Ok(Concat::States(list(cursor, |cursor| cursor.number())?));
    }
    let at = cursor.skip();
    if cursor.word() != "range" {
        return Err(cursor.unexpected_at(at, "`range(...)` or a list of states"));
    }
    cursor.expect(CALL[0])?;
    let mut start = cursor.number()?;
    let mut end = start;
    if cursor.eat(',') && cursor.peek() != Some(CALL[1]) {
        end = cursor.number()?;
        cursor.eat(',');
    } else {
        start.0 = 0;
    }
    cursor.expect(CALL[1])?;
    Ok(Concat::Range { start, end })
}

/// Checks a cell; a fault is reported at its place in the text.
fn cell(cursor: &Cursor<'_>, listing: &Listing, concat: &Concat) -> Result<CellGenotype, Error> {
    let joined: Vec<usize> = match concat {
        Concat::States((states, _)) => states.iter().map(|&(state, _)| state).collect(),
        Concat::Range { start, end } => (start.0..end.0).take(MAX_NODES + 1).collect(),
    };
    let nodes = listing.nodes(cursor, &joined)?;
    let (mut states, concat_close) = match concat {
        Concat::States((states, close)) => (states.clone(), *close),
        Concat::Range { start, end } => (written_out(*start, *end, nodes.len()), end.1),
    };
    if let Listing::Flat(_) = listing {
        let is_empty = |state: usize| {
            let node = state.checked_sub(NUM_INPUTS).and_then(|node| nodes.get(node));
            node.is_some_and(Vec::is_empty)
        };
        states.retain(|&(state, _)| !is_empty(state));
    }
    let cell = CellGenotype {
        nodes: nodes.iter().map(|picks| picks.iter().map(|p| p.pick).collect()).collect(),
        concat: states.iter().map(|&(state, _)| state).collect(),
    };
    let Some(fault) = cell.fault() else {
        return Ok(cell);
    };
    let at = match fault.place {
        CellPart::Nodes => listing.close(),
        CellPart::PickPrimitive(node, pick) => nodes[node][pick].primitive_at,
        CellPart::PickSource(node, pick) => nodes[node][pick].source_at,
        CellPart::Concat => concat_close,
        CellPart::ConcatState(number) => states[number].1,
    };
    Err(cursor.error(at, fault.reason))
}

/// The states of a range, up to the first state beyond the last node.
///
/// The first state has the place of the start of the range, the others have the place of its end.
fn written_out(
    (start, start_at): (usize, usize),
    (end, end_at): (usize, usize),
    num_nodes: usize,
) -> Vec<(usize, usize)> {
    let states = (start..end).take(num_nodes + 1);
    states.map(|state| (state, if state == start { start_at } else { end_at })).collect()
}
