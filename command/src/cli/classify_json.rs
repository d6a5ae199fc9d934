//! What `sttabt classify --json` prints.

use serde::Serialize;
use sttabt::{Classification, Engine};

use super::classify::{Inputs, Plan, Run};

#[derive(Serialize)]
pub struct Report<'a> {
    model: String,
    backend: &'a str,
    adapter: &'a str,
    /// The rule, or `auto:RULE`.
    prune: String,
    /// Of `auto`, for each batch.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    decisions: Vec<ReportDecision>,
    results: Vec<ReportResult<'a>>,
}

#[derive(Serialize)]
struct ReportDecision {
    prune: String,
    dense_ms: f64,
    /// `null` where an input has more tokens than rules take.
    pruned_ms: f64,
}

#[derive(Serialize)]
struct ReportResult<'a> {
    #[serde(flatten)]
    input: ReportInput<'a>,
    /// What `auto` took.
    #[serde(skip_serializing_if = "Option::is_none")]
    prune: Option<String>,
    logits: &'a [f32],
    probs: &'a [f32],
    label: &'a str,
    kept: &'a [Vec<u32>],
    retention: f64,
    flops: ReportFlops,
    truncated: bool,
    ms: f64,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ReportInput<'a> {
    Text { text: &'a str, text_pair: Option<&'a str>, tokens: &'a [String], input_ids: &'a [u32] },
    Image { image: String, grid: Option<[usize; 2]> },
}

#[derive(Serialize)]
struct ReportFlops {
    dense: u64,
    pruned: u64,
    approx: u64,
    total: u64,
}

impl<'a> Report<'a> {
    pub fn new(model: String, engine: &'a Engine, plan: &Plan, inputs: &'a Inputs, run: &'a Run) -> Self {
        let input = |index: usize, result: &'a Classification| match inputs {
            Inputs::Texts(texts) => ReportInput::Text {
                text: &texts[index].0,
                text_pair: texts[index].1.as_deref(),
                tokens: &result.tokens,
                input_ids: &result.input_ids,
            },
            Inputs::Images(files) => {
                ReportInput::Image { image: files[index].display().to_string(), grid: result.grid }
            }
        };
        let results = run.results.iter().enumerate().map(|(index, result)| ReportResult {
            input: input(index, result),
            prune: matches!(plan, Plan::Auto(_)).then(|| result.prune.to_string()),
            logits: &result.logits,
            probs: &result.probs,
            label: &result.label,
            kept: &result.kept,
            retention: result.retention,
            flops: ReportFlops {
                dense: result.flops.dense,
                pruned: result.flops.pruned,
                approx: result.flops.approx,
                total: result.flops.total(),
            },
            truncated: result.truncated,
            // The batch ran as one, so this is its time divided by its inputs.
            ms: run.ms / inputs.len() as f64,
        });
        let decisions = run.decisions.iter().map(|decision| ReportDecision {
            prune: decision.prune.to_string(),
            dense_ms: decision.dense_ms,
            pruned_ms: decision.pruned_ms,
        });
        let backend = engine.backend();
        Self {
            model,
            backend: backend.backend,
            adapter: &backend.adapter,
            prune: match plan {
                Plan::Rule(prune) => prune.to_string(),
                Plan::Auto(policy) => format!("auto:{}", policy.prune()),
            },
            decisions: decisions.collect(),
            results: results.collect(),
        }
    }
}
