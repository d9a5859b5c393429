//! The bytes that hold a retraining, and a retraining from such bytes.

use std::path::Path;

use burn::tensor::Device;
use ec_darts_space::Genotype;

use super::{Retraining, weight_steps};
use crate::Result;
use crate::config::RetrainConfig;
use crate::data::Datasets;
use crate::snapshot::Snapshot;
use crate::train::checkpoint::{Identity, Saved, to_bytes};

const WORK: &str = "retraining";

impl Retraining {
    /// All that the retraining's future depends on, and a digest over it; equal retrainings give equal
    /// bytes. The figures of all steps are read first.
    ///
    /// # Errors
    /// [`Error::NonFinite`](crate::Error::NonFinite) where a figure or a tensor is no number: such a retraining is not saved.
    pub fn save(&mut self) -> Result<Vec<u8>> {
        self.course.settle()?;
        let mut snapshot = Snapshot::default();
        snapshot.save(&self.network, "network");
        self.optimizer.stepper.save(&self.network, "optimizer", &mut snapshot);
        if let Some(average) = &self.average {
            snapshot.save(&average.module, "average");
        }
        let identity = Identity {
            config: self.config.clone(),
            genotype: Some(self.genotype.clone()),
            data: self.feed.data_digest(),
        };
        to_bytes(WORK, identity, &self.course, snapshot)
            .map_err(|name| self.course.non_finite(&name, self.learning_rate()))
    }

    /// The retraining that [`Self::save`] described.
    ///
    /// `config` and `genotype` must be those of the checkpoint, but for how often to save and how
    /// many threads prepare batches. `path` is named in errors.
    ///
    /// # Errors
    /// [`Error::Damaged`](crate::Error::Damaged) where the bytes are not those that were written, or hold too little, too much or
    /// tensors of another shape; [`Error::Checkpoint`](crate::Error::Checkpoint) where they are of another retraining or version.
    pub fn restore(
        config: RetrainConfig,
        genotype: &Genotype,
        data: &Datasets,
        device: &Device,
        bytes: &[u8],
        path: &Path,
    ) -> Result<Self> {
        let mut saved = Saved::read(WORK, bytes, path)?;
        saved.check(&config, Some(genotype))?;
        let mut retraining = Self::new(config, genotype, data, device)?;
        saved.continue_on(&mut retraining.course, &retraining.feed.data_digest())?;
        let (course, images) = (&retraining.course, retraining.feed.num_images());
        if let Some(fault) = course.progress.fault(course.plan(), course.place(), images) {
            return Err(saved.damaged(format!("it remembers {fault}")));
        }
        retraining.take(&mut saved.snapshot).map_err(|reason| saved.damaged(reason))?;
        saved.finish()?;
        Ok(retraining)
    }

    /// Takes the tensors and optimizer states at the place where the retraining is.
    fn take(&mut self, snapshot: &mut Snapshot) -> Result<(), String> {
        let steps = weight_steps(&self.course);
        let has_head = self.config.network.auxiliary_loss_weight.is_some();
        // Without a loss of its own the auxiliary head takes no steps.
        let steps_of = |name: &str| {
            if has_head || !name.starts_with("optimizer.auxiliary_head.") { steps } else { 0 }
        };
        self.network = snapshot.load(self.network.clone(), "network")?;
        self.optimizer.stepper.load(&self.network, "optimizer", snapshot, steps_of)?;
        if let Some(average) = &mut self.average {
            average.module = snapshot.load(average.module.clone(), "average")?;
        }
        Ok(())
    }
}
