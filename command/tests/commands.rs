//! All tests of the commands that need no program of their own, as one program. A file is one promise, and
//! `cargo test --test commands FILE` runs it.

mod bench;
mod bench_compare;
mod classify;
mod command;
#[path = "../../tests/common/mod.rs"]
mod common;
mod convert;
mod demo;
mod docs;
mod eval;
mod eval_images;
mod eval_rank;
mod heads;
mod images;
mod output;
mod quantize;
mod rank;
#[cfg(feature = "serve")]
mod serve;
#[cfg(feature = "serve")]
mod serve_limits;
mod tables;
mod tables_columns;
