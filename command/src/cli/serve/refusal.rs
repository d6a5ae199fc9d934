//! What a client is told instead of an answer: a status, and JSON in the form of text-embeddings-inference.

use std::fmt;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use sttabt::Error;

/// `error_type` of text-embeddings-inference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Kind {
    /// The engine failed.
    Backend,
    /// There is nothing to compute.
    Empty,
    /// There is too much to do, or it took too long.
    Overloaded,
    /// The model cannot read a text.
    Tokenizer,
    /// The request is not one that is answered.
    Validation,
}

impl Kind {
    /// In metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Backend => "backend",
            Self::Empty => "empty",
            Self::Overloaded => "overloaded",
            Self::Tokenizer => "tokenizer",
            Self::Validation => "validation",
        }
    }
}

#[derive(Debug, Clone, Serialize)]
pub struct Refusal {
    #[serde(skip)]
    pub status: StatusCode,
    error: String,
    #[serde(rename = "error_type")]
    pub kind: Kind,
}

impl Refusal {
    pub fn new(status: StatusCode, kind: Kind, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), kind }
    }

    /// The client is to ask for something else: 422.
    pub fn validation(error: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, Kind::Validation, error)
    }

    /// The client is to ask later: 429.
    pub fn overloaded(error: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, Kind::Overloaded, error)
    }

    /// There is nothing to compute: 400.
    pub fn empty(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Kind::Empty, error)
    }

    /// The model cannot do that: 424, the status of text-embeddings-inference for it.
    pub fn backend(error: impl Into<String>) -> Self {
        Self::new(StatusCode::FAILED_DEPENDENCY, Kind::Backend, error)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::Input { .. } | Error::Passage { .. } | Error::Query { .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, Kind::Tokenizer, text)
            }
            Error::Rule { .. } | Error::RuleNeeds { .. } | Error::TooLarge { .. } => Self::validation(text),
            _ => Self::backend(text),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let json = serde_json::to_vec(&self).unwrap_or_default();
        (self.status, [(header::CONTENT_TYPE, "application/json")], json).into_response()
    }
}
