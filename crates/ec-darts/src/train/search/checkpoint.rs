//! Saving a search as bytes, and restoring it.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;

use super::{Auxiliary, Search};
use crate::Result;
use crate::config::{SearchConfig, StagePlace};
use crate::data::ImageDataset;
use crate::optim::WeightOptimizer;
use crate::snapshot::Snapshot;
use crate::train::checkpoint::{Identity, Saved, to_bytes};
use crate::train::event::Phase;
use crate::train::feed::alpha_phase;
use crate::transition::induce;

const WORK: &str = "search";

impl Search {
    /// All that the search's future depends on; equal searches give equal bytes.
    ///
    /// These are weights, running statistics, alpha, the states of both optimizers, the auxiliary
    /// model and its optimizer, the gate, sums of the epoch so far, reports of earlier epochs, and
    /// the place in the data, with a digest over all of it. The figures of all steps are read
    /// first.
    ///
    /// # Errors
    /// [`Error::NonFinite`](crate::Error::NonFinite) where a figure or a tensor is not finite: such
    /// a search cannot be saved.
    pub fn save(&mut self) -> Result<Vec<u8>> {
        self.course.settle()?;
        let mut snapshot = Snapshot::default();
        snapshot.save(&self.supernet, "supernet");
        snapshot.save(&self.alpha, "alpha");
        let steppers = &self.weight_optimizer.stepper;
        steppers.save(&self.supernet, "weight_optimizer", &mut snapshot);
        self.architect.optimizer.save(&self.alpha, "alpha_optimizer", &mut snapshot);
        if let Some(Auxiliary { model, optimizer }) = &self.auxiliary {
            snapshot.save(model, "auxiliary");
            optimizer.stepper.save(model, "auxiliary_optimizer", &mut snapshot);
        }
        let data = self.feed.data_digest().to_string();
        let identity = Identity { config: self.config.clone(), genotype: None, data };
        to_bytes(WORK, identity, &self.course, snapshot)
            .map_err(|name| self.course.non_finite(&name, self.learning_rate()))
    }

    /// The search of a checkpoint of [`Self::save`].
    ///
    /// `config` must equal that of the checkpoint, except the interval of saving and the number of
    /// threads that prepare batches. Errors name `path`.
    ///
    /// # Errors
    /// [`Error::Damaged`](crate::Error::Damaged) where the bytes have changed since they were
    /// written, or where they have too few or too many tensors or tensors of another shape;
    /// [`Error::Checkpoint`](crate::Error::Checkpoint) where they are of another search or version.
    pub fn restore(
        config: SearchConfig,
        data: Arc<ImageDataset>,
        device: &Device,
        bytes: &[u8],
        path: &Path,
    ) -> Result<Self> {
        let mut saved = Saved::read(WORK, bytes, path)?;
        saved.check(&config, None)?;
        let images = data.len() as u64;
        let mut search = Self::new(config, data, device)?;
        saved.continue_on(&mut search.course, search.feed.data_digest())?;
        let whole = search.space.clone();
        search.find_stage().map_err(|reason| saved.damaged(reason))?;
        let (progress, place) = (&search.course.progress, search.course.place());
        let spaces = [&whole, &search.space];
        if let Some(fault) = progress.fault(place, spaces, images) {
            return Err(saved.damaged(format!("it remembers {fault}")));
        }
        search.take(&mut saved.snapshot).map_err(|reason| saved.damaged(reason))?;
        saved.finish()?;
        search.stop_early();
        Ok(search)
    }

    /// Enters the stage at the search's place, with the candidates from the checkpoint.
    fn find_stage(&mut self) -> Result<(), String> {
        let stage = self.stage().stage;
        let Some(candidates) = self.course.progress.candidates.clone() else {
            return match stage {
                0 => Ok(()),
                _ => Err(format!("it remembers no candidates of stage {}", stage + 1)),
            };
        };
        let expected = self.config.num_candidates(stage);
        let space = self.space.restricted(candidates).map_err(|error| error.to_string())?;
        let fits = |(_, edges): (_, &Vec<Vec<_>>)| edges.iter().all(|edge| edge.len() == expected);
        if stage == 0 || !space.all_candidates().0.iter().all(fits) {
            return Err("it remembers candidates of another stage".into());
        }
        self.enter(space);
        Ok(())
    }

    /// Takes the tensors and optimizer states for the place of the search.
    fn take(&mut self, snapshot: &mut Snapshot) -> Result<(), String> {
        let (plan, place) = (self.course.plan(), self.course.place());
        let StagePlace { epoch, .. } = self.stage();
        // Weights that are kept have taken the steps of every stage.
        let keeps = self.config.stages.keep_weights;
        let start = plan.start_of(if keeps { 0 } else { place.epoch - epoch });
        let supernet_steps = |place| plan.steps_before(place, |phase| phase == Phase::Supernet);
        let weight_steps = supernet_steps(place) - supernet_steps(&start);
        let auxiliary_steps = if place.phase == Phase::Auxiliary {
            place.step
        } else {
            plan.steps_of(Phase::Auxiliary)
        } as u64;
        // In single-level order every step on the weights moves alpha too.
        let phase = alpha_phase(self.config.search.order).unwrap_or(Phase::Supernet);
        let steps_of = |place| plan.steps_before(place, |of| of == phase);
        let in_epoch = steps_of(place) - steps_of(&plan.start_of(place.epoch));
        let steps = (epoch, in_epoch as usize, plan.steps_of(phase));
        let alpha_steps = match keeps {
            true => self.config.alpha_steps_before(place.epoch, steps.1, steps.2),
            false => self.config.alpha.steps_before(steps.0, steps.1, steps.2),
        };
        self.supernet = snapshot.load(self.supernet.clone(), "supernet")?;
        self.alpha = snapshot.load(self.alpha.clone(), "alpha")?;
        let stepper = &mut self.weight_optimizer.stepper;
        stepper.load(&self.supernet, "weight_optimizer", snapshot, |_| weight_steps)?;
        let stepper = &mut self.architect.optimizer;
        stepper.load(&self.alpha, "alpha_optimizer", snapshot, |_| alpha_steps)?;
        if let Some(genotype) = &self.course.progress.induced {
            let model = snapshot.load(induce(&self.supernet, genotype), "auxiliary")?;
            let mut optimizer = WeightOptimizer::new(&self.config.weights.sgd());
            let stepper = &mut optimizer.stepper;
            stepper.load(&model, "auxiliary_optimizer", snapshot, |_| auxiliary_steps)?;
            self.auxiliary = Some(Auxiliary { model, optimizer });
        }
        Ok(())
    }
}
