//! From the words of a chunk to one report per input: labels, kept tokens, retention, FLOPs.

use super::request::Classification;
use crate::backend::ChunkLayout;
use crate::models::{InputConfig, Model, Task, Tokens};
use crate::pruning::{Plan, Prune};

/// What was read back of a chunk.
pub struct ChunkWords {
    /// `[B, logits_stride]`
    pub logits: Vec<f32>,
    pub logits_stride: usize,
    /// From `counts(0)` to the end of the layout; absent in a dense run.
    pub kept: Option<Vec<u32>>,
    /// `[L, scores_stride]`
    pub token_scores: Option<Vec<f32>>,
    pub scores_stride: usize,
    /// `[L · num_map_values]`
    pub maps: Option<Vec<f32>>,
}

/// One result per sample of the chunk.
pub fn report(
    model: &Model,
    tokens: Vec<Tokens>,
    prune: &Prune,
    plan: &Plan,
    layout: &ChunkLayout,
    words: &ChunkWords,
) -> Vec<Classification> {
    let (mut first_row, mut first_map_value) = (0, 0);
    let grid = match &model.config().input {
        InputConfig::Text(_) => None,
        InputConfig::Image(image) => Some(image.grid()),
    };
    let sample = |(sample, tokens): (usize, Tokens)| {
        let num_tokens = tokens.len();
        let num_layers = layout.num_layers;
        let kept: Vec<Vec<u32>> = match &words.kept {
            None => vec![(0..num_tokens as u32).collect(); num_layers + 1],
            Some(read) => (0..=num_layers)
                .map(|layer| {
                    let word = |address: usize| address - layout.counts(0);
                    let count = read[word(layout.counts(layer)) + sample] as usize;
                    read[word(layout.kept(layer)) + first_row..][..count].to_vec()
                })
                .collect(),
        };
        let logits = words.logits[sample * words.logits_stride..][..model.config().labels.len()].to_vec();
        let probs = match model.config().task {
            Task::Classification => softmax(&logits),
            Task::Regression => Vec::new(),
        };
        let label_index =
            (0..logits.len()).fold(0, |best, label| if logits[label] > logits[best] { label } else { best });
        let scored_layers = plan.num_scored_layers();
        let token_scores = words.token_scores.as_ref().map(|values| {
            let scores = |layer: usize| values[layer * words.scores_stride + first_row..][..num_tokens].to_vec();
            (0..scored_layers).map(scores).collect()
        });
        let attention_maps = words.maps.as_ref().map(|values| {
            let map = |layer: usize| {
                let num_rows = if plan.is_layer_by_layer() { kept[layer].len() } else { num_tokens };
                let rows = values[layer * layout.num_map_values + first_map_value..].chunks(num_tokens).take(num_rows);
                rows.flat_map(|row| &row[..num_rows]).copied().collect()
            };
            (0..scored_layers).map(map).collect()
        });
        let counts: Vec<usize> = kept.iter().map(Vec::len).collect();
        let (input_ids, tokens, truncated, picture) = match tokens {
            Tokens::Text(text) => (text.input_ids, text.tokens, text.truncated, None),
            Tokens::Patches { picture, .. } => (Vec::new(), Vec::new(), false, picture),
        };
        first_row += num_tokens;
        first_map_value += num_tokens * num_tokens;
        Classification {
            prune: prune.clone(),
            num_tokens,
            flops: plan.flops(num_tokens, &counts),
            retention: counts.iter().sum::<usize>() as f64 / (counts.len() * num_tokens) as f64,
            label: model.config().labels[label_index].clone(),
            label_index,
            tokens,
            input_ids,
            truncated,
            grid,
            picture,
            logits,
            probs,
            kept,
            layer_by_layer: plan.is_layer_by_layer(),
            token_scores,
            attention_maps,
        }
    };
    tokens.into_iter().enumerate().map(sample).collect()
}

/// Probabilities, summed in f64 so that they add up to 1 for any number of labels.
fn softmax(logits: &[f32]) -> Vec<f32> {
    let maximum = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exps: Vec<f64> = logits.iter().map(|logit| f64::from(logit - maximum).exp()).collect();
    let sum: f64 = exps.iter().sum();
    exps.iter().map(|exp| (exp / sum) as f32).collect()
}
