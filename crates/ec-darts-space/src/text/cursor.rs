//! The position of the parser in a text, and errors that show the place.

use crate::Error;

/// The width at which an excerpt is cut around the place of an error: a caret below a wrapped line
/// points nowhere.
const EXCERPT_CHARS: usize = 90;

/// A position in a text, with a method for each token of the Python forms.
///
/// Every reading method first skips blanks and comments, so that [`Self::at`] after [`Self::skip`]
/// is the start of the next token.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// A cursor at a place in bytes.
    pub(super) fn new(text: &'a str, at: usize) -> Self {
        Self { text, at }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Skips blanks, line breaks and comments; returns the place of the next token, in bytes.
    pub(super) fn skip(&mut self) -> usize {
        loop {
            self.at = self.text.len() - self.rest().trim_start().len();
            if !self.rest().starts_with('#') {
                return self.at;
            }
            self.at += self.rest().find('\n').unwrap_or(self.rest().len());
        }
    }

    /// The next character, if any.
    pub(super) fn peek(&mut self) -> Option<char> {
        self.skip();
        self.rest().chars().next()
    }

    /// Whether the rest of this line is only blanks and a comment.
    pub(super) fn is_at_line_end(&self) -> bool {
        let line = self.rest().lines().next().unwrap_or_default().trim_start();
        line.is_empty() || line.starts_with('#')
    }

    /// Steps over a character if it comes next; returns whether it did.
    pub(super) fn eat(&mut self, expected: char) -> bool {
        let comes = self.peek() == Some(expected);
        if comes {
            self.at += expected.len_utf8();
        }
        comes
    }

    /// Steps over a character that must come next; returns its place.
    pub(super) fn expect(&mut self, expected: char) -> Result<usize, Error> {
        let at = self.skip();
        if self.eat(expected) { Ok(at) } else { Err(self.unexpected(&format!("`{expected}`"))) }
    }

    /// A run of letters, digits and underscores; empty if none comes next.
    pub(super) fn word(&mut self) -> &'a str {
        self.skip();
        let word = leading_word(self.rest());
        self.at += word.len();
        word
    }

    /// A number and its place. A type may stand around it, as NumPy prints it (`np.int64(1)`).
    pub(super) fn number(&mut self) -> Result<(usize, usize), Error> {
        let at = self.skip();
        let mut ahead = *self;
        while !ahead.word().is_empty() && ahead.eat('.') {}
        let is_typed = ahead.eat('(');
        if !is_typed {
            ahead = *self;
        }
        match ahead.word().parse() {
            Ok(number) if !is_typed || ahead.eat(')') => {
                *self = ahead;
                Ok((number, at))
            }
            _ => Err(self.unexpected("the number of a state")),
        }
    }

    /// Steps over a decimal number if one comes next, with or without a type around it, as NumPy prints
    /// it (`np.float32(0.25)`).
    pub(super) fn decimal(&mut self) -> bool {
        let mut ahead = *self;
        while !ahead.word().is_empty() && ahead.eat('.') {}
        let is_typed = ahead.eat('(');
        if !is_typed {
            ahead = *self;
        }
        ahead.skip();
        let is_part = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        let rest = ahead.rest();
        let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let is_decimal =
            rest[..length].parse::<u64>().is_err() && rest[..length].parse::<f64>().is_ok();
        ahead.at += length;
        let is_closed = !is_typed || ahead.eat(')');
        if is_decimal && is_closed {
            *self = ahead;
        }
        is_decimal && is_closed
    }

    /// The text between quotes, and its place.
    pub(super) fn string(&mut self, expected: &str) -> Result<(&'a str, usize), Error> {
        let quote = match self.peek() {
            Some(quote @ ('\'' | '"')) => quote,
            _ => return Err(self.unexpected(expected)),
        };
        let at = self.at + 1;
        let content = &self.text[at..];
        match content.find([quote, '\n']) {
            Some(length) if content[length..].starts_with(quote) => {
                self.at = at + length + 1;
                Ok((&content[..length], at))
            }
            _ => Err(self.error(self.at, "this quote is not closed on its line".into())),
        }
    }

    /// Items between brackets, separated by commas, with or without a comma after the last item.
    /// Returns them and the place of the closing bracket.
    pub(super) fn items<T>(
        &mut self,
        [open, close]: [char; 2],
        mut item: impl FnMut(&mut Self) -> Result<T, Error>,
    ) -> Result<(Vec<T>, usize), Error> {
        self.expect(open)?;
        let mut items = Vec::new();
        loop {
            let at = self.skip();
            if self.eat(close) {
                return Ok((items, at));
            }
            items.push(item(self)?);
            if !self.eat(',') && self.peek() != Some(close) {
                return Err(self.unexpected(&format!("`,` or `{close}`")));
            }
        }
    }

    /// The error that the text at the cursor is not the expected one.
    pub(super) fn unexpected(&mut self, expected: &str) -> Error {
        let at = self.skip();
        self.unexpected_at(at, expected)
    }

    /// The error that the text at a place in bytes is not the expected one.
    pub(super) fn unexpected_at(&self, at: usize, expected: &str) -> Error {
        let rest = &self.text[at..];
        let found = match (leading_word(rest), rest.chars().next()) {
            (_, None) => "the end of the text".to_owned(),
            ("", Some(character)) => format!("`{}`", character.escape_debug()),
            (word, _) => format!("`{}`", word.chars().take(EXCERPT_CHARS / 3).collect::<String>()),
        };
        self.error(at, format!("expected {expected}, found {found}"))
    }

    /// An error at a place in bytes.
    pub(super) fn error(&self, at: usize, reason: String) -> Error {
        let before = &self.text[..at];
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = self.text[start..].lines().next().unwrap_or_default();
        let column = self.text[start..at].chars().count();
        Error::Syntax {
            line: before.matches('\n').count() + 1,
            column: column + 1,
            reason,
            excerpt: excerpt(line, column),
        }
    }
}

fn leading_word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// A line, or a part of it around a column, and a caret below; columns count from 0.
fn excerpt(line: &str, column: usize) -> String {
    let characters: Vec<char> = line.chars().collect();
    let start = if characters.len() > EXCERPT_CHARS {
        let last = characters.len() - EXCERPT_CHARS;
        column.saturating_sub(EXCERPT_CHARS / 2).min(last)
    } else {
        0
    };
    let end = characters.len().min(start + EXCERPT_CHARS);
    let cut = |is_cut| if is_cut { "..." } else { "" };
    let shown: String = characters[start..end].iter().collect();
    // A tab stays a tab, so that the caret lands under its character.
    let below = characters[start..column.min(end)].iter();
    let indent: String = below.map(|&c| if c == '\t' { '\t' } else { ' ' }).collect();
    let (left, right) = (cut(start > 0), cut(end < characters.len()));
    format!("  | {left}{shown}{right}\n  | {:left_len$}{indent}^", "", left_len = left.len())
}
