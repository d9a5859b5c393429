//! Studies of architecture search: variants by seeds, searched and retrained, and the analysis of
//! their accuracies.
//!
//! Entry points: [`Study::open`] reads a file, [`Plan::of`] has its trials, [`run()`] works on
//! them, [`Results::read`] returns their results. Invariant: the trials of a study follow from its
//! file and from the results of its searches, and every trial is an ordinary run folder, so that
//! any process can continue a study at any time.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod builtin;
mod source;
pub mod study;

pub mod genotypes;
pub mod trial;

pub mod folder;
pub mod plan;
pub mod run;
pub mod slurm;

mod collect;
#[cfg(test)]
mod fake;
pub mod results;
pub mod statistics;

pub mod analysis;

pub use plan::Plan;
pub use results::{
    Candidate, Cost, EpochScores, Kind, Place, Results, SearchResult, TrainingResult, Unfinished,
};
pub use run::{Choice, Ending, Told, Worked, Worker, run};
pub use study::{Origin, Protocol, Study, Variant};
pub use trial::{State, Trial, Work};
