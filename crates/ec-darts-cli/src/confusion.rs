//! A confusion matrix as a table and as a picture.

use ec_darts::model::Evaluation;

use crate::terminal::visible;

/// Space around the matrix, in pixels.
const MARGIN: f64 = 16.0;
/// Most classes whose names are written beside the matrix, and whose counts are written in it.
const NAMED: usize = 200;
const COUNTED: usize = 20;

/// One row per true class, with the images of each predicted class.
pub fn csv(evaluation: &Evaluation) -> String {
    let quoted = |name: &str| match name.contains(['"', ',', '\n']) {
        true => format!("\"{}\"", name.replace('"', "\"\"")),
        false => name.to_string(),
    };
    let mut text = String::from("true class");
    for class in &evaluation.classes {
        text += &format!(",{}", quoted(&class.name));
    }
    for (class, row) in evaluation.classes.iter().zip(&evaluation.confusion) {
        text += &format!("\n{}", quoted(&class.name));
        row.iter().for_each(|count| text += &format!(",{count}"));
    }
    text + "\n"
}

/// A heat map: the darker a field, the larger its share of the images of its row's class.
pub fn svg(evaluation: &Evaluation) -> String {
    let count = evaluation.classes.len();
    let named = count <= NAMED;
    let cell = match named {
        true => (640.0 / count as f64).clamp(9.0, 44.0),
        false => 1400.0 / count as f64,
    };
    let font = (cell - 1.0).clamp(1.0, 12.0);
    let longest = evaluation.classes.iter().map(|class| class.name.chars().count()).max();
    let label = match named {
        true => font * 0.62 * longest.unwrap_or(0).min(30) as f64 + 8.0,
        false => 0.0,
    };
    let (left, top) = (MARGIN + 20.0 + label, MARGIN + 44.0 + label);
    let side = cell * count as f64;
    let (width, height) = ((left + side + MARGIN).max(340.0), top + side + MARGIN);
    let mut body = format!(
        "<text x=\"{MARGIN}\" y=\"{}\" font-size=\"15\" font-weight=\"bold\">Confusion matrix, \
         {} images, top-1 {:.2} %</text>\n",
        MARGIN + 12.0,
        evaluation.num_images,
        100.0 * evaluation.top1
    );
    let text = |x: f64, y: f64, more: &str, text: &str| {
        format!("<text x=\"{x:.1}\" y=\"{y:.1}\" {more}>{}</text>\n", escaped(text))
    };
    let (x, y) = (left + side / 2.0, MARGIN + 36.0);
    body += &text(x, y, "font-size=\"13\" text-anchor=\"middle\"", "predicted class");
    let (x, y) = (MARGIN + 10.0, top + side / 2.0);
    let turn =
        format!("font-size=\"13\" text-anchor=\"middle\" transform=\"rotate(-90 {x:.1} {y:.1})\"");
    body += &text(x, y, &turn, "true class");
    for (place, (class, row)) in evaluation.classes.iter().zip(&evaluation.confusion).enumerate() {
        let (along, below) = (left + place as f64 * cell, top + place as f64 * cell);
        if named {
            let name: String = class.name.chars().take(30).collect();
            let y = below + cell / 2.0 + font * 0.35;
            let end = format!("font-size=\"{font:.1}\" text-anchor=\"end\"");
            body += &text(left - 6.0, y, &end, &name);
            let (x, y) = (along + cell / 2.0 + font * 0.35, top - 6.0);
            let turn = format!("font-size=\"{font:.1}\" transform=\"rotate(-90 {x:.1} {y:.1})\"");
            body += &text(x, y, &turn, &name);
        }
        for (column, &images) in row.iter().enumerate().filter(|(_, images)| **images > 0) {
            let x = left + column as f64 * cell;
            let share = images as f64 / class.num_images as f64;
            body += &format!(
                "<rect x=\"{x:.2}\" y=\"{below:.2}\" width=\"{cell:.2}\" height=\"{cell:.2}\" \
                 fill=\"{}\"/>\n",
                shade(share)
            );
            if count <= COUNTED {
                let ink = if share > 0.5 { "#fff" } else { "#222" };
                let more = format!("font-size=\"11\" text-anchor=\"middle\" fill=\"{ink}\"");
                let (x, y) = (x + cell / 2.0, below + cell / 2.0 + 4.0);
                body += &text(x, y, &more, &images.to_string());
            }
        }
    }
    body += &format!(
        "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{side:.1}\" height=\"{side:.1}\" \
         fill=\"none\" stroke=\"#888\"/>\n"
    );
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"Helvetica, Arial, sans-serif\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

/// From white to dark blue.
fn shade(share: f64) -> String {
    let between = |from: f64, to: f64| (from + (to - from) * share).round() as u8;
    format!("#{:02x}{:02x}{:02x}", between(240.0, 8.0), between(245.0, 48.0), between(252.0, 107.0))
}

fn escaped(text: &str) -> String {
    visible(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
