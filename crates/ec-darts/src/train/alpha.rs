//! Alpha at the end of an epoch of a search, read from the run folder.

use std::path::Path;

use burn::module::Param;
use burn::tensor::{Device, TensorData};
use ec_darts_space::{CellKind, Error as SpaceError, Genotype, PerKind, SearchSpace};

use super::event::{AlphaValues, EpochReport};
use super::folder::metrics;
use crate::architecture::{ArchitectureParameters, EdgeParameters};
use crate::config::{SearchConfig, Settings};
use crate::{Error, Result};

/// Alpha at the end of an epoch, and the values needed to derive a genotype from it. Images and
/// checkpoints are not needed.
#[derive(Debug)]
pub struct SavedAlpha {
    /// Settings of the search.
    pub config: SearchConfig,
    /// Primitives and topology of the search.
    pub space: SearchSpace,
    /// Alpha at the end of the epoch.
    pub alpha: ArchitectureParameters,
    /// The epoch, counted from 0.
    pub epoch: usize,
    /// Epoch whose genotype the search would return at its current state, counted from 0.
    pub best_epoch: usize,
}

impl SavedAlpha {
    /// Reads settings and metrics of a run folder; `epoch` is counted from 0, and by default the
    /// last one.
    ///
    /// # Errors
    /// [`Error::Io`] and the errors of [`Settings::load`] where the files cannot be read;
    /// [`Error::Folder`] where the epoch does not exist, or where its alpha does not fit the
    /// settings.
    pub fn read(run: &Path, epoch: Option<usize>, device: &Device) -> Result<Self> {
        let fail = |reason: String| Error::Folder { path: run.to_path_buf(), reason };
        let config = SearchConfig::load(&run.join("config.toml"), &[])?;
        let whole = config.network.space()?;
        let reports: Vec<EpochReport> = metrics(run)?;
        let Some(last) = reports.last() else {
            return Err(fail("no epoch of the search in it is over".into()));
        };
        let epoch = epoch.unwrap_or(reports.len() - 1);
        let Some(report) = reports.get(epoch) else {
            let (number, epochs) = (epoch.saturating_add(1), reports.len());
            return Err(fail(format!(
                "epoch {number} is not over, there is alpha of epochs 1 to {epochs}"
            )));
        };
        let space = match &report.alpha.candidates {
            Some(candidates) => whole.restricted(candidates.clone()).map_err(|error| {
                fail(format!("candidates of epoch {} in metrics.jsonl: {error}", epoch + 1))
            })?,
            None => whole,
        };
        let shape = [space.topology().num_edges(), space.primitives().len()];
        let matrix = |rows: &[Vec<f32>], shape: [usize; 2]| {
            let fits = rows.len() == shape[0] && rows.iter().all(|row| row.len() == shape[1]);
            fits.then(|| Param::from_data(TensorData::new(rows.concat(), shape), device))
        };
        let column = |values: &Vec<f32>| {
            let rows: Vec<Vec<f32>> = values.iter().map(|&value| vec![value]).collect();
            matrix(&rows, [shape[0], 1])
        };
        let edges = report.alpha.edges.as_ref().and_then(|edges| {
            let PerKind { normal, reduction } = edges.as_ref().map(column).all()?;
            Some(EdgeParameters { normal, reduction })
        });
        let matrix = |rows: &Vec<Vec<f32>>| matrix(rows, shape);
        let AlphaValues { normal, reduction, .. } = &report.alpha;
        let has_all =
            reduction.is_some() == space.topology().kinds().contains(&CellKind::Reduction);
        let alphas = PerKind { normal, reduction: reduction.as_ref() }.map(matrix).all();
        let alpha = match alphas.filter(|_| has_all) {
            Some(PerKind { normal, reduction }) if edges.is_some() == config.rule.edge_weights => {
                ArchitectureParameters { normal, reduction, edges }
            }
            _ => {
                let [edges, primitives] = shape;
                let number = epoch + 1;
                return Err(fail(format!(
                    "alpha of epoch {number} in metrics.jsonl is not {edges} edges by {primitives} primitives"
                )));
            }
        };
        Ok(Self { alpha, epoch, best_epoch: last.best_epoch, config, space })
    }

    /// The strengths from which the search derives its genotypes, `[num_edges, num_primitives]` per
    /// kind of cell.
    pub fn strengths(&self) -> PerKind<Vec<f32>> {
        let rule = self.config.rule_at(self.epoch);
        rule.strengths(&self.space, &self.alpha, self.config.search.strength)
    }

    /// The genotype of the epoch. Where it is the genotype of the strongest edges in place of the
    /// rule's, also the reason.
    ///
    /// # Errors
    /// [`ec_darts_space::Error`] where a value is not finite.
    pub fn genotype(&self) -> Result<(Genotype, Option<SpaceError>), SpaceError> {
        let rule = self.config.rule_at(self.epoch);
        rule.genotype_or_edges(&self.space, &self.alpha, self.config.search.strength)
    }
}
