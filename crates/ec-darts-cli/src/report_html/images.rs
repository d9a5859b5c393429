//! The images of the runs, and the images that were left out.

use ec_darts::data::DataNotice;
use maud::{Markup, html};

use super::html::{cell, count, details, none};
use super::read::Material;
use crate::images::Facts;

/// The largest number of names listed for each notice.
const LISTED: usize = 20;

pub fn table(material: &Material) -> Markup {
    let evaluation = material.evaluation.as_ref();
    let evaluated = evaluation.and_then(|report| report.images.as_ref());
    let sets: Vec<&Facts> =
        material.data.iter().map(|file| &file.images).chain(evaluated).collect();
    let Some(first) = sets.first() else {
        return none("No run says which images it worked on.");
    };
    let mut notices: Vec<&DataNotice> = Vec::new();
    for notice in sets.iter().flat_map(|set| &set.notices) {
        if !notices.contains(&notice) {
            notices.push(notice);
        }
    }
    let classes: Vec<Vec<Markup>> = first
        .classes
        .iter()
        .map(|class| {
            vec![cell(&class.name), cell(count(class.train_images)), cell(count(class.test_images))]
        })
        .collect();
    let classes = super::html::table(&["class", "training", "testing"], &classes);
    html! {
        p {
            (count(first.train_images)) " images for training and "
            (count(first.test_images)) " for testing."
        }
        @if evaluation.is_some_and(|report| report.same_images == Some(false)) {
            p.warnings {
                "The test images of the evaluation are not those that were set apart when the model was \
                 trained; it may have been trained on some of them."
            }
        }
        @if notices.is_empty() {
            p { "Nothing was left out." }
        } @else {
            (super::html::table(
                &["kind", "count", "reason", "names"],
                &notices.into_iter().map(row).collect::<Vec<_>>(),
            ))
        }
        (details("Images of each class", classes))
    }
}

/// The kind, the count, the reason, and the files.
fn row(notice: &DataNotice) -> Vec<Markup> {
    let paths = notice.paths.iter().take(LISTED);
    let mut names: Vec<String> = paths.map(|path| path.display().to_string()).collect();
    if notice.count > names.len() {
        names.push(format!("and {} more", count((notice.count - names.len()) as u64)));
    }
    let names = html! {
        @for (place, name) in names.iter().enumerate() { @if place > 0 { br; } (name) }
    };
    let how_many = cell(count(notice.count as u64));
    vec![cell(notice.kind.name()), how_many, cell(&notice.reason), names]
}
