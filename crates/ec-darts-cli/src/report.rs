//! The output of a search or a retraining: a bar on a terminal, plain lines elsewhere, or JSON.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use ec_darts::data::DataNotice;
use ec_darts::memory;
use ec_darts::train::folder::Renewed;
use ec_darts::train::run::{Notice, Skipped};
use ec_darts::train::{
    EpochReport, Event, RetrainEpochReport, RetrainEvent, RetrainStepReport, StepReport,
};
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::{Value, json};

use crate::images;
use crate::terminal::{complain, print, visible};
use crate::trace;

/// Time between two plain lines, in s.
const EVERY_S: f64 = 10.0;

pub struct Report {
    json: bool,
    quiet: bool,
    bar: Option<ProgressBar>,
    start: Instant,
    images: u64,
    first_step: u64,
    last_line_s: f64,
    last_loss: f64,
    last_step: Option<(String, [u64; 2])>,
}

impl Report {
    pub fn new(json: bool, quiet: bool) -> Self {
        let plain = json || quiet || !std::io::stderr().is_terminal() || trace::is_on_terminal();
        let bar = (!plain).then(|| {
            // The text is cut to the rest of the width, because a line that wraps cannot be drawn
            // over.
            let style = "{bar:10} {wide_msg}";
            let style = ProgressStyle::with_template(style).expect("a valid template");
            ProgressBar::no_length().with_style(style)
        });
        Self {
            json,
            quiet,
            bar,
            start: Instant::now(),
            images: 0,
            first_step: 0,
            last_line_s: 0.0,
            last_loss: f64::NAN,
            last_step: None,
        }
    }

    /// Prints an event of the program itself, where each event is a line of JSON.
    pub fn event(&self, event: &Value) -> anyhow::Result<()> {
        if self.json { print(&format!("{event}\n")) } else { Ok(()) }
    }

    /// Prints the setup of a run, such as device, data and memory.
    pub fn head(&self, facts: &[(&str, String)]) -> anyhow::Result<()> {
        if self.json {
            let facts: serde_json::Map<_, _> =
                facts.iter().map(|(key, value)| (key.to_string(), json!(value))).collect();
            return self.event(&json!({"event": "setup", "setup": facts}));
        }
        if self.quiet {
            return Ok(());
        }
        let lines = facts.iter().map(|(key, value)| format!("{key:8} {value}\n"));
        print(&lines.collect::<String>())
    }

    pub fn notice<E: Told>(&mut self, notice: &Notice<E>) -> anyhow::Result<()> {
        match notice {
            Notice::Begin(step) => {
                (self.first_step, self.start) = (*step, Instant::now());
                (self.images, self.last_line_s) = (0, 0.0);
                if *step > 0 { self.line(&format!("goes on at step {step}")) } else { Ok(()) }
            }
            Notice::Compiling if self.json => self.event(&json!({"event": "compiling"})),
            Notice::Compiling => self.line("compiling the kernels of the device"),
            Notice::Skipped(skipped) => {
                let Skipped { checkpoint, reason, instead } = skipped;
                let text = format!("skipped {reason}; goes on from {}", instead.display());
                let facts = json!({
                    "event": "checkpoint-skipped",
                    "checkpoint": checkpoint.to_string_lossy(),
                    "reason": reason,
                    "instead": instead.to_string_lossy(),
                });
                self.warn(&text, &facts)
            }
            Notice::Renewed(Renewed { file, reason }) => {
                let text = format!("{} {reason}; written again", file.display());
                let file = file.to_string_lossy();
                self.warn(&text, &json!({"event": "renewed", "file": file, "reason": reason}))
            }
            Notice::Events(events) if self.json => {
                let line = |event: &E| Ok(format!("{}\n", serde_json::to_string(event)?));
                print(&events.iter().map(line).collect::<anyhow::Result<String>>()?)
            }
            Notice::Events(events) => {
                let (steps, others) = events.split_at(events.partition_point(|e| e.is_step()));
                steps.iter().try_for_each(|event| event.tell(self))?;
                self.show_step()?;
                others.iter().try_for_each(|event| event.tell(self))
            }
        }
    }

    /// Adds a step; `position` is the number of finished steps and the number of all steps.
    fn step(&mut self, place: String, loss: Option<f64>, images: usize, position: [u64; 2]) {
        self.images += images as u64;
        self.last_loss = loss.unwrap_or(self.last_loss);
        self.last_step = Some((place, position));
    }

    /// Shows the last of the steps that were reported together: their time passed for all of them.
    fn show_step(&mut self) -> anyhow::Result<()> {
        let Some((place, [step, steps])) = self.last_step.take() else { return Ok(()) };
        let elapsed_s = self.start.elapsed().as_secs_f64();
        let done = step - self.first_step;
        let per_step_s = elapsed_s / done as f64;
        let left_s = per_step_s * (steps - step) as f64;
        let text = format!(
            "{place}  loss {:.3}  {:.1} images/s{}",
            self.last_loss,
            self.images as f64 / elapsed_s,
            resident()
        );
        if let Some(bar) = &self.bar {
            bar.set_length(steps);
            bar.set_position(step);
            // The most important figures come first, because the rest may be cut off.
            let left = Duration::try_from_secs_f64(left_s).unwrap_or_default();
            let left = HumanDuration(left);
            bar.set_message(
                visible(&format!("{step}/{steps}  {left:#} left  {text}")).into_owned(),
            );
            bar.tick();
            return Ok(());
        }
        if elapsed_s - self.last_line_s < EVERY_S && done > 1 {
            return Ok(());
        }
        self.last_line_s = elapsed_s;
        self.line(&format!(
            "step {step}/{steps}  {text}  {per_step_s:.2} s/step  {:.0} min left",
            left_s / 60.0
        ))
    }

    /// Prints a notice about the images: a line, or the event `data-notice`.
    pub fn data_notice(&self, notice: &DataNotice) -> anyhow::Result<()> {
        let mut event = json!(notice);
        event["event"] = json!("data-notice");
        self.event(&event)?;
        self.line(&images::line(notice))
    }

    /// Prints a warning: an event with --json, else a line on standard error even with --quiet.
    pub fn warn(&self, text: &str, event: &serde_json::Value) -> anyhow::Result<()> {
        if self.json {
            return print(&format!("{event}\n"));
        }
        if self.quiet {
            complain(&format!("warning: {text}"));
            return Ok(());
        }
        self.line(&format!("warning: {text}"))
    }

    pub fn line(&self, text: &str) -> anyhow::Result<()> {
        match &self.bar {
            _ if self.quiet || self.json => Ok(()),
            Some(bar) => {
                bar.println(visible(text));
                Ok(())
            }
            None => print(&format!("{text}\n")),
        }
    }

    /// Removes the bar from the screen and prints the resources used.
    pub fn close(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let (seconds, images) = (self.start.elapsed().as_secs_f64(), self.images);
        if let (Some(peak), false) = (memory::peak_bytes(), self.json || self.quiet) {
            let peak_mib = peak >> 20;
            // The outcome follows, and a failure to print would be reported there.
            let _ =
                print(&format!("{images} images in {seconds:.1} s, peak memory {peak_mib} MiB\n"));
        }
    }
}

/// An event that can be printed as one line.
pub trait Told: Serialize {
    fn is_step(&self) -> bool;
    fn tell(&self, report: &mut Report) -> anyhow::Result<()>;
}

impl Told for Event {
    fn is_step(&self) -> bool {
        matches!(self, Self::Step(_))
    }

    fn tell(&self, report: &mut Report) -> anyhow::Result<()> {
        match self {
            Self::Step(step) => {
                let StepReport { epoch, stage, phase, train_loss, valid_loss, .. } = step;
                let stage = stage.map_or_else(String::new, |stage| format!("stage {stage} "));
                let place = format!("{stage}epoch {} {}", epoch + 1, phase.label());
                let position = [step.total_step, step.total_steps];
                report.step(place, train_loss.or(*valid_loss), step.images, position);
                Ok(())
            }
            Self::Transition(_) => Ok(()),
            Self::Epoch(epoch) => {
                report.line(&search_epoch(epoch))?;
                let mut warnings = epoch.warnings.iter();
                warnings.try_for_each(|warning| report.line(&format!("warning: {warning}")))
            }
        }
    }
}

impl Told for RetrainEvent {
    fn is_step(&self) -> bool {
        matches!(self, Self::Step(_))
    }

    fn tell(&self, report: &mut Report) -> anyhow::Result<()> {
        match self {
            Self::Step(step) => {
                let RetrainStepReport { epoch, measuring, train_loss, .. } = step;
                let part = if *measuring { "measure" } else { "train" };
                let place = format!("epoch {} {part}", epoch + 1);
                let position = [step.total_step, step.total_steps];
                report.step(place, *train_loss, step.images, position);
                Ok(())
            }
            Self::Epoch(epoch) => report.line(&retrain_epoch(epoch)),
        }
    }
}

fn search_epoch(report: &EpochReport) -> String {
    let stage = report.stage.map_or_else(String::new, |stage| format!(" of stage {stage}"));
    let mut text = format!(
        "epoch {}/{}{stage} over  train loss {:.3}  validation accuracy in search: supernet {:.1} %",
        report.epoch + 1,
        report.epochs,
        report.train_loss,
        100.0 * report.supernet_accuracy
    );
    if let Some(transition) = &report.transition {
        let verdict = if transition.accepted { "returned" } else { "dropped" };
        let accuracy = 100.0 * transition.valid_accuracy;
        text += &format!(", auxiliary model {accuracy:.1} % ({verdict})");
    }
    if let Some(eigenvalue) = report.eigenvalue {
        text += &format!("  dominant eigenvalue {eigenvalue:.4}");
    }
    if let Some(cost) = report.cost {
        text += &format!(", cost {cost:.4}");
    }
    text
}

fn retrain_epoch(report: &RetrainEpochReport) -> String {
    let mut text = format!(
        "epoch {}/{} over  train loss {:.3}  accuracy: training {:.1} %",
        report.epoch + 1,
        report.epochs,
        report.train_loss,
        100.0 * report.train_accuracy
    );
    if let (Some(accuracy), Some(on)) = (report.valid_accuracy, report.measured_on) {
        let on = match on {
            ec_darts::train::MeasuredOn::Test => "test",
            ec_darts::train::MeasuredOn::Validation => "held out",
        };
        text += &format!(", {on} {:.2} %", 100.0 * accuracy);
    }
    text
}

fn resident() -> String {
    memory::current_bytes().map_or_else(String::new, |bytes| format!("  {} MiB", bytes >> 20))
}
