//! `ec-darts study report`: the results of a study, as a page, as Markdown and as tables.
//!
//! Invariant: a report follows from [`Results`] alone, which are written beside it.

mod blocks;
mod content;
mod page;
mod pictures;
mod ranks;
mod text;

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use ec_darts::files;
use ec_darts_study::analysis::{Analysis, Question, place};
use ec_darts_study::{Results, Study, folder, genotypes};

use crate::args::StudyReportArguments;
use crate::print;
use crate::terminal::visible;
use blocks::{Block, Picture, Section};
use pictures::Links;

/// The path from a report to the run folders of its study.
const UP: &str = "../../";

pub fn run(arguments: &StudyReportArguments) -> anyhow::Result<()> {
    let question = Question { difference: arguments.difference / 100.0, power: arguments.power };
    let is_results = arguments.study.extension().is_some_and(|extension| extension == "json");
    let out = |reason: &str| super::usage("--out".into(), reason);
    let (results, folder, links) = match (&arguments.out, is_results) {
        (None, true) => {
            let folder = arguments.study.parent().unwrap_or(Path::new("")).to_path_buf();
            (read(&arguments.study)?, folder, Links(None))
        }
        (Some(_), true) => {
            return Err(out("results in a file have their report beside them").into());
        }
        (None, false) => return Err(out("expected the folder of the study").into()),
        (Some(out), false) => {
            let study = Study::open(&arguments.study)?;
            ensure!(out.is_dir(), "{}: no such folder", out.display());
            return print(&(of_study(&study, out, question)?.lines() + "\n"));
        }
    };
    let written = write(&results, question, &folder, links)?;
    print(&format!("wrote {}\n", written.display()))
}

/// The files of a report that are named to its reader.
pub struct Written {
    pub page: PathBuf,
    /// The most accurate genotype, where all trials are done, and its description.
    pub best: Option<(PathBuf, String)>,
}

impl Written {
    pub fn lines(&self) -> String {
        let page = format!("wrote {}", self.page.display());
        match &self.best {
            Some((path, of)) => {
                format!("{page}\nthe most accurate genotype, {of}: {}", path.display())
            }
            None => page,
        }
    }
}

/// Makes or renews the report of a study in its folder; only one process does so at a time.
pub fn of_study(study: &Study, out: &Path, question: Question) -> anyhow::Result<Written> {
    let _held = folder::hold(out)?;
    let folder = out.join("reports").join(&study.name);
    let results = Results::read(study, out)?;
    let path = folder.join("best.json");
    // That of an earlier report is not the best of this one.
    if path.exists() {
        let told = || format!("cannot remove {}", path.display());
        std::fs::remove_file(&path).with_context(told)?;
    }
    let page = write(&results, question, &folder, Links(Some(UP)))?;
    let Some(best) = results.best() else { return Ok(Written { page, best: None }) };
    let genotype = genotypes::returned(&out.join(&best.trainings[0].folder))?;
    files::write(&path, genotype.to_json().as_bytes())?;
    let of = format!("{}, {}", best.variant, place(&best.place));
    let of = format!("{of}, {:.2} % on average", 100.0 * best.accuracy());
    Ok(Written { page, best: Some((path, of)) })
}

fn read(path: &Path) -> anyhow::Result<Results> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text)
        .with_context(|| format!("{}: expected results that a report wrote", path.display()))
}

/// Makes or renews all files of a report.
fn write(
    results: &Results,
    question: Question,
    folder: &Path,
    links: Links,
) -> anyhow::Result<PathBuf> {
    let analysis = Analysis::of(results, question);
    let sections = content::sections(results, &analysis, question, links);
    let lead = content::lead(results);
    if !folder.as_os_str().is_empty() {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let page = page::page(&results.study, &lead, &sections, links).into_string();
    let markdown = text::markdown(&results.study, &lead, &sections);
    let page_path = folder.join("report.html");
    let json = serde_json::to_vec_pretty(results).context("results as JSON")?;
    files::write(&folder.join("results.json"), &json)?;
    files::write(&folder.join("report.md"), visible(&markdown).as_bytes())?;
    files::write(&folder.join("figures.csv"), &text::figures(&sections)?)?;
    files::write(&folder.join("trainings.csv"), &text::trainings(results)?)?;
    files::write(&folder.join("searches.csv"), &text::searches(results)?)?;
    remove_pictures(folder)?;
    for picture in drawn(&sections) {
        let file = folder.join(format!("{}.svg", picture.name));
        files::write(&file, on_paper(picture).as_bytes())?;
    }
    files::write(&page_path, visible(&page).as_bytes())?;
    Ok(page_path)
}

/// Removes the pictures of an earlier report, which may have had other ones.
fn remove_pictures(folder: &Path) -> anyhow::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry.with_context(|| folder.display().to_string())?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.strip_suffix(".svg").is_some_and(pictures::is_name) {
            std::fs::remove_file(&path).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}

fn drawn(sections: &[Section]) -> impl Iterator<Item = &Picture> {
    let blocks = sections.iter().flat_map(|section| &section.blocks);
    let lists = blocks.filter_map(|block| match block {
        Block::Pictures(pictures) => Some(pictures),
        _ => None,
    });
    lists.flatten()
}

/// The picture on a white ground, because a single file has no page around it.
fn on_paper(picture: &Picture) -> String {
    let svg = visible(&picture.svg.0).into_owned();
    let head = "font-family=\"system-ui, sans-serif\" style=\"background: #ffffff\" ";
    svg.replacen("<svg ", &format!("<svg {head}"), 1)
}
