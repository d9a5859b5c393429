//! `ec-darts evaluate`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use ec_darts::data::{self, DatasetKind, Datasets, Source};
use ec_darts::device::Opened;
use ec_darts::files::write;
use ec_darts::latency::Latency;
use ec_darts::model::{self, ModelDescription, TrainedModel};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::args::EvaluateArguments;
use crate::session::open;
use crate::terminal::print;
use crate::{confusion, images};

/// What is evaluated on what, and where the report goes.
pub struct Evaluated<'a> {
    pub model: &'a TrainedModel,
    /// Where it lies, and its images: as they are named in the report.
    pub path: &'a Path,
    pub data: &'a Path,
    pub out: Option<&'a Path>,
}

pub fn run(arguments: EvaluateArguments) -> anyhow::Result<()> {
    let opened = open(arguments.device, arguments.threads)?;
    let EvaluateArguments { model: path, data, out, .. } = &arguments;
    let model = TrainedModel::load(path, &opened.device)?;
    let images = read(&model.description, data)?;
    if !arguments.json {
        let lines = images.notices.iter().map(|notice| images::line(notice) + "\n");
        print(&lines.collect::<String>())?;
    }
    let evaluated = Evaluated { model: &model, path, data, out: out.as_deref() };
    let told = if arguments.json { Told::Json } else { Told::Text };
    evaluate(&evaluated, &images, arguments.batch_size.into(), &opened, told)
}

/// How the figures are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Text,
    /// As `evaluation.json`.
    Json,
    /// As an event of a run, in a line.
    Event,
}

/// Measures a model on the test images, prints and writes what comes out.
pub fn evaluate(
    evaluated: &Evaluated,
    images: &Datasets,
    batch_size: usize,
    opened: &Opened,
    told: Told,
) -> anyhow::Result<()> {
    let (device, data, model) = (&opened.device, evaluated.data, evaluated.model);
    let test = images.test.clone();
    model.check_data(&test, data)?;
    let bar = ProgressBar::new(test.len() as u64);
    bar.set_style(ProgressStyle::with_template("{wide_bar} {pos}/{len}  {eta} left")?);
    let evaluation = model::evaluate(model, test, batch_size, device, &mut |done| {
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    let time = Latency::of(&model.network, model.description.image_size, 1, device);

    let mut files: Vec<PathBuf> = Vec::new();
    let mut report = json!({
        "model": evaluated.path.display().to_string(),
        "data": data.display().to_string(),
        "set": "test",
        "device": opened.description,
        "evaluation": evaluation,
        "latency": time,
        "images": images::facts(images),
        "digest": images.test.digest(),
        "same_images": same_images(&model.description, images),
    });
    let file = format!("{report:#}\n");
    if let Some(out) = evaluated.out {
        std::fs::create_dir_all(out)
            .with_context(|| format!("cannot create the folder {}", out.display()))?;
        for (name, content) in [
            ("evaluation.json", file.clone()),
            ("confusion.csv", confusion::csv(&evaluation)),
            ("confusion.svg", confusion::svg(&evaluation)),
        ] {
            write(&out.join(name), content.as_bytes())?;
            files.push(out.join(name));
        }
    }
    match told {
        Told::Text => {}
        Told::Json => return print(&file),
        Told::Event => {
            report["event"] = "evaluation".into();
            return print(&format!("{report}\n"));
        }
    }
    let percent = |share: f64| format!("{:.2} %", 100.0 * share);
    let mut text = format!(
        "device    {}\ndata      test set of {}: {} images of {} classes\n\
         loss      {:.4}\ntop-1     {}\ntop-5     {}\n",
        opened.description,
        data.display(),
        evaluation.num_images,
        evaluation.classes.len(),
        evaluation.loss,
        percent(evaluation.top1),
        percent(evaluation.top5)
    );
    for notice in images.test.replaced() {
        text += &format!("{}\n", images::line(&notice));
    }
    if same_images(&model.description, images) == Some(false) {
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
    for file in files {
        text += &format!("\nwrote {}", file.display());
    }
    print(&format!("{}\n", text.trim_end()))
}

/// Whether the test images are those that were set apart in the model's training run; none where the
/// model does not say which those were.
fn same_images(description: &ModelDescription, images: &Datasets) -> Option<bool> {
    Some(description.digests.as_ref()?.test == images.test.digest())
}

/// The images of the data that a model was trained on, read as they were then, or of other data in the
/// same layout.
fn read(description: &ModelDescription, folder: &Path) -> anyhow::Result<Datasets> {
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
