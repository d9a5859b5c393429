//! Pictures of cells: SVG, and Graphviz text.
//!
//! [`svg()`] needs no other program. No label or node covers another one or a wire, whatever the
//! number of nodes: each node has its own column and its own band of heights, in a staircase.

mod dot;
mod family;
mod layout;
mod svg;

pub use dot::dot;
pub use svg::{svg, svg_cell};
