//! Trials without costs, for tests: a worker that writes the files of a search or a training.

use std::fs;
use std::path::{Path, PathBuf};

use ec_darts::architecture::random_genotype;
use ec_darts::config::{SearchConfig, Settings};
use ec_darts::data::{Purpose, stream_rng};
use ec_darts::train::{AlphaValues, CellReport, EpochReport, MeasuredOn, RetrainEpochReport};
use ec_darts::{Error, Result};
use ec_darts_space::{Discretization, Genotype};

use crate::genotypes::key;
use crate::run::{Told, Worked, Worker};
use crate::study::Study;
use crate::trial::{Trial, Work};

/// A study in a temporary folder.
pub struct Folder(tempfile::TempDir);

pub const PROTOCOL: &str = "training_seeds = [0, 1]\n[retrain]\nbase = \"retrain_quick\"\n";

pub const STUDY: &str = "kind = \"ablation\"\nprotocol = \"p.toml\"\nseeds = [0, 1]\n\
    [[variants]]\nname = \"darts\"\nsearch = \"darts\"\n\
    [[variants]]\nname = \"random\"\nrandom = [0, 1, 2]\n";

impl Folder {
    /// A folder with `study` as `s.toml` and [`PROTOCOL`] as `p.toml`.
    pub fn new(study: &str) -> Self {
        let folder = Self(tempfile::tempdir().expect("a folder"));
        folder.write("s.toml", study);
        folder.write("p.toml", PROTOCOL);
        folder
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).expect("written");
    }

    pub fn study(&self) -> Result<Study> {
        Study::open(&self.0.path().join("s.toml"))
    }

    pub fn out(&self) -> PathBuf {
        self.0.path().join("out")
    }
}

/// Work of a fake worker on a trial.
pub type Act<'a> = &'a (dyn Fn(&Trial) -> Result<Worked> + Sync);

/// Records its trials, and writes results that follow from a trial alone.
pub struct Fake<'a> {
    pub worked: Vec<String>,
    pub act: Act<'a>,
}

impl<'a> Fake<'a> {
    pub fn new(act: Act<'a>) -> Self {
        Self { worked: Vec::new(), act }
    }
}

impl Worker for Fake<'_> {
    type Error = Error;

    fn work(&mut self, trial: &Trial, folder: &Path) -> Result<Worked> {
        self.worked.push(trial.name.clone());
        match &trial.work {
            Work::Search(config) => fs::write(folder.join("config.toml"), config.to_toml()),
            Work::Training { config, .. } => {
                fs::write(folder.join("config.toml"), config.to_toml())
            }
        }
        .expect("written");
        let worked = (self.act)(trial)?;
        if matches!(worked, Worked::Finished) {
            match &trial.work {
                Work::Search(config) => search(config, folder),
                Work::Training { genotype, config } => {
                    training(genotype, config.retrain.seed, folder)
                }
            }
        }
        Ok(worked)
    }

    fn tell(&mut self, _told: Told) -> Result<()> {
        Ok(())
    }
}

/// The genotype of a fake search in an epoch: the same for seeds 0 and 1, except the order of
/// picks.
pub fn found(config: &SearchConfig, epoch: usize) -> Genotype {
    let space = config.network.space().expect("a space");
    let rng = &mut stream_rng(config.search.seed / 2, Purpose::Genotype, epoch as u64, 0);
    let mut genotype = random_genotype(&space, Discretization::Edges, rng);
    if config.search.seed % 2 == 1 {
        genotype.normal.nodes.iter_mut().for_each(|picks| picks.reverse());
    }
    genotype
}

fn search(config: &SearchConfig, folder: &Path) {
    let epochs = config.search.epochs;
    let edges = config.network.space().expect("a space").topology().num_edges();
    let columns = config.network.primitives.len();
    let rows = |from: usize| -> Vec<Vec<f32>> {
        let value = |edge, column| ((edge * 7 + column * 5 + from) % 11) as f32 / 11.0;
        (0..edges).map(|edge| (0..columns).map(|column| value(edge, column)).collect()).collect()
    };
    let cell = CellReport { num_skips: 0, num_pools: 0, entropy: 0.5, largest_mixing: 0.2 };
    let report = |epoch: usize| EpochReport {
        epoch,
        epochs,
        stage: None,
        learning_rate: 0.1,
        train_loss: 1.0,
        train_accuracy: 0.5,
        valid_loss: None,
        supernet_accuracy: 0.3 + 0.01 * epoch as f64,
        transition: None,
        genotype_mixing: found(config, epoch),
        genotype_alpha: found(config, epoch),
        normal: cell.clone(),
        reduction: Some(cell.clone()),
        eigenvalue: None,
        cost: None,
        best_epoch: epoch,
        warnings: Vec::new(),
        alpha: AlphaValues {
            normal: rows(0),
            reduction: Some(rows(3)),
            edges: None,
            candidates: None,
        },
    };
    let lines = (0..epochs).map(|epoch| serde_json::to_string(&report(epoch)).expect("plain"));
    fs::write(folder.join("metrics.jsonl"), lines.collect::<Vec<_>>().join("\n")).expect("written");
    let best = found(config, epochs - 1);
    fs::write(folder.join("genotype.json"), best.to_json()).expect("written");
}

fn training(genotype: &Genotype, seed: u64, folder: &Path) {
    let digits = u32::from_str_radix(&key(genotype)[..6], 16).expect("digits");
    let accuracy = f64::from(digits) / f64::from(1 << 24) + 1e-3 * seed as f64;
    let report = RetrainEpochReport {
        epoch: 0,
        epochs: 1,
        learning_rate: 0.1,
        drop_path: 0.0,
        train_loss: 1.0,
        train_accuracy: 0.5,
        valid_accuracy: Some(accuracy),
        valid_top5: Some(1.0),
        measured_on: Some(MeasuredOn::Test),
    };
    let line = serde_json::to_string(&report).expect("plain");
    fs::write(folder.join("metrics.jsonl"), line).expect("written");
    fs::write(folder.join("genotype.json"), genotype.to_json()).expect("written");
}
