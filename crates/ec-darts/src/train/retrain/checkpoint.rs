//! The bytes that hold a retraining, and a retraining from such bytes.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Device;
use ec_darts_space::Genotype;
use serde::{Deserialize, Serialize};

use super::{Progress, Retraining};
use crate::config::{RetrainConfig, Settings};
use crate::data::Datasets;
use crate::snapshot::Snapshot;
use crate::{Error, Result};

/// Version of the layout below.
const FORMAT: u32 = 1;

/// Everything besides tensors that the future of a retraining depends on. Random draws and batches
/// are functions of seed, epoch and step, so no generator has a state to keep.
#[derive(Serialize, Deserialize)]
struct Description {
    format: u32,
    config: RetrainConfig,
    genotype: Genotype,
    /// SHA-256 over the images and labels.
    data: String,
    progress: Progress,
    counts: BTreeMap<String, u64>,
}

impl Retraining {
    /// All that the retraining's future depends on; equal retrainings give equal bytes. The figures of
    /// all steps are read first.
    ///
    /// # Errors
    /// [`Error::NonFinite`] where one of them is no number: such a retraining is not saved.
    pub fn save(&mut self) -> Result<Vec<u8>> {
        self.settle()?;
        let mut snapshot = Snapshot::default();
        snapshot.save(&self.network, "network");
        self.optimizer.stepper.save(&self.network, "optimizer", &mut snapshot);
        if let Some(average) = &self.average {
            snapshot.save(&average.module, "average");
        }
        let description = Description {
            format: FORMAT,
            config: self.config.clone(),
            genotype: self.genotype.clone(),
            data: self.feed.data_digest(),
            progress: self.progress.clone(),
            counts: std::mem::take(&mut snapshot.counts),
        };
        let description =
            serde_json::to_string(&description).expect("plain values and finite numbers");
        Ok(snapshot.to_bytes(&description))
    }

    /// The retraining that [`Self::save`] described.
    ///
    /// `config` and `genotype` must be those of the checkpoint, but for how often to save and how
    /// many threads prepare batches. `path` is named in errors.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] where the bytes are damaged, or of another retraining.
    pub fn restore(
        config: RetrainConfig,
        genotype: &Genotype,
        data: &Datasets,
        device: &Device,
        bytes: &[u8],
        path: &Path,
    ) -> Result<Self> {
        let fail = |reason: String| Error::Checkpoint { path: path.to_path_buf(), reason };
        let (mut snapshot, description) = Snapshot::from_bytes(bytes)
            .map_err(|reason| fail(format!("not a checkpoint of a retraining: {reason}")))?;
        let description: Description = serde_json::from_str(&description)
            .map_err(|error| fail(format!("not a checkpoint of a retraining: {error}")))?;
        if description.format != FORMAT {
            let found = description.format;
            return Err(fail(format!("format {found}, this version reads format {FORMAT}")));
        }
        if let Some(difference) = config.difference(&description.config) {
            return Err(fail(format!("a checkpoint of other settings: {difference}")));
        }
        if &description.genotype != genotype {
            let there = description.genotype.to_string();
            return Err(fail(format!("a checkpoint of another network: its genotype is {there}")));
        }
        let mut retraining = Self::new(config, genotype, data, device)?;
        if retraining.feed.data_digest() != description.data {
            return Err(fail("a checkpoint of other images (SHA-256 differs)".into()));
        }
        snapshot.counts = description.counts;
        retraining.progress = description.progress;
        retraining.network = snapshot.load(retraining.network, "network").map_err(fail)?;
        let device = retraining.device.clone();
        let stepper = &mut retraining.optimizer.stepper;
        stepper.load(&retraining.network, "optimizer", &mut snapshot, &device);
        if let Some(average) = &mut retraining.average {
            average.module = snapshot.load(average.module.clone(), "average").map_err(fail)?;
        }
        match snapshot.tensors.keys().next() {
            Some(name) => {
                Err(fail(format!("it holds {name}, which this retraining does not have")))
            }
            None => Ok(retraining),
        }
    }
}
