//! Training for sttabt: ApproxNets, thresholds, and weights that stand pruning.
//!
//! The command `sttabt-train` is a thin layer over this; see `docs/training.md` in the repository.

#![warn(missing_docs)]

mod algebra;
mod approx_net;
mod batch;
pub mod bench;
mod checkpoint;
pub mod compress;
mod concrete;
mod data;
mod distill;
mod elastic;
mod error;
mod files;
mod finish;
mod folder;
mod funnel;
mod fused;
pub mod glue;
pub mod golden;
mod head;
mod learners;
mod loss;
mod ltp;
mod math;
mod measure;
mod metrics;
mod network;
mod ops;
mod optimizer;
mod parameters;
mod random;
mod recipe;
mod report;
mod rows;
mod run_args;
mod select;
mod stop;
pub mod supervised;
mod thresholds;
mod trainer;

pub use error::{Error, Result};

#[cfg(test)]
mod families_tests;
