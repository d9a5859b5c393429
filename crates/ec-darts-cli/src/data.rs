//! `ec-darts data`: what lies in a folder.

use std::path::Path;

use ec_darts::data::{self, DatasetKind, Datasets, ImageDataset, Normalization, Skipped, Source};
use serde_json::json;

use crate::args::DataCommand;
use crate::print;

/// Skipped files that are named; the rest is counted.
const NAMED: usize = 10;
/// Where a folder of any images gives no size.
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

/// How many files were left out, and the first of them.
pub fn skipped_lines(skipped: &[Skipped]) -> String {
    let name = |skipped: &Skipped| format!("  {}: {}\n", skipped.path.display(), skipped.reason);
    let mut lines: String = skipped.iter().take(NAMED).map(name).collect();
    if skipped.len() > NAMED {
        lines += &format!("  and {} more\n", skipped.len() - NAMED);
    }
    lines
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
    let Datasets { train, test, skipped } = data::load(&source)?;
    let sizes = sizes(&[&train, &test])?;
    let measured = train.measure()?;
    let counts = |set: &ImageDataset| {
        let mut counts = vec![0_usize; set.num_classes()];
        set.labels().iter().for_each(|&label| counts[usize::from(label)] += 1);
        counts
    };
    let (train_counts, test_counts) = (counts(&train), counts(&test));
    let classes = train.class_names().iter().zip(train_counts.iter().zip(&test_counts));
    if json {
        let classes = classes.map(|(name, (train, test))| {
            json!({"name": name, "train_images": train, "test_images": test})
        });
        let skipped = skipped
            .iter()
            .map(|each| json!({"path": each.path.display().to_string(), "reason": each.reason}));
        let told = json!({
            "dataset": kind.name(),
            "train_images": train.len(),
            "test_images": test.len(),
            "image_size": train.size(),
            "smallest": sizes[0],
            "largest": sizes[1],
            "used": train.normalization(),
            "measured": measured,
            "classes": classes.collect::<Vec<_>>(),
            "skipped": skipped.collect::<Vec<_>>(),
        });
        return print(&format!("{told:#}\n"));
    }
    let guessed = if dataset.is_none() { ", as it looks" } else { "" };
    let [smallest, largest] = sizes.map(|[height, width]| format!("{width}x{height}"));
    let mut text = format!("dataset   {}{guessed}\n", kind.name());
    text += &format!("images    {} for training, {} for testing\n", train.len(), test.len());
    text += &format!("size      {smallest} to {largest} (width x height)\n");
    text += &format!("read as   {0}x{0}\n", train.size()[0]);
    text += &format!("measured  {}\n", normalization(&measured));
    if let Some(published) = kind.normalization() {
        text += &format!("used      {}, as published\n", normalization(&published));
    }
    text += &format!("skipped   {}\n{}", skipped.len(), skipped_lines(&skipped));
    text += &format!("classes   {}\n", train.num_classes());
    text += "  training  testing  name\n";
    for (name, (train, test)) in classes {
        text += &format!("  {train:>8}  {test:>7}  {name}\n");
    }
    print(&text)
}

/// Smallest and largest image by area, height and width.
fn sizes(sets: &[&ImageDataset]) -> anyhow::Result<[[usize; 2]; 2]> {
    let area = |[height, width]: [usize; 2]| height * width;
    let mut sizes: Option<[[usize; 2]; 2]> = None;
    for set in sets {
        for image in 0..set.len() {
            let size = set.original_size(image)?;
            let [mut smallest, mut largest] = sizes.unwrap_or([size; 2]);
            if area(size) < area(smallest) {
                smallest = size;
            }
            if area(size) > area(largest) {
                largest = size;
            }
            sizes = Some([smallest, largest]);
        }
    }
    Ok(sizes.unwrap_or_default())
}

fn normalization(normalization: &Normalization) -> String {
    let triple = |[red, green, blue]: [f32; 3]| format!("{red:.4} {green:.4} {blue:.4}");
    format!("mean {}, deviation {}", triple(normalization.mean), triple(normalization.std))
}
