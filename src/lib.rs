//! Transformer inference that computes only the tokens that matter.
//!
//! This is an implementation of *Sparse Token Transformer with Attention Back Tracking* (ICLR 2023), for CPUs and for
//! GPUs through WebGPU. A small network, ApproxNet, predicts the attention of a large one. Importance is tracked back
//! from the last layer's `[CLS]` to the input. Then the large network computes only the tokens that were asked for.
//!
//! ```
//! # pollster::block_on(async {
//! use sttabt::{BackendKind, Engine, Input, Model, ModelFiles, Outputs, Prune};
//!
//! let model = Model::from_bytes(ModelFiles::from_dir("tests/fixtures/tiny-bert")?)?;
//! let mut engine = Engine::new(&model, &BackendKind::Cpu.into()).await?;
//! let inputs = [Input::Text("w51 w41 w11 w19 w70"), Input::Text("w88")];
//! let results = engine.classify(&inputs, &"topk:0.5".parse()?, &Outputs::default()).await?;
//! assert_eq!(results[0].kept[4], [0]); // after the last layer only [CLS] is left
//! assert!(results[0].retention < 0.8);
//! # Ok::<(), sttabt::Error>(())
//! # }).unwrap();
//! ```
//!
//! The way of an input: [`Model`] (files, tokens) → [`Engine`] (a model on a device) → the kernels →
//! [`Classification`]. The paper's algorithm itself is in the folder `src/pruning/`, and in the shaders
//! `back_tracking` and `select_tokens`.
//!
//! These features are on by default:
//!
//! - `gpu`: WebGPU through wgpu.
//! - `threads`: Rayon's threads.
//! - `image`: decoding PNG, WebP, GIF and BMP.
//! - `jpeg`: decoding JPEG as well.
//! - `files`: model folders on disk.
//! - `bin`: PyTorch's `pytorch_model.bin` in them.
//!
//! The feature `internals` is for the tests and the bench of this repository. It changes without notice.

#![warn(missing_docs)]

#[cfg(not(feature = "internals"))]
#[allow(dead_code, unused_imports, reason = "some of it is for the tests, the bench and the web package alone")]
mod backend;
#[cfg(feature = "internals")]
pub mod backend;
mod engine;
mod error;
mod models;
mod network;
mod parallel;
mod platform;
mod pruning;
#[cfg(not(feature = "internals"))]
#[allow(dead_code, reason = "some of it is for the tests and the bench alone")]
mod tensor;
#[cfg(feature = "internals")]
pub mod tensor;

/// For the trainer of this repository: values, tokens, and the recursions that find the kept tokens.
#[cfg(feature = "internals")]
pub mod training {
    pub use crate::models::training::*;
    pub use crate::pruning::TopK;
}

#[cfg(feature = "gpu")]
pub use backend::gpu::{AdapterDescription, adapters};
pub use engine::{
    BackendInfo, BackendKind, BackendOptions, Classification, Engine, Outputs, RankOptions, RankProgress, RankWindow,
    RankedPassage, Ranking,
};
pub use error::{Error, Result};
#[cfg(feature = "files")]
pub use models::MappedFile;
pub use models::{
    Bytes, Config, ImageConfig, Input, InputConfig, KnownFiles, Model, ModelFiles, ModelInfo, Picture, Piece, Pooling,
    PoolingMode, Prepared, Preprocessor, RuleInfo, Task, TextConfig, Weights, without_not_finite,
};
pub use platform::{Pause, PauseFuture};
pub use pruning::{
    Argument, Contribution, Decision, EncoderSize, Flops, Need, Policy, Prune, PruneConfig, PruneMode, RULES, Ratio,
    Ratios, Rule, Thresholds, Why,
};
