//! Reads the content of a folder. Run folders may be unfinished or of another version, so a file
//! that cannot be read leaves a gap and is named.

use std::fs;
use std::path::Path;

use anyhow::ensure;
use ec_darts::config::{RetrainConfig, SearchConfig, Settings};
use ec_darts::data::DatasetKind;
use ec_darts::network::{EvaluationConfig, check_size};
use ec_darts::train::{EpochReport, RetrainEpochReport};
use ec_darts_space::Genotype;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::evaluate::Report;
use crate::images::DataFile;

pub type Search = Run<SearchConfig, EpochReport>;
pub type Retraining = Run<RetrainConfig, RetrainEpochReport>;

/// The content of a report.
pub struct Material {
    /// The last part of the folder's path.
    pub name: String,
    pub search: Option<Search>,
    pub retrain: Option<Retraining>,
    /// The content of `evaluation.json`.
    pub evaluation: Option<Report>,
    /// The images of the runs: `data.json` of each.
    pub data: Vec<DataFile>,
    /// The pictures of mistakes, as PNG files; none for a picture that cannot be read.
    pub pictures: Vec<Option<Vec<u8>>>,
    /// Files that exist and could not be read.
    pub problems: Vec<String>,
}

/// A run folder of a search or of a retraining: its settings `C`, a report `E` of each epoch.
pub struct Run<C, E> {
    pub config: Option<C>,
    pub config_text: Option<String>,
    pub metrics: Vec<E>,
    pub sessions: Vec<Session>,
    pub genotype: Option<Genotype>,
    /// The genotype of each epoch; only for a search.
    pub epochs: Vec<Genotype>,
}

/// One start of the program in a run folder.
#[derive(Deserialize)]
pub struct Session {
    pub started: String,
    pub device: String,
    pub version: String,
    pub commit: String,
    pub burn: String,
    pub from_step: u64,
    /// The last step of the session, and its duration; absent where it was killed.
    pub to_step: Option<u64>,
    pub seconds: Option<f64>,
}

/// Common parts of the epoch reports of a search and of a retraining.
pub trait Epoch: DeserializeOwned {
    /// The number of the epoch, counted from 0.
    fn number(&self) -> usize;
    /// The number of epochs of the whole run.
    fn planned(&self) -> usize;
    fn warnings(&self) -> &[String];
}

impl Epoch for EpochReport {
    fn number(&self) -> usize {
        self.epoch
    }

    fn planned(&self) -> usize {
        self.epochs
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

impl Epoch for RetrainEpochReport {
    fn number(&self) -> usize {
        self.epoch
    }

    fn planned(&self) -> usize {
        self.epochs
    }

    fn warnings(&self) -> &[String] {
        &[]
    }
}

impl Material {
    /// # Errors
    /// Where the folder does not exist, or contains no part of a run.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        ensure!(path.is_dir(), "{}: no such folder", path.display());
        let mut problems = Vec::new();
        let mut search = Run::read(path, "search", &mut problems);
        let mut retrain = Run::read(path, "retrain", &mut problems);
        // The folder is itself the run folder of a search or of a retraining.
        if search.is_none() && path.join("genotypes").is_dir() {
            search = Run::read(path, ".", &mut problems);
        } else if retrain.is_none() && has_settings_of_a_retraining(path) {
            retrain = Run::read(path, ".", &mut problems);
        }
        let places = ["", "evaluation/", "retrain/"];
        let place = places.into_iter().find(|p| path.join(p).join(EVALUATION).exists());
        let found = place.map(|place| format!("{place}{EVALUATION}"));
        ensure!(
            search.is_some() || retrain.is_some() || found.is_some(),
            "{}: nothing to report on, expected `search` or `retrain` (run folders) or \
             `{EVALUATION}` in it",
            path.display()
        );
        let evaluation: Option<Report> =
            found.and_then(|file| json(&path.join(&file), &file, &mut problems));
        let data = ["data.json", "search/data.json", "retrain/data.json"];
        let data =
            data.iter().filter_map(|name| json(&path.join(name), name, &mut problems)).collect();
        let beside = path.join(place.unwrap_or_default());
        let mistakes = evaluation.iter().flat_map(|report| &report.mistakes);
        let pictures = mistakes.map(|mistake| picture(&beside, &mistake.picture)).collect();
        let whole = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        let name = whole.file_name().map_or("run".into(), |name| name.to_string_lossy().into());
        Ok(Self { name, search, retrain, evaluation, data, pictures, problems })
    }

    /// The genotype of the retraining, or that of the search.
    pub fn genotype(&self) -> Option<&Genotype> {
        let retrained = self.retrain.as_ref().and_then(|run| run.genotype.as_ref());
        retrained.or_else(|| self.search.as_ref()?.genotype.as_ref())
    }

    /// The data set of the search or the training.
    pub fn dataset(&self) -> Option<DatasetKind> {
        let retrained = self.retrain.as_ref().and_then(|run| run.config.as_ref());
        let searched = self.search.as_ref().and_then(|run| run.config.as_ref());
        let retrained = retrained.map(|config| config.data.dataset);
        retrained.or_else(|| Some(searched?.data.dataset))
    }

    /// The network of the retraining by its settings, and the side of its images; none where the
    /// network cannot take images of this size.
    pub fn retrained(&self) -> Option<(EvaluationConfig, usize)> {
        let config = self.retrain.as_ref()?.config.as_ref()?;
        let side = config.data.image_size.or(config.data.dataset.image_size())?;
        let skeleton = config.network.skeleton;
        check_size(config.network.stem, [side; 2], skeleton.has_head()).ok()?;
        if self.genotype().is_some_and(|genotype| skeleton.fault(genotype).is_some()) {
            return None;
        }
        Some((config.network.evaluation(self.num_classes()?), side))
    }

    /// The number of classes, by the evaluation or by the data set.
    fn num_classes(&self) -> Option<usize> {
        let evaluated = self.evaluation.as_ref().map(|report| report.evaluation.classes.len());
        evaluated.or_else(|| match self.dataset()? {
            DatasetKind::Cifar10 | DatasetKind::FashionMnist => Some(10),
            DatasetKind::Cifar100 => Some(100),
            DatasetKind::TinyImagenet => Some(200),
            DatasetKind::Imagenet => Some(1000),
            _ => None,
        })
    }
}

const EVALUATION: &str = "evaluation.json";

/// Whether the settings are those of a retraining. Settings that cannot be read are reported with
/// the run.
fn has_settings_of_a_retraining(folder: &Path) -> bool {
    let text = fs::read_to_string(folder.join("config.toml")).unwrap_or_default();
    text.parse().is_ok_and(|table: toml::Table| table.contains_key("retrain"))
}

impl<C: Settings, E: Epoch> Run<C, E> {
    fn read(path: &Path, name: &str, problems: &mut Vec<String>) -> Option<Self> {
        let folder = path.join(name);
        if !folder.is_dir() {
            return None;
        }
        let place = |file: &str| format!("{name}/{file}");
        let config_text = text(&folder.join("config.toml"), &place("config.toml"), problems);
        let config = config_text.as_ref().map(|text| C::from_toml(text, &place("config.toml")));
        let config =
            config.and_then(|read| read.map_err(|error| problems.push(error.to_string())).ok());
        let metrics = text(&folder.join("metrics.jsonl"), &place("metrics.jsonl"), problems);
        let mut read = Vec::new();
        for (number, line) in metrics.unwrap_or_default().lines().enumerate() {
            match serde_json::from_str(line) {
                Ok(epoch) => read.push(epoch),
                Err(error) => problems.push(format!(
                    "{}: line {} is no report of an epoch: {error}",
                    place("metrics.jsonl"),
                    number + 1
                )),
            }
        }
        let sessions = json(&folder.join("sessions.json"), &place("sessions.json"), problems);
        let genotype = genotype(&folder.join("genotype.json"), &place("genotype.json"), problems);
        let mut of_epoch = |epoch: usize| {
            let file = format!("genotypes/epoch-{epoch:03}.json");
            self::genotype(&folder.join(&file), &place(&file), problems)
        };
        let epochs = (1..).map_while(&mut of_epoch).collect();
        let sessions = sessions.unwrap_or_default();
        Some(Self { config, config_text, metrics: read, sessions, genotype, epochs })
    }

    /// The number of finished epochs, and of planned ones.
    pub fn progress(&self) -> (usize, Option<usize>) {
        (self.metrics.len(), self.metrics.last().map(Epoch::planned))
    }

    /// Time of all sessions in s, where the time of every session is known.
    pub fn seconds(&self) -> Option<f64> {
        let each = self.sessions.iter().map(|session| session.seconds);
        each.sum::<Option<f64>>().filter(|&seconds| seconds > 0.0)
    }

    /// Points `(epoch counted from 1, value)`; an epoch without a value has no point.
    pub fn series(&self, value: impl Fn(&E) -> Option<f64>) -> Vec<(f64, f64)> {
        let point = |epoch: &E| Some(((epoch.number() + 1) as f64, value(epoch)?));
        self.metrics.iter().filter_map(point).collect()
    }
}

/// The content of a file; none where it is absent.
fn text(path: &Path, place: &str, problems: &mut Vec<String>) -> Option<String> {
    match fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(_) if !path.exists() => None,
        Err(error) => {
            problems.push(format!("{place}: cannot be read: {error}"));
            None
        }
    }
}

fn json<T: DeserializeOwned>(path: &Path, place: &str, problems: &mut Vec<String>) -> Option<T> {
    let parsed = serde_json::from_str(&text(path, place, problems)?);
    parsed.map_err(|error| problems.push(format!("{place}: cannot be read: {error}"))).ok()
}

fn genotype(path: &Path, place: &str, problems: &mut Vec<String>) -> Option<Genotype> {
    let parsed = text(path, place, problems)?.parse();
    parsed.map_err(|error| problems.push(format!("{place}: not a genotype: {error}"))).ok()
}

/// A PNG below a folder; a path that leads out of the folder is not followed.
fn picture(folder: &Path, name: &str) -> Option<Vec<u8>> {
    let is_below =
        Path::new(name).components().all(|part| matches!(part, std::path::Component::Normal(_)));
    let bytes = if is_below { fs::read(folder.join(name)).ok()? } else { return None };
    bytes.starts_with(b"\x89PNG\r\n\x1a\n").then_some(bytes)
}
