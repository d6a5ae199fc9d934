//! The tensors of a network under one set of names, whatever they are called in the file.

use crate::tensor::Tensor;

/// Weight and bias of a linear layer: `[out, in]`, `[out]`.
pub type LinearTensors<'a> = (Tensor<'a>, Tensor<'a>);
/// Weight and bias of a layer normalisation, both `[hidden_size]`.
pub type LayerNormTensors<'a> = (Tensor<'a>, Tensor<'a>);

/// One encoder layer.
pub struct LayerTensors<'a> {
    pub query: LinearTensors<'a>,
    pub key: LinearTensors<'a>,
    pub value: LinearTensors<'a>,
    pub attention_output: LinearTensors<'a>,
    pub attention_norm: LayerNormTensors<'a>,
    pub intermediate: LinearTensors<'a>,
    pub output: LinearTensors<'a>,
    pub output_norm: LayerNormTensors<'a>,
}

/// A whole network.
pub struct NetworkTensors<'a> {
    /// `[vocab_size, hidden_size]`
    pub word_embeddings: Tensor<'a>,
    /// `[max_position_embeddings, hidden_size]`
    pub position_embeddings: Tensor<'a>,
    /// `[type_vocab_size, hidden_size]`
    pub token_type_embeddings: Tensor<'a>,
    pub embedding_norm: LayerNormTensors<'a>,
    pub layers: Vec<LayerTensors<'a>>,
    pub pooler: LinearTensors<'a>,
    pub classifier: LinearTensors<'a>,
}
