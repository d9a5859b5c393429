//! `ec-darts classify`.

use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, bail};
use ec_darts::model::TrainedModel;
use serde_json::json;

use crate::args::ClassifyArguments;
use crate::print;
use crate::session::open;

pub fn run(arguments: ClassifyArguments) -> anyhow::Result<()> {
    let opened = open(arguments.device, arguments.threads)?;
    let model = TrainedModel::load(&arguments.model, &opened.device)?;
    let mut broken = 0;
    for path in &arguments.images {
        let pixels = match decode(path, model.description.image_size) {
            Ok(pixels) => pixels,
            Err(error) => {
                broken += 1;
                // Nothing can be done where standard error is closed too.
                let _ = writeln!(io::stderr(), "error: {error:#}");
                if arguments.json {
                    print(&format!("{}\n", json!({"image": path, "error": format!("{error:#}")})))?;
                }
                continue;
            }
        };
        let image = model.input(&pixels, &opened.device);
        let found = model.classify(image, arguments.top.into()).remove(0);
        if arguments.json {
            let classes = found
                .iter()
                .map(|(name, probability)| json!({"class": name, "probability": probability}));
            let line = json!({"image": path, "classes": classes.collect::<Vec<_>>()});
            print(&format!("{line}\n"))?;
            continue;
        }
        let mut text = format!("{}\n", path.display());
        for (name, probability) in found {
            text += &format!("  {:6.2} %  {name}\n", 100.0 * probability);
        }
        print(&text)?;
    }
    match broken {
        0 => Ok(()),
        _ => bail!("{broken} of {} images could not be read", arguments.images.len()),
    }
}

/// Pixels of an image file, `[3, height, width]`: its shorter side brought to the size, the middle
/// cut out.
fn decode(path: &Path, [height, width]: [usize; 2]) -> anyhow::Result<Vec<u8>> {
    let name = || path.display().to_string();
    let reader = image::ImageReader::open(path).with_context(name)?;
    let image = reader.with_guessed_format().with_context(name)?.decode().with_context(name)?;
    let image = image.to_rgb8();
    let (from_width, from_height) = (f64::from(image.width()), f64::from(image.height()));
    let scale = (height as f64 / from_height).max(width as f64 / from_width);
    let scaled = |side: f64, least: usize| ((side * scale).round() as u32).max(least as u32);
    let (new_width, new_height) = (scaled(from_width, width), scaled(from_height, height));
    let filter = image::imageops::FilterType::Triangle;
    let image = match (new_width, new_height) == (image.width(), image.height()) {
        true => image,
        false => image::imageops::resize(&image, new_width, new_height, filter),
    };
    let (left, top) = ((new_width - width as u32) / 2, (new_height - height as u32) / 2);
    let mut pixels = Vec::with_capacity(3 * height * width);
    for channel in 0..3 {
        for y in 0..height as u32 {
            pixels.extend((0..width as u32).map(|x| image.get_pixel(left + x, top + y)[channel]));
        }
    }
    Ok(pixels)
}
