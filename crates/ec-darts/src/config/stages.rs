//! Settings of the stages of a search: the section `stages`.

use ec_darts_space::Primitive;
use serde::{Deserialize, Serialize};

use super::validate::{check_cells, require};
use super::{NetworkConfig, SearchConfig};
use crate::Result;
use crate::network::StemKind;

/// Stages of a search; by default there is one stage.
///
/// Every stage has `search.epochs` epochs and its own supernet. The freeze of alpha and the schedules
/// of the rule start again with each stage. At the end of a stage, every edge loses its weakest
/// candidates.
///
/// # Source
/// P-DARTS, section 3.2; DrNAS, section 3.3 (`keep_weights` and `partial_channels`).
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
    /// `rule.partial_channels` in each stage; empty: the same in all.
    pub partial_channels: Vec<usize>,
    /// Whether weights and alpha of the remaining candidates go on into the next stage, widened where
    /// more channels go through the operations, and the learning rate falls once over all stages.
    /// Otherwise both start anew, and the learning rate with them.
    pub keep_weights: bool,
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

    /// The number of equal parts of the channels in a stage, of which the first goes through the
    /// operations.
    pub fn partial_channels(&self, stage: usize) -> usize {
        self.stages.partial_channels.get(stage).copied().unwrap_or(self.rule.partial_channels)
    }

    /// Learning rate of the weights in an epoch, counted from 0 over all stages, per step.
    pub fn learning_rate_at(&self, epoch: usize) -> f64 {
        match self.stages.keep_weights {
            true => self.weights.learning_rate_at(epoch, self.num_epochs()),
            false => self.weights.learning_rate_at(self.in_stage(epoch).epoch, self.search.epochs),
        }
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
        for &more in added {
            let channels = self.network.init_channels + more;
            let even = self.network.stem != StemKind::Imagenet || channels.is_multiple_of(2);
            let allowed = "numbers that make at most 1024 channels with network.init_channels, of a number that \
                           network.stem allows";
            require(channels <= 1024 && even, "stages.added_channels", &list(added), allowed)?;
        }
        self.validate_parts(origin)?;
        self.validate_kept_weights(origin)
    }

    /// Checks how many channels go through the operations in each stage.
    fn validate_parts(&self, origin: &str) -> Result<()> {
        let of_stages = &self.stages.partial_channels;
        let first = self.rule.partial_channels;
        let value = format!("{of_stages:?}");
        let allowed = format!(
            "no number, or {}, one for each stage, of which the first is rule.partial_channels, {first}",
            self.num_stages()
        );
        let fits = of_stages.is_empty()
            || of_stages.len() == self.num_stages() && of_stages.first() == Some(&first);
        require(origin, fits, "stages.partial_channels", &value, &allowed)?;
        for stage in 0..self.num_stages() {
            let (parts, channels) =
                (self.partial_channels(stage), self.network_of(stage).init_channels);
            let fits = parts > 0 && channels.is_multiple_of(parts);
            let allowed =
                format!("numbers that divide the {channels} channels of stage {}", stage + 1);
            let (key, value) = match of_stages.is_empty() {
                true => ("rule.partial_channels", first.to_string()),
                false => ("stages.partial_channels", value.clone()),
            };
            require(origin, fits, key, &value, &allowed)?;
            let allowed = "1 with `transition.enabled`: an induced model would need operations of all channels";
            require(origin, parts == 1 || !self.transition.enabled, key, &value, allowed)?;
        }
        Ok(())
    }

    /// Checks that the weights of every stage fit into the next.
    fn validate_kept_weights(&self, origin: &str) -> Result<()> {
        if !self.stages.keep_weights {
            return Ok(());
        }
        let networks: Vec<NetworkConfig> =
            (0..self.num_stages()).map(|stage| self.network_of(stage)).collect();
        let parts: Vec<usize> =
            (0..self.num_stages()).map(|stage| self.partial_channels(stage)).collect();
        let fits = networks.len() > 1
            && networks.iter().all(|network| *network == networks[0])
            && parts.is_sorted_by(|before, after| before >= after);
        let allowed =
            "false, or stages of the same cells and channels in which partial channels do not grow";
        require(origin, fits, "stages.keep_weights", &true, allowed)
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
            ..StagesConfig::default()
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
    fn stages_that_keep_their_weights() {
        let two = |change: fn(&mut SearchConfig)| {
            let mut config = SearchConfig::cifar10();
            (config.network.init_channels, config.network.num_cells) = (36, 20);
            (config.rule.partial_channels, config.transition.enabled) = (6, false);
            config.stages = StagesConfig {
                cells: vec![20, 20],
                drop: vec![3],
                partial_channels: vec![6, 4],
                keep_weights: true,
                ..StagesConfig::default()
            };
            change(&mut config);
            config
        };
        let config = two(|_| ());
        config.validate_stages("a.toml").expect("two stages");
        assert_eq!([0, 1].map(|stage| config.partial_channels(stage)), [6, 4]);
        let whole = |epoch| config.weights.learning_rate_at(epoch, 50);
        assert_eq!(
            [0, 24, 25, 49].map(|epoch| config.learning_rate_at(epoch)),
            [0, 24, 25, 49].map(whole)
        );
        let check = |change, expected: &str| {
            let error = two(change).validate_stages("a.toml").expect_err(expected).to_string();
            assert_eq!(error, format!("a.toml: {expected}"));
        };
        check(
            |c| c.stages.partial_channels = vec![6, 5],
            "`stages.partial_channels` is [6, 5], allowed: numbers that divide the 36 channels of stage 2",
        );
        check(
            |c| c.stages.partial_channels = vec![4, 6],
            "`stages.partial_channels` is [4, 6], allowed: no number, or 2, one for each stage, of which the first is \
             rule.partial_channels, 6",
        );
        check(
            |c| (c.rule.partial_channels, c.stages.partial_channels) = (4, vec![4, 6]),
            "`stages.keep_weights` is true, allowed: false, or stages of the same cells and channels in which partial \
             channels do not grow",
        );
        check(
            |c| c.transition.enabled = true,
            "`stages.partial_channels` is [6, 4], allowed: 1 with `transition.enabled`: an induced model would need \
             operations of all channels",
        );
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
             network.init_channels, of a number that network.stem allows",
        );
        check(
            |c| c.search.epochs = 50_000,
            "`stages.cells` is [5, 11, 17], allowed: 100000 epochs in all stages together",
        );
    }
}
