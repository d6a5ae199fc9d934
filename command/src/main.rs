//! The command `sttabt`.

mod cli;
mod command;

fn main() -> std::process::ExitCode {
    command::start();
    cli::main()
}
