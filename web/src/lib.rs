//! `sttabt` for JavaScript: the core's names, without arithmetic of its own. The npm package's worker is the only caller.

#![cfg(target_arch = "wasm32")]
#![warn(missing_docs)]

mod call;
mod classifier;
mod error;
mod files;
mod json;
mod rank;

pub use call::{CancelFlag, Image, Inputs};
pub use classifier::Classifier;
pub use files::{ModelBytes, known_files, named_files, names_others, wanted_files};
pub use json::rules;
pub use rank::Question;
