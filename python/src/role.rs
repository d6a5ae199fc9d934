//! What a call's items are, for its messages.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use sttabt::Error;

use crate::error::from_core;

/// What a call reads, as its messages say it.
#[derive(Clone, Copy)]
pub enum Role {
    /// `takes_images` tells whether a str is the path of a picture.
    Input { takes_images: bool },
    /// `rank` reads texts.
    Passage,
}

impl Role {
    pub fn word(self) -> &'static str {
        match self {
            Self::Input { .. } => "input",
            Self::Passage => "passage",
        }
    }

    /// An item of a type that can be read, but not its value.
    pub fn refused(self, index: usize, reason: impl ToString) -> PyErr {
        let reason = reason.to_string();
        from_core(&match self {
            Self::Input { .. } => Error::Input { index, reason },
            Self::Passage => Error::Passage { index, reason },
        })
    }

    /// An item of a type that cannot be read.
    pub fn other_type(self, index: usize, found: &str) -> PyErr {
        let expected = match self {
            Self::Input { .. } => {
                "a str, a pair of two (tuple), a picture as bytes, as a path, as a PIL image, or as an array of uint8"
            }
            Self::Passage => "a str",
        };
        PyTypeError::new_err(format!("{} {}: {found}, expected {expected}", self.word(), index + 1))
    }

    pub fn takes_images(self) -> bool {
        matches!(self, Self::Input { takes_images: true })
    }
}
