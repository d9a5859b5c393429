//! A retraining in a run folder.

use tracing::info;

use super::{Measured, RetrainEvent, RetrainProgress, Retraining};
use crate::Result;
use crate::config::RetrainConfig;
use crate::train::course::Course;
use crate::train::event::Done;
use crate::train::folder::{Renewed, RunFolder};
use crate::train::job::{Job, MODEL};

impl Job for Retraining {
    type Config = RetrainConfig;
    type Progress = RetrainProgress;
    type Output = Measured;

    fn config(&self) -> &RetrainConfig {
        self.config()
    }

    fn course(&mut self) -> &mut Course<RetrainProgress> {
        &mut self.course
    }

    fn work(&mut self) -> Result<Done> {
        self.work()
    }

    fn save(&mut self) -> Result<Vec<u8>> {
        self.save()
    }

    fn record(&self, event: &RetrainEvent, folder: &mut RunFolder) -> Result<()> {
        match event {
            RetrainEvent::Step(_) => Ok(()),
            RetrainEvent::Epoch(report) => {
                folder.write_metrics(self.history())?;
                folder.write_genotype(self.genotype())?;
                info!("epoch {} of {} is over", report.epoch + 1, report.epochs);
                Ok(())
            }
        }
    }

    fn renew(&self, folder: &RunFolder, _certain: usize) -> Result<Option<Renewed>> {
        folder.write_genotype(self.genotype()).map(|()| None)
    }

    fn finish(&self, folder: &mut RunFolder) -> Result<Measured> {
        self.model().save(&folder.path().join(MODEL))?;
        Ok(self.measured().cloned().expect("the last epoch is measured"))
    }
}
