//! `ec-darts data`: the content of a folder of images.

use std::path::Path;

use ec_darts::data::{self, DatasetKind, ImageDataset, Normalization, Source};
use serde_json::json;

use crate::args::DataCommand;
use crate::images::{self, Facts};
use crate::terminal::print;

/// The image size where a folder of any images gives none.
const USUAL_SIZE: usize = 224;

pub fn run(command: DataCommand) -> anyhow::Result<()> {
    match command {
        DataCommand::Inspect { folder, dataset, image_size, json } => {
            inspect(&folder, dataset, image_size.map(usize::from), json)
        }
        #[cfg(feature = "fetch")]
        DataCommand::Fetch { name, out, mirror } => {
            crate::fetch::run(&name, &out, mirror.as_deref())
        }
    }
}

fn inspect(
    folder: &Path,
    dataset: Option<DatasetKind>,
    image_size: Option<usize>,
    json: bool,
) -> anyhow::Result<()> {
    let kind = dataset.unwrap_or_else(|| DatasetKind::guess(folder));
    let image_size = image_size.or(match kind {
        DatasetKind::Folder => Some(USUAL_SIZE),
        _ => None,
    });
    let source = Source { image_size, ..Source::new(kind, folder) };
    let images = data::load(&source)?;
    let (train, test) = (&images.train, &images.test);
    let sizes = sizes(&[train, test]);
    let measured = train.measure()?;
    if json {
        let mut told = json!({
            "dataset": kind.name(),
            "image_size": train.size(),
            "smallest": sizes.smallest,
            "largest": sizes.largest,
            "unreadable_sizes": sizes.unreadable,
            "used": train.normalization(),
            "measured": measured,
        });
        let facts = serde_json::to_value(Facts::of(&images))?;
        let facts = facts.as_object().expect("an object").clone();
        told.as_object_mut().expect("an object").extend(facts);
        return print(&format!("{told:#}\n"));
    }
    let guessed = if dataset.is_none() { ", as it looks" } else { "" };
    let [smallest, largest] =
        [sizes.smallest, sizes.largest].map(|[height, width]| format!("{width}x{height}"));
    let mut text = format!("dataset   {}{guessed}\n", kind.name());
    text += &format!("images    {} for training, {} for testing\n", train.len(), test.len());
    text += &format!("size      {smallest} to {largest} (width x height)\n");
    if sizes.unreadable > 0 {
        text += &format!("          of {} files the size cannot be read\n", sizes.unreadable);
    }
    text += &format!("read as   {0}x{0}\n", train.size()[0]);
    text += &format!("measured  {}\n", normalization(&measured));
    if let Some(published) = kind.normalization() {
        text += &format!("used      {}, as published\n", normalization(&published));
    }
    let notices = images.all_notices();
    text += &format!("notices   {}\n", notices.len());
    text.extend(notices.iter().map(|notice| format!("  {}\n", images::line(notice))));
    text += &format!("classes   {}\n", train.num_classes());
    text += "  training  testing  name\n";
    let counts = train.class_counts().into_iter().zip(test.class_counts());
    for (name, (train, test)) in train.class_names().iter().zip(counts) {
        text += &format!("  {train:>8}  {test:>7}  {name}\n");
    }
    print(&text)
}

/// The sizes of images by area, height and width.
#[derive(Default)]
struct Sizes {
    smallest: [usize; 2],
    largest: [usize; 2],
    /// Number of files whose header cannot be read.
    unreadable: usize,
}

fn sizes(sets: &[&ImageDataset]) -> Sizes {
    let area = |[height, width]: [usize; 2]| height * width;
    let mut sizes = Sizes::default();
    for set in sets {
        for image in 0..set.len() {
            let Ok(size) = set.original_size(image) else {
                sizes.unreadable += 1;
                continue;
            };
            if area(size) < area(sizes.smallest) || area(sizes.smallest) == 0 {
                sizes.smallest = size;
            }
            if area(size) > area(sizes.largest) {
                sizes.largest = size;
            }
        }
    }
    sizes
}

fn normalization(normalization: &Normalization) -> String {
    let triple = |[red, green, blue]: [f32; 3]| format!("{red:.4} {green:.4} {blue:.4}");
    format!("mean {}, deviation {}", triple(normalization.mean), triple(normalization.std))
}
