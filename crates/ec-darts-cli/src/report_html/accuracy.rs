//! Accuracy of each class, the most frequent confusions, and the most confident mistakes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ec_darts::model::Evaluation;
use maud::{Markup, PreEscaped, html};

use super::html::{cell, count, details, percent, table};
use super::read::Material;
use crate::confusion;

/// The largest number of classes that are shown without unfolding.
const FEW: usize = 20;
/// The largest number of classes with a picture of the matrix.
const DRAWN: usize = 200;
/// The number of listed confusions.
const LISTED: usize = 10;

pub fn tables(material: &Material) -> Markup {
    let Some(report) = &material.evaluation else {
        return html! {
            p.none {
                "Not run. " code { "ec-darts evaluate" } " measures the trained network on the test images."
            }
        };
    };
    let evaluation = &report.evaluation;
    let classes = by_class(evaluation);
    let title = format!("All {} classes", evaluation.classes.len());
    html! {
        @if evaluation.classes.len() <= FEW { (classes) } @else { (details(&title, classes)) }
        (confused(evaluation))
        @if !report.mistakes.is_empty() { (gallery(material)) }
    }
}

fn by_class(evaluation: &Evaluation) -> Markup {
    let rows: Vec<Vec<Markup>> = evaluation
        .classes
        .iter()
        .map(|class| {
            let accuracy = match class.accuracy {
                None => cell("no images"),
                Some(accuracy) => html! {
                    span.bar style=(format!("--share:{accuracy:.3}")) {} (percent(accuracy))
                },
            };
            vec![cell(&class.name), accuracy, cell(count(class.num_images))]
        })
        .collect();
    table(&["class", "accuracy", "images"], &rows)
}

fn confused(evaluation: &Evaluation) -> Markup {
    let name = |class: usize| evaluation.classes.get(class).map_or("?", |class| &class.name);
    let mut wrong: Vec<(u64, usize, usize)> = Vec::new();
    for (truth, row) in evaluation.confusion.iter().enumerate() {
        let others = row.iter().enumerate().filter(|&(told, &images)| told != truth && images > 0);
        wrong.extend(others.map(|(told, &images)| (images, truth, told)));
    }
    // The sort is stable: equal counts stay in the order of classes.
    wrong.sort_by_key(|&(images, ..)| std::cmp::Reverse(images));
    let rows: Vec<Vec<Markup>> = wrong
        .iter()
        .take(LISTED)
        .map(|&(images, truth, told)| {
            vec![cell(name(truth)), cell(name(told)), cell(count(images))]
        })
        .collect();
    html! {
        h3 { "Confusion" }
        @if evaluation.classes.len() <= DRAWN {
            p { "Rows: true class; columns: predicted class; the shade is the share of the true class." }
            div.wide.paper.matrix { (PreEscaped(confusion::svg(evaluation))) }
        }
        (table(&["true class", "taken for", "images"], &rows))
    }
}

/// The pictures of mistakes. They are part of the page, so that it needs no other file.
fn gallery(material: &Material) -> Markup {
    let mistakes = material.evaluation.iter().flat_map(|report| &report.mistakes);
    html! {
        h3 { "The surest mistakes" }
        p { "Test images that were taken for another class with the largest probability: hard images, and \
             labels that are worth a look." }
        ul.gallery {
            @for (mistake, picture) in mistakes.zip(&material.pictures) {
                li {
                    @if let Some(png) = picture {
                        img alt=(mistake.class) src=(format!("data:image/png;base64,{}", STANDARD.encode(png)));
                    }
                    strong { (mistake.predicted) } " " (percent(mistake.probability)) br;
                    "is " (mistake.class) br;
                    small { (mistake.image) }
                }
            }
        }
    }
}
