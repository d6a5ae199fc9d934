//! All tests that need no program of their own, as one program: linking the engine once takes a fraction of the time. A file is one
//! promise, and `cargo test --test library FILE` runs it.

mod bad_config;
mod bad_input;
mod bad_models;
#[cfg(feature = "jpeg")]
mod bad_pictures;
mod bad_vit;
mod common;
mod dependencies;
mod device;
mod docs;
mod families;
mod flops;
mod folders;
mod fuzz_preprocessor;
#[cfg(feature = "image")]
mod gif_and_bmp;
mod groups;
mod heads;
mod int8;
mod json;
mod licences;
mod ltp;
mod model_variants;
mod packages;
mod parity;
mod parity_cases;
mod pickles;
mod policy;
mod prepared;
#[cfg(feature = "jpeg")]
mod preprocessing;
mod properties;
mod rank;
mod rooms;
mod shaders;
mod targets;
mod thresholds;
mod vit_variants;
mod weights;
mod why;
