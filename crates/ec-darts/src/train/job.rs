//! The parts of a loop that a run folder needs.

use super::course::{Course, Progress};
use super::event::Done;
use super::folder::{Renewed, RunFolder};
use crate::Result;
use crate::config::Settings;

/// The trained network in the folder of a retraining.
pub const MODEL: &str = "model.safetensors";

/// A search or retraining in a run folder. Only [`Self::record`] and [`Self::finish`] do I/O.
pub(super) trait Job: Sized {
    type Config: Settings;
    type Progress: Progress;
    type Output;

    fn config(&self) -> &Self::Config;
    fn course(&mut self) -> &mut Course<Self::Progress>;
    fn work(&mut self) -> Result<Done>;
    /// The bytes of a checkpoint, after the figures of all steps are read.
    fn save(&mut self) -> Result<Vec<u8>>;
    /// Writes the files of an event to the folder.
    fn record(&self, event: &EventOf<Self>, folder: &mut RunFolder) -> Result<()>;
    /// Writes missing files of earlier epochs to the folder; those of the first `certain` epochs
    /// must already exist.
    fn renew(&self, folder: &RunFolder, certain: usize) -> Result<Option<Renewed>>;
    /// Writes the files of the finished work to the folder.
    fn finish(&self, folder: &mut RunFolder) -> Result<Self::Output>;

    /// Works until there is an event, or until all work is finished.
    fn advance(&mut self) -> Result<Option<EventOf<Self>>> {
        loop {
            if let Some(event) = self.course().next_event() {
                return Ok(Some(event));
            }
            let done = self.work();
            // Events of the steps before the failed one come first; the error comes again.
            match self.course().next_event() {
                Some(event) => return Ok(Some(event)),
                None if done? == Done::Everything => return Ok(None),
                None => {}
            }
        }
    }
}

pub(super) type EventOf<J> = <<J as Job>::Progress as Progress>::Event;
