//! `ec-darts classify`.

use anyhow::bail;
use ec_darts::model::TrainedModel;
use serde_json::json;

use crate::args::ClassifyArguments;
use crate::session::open;
use crate::terminal::{complain, print};

pub fn run(arguments: ClassifyArguments) -> anyhow::Result<()> {
    let opened = open(arguments.device, arguments.threads)?;
    let model = TrainedModel::load(&arguments.model, &opened.device)?;
    let mut broken = 0;
    for path in &arguments.images {
        let name = path.display().to_string();
        let pixels = match model.read_image(path) {
            Ok(pixels) => pixels,
            Err(error) => {
                let error = anyhow::Error::from(error);
                broken += 1;
                complain(&format!("error: {error:#}"));
                if arguments.json {
                    print(&format!("{}\n", json!({"image": name, "error": format!("{error:#}")})))?;
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
            let line = json!({"image": name, "classes": classes.collect::<Vec<_>>()});
            print(&format!("{line}\n"))?;
            continue;
        }
        let mut text = format!("{name}\n");
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
