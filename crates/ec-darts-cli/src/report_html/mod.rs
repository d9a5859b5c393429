//! `ec-darts report`: one page about a search, a retraining and an evaluation.
//!
//! Entry point: [`write`]. Invariant: the page stands alone (no script, font or picture from
//! elsewhere) and says what was not run; files that are absent or of another version leave a gap
//! that is named, never an error.

mod accuracy;
mod costs;
mod curves;
mod html;
mod images;
mod read;
mod summary;
mod timeline;

use std::path::{Path, PathBuf};

use ec_darts::files;
use ec_darts_space::draw;

use crate::args::ReportArguments;
use crate::print;
use html::{details, section};
use read::{Material, Run};

const STYLE: &str = include_str!("style.css");

pub fn run(arguments: ReportArguments) -> anyhow::Result<()> {
    let path = write(&arguments.folder)?;
    print(&format!("wrote {}\n", path.display()))
}

/// Makes or renews `report.html` in a folder with `search/`, `retrain/` and `evaluation.json`, any of
/// which may be absent.
pub fn write(path: &Path) -> anyhow::Result<PathBuf> {
    let material = Material::read(path)?;
    let out = path.join("report.html");
    files::write(&out, page(&material).as_bytes())?;
    Ok(out)
}

fn page(material: &Material) -> String {
    let Material { search, retrain, evaluation, .. } = material;
    let genotype = material.genotype();
    let mut body = summary::head(material);
    body += &summary::not_run(material);
    let found = genotype.map_or_else(
        || "<p class=\"none\">No genotype yet.</p>".to_string(),
        |genotype| {
            let text = genotype.to_nested();
            let picture = format!("<div class=\"wide paper\">{}</div>", draw::svg(genotype));
            picture + &details("As text", &format!("<pre>{}</pre>", html::escape(&text)))
        },
    );
    body += &section("cells", "The cells", &found);
    body += &section("images", "The images", &images::section(material));
    body += &section("search", "Search", &curves::search(search.as_ref()));
    body += &section("changes", "How the cells changed", &timeline::tables(search.as_ref()));
    body += &section("retraining", "Retraining", &curves::retrain(retrain.as_ref()));
    body += &section("accuracy", "Accuracy by class", &accuracy::tables(evaluation.as_ref()));
    body += &section("costs", "Costs", &costs::tables(material));
    body += &section("settings", "Settings and sessions", &settings(material));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n\
         <footer>Written by ec-darts {} ({}).</footer>\n</body>\n</html>\n",
        html::escape(&summary::title(material)),
        ec_darts::VERSION,
        ec_darts::COMMIT,
    )
}

fn settings(material: &Material) -> String {
    let of = |name: &str, run: &Option<Run>| match run {
        None => format!("<h3>{name}</h3>\n<p class=\"none\">Not run.</p>\n"),
        Some(run) => {
            let text = run.config_text.as_deref().unwrap_or("config.toml is not there");
            let config = details("config.toml", &format!("<pre>{}</pre>", html::escape(text)));
            format!("<h3>{name}</h3>\n{}{config}", sessions(run))
        }
    };
    of("Search", &material.search) + &of("Retraining", &material.retrain)
}

fn sessions(run: &Run) -> String {
    let rows: Vec<Vec<String>> = run
        .sessions
        .iter()
        .map(|session| {
            let text = |key: &str| session[key].as_str().map_or("?".into(), html::escape);
            let step =
                |key: &str| session[key].as_u64().map_or("?".into(), |step| step.to_string());
            let time = session["seconds"].as_f64().map_or("not recorded".into(), html::duration);
            let version =
                format!("{} ({}), Burn {}", text("version"), text("commit"), text("burn"));
            let steps = format!("{} to {}", step("from_step"), step("to_step"));
            vec![text("started"), text("device"), version, steps, time]
        })
        .collect();
    html::table(&["started", "device", "version", "steps", "time"], &rows)
}
