//! Running the command as a process.
#![allow(dead_code, reason = "each test uses its own part")]

pub mod http;
pub mod server;

use std::collections::BTreeSet;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use sttabt::Classification;

use super::common::{fixture, root};

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

/// The command without this machine's settings; the working directory is the repository's.
pub fn sttabt<'a>(args: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sttabt"));
    command.args(args).stdin(Stdio::null()).current_dir(root());
    for name in ["STTABT_MODEL", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "RUST_BACKTRACE"] {
        command.env_remove(name);
    }
    // Mesa's layer that sorts adapters complains on stderr where no desktop is.
    command.env("NODEVICE_SELECT", "1");
    command
}

/// A subcommand on tiny-bert and the CPU, with further arguments.
pub fn tiny<'a>(subcommand: &'a str, args: &[&'a str]) -> Command {
    with_model("tests/fixtures/tiny-bert", subcommand, args)
}

/// The same on tiny-vit.
pub fn tiny_images<'a>(subcommand: &'a str, args: &[&'a str]) -> Command {
    with_model("tests/fixtures/tiny-vit", subcommand, args)
}

/// A subcommand on a model and the CPU.
pub fn with_model<'a>(model: &'a str, subcommand: &'a str, args: &[&'a str]) -> Command {
    let mut command = sttabt([subcommand, "--backend", "cpu", "--model", model]);
    command.args(args);
    command
}

pub fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

/// The names in a line.
pub fn names(line: &str) -> BTreeSet<&str> {
    line.split(' ').collect()
}

pub fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|number| number.as_f64().expect("a number")).collect()
}

/// What `classify --json` says of a model with 4 layers and 5 labels: the same for texts and images, but for the keys of the input.
pub fn check_report(report: &Value, (model, rule): (&str, &str), input_keys: &str, lengths: &[usize]) {
    assert_eq!(keys(report), names("model backend adapter software prune results"));
    assert_eq!(
        (&report["model"], &report["backend"], &report["adapter"], &report["prune"]),
        (&json!(model), &json!("cpu"), &json!("CPU"), &json!(rule))
    );
    let results = report["results"].as_array().expect("results");
    assert_eq!(results.len(), lengths.len());
    for (result, &num_tokens) in results.iter().zip(lengths) {
        let rest = "prune num_tokens logits probs label label_index kept retention flops truncated layer_by_layer ms";
        let rest = format!("{input_keys} {rest}");
        assert_eq!(keys(result), names(&rest));
        assert_eq!(keys(&result["flops"]), names("dense pruned approx total"));
        assert_eq!((numbers(&result["logits"]).len(), numbers(&result["probs"]).len()), (5, 5));
        assert!((numbers(&result["probs"]).iter().sum::<f64>() - 1.0).abs() < 1e-6);
        assert_eq!((&result["truncated"], &result["prune"]), (&json!(false), &json!(rule)));
        assert_eq!(result["num_tokens"], num_tokens);
        let kept: Vec<Vec<f64>> = result["kept"].as_array().expect("kept").iter().map(numbers).collect();
        assert_eq!(kept.len(), 5, "K_0 to K_4");
        let all: Vec<f64> = (0..num_tokens).map(|token| token as f64).collect();
        match rule {
            "dense" => assert!(kept.iter().all(|kept| *kept == all)),
            _ => assert_eq!(kept[4], [0.0]),
        }
        let mean = kept.iter().map(Vec::len).sum::<usize>() as f64 / (5 * num_tokens) as f64;
        assert!((result["retention"].as_f64().expect("retention") - mean).abs() < 1e-12);
        let flops = |name: &str| result["flops"][name].as_u64().expect("an integer");
        assert_eq!(flops("pruned") + flops("approx"), flops("total"));
        assert!(flops("dense") > 0 && result["ms"].as_f64().is_some_and(|ms| ms > 0.0));
    }
}

/// Logits, kept sets and labels of `classify --json` are those that the library computes.
pub fn check_results(report: &Value, computed: &[Classification]) {
    let results = report["results"].as_array().expect("results");
    assert_eq!(results.len(), computed.len());
    for (printed, computed) in results.iter().zip(computed) {
        let logits: Vec<f32> = numbers(&printed["logits"]).iter().map(|&logit| logit as f32).collect();
        assert_eq!(logits, computed.logits);
        assert_eq!(printed["kept"], json!(computed.kept));
        assert_eq!(printed["label"], json!(computed.label));
    }
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

/// `sttabt-bench` without this machine's settings.
pub fn bench(args: &[&str]) -> Command {
    let command = sttabt([]);
    let mut bench = Command::new(env!("CARGO_BIN_EXE_sttabt-bench"));
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => bench.env(name, value),
            None => bench.env_remove(name),
        };
    }
    bench.args(args).stdin(Stdio::null()).current_dir(root());
    bench
}

/// A run on tiny-bert and the CPU.
pub fn tiny_bench(args: &[&str]) -> Command {
    bench(&[&["run", "--backend", "cpu", "--model", "tests/fixtures/tiny-bert"], args].concat())
}

pub fn json_of(path: &str) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON")
}

pub fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// A report with one run of these times.
pub fn times(name: &str, ms: [f64; 3], rounds: u32) -> Value {
    json!({
        "environment": { "adapter": ["CPU"], "cpu": "a", "threads": 2 },
        "runs": [{
            "model": name, "backend": "cpu", "prune": "dense", "batch": 1, "tokens": 8, "rounds": rounds,
            "ms": { "min": ms[0], "median": ms[1], "p90": ms[2] },
        }],
    })
}
