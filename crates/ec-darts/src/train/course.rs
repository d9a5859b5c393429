//! Common parts of a search and a retraining: a loop advances step by step, can be saved between
//! any two steps, and loses no figure of a step.

use std::collections::VecDeque;
use std::num::NonZeroUsize;

use burn::tensor::{Device, Tensor};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::debug_span;

use super::ledger::Ledger;
use super::plan::{LoopPlace, LoopPlan};
use crate::{Error, Result};

/// The sums of a loop since its epoch began, and its memory of earlier epochs.
pub(super) trait Progress: Clone + Serialize + DeserializeOwned {
    /// The type of parts of an epoch.
    type Phase: Copy
        + PartialEq
        + std::fmt::Debug
        + Into<&'static str>
        + Serialize
        + DeserializeOwned;
    /// A step that was queued on the device, and the meaning of its figures.
    type Step;
    /// The report of an epoch.
    type Report: Clone + Serialize + DeserializeOwned;
    /// An event for the listeners.
    type Event: From<Self::Report>;

    /// Adds the figures of a step.
    ///
    /// # Errors
    /// [`crate::Error::NonFinite`] where a figure of the step is not finite.
    fn settle(&mut self, step: &Self::Step, figures: &[f32]) -> Result<Self::Event>;

    /// The state at the beginning of the next epoch.
    fn next_epoch(self) -> Self;
}

/// The next action of a loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next<P> {
    Step(P),
    EndOfEpoch,
    Nothing,
}

/// The place of a loop in its plan, its sums and reports, the figures still to be read, and the
/// events still to be told.
///
/// A loop owns one and acts as [`Self::next`] says:
///
/// ```text
/// settle_if_due
/// next = Step(phase):  queue the step on the device, then `took` with its figures
/// next = EndOfEpoch:   `close_epoch` with the report
/// next = Nothing:      all epochs are over
/// ```
pub(super) struct Course<G: Progress> {
    plan: LoopPlan<G::Phase>,
    place: LoopPlace<G::Phase>,
    pub progress: G,
    history: Vec<G::Report>,
    ledger: Ledger<G::Step>,
    told: VecDeque<G::Event>,
}

impl<G: Progress> Course<G> {
    /// The course at its first step.
    pub fn new(plan: LoopPlan<G::Phase>, progress: G, device: &Device) -> Self {
        Self {
            place: plan.start_of(0),
            plan,
            progress,
            history: Vec::new(),
            ledger: Ledger::new(device),
            told: VecDeque::new(),
        }
    }

    pub fn plan(&self) -> &LoopPlan<G::Phase> {
        &self.plan
    }

    pub fn place(&self) -> &LoopPlace<G::Phase> {
        &self.place
    }

    /// The current epoch, counted from 0.
    pub fn epoch(&self) -> usize {
        self.place.epoch
    }

    /// Reports of the finished epochs.
    pub fn history(&self) -> &[G::Report] {
        &self.history
    }

    /// Number of finished steps, including those not told yet, and number of steps of all epochs.
    pub fn position(&self) -> (u64, u64) {
        (self.plan.steps_before(&self.place, |_| true), self.plan.num_steps())
    }

    /// Whether an epoch was closed and no step was taken since.
    pub fn has_closed_epoch(&self) -> bool {
        self.place.epoch > 0 && self.place == self.plan.start_of(self.place.epoch)
    }

    /// Epoch and phase of the next step, if there is one.
    pub fn upcoming(&self) -> Option<(usize, G::Phase)> {
        let LoopPlace { epoch, phase, .. } = self.place;
        if !self.is_phase_over() {
            return (epoch < self.plan.epochs).then_some((epoch, phase));
        }
        self.plan.next_phase(&self.place).map(|place| (epoch, place.phase))
    }

    /// Whether all steps of the phase are done.
    pub fn is_phase_over(&self) -> bool {
        self.place.step == self.plan.steps_at(&self.place)
    }

    /// Whether the next step is the last of its phase.
    pub fn is_last_step(&self) -> bool {
        self.place.step + 1 == self.plan.steps_at(&self.place)
    }

    /// The next action; moves on to the next phase where a phase is over.
    pub fn next(&mut self) -> Next<G::Phase> {
        if self.place.epoch == self.plan.epochs {
            return Next::Nothing;
        }
        while self.is_phase_over() {
            match self.plan.next_phase(&self.place) {
                Some(place) => self.place = place,
                None => return Next::EndOfEpoch,
            }
        }
        Next::Step(self.place.phase)
    }

    /// Counts a step and stores its figures. They are read when it is time to, and always after the
    /// last step of a phase.
    pub fn took(&mut self, step: G::Step, figures: Vec<Tensor<1>>) -> Result<()> {
        self.ledger.push(step, figures);
        self.place.step += 1;
        if self.is_phase_over() { self.settle() } else { self.settle_if_due() }
    }

    /// Reads the figures of all steps so far, adds them up and creates the events.
    pub fn settle(&mut self) -> Result<()> {
        let _span = debug_span!("read figures").entered();
        let (progress, told) = (&mut self.progress, &mut self.told);
        self.ledger.settle(|step, figures| {
            told.push_back(progress.settle(step, figures)?);
            Ok(())
        })
    }

    /// Calls [`Self::settle`] where it is time to.
    pub fn settle_if_due(&mut self) -> Result<()> {
        if self.ledger.is_due() { self.settle() } else { Ok(()) }
    }

    pub fn set_read_every(&mut self, steps: NonZeroUsize) {
        self.ledger.set_read_every(steps);
    }

    pub fn tell(&mut self, event: G::Event) {
        self.told.push_back(event);
    }

    /// Stores the report of the epoch, creates its event, and moves on to the next epoch.
    pub fn close_epoch(&mut self, report: G::Report) {
        self.history.push(report.clone());
        self.tell(report.into());
        self.progress = self.progress.clone().next_epoch();
        self.place = self.plan.start_of(self.place.epoch + 1);
    }

    /// Ends the loop after a finished epoch before the last of the plan.
    pub fn end_with(&mut self, epoch: usize) {
        self.plan.epochs = epoch + 1;
    }

    /// The error that a figure is not finite at this place.
    pub fn non_finite(&self, what: &str, learning_rate: f64) -> Error {
        let LoopPlace { epoch, phase, step } = self.place;
        Error::NonFinite { what: what.into(), epoch, phase: phase.into(), step, learning_rate }
    }

    pub fn next_event(&mut self) -> Option<G::Event> {
        self.told.pop_front()
    }

    pub fn take_events(&mut self) -> Vec<G::Event> {
        self.told.drain(..).collect()
    }

    /// Continues at another place of the same plan.
    ///
    /// # Errors
    /// The place does not exist in the plan, or an epoch before it has no report.
    pub fn go_on(
        &mut self,
        place: LoopPlace<G::Phase>,
        progress: G,
        history: Vec<G::Report>,
    ) -> Result<(), String> {
        if let Some(fault) = self.plan.fault(&place) {
            return Err(format!("it stands at {fault}"));
        }
        if history.len() != place.epoch {
            let (reports, epochs) = (history.len(), place.epoch);
            return Err(format!("it holds {reports} reports of {epochs} epochs"));
        }
        (self.place, self.progress, self.history) = (place, progress, history);
        Ok(())
    }
}
