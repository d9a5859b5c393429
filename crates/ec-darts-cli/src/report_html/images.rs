//! Which images the runs worked on, and what was left out.

use serde_json::Value;

use super::html::{count, details, escape, table};
use super::read::Material;

pub fn section(material: &Material) -> String {
    let evaluation = material.evaluation.as_ref();
    let evaluated = evaluation.and_then(|all| all.get("images"));
    let sets: Vec<&Value> =
        material.data.iter().filter_map(|data| data.get("images")).chain(evaluated).collect();
    let Some(first) = sets.first() else {
        return "<p class=\"none\">No run says which images it worked on.</p>\n".into();
    };
    let number = |value: &Value| value.as_u64().map_or("?".into(), count);
    let mut text = format!(
        "<p>{} images for training and {} for testing.</p>\n",
        number(&first["train_images"]),
        number(&first["test_images"])
    );
    if evaluation.is_some_and(|all| all["same_images"] == Value::Bool(false)) {
        text += "<p class=\"warnings\">The test images of the evaluation are not those that were set \
                 apart when the model was trained; it may have been trained on some of them.</p>\n";
    }
    let mut rows: Vec<Vec<String>> = Vec::new();
    for notice in sets.iter().filter_map(|set| set["notices"].as_array()).flatten() {
        let row = row(notice);
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    text += &match rows.is_empty() {
        true => "<p>Nothing was left out.</p>\n".into(),
        false => table(&["what", "how many", "why", "which"], &rows),
    };
    let classes = first["classes"].as_array().into_iter().flatten().map(|class| {
        let name = escape(class["name"].as_str().unwrap_or("?"));
        vec![name, number(&class["train_images"]), number(&class["test_images"])]
    });
    let classes = table(&["class", "training", "testing"], &classes.collect::<Vec<_>>());
    text + &details("Images of each class", &classes)
}

/// Kind, count, reason, and the files.
fn row(notice: &Value) -> Vec<String> {
    let text = |key: &str| escape(notice[key].as_str().unwrap_or("?"));
    let paths = notice["paths"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut names: Vec<String> = paths.take(20).map(escape).collect();
    let all = notice["count"].as_u64().unwrap_or(0);
    if all > names.len() as u64 {
        names.push(format!("and {} more", count(all - names.len() as u64)));
    }
    vec![text("kind"), count(all), text("reason"), names.join("<br>")]
}
