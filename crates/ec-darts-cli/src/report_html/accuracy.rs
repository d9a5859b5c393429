//! Accuracy of each class, and what was taken for what.

use serde_json::Value;

use super::html::{count, details, escape, percent, table};
use super::read::figures;

/// Most classes that are shown without unfolding, with numbers in the matrix.
const FEW: usize = 20;
/// Most classes with a picture of the matrix.
const DRAWN: usize = 200;
/// Confusions listed.
const LISTED: usize = 10;

/// A class of the test set.
struct Class {
    name: String,
    accuracy: Option<f64>,
    images: Option<u64>,
}

pub fn tables(evaluation: Option<&Value>) -> String {
    let Some(evaluation) = evaluation else {
        return "<p class=\"none\">Not run. <code>ec-darts evaluate</code> measures the trained \
                network on the test images.</p>\n"
            .into();
    };
    let figures = figures(evaluation);
    let matrix = matrix(&figures["confusion"]);
    let classes = classes(figures, matrix.as_deref());
    let mut text = String::new();
    let rows: Vec<Vec<String>> = classes
        .iter()
        .map(|class| {
            let bar = class.accuracy.map_or("no images".into(), |accuracy| {
                format!(
                    "<span class=\"bar\" style=\"--share:{accuracy:.3}\"></span>{}",
                    percent(accuracy)
                )
            });
            let images = class.images.map_or("?".into(), count);
            vec![escape(&class.name), bar, images]
        })
        .collect();
    if !rows.is_empty() {
        let all = table(&["class", "accuracy", "images"], &rows);
        let title = format!("All {} classes", rows.len());
        text += &if rows.len() <= FEW { all } else { details(&title, &all) };
    }
    match matrix {
        Some(matrix) => text += &confusion(&classes, &matrix),
        None => text += "<p class=\"none\">No confusion matrix in evaluation.json.</p>\n",
    }
    text
}

/// Images by true and by predicted class; nothing where it is no square of counts.
fn matrix(value: &Value) -> Option<Vec<Vec<u64>>> {
    let rows = value.as_array().filter(|rows| !rows.is_empty())?;
    let row = |row: &Value| -> Option<Vec<u64>> {
        let row = row.as_array().filter(|row| row.len() == rows.len())?;
        row.iter().map(Value::as_u64).collect()
    };
    rows.iter().map(row).collect()
}

/// Names and accuracies, from `classes` or `per_class`, or counted from the matrix.
fn classes(figures: &Value, matrix: Option<&[Vec<u64>]>) -> Vec<Class> {
    let listed = ["classes", "per_class"].into_iter().find_map(|key| figures[key].as_array());
    if let Some(listed) = listed {
        let class = |(number, entry): (usize, &Value)| Class {
            name: entry["name"]
                .as_str()
                .or(entry["class"].as_str())
                .map_or_else(|| number.to_string(), str::to_string),
            accuracy: entry.as_f64().or(entry["accuracy"].as_f64()),
            images: entry["num_images"].as_u64().or(entry["images"].as_u64()),
        };
        return listed.iter().enumerate().map(class).collect();
    }
    let rows = matrix.unwrap_or_default().iter().enumerate();
    rows.map(|(number, row)| {
        let images: u64 = row.iter().sum();
        let accuracy = (images > 0).then(|| row[number] as f64 / images as f64);
        Class { name: number.to_string(), accuracy, images: Some(images) }
    })
    .collect()
}

fn confusion(classes: &[Class], matrix: &[Vec<u64>]) -> String {
    let name = |number: usize| {
        let known = classes.get(number).map(|class| class.name.clone());
        escape(&known.unwrap_or_else(|| number.to_string()))
    };
    let mut wrong: Vec<(u64, usize, usize)> = Vec::new();
    for (truth, row) in matrix.iter().enumerate() {
        let others = row.iter().enumerate().filter(|&(told, &images)| told != truth && images > 0);
        wrong.extend(others.map(|(told, &images)| (images, truth, told)));
    }
    // The sort is stable: equal counts stay in the order of classes.
    wrong.sort_by_key(|&(images, ..)| std::cmp::Reverse(images));
    let row =
        |&(images, truth, told): &(u64, usize, usize)| vec![name(truth), name(told), count(images)];
    let rows: Vec<Vec<String>> = wrong.iter().take(LISTED).map(row).collect();
    let picture = match matrix.len() {
        0..=FEW => numbers(matrix, &name),
        size if size <= DRAWN => drawn(matrix),
        _ => String::new(),
    };
    format!("<h3>Confusion</h3>\n{picture}{}", table(&["true class", "taken for", "images"], &rows))
}

/// Every count in a field whose shade is its share of the row.
fn numbers(matrix: &[Vec<u64>], name: &dyn Fn(usize) -> String) -> String {
    let head: String = (0..matrix.len())
        .map(|told| format!("<th scope=\"col\"><span>{}</span></th>", name(told)))
        .collect();
    let mut rows = String::new();
    for (truth, row) in matrix.iter().enumerate() {
        let images = row.iter().sum::<u64>().max(1);
        rows += &format!("<tr><th scope=\"row\">{}</th>", name(truth));
        for &each in row {
            let share = each as f64 / images as f64;
            let strong = if share > 0.65 { " class=\"strong\"" } else { "" };
            rows += &format!("<td{strong} style=\"--share:{share:.3}\">{each}</td>");
        }
        rows += "</tr>\n";
    }
    format!(
        "<p>Down: true class; across: what the network says; number of images.</p>\n\
         <div class=\"wide\"><table class=\"confusion\">\n<thead><tr><td></td>{head}</tr></thead>\n<tbody>\n{rows}\
         </tbody>\n</table></div>\n"
    )
}

/// A square of as many fields as there are classes, without numbers.
fn drawn(matrix: &[Vec<u64>]) -> String {
    let size = matrix.len();
    let mut fields = String::new();
    for (truth, row) in matrix.iter().enumerate() {
        let images = row.iter().sum::<u64>().max(1) as f64;
        for (told, &each) in row.iter().enumerate().filter(|&(_, &each)| each > 0) {
            // Rare confusions stay visible.
            let shade = 0.15 + 0.85 * each as f64 / images;
            fields += &format!(
                "<rect x=\"{told}\" y=\"{truth}\" width=\"1\" height=\"1\" \
                 fill-opacity=\"{shade:.2}\"/>"
            );
        }
    }
    format!(
        "<figure><figcaption>Down: true class; across: what the network says; the shade is the share \
         of the true class</figcaption>\n<svg class=\"matrix\" role=\"img\" \
         aria-label=\"Confusion matrix\" viewBox=\"0 0 {size} {size}\">{fields}</svg></figure>\n"
    )
}
