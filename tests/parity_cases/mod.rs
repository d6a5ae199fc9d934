//! Comparing one model with the numbers of one `cases.json`.
#![allow(dead_code, reason = "each test uses its own part")]

use std::path::Path;

use serde_json::Value;
use sttabt::{Engine, Input, Outputs, Prune};

use crate::common::*;

/// Absolute and relative tolerance of logits. Sums are taken in another order than PyTorch's. `concrete` allows more, because
/// the authors' masked softmax is renormalised with an EPS that packed rows do not have.
fn tolerance(fixture: &str, prune: &Prune) -> (f32, f32) {
    match (fixture, prune) {
        (_, Prune::Concrete) => (2e-3, 0.0),
        ("tiny-bert" | "tiny-vit", _) => (1e-4, 1e-4),
        _ => (1e-3, 0.0),
    }
}

/// One run of one case; `None` when it agrees.
fn disagreement(engine: &mut Engine, fixture: &str, input: Input<'_>, case: &Value, run: &Value) -> Option<String> {
    let prune = prune(run);
    let outputs = Outputs { token_scores: true, attention_maps: false };
    let result = classify_with(engine, &[input], &prune, &outputs).remove(0);
    let expected_ids: Vec<u32> = case["input"]["input_ids"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|id| id.as_u64().map(|id| id as u32))
        .collect();
    if result.input_ids != expected_ids {
        return Some(format!("{prune}: input_ids {:?}, expected {expected_ids:?}", result.input_ids));
    }
    let expected_kept: Vec<Vec<u32>> = serde_json::from_value(run["kept"].clone()).expect("kept");
    if result.kept != expected_kept {
        let layer = result.kept.iter().zip(&expected_kept).position(|(a, b)| a != b);
        return Some(format!(
            "{prune}: kept sets differ at layer {layer:?}: {:?}, expected {expected_kept:?}",
            result.kept
        ));
    }
    let (absolute, relative) = tolerance(fixture, &prune);
    let far = distance(&result.logits, &floats(&run["logits"]), relative);
    if far > absolute {
        return Some(format!("{prune}: logits {:?} are {far:e} from {}", result.logits, run["logits"]));
    }
    // Soft scores of Rule 2 for all tokens.
    if let (Some(expected), Some(scores)) = (run["concrete_scores"].as_array(), &result.token_scores) {
        for (layer, (expected, scores)) in expected.iter().zip(scores).enumerate() {
            let far = distance(scores, &floats(expected), 0.0);
            if far > 1e-4 {
                return Some(format!("{prune}: concrete scores of layer {layer} are off by {far:e}"));
            }
        }
    }
    None
}

/// Every run of every case in `cases.json` of a folder.
pub fn check_fixture(folder: &Path, engine: Engine, min_runs: usize) {
    check_cases(folder, engine, min_runs, |_| true);
}

/// Every run of some cases, chosen by their input.
pub fn check_cases(folder: &Path, mut engine: Engine, min_runs: usize, is_chosen: impl Fn(&Value) -> bool) {
    let name = folder.file_name().and_then(|name| name.to_str()).expect("a folder");
    println!("{name} on {:?}", engine.backend());
    let mut failures = Vec::new();
    let mut num_runs = 0;
    for (index, case) in cases(folder).iter().enumerate().filter(|(_, case)| is_chosen(&case["input"])) {
        let input = CaseInput::new(folder, case);
        for run in case["runs"].as_array().expect("runs") {
            num_runs += 1;
            failures.extend(
                disagreement(&mut engine, name, input.get(), case, run)
                    .map(|failure| format!("case {index}, {failure}")),
            );
        }
    }
    assert!(num_runs >= min_runs, "only {num_runs} runs");
    assert!(failures.is_empty(), "{} of {num_runs} runs of {name} differ:\n{}", failures.len(), failures.join("\n"));
}
