//! The search space of EC-DARTS as plain values: its candidates, and the genotypes that a search
//! finds.
//!
//! A [`SearchSpace`] is a list of [`Primitive`]s and a [`CellTopology`]. A search ends in one
//! matrix of strengths per kind of cell; [`discretize()`] turns the two matrices into a
//! [`Genotype`], which reads and prints the text forms of the public DARTS code and draws itself.
//! Start at [`SearchSpace::darts`], or read a genotype with [`str::parse`]:
//!
//! ```
//! use ec_darts_space::{CellKind, Genotype, Preset, Primitive};
//!
//! let genotype: Genotype = Preset::find("darts_v2")?.genotype();
//! assert_eq!(genotype.to_flat()?.parse::<Genotype>()?, genotype);
//! assert_eq!(genotype.cell(CellKind::Normal).count(|p| p == Primitive::SkipConnect), 2);
//! # Ok::<(), ec_darts_space::Error>(())
//! ```
//!
//! Invariant: every genotype that a function of this crate returns is valid in the sense of
//! [`CellGenotype::validate`]. There are no tensors here, no files and no randomness.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod kind;
pub mod primitive;
pub mod space;
pub mod topology;

pub mod genotype;
pub mod text;

pub mod budget;
pub mod discretize;
pub mod presets;

pub mod schedule;
pub mod stop;

pub mod draw;

pub mod error;

pub use budget::{Compromise, Limit, Trade, discretize_within};
pub use discretize::{Discretization, ThresholdForm, discretize};
pub use error::Error;
pub use genotype::{CellGenotype, Genotype, Pick};
pub use kind::{CellKind, PerKind};
pub use presets::Preset;
pub use primitive::{Primitive, Recipe};
pub use schedule::Schedule;
pub use space::{Candidates, SearchSpace};
pub use stop::{Eigenvalue, History, Ranking, Stop, Verdict};
pub use topology::{CellTopology, Edge, NUM_INPUTS};

/// Compiles and runs the example in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
