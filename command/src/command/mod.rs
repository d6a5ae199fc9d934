//! What the commands `sttabt` and `sttabt-bench` share: failures, the arguments for models and devices, model folders, data files.

mod args;
pub mod images;
pub mod labels;
pub mod metrics;
pub mod model_dir;
pub mod table;
pub mod text;

use std::io;
use std::process::ExitCode;

use sttabt::{Engine, Input, Model};

pub use args::{BackendArg, ColumnArgs, DeviceArgs, ModelArgs};

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

/// What every command does first.
pub fn start() {
    // Mesa's Vulkan layer that sorts devices asks a display server and, where there is none, prints an error of its own. The order
    // is chosen here anyway.
    // SAFETY: no other thread runs yet.
    unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
}

/// The exit code of a command, with what went wrong on stderr.
pub fn finish(outcome: Result<()>) -> ExitCode {
    match outcome {
        Ok(()) | Err(Failure::ClosedPipe) => ExitCode::SUCCESS,
        Err(Failure::Usage(message)) => fail(&message, 2),
        Err(Failure::Error(message)) => fail(&message, 1),
    }
}

fn fail(message: &str, code: u8) -> ExitCode {
    // Messages quote files and arguments, which may hold anything.
    let message: Vec<String> = message.lines().map(visible).collect();
    // A closed stderr must not turn an error into a panic.
    let _ = io::Write::write_fmt(&mut io::stderr(), format_args!("error: {}\n", message.join("\n")));
    ExitCode::from(code)
}

/// Opens the device that the arguments ask for, and says on stderr why `auto` took the CPU.
pub fn open_engine(model: &Model, device: &DeviceArgs) -> Result<Engine> {
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
pub fn text_input<'a>(text: &'a str, pair: Option<&'a str>) -> Input<'a> {
    match pair {
        Some(pair) => Input::Pair(text, pair),
        None => Input::Text(text),
    }
}

/// Says something on stderr, which may be closed.
pub fn note(message: &str) {
    let _ = io::Write::write_fmt(&mut io::stderr(), format_args!("note: {}\n", visible(message)));
}

/// Control characters would command the terminal; they are shown as `\u{fffd}`.
pub fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Writes a table: the first column to the left, the others to the right.
pub fn write_columns(out: &mut impl io::Write, lines: &[Vec<String>]) -> Result<()> {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    for line in lines {
        for (column, cell) in line.iter().enumerate() {
            match column {
                0 => write!(out, "{cell:<width$}", width = width(0))?,
                _ => write!(out, "  {cell:>width$}", width = width(column))?,
            }
        }
        writeln!(out)?;
    }
    Ok(())
}
