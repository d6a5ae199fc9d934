//! A network on the host: its sizes, and its tensors in the file.

use super::config::{Architecture, Config, InputConfig};
use super::input::Tokens;
use super::tensors::{EmbeddingTensors, HeadTensors, LayerTensors, Names};
use super::weights::{Bytes, Weights};
use super::{bert, vit};
use crate::error::Result;
use crate::tensor::Tensor;

/// A network's sizes and tensors.
pub(crate) struct Network {
    pub config: Config,
    weights: Weights,
    /// What any picture's projected patches are added to, `[T, row_stride(hidden_size)]`, see [`vit::embed`]; of a text model nothing.
    image_embeddings: Vec<f32>,
}

impl Network {
    pub fn new(folder: &str, config: &[u8], weights: Bytes) -> Result<Self> {
        let config = Config::from_json(&format!("{folder}config.json"), config)?;
        let weights = Weights::new(&format!("{folder}model.safetensors"), weights)?;
        let mut network = Self { config, weights, image_embeddings: Vec::new() };
        network.embeddings()?;
        for layer in 0..network.config.num_hidden_layers {
            network.layer(layer)?;
        }
        network.head()?;
        network.weights.check_finite()?;
        let image_embeddings = match network.embeddings()? {
            EmbeddingTensors::Text { .. } => Vec::new(),
            EmbeddingTensors::Image { cls, positions, projection } => {
                vit::embed((&cls, &positions, &projection.1), network.config.hidden_size)
            }
        };
        network.image_embeddings = image_embeddings;
        Ok(network)
    }

    /// Tensors, their shapes checked.
    pub fn embeddings(&self) -> Result<EmbeddingTensors<'_>> {
        match &self.config.input {
            InputConfig::Text(text) => bert::embeddings(&self.config, text, &self.weights),
            InputConfig::Image(image) => vit::embeddings(&self.config, image, &self.weights),
        }
    }

    pub fn layer(&self, layer: usize) -> Result<LayerTensors<'_>> {
        match self.config.architecture {
            Architecture::Bert => bert::layer(&self.config, &self.weights, layer),
            Architecture::Vit => vit::layer(&self.config, &self.weights, layer),
        }
    }

    pub fn head(&self) -> Result<HeadTensors<'_>> {
        match self.config.architecture {
            Architecture::Bert => bert::head(&self.config, &self.weights),
            Architecture::Vit => vit::head(&self.config, &self.weights),
        }
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

    /// The learned thresholds `p_logit`, one per layer; `None` when the file has none.
    pub fn p_logits(&self) -> Result<Option<Vec<f32>>> {
        let prefix = match self.config.architecture {
            Architecture::Bert => bert::PREFIX,
            Architecture::Vit => vit::PREFIX,
        };
        Names { weights: &self.weights, prefix }.p_logits(self.config.num_hidden_layers)
    }

    /// What fills the embedding rows of an input, `[T, row_stride(hidden_size)]`.
    pub fn embedder(&self) -> Result<impl Fn(&Tokens, &mut [f32]) + Sync> {
        let embeddings = self.embeddings()?;
        let hidden_size = self.config.hidden_size;
        Ok(move |input: &Tokens, rows: &mut [f32]| match (&embeddings, input) {
            (EmbeddingTensors::Text { words, positions, token_types, .. }, Tokens::Text(text)) => {
                let tables = (words, positions, token_types);
                rows.fill(0.0);
                bert::embed(tables, hidden_size, &text.input_ids, &text.token_type_ids, rows);
            }
            (EmbeddingTensors::Image { .. }, Tokens::Patches { .. }) => rows.copy_from_slice(&self.image_embeddings),
            // `Model::prepare` gives a model what it reads.
            (EmbeddingTensors::Text { .. }, Tokens::Patches { .. })
            | (EmbeddingTensors::Image { .. }, Tokens::Text(_)) => {}
        })
    }
}
