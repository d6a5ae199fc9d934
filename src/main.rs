//! The command `sttabt`.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
