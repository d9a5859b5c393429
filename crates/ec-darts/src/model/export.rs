//! A trained network in the formats of others.

use std::path::{Path, PathBuf};

use burn::store::{BurnpackStore, ModuleSnapshot, SafetensorsStore};

use super::{DESCRIPTION, NETWORK, TrainedModel, torch};
use crate::files::write;
use crate::snapshot::NamedTensors;
use crate::{Error, Result};

/// What a trained network can be written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// Burn's own format, for [`BurnpackStore`].
    Burnpack,
    /// Safetensors as [`SafetensorsStore`] writes it: Burn's names and shapes.
    Safetensors,
    /// Safetensors with the names and shapes of the public DARTS code, and a Python module that
    /// loads it.
    Torch,
}

impl TrainedModel {
    /// Writes the network to a file; for [`ExportFormat::Torch`] `model.safetensors` and `model.py`
    /// to a folder, made where it is not there. Returns what was written.
    ///
    /// All formats have the description as JSON under `ec-darts` in their metadata.
    ///
    /// # Errors
    /// [`Error::Io`] where a file cannot be written, [`Error::Model`] where Burn's store fails.
    pub fn export(&self, format: ExportFormat, path: &Path) -> Result<Vec<PathBuf>> {
        let fail = |reason: String| Error::Model { path: path.to_path_buf(), reason };
        let description = self.description.to_json();
        // Burn's stores see every tensor under its own name.
        let device = self.network.classifier.weight.device().inner();
        let snapshot = self.finite_snapshot().map_err(|error| error.of_file(path))?;
        let network = NamedTensors::new(&snapshot, NETWORK, &device);
        let files: Vec<(PathBuf, Vec<u8>)> = match format {
            ExportFormat::Burnpack => {
                let mut store = BurnpackStore::from_bytes(None).metadata(DESCRIPTION, description);
                network.save_into(&mut store).map_err(|error| fail(error.to_string()))?;
                let bytes = store.get_bytes().map_err(|error| fail(error.to_string()))?;
                vec![(path.to_path_buf(), bytes.to_vec())]
            }
            ExportFormat::Safetensors => {
                let mut store =
                    SafetensorsStore::from_bytes(None).metadata(DESCRIPTION, description);
                network.save_into(&mut store).map_err(|error| fail(error.to_string()))?;
                let bytes = store.get_bytes().map_err(|error| fail(error.to_string()))?;
                vec![(path.to_path_buf(), bytes)]
            }
            ExportFormat::Torch => {
                std::fs::create_dir_all(path).map_err(Error::io("create the folder", path))?;
                vec![
                    (path.join("model.safetensors"), torch::to_bytes(snapshot, description)),
                    (path.join("model.py"), include_bytes!("model.py").to_vec()),
                ]
            }
        };
        for (path, bytes) in &files {
            write(path, bytes)?;
        }
        Ok(files.into_iter().map(|(path, _)| path).collect())
    }
}
