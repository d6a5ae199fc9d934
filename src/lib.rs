//! Transformer inference that computes only the tokens that matter.

pub mod backend;
mod error;
pub mod tensor;

pub use error::{Error, Result};
