//! Curves over the epochs.
//!
//! The colours and line styles come from `style.css`, which has other colours for dark mode. The
//! line styles tell the curves apart without the colours.

use ec_darts::train::{MeasuredOn, TransitionReport};
use maud::{Markup, PreEscaped, html};
use plotters::prelude::*;

use super::html::{none, percent};
use super::read::{Retraining, Search};

/// Three times the shown size, because the backend rounds to whole pixels.
const SIZE: (u32, u32) = (1080, 690);
const TEXT: RGBColor = RGBColor(0x33, 0x33, 0x33);
const GRID: RGBColor = RGBColor(0xcc, 0xcc, 0xcc);
const COLORS: [RGBColor; 3] =
    [RGBColor(0x00, 0x72, 0xb2), RGBColor(0xd5, 0x5e, 0x00), RGBColor(0x00, 0x9e, 0x73)];
/// Length of a dash and of the gap behind it; the first curve is solid.
const DASHES: [Option<(u32, u32)>; 3] = [None, Some((22, 12)), Some((5, 10))];
/// The largest number of points that are drawn as dots.
const DOTS: usize = 40;

#[derive(Clone, Copy, PartialEq)]
enum Unit {
    /// A fraction in [0, 1], shown as a percentage.
    Fraction,
    Plain,
}

type Curve<'a> = (&'a str, Vec<(f64, f64)>);

/// The curves of a search.
pub fn search(run: Option<&Search>) -> Markup {
    let Some(run) = run else {
        return none("Not run: the genotype comes from elsewhere.");
    };
    let transition = |of: fn(&TransitionReport) -> f64| {
        run.series(move |epoch| epoch.transition.as_ref().map(of))
    };
    let figures = [
        figure(
            "Loss",
            Unit::Plain,
            &[
                ("supernet, training", run.series(|epoch| Some(epoch.train_loss))),
                ("steps on alpha, validation", run.series(|epoch| epoch.valid_loss)),
                ("auxiliary model, training", transition(|report| report.train_loss)),
            ],
        ),
        figure(
            "Validation accuracy in the search",
            Unit::Fraction,
            &[
                ("supernet", run.series(|epoch| Some(epoch.supernet_accuracy))),
                ("auxiliary model", transition(|report| report.valid_accuracy)),
            ],
        ),
        figure(
            "Entropy of the mixing weights, of the largest possible",
            Unit::Fraction,
            &[
                ("normal cell", run.series(|epoch| Some(epoch.normal.entropy))),
                ("reduction cell", run.series(|epoch| Some(epoch.reduction.as_ref()?.entropy))),
            ],
        ),
        figure(
            "Dominant eigenvalue of the Hessian in alpha",
            Unit::Plain,
            &[("validation loss", run.series(|epoch| epoch.eigenvalue))],
        ),
        figure(
            "Learning rate of the weights",
            Unit::Plain,
            &[("learning rate", run.series(|epoch| Some(epoch.learning_rate)))],
        ),
    ];
    html! {
        p {
            "Accuracies here are of shared weights, on the training images that alpha is fitted to. They \
             steer the search; they are not the result of a genotype."
        }
        (all(figures))
    }
}

/// The curves of a retraining. Top-5 is left out where it is 1 in every epoch, as with five classes
/// or fewer.
pub fn retrain(run: Option<&Retraining>) -> Markup {
    let Some(run) = run else {
        return html! {
            p.none {
                "Not run. " code { "ec-darts retrain" } " trains the genotype's network from scratch."
            }
        };
    };
    let on = match run.metrics.iter().rev().find_map(|epoch| epoch.measured_on) {
        Some(MeasuredOn::Test) => "test images",
        Some(MeasuredOn::Validation) => "images held out",
        None => "measured images",
    };
    let (top1, top5) = (format!("top-1, {on}"), format!("top-5, {on}"));
    let among_five = run.series(|epoch| epoch.valid_top5);
    let says_something = among_five.iter().any(|&(_, share)| share < 1.0);
    let figures = [
        figure(
            "Training loss",
            Unit::Plain,
            &[("training", run.series(|epoch| Some(epoch.train_loss)))],
        ),
        figure(
            "Accuracy",
            Unit::Fraction,
            &[
                (&top1, run.series(|epoch| epoch.valid_accuracy)),
                (&top5, if says_something { among_five } else { Vec::new() }),
                ("training images, augmented", run.series(|epoch| Some(epoch.train_accuracy))),
            ],
        ),
        figure(
            "Learning rate",
            Unit::Plain,
            &[("learning rate", run.series(|epoch| Some(epoch.learning_rate)))],
        ),
        figure(
            "Probability of drop path",
            Unit::Plain,
            &[("drop path", run.series(|epoch| Some(epoch.drop_path)))],
        ),
    ];
    all(figures)
}

fn all<const N: usize>(figures: [Option<Markup>; N]) -> Markup {
    if figures.iter().all(Option::is_none) {
        return none("No epoch is over yet.");
    }
    html! {
        div.figures { @for figure in figures.iter().flatten() { (figure) } }
    }
}

/// A picture with a legend of the first and last values; none where no curve has a point.
fn figure(title: &str, unit: Unit, curves: &[Curve]) -> Option<Markup> {
    let curves: Vec<(usize, &Curve)> =
        curves.iter().enumerate().filter(|(_, (_, points))| !points.is_empty()).collect();
    if curves.is_empty() {
        return None;
    }
    let value = |&(_, value): &(f64, f64)| match unit {
        Unit::Fraction => percent(value),
        Unit::Plain => short(value),
    };
    let picture = plot(unit, &curves).expect("a string takes all that is drawn");
    // The backend writes no attributes but its own.
    let label = format!("<svg role=\"img\" class=\"plot\" aria-label=\"{}\" ", html! { (title) }.0);
    let picture = picture.replacen("<svg ", &label, 1);
    Some(html! {
        figure {
            figcaption {
                strong { (title) }
                ul.legend {
                    @for (style, (name, points)) in &curves {
                        li {
                            svg.key viewBox="0 0 36 8" aria-hidden="true" {
                                path class=(format!("c{style}")) d="M0 4H36" {}
                            }
                            (name) ": " (value(&points[0])) " to " (value(&points[points.len() - 1]))
                        }
                    }
                }
            }
            (PreEscaped(picture))
        }
    })
}

/// A number with three significant digits.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 1.0 => format!("{value:.2}"),
        size if size >= 0.01 => format!("{value:.3}"),
        _ => format!("{value:.0e}"),
    }
}

/// The range from the smallest to the largest value, with a margin. The axis of values that are
/// never negative starts at zero where zero is near. The axis of fractions has at least 0.05, so
/// that small differences look small.
fn bounds(unit: Unit, curves: &[(usize, &Curve)]) -> (f64, f64) {
    let values = || curves.iter().flat_map(|(_, (_, points))| points.iter().map(|&(_, y)| y));
    let (low, high) = (values().fold(f64::MAX, f64::min), values().fold(f64::MIN, f64::max));
    let gap = match high - low {
        0.0 => high.abs().max(0.01) * 0.2,
        gap => 0.08 * gap,
    };
    let from = if low >= 0.0 && low < 0.5 * high { 0.0 } else { low - gap };
    match unit {
        Unit::Fraction => {
            let to = (high + gap).clamp(0.05, 1.0);
            (from.min(to - 0.05).max(0.0), to)
        }
        Unit::Plain => (from, high + gap),
    }
}

fn plot(
    unit: Unit,
    curves: &[(usize, &Curve)],
) -> Result<String, DrawingAreaErrorKind<std::io::Error>> {
    let epochs = || curves.iter().flat_map(|(_, (_, points))| points.iter().map(|&(x, _)| x));
    let last = epochs().fold(1.0, f64::max);
    let (low, high) = bounds(unit, curves);
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(24)
            .margin_right(42)
            .x_label_area_size(96)
            .y_label_area_size(132)
            .build_cartesian_2d(if last > 1.0 { 1.0..last } else { 0.5..1.5 }, low..high)?;
        let label = |size: i32| ("sans-serif", size).into_font().color(&TEXT);
        let digits = usize::from(high - low < 0.1);
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID.stroke_width(2))
            .axis_style(TEXT.stroke_width(3))
            .x_labels((last as usize).clamp(1, 6))
            .y_labels(5)
            .x_desc("epoch")
            .axis_desc_style(label(40))
            .label_style(label(40))
            .x_label_formatter(&|epoch| match epoch.fract() == 0.0 {
                true => format!("{epoch:.0}"),
                false => String::new(),
            })
            .y_label_formatter(&|&value| match unit {
                Unit::Fraction => format!("{:.digits$} %", 100.0 * value),
                Unit::Plain => short(value),
            })
            .draw()?;
        for &(style, (_, points)) in curves {
            let line = COLORS[style].stroke_width(6);
            match DASHES[style] {
                None => chart.draw_series(LineSeries::new(points.iter().copied(), line))?,
                Some((dash, gap)) => chart.draw_series(DashedLineSeries::new(
                    points.iter().copied(),
                    dash,
                    gap,
                    line,
                ))?,
            };
            if points.len() <= DOTS {
                let dot = |&point| Circle::new(point, 8, COLORS[style].filled());
                chart.draw_series(points.iter().map(dot))?;
            }
        }
        area.present()?;
    }
    Ok(text)
}
