//! The authors' numbers for both tiny models: losses, gradients, optimiser steps.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use sttabt_train::golden::{self, GoldenArgs};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name)
}

/// The report, and whether all numbers are within their limits.
fn run(dir: PathBuf, only: Option<&str>) -> (String, bool) {
    let mut report = String::new();
    let args = GoldenArgs { dir, only: only.map(str::to_owned) };
    let result = golden::run(&args, &Device::flex(), |text| report += text);
    (report, result.is_ok())
}

#[test]
fn all_runs_are_within_their_limits() {
    for (model, num_runs) in [("tiny-bert", 24), ("tiny-vit", 12)] {
        let (report, is_within) = run(fixture(model), None);
        assert!(is_within, "{report}");
        let found = report.lines().filter(|line| line.contains('.') && !line.starts_with(' ')).count();
        // A heading for each run, and for each of the two files.
        assert_eq!(found, num_runs + 2, "{report}");
    }
}

/// Another rate, and another gradient, are seen.
#[test]
fn other_numbers_are_beyond_their_limits() {
    let dir = std::env::temp_dir().join(format!("sttabt-golden-{}", std::process::id()));
    let source = fixture("tiny-bert");
    std::fs::create_dir_all(dir.join("approx")).expect("a folder");
    for file in ["config.json", "model.safetensors", "tokenizer.json", "transfer.safetensors"] {
        std::fs::copy(source.join(file), dir.join(file)).expect("a copy");
    }
    for file in ["approx/config.json", "approx/model.safetensors"] {
        std::fs::copy(source.join(file), dir.join(file)).expect("a copy");
    }
    let numbers = std::fs::read_to_string(source.join("training.json")).expect("text");
    for part in ["weights", "gradients"] {
        let mut changed: serde_json::Value = serde_json::from_str(&numbers).expect("JSON");
        if part == "weights" {
            changed["distill"]["settings"]["lr"] = 0.0002.into();
        } else {
            let gradient = &mut changed["distill"]["padded"]["gradients"]["bert.embeddings.word_embeddings.weight"];
            gradient["norm"] = 1.0.into();
        }
        std::fs::write(dir.join("training.json"), changed.to_string()).expect("a file");
        let (report, is_within) = run(dir.clone(), Some("distill.padded"));
        let line = report.lines().find(|line| line.trim_start().starts_with(part)).unwrap_or_default();
        assert!(!is_within && line.contains("BEYOND"), "{part}:\n{report}");
    }
    std::fs::remove_dir_all(dir).expect("removed");
}
