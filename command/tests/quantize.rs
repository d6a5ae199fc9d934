//! `sttabt quantize`: a model folder with int8 weights, whole or not at all, and how near it is to its source.

use crate::command::*;
use crate::common::{fixture, read};
use sttabt::{Model, ModelFiles};

#[test]
fn a_whole_folder_is_written() {
    let out = scratch("quantize_out").join("new/model");
    let source = path(&fixture("tiny-bert"));
    let stdout = run(sttabt(["quantize", "--model", &source, "--out", &path(&out)])).quiet();
    let lines: Vec<&str> = stdout.lines().collect();
    assert!(lines[0].ends_with("new/model/model.safetensors: 0.1 MB, before 0.4 MB"), "{stdout}");
    assert!(lines[1].ends_with("new/model/approx/model.safetensors: 0.0 MB, before 0.1 MB"), "{stdout}");
    assert_eq!(lines[2], "copied: special_tokens_map.json, tokenizer.json, tokenizer_config.json, vocab.txt");
    assert_eq!(lines.len(), 3);
    let files = ModelFiles::from_dir(&out).expect("files");
    let expected = ModelFiles::from_dir(fixture("tiny-bert")).expect("files").into_int8(None).expect("int8 weights");
    assert!(files.names().eq(expected.names()));
    assert!(files.names().all(|name| files.get(name) == expected.get(name)));
    assert_eq!(Model::from_bytes(files).expect("a model").weights_dtype(), "int8");
    let info = run(sttabt(["info", "--model", &path(&out)])).stdout;
    assert!(info.contains(" as int8\n"), "{info}");

    let again = run(sttabt(["quantize", "--model", &source, "--out", &path(&out)])).failure();
    assert!(again.ends_with("is there already, and is not written over: name a new folder with --out"), "{again}");
    let twice = scratch("quantize_twice");
    let twice = run(sttabt(["quantize", "--model", &path(&out), "--out", &path(&twice)])).failure();
    assert!(
        twice.ends_with("config.json: `quantization_config` is sttabt-int8 already: the weights are int8"),
        "{twice}"
    );
}

#[test]
fn nothing_is_written_where_something_is_wrong() {
    let source = path(&fixture("tiny-bert"));
    let out = scratch("quantize_wrong");
    file(&out, "vocab.txt", "mine");
    let before = std::fs::read_dir(&out).expect("a folder").count();
    let taken = run(sttabt(["quantize", "--model", &source, "--out", &path(&out)])).failure();
    assert!(taken.contains("vocab.txt is there already, and is not written over"), "{taken}");
    let data =
        run(sttabt(["quantize", "--model", &source, "--out", &path(&out), "--check", "/nonexistent.tsv"])).failure();
    assert!(data.contains("/nonexistent.tsv"), "{data}");
    let pattern =
        run(sttabt(["quantize", "--model", &source, "--out", &path(&out), "--keep-f16", "layer.9"])).failure();
    assert!(pattern.ends_with("no matrix has `layer.9` in its name, to be kept as f16"), "{pattern}");
    let rule = |rule| {
        let args = ["--check", "/nonexistent.tsv", "--prune", rule];
        run(sttabt(["quantize", "--model", &source, "--out", &path(&out)].iter().chain(&args).copied())).failure()
    };
    assert!(rule("topk:0.5,concreet").contains("rule `concreet`: expected dense"));
    assert!(rule("dense,ltp").ends_with("or given ones as in `ltp:0.01`, and this model has none"), "{}", rule("ltp"));
    let alone = run(sttabt(["quantize", "--model", &source, "--out", &path(&out), "--prune", "dense"]));
    assert_eq!(alone.failure(), "2 error: --prune compares both models on data: give --check or --images");
    let files = |folder| {
        std::fs::read_dir(folder).expect("a folder").filter(|entry| entry.as_ref().expect("an entry").path().is_file())
    };
    assert_eq!((files(&out).count(), read(&out.join("vocab.txt"))), (before, b"mine".to_vec()));
    assert_eq!(run(sttabt(["quantize", "--model", &source])).code, 2);
}

#[test]
fn both_models_are_compared() {
    let folder = scratch("quantize_check");
    let rows: String =
        (0..30).map(|row| format!("w{} w{} w{} w{}\t{}\n", 5 + row, 9 + row, 20 + row, 30 + row, row % 2)).collect();
    let data = file(&folder, "data.tsv", format!("sentence\tlabel\n{rows}"));
    let source = path(&fixture("tiny-bert"));
    let args =
        ["quantize", "--model", &source, "--out", &path(&folder.join("out")), "--check", &data, "--backend", "cpu"];
    let stdout = run(sttabt(args)).quiet();
    let lines: Vec<&str> = stdout.lines().collect();
    let at = lines.iter().position(|line| line.ends_with("30 samples, both models, in per cent:")).expect("a table");
    assert!(lines[at + 1].starts_with("rule  "), "{stdout}");
    assert!(lines[at + 2].starts_with("dense "), "{stdout}");
    let column = |line: &str, column: usize| line.split_whitespace().nth(column).map(|cell| cell.parse::<f64>());
    for line in &lines[at + 2..] {
        assert!(matches!(column(line, 1), Some(Ok(share)) if share > 80.0), "{stdout}");
    }
    assert!(matches!(column(lines[at + 3], 2), Some(Ok(share)) if share > 80.0), "{stdout}");

    let args = ["quantize", "--model", &source, "--check", &data, "--backend", "cpu"];
    let more = ["--out", &path(&folder.join("other")), "--prune", "topk:0.3,forward:0.5,dense"];
    let stdout = run(sttabt(args.into_iter().chain(more))).quiet();
    let rules: Vec<&str> = stdout.lines().rev().take(3).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(rules, ["dense", "forward:0.5", "topk:0.3"]);
}
