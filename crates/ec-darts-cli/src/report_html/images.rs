//! The images that the runs worked on, and those that were left out.

use maud::{Markup, html};
use serde_json::Value;

use super::html::{cell, count, details, none};
use super::read::Material;

/// Names that are listed of each notice.
const LISTED: usize = 20;

pub fn table(material: &Material) -> Markup {
    let evaluation = material.evaluation.as_ref();
    let evaluated = evaluation.map(|report| &report.images).filter(|images| images.is_object());
    let sets: Vec<&Value> =
        material.data.iter().filter_map(|data| data.get("images")).chain(evaluated).collect();
    let Some(first) = sets.first() else {
        return none("No run says which images it worked on.");
    };
    let number = |value: &Value| value.as_u64().map_or("?".into(), count);
    let mut notices: Vec<&Value> = Vec::new();
    for notice in sets.iter().filter_map(|set| set["notices"].as_array()).flatten() {
        if !notices.contains(&notice) {
            notices.push(notice);
        }
    }
    let classes: Vec<Vec<Markup>> = first["classes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|class| {
            let name = cell(class["name"].as_str().unwrap_or("?"));
            vec![name, cell(number(&class["train_images"])), cell(number(&class["test_images"]))]
        })
        .collect();
    let classes = super::html::table(&["class", "training", "testing"], &classes);
    html! {
        p {
            (number(&first["train_images"])) " images for training and "
            (number(&first["test_images"])) " for testing."
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
                &["what", "how many", "why", "which"],
                &notices.into_iter().map(row).collect::<Vec<_>>(),
            ))
        }
        (details("Images of each class", classes))
    }
}

/// Kind, count, reason, and the files.
fn row(notice: &Value) -> Vec<Markup> {
    let text = |key: &str| cell(notice[key].as_str().unwrap_or("?"));
    let paths = notice["paths"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut names: Vec<String> = paths.take(LISTED).map(String::from).collect();
    let all = notice["count"].as_u64().unwrap_or(0);
    if all > names.len() as u64 {
        names.push(format!("and {} more", count(all - names.len() as u64)));
    }
    let names = html! {
        @for (place, name) in names.iter().enumerate() { @if place > 0 { br; } (name) }
    };
    vec![text("kind"), cell(count(all)), text("reason"), names]
}
