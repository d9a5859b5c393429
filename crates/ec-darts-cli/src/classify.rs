//! `ec-darts classify`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::bail;
use ec_darts::model::TrainedModel;
use image::ImageFormat;
use rayon::prelude::*;
use serde_json::json;
use walkdir::{DirEntry, WalkDir};

use crate::args::ClassifyArguments;
use crate::output;
use crate::session::open;
use crate::terminal::{complain, print};

/// Images that go through the network together.
const BATCH: usize = 32;
/// The largest number of skipped files that are named.
const NAMED: usize = 10;

pub fn run(arguments: ClassifyArguments) -> anyhow::Result<()> {
    let opened = open(arguments.device, arguments.threads)?;
    let model = TrainedModel::load(&arguments.model, &opened.device)?;
    let found = Found::below(&arguments.images);
    if let Some(csv) = &arguments.csv {
        output::spare(csv, found.images.iter().chain([&arguments.model]))?;
    }
    let top = usize::from(arguments.top).min(model.description.num_classes);
    let mut told = Told::new(&arguments, top);
    for paths in found.images.chunks(BATCH) {
        let read: Vec<_> = paths.par_iter().map(|path| pixels(&model, path)).collect();
        let good: Vec<&Vec<u8>> = read.iter().filter_map(|pixels| pixels.as_ref().ok()).collect();
        let mut classes = match good.is_empty() {
            true => Vec::new(),
            false => model.classify(model.inputs(&good, &opened.device), top),
        }
        .into_iter();
        for (path, pixels) in paths.iter().zip(&read) {
            match pixels {
                Ok(_) => told.classes(path, &classes.next().expect("classes of every image"))?,
                Err(error) => told.broken(path, &format!("{error:#}"))?,
            }
        }
    }
    for (path, reason) in &found.unreadable {
        told.broken(path, reason)?;
    }
    if !found.others.is_empty() {
        complain(&format!("note: passed over, as no images: {}", listed(&found.others)));
    }
    told.close()
}

/// The number of files, and the names of some.
fn listed(files: &[PathBuf]) -> String {
    let names: Vec<String> =
        files.iter().take(NAMED).map(|file| file.display().to_string()).collect();
    let more = match files.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}: {}{more}", files.len(), names.join(", "))
}

/// Pixels of an image as the evaluation sees it.
fn pixels(model: &TrainedModel, path: &Path) -> anyhow::Result<Vec<u8>> {
    Ok(model.read_image(path)?)
}

/// The files that the arguments name, and all files below named folders.
#[derive(Default)]
struct Found {
    images: Vec<PathBuf>,
    /// Places that cannot be read, with the reasons.
    unreadable: Vec<(PathBuf, String)>,
    /// Files in folders that are not images.
    others: Vec<PathBuf>,
}

impl Found {
    fn below(paths: &[PathBuf]) -> Self {
        let mut found = Self::default();
        for path in paths {
            if !path.is_dir() {
                found.images.push(path.clone());
                continue;
            }
            let before = found.images.len() + found.unreadable.len();
            found.folder(path);
            if found.images.len() + found.unreadable.len() == before {
                let reason = format!("{}: no image in this folder", path.display());
                found.unreadable.push((path.clone(), reason));
            }
        }
        found
    }

    fn folder(&mut self, folder: &Path) {
        // Links are followed, except a link to a folder above: it would list all images again.
        let whole = folder.canonicalize().unwrap_or_default();
        let leads_above = |entry: &DirEntry| {
            let is_linked = entry.depth() > 0 && entry.path_is_symlink();
            is_linked && entry.path().canonicalize().is_ok_and(|target| whole.starts_with(target))
        };
        let walk = WalkDir::new(folder).follow_links(true).sort_by_file_name().into_iter();
        for entry in walk.filter_entry(|entry| !leads_above(entry)) {
            match entry {
                Ok(entry) if entry.file_type().is_dir() => {}
                Ok(entry) if entry.file_type().is_file() && is_image(entry.path()) => {
                    self.images.push(entry.into_path());
                }
                Ok(entry) => self.others.push(entry.into_path()),
                Err(error) if error.loop_ancestor().is_some() => {}
                Err(error) => {
                    let path = error.path().unwrap_or(folder).to_path_buf();
                    self.unreadable.push((path, error.to_string()));
                }
            }
        }
    }
}

/// Whether a file is an image by its content; a damaged image counts by its name.
fn is_image(path: &Path) -> bool {
    let known = |format: ImageFormat| {
        use ImageFormat::{Bmp, Jpeg, Png, WebP};
        matches!(format, Bmp | Jpeg | Png | WebP)
    };
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(64).read_to_end(&mut head));
    let by_content = read.is_ok() && image::guess_format(&head).is_ok_and(known);
    by_content || ImageFormat::from_path(path).is_ok_and(known)
}

/// The form in which classes are printed.
enum OutputForm {
    Text,
    Json,
    Csv(PathBuf, Box<csv::Writer<Vec<u8>>>),
}

struct Told {
    form: OutputForm,
    /// Classes of an image.
    top: usize,
    done: usize,
    broken: usize,
}

impl Told {
    fn new(arguments: &ClassifyArguments, top: usize) -> Self {
        let form = match &arguments.csv {
            Some(path) => {
                let mut writer = csv::Writer::from_writer(Vec::new());
                let mut head = vec!["image".to_string()];
                for place in 1..=top {
                    head.extend([format!("class_{place}"), format!("probability_{place}")]);
                }
                head.push("error".into());
                writer.write_record(head).expect("memory takes all");
                OutputForm::Csv(path.clone(), Box::new(writer))
            }
            None if arguments.json => OutputForm::Json,
            None => OutputForm::Text,
        };
        Self { form, top, done: 0, broken: 0 }
    }

    fn classes(&mut self, path: &Path, classes: &[(&str, f64)]) -> anyhow::Result<()> {
        if classes.is_empty() {
            return self.broken(path, &format!("{}: a logit is no number", path.display()));
        }
        self.done += 1;
        let name = path.display().to_string();
        match &mut self.form {
            OutputForm::Text => {
                let mut text = format!("{name}\n");
                for (class, probability) in classes {
                    text += &format!("  {:6.2} %  {class}\n", 100.0 * probability);
                }
                print(&text)
            }
            OutputForm::Json => {
                let classes = classes.iter().map(
                    |(class, probability)| json!({"class": class, "probability": probability}),
                );
                let line = json!({"image": name, "classes": classes.collect::<Vec<_>>()});
                print(&format!("{line}\n"))
            }
            OutputForm::Csv(_, writer) => {
                let mut row = vec![path.as_os_str().as_encoded_bytes().to_vec()];
                for (class, probability) in classes {
                    row.extend([
                        class.as_bytes().to_vec(),
                        format!("{probability:.6}").into_bytes(),
                    ]);
                }
                row.push(Vec::new());
                Ok(writer.write_record(row)?)
            }
        }
    }

    fn broken(&mut self, path: &Path, reason: &str) -> anyhow::Result<()> {
        self.done += 1;
        self.broken += 1;
        complain(&format!("error: {reason}"));
        match &mut self.form {
            OutputForm::Text => Ok(()),
            OutputForm::Json => {
                let line = json!({"image": path.display().to_string(), "error": reason});
                print(&format!("{line}\n"))
            }
            OutputForm::Csv(_, writer) => {
                let mut row = vec![path.as_os_str().as_encoded_bytes().to_vec()];
                row.extend(vec![Vec::new(); 2 * self.top]);
                row.push(reason.as_bytes().to_vec());
                Ok(writer.write_record(row)?)
            }
        }
    }

    /// Writes the table, if the user asked for one; an error where an image could not be read.
    fn close(self) -> anyhow::Result<()> {
        if let OutputForm::Csv(path, writer) = self.form {
            output::write(&path, &writer.into_inner()?)?;
            print(&format!("wrote {}: {} images\n", path.display(), self.done))?;
        }
        match self.broken {
            0 => Ok(()),
            broken => bail!("{broken} of {} images could not be read", self.done),
        }
    }
}
