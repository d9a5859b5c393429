//! Figures of steps that stay on the device until they are read together.

use std::num::NonZeroUsize;

use burn::tensor::{Device, Tensor};

use crate::Result;
use crate::device::is_cpu;
use crate::tensors::to_vec;

/// Number of steps between two reads of a device that computes while the host continues.
const READ_EVERY: usize = 20;

/// The steps whose figures were not read yet, each with the values needed to interpret them.
///
/// A read makes the host wait for all queued work of the device, so a step only stores its figures
/// here. [`Self::settle`] reads all of them at once and passes them on in the order of the steps,
/// so that sums do not depend on how often it is called.
pub(super) struct Ledger<S> {
    read_every: usize,
    waiting: Vec<(S, Vec<Tensor<1>>)>,
    failed: bool,
}

impl<S> Ledger<S> {
    /// A ledger for a device. The CPU is read after every step, because a delay gains nothing
    /// there.
    pub fn new(device: &Device) -> Self {
        let read_every = if is_cpu(device) { 1 } else { READ_EVERY };
        Self { read_every, waiting: Vec::new(), failed: false }
    }

    pub fn set_read_every(&mut self, steps: NonZeroUsize) {
        self.read_every = steps.get();
    }

    /// Stores the figures of a step, one tensor of one element each.
    pub fn push(&mut self, step: S, figures: Vec<Tensor<1>>) {
        self.waiting.push((step, figures));
    }

    /// Whether it is time to settle.
    pub fn is_due(&self) -> bool {
        self.failed || self.waiting.len() >= self.read_every
    }

    /// Passes on every step with its figures, after one read of the device.
    ///
    /// # Errors
    /// The first error of `take`. The step that caused it and the later ones stay, so that the next
    /// call fails in the same way, and no state that depends on them can be saved.
    pub fn settle(&mut self, mut take: impl FnMut(&S, &[f32]) -> Result<()>) -> Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let all = self.waiting.iter().flat_map(|(_, figures)| figures.iter().cloned());
        let all: Vec<Tensor<1>> = all.collect();
        // A step that moves no parameter, as while alpha is frozen, has no figures.
        let values = if all.is_empty() { Vec::new() } else { to_vec(Tensor::cat(all, 0)) };
        let (mut start, mut settled) = (0, 0);
        let outcome = self.waiting.iter().try_for_each(|(step, figures)| {
            let end = start + figures.len();
            take(step, &values[start..end])?;
            (start, settled) = (end, settled + 1);
            Ok(())
        });
        self.waiting.drain(..settled);
        self.failed = outcome.is_err();
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    fn one(value: f32) -> Tensor<1> {
        Tensor::from_floats([value], &Device::flex())
    }

    fn fail(step: usize) -> Error {
        Error::NonFinite { what: "it".into(), epoch: 0, phase: "", step, learning_rate: 0.0 }
    }

    #[test]
    fn steps_are_settled_in_their_order() {
        let mut ledger = Ledger::new(&Device::flex());
        ledger.set_read_every(NonZeroUsize::new(2).expect("two"));
        ledger.push("a", vec![one(1.0), one(2.0)]);
        assert!(!ledger.is_due());
        ledger.push("b", vec![one(3.0)]);
        assert!(ledger.is_due());
        let mut found = Vec::new();
        let take = |step: &&'static str, figures: &[f32]| {
            found.push((*step, figures.to_vec()));
            Ok(())
        };
        ledger.settle(take).expect("all are taken");
        assert_eq!(found, [("a", vec![1.0, 2.0]), ("b", vec![3.0])]);
        assert!(!ledger.is_due());
    }

    #[test]
    fn a_step_that_fails_is_not_forgotten() {
        let mut ledger = Ledger::new(&Device::flex());
        ledger.set_read_every(NonZeroUsize::new(5).expect("five"));
        for step in 0..4 {
            ledger.push(step, vec![one(if step == 2 { f32::NAN } else { 1.0 })]);
        }
        let mut taken = Vec::new();
        for _ in 0..2 {
            let outcome = ledger.settle(|&step, figures| {
                if figures[0].is_nan() {
                    return Err(fail(step));
                }
                taken.push(step);
                Ok(())
            });
            assert!(matches!(outcome, Err(Error::NonFinite { step: 2, .. })), "{outcome:?}");
            assert!(ledger.is_due());
        }
        assert_eq!(taken, [0, 1]);
    }
}
