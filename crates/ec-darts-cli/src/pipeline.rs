//! `ec-darts run`: search, retraining, evaluation and report, one after the other.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use ec_darts::config::{RetrainConfig, SearchConfig, Settings};
use ec_darts::model::TrainedModel;
use ec_darts::train::run::{MODEL, Outcome};
use serde::Deserialize;
use serde_json::json;

use crate::args::WholeRunArguments;
use crate::evaluate::{Evaluated, Told};
use crate::session::Session;
use crate::{evaluate, print, report_html, retrain, search};

/// The file of a whole run: the settings of its two stages, beside it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stages {
    search: PathBuf,
    retrain: PathBuf,
}

pub fn run(arguments: WholeRunArguments) -> anyhow::Result<()> {
    let arguments = arguments.run;
    let (for_search, for_retrain) = settings(&arguments.config, &arguments.set, arguments.seed)?;
    let mut session = Session::start(&arguments)?;
    let images = session.load(&for_search.data, &arguments.data)?;
    let out = arguments.out.clone();
    let told = !arguments.json;
    let heading = |text: &str| if told { print(&format!("\n{text}\n")) } else { Ok(()) };

    heading("1 of 4: search")?;
    session.options.out = out.join("search");
    let best = match search::search(for_search, &images, &mut session)? {
        Outcome::Finished(best) => best,
        Outcome::Stopped { checkpoint, total_step } => {
            return Err(session.stopped(checkpoint, total_step));
        }
    };
    session.go_on()?;
    heading("2 of 4: retraining")?;
    session.options.out = out.join("retrain");
    match retrain::retrain(for_retrain, &best.genotype, &images, &mut session)? {
        Outcome::Finished(measured) if told => {
            print(&format!("{}\n", retrain::describe(&measured)))?
        }
        Outcome::Finished(_) => {}
        Outcome::Stopped { checkpoint, total_step } => {
            return Err(session.stopped(checkpoint, total_step));
        }
    }
    session.go_on()?;
    heading("3 of 4: evaluation")?;
    let path = out.join("retrain").join(MODEL);
    let model = TrainedModel::load(&path, &session.opened.device)?;
    let evaluated =
        Evaluated { model: &model, path: &path, data: &arguments.data, out: Some(&out) };
    let shape = if told { Told::Text } else { Told::Event };
    evaluate::evaluate(&evaluated, images.test, 64, &session.opened, shape)?;
    heading("4 of 4: report")?;
    let report = report_html::write(&out)?;
    session.report.event(&json!({"event": "report", "path": report.display().to_string()}))?;
    if told { print(&format!("wrote {}\n", report.display())) } else { Ok(()) }
}

/// Whether a file of settings names those of two stages.
pub fn is_whole_run(text: &str) -> bool {
    toml::from_str::<Stages>(text).is_ok()
}

/// The settings of both stages. `--set` and the keys in errors begin with the stage.
pub fn settings(
    path: &Path,
    set: &[String],
    seed: Option<u64>,
) -> anyhow::Result<(SearchConfig, RetrainConfig)> {
    let name = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
    let stages: Stages = toml::from_str(&text).map_err(|error| ec_darts::Error::ConfigSyntax {
        origin: name.to_string(),
        reason: error.to_string().trim_end().to_string(),
    })?;
    let beside = |file: &Path| path.parent().unwrap_or(Path::new("")).join(file);
    let of = |stage: &str| -> Vec<String> {
        let start = format!("{stage}.");
        let given = set.iter().filter_map(|set| set.strip_prefix(&start));
        let seed = seed.map(|seed| format!("{stage}.seed={seed}"));
        given.map(str::to_string).chain(seed).collect()
    };
    for set in set {
        let known = ["search.", "retrain."].iter().any(|stage| set.starts_with(stage));
        ensure!(
            known,
            ec_darts::Error::ConfigSyntax {
                origin: format!("--set {set}"),
                reason: "keys of a whole run begin with their stage: search.SECTION.NAME or \
                         retrain.SECTION.NAME"
                    .into(),
            }
        );
    }
    let search = SearchConfig::load(&beside(&stages.search), &of("search"))?;
    let retrain = RetrainConfig::load(&beside(&stages.retrain), &of("retrain"))?;
    // One set of images serves both stages.
    let (ours, theirs) = (search.data.source(""), retrain.data.source(""));
    ensure!(
        ours == theirs,
        ec_darts::Error::ConfigValue {
            origin: stages.retrain.display().to_string(),
            key: "data".into(),
            value: format!("{} read in another way", retrain.data.dataset.name()),
            allowed: format!(
                "the same set, image_size, resize, test_fraction, split_seed, broken_images and \
                 cache_mib as in {} ({})",
                stages.search.display(),
                search.data.dataset.name()
            ),
        }
    );
    Ok((search, retrain))
}
