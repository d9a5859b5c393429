//! Studies of architecture search: variants by seeds, searched and retrained, and what their accuracies say.
//!
//! Invariant: the trials of a study follow from its file and from what its searches found, and every trial is an
//! ordinary run folder; so any process at any time can go on with a study.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod results;
pub mod statistics;

pub use results::{
    Candidate, Cost, EpochScores, Kind, Place, Results, SearchResult, TrainingResult, Unfinished,
};
