//! Collects the results of a study from its folder.

use std::path::Path;

#[cfg(doc)]
use ec_darts::Error;
use ec_darts::Result;
use ec_darts::config::SearchConfig;
use ec_darts::train::folder::metrics;
use ec_darts::train::{MeasuredOn, RetrainEpochReport};

use crate::genotypes::{key, returned};
use crate::plan::{Plan, epochs, scores, training};
use crate::results::{Results, SearchResult, TrainingResult, Unfinished};
use crate::study::Study;
use crate::trial::{Record, State, Work, damaged, unread};

impl Results {
    /// Results of a study's finished trials.
    ///
    /// # Errors
    /// [`Error::Folder`] where the folder has trials with other settings, or where a finished one
    /// cannot be read; [`Error::Io`].
    pub fn read(study: &Study, folder: &Path) -> Result<Self> {
        let mut plan = Plan::of(study, Some(folder))?;
        let seeds = &study.protocol.training_seeds;
        for candidate in &mut plan.candidates {
            let trainings =
                seeds.iter().map(|&seed| of_training(folder, &candidate.genotype, seed));
            let done = trainings.collect::<Result<Vec<_>>>()?;
            candidate.trainings = done.into_iter().flatten().collect();
        }
        let (mut searches, mut unfinished) = (Vec::new(), Vec::new());
        for trial in &plan.trials {
            let error = match (trial.state(folder), &trial.work) {
                (State::Done, Work::Search(config)) => {
                    searches.push(of_search(folder, &trial.name, config)?);
                    continue;
                }
                (State::Done, Work::Training { .. }) => continue,
                (State::Failed { error }, _) => Some(error),
                _ => None,
            };
            let cost = Record::read(&folder.join(&trial.name)).unwrap_or_default().cost;
            unfinished.push(Unfinished { trial: trial.name.clone(), error, cost });
        }
        Ok(Self {
            study: study.name.clone(),
            kind: study.kind,
            protocol: study.protocol.name.clone(),
            training_seeds: seeds.clone(),
            variants: study.variants.iter().map(|variant| variant.name.clone()).collect(),
            searches,
            candidates: plan.candidates,
            unfinished,
        })
    }
}

fn of_search(folder: &Path, name: &str, config: &SearchConfig) -> Result<SearchResult> {
    let run = folder.join(name);
    let reports = epochs(config, &run)?;
    let variant = name.trim_start_matches("searches/").rsplit_once("-s");
    Ok(SearchResult {
        variant: variant.map_or(name, |(variant, _)| variant).to_string(),
        seed: config.search.seed,
        folder: name.into(),
        genotype: key(&returned(&run).map_err(unread(&run))?),
        epochs: reports.iter().map(|report| scores(report, config.search.strength)).collect(),
        cost: Record::read(&run).unwrap_or_default().cost,
    })
}

/// The result of a training; none where it is not done.
fn of_training(folder: &Path, genotype: &str, seed: u64) -> Result<Option<TrainingResult>> {
    let name = training(genotype, seed);
    let run = folder.join(&name);
    let Some(record) = Record::read(&run).filter(Record::is_done) else { return Ok(None) };
    let reports = metrics::<RetrainEpochReport>(&run).map_err(unread(&run))?;
    let is_whole = reports.iter().enumerate().all(|(at, report)| report.epoch == at)
        && reports.last().is_some_and(|last| last.epochs == reports.len());
    let last = reports.last().and_then(|last| Some((last.valid_accuracy?, last.measured_on?)));
    let Some((accuracy, on)) = last.filter(|_| is_whole) else {
        return Err(damaged(
            &run,
            &"metrics.jsonl does not end with the accuracy of the last epoch",
        ));
    };
    let on_test = on == MeasuredOn::Test;
    Ok(Some(TrainingResult { seed, folder: name.into(), accuracy, on_test, cost: record.cost }))
}
