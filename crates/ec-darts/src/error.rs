//! The one error type of this crate: every variant names what failed and where.

use std::io;
use std::path::{Path, PathBuf};

/// What stands for the path of a model that is in no file.
const MODEL_IN_MEMORY: &str = "the model in memory";

/// What can go wrong outside the code: files, settings, data, devices, diverging arithmetic.
///
/// Messages are lower case, without a full stop; the cause is in `source()`, not in the text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read, written, created, synced or renamed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried: `read`, `write`, `create`, ...
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system answered.
        #[source]
        source: io::Error,
    },

    /// A data file is there and readable, but its content is not what its format says.
    #[error("{}: {reason}", path.display())]
    Data {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong, with the figures found and expected.
        reason: String,
    },

    /// Images in memory are not what a set or a model needs.
    #[error("images: {reason}")]
    Images {
        /// What is wrong, with the figures found and expected.
        reason: String,
    },

    /// A settings file is not TOML, or has a key that does not exist or a value of another type.
    #[error("{origin}: {reason}")]
    ConfigSyntax {
        /// The file, or `--set KEY=VALUE`.
        origin: String,
        /// What is wrong, with line and column where known.
        reason: String,
    },

    /// A setting has a value that is not allowed.
    #[error("{origin}: `{key}` is {value}, allowed: {allowed}")]
    ConfigValue {
        /// The file, or `--set KEY=VALUE`.
        origin: String,
        /// The dotted key, such as `weights.momentum`.
        key: String,
        /// The value found, as written in TOML.
        value: String,
        /// The range or the list of values.
        allowed: String,
    },

    /// A checkpoint is not, bit for bit, the one that was written, or it is none. An older one may serve.
    #[error("{}: {reason}", path.display())]
    Damaged {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },

    /// A checkpoint is whole, but of another search or retraining, or of another version's format.
    #[error("{}: {reason}", path.display())]
    Checkpoint {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },

    /// A file of a trained network is damaged, or something else.
    #[error("{}: {reason}", path.display())]
    Model {
        /// The file, or `the model in memory`.
        path: PathBuf,
        /// What is wrong, with the tensor, what was expected and what was found.
        reason: String,
    },

    /// A run folder cannot be used as asked.
    #[error("{}: {reason}", path.display())]
    Folder {
        /// The run folder.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },

    /// A device is not compiled in, or the machine does not have it.
    #[error("device {device}: {reason}")]
    Device {
        /// The device's name on the command line.
        device: &'static str,
        /// Which feature or driver is missing.
        reason: String,
    },

    /// A run stopped early; what it had reached is kept.
    #[error("the run stopped, {}", kept(last_checkpoint))]
    Stopped {
        /// The newest checkpoint, if there is one.
        last_checkpoint: Option<PathBuf>,
        /// Why.
        #[source]
        source: Box<Error>,
    },

    /// A loss or gradient is no number any more.
    #[error(
        "{what} is not finite in epoch {}, {phase}, step {} (learning rate {learning_rate:?})",
        epoch + 1,
        step + 1
    )]
    NonFinite {
        /// Which figure.
        what: String,
        /// Counted from 0; from 1 in the message.
        epoch: usize,
        /// Part of the epoch.
        phase: &'static str,
        /// Counted from 0, within the part; from 1 in the message.
        step: usize,
        /// Of the weights, per step.
        learning_rate: f64,
    },
}

fn kept(checkpoint: &Option<PathBuf>) -> String {
    match checkpoint {
        Some(path) => format!("its last checkpoint is {}", path.display()),
        None => "it had no checkpoint yet".into(),
    }
}

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// For `map_err`: an I/O error with what was tried and on which path.
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// What is wrong with a model that is in no file.
    pub(crate) fn model(reason: String) -> Self {
        Self::Model { path: MODEL_IN_MEMORY.into(), reason }
    }

    /// This error about a model in memory as one about the file that it is read from or written to.
    pub(crate) fn of_file(mut self, file: &Path) -> Self {
        if let Self::Model { path, .. } = &mut self {
            *path = file.to_path_buf();
        }
        self
    }
}
