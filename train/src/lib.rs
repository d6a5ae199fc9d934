//! Training for sttabt: ApproxNets, thresholds, and weights that stand pruning.
//!
//! The command `sttabt-train` is a thin layer over this; see `docs/training.md` in the repository.

#![warn(missing_docs)]

mod batch;
mod concrete;
mod distill;
mod error;
mod files;
pub mod golden;
mod loss;
mod ltp;
mod network;
mod ops;
mod optimizer;
mod parameters;
mod random;
mod recipe;
mod rows;

pub use error::{Error, Result};
