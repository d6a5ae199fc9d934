//! The tensors of a network under one set of names, whatever they are called in the file.

use super::weights::Weights;
use crate::error::Result;
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
    /// After attention (BERT), or before it (ViT).
    pub attention_norm: LayerNormTensors<'a>,
    pub intermediate: LinearTensors<'a>,
    pub output: LinearTensors<'a>,
    /// After the MLP (BERT), or before it (ViT).
    pub mlp_norm: LayerNormTensors<'a>,
}

impl<'a> LayerTensors<'a> {
    pub fn all(&self) -> impl Iterator<Item = &Tensor<'a>> {
        let Self { query, key, value, attention_output, attention_norm, intermediate, output, mlp_norm } = self;
        [query, key, value, attention_output, attention_norm, intermediate, output, mlp_norm]
            .into_iter()
            .flat_map(|(weight, bias)| [weight, bias])
    }
}

/// What makes the first hidden states.
pub enum EmbeddingTensors<'a> {
    /// The sum of three rows, normalised.
    Text {
        /// `[vocab_size, hidden_size]`
        words: Tensor<'a>,
        /// `[max_position_embeddings, hidden_size]`
        positions: Tensor<'a>,
        /// `[type_vocab_size, hidden_size]`
        token_types: Tensor<'a>,
        norm: LayerNormTensors<'a>,
    },
    /// A projected patch, or `[CLS]`, and the row of its position.
    Image {
        /// `[hidden_size]`
        cls: Tensor<'a>,
        /// `[T, hidden_size]`
        positions: Tensor<'a>,
        /// `[hidden_size, patch_values]`, `[hidden_size]`
        projection: LinearTensors<'a>,
    },
}

impl<'a> EmbeddingTensors<'a> {
    pub fn all(&self) -> Vec<&Tensor<'a>> {
        match self {
            Self::Text { words, positions, token_types, norm } => vec![words, positions, token_types, &norm.0, &norm.1],
            Self::Image { cls, positions, projection } => vec![cls, positions, &projection.0, &projection.1],
        }
    }
}

/// What comes between the last hidden state of `[CLS]` and the classifier.
pub enum PoolerTensors<'a> {
    /// A dense layer and tanh (BERT).
    Dense(LinearTensors<'a>),
    /// The final layer normalisation (ViT).
    Norm(LayerNormTensors<'a>),
}

/// What follows the layers.
pub struct HeadTensors<'a> {
    pub pooler: PoolerTensors<'a>,
    pub classifier: LinearTensors<'a>,
}

/// Names of a Hugging Face file, with and without the prefix of the base model (`bert.`, `vit.`).
pub struct Names<'a> {
    pub weights: &'a Weights,
    pub prefix: &'static str,
}

impl<'a> Names<'a> {
    /// The classifier is no part of the base model: its name has no prefix.
    pub fn classifier(&self, hidden_size: usize, num_labels: usize) -> Result<LinearTensors<'a>> {
        Names { weights: self.weights, prefix: "" }.linear("classifier", hidden_size, num_labels)
    }

    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor<'a>> {
        self.weights.tensor(&[&format!("{}{name}", self.prefix), name], shape)
    }

    pub fn linear(&self, name: &str, in_features: usize, out_features: usize) -> Result<LinearTensors<'a>> {
        let weight = self.tensor(&format!("{name}.weight"), &[out_features, in_features])?;
        Ok((weight, self.tensor(&format!("{name}.bias"), &[out_features])?))
    }

    /// Files converted from TensorFlow call weight and bias `gamma` and `beta`.
    pub fn layer_norm(&self, name: &str, width: usize) -> Result<LayerNormTensors<'a>> {
        let either = |new: &str, old: &str| {
            let prefix = self.prefix;
            let names = [
                format!("{prefix}{name}.{new}"),
                format!("{name}.{new}"),
                format!("{prefix}{name}.{old}"),
                format!("{name}.{old}"),
            ];
            self.weights.tensor(&names.each_ref().map(String::as_str), &[width])
        };
        Ok((either("weight", "gamma")?, either("bias", "beta")?))
    }

    /// The learned thresholds `p_logit`, one per layer; `None` when the file has none.
    pub fn p_logits(&self, num_layers: usize) -> Result<Option<Vec<f32>>> {
        let name = |layer: usize| format!("encoder.layer.{layer}.p_logit");
        let is_there =
            |name: &str| self.weights.contains(name) || self.weights.contains(&format!("{}{name}", self.prefix));
        if !(0..num_layers).any(|layer| is_there(&name(layer))) {
            return Ok(None);
        }
        let p_logit = |layer| Ok(self.tensor(&name(layer), &[1])?.values().next().unwrap_or_default());
        (0..num_layers).map(p_logit).collect::<Result<_>>().map(Some)
    }
}
