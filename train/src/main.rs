//! The command `sttabt-train`.

use std::io::{self, Write};
use std::process::ExitCode;

use burn::tensor::Device;
use clap::{Parser, Subcommand};
use sttabt_train::golden::{self, GoldenArgs};
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
    if let Some(num_threads) = cli.threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(num_threads).build_global();
        pool.map_err(|error| Error::Usage(format!("--threads {num_threads}: {error}")))?;
    }
    let device = Device::flex();
    match &cli.command {
        Command::Golden(args) => {
            let mut out = io::stdout().lock();
            golden::run(args, &device, |text| {
                let _ = out.write_all(text.as_bytes());
            })
        }
    }
}
