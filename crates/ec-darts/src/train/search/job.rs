//! A search in a run folder.

use tracing::{info, warn};

use super::{Best, Search, SearchProgress};
use crate::Result;
use crate::config::SearchConfig;
use crate::train::course::Course;
use crate::train::event::{Done, Event};
use crate::train::folder::{Renewed, RunFolder};
use crate::train::job::Job;

impl Job for Search {
    type Config = SearchConfig;
    type Progress = SearchProgress;
    type Output = Best;

    fn config(&self) -> &SearchConfig {
        self.config()
    }

    fn course(&mut self) -> &mut Course<SearchProgress> {
        &mut self.course
    }

    fn work(&mut self) -> Result<Done> {
        self.work()
    }

    fn save(&mut self) -> Result<Vec<u8>> {
        self.save()
    }

    fn record(&self, event: &Event, folder: &mut RunFolder) -> Result<()> {
        match event {
            Event::Step(_) => Ok(()),
            Event::Transition(report) => {
                let verdict = if report.accepted { "returned" } else { "dropped" };
                let accuracy = report.valid_accuracy;
                let epoch = report.epoch + 1;
                info!(
                    "epoch {epoch}: auxiliary model {verdict} at validation accuracy {accuracy:.4}"
                );
                Ok(())
            }
            Event::Epoch(report) => {
                folder.write_metrics(self.history())?;
                folder.write_epoch_genotype(report.epoch, self.genotype_of(report))?;
                folder.write_genotype(&self.best().expect("an epoch is over").genotype)?;
                info!("epoch {} of {} is over", report.epoch + 1, report.epochs);
                report.warnings.iter().for_each(|warning| warn!("{warning}"));
                Ok(())
            }
        }
    }

    fn renew(&self, folder: &RunFolder, certain: usize) -> Result<Option<Renewed>> {
        let genotypes = self.history().iter().map(|report| self.genotype_of(report));
        let renewed = folder.renew_epoch_genotypes(genotypes, certain)?;
        if let Some(best) = self.best() {
            folder.write_genotype(&best.genotype)?;
        }
        Ok(renewed)
    }

    fn finish(&self, _folder: &mut RunFolder) -> Result<Best> {
        Ok(self.best().cloned().expect("a search has at least one epoch"))
    }
}
