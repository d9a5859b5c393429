//! `ec-darts evaluate`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};
use ec_darts::Error;
use ec_darts::data::{self, DatasetKind, Datasets, ImageDataset, Loader, Source};
use ec_darts::device::Opened;
use ec_darts::latency::Latency;
use ec_darts::model::{self, Evaluation, ModelDescription, TrainedModel};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

use crate::args::EvaluateArguments;
use crate::images::Facts;
use crate::mistakes::Mistake;
use crate::session::open;
use crate::{confusion, images, mistakes, output, print};

/// The model and the images of an evaluation, and the folder of its report.
pub struct Evaluated<'a> {
    pub model: &'a TrainedModel,
    /// The file of the model and the folder of the images, as the report names them.
    pub path: &'a Path,
    pub data: &'a Path,
    pub set: Set,
    /// Only images of these classes; of all classes where the list is empty.
    pub classes: &'a [String],
    pub out: Option<&'a Path>,
}

/// The images that are classified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Set {
    Test,
    /// The training images too.
    All,
}

/// Content of `evaluation.json`.
#[derive(Serialize, Deserialize)]
pub struct Report {
    pub model: String,
    pub data: String,
    pub set: Set,
    /// The classes whose images were classified; empty for all classes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
    pub device: String,
    pub evaluation: Evaluation,
    pub latency: Latency,
    /// Counts of the images and notices about them.
    pub images: Option<Facts>,
    /// The figures of the test images.
    #[serde(default)]
    pub digest: String,
    /// Whether the test images are those of the model's training run; none where the model does not
    /// record those.
    #[serde(default)]
    pub same_images: Option<bool>,
    /// The most confident mistakes.
    #[serde(default)]
    pub mistakes: Vec<Mistake>,
}

impl Report {
    pub fn set_in_words(&self) -> String {
        let set = match self.set {
            Set::Test => "the test set",
            Set::All => "all images, those of training among them",
        };
        match self.only.as_slice() {
            [] => set.into(),
            only => format!("{set}, only of {}", only.join(", ")),
        }
    }
}

pub fn run(arguments: EvaluateArguments) -> anyhow::Result<()> {
    let opened = open(arguments.device, arguments.threads)?;
    let EvaluateArguments { model: path, data, classes, out, .. } = &arguments;
    let model = TrainedModel::load(path, &opened.device)?;
    let images = read_images(&model.description, data)?;
    if !arguments.json {
        let lines = images.notices.iter().map(|notice| images::line(notice) + "\n");
        print(&lines.collect::<String>())?;
    }
    let set = if arguments.all { Set::All } else { Set::Test };
    let evaluated = Evaluated { model: &model, path, data, set, classes, out: out.as_deref() };
    let told = if arguments.json { Told::Json } else { Told::Text };
    evaluate(&evaluated, &images, arguments.batch_size.into(), &opened, told)
}

/// The form in which the figures are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Text,
    /// The content of `evaluation.json`.
    Json,
    /// One line with an event of a run.
    Event,
}

/// Measures a model; prints and writes the results.
pub fn evaluate(
    evaluated: &Evaluated,
    images: &Datasets,
    batch_size: usize,
    opened: &Opened,
    told: Told,
) -> anyhow::Result<()> {
    let report = measure(evaluated, images, batch_size, opened)?;
    let file = format!("{}\n", serde_json::to_string_pretty(&report)?);
    let mut files: Vec<PathBuf> = Vec::new();
    if let Some(out) = evaluated.out {
        for (name, content) in [
            ("evaluation.json", file.clone().into_bytes()),
            ("confusion.csv", confusion::csv(&report.evaluation)?),
            ("confusion.svg", confusion::svg(&report.evaluation).into_bytes()),
        ] {
            output::write(&out.join(name), &content)?;
            files.push(out.join(name));
        }
    }
    match told {
        Told::Text => {}
        Told::Json => return print(&file),
        Told::Event => {
            let mut event = serde_json::to_value(&report)?;
            event["event"] = "evaluation".into();
            return print(&format!("{event}\n"));
        }
    }
    let mut text = describe(&report);
    for notice in images.test.replaced() {
        text += &format!("{}\n", images::line(&notice));
    }
    for file in files {
        text += &format!("\nwrote {}", file.display());
    }
    print(&format!("{}\n", text.trim_end()))
}

fn measure(
    evaluated: &Evaluated,
    images: &Datasets,
    batch_size: usize,
    opened: &Opened,
) -> anyhow::Result<Report> {
    let (device, data, model) = (&opened.device, evaluated.data, evaluated.model);
    let sets = match evaluated.set {
        Set::Test => vec![("test", images.test.clone())],
        Set::All => vec![("training", images.train.clone()), ("test", images.test.clone())],
    };
    for (_, set) in &sets {
        model.check_data(set, data)?;
    }
    let parts: Vec<Loader> = sets
        .iter()
        .map(|(_, set)| part(set, evaluated.classes, batch_size))
        .collect::<Result<_, _>>()?;
    let count: usize = parts.iter().map(|part| part.indices.len()).sum();
    let of = if evaluated.classes.is_empty() { "" } else { " of these classes" };
    ensure!(
        count > 0,
        "{}: no test image{of}; --all takes every image of the folder",
        data.display()
    );
    let bar = ProgressBar::new(count as u64);
    bar.set_style(ProgressStyle::with_template("{wide_bar} {pos}/{len}  {eta} left")?);
    let evaluation = model::evaluate_parts(model, &parts, device, &mut |done| {
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    Ok(Report {
        model: evaluated.path.display().to_string(),
        data: data.display().to_string(),
        set: evaluated.set,
        only: evaluated.classes.to_vec(),
        device: opened.description.clone(),
        mistakes: mistakes::collect(&evaluation, &sets, evaluated.out)?,
        evaluation,
        latency: Latency::of(&model.network, model.description.image_size, 1, device),
        images: Some(Facts::of(images)),
        digest: images.test.digest(),
        same_images: same_images(&model.description, images),
    })
}

/// The images of some classes, or all of a set.
///
/// # Errors
/// [`Error::ConfigValue`] where the set has no such class.
fn part(
    set: &Arc<ImageDataset>,
    classes: &[String],
    batch_size: usize,
) -> ec_darts::Result<Loader> {
    let whole = Loader::new(set.clone(), batch_size);
    let names = set.class_names();
    let unknown = classes.iter().find(|class| !names.contains(class));
    if let Some(class) = unknown {
        return Err(Error::ConfigValue {
            origin: format!("--class {class}"),
            key: "class".into(),
            value: class.clone(),
            allowed: names.join(", "),
        });
    }
    let counts = |&image: &u32| {
        classes.is_empty() || classes.contains(&names[usize::from(set.label(image as usize))])
    };
    Ok(Loader { indices: whole.indices.iter().copied().filter(counts).collect(), ..whole })
}

/// The figures as text for a person.
fn describe(report: &Report) -> String {
    let Report { evaluation, latency: time, .. } = report;
    let percent = |share: f64| format!("{:.2} %", 100.0 * share);
    let present = evaluation.classes.iter().filter(|class| class.num_images > 0).count();
    let classes = match evaluation.classes.len() {
        all if all == present => format!("{all} classes"),
        all => format!("{present} of the model's {all} classes"),
    };
    let (set, data) = (report.set_in_words(), &report.data);
    let mut text = format!(
        "device    {}\ndata      {data}, {set}: {} images of {classes}\nloss      {:.4}\ntop-1     {}\n",
        report.device,
        evaluation.num_images,
        evaluation.loss,
        percent(evaluation.top1),
    );
    if let Some(top5) = evaluation.top5 {
        text += &format!("top-5     {}\n", percent(top5));
    }
    text +=
        &format!("balanced  {} (mean over the classes)\n", percent(evaluation.balanced_accuracy));
    if report.same_images == Some(false) {
        text += "warning: these are not the test images that were set apart when the model was trained; \
                 it may have been trained on some of them\n";
    }
    text += &format!(
        "latency   {:.2} ms an image (median of {} passes over one image; a tenth took less than \
         {:.2}, a tenth more than {:.2})\n\n",
        1e3 * time.median_s,
        time.passes,
        1e3 * time.percentile10_s,
        1e3 * time.percentile90_s
    );
    text += &format!("{:24} {:>8} {:>10}\n", "class", "images", "accuracy");
    for class in &evaluation.classes {
        let accuracy = class.accuracy.map_or("no images".into(), percent);
        text += &format!("{:24} {:>8} {accuracy:>10}\n", class.name, class.num_images);
    }
    text
}

/// Whether the test images are those of the model's training run.
fn same_images(description: &ModelDescription, images: &Datasets) -> Option<bool> {
    Some(description.digests.as_ref()?.test == images.test.digest())
}

/// The images of a model's training run, read in the same way, or others in the same layout.
fn read_images(description: &ModelDescription, folder: &Path) -> anyhow::Result<Datasets> {
    let name = &description.dataset;
    let kind: DatasetKind = serde_json::from_value(name.as_str().into())
        .with_context(|| format!("the model's data set `{name}` is unknown"))?;
    let source = match &description.data {
        Some(config) => config.source(folder),
        None => Source {
            image_size: (kind.image_size().is_none()).then_some(description.image_size[0]),
            ..Source::new(kind, folder)
        },
    };
    Ok(data::load(&source)?)
}
