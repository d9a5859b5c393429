//! Notices about the images of a run: on the terminal, as events, in its log and in its folder.

use std::path::{Path, PathBuf};

use ec_darts::data::{DataDigests, DataNotice, Datasets, NoticeKind};
use ec_darts::files::write;
use ec_darts::train::folder::Renewed;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

/// The file in the folder of a search or a retraining: a [`DataFile`].
pub const FILE: &str = "data.json";

/// The images of a run, and every notice about them.
#[derive(Serialize, Deserialize)]
pub struct DataFile {
    pub folder: String,
    pub digests: DataDigests,
    pub images: Facts,
}

/// Counts of the images and notices about them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    pub train_images: u64,
    pub test_images: u64,
    pub classes: Vec<ClassFacts>,
    pub notices: Vec<DataNotice>,
}

/// The images of one class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassFacts {
    pub name: String,
    pub train_images: u64,
    pub test_images: u64,
}

impl Facts {
    pub fn of(images: &Datasets) -> Self {
        let (train, test) = (&images.train, &images.test);
        let counts = train.class_counts().into_iter().zip(test.class_counts());
        let class = |(name, (train, test)): (&String, (usize, usize))| ClassFacts {
            name: name.clone(),
            train_images: train as u64,
            test_images: test as u64,
        };
        Self {
            train_images: train.len() as u64,
            test_images: test.len() as u64,
            classes: train.class_names().iter().zip(counts).map(class).collect(),
            notices: images.all_notices().into_iter().map(as_written).collect(),
        }
    }
}

/// The notice as a reader of the file gets it: JSON has only Unicode names.
fn as_written(mut notice: DataNotice) -> DataNotice {
    notice.paths.iter_mut().for_each(|path| *path = path.to_string_lossy().into_owned().into());
    notice
}

/// The images of a session, the notices already told, and the folder of the run that uses them.
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

    /// Records that a run in this folder uses them from now on. Returns the run's [`FILE`] where it
    /// was damaged.
    pub fn begin(&mut self, out: &Path) -> anyhow::Result<Option<Renewed>> {
        self.out = Some(out.to_path_buf());
        self.told.iter().for_each(log);
        self.write()
    }

    /// Tells new notices: those of loading, and those about images that broke since. Keeps them in
    /// the folder of the active run.
    pub fn update(
        &mut self,
        tell: impl Fn(&DataNotice) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let all = self.images.all_notices();
        for notice in all.iter().filter(|notice| !self.told.contains(notice)) {
            tell(notice)?;
            if self.out.is_some() {
                log(notice);
            }
        }
        let is_new = self.told != all;
        self.told = all;
        if is_new { self.write().map(drop) } else { Ok(()) }
    }

    /// Writes [`FILE`]. It keeps the names of images that broke in an earlier session.
    fn write(&self) -> anyhow::Result<Option<Renewed>> {
        let Some(out) = &self.out else { return Ok(None) };
        let path = out.join(FILE);
        let mut file = DataFile {
            folder: self.folder.clone(),
            digests: self.images.digests(),
            images: Facts::of(&self.images),
        };
        let (before, fault) = match std::fs::read(&path) {
            Err(_) => (None, None),
            Ok(bytes) => match serde_json::from_slice::<DataFile>(&bytes) {
                Ok(before) => (Some(before), None),
                Err(error) => (None, Some(error)),
            },
        };
        let before = before.into_iter().flat_map(|file| file.images.notices);
        for notice in before.filter(|notice| notice.kind == NoticeKind::Replaced) {
            if !file.images.notices.iter().any(|new| covers(new, &notice)) {
                file.images.notices.push(notice);
            }
        }
        write(&path, format!("{}\n", serde_json::to_string_pretty(&file)?).as_bytes())?;
        Ok(fault.map(|error| {
            let reason = format!(
                "was damaged, images that broke in earlier sessions are not known: {error}"
            );
            Renewed { file: path, reason }
        }))
    }
}

/// Whether a notice names all files that another one names, for the same reason.
fn covers(notice: &DataNotice, other: &DataNotice) -> bool {
    notice.kind == other.kind
        && notice.reason == other.reason
        && other.paths.iter().all(|path| notice.paths.contains(path))
}

/// Writes a notice to the log of the active run.
fn log(notice: &DataNotice) {
    match is_warning(notice) {
        true => warn!("{notice}"),
        false => info!("{notice}"),
    }
}

/// Whether a notice is about a loss of images or accuracy.
fn is_warning(notice: &DataNotice) -> bool {
    matches!(notice.kind, NoticeKind::Skipped | NoticeKind::Replaced | NoticeKind::Classes)
}

/// The notice as one line for a person.
pub fn line(notice: &DataNotice) -> String {
    let word = if is_warning(notice) { "warning" } else { "note" };
    format!("{word}: {notice}")
}
