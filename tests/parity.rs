//! The authors' own numbers: kept sets identical and logits close, for every case, every rule and both backends.

mod common;

use common::*;
use serde_json::Value;
use sttabt::{BackendKind, Engine, Outputs, Prune};

/// Absolute and relative tolerance of logits. Sums are taken in another order than PyTorch's. `concrete` allows more, because
/// the authors' masked softmax is renormalised with an EPS that packed rows do not have.
fn tolerance(fixture: &str, prune: &Prune) -> (f32, f32) {
    match (fixture, prune) {
        (_, Prune::Concrete) => (2e-3, 0.0),
        ("tiny-bert", _) => (1e-4, 1e-4),
        _ => (1e-3, 0.0),
    }
}

/// One run of one case; `None` when it agrees.
fn disagreement(engine: &mut Engine, fixture: &str, case: &Value, run: &Value) -> Option<String> {
    let prune = prune(run);
    let outputs = Outputs { token_scores: true, attention_maps: false };
    let result = classify_with(engine, &[input(case)], &prune, &outputs).remove(0);
    let expected_ids: Vec<u32> =
        case["input"]["input_ids"].as_array()?.iter().filter_map(|id| id.as_u64().map(|id| id as u32)).collect();
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

fn check_fixture(name: &str, model: &sttabt::Model, kind: BackendKind) {
    let mut engine = engine(model, kind);
    println!("{name} on {:?}", engine.backend());
    let mut failures = Vec::new();
    let mut num_runs = 0;
    for (index, case) in cases(name).iter().enumerate() {
        for run in case["runs"].as_array().expect("runs") {
            num_runs += 1;
            failures
                .extend(disagreement(&mut engine, name, case, run).map(|failure| format!("case {index}, {failure}")));
        }
    }
    assert!(num_runs > 50, "only {num_runs} runs");
    assert!(failures.is_empty(), "{} of {num_runs} runs of {name} differ:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn tiny_bert_agrees_on_the_cpu() {
    check_fixture("tiny-bert", &tiny_bert(), BackendKind::Cpu);
}

#[test]
fn tiny_bert_agrees_on_the_gpu() {
    check_fixture("tiny-bert", &tiny_bert(), BackendKind::Gpu);
}

#[test]
fn sst2_minilm_agrees_on_the_cpu() {
    check_fixture("sst2-minilm", &sst2_minilm(), BackendKind::Cpu);
}

#[test]
fn sst2_minilm_agrees_on_the_gpu() {
    check_fixture("sst2-minilm", &sst2_minilm(), BackendKind::Gpu);
}

/// ApproxNet's attention maps, and the impacts that Rule 1 makes of them.
#[test]
fn approx_net_attention_agrees() {
    for kind in BACKENDS {
        let mut engine = engine(&tiny_bert(), kind);
        let mut num_maps = 0;
        for (index, case) in cases("tiny-bert").iter().enumerate() {
            let Some(expected) = case["approx"]["mean_attention_probs"].as_array() else { continue };
            let outputs = Outputs { token_scores: true, attention_maps: true };
            let run =
                case["runs"].as_array().and_then(|runs| runs.iter().find(|run| run["mode"] == "topk")).expect("topk");
            let result = classify_with(&mut engine, &[input(case)], &prune(run), &outputs).remove(0);
            let (maps, scores) = (result.attention_maps.expect("maps"), result.token_scores.expect("scores"));
            for (layer, expected) in expected.iter().enumerate() {
                num_maps += 1;
                let far = distance(&maps[layer], &matrix(expected), 0.0);
                assert!(far < 1e-5, "{kind:?}, case {index}: map of layer {layer} is off by {far:e}");
                // w over K_l is m over K_l, normalised.
                let kept: Vec<f32> = result.kept[layer].iter().map(|&token| scores[layer][token as usize]).collect();
                let total: f32 = kept.iter().sum();
                let impacts: Vec<f32> = kept.iter().map(|m| m / (total + 1e-8)).collect();
                let far = distance(&impacts, &floats(&run["input_impacts"][layer]), 0.0);
                assert!(far < 1e-5, "{kind:?}, case {index}: impacts of layer {layer} are off by {far:e}");
            }
        }
        assert!(num_maps >= 20, "only {num_maps} maps");
    }
}
