//! The command `sttabt`.

mod cli;

use sttabt_command::command;

fn main() -> std::process::ExitCode {
    command::start();
    cli::main()
}
