//! From the words of a chunk to one report per input: labels, kept tokens, retention, FLOPs.

use super::request::{Classification, Outputs};
use crate::backend::ChunkLayout;
use crate::models::{ImageConfig, InputConfig, Model, Pooling, PoolingMode, Task, Tokens};
use crate::pruning::{Plan, Prune};
use crate::tensor::row_stride;

/// What was read back of a chunk.
pub struct ChunkWords {
    /// A row for each anchor of each sample, or, where all tokens make the output, for each token.
    pub outputs: Vec<f32>,
    pub outputs_stride: usize,
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
    asked: &Outputs,
) -> Vec<Classification> {
    let (mut first_row, mut first_map_value) = (0, 0);
    let config = model.config();
    let image = match &config.input {
        InputConfig::Text(_) => None,
        InputConfig::Image(image) => Some(image),
    };
    let outputs = |row: usize, num_rows: usize| words.outputs.chunks(words.outputs_stride).skip(row).take(num_rows);
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
        let embedding = model.pooling().map(|pooling| match pooling.mode {
            PoolingMode::Cls => vector(outputs(sample * plan.num_anchors, 1), config.hidden_size, pooling),
            PoolingMode::Mean => vector(outputs(first_row, num_tokens), config.hidden_size, pooling),
        });
        let logits = match &embedding {
            None => logits(outputs(sample * plan.num_anchors, plan.num_anchors), config.labels.len()),
            Some(_) => Vec::new(),
        };
        let probs = match config.task {
            Task::Classification => softmax(&logits),
            Task::MultiLabel => logits.iter().copied().map(sigmoid).collect(),
            Task::Regression if asked.sigmoid => logits.iter().copied().map(sigmoid).collect(),
            Task::Regression | Task::Embedding => Vec::new(),
        };
        let best = (0..logits.len()).reduce(|best, label| if logits[label] > logits[best] { label } else { best });
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
            label: best.map(|best| config.labels[best].clone()),
            label_index: best,
            labels: (config.task == Task::MultiLabel).then(|| {
                let is_chosen = |(_, prob): &(&String, &f32)| **prob >= asked.threshold.unwrap_or(0.5);
                config.labels.iter().zip(&probs).filter(is_chosen).map(|(label, _)| label.clone()).collect()
            }),
            embedding,
            tokens,
            input_ids,
            truncated,
            grid: image.map(ImageConfig::grid),
            num_prefix_tokens: image.map(|image| image.num_prefix_tokens),
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

/// The mean over the anchors, each of which has a classifier of its own.
fn logits<'a>(rows: impl ExactSizeIterator<Item = &'a [f32]>, num_labels: usize) -> Vec<f32> {
    let num_anchors = rows.len() as f32;
    let mut sums = vec![0.0; num_labels];
    for (anchor, row) in rows.enumerate() {
        let own = &row[anchor * row_stride(num_labels)..][..num_labels];
        sums.iter_mut().zip(own).for_each(|(sum, logit)| *sum += logit);
    }
    sums.iter_mut().for_each(|sum| *sum /= num_anchors);
    sums
}

/// The mean of rows, if asked for with length 1, and cut after that. A vector of zeros stays one.
fn vector<'a>(rows: impl ExactSizeIterator<Item = &'a [f32]>, width: usize, pooling: Pooling) -> Vec<f32> {
    let num_rows = rows.len() as f64;
    let mut sums = vec![0.0; width];
    for row in rows {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    let length = if pooling.normalize { sums.iter().map(|sum| sum * sum).sum::<f64>().sqrt() } else { num_rows };
    let num_values = pooling.truncate_dim.map_or(width, |dim| dim.min(width));
    sums.into_iter().take(num_values).map(|sum| (sum / length.max(f64::MIN_POSITIVE)) as f32).collect()
}

fn sigmoid(logit: f32) -> f32 {
    (1.0 / (1.0 + f64::from(-logit).exp())) as f32
}

/// Probabilities, summed in f64 so that they add up to 1 for any number of labels.
fn softmax(logits: &[f32]) -> Vec<f32> {
    let maximum = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exps: Vec<f64> = logits.iter().map(|logit| f64::from(logit - maximum).exp()).collect();
    let sum: f64 = exps.iter().sum();
    exps.iter().map(|exp| (exp / sum) as f32).collect()
}
