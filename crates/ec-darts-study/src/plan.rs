//! The trials of a study. They follow from its file; trainings also follow from the results of the
//! searches.

use std::path::Path;

#[cfg(doc)]
use ec_darts::Error;
use ec_darts::Result;
use ec_darts::architecture::{Strength, random_genotype};
use ec_darts::config::{LoopConfig, SearchConfig};
use ec_darts::data::{Purpose, stream_rng};
use ec_darts::device::DeviceName;
use ec_darts::train::folder::metrics;
use ec_darts::train::{EpochReport, SavedAlpha};
use ec_darts_space::Genotype;

use crate::genotypes::{canonical, key, other_edges, returned};
use crate::results::{Candidate, EpochScores, Kind, Place};
use crate::study::{Origin, Study};
use crate::trial::{Record, Trial, Work, damaged, unread};

/// The known trials of a study, and its known genotypes.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Searches, then trainings, those of the first training seed first; each folder once.
    pub trials: Vec<Trial>,
    /// The known genotypes of the study's question, without their trainings.
    pub candidates: Vec<Candidate>,
    /// Names of unfinished searches, whose genotypes are unknown.
    pub waiting: Vec<String>,
}

impl Plan {
    /// The trials of a study with this folder; without a folder, those that follow from the file
    /// alone.
    ///
    /// # Errors
    /// [`Error::Folder`] where the folder has a trial with other settings; [`Error::Io`] and
    /// [`Error::Folder`] where a finished search cannot be read.
    pub fn of(study: &Study, folder: Option<&Path>) -> Result<Self> {
        let mut plan = Self { trials: Vec::new(), candidates: Vec::new(), waiting: Vec::new() };
        let mut genotypes: Vec<Genotype> = Vec::new();
        for variant in &study.variants {
            let mut add = |candidate: Candidate, genotype| {
                plan.candidates.push(candidate);
                genotypes.push(genotype);
            };
            match &variant.origin {
                Origin::Given(all) => {
                    for (name, genotype) in all {
                        let name = (all.len() > 1).then(|| name.clone());
                        let place = Place::Given { name };
                        add(candidate(&variant.name, place, genotype), genotype.clone())
                    }
                }
                Origin::Random { seeds, space, discretization } => {
                    for &seed in seeds {
                        let rng = &mut stream_rng(seed, Purpose::Genotype, 0, 0);
                        let genotype = random_genotype(space, *discretization, rng);
                        add(candidate(&variant.name, Place::Random { seed }, &genotype), genotype)
                    }
                }
                Origin::Search(config) => {
                    for &seed in &study.seeds {
                        let mut config = config.clone();
                        config.search.seed = seed;
                        let name = format!("searches/{}-s{seed}", variant.name);
                        let trial = Trial { name, work: Work::Search(config.clone()) };
                        let is_done = |study: &&Path| {
                            Record::read(&study.join(&trial.name)).is_some_and(|it| it.is_done())
                        };
                        match folder.filter(is_done) {
                            Some(folder) => {
                                trial.check(folder)?;
                                let run = folder.join(&trial.name);
                                let found = found(study, &variant.name, &config, &run);
                                found?.into_iter().for_each(|(one, genotype)| add(one, genotype));
                            }
                            None => plan.waiting.push(trial.name.clone()),
                        }
                        plan.trials.push(trial);
                    }
                }
            }
        }
        plan.add_trainings(study, &genotypes);
        if let Some(folder) = folder {
            plan.trials.iter().try_for_each(|trial| trial.check(folder))?;
        }
        Ok(plan)
    }

    /// Adds trainings; equal genotypes have one training with each seed.
    fn add_trainings(&mut self, study: &Study, genotypes: &[Genotype]) {
        for &seed in &study.protocol.training_seeds {
            for (candidate, genotype) in self.candidates.iter().zip(genotypes) {
                let name = training(&candidate.genotype, seed);
                if self.trials.iter().any(|trial| trial.name == name) {
                    continue;
                }
                let mut config = Box::new(study.protocol.retrain.clone());
                config.retrain.seed = seed;
                let genotype = canonical(genotype);
                self.trials.push(Trial { name, work: Work::Training { genotype, config } });
            }
        }
    }
}

/// The path of a training's run folder in the folder of the study.
pub(crate) fn training(key: &str, seed: u64) -> String {
    format!("trainings/{key}-s{seed}")
}

fn candidate(variant: &str, place: Place, genotype: &Genotype) -> Candidate {
    Candidate {
        variant: variant.to_string(),
        place,
        genotype: key(genotype),
        supernet_accuracy: None,
        auxiliary_accuracy: None,
        operation_weight: None,
        trainings: Vec::new(),
    }
}

/// Genotypes of a finished search that the study asks about.
fn found(
    study: &Study,
    variant: &str,
    config: &SearchConfig,
    run: &Path,
) -> Result<Vec<(Candidate, Genotype)>> {
    let LoopConfig { seed, strength, .. } = config.search;
    let reports = epochs(config, run)?;
    let of_epoch = |report: &EpochReport, place| {
        let genotype = genotype_of(report, strength).clone();
        let scores = scores(report, strength);
        let supernet_accuracy = Some(scores.supernet_accuracy);
        let auxiliary_accuracy = scores.auxiliary_accuracy;
        let bare = candidate(variant, place, &genotype);
        (Candidate { supernet_accuracy, auxiliary_accuracy, ..bare }, genotype)
    };
    let last = reports.last().expect("checked on the line above");
    let genotype = returned(run).map_err(unread(run))?;
    let scores_of_all = reports.iter().map(|report| scores(report, strength));
    let all: Vec<EpochScores> = scores_of_all.collect();
    // Without transitions, an early stop decides on the epoch after the last report.
    let best = match config.rule.stop {
        Some(_) if !config.transition.enabled => EpochScores::returned(&all, &key(&genotype)),
        _ => all.get(last.best_epoch).filter(|best| best.genotype == key(&genotype)),
    };
    let Some(best) = best.map(|best| &reports[best.epoch - 1]) else {
        return Err(damaged(run, &"genotype.json is not that of the best epoch in metrics.jsonl"));
    };
    Ok(match study.kind {
        Kind::Ablation | Kind::Searches => {
            let (candidate, _) = of_epoch(best, Place::Search { seed });
            vec![(Candidate { genotype: key(&genotype), ..candidate }, genotype)]
        }
        Kind::Epochs => {
            let chosen = spread(reports.len(), study.epochs).into_iter();
            let place = |epoch| Place::Epoch { seed, epoch: epoch + 1 };
            chosen.map(|epoch| of_epoch(&reports[epoch], place(epoch))).collect()
        }
        Kind::Edges => {
            let fail = |error: ec_darts_space::Error| damaged(run, &error);
            let of_edges = other_edges(&saved_alpha(run)?).map_err(fail)?;
            let of_edges = of_edges.into_iter().map(|other| {
                let place = Place::Edges { seed, from: other.from, kept: other.kept };
                let (bare, _) = of_epoch(last, place);
                let operation_weight = Some(other.weight);
                let genotype = key(&other.genotype);
                (Candidate { genotype, operation_weight, ..bare }, other.genotype)
            });
            of_edges.collect()
        }
    })
}

/// The reports of a finished search, one for each epoch. Only an early stop leaves epochs out.
pub(crate) fn epochs(config: &SearchConfig, run: &Path) -> Result<Vec<EpochReport>> {
    let reports = metrics::<EpochReport>(run).map_err(unread(run))?;
    let (count, all) = (reports.len(), config.num_epochs());
    let ends = count == all || (config.rule.stop.is_some() && (1..all).contains(&count));
    if !ends || reports.iter().enumerate().any(|(at, report)| report.epoch != at) {
        return Err(damaged(run, &format!("metrics.jsonl has {count} of {all} epochs")));
    }
    Ok(reports)
}

/// Alpha at the end of a search.
fn saved_alpha(run: &Path) -> Result<SavedAlpha> {
    // Alpha is two small matrices, for which no GPU has to start.
    let cpu = DeviceName::Flex;
    let device = DeviceName::open_or_best(cpu.is_compiled().then_some(cpu))?.device;
    SavedAlpha::read(run, None, &device)
}

/// The genotype whose accuracy an epoch measured: the auxiliary model's where there was one.
fn genotype_of(report: &EpochReport, strength: Strength) -> &Genotype {
    match (&report.transition, strength) {
        (Some(transition), _) => &transition.genotype,
        (None, Strength::Mixing) => &report.genotype_mixing,
        (None, Strength::Alpha) => &report.genotype_alpha,
    }
}

/// The measured figures of a search in an epoch.
pub(crate) fn scores(report: &EpochReport, strength: Strength) -> EpochScores {
    EpochScores {
        epoch: report.epoch + 1,
        genotype: key(genotype_of(report, strength)),
        supernet_accuracy: report.supernet_accuracy,
        auxiliary_accuracy: report.transition.as_ref().map(|transition| transition.valid_accuracy),
        entropy: mean_entropy(report),
    }
}

/// The mean entropy over the kinds of cell of the network.
fn mean_entropy(report: &EpochReport) -> f64 {
    let normal = report.normal.entropy;
    report.reduction.as_ref().map_or(normal, |cell| (normal + cell.entropy) / 2.0)
}

/// The numbers of `count` epochs of a search, evenly spread, including the last; all epochs where
/// there are not more.
fn spread(epochs: usize, count: usize) -> Vec<usize> {
    let count = count.min(epochs);
    (1..=count).map(|number| number * epochs / count - 1).collect()
}

#[cfg(test)]
mod tests;
