//! Dots of every trial, and scatter plots. The SVG is written by our own code, because every dot is
//! a link to its run folder with its figures, which plotters does not support.
//!
//! The colours come from `style.css`, which has other colours for dark mode.

use std::path::Path;

use ec_darts_study::TrainingResult;
use ec_darts_study::analysis::{RankGroup, RankPoint};
use ec_darts_study::statistics::Interval;
use maud::{Markup, html};

use super::blocks::number;

/// Three times the width shown on a phone, as in the plots of other reports.
const WIDTH: f64 = 1080.0;
const SIDE: f64 = 900.0;
const TEXT: &str = "#333333";
const GRID: &str = "#CCCCCC";
const DOT: &str = "#0072B2";
const MEAN: &str = "#D55E00";
const FONT: f64 = 36.0;

/// Whether a report has a picture of this name: `dots`, `agreement` or `ranks-N`.
pub fn is_name(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    matches!(name, "dots" | "agreement") || name.strip_prefix("ranks-").is_some_and(is_number)
}

/// A band of [`dots`]: a variant, or one search of it.
pub struct Band {
    pub name: String,
    pub rows: Vec<Row>,
    pub mean: Option<f64>,
    pub interval: Option<Interval>,
}

/// The trainings of one genotype.
pub struct Row {
    pub name: String,
    /// Accuracy in percent, and the link and name of its folder.
    pub dots: Vec<(f64, String)>,
}

/// The path from the page to the run folders; none where they are not kept.
#[derive(Clone, Copy)]
pub struct Links<'a>(pub Option<&'a str>);

impl Links<'_> {
    pub fn to(self, folder: &str) -> Option<String> {
        self.0.map(|prefix| format!("{prefix}{folder}"))
    }
}

/// A scale of values on a line of pixels.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// The scale of all values, with a small margin at both ends.
    fn around(values: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> Self {
        let (low, high) =
            (values.clone().fold(f64::MAX, f64::min), values.fold(f64::MIN, f64::max));
        let gap = if high > low { 0.06 * (high - low) } else { 0.5 };
        Self { low: low - gap, high: high + gap, from, to }
    }

    fn at(&self, value: f64) -> f64 {
        let place = self.from + (self.to - self.from) * (value - self.low) / (self.high - self.low);
        (place * 10.0).round() / 10.0
    }

    /// Round values, and their number of digits.
    fn ticks(&self) -> (Vec<f64>, usize) {
        let rough = (self.high - self.low) / 7.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|s| s * power).into_iter().find(|s| *s >= rough);
        let step = step.unwrap_or(10.0 * power);
        let (first, last) = ((self.low / step).ceil() as i64, (self.high / step).floor() as i64);
        let ticks = (first..=last).map(|count| count as f64 * step).collect();
        (ticks, (-step.log10().floor()).max(0.0) as usize)
    }
}

/// The accuracy of every training, one line per genotype; the mean and its interval below.
pub fn dots(bands: &[Band], links: Links) -> Markup {
    let values = bands.iter().flat_map(|band| {
        let dots = band.rows.iter().flat_map(|row| row.dots.iter().map(|(value, _)| *value));
        let ends = band.interval.iter().flat_map(|interval| [interval.low, interval.high]);
        dots.chain(ends)
    });
    let axis = Axis::around(values, 30.0, WIDTH - 30.0);
    let (mut top, mut placed) = (20.0, Vec::new());
    for band in bands {
        let height = 62.0 + 26.0 * band.rows.len() as f64 + 34.0;
        placed.push((top, band));
        top += height + 22.0;
    }
    let (ticks, digits) = axis.ticks();
    html! {
        svg role="img" class="plot" aria-label="Accuracy of every training" xmlns="http://www.w3.org/2000/svg"
            viewBox=(format!("0 0 {WIDTH} {}", top + 110.0)) {
            @for tick in &ticks {
                line x1=(axis.at(*tick)) x2=(axis.at(*tick)) y1="10" y2=(top) stroke=(GRID) stroke-width="2" {}
                text x=(axis.at(*tick)) y=(top + 40.0) font-size=(FONT) text-anchor="middle" fill=(TEXT) {
                    (number(*tick, digits))
                }
            }
            text x=(WIDTH / 2.0) y=(top + 90.0) font-size=(FONT) text-anchor="middle" fill=(TEXT) {
                "accuracy after training, %"
            }
            @for (top, band) in placed { (one_band(band, top, &axis, links)) }
        }
    }
}

fn one_band(band: &Band, top: f64, axis: &Axis, links: Links) -> Markup {
    let row_at = |row: usize| top + 68.0 + 26.0 * row as f64;
    let below = row_at(band.rows.len()) + 6.0;
    html! {
        text x="30" y=(top + 36.0) font-size=(FONT) font-weight="600" fill=(TEXT) { (band.name) }
        @for (place, row) in band.rows.iter().enumerate() {
            @let values = row.dots.iter().map(|(value, _)| axis.at(*value));
            line x1=(values.clone().fold(f64::MAX, f64::min)) x2=(values.fold(f64::MIN, f64::max))
                y1=(row_at(place)) y2=(row_at(place)) stroke=(DOT) stroke-width="2" {}
            @for (value, folder) in &row.dots {
                @let told = format!("{}: {} %, {folder}", row.name, number(*value, 2));
                (dot(axis.at(*value), row_at(place), &told, links.to(folder)))
            }
        }
        @if let Some(interval) = &band.interval {
            line x1=(axis.at(interval.low)) x2=(axis.at(interval.high)) y1=(below) y2=(below)
                stroke=(MEAN) stroke-width="6" {}
        }
        @if let Some(mean) = band.mean {
            rect x=(axis.at(mean) - 4.0) y=(below - 16.0) width="8" height="32" fill=(MEAN) {
                title { "mean " (number(mean, 2)) " %" }
            }
        }
    }
}

fn dot(x: f64, y: f64, told: &str, link: Option<String>) -> Markup {
    let circle = html! {
        circle cx=(x) cy=(y) r="10" fill=(DOT) fill-opacity="0.75" { title { (told) } }
    };
    match link {
        Some(link) => html! { a href=(link) { (circle) } },
        None => circle,
    }
}

/// Ranks of genotypes by the search and by accuracy after training; 1 is the best. The dashed line is agreement.
pub fn ranks(group: &RankGroup, links: Links) -> Markup {
    let count = group.points.len() as f64;
    let (across, down) = (
        ranked(group.points.iter().map(|point| point.score)),
        ranked(group.points.iter().map(|point| point.accuracy)),
    );
    let axis = Axis { low: 0.5, high: count + 0.5, from: 110.0, to: SIDE - 30.0 };
    let step = (group.points.len() / 10).max(1);
    let ticks: Vec<f64> = (1..=group.points.len()).step_by(step).map(|tick| tick as f64).collect();
    let points = group.points.iter().zip(across.iter().zip(&down)).map(|(point, (x, y))| {
        (*x, *y, told(point), point.folders.first().and_then(|folder| link(links, folder)))
    });
    let head = format!("rank by {}", group.score.name());
    scatter(&axis, &ticks, 0, [&head, "rank after training"], points.collect())
}

/// Accuracies of the first two training seeds; a dot leads to the first training.
pub fn agreement(pairs: &[[TrainingResult; 2]], links: Links) -> Markup {
    let values = pairs.as_flattened().iter().map(|training| 100.0 * training.accuracy);
    let axis = Axis::around(values, 150.0, SIDE - 30.0);
    let (ticks, digits) = axis.ticks();
    let points = pairs.iter().map(|pair| {
        let [a, b] = pair.each_ref().map(|training| 100.0 * training.accuracy);
        let [of_a, of_b] = pair.each_ref().map(|training| training.folder.display());
        let told = format!("{of_a}: {} %, {of_b}: {} %", number(a, 2), number(b, 2));
        (a, b, told, link(links, &pair[0].folder))
    });
    let heads = ["first training seed, %", "second training seed, %"];
    scatter(&axis, &ticks, digits, heads, points.collect())
}

type Point = (f64, f64, String, Option<String>);

/// A scatter plot with the same axis twice.
fn scatter(
    axis: &Axis,
    ticks: &[f64],
    digits: usize,
    heads: [&str; 2],
    points: Vec<Point>,
) -> Markup {
    // Upwards on the page means fewer pixels.
    let up = |value: f64| SIDE - axis.at(value) + 40.0;
    let (left, bottom) = (axis.from - 20.0, SIDE - axis.from + 60.0);
    html! {
        svg role="img" class="plot" aria-label=(format!("{} against {}", heads[1], heads[0]))
            xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {SIDE} {}", SIDE + 60.0)) {
            line x1=(axis.at(axis.low)) y1=(up(axis.low)) x2=(axis.at(axis.high)) y2=(up(axis.high))
                stroke=(GRID) stroke-width="3" stroke-dasharray="14 10" {}
            line x1=(left) x2=(axis.to) y1=(bottom) y2=(bottom) stroke=(TEXT) stroke-width="3" {}
            line x1=(left) x2=(left) y1=(up(axis.high)) y2=(bottom) stroke=(TEXT) stroke-width="3" {}
            @for tick in ticks {
                text x=(axis.at(*tick)) y=(bottom + 44.0) font-size=(FONT) text-anchor="middle" fill=(TEXT) {
                    (number(*tick, digits))
                }
                text x=(left - 14.0) y=(up(*tick) + 12.0) font-size=(FONT) text-anchor="end" fill=(TEXT) {
                    (number(*tick, digits))
                }
            }
            text x=(SIDE / 2.0) y=(bottom + 92.0) font-size=(FONT) text-anchor="middle" fill=(TEXT) { (heads[0]) }
            text x="4" y="30" font-size=(FONT) fill=(TEXT) { (heads[1]) }
            @for (x, y, told, link) in points { (dot(axis.at(x), up(y), &told, link)) }
        }
    }
}

fn told(point: &RankPoint) -> String {
    let RankPoint { name, score, accuracy, .. } = point;
    format!(
        "{name}: {} in the search, {} % after training",
        number(*score, 4),
        number(100.0 * accuracy, 2)
    )
}

fn link(links: Links, folder: &Path) -> Option<String> {
    links.to(&folder.to_string_lossy())
}

/// Ranks: 1 is the largest value; equal values share the mean of their ranks.
fn ranked(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let values: Vec<f64> = values.collect();
    let rank = |value: &f64| {
        let above = values.iter().filter(|other| *other > value).count();
        let equal = values.iter().filter(|other| *other == value).count();
        above as f64 + (equal as f64 + 1.0) / 2.0
    };
    values.iter().map(rank).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_with_ties() {
        assert_eq!(ranked([0.3, 0.9, 0.3, 0.5].into_iter()), [3.5, 1.0, 3.5, 2.0]);
    }

    #[test]
    fn ticks_are_round() {
        let axis = Axis::around([63.1, 69.4].into_iter(), 0.0, 100.0);
        let (ticks, digits) = axis.ticks();
        assert_eq!((ticks, digits), (vec![64.0, 66.0, 68.0], 0));
        let (ticks, digits) = Axis::around([0.31, 0.35].into_iter(), 0.0, 1.0).ticks();
        assert_eq!((ticks.len(), digits), (5, 2));
        // Equal values have a scale too.
        assert!(!Axis::around([5.0, 5.0].into_iter(), 0.0, 1.0).ticks().0.is_empty());
    }
}
