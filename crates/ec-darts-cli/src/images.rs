//! What is told about the images of a run: on the terminal, as events, and in the run folder.

use std::path::{Path, PathBuf};

use ec_darts::data::{DataNotice, Datasets, NoticeKind};
use ec_darts::files::write;
use serde_json::{Value, json};

use crate::report::Report;

/// In the folder of a search or a retraining: which images it works on, and every notice about them.
pub const FILE: &str = "data.json";

/// The images of a session, the notices that were told, and the folder of the run that uses them.
pub struct Images {
    images: Datasets,
    folder: String,
    told: Vec<DataNotice>,
    out: Option<PathBuf>,
}

impl Images {
    pub fn new(images: Datasets, folder: &Path) -> Self {
        let folder = folder.to_string_lossy().into_owned();
        Self { images, folder, told: Vec::new(), out: None }
    }

    /// A run in this folder uses them from now on.
    pub fn begin(&mut self, out: &Path) -> anyhow::Result<()> {
        self.out = Some(out.to_path_buf());
        self.write()
    }

    /// Tells the notices that are new, after loading and of images that broke since; keeps them in the
    /// folder of the run that has begun.
    pub fn update(&mut self, report: &Report) -> anyhow::Result<()> {
        let all = self.images.all_notices();
        for notice in all.iter().filter(|notice| !self.told.contains(notice)) {
            report.data_notice(notice)?;
        }
        let is_new = self.told != all;
        self.told = all;
        if is_new { self.write() } else { Ok(()) }
    }

    /// Writes [`FILE`]. Images that broke in an earlier session stay named there.
    fn write(&self) -> anyhow::Result<()> {
        let Some(out) = &self.out else { return Ok(()) };
        let path = out.join(FILE);
        let (digests, images) = (self.images.digests(), facts(&self.images));
        let mut facts = json!({"folder": self.folder, "digests": digests, "images": images});
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let before: Value = serde_json::from_str(&text).unwrap_or_default();
        let earlier = before["images"]["notices"].as_array().into_iter().flatten();
        let replaced = earlier.filter(|notice| notice["kind"] == json!(NoticeKind::Replaced));
        let notices = facts["images"]["notices"].as_array_mut().expect("a list");
        for notice in replaced {
            if !notices.iter().any(|new| covers(new, notice)) {
                notices.push(notice.clone());
            }
        }
        Ok(write(&path, format!("{facts:#}\n").as_bytes())?)
    }
}

/// Whether a notice names all that another names, for the same reason.
fn covers(notice: &Value, other: &Value) -> bool {
    let has = |path: &Value| notice["paths"].as_array().is_some_and(|paths| paths.contains(path));
    notice["kind"] == other["kind"]
        && notice["reason"] == other["reason"]
        && other["paths"].as_array().is_some_and(|paths| paths.iter().all(has))
}

/// Counts and notices.
pub fn facts(images: &Datasets) -> Value {
    let (train, test) = (&images.train, &images.test);
    let counts = train.class_counts().into_iter().zip(test.class_counts());
    let classes = train.class_names().iter().zip(counts).map(
        |(name, (train, test))| json!({"name": name, "train_images": train, "test_images": test}),
    );
    json!({
        "train_images": train.len(),
        "test_images": test.len(),
        "classes": classes.collect::<Vec<_>>(),
        "notices": images.all_notices(),
    })
}

/// A line for a person; what costs images or accuracy is a warning.
pub fn line(notice: &DataNotice) -> String {
    let word = match notice.kind {
        NoticeKind::Skipped | NoticeKind::Replaced | NoticeKind::Classes => "warning",
        _ => "note",
    };
    format!("{word}: {notice}")
}
