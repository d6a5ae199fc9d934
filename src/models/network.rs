//! A network on the host: its sizes, and its tensors in the file.

use super::checkpoint::{LayerNormTensors, LinearTensors, Part, Parts, Weights};
use super::config::{Config, InputConfig, NUM_CHANNELS, PoolerKind, Task};
use super::embedding;
use super::family::{Asked, Family, read_config};
use super::files::ModelFiles;
use super::input::Tokens;
use crate::error::{Error, Result};
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
    pub fn new(folder: &str, files: &mut ModelFiles, asked: Asked<'_>) -> Result<Self> {
        let config = files.required(folder, "config.json")?;
        let (family, sizes) = read_config(&format!("{folder}config.json"), config.as_ref(), asked)?;
        // The tokenizer asks it too.
        files.insert("config.json", config);
        let weights = Weights::from_files(folder, files)?;
        let weights = if sizes.is_int8 { weights.expect_int8()? } else { weights };
        Self::checked(family, sizes, weights)
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
            EmbeddingTensors::Image { prefix, positions, projection, grids } => {
                embedding::image_rows(&prefix, &positions, grids, &projection.1, network.config.hidden_size)
            }
        };
        network.image_embeddings = image_embeddings;
        Ok(network)
    }

    /// The file, and how it names the parts.
    pub fn parts(&self) -> Result<Parts<'_>> {
        Ok(Parts { weights: &self.weights, names: self.family.names_in(&self.weights)? })
    }

    /// Tensors, their shapes checked.
    pub fn embeddings(&self) -> Result<EmbeddingTensors<'_>> {
        let (parts, hidden) = (self.parts()?, self.config.hidden_size);
        match &self.config.input {
            InputConfig::Text(text) => {
                let (num_positions, width) = (text.position_offset + text.max_position_embeddings, text.embedding_size);
                let projection = if width == hidden {
                    None
                } else {
                    Some(parts.linear(Part::EmbeddingProjection, 0, width, hidden)?)
                };
                Ok(EmbeddingTensors::Text {
                    words: parts.tensor(Part::Words, &[text.vocab_size, width])?,
                    positions: parts.tensor(Part::Positions, &[num_positions, width])?,
                    token_types: match text.type_vocab_size {
                        0 => None,
                        num_types => Some(parts.tensor(Part::TokenTypes, &[num_types, width])?),
                    },
                    norm: parts.layer_norm(Part::EmbeddingNorm, 0, width)?,
                    projection,
                })
            }
            InputConfig::Image(image) => {
                let (size, [rows, columns]) = (image.patch_size, image.table_grid);
                let num_positions = image.num_prefix_tokens + rows * columns;
                let projection = parts.linear_of_shape(Part::Projection, 0, &[hidden, NUM_CHANNELS, size, size])?;
                let anchor = |anchor| Ok(parts.tensor(Part::Anchor(anchor), &[1, 1, hidden])?.with_shape(&[hidden]));
                // As matrices.
                Ok(EmbeddingTensors::Image {
                    prefix: (0..image.num_prefix_tokens).map(anchor).collect::<Result<_>>()?,
                    positions: parts
                        .tensor(Part::Positions, &[1, num_positions, hidden])?
                        .with_shape(&[num_positions, hidden]),
                    grids: [image.table_grid, image.grid()],
                    projection: (projection.0.with_shape(&[hidden, image.patch_values()]), projection.1),
                })
            }
        }
    }

    pub fn layer(&self, layer: usize) -> Result<LayerTensors<'_>> {
        let (parts, hidden, intermediate) = (self.parts()?, self.config.hidden_size, self.config.intermediate_size);
        let square = |part| parts.linear(part, layer, hidden, hidden);
        let scale = |part| {
            let has_scale = parts.names.has(part);
            has_scale.then(|| parts.layer_tensor(part, layer, &[hidden])).transpose()
        };
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
            attention_scale: scale(Part::AttentionScale)?,
            attention_norm: parts.layer_norm(Part::AttentionNorm, layer, hidden)?,
            intermediate: parts.linear(Part::Intermediate, layer, hidden, intermediate)?,
            output: parts.linear(Part::Output, layer, intermediate, hidden)?,
            mlp_scale: scale(Part::MlpScale)?,
            mlp_norm: parts.layer_norm(Part::MlpNorm, layer, hidden)?,
        })
    }

    pub fn head(&self) -> Result<HeadTensors<'_>> {
        let (parts, hidden) = (self.parts()?, self.config.hidden_size);
        let classifiers: &[Part] = match (self.config.task, self.config.num_anchors) {
            (Task::Embedding, _) => &[],
            (_, 1) => &[Part::Classifier],
            _ => &[Part::Classifier, Part::DistillationClassifier],
        };
        let num_labels = self.config.labels.len();
        let classifier =
            |&part: &Part| parts.linear(part, 0, hidden, num_labels).map_err(|error| of_classifier(error, num_labels));
        Ok(HeadTensors {
            pooler: match self.config.pooler {
                PoolerKind::None => None,
                PoolerKind::Dense(_) => Some(parts.linear(Part::Pooler, 0, hidden, hidden)?),
                PoolerKind::Norm => Some(parts.layer_norm(Part::Pooler, 0, hidden)?),
            },
            classifiers: classifiers.iter().map(classifier).collect::<Result<_>>()?,
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

    /// Gives back the memory of what is read from mapped files; it is read again where it is needed.
    pub fn release(&self) {
        self.weights.release();
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

    /// Width of the rows of [`Self::embedder`].
    pub fn embedding_size(&self) -> usize {
        match &self.config.input {
            InputConfig::Text(text) => text.embedding_size,
            InputConfig::Image(_) => self.config.hidden_size,
        }
    }

    /// What fills the embedding rows of a text, `[T, row_stride(embedding_size)]`.
    pub fn embedder(&self) -> Result<impl Fn(&Tokens, &mut [f32]) + Sync> {
        let embeddings = self.embeddings()?;
        let (width, offset) = match &self.config.input {
            InputConfig::Text(text) => (text.embedding_size, text.position_offset),
            InputConfig::Image(_) => (self.config.hidden_size, 0),
        };
        Ok(move |input: &Tokens, rows: &mut [f32]| {
            // `Model::prepare` gives a model what it reads.
            if let (EmbeddingTensors::Text { words, positions, token_types, .. }, Tokens::Text(text)) =
                (&embeddings, input)
            {
                let tables = embedding::Tables { words, positions, token_types: token_types.as_ref(), offset };
                rows.fill(0.0);
                tables.add_rows(width, &text.input_ids, &text.token_type_ids, rows);
            }
        })
    }
}

/// Says what the shape of a classifier comes from, and what a file without one may be.
fn of_classifier(error: Error, num_labels: usize) -> Error {
    match error {
        Error::MissingTensor { file, name } if !name.ends_with("_scale") => {
            let reason = format!(
                "tensor `{name}` is missing; where a model embeds, modules.json or a class such as BertModel in config.json says so"
            );
            Error::File { file, reason }
        }
        Error::TensorShape { file, name, found, expected } => {
            let reason = format!(
                "tensor `{name}` is {found:?}, expected {expected:?}: config.json has {num_labels} labels (`id2label`, or `num_labels`)"
            );
            Error::File { file, reason }
        }
        other => other,
    }
}

/// One encoder layer.
pub struct LayerTensors<'a> {
    pub query: LinearTensors<'a>,
    pub key: LinearTensors<'a>,
    pub value: LinearTensors<'a>,
    pub attention_output: LinearTensors<'a>,
    /// Of each feature of `attention_output`; `[hidden_size]`
    pub attention_scale: Option<Tensor<'a>>,
    /// After attention, or before it: [`Family::norm_order`].
    pub attention_norm: LayerNormTensors<'a>,
    pub intermediate: LinearTensors<'a>,
    pub output: LinearTensors<'a>,
    /// Of each feature of `output`; `[hidden_size]`
    pub mlp_scale: Option<Tensor<'a>>,
    /// After the MLP, or before it.
    pub mlp_norm: LayerNormTensors<'a>,
}

impl<'a> LayerTensors<'a> {
    pub fn all(&self) -> impl Iterator<Item = &Tensor<'a>> {
        let Self { query, key, value, attention_output, attention_norm, intermediate, output, mlp_norm, .. } = self;
        [query, key, value, attention_output, attention_norm, intermediate, output, mlp_norm]
            .into_iter()
            .flat_map(|(weight, bias)| [weight, bias])
            .chain(&self.attention_scale)
            .chain(&self.mlp_scale)
    }
}

/// What makes the first hidden states.
pub enum EmbeddingTensors<'a> {
    /// The sum of rows, normalised.
    Text {
        /// `[vocab_size, embedding_size]`
        words: Tensor<'a>,
        /// `[position_offset + max_position_embeddings, embedding_size]`
        positions: Tensor<'a>,
        /// `[type_vocab_size, embedding_size]`, if there are any
        token_types: Option<Tensor<'a>>,
        norm: LayerNormTensors<'a>,
        /// `[hidden_size, embedding_size]`, if they differ
        projection: Option<LinearTensors<'a>>,
    },
    /// A projected patch, or a learned token, and the row of its position.
    Image {
        /// The learned tokens, `[hidden_size]` each
        prefix: Vec<Tensor<'a>>,
        /// Those of the learned tokens, and of each place of the first grid
        positions: Tensor<'a>,
        /// The grid of the positions, and that of the image
        grids: [[usize; 2]; 2],
        /// `[hidden_size, patch_values]`, `[hidden_size]`
        projection: LinearTensors<'a>,
    },
}

impl<'a> EmbeddingTensors<'a> {
    /// The largest one.
    pub fn matrix(&self) -> &Tensor<'a> {
        match self {
            Self::Text { words, .. } => words,
            Self::Image { projection, .. } => &projection.0,
        }
    }

    pub fn all(&self) -> Vec<&Tensor<'a>> {
        match self {
            Self::Text { words, positions, token_types, norm, projection } => {
                let projection = projection.iter().flat_map(|(weight, bias)| [weight, bias]);
                [words, positions].into_iter().chain(token_types).chain([&norm.0, &norm.1]).chain(projection).collect()
            }
            Self::Image { prefix, positions, projection, .. } => {
                prefix.iter().chain([positions, &projection.0, &projection.1]).collect()
            }
        }
    }
}

/// What follows the layers.
pub struct HeadTensors<'a> {
    /// What [`Config::pooler`] says: a linear layer, or a layer normalisation.
    pub pooler: Option<LinearTensors<'a>>,
    /// One for each anchor; none for embeddings.
    pub classifiers: Vec<LinearTensors<'a>>,
}

#[cfg(test)]
#[path = "network_tests.rs"]
mod tests;
