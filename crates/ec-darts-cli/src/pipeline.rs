//! `ec-darts run`: search, retraining, evaluation and report, one after the other.

use anyhow::Context;
use ec_darts::config::Source;
use ec_darts::model::TrainedModel;
use ec_darts::preflight::{self, Room};
use ec_darts::train::Resume;
use ec_darts::train::run::{MODEL, Outcome};
use ec_darts_space::presets::DARTS_V2;
use serde_json::json;

use crate::args::WholeRunArguments;
use crate::evaluate::{Evaluated, Set, Told};
use crate::session::Session;
use crate::{evaluate, print, report_html, retrain, search, settings};

pub fn run(arguments: WholeRunArguments) -> anyhow::Result<()> {
    let arguments = arguments.run;
    let source = Source::open(&arguments.config)?;
    let (for_search, for_retrain) = settings::of_whole_run(&source, &arguments.changes)?;
    let mut session = Session::start(&arguments)?;
    let images = session.load(&for_search.data, &arguments.data)?;
    // The genotype of the retraining is not known yet, but hours of search must not end in a lack
    // of memory.
    let (typical, room) = (DARTS_V2.genotype(), Room::of(&session.opened.device));
    let needed = preflight::describe_retraining(&for_retrain, &typical, &images.train, &room);
    session.require(&needed).context("the retraining, if it were of darts_v2")?;
    let out = arguments.out.clone();
    let told = !arguments.json;
    let has_headings = told && !arguments.quiet;
    let heading = |text: &str| if has_headings { print(&format!("\n{text}\n")) } else { Ok(()) };

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
    // The limit is that of the whole run. A search that reaches it has stopped, so that steps are
    // left here.
    session.options.max_steps = arguments.max_steps.map(|most| most.saturating_sub(session.steps));
    if session.options.resume == Resume::Always {
        // The run continues, but it may have been stopped before this stage.
        session.options.resume = Resume::Auto;
    }
    match retrain::retrain(for_retrain, &best.genotype, &images, &mut session)? {
        Outcome::Finished(measured) if told => {
            print(&format!("{}\n", retrain::describe(&measured, images.train.num_classes())))?
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
    let evaluated = Evaluated {
        model: &model,
        path: &path,
        data: &arguments.data,
        set: Set::Test,
        classes: &[],
        out: Some(&out),
    };
    let shape = if told { Told::Text } else { Told::Event };
    evaluate::evaluate(&evaluated, &images, 64, &session.opened, shape)?;
    heading("4 of 4: report")?;
    let report = report_html::write(&out)?;
    session.report.event(&json!({"event": "report", "path": report.display().to_string()}))?;
    if told { print(&format!("wrote {}\n", report.display())) } else { Ok(()) }
}
