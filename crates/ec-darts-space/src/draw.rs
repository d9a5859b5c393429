//! Pictures of cells: SVG, and Graphviz text.
//!
//! [`svg()`] needs no other program. Whatever the number of nodes, no label or node covers another
//! one or a wire: each node has a column and a band of heights of its own, in a staircase.

mod dot;
mod family;
mod layout;
mod svg;

pub use dot::dot;
pub use svg::{svg, svg_cell};
