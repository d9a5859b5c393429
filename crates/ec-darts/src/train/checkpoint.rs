//! The bytes that hold a search, and a search from such bytes.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use ec_darts_space::SearchSpace;
use serde::{Deserialize, Serialize};

use super::event::Phase;
use super::search::{Auxiliary, Search};
use super::state::{Best, Progress};
use crate::architecture::ArchitectureParameters;
use crate::config::{SearchConfig, Settings};
use crate::data::{ImageDataset, Purpose, stream_rng};
use crate::optim::WeightOptimizer;
use crate::snapshot::Snapshot;
use crate::transition::induce;
use crate::{Error, Result};

/// Version of the layout below.
const FORMAT: u32 = 1;

/// Everything besides tensors that the future of a search depends on. Random draws and batches are
/// functions of seed, epoch and step, so no generator has a state to keep.
#[derive(Serialize, Deserialize)]
struct Description {
    format: u32,
    config: SearchConfig,
    /// SHA-256 over the training images and labels.
    data: String,
    progress: Progress,
    counts: std::collections::BTreeMap<String, u64>,
}

impl Search {
    /// All that the search's future depends on; equal searches give equal bytes.
    ///
    /// Weights, running statistics, alpha, the states of both optimizers, the auxiliary model and
    /// its optimizer, the gate, sums of the epoch so far, and the place in the data. The figures of all
    /// steps are read first.
    ///
    /// # Errors
    /// [`Error::NonFinite`] where one of them is no number: such a search is not saved.
    pub fn save(&mut self) -> Result<Vec<u8>> {
        self.settle()?;
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
        let description = Description {
            format: FORMAT,
            config: self.config.clone(),
            data: self.feed.data_digest().to_string(),
            progress: self.progress.clone(),
            counts: std::mem::take(&mut snapshot.counts),
        };
        let description =
            serde_json::to_string(&description).expect("plain values and finite numbers");
        Ok(snapshot.to_bytes(&description))
    }

    /// The search that [`Self::save`] described.
    ///
    /// `config` must be the one of the checkpoint, but for how often to save and how many threads
    /// prepare batches. `path` is named in errors.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] where the bytes are damaged, or of another search.
    pub fn restore(
        config: SearchConfig,
        data: Arc<ImageDataset>,
        device: &Device,
        bytes: &[u8],
        path: &Path,
    ) -> Result<Self> {
        let fail = |reason: String| Error::Checkpoint { path: path.to_path_buf(), reason };
        let (mut snapshot, description) = parse(bytes).map_err(fail)?;
        if let Some(difference) = config.difference(&description.config) {
            return Err(fail(format!("a checkpoint of other settings: {difference}")));
        }
        let mut search = Self::new(config, data, device)?;
        if search.feed.data_digest() != description.data {
            return Err(fail("a checkpoint of other training data (SHA-256 differs)".into()));
        }
        snapshot.counts = description.counts;
        search.progress = description.progress;
        search.supernet = snapshot.load(search.supernet, "supernet").map_err(fail)?;
        search.alpha = snapshot.load(search.alpha, "alpha").map_err(fail)?;
        let device = search.device.clone();
        let stepper = &mut search.weight_optimizer.stepper;
        stepper.load(&search.supernet, "weight_optimizer", &mut snapshot, &device);
        let stepper = &mut search.architect.optimizer;
        stepper.load(&search.alpha, "alpha_optimizer", &mut snapshot, &device);
        if let Some(genotype) = &search.progress.induced {
            let model = induce(&search.supernet, genotype);
            let model = snapshot.load(model, "auxiliary").map_err(fail)?;
            let mut optimizer = WeightOptimizer::new(&search.sgd());
            optimizer.stepper.load(&model, "auxiliary_optimizer", &mut snapshot, &device);
            search.auxiliary = Some(Auxiliary { model, optimizer });
        }
        match snapshot.tensors.keys().next() {
            Some(name) => Err(fail(format!("it holds {name}, which this search does not have"))),
            None => Ok(search),
        }
    }
}

/// Tensors and description, or what is wrong with the bytes.
fn parse(bytes: &[u8]) -> Result<(Snapshot, Description), String> {
    let (snapshot, description) = Snapshot::from_bytes(bytes)
        .map_err(|reason| format!("not a checkpoint of a search: {reason}"))?;
    let description: Description = serde_json::from_str(&description)
        .map_err(|error| format!("its description cannot be read: {error}"))?;
    match description.format {
        FORMAT => Ok((snapshot, description)),
        found => Err(format!("format {found}, this version reads format {FORMAT}")),
    }
}

/// Alpha of a checkpoint, and what is needed to read a genotype from it; no images are.
#[derive(Debug)]
pub struct SavedAlpha {
    /// Settings of the search.
    pub config: SearchConfig,
    /// Primitives and topology searched over.
    pub space: SearchSpace,
    /// Alpha as it stood.
    pub alpha: ArchitectureParameters,
    /// Epochs that were over.
    pub epochs_done: usize,
    /// Whether the next epoch had begun, so that alpha lies between two epochs.
    pub within_epoch: bool,
    /// What the search would have returned then.
    pub best: Option<Best>,
}

impl SavedAlpha {
    /// Reads what [`Search::save`] wrote.
    ///
    /// # Errors
    /// [`Error::Io`] where the file cannot be read, [`Error::Checkpoint`] where it is damaged.
    pub fn read(path: &Path, device: &Device) -> Result<Self> {
        let fail = |reason: String| Error::Checkpoint { path: path.to_path_buf(), reason };
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        let (mut snapshot, Description { config, progress, .. }) = parse(&bytes).map_err(fail)?;
        let space = config.network.space()?;
        // Its values are replaced.
        let mut rng = stream_rng(config.search.seed, Purpose::Alpha, 0, 0);
        let alpha = ArchitectureParameters::new(&space, 0.0, &mut rng, device);
        Ok(Self {
            alpha: snapshot.load(alpha, "alpha").map_err(fail)?,
            epochs_done: progress.epoch,
            within_epoch: progress.phase != Phase::Supernet || progress.step > 0,
            best: progress.best,
            config,
            space,
        })
    }

    /// What the search reads its genotypes from, of normal and of reduction cells,
    /// `[num_edges, num_primitives]` each.
    pub fn strengths(&self) -> [Vec<f32>; 2] {
        let search = &self.config.search;
        self.alpha.strengths(&self.space, search.relaxation, search.strength)
    }
}
