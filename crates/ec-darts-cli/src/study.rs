//! `ec-darts study`: show, list, run, submit, report.

mod report;
mod worker;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use ec_darts::Error;
use ec_darts::config::Settings;
use ec_darts_study::analysis::Question;
use ec_darts_study::slurm::Job;
use ec_darts_study::{Choice, Ending, Kind, Origin, Plan, State, Study, Trial, builtin, folder};
use serde_json::json;

use crate::args::{
    RunArguments, SettingChanges, StudyCommand, StudyListArguments, StudyRunArguments,
    StudySubmitArguments, WhenToResume,
};
use crate::ending::Stopped;
use crate::print;
use crate::session::{Session, start_threads};
use worker::Trials;

pub fn run(command: StudyCommand) -> anyhow::Result<()> {
    match command {
        StudyCommand::Show { study: None } => print(&presets()),
        StudyCommand::Show { study: Some(study) } => print(&resolved(&Study::open(&study)?)),
        StudyCommand::List(arguments) => list(&arguments),
        StudyCommand::Run(arguments) => work(arguments),
        StudyCommand::Submit(arguments) => submit(&arguments),
        StudyCommand::Report(arguments) => report::run(&arguments),
    }
}

fn presets() -> String {
    let mut text = String::new();
    for (heading, texts) in [("studies", builtin::STUDIES), ("protocols", builtin::PROTOCOLS)] {
        text += &format!("{heading}\n");
        for (name, content) in texts {
            text += &format!("  {name:18} {}\n", builtin::summary(content));
        }
    }
    text
}

/// All settings of a study, as TOML.
fn resolved(study: &Study) -> String {
    let mut text = format!(
        "# study {} of the kind {}, protocol {}: search seeds {:?}, training seeds {:?}\n",
        study.name,
        study.kind.name(),
        study.protocol.name,
        study.seeds,
        study.protocol.training_seeds
    );
    if study.kind == Kind::Epochs {
        text += &format!("# genotypes of {} epochs of each search\n", study.epochs);
    }
    for variant in &study.variants {
        text += &format!("\n# variant {}", variant.name);
        text += &match &variant.origin {
            Origin::Search(config) => format!("\n{}", config.to_toml()),
            Origin::Random { seeds, .. } => format!(": random genotypes, seeds {seeds:?}\n"),
            Origin::Given(all) => {
                let lines = all.iter().map(|(name, genotype)| format!("\n# {name}: {genotype}"));
                lines.collect::<String>() + "\n"
            }
        };
    }
    text + &format!("\n# every training\n{}", study.protocol.retrain.to_toml())
}

fn list(arguments: &StudyListArguments) -> anyhow::Result<()> {
    let study = Study::open(&arguments.study)?;
    let out = arguments.out.as_deref();
    let plan = Plan::of(&study, out)?;
    let state = |trial: &Trial| out.map_or(State::Ready, |out| trial.state(out));
    let trials: Vec<(&Trial, State)> =
        plan.trials.iter().map(|trial| (trial, state(trial))).collect();
    if arguments.json {
        let of_trial = |(trial, state): &(&Trial, State)| {
            let mut facts = json!(state);
            facts["trial"] = json!(trial.name);
            facts["work"] = json!(worker::kind(trial));
            facts
        };
        let trials: Vec<_> = trials.iter().map(of_trial).collect();
        let all = json!({
            "study": study.name,
            "kind": study.kind,
            "protocol": study.protocol.name,
            "trials": trials,
            "trainings_unknown_before": plan.waiting,
        });
        return print(&format!("{all}\n"));
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut text = String::new();
    for (trial, state) in &trials {
        *counts.entry(state.name()).or_default() += 1;
        let more = match state {
            State::Running { by } => format!(" by {by}"),
            State::Failed { error } => format!(": {error}"),
            State::Ready | State::Begun | State::Done => String::new(),
        };
        text += &format!("{:40} {}{more}\n", trial.name, state.name());
    }
    let counts: Vec<String> =
        counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
    text += &format!("{} trials: {}\n", trials.len(), counts.join(", "));
    if !plan.waiting.is_empty() {
        let count = plan.waiting.len();
        text += &format!("trainings of {count} searches are not known before these are done\n");
    }
    print(&text)
}

fn work(arguments: StudyRunArguments) -> anyhow::Result<()> {
    let study = Study::open(&arguments.study)?;
    // The plan of a study of edges reads alpha of finished searches on the CPU device.
    start_threads(arguments.threads)?;
    let out = arguments.out.clone();
    let known = Plan::of(&study, Some(&out))?;
    for name in &arguments.only {
        let is_known = known.trials.iter().any(|trial| trial.name == *name);
        ensure!(
            is_known,
            usage(format!("--only {name}"), "no such trial; `ec-darts study list` names them")
        );
    }
    let choice = Choice {
        only: arguments.only.clone(),
        retry_failed: arguments.retry_failed,
        max_trials: arguments.max_trials,
    };
    let mut session = Session::start(&RunArguments {
        config: arguments.study,
        changes: SettingChanges::default(),
        data: arguments.data.clone(),
        out: out.clone(),
        device: arguments.device,
        threads: None,
        max_steps: None,
        resume: Some(WhenToResume::Auto),
        force: arguments.force,
        quiet: arguments.quiet,
        json: arguments.json,
    })?;
    let images = session.load(&study.protocol.retrain.data, &arguments.data)?;
    folder::hold_images(&out, &images.digests())?;
    let stop = session.options.stop.clone();
    let max_steps = arguments.max_steps;
    let mut trials = Trials { session, images, max_steps, stopped: None };
    let ending = ec_darts_study::run(&study, &out, &choice, &stop, &mut trials)?;
    let Trials { session, stopped, .. } = trials;
    let Ending::Nothing { running, failed, left, finished } = ending else {
        session.report.line("the same command goes on with the study")?;
        if let Some(saved) = stopped {
            return Err(session.stopped_study(saved));
        }
        session.go_on()?;
        return Err(Stopped::default().into());
    };
    let mut text = format!("\n{finished} trials done by this process");
    for (count, what) in [(running, "run by others"), (left, "left that were not chosen")] {
        if count > 0 {
            text += &format!(", {count} {what}");
        }
    }
    session.report.line(&text)?;
    let mut event = json!({
        "event": "study", "finished": finished, "running": running, "failed": failed, "left": left,
    });
    if running + left == 0 {
        let written = report::of_study(&study, &out, Question::default())?;
        event["report"] = json!(written.page.display().to_string());
        event["best"] = json!(written.best.as_ref().map(|(path, _)| path.display().to_string()));
        session.report.line(&written.lines())?;
    }
    session.report.event(&event)?;
    if failed > 0 {
        bail!("{}; --retry-failed takes them again", failures(&study, &out, &choice)?);
    }
    Ok(())
}

/// An error in the arguments.
fn usage(origin: String, reason: &str) -> Error {
    Error::ConfigSyntax { origin, reason: reason.into() }
}

/// The chosen trials that failed, each with its error.
fn failures(study: &Study, out: &Path, choice: &Choice) -> anyhow::Result<String> {
    let plan = Plan::of(study, Some(out))?;
    let failed = plan.trials.iter().filter_map(|trial| match trial.state(out) {
        State::Failed { error } if choice.takes(&trial.name) => {
            Some(format!("{}: {error}", trial.name))
        }
        _ => None,
    });
    let failed: Vec<String> = failed.collect();
    Ok(format!("{} trials failed: {}", failed.len(), failed.join("; ")))
}

fn submit(arguments: &StudySubmitArguments) -> anyhow::Result<()> {
    let study = Study::open(&arguments.study)?;
    Plan::of(&study, Some(&arguments.out))?;
    let absolute = |path: &Path| -> anyhow::Result<String> {
        let path = std::path::absolute(path)?;
        let text = path.to_str().with_context(|| format!("{}: not Unicode", path.display()))?;
        Ok(text.to_string())
    };
    let is_builtin = arguments.study.to_str().and_then(builtin::study).is_some();
    let file = match is_builtin {
        true => study.name.clone(),
        false => absolute(&arguments.study)?,
    };
    let (data, out) = (absolute(&arguments.data)?, absolute(&arguments.out)?);
    let program = std::env::current_exe().context("where this program lies")?;
    let threads = arguments.cpus_per_task.to_string();
    let mut command = vec![absolute(&program)?];
    let run = ["study", "run", &file, "--data", &data, "--out", &out, "--threads", &threads];
    command.extend(run.map(String::from));
    if let Some(device) = arguments.device {
        command.extend(["--device".into(), device.name().into()]);
    }
    command.extend(arguments.retry_failed.then(|| "--retry-failed".into()));
    let mut options = Vec::new();
    for (name, value) in
        [("time", &arguments.time), ("partition", &arguments.partition), ("mem", &arguments.mem)]
    {
        options.extend(value.as_ref().map(|value| format!("--{name}={value}")));
    }
    options.extend(arguments.options.iter().cloned());
    let job = Job {
        name: study.name.clone(),
        tasks: arguments.tasks,
        cpus_per_task: arguments.cpus_per_task,
        options,
        logs: Path::new(&out).join("slurm"),
        command,
    };
    if arguments.dry_run {
        return print(&job.script()?);
    }
    ensure!(arguments.data.is_dir(), "--data {data}: no such folder");
    let number = job.submit()?;
    print(&format!(
        "submitted job {number} of {} tasks; `ec-darts study list` shows how far it is\n",
        arguments.tasks
    ))
}
