//! Checks of the values of settings.

use super::{DataConfig, RunConfig, SearchConfig, Settings, SettingsKind};
use crate::network::{EvaluationConfig, Skeleton, StemKind, check_size};
use crate::{Error, Result};

/// Upper limit of counts without a natural one: TOML can hold it, and sums of such counts do not
/// overflow.
pub(super) const MOST: usize = 1_000_000_000;

/// Returns an error unless the value is allowed.
pub(super) fn require(
    origin: &str,
    holds: bool,
    key: &str,
    value: &dyn ToString,
    allowed: &str,
) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(Error::ConfigValue {
        origin: origin.to_string(),
        key: key.to_string(),
        value: value.to_string(),
        allowed: allowed.to_string(),
    })
}

/// An error about a value, with `origin` as its origin.
fn of_origin(origin: &str, error: Error) -> Error {
    match error {
        Error::ConfigValue { key, value, allowed, .. } => {
            Error::ConfigValue { origin: origin.to_string(), key, value, allowed }
        }
        other => other,
    }
}

/// Returns an error unless images of these settings pass through a network.
pub(super) fn check_side(
    origin: &str,
    data: &DataConfig,
    stem: StemKind,
    with_head: bool,
) -> Result<()> {
    let Some(side) = data.side() else { return Ok(()) };
    check_size(stem, [side; 2], with_head).map_err(|error| of_origin(origin, error))
}

/// Returns an error unless a skeleton can have this number of cells.
pub(super) fn check_cells(origin: &str, key: &str, skeleton: Skeleton, cells: usize) -> Result<()> {
    let (fits, allowed) = match skeleton {
        // Reductions stand at num_cells / 3 and 2 num_cells / 3. With one cell both are the same
        // cell; with two, all cells are reductions, and alpha of the normal cell has no gradient.
        Skeleton::Darts => (true, "3 to 64: two reductions and at least one normal cell"),
        Skeleton::NasBench201 => {
            (cells.is_multiple_of(3), "3 to 63, a multiple of 3: as many in each of three stages")
        }
    };
    require(origin, fits && (3..=64).contains(&cells), key, &cells, allowed)
}

/// Returns an error unless a skeleton allows a stem.
fn check_stem(origin: &str, skeleton: Skeleton, stem: StemKind) -> Result<()> {
    let fits = skeleton == Skeleton::Darts || stem != StemKind::Imagenet;
    let allowed =
        "cifar or stride2 with `network.skeleton = \"nas-bench-201\"`, whose cells read one state";
    require(origin, fits, "network.stem", &"imagenet", allowed)
}

impl EvaluationConfig {
    /// Checks every value of settings or of a file; errors name `origin`.
    ///
    /// # Errors
    /// [`Error::ConfigValue`] for the first value that is not allowed.
    pub fn validate(&self, origin: &str) -> Result<()> {
        let require = |holds, key: &str, value: &dyn ToString, allowed: &str| {
            require(origin, holds, key, value, allowed)
        };
        let (channels, cells) = (self.init_channels, self.num_cells);
        let fits = (2..=4096).contains(&channels) && channels.is_multiple_of(2);
        require(fits, "network.init_channels", &channels, "2 to 4096, even")?;
        check_cells(origin, "network.num_cells", self.skeleton, cells)?;
        check_stem(origin, self.skeleton, self.stem)?;
        let classes = self.num_classes;
        // Labels take two bytes.
        require((1..=65_536).contains(&classes), "num_classes", &classes, "1 to 65536")
    }
}

impl RunConfig {
    /// Checks the section `run`.
    pub(super) fn validate(&self, origin: &str) -> Result<()> {
        let require = |holds, key: &str, value: &dyn ToString, allowed: &str| {
            require(origin, holds, key, value, allowed)
        };
        let (steps, workers) = (self.checkpoint_steps, self.workers);
        let fits = (1..=MOST).contains(&steps);
        require(fits, "run.checkpoint_steps", &steps, "1 to 1000000000")?;
        require(workers <= 64, "run.workers", &workers, "0 to 64 threads")
    }
}

impl Settings for SearchConfig {
    const KIND: SettingsKind = SettingsKind::Search;
    const PAPER: &'static str = "search_cifar10";

    fn run(&self) -> &RunConfig {
        &self.run
    }

    fn data(&self) -> &DataConfig {
        &self.data
    }

    fn validate(&self, origin: &str) -> Result<()> {
        let require = |holds, key: &str, value: &dyn ToString, allowed: &str| {
            require(origin, holds, key, value, allowed)
        };
        let finite = f64::is_finite;
        self.data.validate(origin)?;

        let network = &self.network;
        let (channels, cells) = (network.init_channels, network.num_cells);
        let even = channels.is_multiple_of(2) || network.stem != StemKind::Imagenet;
        let allowed = "1 to 1024; even with the imagenet stem, which halves it";
        require(
            (1..=1024).contains(&channels) && even,
            "network.init_channels",
            &channels,
            allowed,
        )?;
        check_cells(origin, "network.num_cells", network.skeleton, cells)?;
        check_stem(origin, network.skeleton, network.stem)?;
        let nodes = network.num_nodes;
        require((1..=12).contains(&nodes), "network.num_nodes", &nodes, "1 to 12")?;
        let kept = network.edges_kept;
        require((1..=13).contains(&kept), "network.edges_kept", &kept, "1 to 13")?;
        network.space().map_err(|error| of_origin(origin, error))?;
        check_side(origin, &self.data, network.stem, false)?;

        let search = &self.search;
        let fraction = search.train_fraction;
        let inside = 0.0 < fraction && fraction < 1.0;
        require(inside, "search.train_fraction", &fraction, "0 < train_fraction < 1")?;
        if let Some(rest) = search.valid_fraction {
            let fits = rest > 0.0 && fraction + rest <= 1.0 + 1e-9;
            let allowed = "above 0, with train_fraction at most 1, or omitted for the rest";
            require(fits, "search.valid_fraction", &rest, allowed)?;
        }
        let range = |value: usize, most: usize| (1..=most).contains(&value);
        let allowed = "1 to 100000";
        require(range(search.epochs, 100_000), "search.epochs", &search.epochs, allowed)?;
        let allowed = "1 to 65536";
        require(
            range(search.batch_size, 65_536),
            "search.batch_size",
            &search.batch_size,
            allowed,
        )?;
        let allowed = "1 to 1000000000, or omitted for no cap";
        for (key, cap) in [
            ("search.steps_per_epoch", search.steps_per_epoch),
            ("search.measured_images", search.measured_images),
        ] {
            if let Some(cap) = cap {
                require(range(cap, MOST), key, &cap, allowed)?;
            }
        }
        let allowed = "0 to 9223372036854775807";
        require(i64::try_from(search.seed).is_ok(), "search.seed", &search.seed, allowed)?;

        self.weights.validate(origin, "search", search.epochs)?;
        let alpha = &self.alpha;
        if let Some(clip) = alpha.clip_norm {
            let allowed = "a finite number above 0, or omitted for no clipping";
            require(finite(clip) && clip > 0.0, "alpha.clip_norm", &clip, allowed)?;
        }
        let rate = alpha.learning_rate;
        let allowed = "a finite number above 0, per step";
        require(finite(rate) && rate > 0.0, "alpha.learning_rate", &rate, allowed)?;
        for (key, beta) in [("alpha.beta1", alpha.beta1), ("alpha.beta2", alpha.beta2)] {
            require((0.0..1.0).contains(&beta), key, &beta, "0 <= beta < 1")?;
        }
        for (key, value) in
            [("alpha.weight_decay", alpha.weight_decay), ("alpha.init_scale", alpha.init_scale)]
        {
            require(finite(value) && value >= 0.0, key, &value, "a finite number, 0 or more")?;
        }

        let frozen = alpha.frozen_epochs;
        require(
            frozen < search.epochs,
            "alpha.frozen_epochs",
            &frozen,
            "0 to below search.epochs",
        )?;
        require(range(alpha.every, MOST), "alpha.every", &alpha.every, "1 to 1000000000")?;
        self.validate_stages(origin)?;
        self.validate_rule(origin)?;

        self.run.validate(origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::is_reduction;

    fn check(change: impl Fn(&mut SearchConfig), expected: &str) {
        let mut config = SearchConfig::cifar10();
        change(&mut config);
        let error = config.validate("a.toml").expect_err(expected).to_string();
        assert!(error.starts_with(&format!("a.toml: `{expected}` is ")), "{error}");
        assert!(error.contains(", allowed: "), "{error}");
    }

    #[test]
    fn every_value_has_a_range() {
        check(|c| c.search.train_fraction = 0.0, "search.train_fraction");
        check(|c| c.search.train_fraction = f64::NAN, "search.train_fraction");
        check(|c| c.data.train_images = Some(1), "data.train_images");
        check(|c| c.data.crop_padding = 33, "data.crop_padding");
        check(|c| c.data.cutout = Some(0), "data.cutout");
        check(|c| c.search.valid_fraction = Some(0.0), "search.valid_fraction");
        check(|c| c.search.valid_fraction = Some(0.51), "search.valid_fraction");
        check(|c| c.network.init_channels = 0, "network.init_channels");
        let odd = |c: &mut SearchConfig| {
            (c.network.stem, c.network.init_channels) = (StemKind::Imagenet, 15);
        };
        check(odd, "network.init_channels");
        check(|c| c.data.image_size = Some(30), "network.stem");
        check(|c| c.network.primitives.push(c.network.primitives[0]), "network.primitives");
        check(|c| c.network.num_cells = 2, "network.num_cells");
        check(|c| c.network.num_cells = 65, "network.num_cells");
        let benchmark = |c: &mut SearchConfig| c.network.skeleton = Skeleton::NasBench201;
        check(benchmark, "network.num_cells");
        let two_states = |c: &mut SearchConfig| {
            (c.network.skeleton, c.network.num_cells) = (Skeleton::NasBench201, 6);
            (c.network.stem, c.data.image_size) = (StemKind::Imagenet, Some(64));
        };
        check(two_states, "network.stem");
        let costed = |c: &mut SearchConfig| {
            (c.network.skeleton, c.network.num_cells) = (Skeleton::NasBench201, 6);
            c.rule.cost = Some(crate::cost::CostMeasure::Parameters);
        };
        check(costed, "rule.cost_cells");
        let staged = |c: &mut SearchConfig| {
            (c.network.skeleton, c.network.num_cells, c.rule.cost_cells) =
                (Skeleton::NasBench201, 6, 15);
            (c.stages.cells, c.stages.drop) = (vec![6, 7], vec![1]);
        };
        check(staged, "stages.cells");
        check(|c| c.network.num_nodes = 0, "network.num_nodes");
        check(|c| c.network.edges_kept = 0, "network.edges_kept");
        check(|c| c.network.primitives.clear(), "network.primitives");
        check(|c| c.search.epochs = 0, "search.epochs");
        check(|c| c.search.batch_size = 0, "search.batch_size");
        check(|c| c.search.steps_per_epoch = Some(0), "search.steps_per_epoch");
        check(|c| c.search.measured_images = Some(0), "search.measured_images");
        check(|c| c.search.measured_images = Some(usize::MAX), "search.measured_images");
        check(|c| c.search.seed = u64::MAX, "search.seed");
        check(|c| c.weights.learning_rate = f64::INFINITY, "weights.learning_rate");
        check(|c| c.weights.min_learning_rate = 0.1, "weights.min_learning_rate");
        check(|c| c.weights.momentum = 1.0, "weights.momentum");
        check(|c| c.weights.weight_decay = -1.0, "weights.weight_decay");
        check(|c| c.weights.clip_norm = Some(0.0), "weights.clip_norm");
        check(|c| c.weights.warmup_epochs = 25, "weights.warmup_epochs");
        check(|c| c.alpha.clip_norm = Some(f64::NAN), "alpha.clip_norm");
        check(|c| c.alpha.learning_rate = 0.0, "alpha.learning_rate");
        check(|c| c.alpha.beta1 = 1.0, "alpha.beta1");
        check(|c| c.alpha.beta2 = -0.1, "alpha.beta2");
        check(|c| c.alpha.weight_decay = f64::NAN, "alpha.weight_decay");
        check(|c| c.alpha.init_scale = -1.0, "alpha.init_scale");
        check(|c| c.run.checkpoint_steps = 0, "run.checkpoint_steps");
        check(|c| c.run.workers = 65, "run.workers");
    }

    #[test]
    fn every_value_of_a_network_has_a_range() {
        let network = |change: fn(&mut EvaluationConfig)| {
            let mut config = EvaluationConfig {
                skeleton: Skeleton::Darts,
                stem: StemKind::Cifar,
                init_channels: 36,
                num_cells: 20,
                num_classes: 10,
            };
            change(&mut config);
            config.validate("model.safetensors").err().map(|error| error.to_string())
        };
        assert_eq!(network(|_| ()), None);
        let told = network(|c| c.num_classes = 1_000_000).expect("too many");
        let expected = "model.safetensors: `num_classes` is 1000000, allowed: 1 to 65536";
        assert_eq!(told, expected);
        assert!(network(|c| c.num_cells = 1000).is_some_and(|told| told.contains("3 to 64")));
        assert!(network(|c| c.init_channels = 1 << 63).is_some_and(|told| told.contains("4096")));
    }

    #[test]
    fn any_allowed_number_of_cells_has_two_reductions_and_a_normal_cell() {
        for cells in 3..=64 {
            let reductions = (0..cells).filter(|&cell| is_reduction(cell, cells)).count();
            assert_eq!(reductions, 2, "{cells} cells");
        }
    }
}
