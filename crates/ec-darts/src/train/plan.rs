//! The phases of every epoch of a loop, and the place of a loop in them.

use std::fmt::Debug;

use serde::{Deserialize, Serialize};

/// A phase of the epochs of a loop.
#[derive(Clone, Debug)]
pub(super) struct PlannedPhase<P> {
    pub phase: P,
    /// Number of steps in every epoch that has the phase.
    pub steps: usize,
    /// The phase is in every `every`-th epoch, and in the last.
    pub every: usize,
}

/// The epochs and their phases.
#[derive(Clone, Debug)]
pub(super) struct LoopPlan<P> {
    pub epochs: usize,
    /// The phases in their order; the first one is in every epoch.
    pub phases: Vec<PlannedPhase<P>>,
}

/// A place in a plan: before a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LoopPlace<P> {
    /// The epoch, counted from 0.
    pub epoch: usize,
    pub phase: P,
    /// The step within the phase; the number of its steps where the phase is over.
    pub step: usize,
}

impl<P: Copy + PartialEq + Debug> LoopPlan<P> {
    /// The first step of an epoch.
    pub fn start_of(&self, epoch: usize) -> LoopPlace<P> {
        LoopPlace { epoch, phase: self.phases[0].phase, step: 0 }
    }

    /// Whether an epoch has a phase.
    pub fn has(&self, epoch: usize, planned: &PlannedPhase<P>) -> bool {
        let number = epoch.saturating_add(1);
        number.is_multiple_of(planned.every) || number == self.epochs
    }

    /// Number of steps of a phase in each epoch that has it.
    pub fn steps_of(&self, phase: P) -> usize {
        self.planned(phase).map_or(0, |planned| planned.steps)
    }

    /// Number of steps of the phase at a place.
    pub fn steps_at(&self, place: &LoopPlace<P>) -> usize {
        self.steps_of(place.phase)
    }

    /// The first step of the phase after that of a place, in the same epoch.
    pub fn next_phase(&self, place: &LoopPlace<P>) -> Option<LoopPlace<P>> {
        let behind = self.phases.iter().skip_while(|planned| planned.phase != place.phase).skip(1);
        let next = behind.into_iter().find(|planned| self.has(place.epoch, planned))?;
        Some(LoopPlace { phase: next.phase, step: 0, ..*place })
    }

    /// Number of steps before a place, in the phases for which `of` is true.
    pub fn steps_before(&self, place: &LoopPlace<P>, of: impl Fn(P) -> bool) -> u64 {
        let current = self.phases.iter().position(|planned| planned.phase == place.phase);
        let steps = |(index, planned): (usize, &PlannedPhase<P>)| {
            let is_over = place.epoch == self.epochs && !place.epoch.is_multiple_of(planned.every);
            let in_epochs_before = place.epoch / planned.every + usize::from(is_over);
            let in_this_epoch = match Some(index).cmp(&current) {
                _ if place.epoch == self.epochs => 0,
                std::cmp::Ordering::Less if self.has(place.epoch, planned) => planned.steps,
                std::cmp::Ordering::Equal => place.step,
                _ => 0,
            };
            in_epochs_before as u64 * planned.steps as u64 + in_this_epoch as u64
        };
        self.phases.iter().enumerate().filter(|(_, planned)| of(planned.phase)).map(steps).sum()
    }

    /// Number of steps of all epochs.
    pub fn num_steps(&self) -> u64 {
        self.steps_before(&self.start_of(self.epochs), |_| true)
    }

    /// The reason why a place does not exist in this plan, if so.
    pub fn fault(&self, place: &LoopPlace<P>) -> Option<String> {
        let LoopPlace { epoch, phase, step } = *place;
        let is_end = *place == self.start_of(self.epochs);
        let planned = self.planned(phase).filter(|planned| self.has(epoch, planned));
        match planned {
            _ if is_end => None,
            Some(planned) if epoch < self.epochs && step <= planned.steps => None,
            Some(planned) if epoch < self.epochs => {
                Some(format!("step {step} of the {} of phase {phase:?}", planned.steps))
            }
            _ => {
                let number = epoch.saturating_add(1);
                Some(format!("phase {phase:?} of epoch {number} of {}", self.epochs))
            }
        }
    }

    fn planned(&self, phase: P) -> Option<&PlannedPhase<P>> {
        self.phases.iter().find(|planned| planned.phase == phase)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two training steps in each of five epochs, three measuring steps in the second, fourth and last.
    fn plan() -> LoopPlan<char> {
        let phase = |phase, steps, every| PlannedPhase { phase, steps, every };
        LoopPlan { epochs: 5, phases: vec![phase('t', 2, 1), phase('m', 3, 2)] }
    }

    #[test]
    fn steps_are_those_that_a_walk_counts() {
        let plan = plan();
        let (mut place, mut counts) = (plan.start_of(0), [0, 0]);
        while place.epoch < plan.epochs {
            let counted = ['t', 'm'].map(|phase| plan.steps_before(&place, |of| of == phase));
            assert_eq!(counted, counts, "{place:?}");
            assert_eq!(plan.fault(&place), None);
            if place.step < plan.steps_at(&place) {
                counts[usize::from(place.phase == 'm')] += 1;
                place.step += 1;
                continue;
            }
            place = plan.next_phase(&place).unwrap_or_else(|| plan.start_of(place.epoch + 1));
        }
        assert_eq!((counts, plan.num_steps()), ([10, 9], 19));
        assert_eq!(plan.fault(&place), None);
    }

    #[test]
    fn places_of_no_plan() {
        let check = |epoch, phase, step, expected: &str| {
            let fault = plan().fault(&LoopPlace { epoch, phase, step });
            assert_eq!(fault.as_deref(), Some(expected));
        };
        check(0, 't', 3, "step 3 of the 2 of phase 't'");
        check(0, 'm', 0, "phase 'm' of epoch 1 of 5");
        check(1, 'x', 0, "phase 'x' of epoch 2 of 5");
        check(5, 't', 1, "phase 't' of epoch 6 of 5");
        check(usize::MAX - 1, 't', 0, &format!("phase 't' of epoch {} of 5", usize::MAX));
    }
}
