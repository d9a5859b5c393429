//! Searches and retrainings from bytes in memory.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use ec_darts_space::Genotype;

use super::{Retraining, Search};
use crate::Result;
use crate::config::{RetrainConfig, SearchConfig};
use crate::data::{Datasets, ImageDataset};

/// The path in errors about such bytes.
const IN_MEMORY: &str = "the checkpoint in memory";

impl Search {
    /// The search of a checkpoint of [`Self::save`]; as [`Self::restore`], for bytes in memory.
    ///
    /// # Errors
    /// As of [`Self::restore`].
    pub fn from_bytes(
        config: SearchConfig,
        data: Arc<ImageDataset>,
        device: &Device,
        bytes: &[u8],
    ) -> Result<Self> {
        Self::restore(config, data, device, bytes, Path::new(IN_MEMORY))
    }
}

impl Retraining {
    /// The retraining of a checkpoint of [`Self::save`]; as [`Self::restore`], for bytes in memory.
    ///
    /// # Errors
    /// As of [`Self::restore`].
    pub fn from_bytes(
        config: RetrainConfig,
        genotype: &Genotype,
        data: &Datasets,
        device: &Device,
        bytes: &[u8],
    ) -> Result<Self> {
        Self::restore(config, genotype, data, device, bytes, Path::new(IN_MEMORY))
    }
}
