//! The report of an epoch of a search, and the decision to end the search early.

use ec_darts_space::{
    CellGenotype, CellKind, Genotype, History, PerKind, Primitive, Ranking, Stop, Verdict,
};

use tracing::debug_span;

use super::{Best, Search};
use crate::Result;
use crate::architecture::{ArchitectureParameters, Strength};
use crate::batch::ImageBatch;
use crate::data::{Purpose, stream_rng};
use crate::objective::Objective;
use crate::spectrum::{Curvature, ROUNDS};
use crate::train::event::{AlphaValues, CellReport, EpochReport};

impl Search {
    pub(super) fn epoch_report(&mut self) -> Result<EpochReport> {
        let genotype_mixing = self.genotype(Strength::Mixing)?;
        let genotype_alpha = self.genotype(Strength::Alpha)?;
        let read = match self.config.search.strength {
            Strength::Mixing => &genotype_mixing,
            Strength::Alpha => &genotype_alpha,
        };
        let epoch = self.course.epoch();
        let progress = &mut self.course.progress;
        if !self.config.transition.enabled {
            progress.best = Some(Best { epoch, accuracy: None, genotype: read.clone() });
        }
        let best_epoch = progress.best.as_ref().map_or(epoch, |best| best.epoch);
        // Weights of edges do not compete with weights of operations.
        let alpha = ArchitectureParameters { edges: None, ..self.alpha.clone() };
        let mixing = self.rule().strengths(&self.space, &alpha, Strength::Mixing);
        let report = |kind| self.cell_report(kind, mixing.cell(kind), read.cell(kind));
        let reports = self.space.topology().per_kind(report);
        let mut warnings = self.warnings(read, &reports);
        let PerKind { normal, reduction } = reports;
        warnings.extend(self.without_discretization());
        let eigenvalue = self.eigenvalue()?;
        if eigenvalue.is_none() && self.measures_eigenvalue() {
            let text =
                "no eigenvalue of the Hessian in alpha: the gradient jumps too near to alpha";
            warnings.push(text.into());
        }
        let progress = &self.course.progress;
        Ok(EpochReport {
            epoch,
            epochs: self.config.num_epochs(),
            stage: self.stage_number(),
            learning_rate: self.learning_rate(),
            train_loss: progress.train.loss(),
            train_accuracy: progress.train.accuracy(),
            valid_loss: progress.valid_loss.of_some(),
            supernet_accuracy: progress.supernet.accuracy(),
            transition: progress.transition.clone(),
            warnings,
            normal,
            reduction,
            eigenvalue,
            cost: progress.costs.as_ref().map(|costs| costs.of(&self.space, read)),
            best_epoch,
            genotype_mixing,
            genotype_alpha,
            alpha: AlphaValues::of(&self.alpha, self.course.progress.candidates.clone()),
        })
    }

    fn measures_eigenvalue(&self) -> bool {
        let every = self.config.rule.eigenvalue_every;
        every.is_some_and(|every| self.course.epoch().is_multiple_of(every))
    }

    /// The dominant eigenvalue of the Hessian in alpha, where this epoch measures it.
    ///
    /// ```text
    /// largest eigenvalue of d^2 L / d alpha^2 + weight decay of alpha
    /// ```
    /// The second term comes from the regularization in the loss that alpha descends.
    ///
    /// # Source
    /// RobustDARTS, section 3; `src/search/analyze.py`.
    fn eigenvalue(&self) -> Result<Option<f64>> {
        if !self.measures_eigenvalue() {
            return Ok(None);
        }
        let (rule, epoch) = (&self.config.rule, self.course.epoch());
        let _span = debug_span!("eigenvalue").entered();
        let batch = self.feed.first_measured(rule.eigenvalue_images)?;
        let batch = ImageBatch::new(batch, &self.device);
        let rule = self.rule().expected();
        let objective = Objective::new(&self.space, &rule);
        let curvature = Curvature::new(objective, &self.supernet, &self.alpha, &batch)?;
        let seed = self.config.search.seed;
        let start = curvature.direction(&mut stream_rng(seed, Purpose::Spectrum, epoch as u64, 0));
        let found = curvature.dominant(&start, ROUNDS);
        Ok(found.map(|largest| largest + self.config.alpha.weight_decay))
    }

    /// Warnings about cells that are collapsing and were not in any earlier epoch.
    fn warnings(&self, genotype: &Genotype, reports: &PerKind<CellReport>) -> Vec<String> {
        let is_new = |(kind, report): &(CellKind, &CellReport)| {
            let before = |earlier: &EpochReport| {
                earlier.cell(*kind).is_collapsing(self.genotype_of(earlier).cell(*kind))
            };
            report.is_collapsing(genotype.cell(*kind)) && !self.history().iter().any(before)
        };
        let warning = |(kind, _)| CellReport::warning(kind, genotype.cell(kind));
        reports.iter().filter(is_new).map(warning).collect()
    }

    fn cell_report(&self, kind: CellKind, mixing: &[f32], genotype: &CellGenotype) -> CellReport {
        CellReport {
            num_skips: genotype.count(|primitive| primitive == Primitive::SkipConnect),
            num_pools: genotype.count(Primitive::is_pool),
            entropy: self.config.search.relaxation.entropy(mixing, &self.space, kind),
            largest_mixing: mixing.iter().copied().fold(0.0, f32::max).into(),
        }
    }

    /// The reason why the genotype of an epoch does not follow the rule's discretization, if so.
    fn without_discretization(&self) -> Option<String> {
        let strength = self.config.search.strength;
        let found = self.rule().genotype_or_edges(&self.space, &self.alpha, strength);
        let (_, reason) = found.ok()?;
        Some(format!("{}; the genotype is that of the strongest edges instead", reason?))
    }

    /// The verdict of the early stop on the epochs so far.
    pub(super) fn verdict(&self) -> Option<Verdict> {
        let stop = self.config.rule.stop?;
        let mut history = History::default();
        // An alpha that does not move tells nothing.
        let first = match stop {
            Stop::Skips { .. } | Stop::Ranking { .. } => self.config.alpha.frozen_epochs,
            Stop::LateSkips { .. } | Stop::Eigenvalue(_) => 0,
        };
        for report in self.history().iter().skip(first) {
            history.skips.push(report.normal.num_skips);
            let flat = |rows: &Vec<Vec<f32>>| rows.concat();
            let AlphaValues { normal, reduction, .. } = &report.alpha;
            let alpha = PerKind { normal, reduction: reduction.as_ref() }.map(flat);
            history.rankings.push(Ranking::new(&self.space, alpha.as_deref()));
            history.eigenvalues.extend(report.eigenvalue.map(|value| (report.epoch, value)));
        }
        let Verdict { noticed, genotype } = stop.verdict(&history)?;
        let is_last = first + noticed + 1 == self.config.num_epochs();
        // The last epoch ends the search in any case, and its own genotype is the result.
        (!is_last).then_some(Verdict { noticed: first + noticed, genotype: first + genotype })
    }

    /// Ends the search with the last closed epoch, where the rule for early stops says so. The
    /// result is the genotype of the epoch that the rule names, unless transitions decide it.
    pub(super) fn stop_early(&mut self) {
        let Some(Verdict { noticed, genotype }) = self.verdict() else { return };
        self.course.end_with(noticed);
        if !self.config.transition.enabled {
            let report = &self.history()[genotype];
            let found = self.genotype_of(report).clone();
            let best = Best { epoch: genotype, accuracy: None, genotype: found };
            self.course.progress.best = Some(best);
        }
    }
}
