//! A trained network in other formats.

use std::path::{Path, PathBuf};

use burn::store::{BurnpackStore, ModuleSnapshot, SafetensorsStore};

use super::{DESCRIPTION, NETWORK, TrainedModel, onnx, torch};
use crate::files::write;
use crate::snapshot::NamedTensors;
use crate::{Error, Result};

/// The formats of a trained network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// Burn's own format, for [`BurnpackStore`].
    Burnpack,
    /// Safetensors as [`SafetensorsStore`] writes it: Burn's names and shapes.
    Safetensors,
    /// Safetensors with the names and shapes of the public DARTS code, and a Python module that
    /// loads it; only for networks in DARTS' skeleton.
    Torch,
    /// An ONNX graph (operator set 17) from `images`, `[batch, 3, height, width]`, normalized as
    /// for [`TrainedModel::logits`], to `logits`, `[batch, num_classes]`. Its metadata have all
    /// other necessary values: `classes`, `mean`, `std`, `image_size`, `genotype`, `input`,
    /// `version`.
    Onnx,
}

impl ExportFormat {
    /// The files that an export to this path writes: the path itself; for [`Self::Torch`],
    /// `model.safetensors` and `model.py` in it.
    pub fn files(self, path: &Path) -> Vec<PathBuf> {
        match self {
            Self::Torch => vec![path.join("model.safetensors"), path.join("model.py")],
            Self::Burnpack | Self::Safetensors | Self::Onnx => vec![path.to_path_buf()],
        }
    }
}

impl TrainedModel {
    /// Writes the network to the files of [`ExportFormat::files`], whatever they contain. Missing
    /// folders are created. Returns the files written.
    ///
    /// All formats have the description as JSON under `ec-darts` in their metadata.
    ///
    /// # Errors
    /// [`Error::Io`] where a file cannot be written, [`Error::Model`] where Burn's store fails or the
    /// format does not support a network of this size or skeleton.
    pub fn export(&self, format: ExportFormat, path: &Path) -> Result<Vec<PathBuf>> {
        let fail = |reason: String| Error::Model { path: path.to_path_buf(), reason };
        let description = self.description.to_json();
        // Burn's stores see every tensor under its own name.
        let device = self.network.classifier.weight.device().inner();
        let snapshot = self.finite_snapshot().map_err(|error| error.of_file(path))?;
        let network = NamedTensors::new(&snapshot, NETWORK, &device);
        let contents: Vec<Vec<u8>> = match format {
            ExportFormat::Burnpack => {
                let mut store = BurnpackStore::from_bytes(None).metadata(DESCRIPTION, description);
                network.save_into(&mut store).map_err(|error| fail(error.to_string()))?;
                let bytes = store.get_bytes().map_err(|error| fail(error.to_string()))?;
                vec![bytes.to_vec()]
            }
            ExportFormat::Safetensors => {
                let mut store =
                    SafetensorsStore::from_bytes(None).metadata(DESCRIPTION, description);
                network.save_into(&mut store).map_err(|error| fail(error.to_string()))?;
                let bytes = store.get_bytes().map_err(|error| fail(error.to_string()))?;
                vec![bytes]
            }
            ExportFormat::Torch => {
                torch::check_skeleton(self.description.skeleton).map_err(fail)?;
                vec![torch::to_bytes(snapshot, description), include_bytes!("model.py").to_vec()]
            }
            ExportFormat::Onnx => vec![onnx::to_bytes(self).map_err(fail)?],
        };
        let files = format.files(path);
        for (file, bytes) in files.iter().zip(&contents) {
            let folder = file.parent().unwrap_or(Path::new(""));
            std::fs::create_dir_all(folder).map_err(Error::io("create the folder", folder))?;
            write(file, bytes)?;
        }
        Ok(files)
    }
}
