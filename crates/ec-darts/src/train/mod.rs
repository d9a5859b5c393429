//! The search: alpha step, weight step, transition, and what must survive an interruption.
//!
//! Entry points: [`Search`] for the loop alone, [`run`](run::run) for a search in a run folder.
//! Invariant: [`Search`] reads and writes no file and prints nothing; all that its future depends
//! on is in [`Search::save`].

mod checkpoint;
mod event;
mod feed;
pub mod folder;
pub mod run;
mod search;
mod state;

pub use checkpoint::SavedAlpha;
pub use event::{CellReport, EpochReport, Event, Phase, StepReport, TransitionReport};
pub use folder::RunFolder;
pub use run::{Outcome, RunOptions};
pub use search::Search;
pub use state::Best;
