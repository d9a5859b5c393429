//! `ec-darts report`: one page about a search, a retraining and an evaluation.
//!
//! Entry point: [`write`]. Invariant: the page is complete in itself (no script, font or picture
//! from elsewhere) and names the parts that were not run. A file that is absent or of another
//! version leaves a gap that the page names, never an error.

mod accuracy;
mod costs;
mod curves;
pub mod html;
mod images;
pub mod read;
mod summary;
mod timeline;

use std::path::{Path, PathBuf};

use ec_darts::config::Settings;
use ec_darts::files;
use ec_darts_space::draw;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::args::ReportArguments;
use crate::print;
use crate::terminal::visible;
use html::{cell, details, duration, none, section};
use read::{Epoch, Material, Run};

pub const STYLE: &str = include_str!("style.css");

pub fn run(arguments: ReportArguments) -> anyhow::Result<()> {
    let path = write(&arguments.folder)?;
    print(&format!("wrote {}\n", path.display()))
}

/// Makes or renews `report.html` in a folder with `search/`, `retrain/` and `evaluation.json`. Any
/// of them may be absent.
pub fn write(path: &Path) -> anyhow::Result<PathBuf> {
    let material = Material::read(path)?;
    let out = path.join("report.html");
    // Names of classes and files may contain control characters for a terminal.
    let page = page(&material).into_string();
    files::write(&out, visible(&page).as_bytes())?;
    Ok(out)
}

fn page(material: &Material) -> Markup {
    let Material { search, retrain, .. } = material;
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (material.name) ": EC-DARTS report" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    (summary::head(material))
                    (summary::not_run(material))
                    (section("cells", "The cells", cells(material)))
                    (section("images", "The images", images::table(material)))
                    (section("search", "Search", curves::search(search.as_ref())))
                    (section("changes", "How the cells changed", timeline::tables(search.as_ref())))
                    (section("retraining", "Retraining", curves::retrain(retrain.as_ref())))
                    (section("accuracy", "Accuracy by class", accuracy::tables(material)))
                    (section("costs", "Costs", costs::tables(material)))
                    (section("settings", "Settings and sessions", settings(material)))
                }
                footer { "Written by ec-darts " (ec_darts::VERSION) " (" (ec_darts::COMMIT) ")." }
            }
        }
    }
}

fn cells(material: &Material) -> Markup {
    let Some(genotype) = material.genotype() else {
        return none("No genotype yet.");
    };
    html! {
        div.wide.paper { (PreEscaped(draw::svg(genotype))) }
        (details("As text", html! { pre { (genotype.to_nested().unwrap_or_else(|_| genotype.to_string())) } }))
    }
}

fn settings(material: &Material) -> Markup {
    html! {
        h3 { "Search" }
        (settings_of(material.search.as_ref()))
        h3 { "Retraining" }
        (settings_of(material.retrain.as_ref()))
    }
}

fn settings_of<C: Settings, E: Epoch>(run: Option<&Run<C, E>>) -> Markup {
    let Some(run) = run else {
        return none("Not run.");
    };
    let text = run.config_text.as_deref().unwrap_or("config.toml is not there");
    let rows: Vec<Vec<Markup>> = run
        .sessions
        .iter()
        .map(|session| {
            let version =
                format!("{} ({}), Burn {}", session.version, session.commit, session.burn);
            let end = session.to_step.map_or("?".into(), |step| step.to_string());
            let steps = format!("{} to {end}", session.from_step);
            let time = session.seconds.map_or("not recorded".into(), duration);
            vec![
                cell(&session.started),
                cell(&session.device),
                cell(version),
                cell(steps),
                cell(time),
            ]
        })
        .collect();
    html! {
        (html::table(&["started", "device", "version", "steps", "time"], &rows))
        (details("config.toml", html! { pre { (text) } }))
    }
}
