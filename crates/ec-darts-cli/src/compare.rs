//! `ec-darts compare`: runs in columns.
//!
//! Invariant: a value that a run does not have is a gap in its column, and files that cannot be
//! read, or are missing from a run that began, are reported.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ec_darts::config::Settings;
use ec_darts::cost::NetworkCost;
use ec_darts::train::MeasuredOn;
use ec_darts::train::run::MODEL;
use ec_darts_study::genotypes::key;
use serde_json::{Value, json};

use crate::args::CompareArguments;
use crate::print;
use crate::report_html::html::{count, duration};
use crate::report_html::read::{Epoch, Material, Run};
use crate::terminal::complain;

/// Largest number of letters of a cell on a terminal.
const LETTERS: usize = 48;

pub fn run(arguments: &CompareArguments) -> anyhow::Result<()> {
    let mut problems = Vec::new();
    let columns: Vec<Column> = arguments
        .runs
        .iter()
        .map(|folder| Column::read(folder, &mut problems))
        .collect::<anyhow::Result<_>>()?;
    let table = Table::of(&columns);
    if arguments.json {
        return print(&format!("{}\n", table.json(&columns, &problems)));
    }
    problems.iter().for_each(|problem| complain(&format!("warning: {problem}")));
    print(&table.text(&columns))
}

/// One run.
struct Column {
    folder: String,
    material: Material,
    /// The files of settings that are missing or cannot be read.
    unknown: Vec<String>,
}

impl Column {
    fn read(folder: &Path, problems: &mut Vec<String>) -> anyhow::Result<Self> {
        let name = folder.display().to_string();
        let mut material = Material::read(folder)?;
        problems.extend(material.problems.drain(..).map(|problem| format!("{name}: {problem}")));
        let Material { search, retrain, .. } = &material;
        let unknown = [
            search
                .as_ref()
                .and_then(|run| gaps(run, &place(folder, "search"), "genotype.json", problems)),
            retrain.as_ref().and_then(|run| gaps(run, &place(folder, "retrain"), MODEL, problems)),
        ];
        let unknown = unknown.into_iter().flatten().collect();
        Ok(Self { folder: name, material, unknown })
    }

    /// Every setting of both stages, under the keys of `ec-darts run`.
    fn settings(&self) -> BTreeMap<String, Value> {
        let mut all = BTreeMap::new();
        let Material { search, retrain, .. } = &self.material;
        let texts = [
            ("search", search.as_ref().and_then(|run| run.config.as_ref().map(Settings::to_toml))),
            (
                "retrain",
                retrain.as_ref().and_then(|run| run.config.as_ref().map(Settings::to_toml)),
            ),
        ];
        for (stage, text) in texts {
            let table: Option<toml::Table> = text.and_then(|text| text.parse().ok());
            flatten(stage, &json!(table.unwrap_or_default()), &mut all);
        }
        all
    }
}

/// The folder of a stage: inside that of a whole run, or the run folder itself.
fn place(folder: &Path, stage: &str) -> PathBuf {
    let inside = folder.join(stage);
    if inside.is_dir() { inside } else { folder.to_path_buf() }
}

/// Reports missing files of a stage that began; returns its file of settings where these are
/// unknown. A stage with the file `result` has finished an epoch.
fn gaps<C, E>(
    run: &Run<C, E>,
    folder: &Path,
    result: &str,
    problems: &mut Vec<String>,
) -> Option<String> {
    let has = |file: &str| folder.join(file).exists();
    let has_epoch = has(result) || !run.epochs.is_empty();
    let has_begun = ["config.toml", "metrics.jsonl", "sessions.json"].into_iter().any(has);
    if !has_epoch && !has_begun {
        return None;
    }
    let [config, metrics] = ["config.toml", "metrics.jsonl"].map(|file| folder.join(file));
    if !config.exists() {
        problems.push(format!("{}: is missing", config.display()));
    }
    if has_epoch && fs::metadata(&metrics).map_or(0, |file| file.len()) == 0 {
        problems.push(format!("{}: is missing or empty", metrics.display()));
    }
    run.config.is_none().then(|| config.display().to_string())
}

/// The values of a tree of settings, by their paths.
fn flatten(path: &str, value: &Value, all: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(table) => {
            for (key, value) in table {
                flatten(&format!("{path}.{key}"), value, all);
            }
        }
        leaf => {
            all.insert(path.into(), leaf.clone());
        }
    }
}

#[derive(Clone, Copy)]
enum Unit {
    Plain,
    Loss,
    Fraction,
    Seconds,
    Count,
}

/// A figure of every run that has it.
struct Row {
    name: String,
    unit: Unit,
    values: Vec<Option<Value>>,
}

struct Table {
    settings: Vec<Row>,
    results: Vec<Row>,
    costs: Vec<Row>,
}

impl Table {
    fn of(columns: &[Column]) -> Self {
        Self { settings: differing(columns), results: results(columns), costs: costs(columns) }
    }

    fn json(&self, columns: &[Column], problems: &[String]) -> Value {
        let rows = |rows: &[Row]| -> Value {
            rows.iter().map(|row| (row.name.clone(), json!(row.values))).collect()
        };
        let folders: Vec<&str> = columns.iter().map(|column| &column.folder[..]).collect();
        json!({
            "runs": folders,
            "settings": rows(&self.settings),
            "results": rows(&self.results),
            "costs": rows(&self.costs),
            "problems": problems,
        })
    }

    fn text(&self, columns: &[Column]) -> String {
        let mut lines = vec![vec![String::new()]];
        lines[0].extend(columns.iter().map(|column| column.folder.clone()));
        for (title, rows, note) in [
            ("settings that differ", &self.settings, incomparable(columns)),
            ("results", &self.results, None),
            ("costs", &self.costs, None),
        ] {
            lines.push(vec![format!("{title}:")]);
            if rows.is_empty() && note.is_none() {
                lines.push(vec!["  none".into()]);
            }
            lines.extend(note.map(|note| vec![format!("  {note}")]));
            lines.extend(rows.iter().map(|row| {
                let values = row.values.iter().map(|value| shown(value.as_ref(), row.unit));
                std::iter::once(format!("  {}", row.name)).chain(values).collect()
            }));
        }
        aligned(&lines)
    }
}

/// A line about settings that are unknown.
fn incomparable(columns: &[Column]) -> Option<String> {
    let unknown: Vec<&str> =
        columns.iter().flat_map(|column| &column.unknown).map(String::as_str).collect();
    (!unknown.is_empty()).then(|| format!("cannot be compared: {}", unknown.join(", ")))
}

fn differing(columns: &[Column]) -> Vec<Row> {
    let all: Vec<BTreeMap<String, Value>> = columns.iter().map(Column::settings).collect();
    let mut keys: Vec<&String> = all.iter().flat_map(BTreeMap::keys).collect();
    keys.sort();
    keys.dedup();
    // A stage that a run does not have does not count as a difference of all its settings.
    let has = |own: &BTreeMap<String, Value>, key: &str| {
        let stage = &key[..=key.find('.').unwrap_or(0)];
        own.keys().any(|other| other.starts_with(stage))
    };
    let rows = keys.into_iter().filter_map(|key| {
        let mut told = all.iter().filter(|own| has(own, key)).map(|own| own.get(key));
        let first = told.next().flatten();
        let values = all.iter().map(|own| own.get(key).cloned()).collect();
        told.any(|other| other != first).then(|| Row {
            name: key.clone(),
            unit: Unit::Plain,
            values,
        })
    });
    rows.collect()
}

fn results(columns: &[Column]) -> Vec<Row> {
    let mut rows = Rows { columns, rows: Vec::new() };
    rows.add("search.epochs done", Unit::Plain, |m| m.search.as_ref().map(progress));
    rows.add("search.supernet accuracy", Unit::Fraction, |m| {
        Some(json!(m.search.as_ref()?.metrics.last()?.supernet_accuracy))
    });
    rows.add("search.auxiliary accuracy", Unit::Fraction, |m| {
        Some(json!(m.search.as_ref()?.metrics.last()?.transition.as_ref()?.valid_accuracy))
    });
    rows.add("search.entropy, normal cell", Unit::Fraction, |m| {
        Some(json!(m.search.as_ref()?.metrics.last()?.normal.entropy))
    });
    // Equal keys are equal networks, in whatever order the edges are written.
    rows.add("genotype's key", Unit::Plain, |m| Some(json!(key(m.genotype()?))));
    rows.add("genotype", Unit::Plain, |m| Some(json!(m.genotype()?.to_string())));
    rows.add("retrain.epochs done", Unit::Plain, |m| m.retrain.as_ref().map(progress));
    rows.add("retrain.training loss", Unit::Loss, |m| {
        Some(json!(m.retrain.as_ref()?.metrics.last()?.train_loss))
    });
    rows.add("retrain.accuracy, test", Unit::Fraction, |m| measured(m, MeasuredOn::Test));
    rows.add("retrain.accuracy, held out", Unit::Fraction, |m| measured(m, MeasuredOn::Validation));
    rows.add("evaluation.top-1", Unit::Fraction, |m| {
        Some(json!(m.evaluation.as_ref()?.evaluation.top1))
    });
    rows.rows
}

fn costs(columns: &[Column]) -> Vec<Row> {
    let mut rows = Rows { columns, rows: Vec::new() };
    rows.add("search.time", Unit::Seconds, |m| Some(json!(m.search.as_ref()?.seconds()?)));
    rows.add("retrain.time", Unit::Seconds, |m| Some(json!(m.retrain.as_ref()?.seconds()?)));
    rows.add("search.device", Unit::Plain, |m| device(m.search.as_ref()?));
    rows.add("retrain.device", Unit::Plain, |m| device(m.retrain.as_ref()?));
    rows.add("search.commit", Unit::Plain, |m| commit(m.search.as_ref()?));
    rows.add("retrain.commit", Unit::Plain, |m| commit(m.retrain.as_ref()?));
    rows.add("parameters", Unit::Count, |m| Some(json!(network(m)?.cost.parameters)));
    rows.add("multiply-adds", Unit::Count, |m| Some(json!(network(m)?.cost.multiply_adds)));
    rows.rows
}

struct Rows<'a> {
    columns: &'a [Column],
    rows: Vec<Row>,
}

impl Rows<'_> {
    /// Adds a row, unless no run has a value.
    fn add(&mut self, name: &str, unit: Unit, of: impl Fn(&Material) -> Option<Value>) {
        let values: Vec<Option<Value>> =
            self.columns.iter().map(|column| of(&column.material)).collect();
        if values.iter().any(Option::is_some) {
            self.rows.push(Row { name: name.into(), unit, values });
        }
    }
}

fn progress<C: Settings, E: Epoch>(run: &Run<C, E>) -> Value {
    match run.progress() {
        (done, Some(planned)) => json!(format!("{done} of {planned}")),
        (done, None) => json!(done.to_string()),
    }
}

fn device<C, E>(run: &Run<C, E>) -> Option<Value> {
    Some(json!(run.sessions.last()?.device))
}

fn commit<C, E>(run: &Run<C, E>) -> Option<Value> {
    Some(json!(run.sessions.last()?.commit))
}

/// The last measurement: a choice of the best by test images would be too optimistic.
fn measured(material: &Material, on: MeasuredOn) -> Option<Value> {
    let run = material.retrain.as_ref()?;
    let mut epochs = run.metrics.iter().rev().filter(|epoch| epoch.measured_on == Some(on));
    Some(json!(epochs.next()?.valid_accuracy?))
}

/// The costs of the network in the retraining.
fn network(material: &Material) -> Option<NetworkCost> {
    let (config, side) = material.retrained()?;
    Some(NetworkCost::new(material.genotype()?, &config, side))
}

fn shown(value: Option<&Value>, unit: Unit) -> String {
    let Some(value) = value else { return "-".into() };
    let text = match (unit, value.as_f64()) {
        (Unit::Fraction, Some(value)) => format!("{:.2} %", 100.0 * value),
        (Unit::Seconds, Some(value)) => duration(value),
        (Unit::Count, Some(value)) => count(value as u64),
        (Unit::Loss, Some(value)) => format!("{value:.4}"),
        _ => value.as_str().map_or_else(|| value.to_string(), String::from),
    };
    match text.char_indices().nth(LETTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Columns, each with its own width, two spaces apart.
fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = lines.iter().filter(|line| line.len() > 1).filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |line: &Vec<String>| {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}  "));
        format!("{}\n", cells.collect::<String>().trim_end())
    };
    lines.iter().map(line).collect()
}
