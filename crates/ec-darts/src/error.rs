//! The one error type of this crate: every variant names the failure and its place.

use std::io;
use std::path::{Path, PathBuf};

/// The path in errors about a model that is in no file.
const MODEL_IN_MEMORY: &str = "the model in memory";

/// Failures from outside the code: files, settings, data, devices, diverging arithmetic.
///
/// Messages are lower case, without a full stop; the cause is in `source()`, not in the text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read, written, created, synced or renamed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// The failed action: `read`, `write`, `create`, ...
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },

    /// A data file can be read, but its content does not match its format.
    #[error("{}: {reason}", path.display())]
    Data {
        /// The file or folder.
        path: PathBuf,
        /// The fault, with the values found and expected.
        reason: String,
    },

    /// Images in memory do not meet the needs of a set or a model.
    #[error("images: {reason}")]
    Images {
        /// The fault, with the values found and expected.
        reason: String,
    },

    /// A settings file is not TOML, or has a key that does not exist or a value of another type.
    #[error("{origin}: {reason}")]
    ConfigSyntax {
        /// The file, or `--set KEY=VALUE`.
        origin: String,
        /// The fault, with line and column where known.
        reason: String,
    },

    /// A setting has a value that is not allowed.
    #[error("{origin}: `{key}` is {value}, allowed: {allowed}")]
    ConfigValue {
        /// The file, or `--set KEY=VALUE`.
        origin: String,
        /// The dotted key, such as `weights.momentum`.
        key: String,
        /// The value found, as TOML writes it.
        value: String,
        /// The allowed range or list of values.
        allowed: String,
    },

    /// A file is no checkpoint, or its bytes have changed since it was written. An older checkpoint
    /// may serve.
    #[error("{}: {reason}", path.display())]
    Damaged {
        /// The checkpoint.
        path: PathBuf,
        /// The fault.
        reason: String,
    },

    /// A checkpoint is intact, but belongs to another search or retraining, or has the format of
    /// another version.
    #[error("{}: {reason}", path.display())]
    Checkpoint {
        /// The checkpoint.
        path: PathBuf,
        /// The difference.
        reason: String,
    },

    /// A file of a trained network is damaged, or is no such file.
    #[error("{}: {reason}", path.display())]
    Model {
        /// The file, or `the model in memory`.
        path: PathBuf,
        /// The fault, with the tensor, the expected and the found values.
        reason: String,
    },

    /// A run folder cannot be used as asked.
    #[error("{}: {reason}", path.display())]
    Folder {
        /// The run folder.
        path: PathBuf,
        /// The fault, and a remedy.
        reason: String,
    },

    /// Another process works in a run folder.
    #[error("{}: another process is running in this folder", path.display())]
    Busy {
        /// The run folder.
        path: PathBuf,
    },

    /// A device is not compiled in, or does not exist on the machine.
    #[error("device {device}: {reason}")]
    Device {
        /// The device's name on the command line.
        device: &'static str,
        /// The missing feature or driver.
        reason: String,
    },

    /// A run stopped early; its progress until then is saved.
    #[error("the run stopped, {}", kept(last_checkpoint))]
    Stopped {
        /// The newest checkpoint, if there is one.
        last_checkpoint: Option<PathBuf>,
        /// The cause.
        #[source]
        source: Box<Error>,
    },

    /// A loss or gradient is not finite.
    #[error(
        "{what} is not finite in epoch {}, {phase}, step {} (learning rate {learning_rate:?})",
        epoch + 1,
        step + 1
    )]
    NonFinite {
        /// The name of the figure.
        what: String,
        /// The epoch, counted from 0; from 1 in the message.
        epoch: usize,
        /// Part of the epoch.
        phase: &'static str,
        /// The step within the part, counted from 0; from 1 in the message.
        step: usize,
        /// Learning rate of the weights, per step.
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
    /// An I/O error with the failed action and the path, for `map_err`.
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// A fault of a model that is in no file.
    pub(crate) fn model(reason: String) -> Self {
        Self::Model { path: MODEL_IN_MEMORY.into(), reason }
    }

    /// This error about a model in memory, as an error about the file that it is read from or
    /// written to.
    pub(crate) fn of_file(mut self, file: &Path) -> Self {
        if let Self::Model { path, .. } = &mut self {
            *path = file.to_path_buf();
        }
        self
    }
}
