//! Settings of the stages of a search: the section `stages`.

use ec_darts_space::Primitive;
use serde::{Deserialize, Serialize};

use super::validate::{check_cells, require};
use super::{NetworkConfig, SearchConfig};
use crate::Result;
use crate::network::StemKind;

/// Stages of a search, each with its own supernet, new weights and new alpha; by default there is
/// one stage.
///
/// Every stage has `search.epochs` epochs. Learning rate, freeze of alpha and schedules of the rule
/// start again with each stage. At the end of a stage, every edge loses its weakest candidates.
///
/// # Source
/// P-DARTS, section 3.2.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StagesConfig {
    /// Number of cells of the supernet in each stage; empty: one stage with `network.num_cells`.
    pub cells: Vec<usize>,
    /// Number of candidates that every edge loses at the end of each stage but the last, which ends
    /// with the genotype.
    pub drop: Vec<usize>,
    /// Channels in addition to `network.init_channels` in each stage; empty: none.
    pub added_channels: Vec<usize>,
}

/// A stage and an epoch in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StagePlace {
    /// The number of the stage, counted from 0.
    pub stage: usize,
    /// The epoch in the stage, counted from 0.
    pub epoch: usize,
}

impl SearchConfig {
    /// Number of stages of the search.
    pub fn num_stages(&self) -> usize {
        self.stages.cells.len().max(1)
    }

    /// Number of epochs of all stages.
    pub fn num_epochs(&self) -> usize {
        self.num_stages() * self.search.epochs
    }

    /// The place of an epoch, counted from 0 over all stages; the end of the search belongs to the
    /// last stage.
    pub fn in_stage(&self, epoch: usize) -> StagePlace {
        let stage = (epoch / self.search.epochs).min(self.num_stages() - 1);
        StagePlace { stage, epoch: epoch - stage * self.search.epochs }
    }

    /// The supernet of a stage.
    pub fn network_of(&self, stage: usize) -> NetworkConfig {
        let mut network = self.network.clone();
        if let Some(&cells) = self.stages.cells.get(stage) {
            network.num_cells = cells;
        }
        network.init_channels += self.stages.added_channels.get(stage).copied().unwrap_or(0);
        network
    }

    /// Number of candidates of every edge in a stage.
    pub fn num_candidates(&self, stage: usize) -> usize {
        let gone: usize = self.stages.drop.iter().take(stage).sum();
        self.network.primitives.len() - gone
    }

    /// Number of steps on alpha before this one, over all stages, where every epoch has `steps`
    /// steps that could move alpha.
    pub(crate) fn alpha_steps_before(&self, epoch: usize, step: usize, steps: usize) -> u64 {
        let place = self.in_stage(epoch);
        let of_stage = self.alpha.steps_before(self.search.epochs, 0, steps);
        place.stage as u64 * of_stage + self.alpha.steps_before(place.epoch, step, steps)
    }

    /// Checks the section `stages`.
    pub(super) fn validate_stages(&self, origin: &str) -> Result<()> {
        let require = |holds, key: &str, value: &dyn ToString, allowed: &str| {
            require(origin, holds, key, value, allowed)
        };
        let stages = &self.stages;
        let list = |values: &[usize]| format!("{values:?}");
        let (count, cells) = (stages.cells.len(), self.network.num_cells);
        for &cells in &stages.cells {
            check_cells(origin, "stages.cells", self.network.skeleton, cells)?;
        }
        let fits = stages.cells.first().is_none_or(|&first| first == cells);
        let allowed = format!("a list that begins with network.num_cells, {cells}");
        require(fits, "stages.cells", &list(&stages.cells), &allowed)?;
        require(
            self.num_epochs() <= 100_000,
            "stages.cells",
            &list(&stages.cells),
            "100000 epochs in all stages together",
        )?;
        let expected = count.saturating_sub(1);
        let allowed = format!("{expected} numbers, one for each stage but the last");
        require(stages.drop.len() == expected, "stages.drop", &list(&stages.drop), &allowed)?;
        // With `none` beside a single operation, the last stage would decide nothing, and a single
        // operation is no choice.
        let has_none = self.network.primitives.contains(&Primitive::None);
        let least = if has_none { 2 } else { 1 };
        let left = self.network.primitives.len().checked_sub(stages.drop.iter().sum());
        let fits = stages.drop.is_empty()
            || left.is_some_and(|left| left >= least) && !stages.drop.contains(&0);
        let allowed = format!(
            "numbers of 1 or more that leave at least {least} of {} primitives",
            self.network.primitives.len()
        );
        require(fits, "stages.drop", &list(&stages.drop), &allowed)?;
        let added = &stages.added_channels;
        let allowed = format!("no number, or {} of 0 to 1024, one for each stage", count);
        let fits = added.is_empty()
            || added.len() == count && added.iter().all(|&channels| channels <= 1024);
        require(fits, "stages.added_channels", &list(added), &allowed)?;
        let parts = 2 * self.rule.partial_channels.max(1);
        for &more in added {
            let channels = self.network.init_channels + more;
            let even = self.network.stem != StemKind::Imagenet || channels.is_multiple_of(2);
            // A factorized reduction needs an even number of channels.
            let fits = channels <= 1024 && even && (parts == 2 || channels.is_multiple_of(parts));
            let allowed = "numbers that make at most 1024 channels with network.init_channels, of a number that \
                           network.stem and rule.partial_channels allow";
            require(fits, "stages.added_channels", &list(added), allowed)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> SearchConfig {
        let mut config = SearchConfig::cifar10();
        config.network.num_cells = 5;
        config.search.epochs = 25;
        config.stages = StagesConfig {
            cells: vec![5, 11, 17],
            drop: vec![3, 2],
            added_channels: vec![0, 12, 24],
        };
        config
    }

    #[test]
    fn every_stage_begins_anew() {
        let config = three();
        let place = |epoch| {
            let StagePlace { stage, epoch } = config.in_stage(epoch);
            (stage, epoch)
        };
        assert_eq!([0, 24, 25, 74, 75].map(place), [(0, 0), (0, 24), (1, 0), (2, 24), (2, 25)]);
        assert_eq!([0, 1, 2].map(|stage| config.num_candidates(stage)), [8, 5, 3]);
        let network = config.network_of(2);
        assert_eq!((network.num_cells, network.init_channels), (17, 40));
        // Of 25 epochs, the first ten do not move alpha.
        let mut frozen = config.clone();
        frozen.alpha.frozen_epochs = 10;
        assert_eq!(frozen.alpha_steps_before(25 + 12, 3, 7), 15 * 7 + 2 * 7 + 3);
        assert_eq!(SearchConfig::cifar10().in_stage(7), StagePlace { stage: 0, epoch: 7 });
    }

    #[test]
    fn impossible_stages_are_refused() {
        let check = |change: fn(&mut SearchConfig), expected: &str| {
            let mut config = three();
            change(&mut config);
            let error = config.validate_stages("a.toml").expect_err(expected).to_string();
            assert_eq!(error, format!("a.toml: {expected}"));
        };
        three().validate_stages("a.toml").expect("three stages");
        check(
            |c| c.stages.cells = vec![5, 2, 17],
            "`stages.cells` is 2, allowed: 3 to 64: two reductions and at least one normal cell",
        );
        check(
            |c| c.network.num_cells = 8,
            "`stages.cells` is [5, 11, 17], allowed: a list that begins with network.num_cells, 8",
        );
        check(
            |c| c.stages.drop = vec![3, 2, 2],
            "`stages.drop` is [3, 2, 2], allowed: 2 numbers, one for each stage but the last",
        );
        check(
            |c| c.stages.drop = vec![3, 4],
            "`stages.drop` is [3, 4], allowed: numbers of 1 or more that leave at least 2 of 8 primitives",
        );
        check(
            |c| c.stages.added_channels = vec![0],
            "`stages.added_channels` is [0], allowed: no number, or 3 of 0 to 1024, one for each stage",
        );
        check(
            |c| c.stages.added_channels = vec![0, 0, 1009],
            "`stages.added_channels` is [0, 0, 1009], allowed: numbers that make at most 1024 channels with \
             network.init_channels, of a number that network.stem and rule.partial_channels allow",
        );
        check(
            |c| c.search.epochs = 50_000,
            "`stages.cells` is [5, 11, 17], allowed: 100000 epochs in all stages together",
        );
    }
}
