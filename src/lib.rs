//! Transformer inference that computes only the tokens that matter.
//!
//! An implementation of *Sparse Token Transformer with Attention Back Tracking* (ICLR 2023) as WebGPU compute: a small
//! network, ApproxNet, predicts the attention of a large one; importance is tracked back from the last layer's
//! `[CLS]` to the input; and the large network then computes only the tokens that were asked for.
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
//! The rooms, in the order of a datum's way: [`Model`] (files, tokens) → [`Engine`] (a model on a device) → the kernels of
//! [`backend`] → [`Classification`]. The paper's algorithm itself is
//! [`backend::cpu::back_tracking`] and its shader twin.
//!
//! Features: `gpu` (WebGPU through wgpu), `threads` (Rayon in the CPU backend), `image` (decoding PNG, JPEG and WebP),
//! `files` (model folders on disk), `cli` (the command and its crates). All are on by default; a library user who wants no
//! command takes `default-features = false, features = ["gpu", "threads", "image", "files"]`.

#![warn(missing_docs)]

pub mod backend;
mod engine;
mod error;
mod models;
mod network;
mod parallel;
mod platform;
mod pruning;
pub mod tensor;

#[cfg(feature = "gpu")]
pub use backend::gpu::{AdapterDescription, adapters};
pub use engine::{BackendInfo, BackendKind, BackendOptions, Classification, Engine, Outputs, self_test};
pub use error::{Error, Result};
pub use models::{
    ApproxFiles, Bytes, Config, ImageConfig, Input, InputConfig, Model, ModelFiles, Picture, Preprocessor, PruneConfig,
    Task, TextConfig,
};
pub use platform::{Pause, PauseFuture};
pub use pruning::{Contribution, Decision, EncoderSize, Flops, Policy, Prune, PruneMode, Ratio, Ratios, Why};
