//! The bytes of a checkpoint, written and checked in the same way for a search and a retraining.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ec_darts_space::Genotype;
use serde::{Deserialize, Serialize};

use super::course::{Course, Progress};
use super::plan::LoopPlace;
use crate::config::Settings;
use crate::snapshot::Snapshot;
use crate::{Error, Result, VERSION};

/// Version of the layout below. Format 1 had no digest.
const FORMAT: u32 = 2;

/// The identity of a run. A checkpoint of another run is refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Identity<C> {
    pub config: C,
    /// The genotype of a retraining.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub genotype: Option<Genotype>,
    /// SHA-256 over the images and labels.
    pub data: String,
}

/// All values besides tensors that the future of a loop depends on. Random draws and batches are
/// functions of seed, epoch and step, so that there is no state of a random generator.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description<C, P, G, R> {
    format: u32,
    /// Version of this program at the time of writing.
    version: String,
    /// The kind of run: `search` or `retraining`.
    work: String,
    identity: Identity<C>,
    place: LoopPlace<P>,
    progress: G,
    /// Reports of the finished epochs.
    history: Vec<R>,
    /// Numbers of steps of the optimizers.
    counts: BTreeMap<String, u64>,
}

/// The fields that every format has.
#[derive(Deserialize)]
struct Head {
    format: u32,
    version: Option<String>,
    work: Option<String>,
}

/// The bytes of a loop, with all that its future depends on; equal loops give equal bytes.
///
/// # Errors
/// The name of a tensor with a value that is not finite: such a loop cannot be saved.
pub(super) fn to_bytes<C: Settings, G: Progress>(
    work: &str,
    identity: Identity<C>,
    course: &Course<G>,
    mut snapshot: Snapshot,
) -> Result<Vec<u8>, String> {
    if let Some(name) = snapshot.non_finite() {
        return Err(name.to_string());
    }
    let description = Description {
        format: FORMAT,
        version: VERSION.into(),
        work: work.into(),
        identity,
        place: *course.place(),
        progress: course.progress.clone(),
        history: course.history().to_vec(),
        counts: std::mem::take(&mut snapshot.counts),
    };
    let description = serde_json::to_string(&description).expect("plain values, finite numbers");
    Ok(snapshot.to_bytes(&description))
}

/// A checkpoint after reading; its tensors are taken out one after the other.
pub(super) struct Saved<C, G: Progress> {
    pub snapshot: Snapshot,
    description: Description<C, G::Phase, G, G::Report>,
    path: PathBuf,
}

impl<C: Settings, G: Progress> Saved<C, G> {
    /// Reads the bytes of [`to_bytes`]; errors name `path`.
    ///
    /// # Errors
    /// [`Error::Damaged`]; [`Error::Checkpoint`] where it is intact, but of another kind of run or
    /// format.
    pub fn read(work: &str, bytes: &[u8], path: &Path) -> Result<Self> {
        let damaged = |reason| {
            damaged(path, format!("not a checkpoint of a {work} that can be used: {reason}"))
        };
        let (mut snapshot, text) = Snapshot::from_bytes(bytes).map_err(damaged)?;
        let unreadable =
            |error: serde_json::Error| damaged(format!("its description cannot be read: {error}"));
        let head: Head = serde_json::from_str(&text).map_err(unreadable)?;
        let other = |reason| Err(Error::Checkpoint { path: path.to_path_buf(), reason });
        match head {
            Head { format: FORMAT, work: Some(found), .. } if found == work => {}
            Head { format: FORMAT, work: Some(found), .. } => {
                return other(format!("not a checkpoint of a {work}, but of a {found}"));
            }
            Head { work: None, .. } => return other(format!("not a checkpoint of a {work}")),
            Head { format, version, .. } => {
                let version =
                    version.map_or("".into(), |version| format!(" of ec-darts {version}"));
                return other(format!(
                    "a checkpoint of format {format}{version}; ec-darts {VERSION} reads format {FORMAT}"
                ));
            }
        }
        let mut description: Description<C, G::Phase, G, G::Report> =
            serde_json::from_str(&text).map_err(unreadable)?;
        if let Some(name) = snapshot.non_finite() {
            return Err(damaged(format!("{name} has values that are not finite")));
        }
        snapshot.counts = std::mem::take(&mut description.counts);
        Ok(Self { snapshot, description, path: path.to_path_buf() })
    }

    /// Checks that it is of the same run, except its data, which [`Self::continue_on`] checks.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] with the first difference.
    pub fn check(&self, config: &C, genotype: Option<&Genotype>) -> Result<()> {
        let there = &self.description.identity;
        if let Some(difference) = config.difference(&there.config) {
            return self.other(format!("a checkpoint of other settings: {difference}"));
        }
        match (&there.genotype, genotype) {
            (there, here) if there.as_ref() == here => Ok(()),
            (Some(there), _) => {
                self.other(format!("a checkpoint of another network: its genotype is {there}"))
            }
            (None, _) => self.other("a checkpoint of another network".into()),
        }
    }

    /// Moves a loop to the place of the checkpoint.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] where it is of other data; [`Error::Damaged`] where its place does not
    /// exist in this loop.
    pub fn continue_on(&self, course: &mut Course<G>, data: &str) -> Result<()> {
        let Description { identity, place, progress, history, .. } = &self.description;
        if identity.data != data {
            return self.other("a checkpoint of other images (SHA-256 differs)".into());
        }
        course
            .go_on(*place, progress.clone(), history.clone())
            .map_err(|reason| self.damaged(reason))
    }

    /// Checks that all tensors and counters were taken.
    ///
    /// # Errors
    /// [`Error::Damaged`] with the first tensor or counter that was not taken.
    pub fn finish(self) -> Result<()> {
        let Snapshot { tensors, counts } = &self.snapshot;
        match tensors.keys().chain(counts.keys()).next() {
            Some(name) => {
                let work = &self.description.work;
                Err(self.damaged(format!("it holds {name}, which this {work} does not have")))
            }
            None => Ok(()),
        }
    }

    pub fn damaged(&self, reason: String) -> Error {
        damaged(&self.path, reason)
    }

    fn other<T>(&self, reason: String) -> Result<T> {
        Err(Error::Checkpoint { path: self.path.clone(), reason })
    }
}

fn damaged(path: &Path, reason: String) -> Error {
    Error::Damaged { path: path.to_path_buf(), reason }
}
