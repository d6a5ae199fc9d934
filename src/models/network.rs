//! A network on the host: its sizes, and its tensors in the file.

use super::checkpoint::{LayerNormTensors, LinearTensors, Part, Parts, Weights};
use super::config::{Config, InputConfig, NUM_CHANNELS, PoolerKind};
use super::embedding;
use super::family::{Family, read_config};
use super::files::ModelFiles;
use super::input::Tokens;
use crate::error::Result;
use crate::tensor::Tensor;

/// A network's sizes and tensors.
pub(crate) struct Network {
    pub family: &'static Family,
    pub config: Config,
    weights: Weights,
    /// What any picture's projected patches are added to, `[T, row_stride(hidden_size)]`, see [`embedding::image_rows`]; of a text model
    /// nothing.
    image_embeddings: Vec<f32>,
}

impl Network {
    /// Takes the files of a network out of those of its folder, which has this name in messages.
    pub fn new(folder: &str, files: &mut ModelFiles) -> Result<Self> {
        let config = files.required(folder, "config.json")?;
        let (family, config) = read_config(&format!("{folder}config.json"), config.as_ref())?;
        let weights = Weights::from_files(folder, files)?;
        Self::checked(family, config, weights)
    }

    fn checked(family: &'static Family, config: Config, weights: Weights) -> Result<Self> {
        let mut network = Self { family, config, weights, image_embeddings: Vec::new() };
        network.embeddings()?;
        for layer in 0..network.config.num_hidden_layers {
            network.layer(layer)?;
        }
        network.head()?;
        let image_embeddings = match network.embeddings()? {
            EmbeddingTensors::Text { .. } => Vec::new(),
            EmbeddingTensors::Image { anchors, positions, projection } => {
                embedding::image_rows(&anchors, &positions, &projection.1, network.config.hidden_size)
            }
        };
        network.image_embeddings = image_embeddings;
        Ok(network)
    }

    fn parts(&self) -> Result<Parts<'_>> {
        Ok(Parts { weights: &self.weights, names: self.family.names_in(&self.weights)? })
    }

    /// Tensors, their shapes checked.
    pub fn embeddings(&self) -> Result<EmbeddingTensors<'_>> {
        let (parts, hidden) = (self.parts()?, self.config.hidden_size);
        match &self.config.input {
            InputConfig::Text(text) => {
                let (first, num_positions) = (text.position_offset, text.max_position_embeddings);
                let words = parts.tensor(Part::Words, &[text.vocab_size, hidden])?;
                let positions = parts.tensor(Part::Positions, &[first + num_positions, hidden])?;
                let token_types = match text.type_vocab_size {
                    0 => None,
                    num_types => Some(parts.tensor(Part::TokenTypes, &[num_types, hidden])?),
                };
                let norm = parts.layer_norm(Part::EmbeddingNorm, 0, hidden)?;
                Ok(EmbeddingTensors::Text { words, positions: positions.rows(first, num_positions), token_types, norm })
            }
            InputConfig::Image(image) => {
                let (num_tokens, size) = (image.num_tokens(), image.patch_size);
                let projection = parts.linear_of_shape(Part::Projection, 0, &[hidden, NUM_CHANNELS, size, size])?;
                let anchor = |anchor| Ok(parts.tensor(Part::Anchor(anchor), &[1, 1, hidden])?.with_shape(&[hidden]));
                // As matrices.
                Ok(EmbeddingTensors::Image {
                    anchors: (0..image.num_anchors).map(anchor).collect::<Result<_>>()?,
                    positions: parts
                        .tensor(Part::Positions, &[1, num_tokens, hidden])?
                        .with_shape(&[num_tokens, hidden]),
                    projection: (projection.0.with_shape(&[hidden, image.patch_values()]), projection.1),
                })
            }
        }
    }

    pub fn layer(&self, layer: usize) -> Result<LayerTensors<'_>> {
        let (parts, hidden, intermediate) = (self.parts()?, self.config.hidden_size, self.config.intermediate_size);
        let square = |part| parts.linear(part, layer, hidden, hidden);
        let [query, key, value] = if parts.names.has(Part::QueryKeyValue) {
            let (weight, bias) = parts.linear(Part::QueryKeyValue, layer, hidden, 3 * hidden)?;
            [0, 1, 2].map(|third| (weight.rows(third * hidden, hidden), bias.rows(third * hidden, hidden)))
        } else {
            [square(Part::Query)?, square(Part::Key)?, square(Part::Value)?]
        };
        Ok(LayerTensors {
            query,
            key,
            value,
            attention_output: square(Part::AttentionOutput)?,
            attention_norm: parts.layer_norm(Part::AttentionNorm, layer, hidden)?,
            intermediate: parts.linear(Part::Intermediate, layer, hidden, intermediate)?,
            output: parts.linear(Part::Output, layer, intermediate, hidden)?,
            mlp_norm: parts.layer_norm(Part::MlpNorm, layer, hidden)?,
        })
    }

    pub fn head(&self) -> Result<HeadTensors<'_>> {
        let (parts, hidden) = (self.parts()?, self.config.hidden_size);
        Ok(HeadTensors {
            pooler: match self.config.pooler {
                PoolerKind::Dense(_) => parts.linear(Part::Pooler, 0, hidden, hidden)?,
                PoolerKind::Norm => parts.layer_norm(Part::Pooler, 0, hidden)?,
            },
            classifier: parts.linear(Part::Classifier, 0, hidden, self.config.labels.len())?,
        })
    }

    /// For every layer: how many of the file's bytes are still needed once it, all after it and the head are packed. The embeddings
    /// stay: those of a text model are read at every run.
    pub fn needed_bytes(&self) -> Result<Vec<usize>> {
        let end = |tensor: &Tensor<'_>| self.weights.end_of(tensor);
        let mut needed = self.embeddings()?.all().into_iter().map(end).max().unwrap_or(0);
        let mut all = vec![needed];
        for layer in 1..self.config.num_hidden_layers {
            needed = needed.max(self.layer(layer - 1)?.all().map(end).max().unwrap_or(0));
            all.push(needed);
        }
        Ok(all)
    }

    /// Number of weights.
    pub fn num_values(&self) -> u64 {
        self.weights.num_values()
    }

    /// Frees the file's bytes from this one on.
    pub fn truncate(&mut self, num_bytes: usize) {
        self.weights.truncate(num_bytes);
    }

    /// Thresholds of at least `min`, one per layer; `None` when the file has none. They are ours: other programs have no names for them.
    pub fn thresholds(&self, part: Part, min: f32) -> Result<Option<Vec<f32>>> {
        let parts = Parts { weights: &self.weights, names: &self.family.names };
        parts.numbers(part, self.config.num_hidden_layers, min)
    }

    /// The embedding rows that every input has, `[T, row_stride(hidden_size)]`; `None` for a text model.
    pub fn constant_embeddings(&self) -> Option<&[f32]> {
        (!self.image_embeddings.is_empty()).then_some(self.image_embeddings.as_slice())
    }

    /// What fills the embedding rows of a text, `[T, row_stride(hidden_size)]`.
    pub fn embedder(&self) -> Result<impl Fn(&Tokens, &mut [f32]) + Sync> {
        let embeddings = self.embeddings()?;
        let hidden_size = self.config.hidden_size;
        Ok(move |input: &Tokens, rows: &mut [f32]| {
            // `Model::prepare` gives a model what it reads.
            if let (EmbeddingTensors::Text { words, positions, token_types, .. }, Tokens::Text(text)) =
                (&embeddings, input)
            {
                let tables = (words, positions, token_types.as_ref());
                rows.fill(0.0);
                embedding::text_rows(tables, hidden_size, &text.input_ids, &text.token_type_ids, rows);
            }
        })
    }
}

/// One encoder layer.
pub struct LayerTensors<'a> {
    pub query: LinearTensors<'a>,
    pub key: LinearTensors<'a>,
    pub value: LinearTensors<'a>,
    pub attention_output: LinearTensors<'a>,
    /// After attention, or before it: [`Family::norm_order`].
    pub attention_norm: LayerNormTensors<'a>,
    pub intermediate: LinearTensors<'a>,
    pub output: LinearTensors<'a>,
    /// After the MLP, or before it.
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
    /// The sum of rows, normalised.
    Text {
        /// `[vocab_size, hidden_size]`
        words: Tensor<'a>,
        /// From the first token's, `[max_position_embeddings, hidden_size]`
        positions: Tensor<'a>,
        /// `[type_vocab_size, hidden_size]`, if the model has types
        token_types: Option<Tensor<'a>>,
        norm: LayerNormTensors<'a>,
    },
    /// A projected patch, or an anchor, and the row of its position.
    Image {
        /// `[hidden_size]` each
        anchors: Vec<Tensor<'a>>,
        /// `[T, hidden_size]`
        positions: Tensor<'a>,
        /// `[hidden_size, patch_values]`, `[hidden_size]`
        projection: LinearTensors<'a>,
    },
}

impl<'a> EmbeddingTensors<'a> {
    pub fn all(&self) -> Vec<&Tensor<'a>> {
        match self {
            Self::Text { words, positions, token_types, norm } => {
                [words, positions].into_iter().chain(token_types).chain([&norm.0, &norm.1]).collect()
            }
            Self::Image { anchors, positions, projection } => {
                anchors.iter().chain([positions, &projection.0, &projection.1]).collect()
            }
        }
    }
}

/// What follows the layers.
pub struct HeadTensors<'a> {
    /// What [`Config::pooler`] says: a linear layer, or a layer normalisation.
    pub pooler: LinearTensors<'a>,
    pub classifier: LinearTensors<'a>,
}

#[cfg(test)]
#[path = "network_tests.rs"]
mod tests;
