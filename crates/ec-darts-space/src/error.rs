//! The one error type of this crate.

#[cfg(doc)]
use crate::CellGenotype;
use crate::{CellKind, Primitive};

/// Faults of a space, a genotype, its text, or a matrix of strengths.
///
/// Messages are lower case, without a full stop; the cause is in `source()`, not in the text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name that is not in a fixed list.
    #[error("unknown {what} `{name}`, expected one of {allowed}")]
    UnknownName {
        /// The kind of name that was expected: `primitive`, `preset`.
        what: &'static str,
        /// The name found.
        name: String,
        /// All allowed names, separated by commas.
        allowed: String,
    },

    /// A cell without nodes, with nodes that keep no edge, or with too many nodes.
    #[error(
        "a cell with {num_nodes} nodes and {edges_kept} edges kept is not possible, \
         allowed: 1 to {max_nodes} nodes, at least 1 edge kept"
    )]
    Topology {
        /// The number of intermediate nodes asked for.
        num_nodes: usize,
        /// The number of kept edges per node asked for.
        edges_kept: usize,
        /// The largest number of nodes.
        max_nodes: usize,
    },

    /// A search space lists a primitive twice.
    #[error("primitive `{0}` is listed twice in the search space")]
    DuplicatePrimitive(Primitive),

    /// A search space without any candidate to choose.
    #[error("a search space needs a primitive other than `none`")]
    NoCandidates,

    /// Values that do not describe a valid cell, see [`CellGenotype::validate`].
    #[error("{place}: {reason}")]
    Cell {
        /// Where in the cell, such as `node 1, pick 0`.
        place: String,
        /// The fault, with the values found and allowed.
        reason: String,
    },

    /// Text that is not a genotype; the message shows the line with a caret below the place.
    #[error("line {line}, column {column}: {reason}\n{excerpt}")]
    Syntax {
        /// The number of the line, counted from 1.
        line: usize,
        /// The column in characters, counted from 1.
        column: usize,
        /// The expected text and the text found.
        reason: String,
        /// The line, or a part of it around the place, and a caret below.
        excerpt: String,
    },

    /// Text that starts like JSON and is not a genotype; the cause has line and column.
    #[error("not a genotype in json")]
    Json(#[source] serde_json::Error),

    /// A genotype that a text form cannot express. JSON can, and so can the nested form where there
    /// are two cells.
    #[error(
        "the {form} form cannot express the {kind} cell: {reason} (json can express any genotype)"
    )]
    Form {
        /// The name of the form.
        form: &'static str,
        /// The cell.
        kind: CellKind,
        /// The property of the cell that the form cannot express, and the expected one.
        reason: String,
    },

    /// Candidates that are not in a search space, or too few of them.
    #[error("edge {edge} of the {kind} cell: {reason}")]
    Candidates {
        /// The cell.
        kind: CellKind,
        /// The number of the edge, counted from 0.
        edge: usize,
        /// The fault, with the allowed values.
        reason: String,
    },

    /// A cell of which a rule keeps no pick, so that no network can be built.
    #[error("the {kind} cell keeps nothing: {reason}")]
    NothingKept {
        /// The cell.
        kind: CellKind,
        /// The condition that no edge meets.
        reason: String,
    },

    /// Skip connections that a rule cannot remove.
    #[error(
        "the normal cell has {found} skip connections on edges without another candidate, \
         allowed: {at_most}"
    )]
    ManySkips {
        /// The number of skip connections that remain.
        found: usize,
        /// The number of skip connections that the rule allows.
        at_most: usize,
    },

    /// A matrix of strengths of the wrong size.
    #[error(
        "{found} strengths, expected {num_edges} edges times {num_primitives} primitives, \
         which is {}", num_edges * num_primitives
    )]
    StrengthLength {
        /// The number of values found.
        found: usize,
        /// Rows of the matrix.
        num_edges: usize,
        /// Columns of the matrix.
        num_primitives: usize,
    },

    /// A strength that is infinite or NaN.
    #[error("the strength of `{primitive}` on edge {edge} is {value}, not a finite number")]
    StrengthNotFinite {
        /// The row of the matrix, counted from 0.
        edge: usize,
        /// The primitive of the column.
        primitive: Primitive,
        /// The value found.
        value: f32,
    },

    /// No genotype keeps the limits, see [`discretize_within`](crate::discretize_within).
    #[error("no genotype keeps the budget: {limits}")]
    Budget {
        /// Every limit with the smallest possible cost.
        limits: String,
    },
}
