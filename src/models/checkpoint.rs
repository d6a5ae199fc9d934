//! The parts of a network, and the tables of their tensors' names.

use std::collections::HashSet;

pub use super::weights::Weights;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// A part of a network. A layer's part is there once per layer.
///
/// Most are a weight and a bias; the tables of embeddings, the anchors and the thresholds are one tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `[vocab_size, hidden_size]`
    Words,
    /// One row per position.
    Positions,
    /// `[type_vocab_size, hidden_size]`
    TokenTypes,
    /// Of the sum of the tables.
    EmbeddingNorm,
    /// From the width of the tables to that of the layers.
    EmbeddingProjection,
    /// An image model's first tokens, which are learned: `Anchor(0)` is `[CLS]`.
    Anchor(usize),
    /// From a patch to a hidden state.
    Projection,
    /// Of attention.
    Query,
    /// Of attention.
    Key,
    /// Of attention.
    Value,
    /// All three, one after another.
    QueryKeyValue,
    /// From what attention gives back to a hidden state.
    AttentionOutput,
    /// A factor of each feature that attention adds.
    AttentionScale,
    /// Of a layer's two norms the one that belongs to attention: after it, or before.
    AttentionNorm,
    /// Into the MLP.
    Intermediate,
    /// Out of the MLP.
    Output,
    /// The one that belongs to the MLP.
    MlpNorm,
    /// A factor of each feature that the MLP adds.
    MlpScale,
    /// The threshold of the rule `concrete`.
    PLogit,
    /// The threshold of Learned Token Pruning.
    LtpThreshold,
    /// Before the classifier: a dense layer, or the last norm.
    Pooler,
    /// From a hidden state to the labels.
    Classifier,
    /// Of the second anchor.
    DistillationClassifier,
}

impl Part {
    /// The end of its matrix's name: of a table, or of the weight of a linear layer (a pooler may be a norm). `None` for the others.
    fn matrix_ending(self) -> Option<&'static str> {
        match self {
            Self::Words | Self::Positions | Self::TokenTypes => Some(""),
            Self::EmbeddingProjection
            | Self::Projection
            | Self::Query
            | Self::Key
            | Self::Value
            | Self::QueryKeyValue
            | Self::AttentionOutput
            | Self::Intermediate
            | Self::Output
            | Self::Pooler
            | Self::Classifier
            | Self::DistillationClassifier => Some(".weight"),
            Self::EmbeddingNorm
            | Self::Anchor(_)
            | Self::AttentionScale
            | Self::AttentionNorm
            | Self::MlpNorm
            | Self::MlpScale
            | Self::PLogit
            | Self::LtpThreshold => None,
        }
    }
}

/// How a file names the parts of a network. Rows are read one way to find a tensor and the other way to write a file.
pub struct Names {
    /// What the names of the base model begin with, except in files that hold it alone.
    pub prefix: &'static str,
    /// Parts of the base model without the prefix, `{i}` for the layer. The names of a weight and a bias lack their ending.
    pub base: &'static [(Part, &'static str)],
    /// What comes after the base model, without a prefix.
    pub head: &'static [(Part, &'static str)],
}

impl Names {
    /// Whether a model has this part.
    pub fn has(&self, part: Part) -> bool {
        self.base.iter().chain(self.head).any(|(named, _)| *named == part)
    }

    /// The name that a file should have.
    pub fn name(&self, part: Part, layer: usize) -> Option<String> {
        let name_in = |table: &[(Part, &'static str)]| Some(table.iter().find(|(named, _)| *named == part)?.1);
        let name = name_in(self.base).map(|name| format!("{}{name}", self.prefix));
        let name = name.or_else(|| name_in(self.head).map(str::to_owned))?;
        Some(name.replace("{i}", &layer.to_string()))
    }
}

/// Weight and bias of a linear layer: `[out, in]`, `[out]`.
pub type LinearTensors<'a> = (Tensor<'a>, Tensor<'a>);
/// Weight and bias of a layer normalisation, both `[hidden_size]`.
pub type LayerNormTensors<'a> = (Tensor<'a>, Tensor<'a>);

/// A file, and how it names the parts.
pub struct Parts<'a> {
    pub weights: &'a Weights,
    pub names: &'a Names,
}

impl<'a> Parts<'a> {
    /// The whole name and the one without prefix, each with these endings in turn.
    fn names(&self, part: Part, layer: usize, endings: &[&str]) -> Result<Vec<String>> {
        let whole = self
            .names
            .name(part, layer)
            .ok_or_else(|| Error::MissingTensor { file: self.weights.file.clone(), name: format!("{part:?}") })?;
        let bare = whole.strip_prefix(self.names.prefix).unwrap_or(&whole);
        Ok(endings.iter().flat_map(|ending| [format!("{whole}{ending}"), format!("{bare}{ending}")]).collect())
    }

    /// The names that the matrices of a network with so many layers may have.
    pub fn matrices(&self, num_layers: usize) -> Result<HashSet<String>> {
        let mut names = HashSet::new();
        for &(part, _) in self.names.base.iter().chain(self.names.head) {
            let Some(ending) = part.matrix_ending() else { continue };
            for layer in 0..num_layers {
                names.extend(self.names(part, layer, &[ending])?);
            }
        }
        Ok(names)
    }

    fn find(&self, part: Part, layer: usize, endings: &[&str], shape: &[usize]) -> Result<Tensor<'a>> {
        let names = self.names(part, layer, endings)?;
        self.weights.tensor(&names.iter().map(String::as_str).collect::<Vec<_>>(), shape)
    }

    /// A part that is one tensor.
    pub fn tensor(&self, part: Part, shape: &[usize]) -> Result<Tensor<'a>> {
        self.find(part, 0, &[""], shape)
    }

    /// A layer's part that is one tensor.
    pub fn layer_tensor(&self, part: Part, layer: usize, shape: &[usize]) -> Result<Tensor<'a>> {
        self.find(part, layer, &[""], shape)
    }

    /// `layer` is the layer of a layer's part; others have none.
    pub fn linear(
        &self,
        part: Part,
        layer: usize,
        in_features: usize,
        out_features: usize,
    ) -> Result<LinearTensors<'a>> {
        self.linear_of_shape(part, layer, &[out_features, in_features])
    }

    /// A linear layer whose inputs have several dimensions.
    pub fn linear_of_shape(&self, part: Part, layer: usize, shape: &[usize]) -> Result<LinearTensors<'a>> {
        let weight = self.find(part, layer, &[".weight"], shape)?;
        Ok((weight, self.find(part, layer, &[".bias"], &shape[..1])?))
    }

    /// Files converted from TensorFlow call weight and bias `gamma` and `beta`.
    pub fn layer_norm(&self, part: Part, layer: usize, width: usize) -> Result<LayerNormTensors<'a>> {
        let weight = self.find(part, layer, &[".weight", ".gamma"], &[width])?;
        Ok((weight, self.find(part, layer, &[".bias", ".beta"], &[width])?))
    }

    /// One number of at least `min` per layer; `None` when the file has none at all.
    pub fn numbers(&self, part: Part, num_layers: usize, min: f32) -> Result<Option<Vec<f32>>> {
        let found = |layer| {
            let names = self.names(part, layer, &[""])?;
            Ok(names.into_iter().find(|name| self.weights.contains(name)))
        };
        let found: Vec<Option<String>> = (0..num_layers).map(found).collect::<Result<_>>()?;
        if found.iter().all(Option::is_none) {
            return Ok(None);
        }
        let number = |(layer, name): (usize, Option<String>)| {
            let number = self.find(part, layer, &[""], &[1])?.values().next().unwrap_or_default();
            if number < min {
                let name = name.unwrap_or_default();
                let reason = format!("tensor `{name}` holds {number}, expected a number of at least {min}");
                return Err(Error::File { file: self.weights.file.clone(), reason });
            }
            Ok(number)
        };
        found.into_iter().enumerate().map(number).collect::<Result<_>>().map(Some)
    }
}
