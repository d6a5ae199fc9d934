//! The command `sttabt-train`.

use std::io::{self, Write};
use std::process::ExitCode;

use burn::tensor::Device;
use clap::{Parser, Subcommand};
use sttabt_train::bench::{self, BenchArgs};
use sttabt_train::compress::{self, CompressArgs, Stages};
use sttabt_train::glue::{self, GlueArgs};
use sttabt_train::golden::{self, GoldenArgs};
use sttabt_train::supervised::{self, Supervised};
use sttabt_train::{Error, Result};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Trains what pruning needs: an ApproxNet, thresholds, and weights that stand it
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// CPU threads; all of them by default
    #[arg(long, global = true, value_name = "N")]
    threads: Option<usize>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compare losses, gradients and steps with the authors' numbers
    Golden(GoldenArgs),
    /// Make a model run pruned: ApproxNet, weights that stand pruning, thresholds, and a report
    Compress(CompressArgs),
    /// Train the ApproxNet alone
    Distill(CompressArgs),
    #[command(flatten)]
    Supervised(Supervised),
    /// The paper's figure on GLUE: fine-tune, distil, compress and train every rule, and measure them all
    Glue(GlueArgs),
    /// Time the steps of a training
    #[command(hide = true)]
    Bench(BenchArgs),
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A closed stderr must not turn an error into a panic.
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    keep_memory();
    if let Some(num_threads) = cli.threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(num_threads).build_global();
        pool.map_err(|error| Error::Usage(format!("--threads {num_threads}: {error}")))?;
    }
    let device = Device::flex();
    let mut out = io::stdout().lock();
    let mut print = |text: &str| {
        let _ = out.write_all(text.as_bytes());
    };
    match &cli.command {
        Command::Golden(args) => golden::run(args, &device, print),
        Command::Compress(args) => compress::run(args, Stages::All, &device, &mut print),
        Command::Distill(args) => compress::run(args, Stages::Distil, &device, &mut print),
        Command::Glue(args) => glue::run(args, &device, &mut print),
        Command::Supervised(command) => supervised::run(command, &device, &mut print),
        Command::Bench(args) => bench::run(args, &device, print),
    }
}

/// mimalloc's `mi_option_purge_delay`, which the crate does not name: the sixteenth in `mimalloc.h`, in versions 2 and 3.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// A step needs the memory of the last one again: giving it back to the system in between costs a tenth of the time.
fn keep_memory() {
    // SAFETY: sets a number, before another thread runs.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) }
}
