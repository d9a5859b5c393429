//! Pictures of the most confident mistakes of an evaluation.

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use ec_darts::data::ImageDataset;
use ec_darts::model::Evaluation;
use image::{ImageFormat, RgbImage, imageops};
use serde::{Deserialize, Serialize};

use crate::output;

/// The longest side of a picture, in pixels.
const SIDE: u32 = 96;

/// A wrongly classified image, as `evaluation.json` names it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mistake {
    /// The file of the image, or its number in the set.
    pub image: String,
    pub class: String,
    pub predicted: String,
    /// The probability of the predicted class.
    pub probability: f64,
    /// A small PNG beside `evaluation.json`; empty where no picture was written.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub picture: String,
}

/// Lists the mistakes of an evaluation on these sets; with a folder, writes their pictures there.
pub fn collect(
    evaluation: &Evaluation,
    sets: &[(&str, Arc<ImageDataset>)],
    out: Option<&Path>,
) -> anyhow::Result<Vec<Mistake>> {
    let class = |class: usize| evaluation.classes[class].name.clone();
    let mut all = Vec::new();
    for (place, mistake) in evaluation.mistakes.iter().enumerate() {
        let (mut image, mut set) = (mistake.image, 0);
        while image >= sets[set].1.len() {
            image -= sets[set].1.len();
            set += 1;
        }
        let (name, set) = &sets[set];
        let name = match set.path(image) {
            Some(path) => path.display().to_string(),
            None => format!("image {image} of the {name} set"),
        };
        let mut picture = String::new();
        if let Some(out) = out {
            picture = format!("mistakes/{:02}.png", place + 1);
            output::write(&out.join(&picture), &png(set, image)?)?;
        }
        let (class, predicted) = (class(mistake.class), class(mistake.predicted));
        let probability = mistake.probability;
        all.push(Mistake { image: name, class, predicted, probability, picture });
    }
    Ok(all)
}

/// The image as the network sees it, no larger than the report shows it.
fn png(set: &ImageDataset, image: usize) -> anyhow::Result<Vec<u8>> {
    let planes = set.pixels(image)?;
    let [height, width] = set.size();
    let area = height * width;
    let pixels = (0..area).flat_map(|at| [0, 1, 2].map(|channel| planes[channel * area + at]));
    let mut picture = RgbImage::from_raw(width as u32, height as u32, pixels.collect())
        .context("three planes of the set's size")?;
    if picture.width().max(picture.height()) > SIDE {
        picture =
            imageops::thumbnail(&picture, SIDE.min(picture.width()), SIDE.min(picture.height()));
    }
    let mut bytes = Vec::new();
    picture.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png)?;
    Ok(bytes)
}
