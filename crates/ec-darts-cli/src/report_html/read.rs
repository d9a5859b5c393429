//! What a folder holds, read leniently: run folders may be unfinished or of another version.

use std::fs;
use std::path::Path;

use anyhow::ensure;
use ec_darts_space::Genotype;
use serde_json::Value;

/// All that a report is made of.
pub struct Material {
    /// Last part of the folder's path.
    pub name: String,
    pub search: Option<Run>,
    pub retrain: Option<Run>,
    /// Of `evaluation.json`: figures of the test set.
    pub evaluation: Option<Value>,
    /// Which images the runs worked on: `data.json` of each.
    pub data: Vec<Value>,
    /// Files that are there and could not be read.
    pub problems: Vec<String>,
}

/// A run folder of a search or of a retraining.
#[derive(Default)]
pub struct Run {
    pub config: toml::Table,
    pub config_text: Option<String>,
    /// One object per epoch.
    pub metrics: Vec<Value>,
    pub sessions: Vec<Value>,
    pub genotype: Option<Genotype>,
    /// Of each epoch; of a search only.
    pub epochs: Vec<Genotype>,
}

impl Material {
    /// # Errors
    /// Where the folder is not there, or holds nothing of a run.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        ensure!(path.is_dir(), "{}: no such folder", path.display());
        let mut problems = Vec::new();
        let mut run = |name: &str| {
            let folder = path.join(name);
            folder.is_dir().then(|| Run::read(&folder, name, &mut problems))
        };
        let (mut search, retrain) = (run("search"), run("retrain"));
        // The run folder of a search by itself.
        if search.is_none() && path.join("genotypes").is_dir() {
            search = Some(Run::read(path, ".", &mut problems));
        }
        let mut evaluation = None;
        for name in ["evaluation.json", "evaluation/evaluation.json", "retrain/evaluation.json"] {
            if evaluation.is_none() {
                evaluation = json(&path.join(name), name, &mut problems);
            }
        }
        let mut data = Vec::new();
        for name in ["data.json", "search/data.json", "retrain/data.json"] {
            data.extend(json(&path.join(name), name, &mut problems));
        }
        ensure!(
            search.is_some() || retrain.is_some() || evaluation.is_some(),
            "{}: nothing to report on, expected `search` or `retrain` (run folders) or \
             `evaluation.json` in it",
            path.display()
        );
        let whole = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        let name = whole.file_name().map_or("run".into(), |name| name.to_string_lossy().into());
        Ok(Self { name, search, retrain, evaluation, data, problems })
    }

    /// The genotype that was retrained, or that of the search.
    pub fn genotype(&self) -> Option<&Genotype> {
        let of = |run: &'_ Option<Run>| run.as_ref().and_then(|run| run.genotype.clone());
        match of(&self.retrain) {
            Some(_) => self.retrain.as_ref()?.genotype.as_ref(),
            None => self.search.as_ref()?.genotype.as_ref(),
        }
    }

    /// Figures of the evaluation, wherever in the file they are.
    pub fn figures(&self) -> Option<&Value> {
        self.evaluation.as_ref().map(figures)
    }

    /// Classes, by the evaluation or by the data set's name.
    pub fn num_classes(&self) -> Option<usize> {
        let counted = self.figures().and_then(|figures| figures["confusion"].as_array());
        let run = self.retrain.as_ref().or(self.search.as_ref());
        let named = || match run?.setting("data.dataset")?.as_str()? {
            "cifar10" | "fashion-mnist" => Some(10),
            "cifar100" => Some(100),
            "tiny-imagenet" => Some(200),
            "imagenet" => Some(1000),
            _ => None,
        };
        counted.map(Vec::len).or_else(named)
    }
}

/// The object that has the accuracies.
pub fn figures(evaluation: &Value) -> &Value {
    match evaluation.get("evaluation") {
        Some(inner) => inner,
        None => evaluation,
    }
}

impl Run {
    fn read(folder: &Path, name: &str, problems: &mut Vec<String>) -> Self {
        let mut run = Self::default();
        let place = |file: &str| format!("{name}/{file}");
        if let Some(text) = text(&folder.join("config.toml"), &place("config.toml"), problems) {
            match text.parse() {
                Ok(table) => run.config = table,
                Err(_) => problems.push(format!("{}: not TOML", place("config.toml"))),
            }
            run.config_text = Some(text);
        }
        let metrics = text(&folder.join("metrics.jsonl"), &place("metrics.jsonl"), problems);
        for (number, line) in metrics.unwrap_or_default().lines().enumerate() {
            match serde_json::from_str(line) {
                Ok(value) => run.metrics.push(value),
                Err(_) => problems.push(format!(
                    "{}: line {} is not JSON",
                    place("metrics.jsonl"),
                    number + 1
                )),
            }
        }
        let sessions = json(&folder.join("sessions.json"), &place("sessions.json"), problems);
        run.sessions = sessions.and_then(|all| all.as_array().cloned()).unwrap_or_default();
        run.genotype = genotype(&folder.join("genotype.json"), &place("genotype.json"), problems);
        for epoch in 1.. {
            let file = format!("genotypes/epoch-{epoch:03}.json");
            match genotype(&folder.join(&file), &place(&file), problems) {
                Some(genotype) => run.epochs.push(genotype),
                None => break,
            }
        }
        run
    }

    /// A setting by its dotted key.
    pub fn setting(&self, key: &str) -> Option<&toml::Value> {
        let (section, key) = key.split_once('.')?;
        self.config.get(section)?.get(key)
    }

    pub fn integer(&self, key: &str) -> Option<u64> {
        self.setting(key)?.as_integer()?.try_into().ok()
    }

    /// Epochs that are over, and those there should be.
    pub fn progress(&self) -> (usize, Option<usize>) {
        let planned = self.metrics.last().and_then(|last| last["epochs"].as_u64());
        (self.metrics.len(), planned.map(|planned| planned as usize))
    }

    /// Seconds of all sessions, where every one of them is known.
    pub fn seconds(&self) -> Option<f64> {
        let each = self.sessions.iter().map(|session| session["seconds"].as_f64());
        each.sum::<Option<f64>>().filter(|&seconds| seconds > 0.0)
    }

    /// Of the last session.
    pub fn session(&self, key: &str) -> Option<&str> {
        self.sessions.last()?[key].as_str()
    }

    /// Points `(epoch counted from 1, value)` by a JSON pointer; epochs without a value have none.
    pub fn series(&self, pointer: &str) -> Vec<(f64, f64)> {
        let values = self.metrics.iter().enumerate();
        values
            .filter_map(|(place, line)| {
                let epoch = line["epoch"].as_u64().map_or(place + 1, |epoch| epoch as usize);
                Some((epoch as f64, line.pointer(pointer)?.as_f64()?))
            })
            .collect()
    }
}

/// The content of a file, or nothing where it is absent.
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

fn json(path: &Path, place: &str, problems: &mut Vec<String>) -> Option<Value> {
    let parsed = serde_json::from_str(&text(path, place, problems)?);
    parsed.map_err(|error| problems.push(format!("{place}: not JSON: {error}"))).ok()
}

fn genotype(path: &Path, place: &str, problems: &mut Vec<String>) -> Option<Genotype> {
    let parsed = text(path, place, problems)?.parse();
    parsed.map_err(|error| problems.push(format!("{place}: not a genotype: {error}"))).ok()
}
