//! Pictures of cells: SVG, and Graphviz text.
//!
//! [`svg`] needs no other program. Its layout leaves no room for overlaps, whatever the number of
//! nodes: see `layout`.

mod dot;
mod family;
mod layout;
mod svg;

pub use dot::dot;
pub use svg::{svg, svg_cell};
