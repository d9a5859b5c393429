//! Saving a retraining as bytes, and restoring it.

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
    /// All that the retraining's future depends on, with a digest over it; equal retrainings give
    /// equal bytes. The figures of all steps are read first.
    ///
    /// # Errors
    /// [`Error::NonFinite`](crate::Error::NonFinite) where a figure or a tensor is not finite: such
    /// a retraining cannot be saved.
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

    /// The retraining of a checkpoint of [`Self::save`].
    ///
    /// `config` and `genotype` must equal those of the checkpoint, except the interval of saving
    /// and the number of threads that prepare batches. Errors name `path`.
    ///
    /// # Errors
    /// [`Error::Damaged`](crate::Error::Damaged) where the bytes have changed since they were
    /// written, or where they have too few or too many tensors or tensors of another shape;
    /// [`Error::Checkpoint`](crate::Error::Checkpoint) where they are of another retraining or
    /// version.
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

    /// Takes the tensors and optimizer states for the place of the retraining.
    fn take(&mut self, snapshot: &mut Snapshot) -> Result<(), String> {
        let steps = weight_steps(&self.course);
        let has_head = self.config.network.auxiliary_loss_weight.is_some();
        // Without its own loss, the auxiliary head has no steps.
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
