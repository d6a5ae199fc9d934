//! The command: arguments, files, drawing, progress. It asks the library for everything else.

mod args;
mod classify;
mod classify_json;
mod convert;
mod demo;
mod draw;
mod eval;
mod eval_rank;
mod figure;
mod info;
mod quantize;
mod rank;
mod rank_data;
mod rank_metrics;
mod rank_passages;
#[cfg(feature = "serve")]
mod serve;
mod server;
mod written;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use sttabt::{Error, Model, Prune};

use crate::command::{
    ColumnArgs, DeviceArgs, Failure, ModelArgs, Result, finish, images, metrics, model_dir, note, open_engine, table,
    text, text_input, visible, write_columns,
};
use args::{Args, Command};

/// Runs the command that the process was called with.
pub fn main() -> ExitCode {
    // Clap prints help and usage errors, with exit code 2 for the latter.
    let outcome = match Args::parse().command {
        Command::Classify(args) => classify::run(&args),
        Command::Embed(args) => classify::embed(&args),
        Command::Rank(args) => rank::run(&args),
        Command::Eval(args) if args.rank.is_some() => eval_rank::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Info(args) => info::run(&args),
        Command::Convert(args) => convert::run(&args),
        Command::Quantize(args) => quantize::run(&args),
        #[cfg(feature = "serve")]
        Command::Serve(args) => serve::run(&args),
        Command::Demo(args) => demo::run(&args),
    };
    finish(outcome)
}

/// An error of one input, with the name of its file instead of its place in a batch.
fn name_file<'a>(error: Error, file: impl Fn(usize) -> &'a PathBuf) -> Failure {
    match error {
        Error::Input { index, reason } => Failure::Error(format!("{}: {reason}", file(index).display())),
        other => other.into(),
    }
}

/// The rule for whoever names none.
fn default_rule(model: &Model) -> Result<Prune> {
    let rule = model.default_prune();
    let Some(lacks) = model.lacks(&rule) else { return Ok(rule) };
    Err(Failure::Error(format!(
        "the model's default rule `{rule}` needs {lacks}, and this model has none; name another one, as in --prune dense"
    )))
}
