//! What `sttabt classify --json` prints.

use serde::Serialize;
use sttabt::{BackendInfo, Classification, Decision, Engine};

use super::classify::{Inputs, Plan, Run};

#[derive(Serialize)]
pub struct Report<'a> {
    model: String,
    #[serde(flatten)]
    backend: &'a BackendInfo,
    /// The rule, or `auto:RULE`.
    prune: String,
    /// Of `auto`, for each batch.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    decisions: &'a [Decision],
    results: Vec<ReportResult<'a>>,
}

#[derive(Serialize)]
struct ReportResult<'a> {
    #[serde(flatten)]
    input: ReportInput<'a>,
    #[serde(flatten)]
    result: &'a Classification,
    ms: f64,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ReportInput<'a> {
    Text { text: &'a str, text_pair: Option<&'a str> },
    Image { image: String },
}

impl<'a> Report<'a> {
    pub fn new(model: String, engine: &'a Engine, plan: &Plan, inputs: &'a Inputs, run: &'a Run) -> Self {
        let input = |index: usize| match inputs {
            Inputs::Texts(texts) => ReportInput::Text { text: &texts[index].0, text_pair: texts[index].1.as_deref() },
            Inputs::Images(files) => ReportInput::Image { image: files[index].display().to_string() },
        };
        let results = run.results.iter().enumerate().map(|(index, result)| ReportResult {
            input: input(index),
            result,
            // The batch ran as one, so this is its time divided by its inputs.
            ms: run.ms / inputs.len() as f64,
        });
        Self {
            model,
            backend: engine.backend(),
            prune: match plan {
                Plan::Rule(prune) => prune.to_string(),
                Plan::Auto(policy) => format!("auto:{}", policy.prune()),
            },
            decisions: &run.decisions,
            results: results.collect(),
        }
    }
}
