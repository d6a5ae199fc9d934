//! BERT: where its tensors are in a Hugging Face file, and its embeddings.

use super::config::Config;
use super::tensors::{LayerNormTensors, LayerTensors, LinearTensors, NetworkTensors};
use super::weights::Weights;
use crate::error::Result;
use crate::tensor::{Tensor, row_stride};

/// Names with and without the prefix `bert.`.
struct Names<'a>(&'a Weights);

impl<'a> Names<'a> {
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor<'a>> {
        self.0.tensor(&[&format!("bert.{name}"), name], shape)
    }

    fn linear(&self, name: &str, in_features: usize, out_features: usize) -> Result<LinearTensors<'a>> {
        let weight = self.tensor(&format!("{name}.weight"), &[out_features, in_features])?;
        Ok((weight, self.tensor(&format!("{name}.bias"), &[out_features])?))
    }

    /// Files converted from TensorFlow call weight and bias `gamma` and `beta`.
    fn layer_norm(&self, name: &str, width: usize) -> Result<LayerNormTensors<'a>> {
        let either = |new: &str, old: &str| {
            let names = [
                format!("bert.{name}.{new}"),
                format!("{name}.{new}"),
                format!("bert.{name}.{old}"),
                format!("{name}.{old}"),
            ];
            self.0.tensor(&names.each_ref().map(String::as_str), &[width])
        };
        Ok((either("weight", "gamma")?, either("bias", "beta")?))
    }
}

/// All tensors of a `BertForSequenceClassification`, their shapes checked.
pub fn tensors<'a>(config: &Config, weights: &'a Weights) -> Result<NetworkTensors<'a>> {
    let names = Names(weights);
    let hidden = config.hidden_size;
    let layers = (0..config.num_hidden_layers).map(|layer| {
        let layer = format!("encoder.layer.{layer}");
        Ok(LayerTensors {
            query: names.linear(&format!("{layer}.attention.self.query"), hidden, hidden)?,
            key: names.linear(&format!("{layer}.attention.self.key"), hidden, hidden)?,
            value: names.linear(&format!("{layer}.attention.self.value"), hidden, hidden)?,
            attention_output: names.linear(&format!("{layer}.attention.output.dense"), hidden, hidden)?,
            attention_norm: names.layer_norm(&format!("{layer}.attention.output.LayerNorm"), hidden)?,
            intermediate: names.linear(&format!("{layer}.intermediate.dense"), hidden, config.intermediate_size)?,
            output: names.linear(&format!("{layer}.output.dense"), config.intermediate_size, hidden)?,
            output_norm: names.layer_norm(&format!("{layer}.output.LayerNorm"), hidden)?,
        })
    });
    Ok(NetworkTensors {
        word_embeddings: names.tensor("embeddings.word_embeddings.weight", &[config.vocab_size, hidden])?,
        position_embeddings: names
            .tensor("embeddings.position_embeddings.weight", &[config.max_position_embeddings, hidden])?,
        token_type_embeddings: names
            .tensor("embeddings.token_type_embeddings.weight", &[config.type_vocab_size, hidden])?,
        embedding_norm: names.layer_norm("embeddings.LayerNorm", hidden)?,
        layers: layers.collect::<Result<_>>()?,
        pooler: names.linear("pooler.dense", hidden, hidden)?,
        classifier: (
            weights.tensor(&["classifier.weight"], &[config.labels.len(), hidden])?,
            weights.tensor(&["classifier.bias"], &[config.labels.len()])?,
        ),
    })
}

/// The learned thresholds `p_logit`, one per layer; `None` when the file has none.
pub fn p_logits(config: &Config, weights: &Weights) -> Result<Option<Vec<f32>>> {
    let name = |layer: usize| format!("encoder.layer.{layer}.p_logit");
    let has_any = (0..config.num_hidden_layers)
        .any(|layer| weights.contains(&name(layer)) || weights.contains(&format!("bert.{}", name(layer))));
    if !has_any {
        return Ok(None);
    }
    let names = Names(weights);
    let p_logit = |layer| Ok(names.tensor(&name(layer), &[1])?.values().next().unwrap_or_default());
    (0..config.num_hidden_layers).map(p_logit).collect::<Result<_>>().map(Some)
}

/// Appends the sum of word, position and token type embeddings of one input, `[T, row_stride(hidden_size)]`.
///
/// The rows are gathered on the host, so that the table (which no binding may hold) stays where it is.
pub fn embed(
    tensors: &NetworkTensors<'_>,
    hidden_size: usize,
    input_ids: &[u32],
    token_type_ids: &[u32],
    rows: &mut Vec<f32>,
) {
    for (position, (&id, &token_type)) in input_ids.iter().zip(token_type_ids).enumerate() {
        let start = rows.len();
        rows.resize(start + row_stride(hidden_size), 0.0);
        let row = &mut rows[start..start + hidden_size];
        tensors.word_embeddings.add_row_to(id as usize, row);
        tensors.token_type_embeddings.add_row_to(token_type as usize, row);
        tensors.position_embeddings.add_row_to(position, row);
    }
}
