//! The command `sttabt`.

mod cli;

fn main() -> std::process::ExitCode {
    // Mesa's Vulkan layer that sorts devices asks a display server and, where there is none, prints an error of its own. The order
    // is chosen here anyway.
    // SAFETY: no other thread runs yet.
    unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    cli::main()
}
