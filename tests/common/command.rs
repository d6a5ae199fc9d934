//! Running the command as a process.
#![allow(dead_code, reason = "each test uses its own part")]

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::common::fixture;

/// What a process left behind.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().expect("no signal"),
            stdout: String::from_utf8(output.stdout).expect("UTF-8 on stdout"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8 on stderr"),
        }
    }
}

impl Ended {
    /// Stdout of a run that went well and had nothing to complain about.
    pub fn quiet(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""), "{}", self.stdout);
        self.stdout
    }

    pub fn json(self) -> Value {
        let stdout = self.quiet();
        assert_eq!(stdout.lines().count(), 1, "one object on one line: {stdout}");
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
    }

    /// The code and the first line of stderr of a run that failed.
    pub fn failure(self) -> String {
        assert_eq!(self.stdout, "", "{}", self.stderr);
        format!("{} {}", self.code, self.stderr.lines().next().unwrap_or_default())
    }
}

/// The command without this machine's settings.
pub fn sttabt<'a>(args: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sttabt"));
    command.args(args).stdin(Stdio::null());
    for name in ["STTABT_MODEL", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "RUST_BACKTRACE"] {
        command.env_remove(name);
    }
    // Mesa's layer that sorts adapters complains on stderr where no desktop is.
    command.env("NODEVICE_SELECT", "1");
    command
}

/// A subcommand on tiny-bert and the CPU, with further arguments.
pub fn tiny<'a>(subcommand: &'a str, args: &[&'a str]) -> Command {
    let mut command = sttabt([subcommand, "--backend", "cpu", "--model", "tests/fixtures/tiny-bert"]);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(args);
    command
}

pub fn run(mut command: Command) -> Ended {
    command.output().expect("the command starts").into()
}

pub fn run_with_stdin(mut command: Command, stdin: &[u8]) -> Ended {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("a process");
    let written = child.stdin.take().expect("stdin").write_all(stdin);
    // A run that does not ask for its standard input may end before this.
    let gone = |error: &std::io::Error| error.kind() == ErrorKind::BrokenPipe;
    assert!(written.as_ref().err().is_none_or(gone), "{written:?}");
    child.wait_with_output().expect("output").into()
}

/// An empty folder for one test.
pub fn scratch(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a scratch folder");
    folder
}

pub fn tiny_folder() -> String {
    path(&fixture("tiny-bert"))
}

pub fn path(path: &std::path::Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}

/// Writes a file below a scratch folder, and gives its path.
pub fn file(folder: &std::path::Path, name: &str, bytes: impl AsRef<[u8]>) -> String {
    let file = folder.join(name);
    std::fs::write(&file, bytes).expect("a file");
    path(&file)
}
