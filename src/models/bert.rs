//! BERT: where its tensors are in a Hugging Face file, and its embeddings.

use super::config::{Config, TextConfig};
use super::tensors::{EmbeddingTensors, HeadTensors, LayerTensors, Names, PoolerTensors};
use super::weights::Weights;
use crate::error::Result;
use crate::tensor::{Tensor, row_stride};

/// The base model's part of a name.
pub const PREFIX: &str = "bert.";

fn names(weights: &Weights) -> Names<'_> {
    Names { weights, prefix: PREFIX }
}

/// The embeddings of a `BertForSequenceClassification`.
pub fn embeddings<'a>(config: &Config, text: &TextConfig, weights: &'a Weights) -> Result<EmbeddingTensors<'a>> {
    let hidden = config.hidden_size;
    let table =
        |name: &str, num_rows: usize| names(weights).tensor(&format!("embeddings.{name}.weight"), &[num_rows, hidden]);
    Ok(EmbeddingTensors::Text {
        words: table("word_embeddings", text.vocab_size)?,
        positions: table("position_embeddings", text.max_position_embeddings)?,
        token_types: table("token_type_embeddings", text.type_vocab_size)?,
        norm: names(weights).layer_norm("embeddings.LayerNorm", hidden)?,
    })
}

/// One of its layers.
pub fn layer<'a>(config: &Config, weights: &'a Weights, layer: usize) -> Result<LayerTensors<'a>> {
    let (names, hidden, layer) = (names(weights), config.hidden_size, format!("encoder.layer.{layer}"));
    Ok(LayerTensors {
        query: names.linear(&format!("{layer}.attention.self.query"), hidden, hidden)?,
        key: names.linear(&format!("{layer}.attention.self.key"), hidden, hidden)?,
        value: names.linear(&format!("{layer}.attention.self.value"), hidden, hidden)?,
        attention_output: names.linear(&format!("{layer}.attention.output.dense"), hidden, hidden)?,
        attention_norm: names.layer_norm(&format!("{layer}.attention.output.LayerNorm"), hidden)?,
        intermediate: names.linear(&format!("{layer}.intermediate.dense"), hidden, config.intermediate_size)?,
        output: names.linear(&format!("{layer}.output.dense"), config.intermediate_size, hidden)?,
        mlp_norm: names.layer_norm(&format!("{layer}.output.LayerNorm"), hidden)?,
    })
}

/// What follows the layers.
pub fn head<'a>(config: &Config, weights: &'a Weights) -> Result<HeadTensors<'a>> {
    let (names, hidden) = (names(weights), config.hidden_size);
    Ok(HeadTensors {
        pooler: PoolerTensors::Dense(names.linear("pooler.dense", hidden, hidden)?),
        classifier: names.classifier(hidden, config.labels.len())?,
    })
}

/// Adds the word, position and token type embeddings of one input to its rows, `[T, row_stride(hidden_size)]`, which are zero.
///
/// The rows are gathered on the host, so that the table (which no binding may hold) stays where it is.
pub fn embed(
    (words, positions, token_types): (&Tensor<'_>, &Tensor<'_>, &Tensor<'_>),
    hidden_size: usize,
    input_ids: &[u32],
    token_type_ids: &[u32],
    rows: &mut [f32],
) {
    let rows = rows.chunks_exact_mut(row_stride(hidden_size));
    for ((position, row), (&id, &token_type)) in rows.enumerate().zip(input_ids.iter().zip(token_type_ids)) {
        let row = &mut row[..hidden_size];
        words.add_row_to(id as usize, row);
        token_types.add_row_to(token_type as usize, row);
        positions.add_row_to(position, row);
    }
}
