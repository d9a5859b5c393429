//! A report as sections of text, tables and pictures, before it is a page, Markdown or CSV.

use std::path::PathBuf;

use ec_darts_study::analysis::Verdict;
use ec_darts_study::statistics::compare::PValue;
use ec_darts_study::statistics::{Interval, Told};
use maud::Markup;

pub struct Section {
    pub id: &'static str,
    pub title: &'static str,
    pub blocks: Vec<Block>,
}

pub enum Block {
    Text(String),
    List(Vec<String>),
    Table(Table),
    /// A table that is folded on the page.
    Folded(Table),
    Pictures(Vec<Picture>),
}

pub struct Table {
    /// The name in `figures.csv`, and the heading of a folded table.
    pub name: &'static str,
    pub head: Vec<&'static str>,
    /// The rows; the first cell of each is its name.
    pub rows: Vec<Vec<Cell>>,
}

pub struct Picture {
    /// The name of its file.
    pub name: String,
    pub title: String,
    /// The text below the title.
    pub caption: String,
    /// Whether it takes the whole width of the page.
    pub is_wide: bool,
    pub svg: Markup,
}

#[derive(Clone)]
pub enum Cell {
    Text(String),
    Number {
        value: f64,
        digits: usize,
    },
    /// A p-value by this number of random permutations.
    Drawn {
        value: f64,
        draws: u32,
    },
    Range {
        interval: Interval,
        digits: usize,
    },
    /// The reason why there is no figure.
    Untold(String),
    Verdict(Verdict),
    /// Texts, each with a link to a run folder.
    Folders(Vec<(String, PathBuf)>),
}

impl Cell {
    pub fn text(text: impl ToString) -> Self {
        Self::Text(text.to_string())
    }

    pub fn number(told: &Told<f64>, digits: usize) -> Self {
        match told {
            Ok(value) => Self::Number { value: *value, digits },
            Err(error) => Self::Untold(error.to_string()),
        }
    }

    pub fn range(told: &Told<Interval>, digits: usize) -> Self {
        match told {
            Ok(interval) => Self::Range { interval: *interval, digits },
            Err(error) => Self::Untold(error.to_string()),
        }
    }

    pub fn chance(told: &Told<PValue>) -> Self {
        match told {
            Err(error) => Self::Untold(error.to_string()),
            Ok(PValue { value, draws: None }) => Self::Number { value: *value, digits: 4 },
            Ok(PValue { value, draws: Some(draws) }) => {
                Self::Drawn { value: *value, draws: *draws }
            }
        }
    }

    /// The text that a reader sees.
    pub fn shown(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number { value, digits } => number(*value, *digits),
            Self::Drawn { value, draws } => {
                format!("{} ({draws} random permutations)", number(*value, 4))
            }
            Self::Range { interval, digits } => {
                let Interval { low, high } = *interval;
                format!("{} to {}", number(low, *digits), number(high, *digits))
            }
            Self::Untold(reason) => format!("cannot be told: {reason}"),
            Self::Verdict(verdict) => verdict.name().into(),
            Self::Folders(all) => {
                let texts: Vec<&str> = all.iter().map(|(text, _)| &text[..]).collect();
                texts.join(", ")
            }
        }
    }
}

/// A number with a minus as wide as a plus, and without negative zero.
pub fn number(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let is_zero = text.trim_start_matches('-').chars().all(|c| c == '0' || c == '.');
    if is_zero { text.trim_start_matches('-').into() } else { text.replace('-', "\u{2212}") }
}
