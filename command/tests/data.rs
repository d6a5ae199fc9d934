//! Labelled data: the accuracies and retentions that the authors' code gives, or for SST-2 the reference beside the fixture. Run by `./test --data DIR`, which sets
//! `STTABT_DATA`; DIR holds `glue/SST-2/dev.tsv` and `imagenette-val/`, and beside it is `fixtures/deit-tiny/`.

#[path = "../../tests/common/mod.rs"]
mod common;
#[path = "../../tests/parity_cases/mod.rs"]
mod parity_cases;

use std::path::PathBuf;
use std::process::Command;

use clap::Parser;
use common::*;
use parity_cases::{Calls, check_cases};
use serde_json::Value;
use sttabt::{BackendKind, Input, Model, Picture, Task};
use sttabt_command::command::{ColumnArgs, Failure, table};

const RULES: [&str; 3] = ["dense", "topk:0.5", "concrete"];

fn data(path: &str) -> PathBuf {
    let folder = std::env::var_os("STTABT_DATA").expect("STTABT_DATA names the folder of the data sets");
    root().join(folder).join(path)
}

/// Runs `sttabt eval --json` and returns its results.
fn eval(arguments: &[&str]) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_sttabt"))
        .args(["eval", "--json"])
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("sttabt runs");
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    report["results"].as_array().expect("results").clone()
}

/// `modes` of a fixture's `eval.json`.
fn expected(fixture_name: &str) -> Value {
    let text = read(&fixture(fixture_name).join("eval.json"));
    serde_json::from_slice::<Value>(&text).expect("eval.json")["modes"].clone()
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("number")
}

/// `eval` on one backend against a fixture's `eval.json`: metrics by their names here and there, and how far they and the retention
/// may be off.
fn check_eval(
    (backend, rules, data): (&str, &[&str], &[&str]),
    (fixture_name, samples): (&str, usize),
    metrics: &[(&str, &str)],
    (metric_tolerance, retention_tolerance): (f64, f64),
) {
    let results = eval(&[&["--backend", backend, "--prune", &rules.join(",")], data].concat());
    let expected = expected(fixture_name);
    assert_eq!(results.len(), rules.len());
    for (result, &rule) in results.iter().zip(rules) {
        assert_eq!((&result["prune"], &result["samples"]), (&Value::from(rule), &Value::from(samples)));
        let retention = ("retention", number(&result["retention"]), "mean_retention", retention_tolerance);
        let found =
            metrics.iter().map(|(ours, theirs)| (*ours, number(&result["metrics"][ours]), *theirs, metric_tolerance));
        for (name, found, theirs, tolerance) in found.chain([retention]) {
            let theirs = number(&expected[rule][theirs]);
            println!("{rule}: {name} {found:.5}, expected {theirs:.5}");
            assert!((found - theirs).abs() <= tolerance, "{rule}: {name} {found}, expected {theirs}");
        }
    }
}

fn check_sst2(backend: &str) {
    let file = data("glue/SST-2/dev.tsv");
    let file = file.to_str().expect("UTF-8");
    check_eval((backend, &RULES, &[file]), ("sst2-minilm", 872), &[("accuracy", "accuracy")], (0.0025, 0.0025));
}

#[test]
fn sst2_accuracies_on_the_cpu_are_the_reference_s() {
    check_sst2("cpu");
}

fn check_imagenette(backend: &str, rules: &[&str]) {
    let folder = data("imagenette-val");
    let folder = folder.to_str().expect("UTF-8");
    let metrics = [("top1", "accuracy"), ("top5", "top5"), ("agreement", "agreement_with_dense")];
    check_eval((backend, rules, &["--images", folder]), ("deit-tiny", 300), &metrics, (0.01, 0.005));
}

#[test]
fn imagenette_accuracies_on_the_cpu_are_the_authors() {
    check_imagenette("cpu", &RULES);
}

// A software GPU takes minutes for each rule. What a sample of the rows gives on both backends is compared below.

#[test]
#[ignore = "./test --all --data DIR runs it"]
fn sst2_accuracies_on_the_gpu_are_the_reference_s() {
    check_sst2("gpu");
}

#[test]
#[ignore = "./test --all --data DIR runs it"]
fn imagenette_accuracies_on_the_gpu_are_the_authors() {
    check_imagenette("gpu", &["dense", "topk:0.5"]);
}

/// GLUE does not quote: every line is a row, and every quotation mark is text. Fields are counted from 0.
#[test]
fn glue_s_files_are_read_as_they_stand() {
    #[derive(Parser)]
    struct Args {
        #[command(flatten)]
        columns: ColumnArgs,
    }
    let without_header = |columns: [&'static str; 3]| {
        let names = ["--text-column", "--pair-column", "--label-column"];
        let given = names.into_iter().zip(columns).filter(|(_, column)| !column.is_empty());
        [vec!["--no-header"], given.flat_map(|(name, column)| [name, column]).collect()].concat()
    };
    let scores = without_header(["6", "7", "5"]);
    type Row<'a> = (&'a str, Vec<&'a str>, &'a str, usize, Option<usize>);
    let rows: [Row<'_>; 9] = [
        ("SST-2/dev.tsv", vec![], "0|1", 0, None),
        ("SST-2/train.tsv", vec![], "0|1", 0, None),
        ("CoLA/train.tsv", without_header(["4", "", "2"]), "0|1", 3, None),
        ("CoLA/val.tsv", without_header(["4", "", "2"]), "0|1", 3, None),
        ("RTE/dev.tsv", vec![], "entailment|not_entailment", 1, Some(2)),
        ("RTE/train.tsv", vec![], "entailment|not_entailment", 1, Some(2)),
        ("MRPC/msr_paraphrase_train.txt", vec![], "0|1", 3, Some(4)),
        ("MRPC/msr_paraphrase_test.txt", vec![], "0|1", 3, Some(4)),
        ("STS-B/sts-dev.tsv", scores, "score", 5, Some(6)),
    ];
    for (name, args, labels, text, pair) in rows {
        let path = data("glue").join(name);
        let bytes = read(&path);
        let mut config = tiny_bert().config().clone();
        config.labels = labels.split('|').map(str::to_owned).collect();
        config.task = if labels == "score" { Task::Regression } else { Task::Classification };
        let has_header = !args.contains(&"--no-header");
        let args = Args::parse_from([vec!["eval"], args].concat()).columns;
        let table = table::parse(&args, &path, &bytes, &config).unwrap_or_else(|failure| match failure {
            Failure::Error(message) | Failure::Usage(message) => panic!("{message}"),
            Failure::ClosedPipe => panic!("{name}"),
        });
        let found: Vec<(&str, Option<&str>)> =
            table.rows.iter().map(|row| (row.text.as_str(), row.text_pair.as_deref())).collect();
        let whole = String::from_utf8_lossy(&bytes);
        let lines = whole.lines().skip(usize::from(has_header)).filter(|line| !line.trim().is_empty());
        let fields: Vec<Vec<&str>> = lines.map(|line| line.split('\t').collect()).collect();
        let expected: Vec<(&str, Option<&str>)> =
            fields.iter().map(|fields| (fields[text], pair.map(|pair| fields[pair]))).collect();
        assert!(expected.len() > 200, "{name}: {} rows", expected.len());
        assert!(found == expected, "{name}: {} rows, expected {}", found.len(), expected.len());
        println!("{name}: {} rows {:?}", found.len(), table.notes);
    }
}

/// The same kept sets and labels on both backends, input by input.
fn check_twin(model: &Model, inputs: &[Input<'_>], names: &[String]) {
    let [mut cpu, mut gpu] = BACKENDS.map(|kind| engine(model, kind));
    for rule in RULES {
        let prune = rule.parse().expect("rule");
        let (on_cpu, on_gpu) = (classify(&mut cpu, inputs, &prune), classify(&mut gpu, inputs, &prune));
        for (row, (a, b)) in on_cpu.iter().zip(&on_gpu).enumerate() {
            assert_eq!(a.kept, b.kept, "{rule}, row {row}: {}", names[row]);
            assert_eq!(a.label, b.label, "{rule}, row {row}: {}", names[row]);
            assert!(distance(&a.logits, &b.logits, 0.0) < 1e-3, "{rule}, row {row}: {:?} {:?}", a.logits, b.logits);
        }
    }
}

/// Some of the first 128 texts.
fn check_texts(step: usize, expected: usize) {
    let text = String::from_utf8(read(&data("glue/SST-2/dev.tsv"))).expect("UTF-8");
    let lines = text.lines().skip(1).take(128).step_by(step);
    let texts: Vec<String> = lines.filter_map(|line| line.split('\t').next().map(str::to_owned)).collect();
    assert_eq!(texts.len(), expected);
    check_twin(&sst2_minilm(), &texts.iter().map(|text| Input::Text(text)).collect::<Vec<_>>(), &texts);
}

#[test]
fn the_twin_agrees_on_sst2_row_by_row() {
    check_texts(4, 32);
}

#[test]
#[ignore = "./test --all --data DIR runs it"]
fn the_twin_agrees_on_more_of_sst2() {
    check_texts(1, 128);
}

fn check_images(step: usize, expected: usize) {
    let folder = data("imagenette-val");
    let labels = String::from_utf8(read(&folder.join("labels.tsv"))).expect("UTF-8");
    let files: Vec<String> =
        labels.lines().step_by(step).filter_map(|line| line.split('\t').next().map(str::to_owned)).collect();
    assert_eq!(files.len(), expected);
    let pictures: Vec<Picture> = files.iter().map(|file| picture(&folder.join(file))).collect();
    let model = load(&root().join("models/deit-tiny"));
    check_twin(&model, &pictures.iter().map(Input::Image).collect::<Vec<_>>(), &files);
}

#[test]
fn the_twin_agrees_on_imagenette_image_by_image() {
    check_images(50, 6);
}

#[test]
#[ignore = "./test --all --data DIR runs it"]
fn the_twin_agrees_on_more_of_imagenette() {
    check_images(10, 30);
}

/// The authors' cases whose photographs are not in the repository; of all their cases every `step`th.
fn check_photographs(kind: BackendKind, step: usize, num_runs: usize) {
    let is_chosen = |index: usize, input: &Value| {
        index.is_multiple_of(step) && input["image"].as_str().is_some_and(|image| image.starts_with("imagenette-"))
    };
    check_cases(&data("../fixtures/deit-tiny"), engine(&deit_tiny(), kind), num_runs, Calls::Single, is_chosen);
}

#[test]
fn imagenette_cases_agree_on_the_cpu() {
    check_photographs(BackendKind::Cpu, 1, 32);
}

#[test]
fn imagenette_cases_agree_on_the_gpu() {
    check_photographs(BackendKind::Gpu, 4, 8);
}

#[test]
#[ignore = "./test --all --data DIR runs it"]
fn all_imagenette_cases_agree_on_the_gpu() {
    check_photographs(BackendKind::Gpu, 1, 32);
}
