//! The command `sttabt-bench`: what pruning costs and saves on this device, in FLOPs and in time.

mod args;
mod calls;
mod compare;
mod environment;
mod inputs;
mod kernels;
mod plot;
mod report;
mod run;
mod stages;
mod stop;
mod times;

use std::process::ExitCode;

use clap::Parser;
use sttabt_command::command;

use args::{Args, Command};

fn main() -> ExitCode {
    command::start();
    // Clap prints help and usage errors, with exit code 2 for the latter.
    let outcome = match Args::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Kernels(args) => kernels::run(&args),
        Command::Calls(args) => calls::run(&args),
        Command::Compare(args) => compare::run(&args),
    };
    command::finish(outcome)
}
