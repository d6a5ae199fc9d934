//! What ends a command early.

use std::path::PathBuf;

use sttabt_command::command::Failure;

/// An error; its message names the thing, what was found and the way out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Of the library: a model, an input or a device.
    #[error(transparent)]
    Sttabt(#[from] sttabt::Error),
    /// A file or folder that cannot be read or written.
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        /// As in `read`.
        what: &'static str,
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that does not hold what it should.
    #[error("{}: {reason}", path.display())]
    Content {
        /// Which one.
        path: PathBuf,
        /// What was found and expected.
        reason: String,
    },
    /// Arguments that do not make sense.
    #[error("{0}")]
    Usage(String),
    /// What a loss is computed of is no number; a training says in which step.
    #[error("the {0} is no number")]
    NoNumber(&'static str),
    /// A loss that is no number.
    #[error("step {step}: the loss `{part}` is {value}; {way_out}")]
    NotFinite {
        /// From 0.
        step: usize,
        /// Of the loss.
        part: &'static str,
        /// NaN or an infinity.
        value: f64,
        /// What to do.
        way_out: String,
    },
    /// A parameter that should learn and got no gradient, or the other way round.
    #[error("parameters {found:?}, expected {expected:?}: this is a bug of the trainer")]
    Gradients {
        /// Their names.
        found: Vec<String>,
        /// What was expected of them.
        expected: &'static str,
    },
    /// Numbers of the device that cannot be read.
    #[error("the device failed: {0}")]
    Device(String),
    /// Results beyond their limits.
    #[error("{0}")]
    Failed(String),
}

/// A result with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Usage(message) => Self::Usage(message),
            Failure::Error(message) => Self::Failed(message),
            Failure::ClosedPipe => Self::Failed("whoever read the output is gone".to_owned()),
        }
    }
}

impl Error {
    /// For `map_err` on file operations.
    pub fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }

    /// Something wrong in a file.
    pub fn content(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::Content { path: path.into(), reason: reason.into() }
    }

    /// 2 for wrong arguments, 1 for all else.
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::Usage(_)) { 2 } else { 1 }
    }
}
