//! The stages of a search: the state at their beginning, and the change from one to the next.

use burn::tensor::Device;
use ec_darts_space::SearchSpace;
use tracing::info;

use super::Search;
use super::widen::widened;
use crate::Result;
use crate::architect::Architect;
use crate::architecture::ArchitectureParameters;
use crate::config::{AlphaConfig, SearchConfig, StagePlace};
use crate::data::{Purpose, stream_rng};
use crate::network::{Supernet, SupernetConfig};
use crate::ops::Kernels;
use crate::optim::{AdamSettings, WeightOptimizer};
use crate::snapshot::Snapshot;

/// The state at the beginning of a stage.
pub(super) struct Start {
    pub supernet: Supernet,
    pub alpha: ArchitectureParameters,
    pub architect: Architect,
    pub weight_optimizer: WeightOptimizer,
}

impl Start {
    /// New weights and new alpha; they depend only on the stage, not on earlier stages.
    pub fn new(
        config: &SearchConfig,
        stage: usize,
        space: &SearchSpace,
        num_classes: usize,
        device: &Device,
    ) -> Self {
        let network = config.network_of(stage);
        let network = SupernetConfig {
            space: space.clone(),
            stem: network.stem,
            init_channels: network.init_channels,
            num_cells: network.num_cells,
            num_classes,
            form: config.cell_form(stage),
        };
        let rng = |purpose| stream_rng(config.search.seed, purpose, stage as u64, 0);
        let supernet = network.init(&mut rng(Purpose::Weights), device);
        let mut of_alpha = rng(Purpose::Alpha);
        let scale = config.alpha.init_scale;
        let mut alpha = ArchitectureParameters::new(space, scale, &mut of_alpha, device);
        if config.rule.edge_weights {
            alpha = alpha.with_edges(space, scale, &mut of_alpha);
        }
        let architect = Architect::new(config.alpha.learning_rate, &adam(config))
            .with_clip_norm(config.alpha.clip_norm);
        Self {
            supernet,
            alpha,
            architect,
            weight_optimizer: WeightOptimizer::new(&config.weights.sgd()),
        }
    }

    /// The same state with another implementation of operations.
    pub fn with_kernels(self, kernels: Kernels) -> Self {
        Self { supernet: self.supernet.with_kernels(kernels), ..self }
    }
}

fn adam(config: &SearchConfig) -> AdamSettings {
    let AlphaConfig { beta1, beta2, weight_decay, .. } = config.alpha;
    AdamSettings { beta1, beta2, weight_decay }
}

impl Search {
    /// The current stage, and the epoch in it.
    pub(super) fn stage(&self) -> StagePlace {
        self.config.in_stage(self.course.epoch())
    }

    /// The number of the current stage, counted from 1, in a search with several stages.
    pub(super) fn stage_number(&self) -> Option<usize> {
        (self.config.num_stages() > 1).then(|| self.stage().stage + 1)
    }

    /// Whether the current epoch is the first of a stage other than the first.
    pub(super) fn begins_stage(&self) -> bool {
        let StagePlace { stage, epoch } = self.stage();
        stage > 0 && epoch == 0
    }

    /// Moves on to the next stage: every edge loses its weakest candidates, by the strength from
    /// which the genotype is derived.
    ///
    /// # Source
    /// P-DARTS, `train_search.py`, which drops by the softmax of alpha.
    pub(super) fn next_stage(&mut self) -> Result<()> {
        let stage = self.stage().stage;
        let strength = self.config.search.strength;
        let strengths = self.rule().strengths(&self.space, &self.alpha, strength);
        let dropped = self.config.stages.drop[stage - 1];
        let space = self.space.without_weakest(strengths.as_deref(), dropped, false);
        // The epoch's genotype was derived from the same strengths, and the settings leave enough
        // candidates on each edge.
        let space = space.map_err(|_| self.course.non_finite("alpha", self.learning_rate()))?;
        let left = self.config.num_candidates(stage);
        info!("stage {stage} is over: {left} candidates of each edge go on");
        self.course.progress.candidates = Some(space.all_candidates().clone());
        match self.config.stages.keep_weights {
            true => self.go_on_in(space),
            false => self.enter(space),
        }
        Ok(())
    }

    /// Enters the current stage, over the part of the search space that remains, with weights, velocities and alpha
    /// of the stage before.
    ///
    /// # Source
    /// DrNAS, `DARTS-space/train_search_progressive.py`, which keeps the optimizer of alpha too.
    fn go_on_in(&mut self, space: SearchSpace) {
        const NAMES: [&str; 2] = ["supernet", "weight_optimizer"];
        let mut before = Snapshot::default();
        before.save(&self.supernet, NAMES[0]);
        self.weight_optimizer.stepper.save(&self.supernet, NAMES[1], &mut before);
        let alpha = self.alpha.filled(&space, 0.0);
        let alpha = self.alpha.clone().with_operations(alpha);
        let new = Architect::new(self.config.alpha.learning_rate, &adam(&self.config));
        let architect = std::mem::replace(&mut self.architect, new);
        self.enter(space);
        (self.alpha, self.architect) = (alpha, architect);
        let mut after = Snapshot::default();
        after.save(&self.supernet, NAMES[0]);
        let stage = self.stage().stage as u64;
        let rng = stream_rng(self.config.search.seed, Purpose::Widening, stage, 0);
        let mut kept = widened(before, &after, NAMES, rng);
        let fits = "tensors are widened to the shapes of the supernet";
        self.supernet = kept.load(self.supernet.clone(), NAMES[0]).expect(fits);
        let stepper = &mut self.weight_optimizer.stepper;
        stepper.load(&self.supernet, NAMES[1], &mut kept, |_| 1).expect(fits);
    }

    /// The start of the current stage, over the part of the search space that remains.
    pub(super) fn enter(&mut self, space: SearchSpace) {
        let kernels = self.supernet.cells[0].kernels;
        let stage = self.stage().stage;
        let start = Start::new(&self.config, stage, &space, self.num_classes, &self.device);
        let Start { supernet, alpha, architect, weight_optimizer } = start.with_kernels(kernels);
        (self.supernet, self.alpha, self.space) = (supernet, alpha, space);
        (self.architect, self.weight_optimizer) = (architect, weight_optimizer);
    }
}
