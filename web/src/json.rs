//! What the package's TypeScript types describe, as JSON: the field names are those of `types.ts`.

use serde::Serialize;
use serde_json::{Value, json};
use sttabt::{BackendInfo, Classification, Decision, InputConfig, Model, Prune, Why};

/// `ModelInfo`
pub fn model_info(model: &Model) -> Value {
    let config = model.config();
    let (input, image_size, grid, max_tokens) = match &config.input {
        InputConfig::Text(text) => ("text", None, None, text.max_position_embeddings),
        InputConfig::Image(image) => ("image", Some(image.image_size), Some(image.grid()), image.num_tokens()),
    };
    json!({
        "input": input,
        "labels": config.labels,
        "numLayers": config.num_hidden_layers,
        "numHeads": config.num_attention_heads,
        "hiddenSize": config.hidden_size,
        "hasApproxNet": model.has_approx_net(),
        "hasThresholds": model.has_thresholds(),
        "defaultPrune": prune(&model.default_prune()),
        "numParameters": model.num_parameters(),
        "approxNumParameters": model.approx_num_parameters(),
        "weightsDtype": model.weights_dtype(),
        "imageSize": image_size,
        "grid": grid,
        "maxTokens": max_tokens,
    })
}

/// `BackendInfo`
pub fn backend_info(info: &BackendInfo, software: bool) -> Value {
    json!({ "backend": info.backend, "adapter": info.adapter, "software": software, "note": info.note })
}

/// `Prune`
fn prune(prune: &Prune) -> Value {
    let text = prune.to_string();
    let rule = text.split(':').next();
    match prune.ratios().and_then(|ratios| ratios.for_layers(ratios.len())) {
        None => json!({ "rule": rule }),
        Some(ratios) => {
            let ratios: Vec<f64> = ratios.iter().map(|ratio| ratio.get()).collect();
            match ratios.as_slice() {
                [ratio] => json!({ "rule": rule, "ratio": ratio }),
                ratios => json!({ "rule": rule, "ratio": ratios }),
            }
        }
    }
}

/// `Why`
pub fn why_json(why: &Why) -> Value {
    let contributions: Vec<Value> = why
        .contributions
        .iter()
        .map(|contribution| json!({ "position": contribution.position, "value": contribution.value }))
        .collect();
    json!({
        "layer": why.layer,
        "position": why.position,
        "kept": why.kept,
        "score": why.score,
        "cut": why.cut,
        "reason": why.reason,
        "contributions": contributions,
    })
}

/// `Result` without what only the worker knows.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResultJson<'a> {
    prune: Value,
    tokens: &'a [String],
    input_ids: &'a [u32],
    grid: Option<[usize; 2]>,
    num_tokens: usize,
    kept: &'a [Vec<u32>],
    token_scores: &'a Option<Vec<Vec<f32>>>,
    logits: &'a [f32],
    probs: &'a [f32],
    label: &'a str,
    label_index: usize,
    retention: f64,
    truncated: bool,
    flops: Value,
    expected: Option<Value>,
}

impl<'a> ResultJson<'a> {
    /// Of a classification.
    pub fn new(result: &'a Classification, decision: Option<&Decision>) -> Self {
        let flops = &result.flops;
        Self {
            prune: prune(&result.prune),
            tokens: &result.tokens,
            input_ids: &result.input_ids,
            grid: result.grid,
            num_tokens: result.grid.map_or(result.tokens.len(), |[rows, columns]| 1 + rows * columns),
            kept: &result.kept,
            token_scores: &result.token_scores,
            logits: &result.logits,
            probs: &result.probs,
            label: &result.label,
            label_index: result.label_index,
            retention: result.retention,
            truncated: result.truncated,
            expected: decision.map(|decision| json!({ "denseMs": decision.dense_ms, "prunedMs": decision.pruned_ms })),
            flops: json!({
                "dense": flops.dense, "pruned": flops.pruned, "approx": flops.approx, "total": flops.total(),
            }),
        }
    }
}
