//! The search (alpha step, weight step, transition), the retraining of its genotype, and their
//! state for a resumption.
//!
//! Entry points: [`Search`] and [`Retraining`] for the loops alone, [`run::search`] and
//! [`run::retrain`] for loops in a run folder. Invariant: a loop reads and writes no file and
//! prints no text; `save` returns all that its future depends on.

mod alpha;
mod checkpoint;
mod course;
mod event;
mod feed;
pub mod folder;
mod in_memory;
mod job;
mod ledger;
mod mean;
mod plan;
mod results;
mod retrain;
pub mod run;
mod score;
mod search;
mod session;

pub use alpha::SavedAlpha;
pub use event::{
    AlphaValues, CellReport, Done, EpochReport, Event, Phase, StepReport, TransitionReport,
};
pub use folder::{Resume, RunFolder};
pub use retrain::{
    Measured, MeasuredOn, RetrainEpochReport, RetrainEvent, RetrainPhase, RetrainStepReport,
    Retraining,
};
pub use run::{Outcome, RunOptions};
pub use search::{Best, Search};
