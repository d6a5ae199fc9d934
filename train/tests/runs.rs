//! Whole runs of the command on a tiny model: resumed after kills, ended early, and refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Steps of a run.
const STEPS: usize = 60;

/// A folder of its own, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("sttabt-train-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }

    /// Texts of the tiny model's words.
    fn texts(&self) -> PathBuf {
        let path = self.0.join("texts.txt");
        let line = |at: u32| {
            let words = (0..3 + at % 9).map(|word| format!("w{}", (at * 7 + word * 13) % 92));
            words.collect::<Vec<_>>().join(" ")
        };
        let lines: Vec<String> = (0..200).map(line).collect();
        fs::write(&path, lines.join("\n")).expect("a file");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/tiny-bert")
}

fn command(model: &Path, texts: &Path, out: &Path, more: &[&str]) -> Command {
    command_of(STEPS, model, texts, out, more)
}

fn command_of(steps: usize, model: &Path, texts: &Path, out: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sttabt-train"));
    command.args(["--threads", "1", "compress", "--checkpoint-every", "0", "--batch", "8"]);
    command.arg("--steps").arg(steps.to_string()).arg("--model").arg(model).arg("--texts").arg(texts);
    command.arg("--out").arg(out).args(more).env("STTABT_TRAIN_QUIET", "1");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn finish(mut command: Command) -> (bool, String) {
    let output = command.output().expect("the command runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// What a run leaves that depends on no clock.
fn results(out: &Path) -> Vec<Vec<u8>> {
    let read = |name: &str| fs::read(out.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    ["model.safetensors", "approx/model.safetensors", "config.json"].into_iter().map(read).collect()
}

/// The log without the times of the steps.
fn log(out: &Path) -> Vec<String> {
    let text = fs::read_to_string(out.join("train.jsonl")).expect("a log");
    let line = |line: &str| {
        let mut line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        line["ms"] = 0.into();
        line.to_string()
    };
    text.lines().map(line).collect()
}

#[test]
fn a_run_goes_on_to_the_bit_after_kills() {
    let scratch = Scratch::new("kill");
    let (texts, whole, killed) = (scratch.texts(), scratch.0.join("whole"), scratch.0.join("killed"));
    let (is_done, text) = finish(command(&fixture(), &texts, &whole, &[]));
    assert!(is_done, "{text}");
    let mut num_kills = 0;
    // Kills come later and later, so that the run gets to its end.
    for round in 0.. {
        assert!(round < 200, "the run never ends");
        let mut child = command(&fixture(), &texts, &killed, &["--resume"]).spawn().expect("the command runs");
        std::thread::sleep(Duration::from_millis(40 + 37 * round));
        if child.try_wait().expect("a status").is_some() {
            let (is_done, text) = finish(command(&fixture(), &texts, &killed, &["--resume"]));
            assert!(!is_done && text.contains("is finished"), "{text}");
            break;
        }
        child.kill().expect("killed");
        child.wait().expect("an end");
        num_kills += 1;
    }
    assert!(num_kills >= 5, "{num_kills} kills");
    assert_eq!(results(&killed), results(&whole));
    assert_eq!(log(&killed), log(&whole));
}

/// The first Ctrl-C ends a run with what it has, and its report says so.
#[cfg(unix)]
#[test]
fn an_interrupted_run_leaves_a_folder() {
    let scratch = Scratch::new("interrupt");
    let (texts, out) = (scratch.texts(), scratch.0.join("out"));
    let child = command_of(100_000, &fixture(), &texts, &out, &[]).spawn();
    let mut child = child.expect("the command runs");
    while fs::read_to_string(out.join("train.jsonl")).is_ok_and(|log| log.lines().count() <= 20)
        || !out.join("train.jsonl").exists()
    {
        assert!(child.try_wait().expect("a status").is_none(), "the run ended by itself");
        std::thread::sleep(Duration::from_millis(20));
    }
    let status = Command::new("kill").arg("-INT").arg(child.id().to_string()).status().expect("kill");
    assert!(status.success() && child.wait().expect("an end").success());
    let report = fs::read_to_string(out.join("REPORT.md")).expect("a report");
    assert!(report.contains("ended early") && report.contains("select "), "{report}");
    // The steps that were taken, not those that were planned.
    assert!(!report.contains("select 70000 steps"), "{report}");
    let files = sttabt::ModelFiles::from_dir(&out).expect("files");
    assert!(sttabt::Model::from_bytes(files).expect("a model").has_thresholds());
}

/// Ctrl-C in any stage, and `--resume`: the results of a run that was not stopped.
#[cfg(unix)]
#[test]
fn an_interrupted_run_goes_on_to_the_bit() {
    let scratch = Scratch::new("resume");
    let (texts, whole) = (scratch.texts(), scratch.0.join("whole"));
    // Without an ApproxNet there are three stages.
    let bare = scratch.0.join("bare");
    fs::create_dir_all(&bare).expect("a folder");
    for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(fixture().join(name), bare.join(name)).expect("a file");
    }
    let more = ["--reduction", "2"];
    let (is_done, text) = finish(command(&bare, &texts, &whole, &more));
    assert!(is_done, "{text}");
    for stage in ["distil", "select", "elastic"] {
        let out = scratch.0.join(stage);
        let mut child = command(&bare, &texts, &out, &more).spawn().expect("the command runs");
        let is_there = || {
            let log = fs::read_to_string(out.join("train.jsonl")).unwrap_or_default();
            log.lines().filter(|line| line.contains(&format!("\"stage\":\"{stage}\""))).count() >= 3
        };
        while !is_there() {
            assert!(child.try_wait().expect("a status").is_none(), "{stage}: the run ended by itself");
            std::thread::sleep(Duration::from_millis(2));
        }
        let status = Command::new("kill").arg("-INT").arg(child.id().to_string()).status().expect("kill");
        assert!(status.success() && child.wait().expect("an end").success(), "{stage}");
        let is_stopped = out.join("checkpoint").exists();
        let (is_done, text) = finish(command(&bare, &texts, &out, &["--reduction", "2", "--resume"]));
        assert_eq!(is_done, is_stopped, "{stage}: {text}");
        assert_eq!(results(&out), results(&whole), "{stage}");
        assert_eq!(log(&out), log(&whole), "{stage}");
    }
}

/// Without steps the weights are the source's. Thresholds and the ratios of the layers are found, and measured.
#[test]
fn a_run_without_steps_calibrates() {
    let scratch = Scratch::new("calibrate");
    let (texts, out) = (scratch.texts(), scratch.0.join("out"));
    let more = ["--f32", "--retentions", "0.5,0.35"];
    let (is_done, text) = finish(command_of(0, &fixture(), &texts, &out, &more));
    assert!(is_done, "{text}");
    let read =
        |folder: &Path, name: &str| fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    for name in ["model.safetensors", "approx/model.safetensors"] {
        let (found, expected) = (read(&out, name), read(&fixture(), name));
        let found = safetensors::SafeTensors::deserialize(&found).expect("tensors");
        let expected = safetensors::SafeTensors::deserialize(&expected).expect("tensors");
        let is_weight = |name: &&str| !name.ends_with("p_logit") && !name.ends_with("ltp_threshold");
        let mut num_weights = 0;
        for name in found.names().into_iter().filter(is_weight) {
            let (found, expected) = (found.tensor(name).expect("found"), expected.tensor(name).expect("expected"));
            assert_eq!(found.data(), expected.data(), "{name}");
            num_weights += 1;
        }
        assert!(num_weights > 10, "{name}: {num_weights} weights");
    }
    let report: serde_json::Value = serde_json::from_slice(&read(&out, "report.json")).expect("JSON");
    assert_eq!(report["stages"], serde_json::json!([]));
    let rules: Vec<&str> =
        report["rules"].as_array().expect("rules").iter().filter_map(|line| line["rule"].as_str()).collect();
    for retention in ["0.500", "0.350"] {
        let notes = report["notes"].as_array().expect("notes").iter().filter_map(|note| note.as_str());
        let asked = format!(", {retention} was asked for");
        let mut rules_of = notes.filter(|note| note.contains(&asked)).filter_map(|note| note.split('`').nth(1));
        let rule = rules_of.next();
        assert!(rule.is_some_and(|rule| rules.contains(&rule)), "{retention}: {rule:?} in {rules:?}");
    }
    assert!(!report["notes"].to_string().contains("learning"), "{report}");
    assert!(
        String::from_utf8_lossy(&read(&out, "REPORT.md"))
            .contains("the model's weights are the source's. Thresholds were found")
    );
    let (is_done, text) = finish(command_of(0, &fixture(), &texts, &scratch.0.join("other"), &["--retentions", "1.5"]));
    assert!(!is_done && text.contains("--retentions 1.5: expected less than 1"), "{text}");
    // What the first stage alone has no use for is refused, not ignored.
    for (option, value) in [("--rate", "1e-5"), ("--shares", "1,0,0"), ("--retentions", "0.5")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sttabt-train"));
        command.arg("distill").arg("--model").arg(fixture()).arg("--texts").arg(&texts).args([option, value]);
        command.arg("--out").arg(scratch.0.join("distilled")).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (is_done, text) = finish(command);
        assert!(!is_done && text.contains(&format!("{option} is for `compress`")), "{text}");
    }
}

/// A loss that is no number ends a run. The step, the part and the way out are named, and the checkpoint stays.
#[test]
fn a_loss_that_is_no_number_ends_a_run() {
    let scratch = Scratch::new("nan");
    let (texts, out) = (scratch.texts(), scratch.0.join("out"));
    let (is_done, text) = finish(command(&fixture(), &texts, &out, &["--rate", "1e30"]));
    assert!(!is_done && text.contains("error: step ") && text.contains(": the loss `"), "{text}");
    assert!(text.contains("the last good checkpoint is in") && text.contains("a smaller --rate"), "{text}");
    assert!(out.join("checkpoint").is_dir() && !out.join("report.json").exists());
}

/// Each is refused before anything is written, and the message says what to do.
#[test]
fn what_cannot_be_is_refused() {
    let scratch = Scratch::new("refused");
    let texts = scratch.texts();
    let few = scratch.0.join("few.txt");
    fs::write(&few, "w1 w2\nw3\n").expect("a file");
    let latin = scratch.0.join("latin.txt");
    fs::write(&latin, b"w1 w2\nw\xe4\n").expect("a file");
    let int8 = scratch.0.join("int8");
    fs::create_dir_all(int8.join("approx")).expect("a folder");
    let files = sttabt::ModelFiles::from_dir(fixture()).and_then(|files| files.into_int8(None)).expect("int8");
    for name in files.names() {
        fs::write(int8.join(name), files.get(name).expect("bytes")).expect("a file");
    }
    let full = scratch.0.join("full");
    fs::create_dir_all(full.join("something")).expect("a folder");
    let vit = fixture().with_file_name("tiny-vit");
    let out = scratch.0.join("out");
    for (model, texts, out, more, expected) in [
        (&int8, &texts, &out, vec![], "train the model that the int8 one was made of"),
        (&fixture(), &few, &out, vec![], "2 samples, expected at least 40"),
        (&fixture(), &latin, &out, vec![], "line 2: not UTF-8"),
        (&fixture(), &texts, &full, vec![], "not empty: name a new folder"),
        (&fixture(), &texts, &out, vec!["--keep", "0"], "--keep 0: expected more than 0"),
        (&fixture(), &texts, &out, vec!["--shares", "0.5,0.5"], "--shares 0.5,0.5: expected three numbers"),
        (&fixture(), &texts, &out, vec!["--shares", "0,0,0"], "--shares 0,0,0: expected three numbers"),
        (&vit, &texts, &out, vec![], "the model reads pictures: give --images DIR"),
        (&scratch.0, &texts, &out, vec![], "cannot read"),
    ] {
        let (is_done, text) = finish(command(model, texts, out, &more));
        assert!(!is_done && text.contains(expected), "expected `{expected}`, found {text}");
        assert!(!out.join("model.safetensors").exists(), "{expected}");
    }
}

/// Each writes a folder that has what it trained, and says what it lacks.
#[test]
fn trainings_with_labels() {
    let scratch = Scratch::new("labels");
    let texts = scratch.texts();
    let labelled = scratch.0.join("labelled.tsv");
    let lines = fs::read_to_string(&texts).expect("texts");
    let rows: Vec<String> = lines.lines().enumerate().map(|(at, line)| format!("{line}\t{}", at % 2)).collect();
    fs::write(&labelled, format!("sentence\tlabel\n{}\n", rows.join("\n"))).expect("a file");
    let run = |name: &str, texts: &Path, more: &[&str]| {
        let out = scratch.0.join(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_sttabt-train"));
        command.args(["--threads", "1", name, "--steps", "10", "--batch", "8"]).arg("--model").arg(fixture());
        command.arg("--texts").arg(texts).arg("--out").arg(&out).args(more).env("STTABT_TRAIN_QUIET", "1");
        (out, finish(command))
    };
    let source = sttabt::Model::from_bytes(sttabt::ModelFiles::from_dir(fixture()).expect("files")).expect("a model");
    for name in ["finetune", "concrete", "ltp"] {
        let (out, (is_done, text)) = run(name, &labelled, &[]);
        assert!(is_done, "{name}: {text}");
        let model = sttabt::ModelFiles::from_dir(&out).and_then(sttabt::Model::from_bytes).expect("a model");
        let learned = match name {
            "finetune" => None,
            "concrete" => model.p_logits().filter(|found| source.p_logits() != Some(*found)),
            _ => model.ltp_thresholds(),
        };
        assert_eq!(learned.is_some(), name != "finetune", "{name}");
        assert!(log(&out).iter().any(|line| line.contains("validation")), "{name}");
    }
    fs::remove_dir_all(scratch.0.join("ltp")).expect("removed");
    fs::remove_dir_all(scratch.0.join("concrete")).expect("removed");
    for (name, texts, more, expected) in [
        ("ltp", &texts, vec![], "no text column"),
        ("concrete", &labelled, vec!["--target-ratio", "1"], "--target-ratio 1: expected more than 0 and less than 1"),
    ] {
        let (_, (is_done, text)) = run(name, texts, &more);
        assert!(!is_done && text.contains(expected), "{name}: {text}");
    }
}

/// A BMP of one colour that changes from left to right.
fn bmp(colour: u8, size: u32) -> Vec<u8> {
    let num_bytes = 3 * size * size;
    let mut bytes = b"BM".to_vec();
    for number in [54 + num_bytes, 0, 54, 40, size, size, 24 << 16 | 1, 0, num_bytes, 0, 0, 0, 0] {
        bytes.extend(number.to_le_bytes());
    }
    let column = |x: u32| [colour, (x * 255 / size) as u8, colour.wrapping_mul(3)];
    bytes.extend((0..size * size).flat_map(|at| column(at % size)));
    bytes
}

/// Folders that are called as the model's classes are labels; what is no picture is named and skipped; others are held back.
#[test]
fn pictures_are_learned_from() {
    let scratch = Scratch::new("pictures");
    let (pictures, others) = (scratch.0.join("pictures"), scratch.0.join("others"));
    for (folder, num_pictures) in [(&pictures, 44), (&others, 4)] {
        for at in 0..num_pictures {
            let class = folder.join(format!("LABEL_{}", at % 2));
            fs::create_dir_all(&class).expect("a folder");
            // Rows of 52 pixels fill up whole words.
            fs::write(class.join(format!("{at}.bmp")), bmp(at * 5, 52)).expect("a picture");
        }
    }
    fs::write(pictures.join("LABEL_1/broken.png"), b"no picture").expect("a file");
    let model = fixture().with_file_name("tiny-vit");
    let run = |name: &str, more: &[&str]| {
        let out = scratch.0.join(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_sttabt-train"));
        command.args(["--threads", "1", "compress", "--steps", "10", "--batch", "8"]).arg("--model").arg(&model);
        command.arg("--images").arg(&pictures).arg("--out").arg(&out).args(more).env("STTABT_TRAIN_QUIET", "1");
        let (is_done, text) = finish(command);
        assert!(is_done, "{text}");
        let report = fs::read_to_string(out.join("report.json")).expect("a report");
        (serde_json::from_str::<serde_json::Value>(&report).expect("JSON"), text)
    };
    let others = others.display().to_string();
    let (report, text) = run("labelled", &["--held-back", &others]);
    assert!(text.contains("broken.png") && text.contains("1 picture was skipped"), "{text}");
    assert_eq!(report["samples"], serde_json::json!([42, 2, 4]));
    assert!(report["parent"]["metric"].is_number(), "{report}");
    fs::rename(pictures.join("LABEL_0"), pictures.join("a cat")).expect("another name");
    let (report, _) = run("without", &[]);
    assert_eq!(report["samples"], serde_json::json!([38, 2, 4]));
    assert!(report["parent"]["metric"].is_null(), "{report}");
    assert!(report["notes"].to_string().contains("the folders' names are no labels"), "{report}");
}
