//! Comparing one model with the numbers of one `cases.json`.
#![allow(dead_code, reason = "each test uses its own part")]

use std::path::Path;

use serde_json::Value;
use sttabt::{Classification, Engine, Input, Outputs, Prune};

use crate::common::*;

/// Absolute and relative tolerance of logits. Sums are taken in another order than PyTorch's. `concrete` allows more, because
/// the authors' masked softmax is renormalised with an EPS that packed rows do not have.
fn tolerance(fixture: &str, prune: &Prune) -> (f32, f32) {
    match (fixture, prune) {
        (_, Prune::Concrete) => (2e-3, 0.0),
        ("sst2-minilm" | "deit-tiny", _) => (1e-3, 0.0),
        _ => (1e-4, 1e-4),
    }
}

/// One run of one case; `None` when its result agrees.
fn disagreement(result: &Classification, fixture: &str, case: &Value, run: &Value) -> Option<String> {
    let prune = prune(run);
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
    let (what, found) = match &result.embedding {
        Some(embedding) => ("embedding", embedding),
        None => ("logits", &result.logits),
    };
    let far = distance(found, &floats(&run[what]), relative);
    if far > absolute {
        return Some(format!("{prune}: {what} {found:?} is {far:e} from {}", run[what]));
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

/// Which runs are one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calls {
    /// Each its own.
    Single,
    /// All of a rule, which is faster on an adapter that likes full tiles.
    Batches,
}

/// Every run of every case in `cases.json` of a folder.
pub fn check_fixture(folder: &Path, engine: Engine, num_runs: usize, calls: Calls) {
    check_cases(folder, engine, num_runs, calls, |_, _| true);
}

/// Every run of some cases, chosen by their place and their input.
pub fn check_cases(
    folder: &Path,
    mut engine: Engine,
    num_runs: usize,
    calls: Calls,
    is_chosen: impl Fn(usize, &Value) -> bool,
) {
    let name = folder.file_name().and_then(|name| name.to_str()).expect("a folder");
    println!("{name} on {:?}", engine.backend());
    let cases = cases(folder);
    let mut runs = Vec::new();
    for (index, case) in cases.iter().enumerate().filter(|(index, case)| is_chosen(*index, &case["input"])) {
        runs.extend(case["runs"].as_array().expect("runs").iter().map(|run| (index, case, run)));
    }
    assert_eq!(runs.len(), num_runs, "runs of {name}: one that is missing is no agreement");
    let rule = |run: &Value| prune(run).to_string();
    if calls == Calls::Batches {
        runs.sort_by_key(|(_, _, run)| rule(run));
    }
    let mut failures = Vec::new();
    for runs in runs.chunk_by(|(_, _, one), (_, _, next)| calls == Calls::Batches && rule(one) == rule(next)) {
        let inputs: Vec<CaseInput> = runs.iter().map(|(_, case, _)| CaseInput::new(folder, case)).collect();
        let inputs: Vec<Input<'_>> = inputs.iter().map(CaseInput::get).collect();
        let outputs = Outputs { token_scores: true, ..Outputs::default() };
        let results = classify_with(&mut engine, &inputs, &prune(runs[0].2), &outputs);
        assert_eq!(results.len(), runs.len());
        for ((index, case, run), result) in runs.iter().zip(&results) {
            let failure = disagreement(result, name, case, run);
            failures.extend(failure.map(|failure| format!("case {index}, {failure}")));
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {} runs of {name} differ:\n{}",
        failures.len(),
        runs.len(),
        failures.join("\n")
    );
}
