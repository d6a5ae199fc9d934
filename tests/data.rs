//! Labelled data: the accuracies and retentions that the authors' code gives. Run by `./test --data DIR`, which sets
//! `STTABT_DATA`; DIR holds `glue/SST-2/dev.tsv`.

mod common;

use std::path::PathBuf;
use std::process::Command;

use common::*;
use serde_json::Value;

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
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
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

#[test]
fn sst2_accuracies_are_the_authors() {
    let file = data("glue/SST-2/dev.tsv");
    let rules = ["dense", "topk:0.5", "concrete"];
    let file = file.to_str().expect("UTF-8");
    let results = eval(&["--backend", "gpu", "--prune", &rules.join(","), file]);
    let expected = expected("sst2-minilm");
    assert_eq!(results.len(), rules.len());
    for (result, rule) in results.iter().zip(rules) {
        assert_eq!(result["prune"], rule);
        assert_eq!(result["samples"], 872);
        let accuracy = number(&result["metrics"]["accuracy"]);
        let retention = number(&result["retention"]);
        println!("{rule}: accuracy {accuracy:.5}, retention {retention:.5}");
        assert!((accuracy - number(&expected[rule]["accuracy"])).abs() <= 0.0025, "{rule}: accuracy {accuracy}");
        let authors = number(&expected[rule]["mean_retention"]);
        assert!((retention - authors).abs() <= 0.0025, "{rule}: retention {retention}, expected {authors}");
    }
}

/// Row by row: the same kept sets and labels on both backends.
#[test]
fn the_twin_agrees_on_sst2_row_by_row() {
    let text = String::from_utf8(read(&data("glue/SST-2/dev.tsv"))).expect("UTF-8");
    let texts: Vec<&str> = text.lines().skip(1).take(128).filter_map(|line| line.split('\t').next()).collect();
    assert_eq!(texts.len(), 128);
    let inputs: Vec<sttabt::Input<'_>> = texts.iter().map(|text| sttabt::Input::Text(text)).collect();
    let model = sst2_minilm();
    let [mut cpu, mut gpu] = BACKENDS.map(|kind| engine(&model, kind));
    for rule in ["dense", "topk:0.5", "concrete"] {
        let prune = rule.parse().expect("rule");
        let (on_cpu, on_gpu) = (classify(&mut cpu, &inputs, &prune), classify(&mut gpu, &inputs, &prune));
        for (row, (a, b)) in on_cpu.iter().zip(&on_gpu).enumerate() {
            assert_eq!(a.kept, b.kept, "{rule}, row {row}: {}", texts[row]);
            assert_eq!(a.label, b.label, "{rule}, row {row}: {}", texts[row]);
            assert!(distance(&a.logits, &b.logits, 0.0) < 1e-3, "{rule}, row {row}: {:?} {:?}", a.logits, b.logits);
        }
    }
}
