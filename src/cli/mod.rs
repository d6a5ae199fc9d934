//! The command: arguments, files, drawing, progress. It asks the library for everything else.

mod args;
mod classify;
mod classify_json;
mod demo;
mod draw;
mod eval;
mod figure;
mod images;
mod info;
mod metrics;
mod model_dir;
mod server;
mod table;

use std::io;
use std::process::ExitCode;

use clap::Parser;
use sttabt::{Engine, Input, Model};

use args::{Args, BackendArg, Command, DeviceArgs};

/// What ends the command early.
pub enum Failure {
    /// The arguments do not make sense: exit code 2.
    Usage(String),
    /// Anything else: exit code 1.
    Error(String),
    /// Whoever read the output is gone: nothing to say.
    ClosedPipe,
}

pub type Result<T> = std::result::Result<T, Failure>;

impl From<sttabt::Error> for Failure {
    fn from(error: sttabt::Error) -> Self {
        match error {
            sttabt::Error::Rule { .. } => Self::Usage(error.to_string()),
            _ => Self::Error(error.to_string()),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ClosedPipe,
            _ => Self::Error(format!("writing the output: {error}")),
        }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        io::Error::from(error).into()
    }
}

/// Runs the command that the process was called with.
pub fn main() -> ExitCode {
    // Clap prints help and usage errors, with exit code 2 for the latter.
    let outcome = match Args::parse().command {
        Command::Classify(args) => classify::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Info(args) => info::run(&args),
        Command::Demo(args) => demo::run(&args),
    };
    match outcome {
        Ok(()) | Err(Failure::ClosedPipe) => ExitCode::SUCCESS,
        Err(Failure::Usage(message)) => fail(&message, 2),
        Err(Failure::Error(message)) => fail(&message, 1),
    }
}

fn fail(message: &str, code: u8) -> ExitCode {
    // Messages quote files and arguments, which may hold anything.
    let message: Vec<String> = message.lines().map(draw::visible).collect();
    // A closed stderr must not turn an error into a panic.
    let _ = io::Write::write_fmt(&mut io::stderr(), format_args!("error: {}\n", message.join("\n")));
    ExitCode::from(code)
}

/// Opens the device that the arguments ask for, and says on stderr why `auto` took the CPU.
fn open_engine(model: &Model, device: &DeviceArgs) -> Result<Engine> {
    if let (BackendArg::Cpu, Some(_)) = (device.backend, &device.adapter) {
        return Err(Failure::Usage("--adapter names a GPU adapter, and --backend cpu uses none".to_owned()));
    }
    let engine = pollster::block_on(Engine::new(model, &device.options()))?;
    if let Some(why) = &engine.backend().note {
        note(why);
    }
    Ok(engine)
}

/// One text, or two.
fn text_input<'a>(text: &'a str, pair: Option<&'a str>) -> Input<'a> {
    match pair {
        Some(pair) => Input::Pair(text, pair),
        None => Input::Text(text),
    }
}

/// Says something on stderr, which may be closed.
fn note(message: &str) {
    let _ = io::Write::write_fmt(&mut io::stderr(), format_args!("note: {}\n", draw::visible(message)));
}
