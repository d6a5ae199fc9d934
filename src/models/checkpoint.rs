//! The tensors of a `model.safetensors`, as views into its bytes, and the table of their names.

use std::collections::HashMap;
use std::ops::Range;

use safetensors::{Dtype, SafeTensors};

use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

/// The bytes of a file.
pub enum Bytes {
    /// In memory of their own, which is freed bit by bit where nothing needs it any more.
    Owned(Vec<u8>),
    /// A memory map, or whatever else keeps them.
    Shared(Box<dyn AsRef<[u8]> + Send + Sync>),
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Owned(bytes)
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Shared(bytes) => (**bytes).as_ref(),
        }
    }
}

struct Entry {
    /// Or the name of a number format that this crate does not read.
    dtype: Result<DType, String>,
    shape: Vec<usize>,
    bytes: Range<usize>,
}

/// A safetensors file whose header has been checked against its length.
pub struct Weights {
    file: String,
    bytes: Bytes,
    tensors: HashMap<String, Entry>,
}

impl Weights {
    /// Reads the header. `file` is for messages alone.
    ///
    /// # Errors
    /// [`Error::File`] when the bytes are truncated or the header lies about them.
    pub fn new(file: &str, bytes: Bytes) -> Result<Self> {
        let data = bytes.as_ref();
        let parsed = SafeTensors::deserialize(data).map_err(|error| Error::File {
            file: file.to_owned(),
            reason: format!("not a valid safetensors file of {} bytes: {error}", data.len()),
        })?;
        let start = data.as_ptr() as usize;
        let tensors = parsed
            .iter()
            .map(|(name, view)| {
                let at = view.data().as_ptr() as usize - start;
                let dtype = match view.dtype() {
                    Dtype::F32 => Ok(DType::F32),
                    Dtype::F16 => Ok(DType::F16),
                    Dtype::BF16 => Ok(DType::Bf16),
                    other => Err(other.to_string()),
                };
                let entry = Entry { dtype, shape: view.shape().to_vec(), bytes: at..at + view.data().len() };
                (name.to_owned(), entry)
            })
            .collect();
        Ok(Self { file: file.to_owned(), bytes, tensors })
    }

    /// Whether a tensor of this name exists.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The first of `names` that exists, with this shape.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] names the first name, [`Error::TensorShape`] both shapes, [`Error::File`] a number format or a
    /// tensor that was freed.
    pub fn tensor(&self, names: &[&str], expected: &[usize]) -> Result<Tensor<'_>> {
        let Some((name, entry)) = names.iter().find_map(|name| self.tensors.get_key_value(*name)) else {
            let name = names.first().copied().unwrap_or_default().to_owned();
            return Err(Error::MissingTensor { file: self.file.clone(), name });
        };
        if entry.shape != expected {
            return Err(Error::TensorShape {
                file: self.file.clone(),
                name: name.clone(),
                found: entry.shape.clone(),
                expected: expected.to_vec(),
            });
        }
        let dtype = entry.dtype.clone().map_err(|found| Error::File {
            file: self.file.clone(),
            reason: format!("tensor `{name}` is {found}, expected F32, F16 or BF16"),
        })?;
        let bytes = self.bytes.as_ref().get(entry.bytes.clone()).ok_or_else(|| Error::File {
            file: self.file.clone(),
            reason: format!("tensor `{name}` is in an engine by now and was freed here: read the file again"),
        })?;
        Ok(Tensor { dtype, shape: entry.shape.clone(), bytes })
    }

    /// Where a tensor of this file ends in it.
    pub fn end_of(&self, tensor: &Tensor<'_>) -> usize {
        tensor.bytes.as_ptr_range().end as usize - self.bytes.as_ref().as_ptr() as usize
    }

    /// Frees all bytes from this one on, if they are the file's own.
    pub fn truncate(&mut self, num_bytes: usize) {
        if let Bytes::Owned(bytes) = &mut self.bytes {
            bytes.truncate(num_bytes);
            bytes.shrink_to_fit();
        }
    }

    /// [`Error::NotFinite`] for the first NaN or infinity of a floating-point tensor.
    pub fn check_finite(&self) -> Result<()> {
        let mut names: Vec<&String> = self.tensors.keys().collect();
        names.sort();
        for name in names {
            let entry = &self.tensors[name];
            let Ok(dtype) = entry.dtype else { continue };
            let tensor = Tensor { dtype, shape: entry.shape.clone(), bytes: &self.bytes.as_ref()[entry.bytes.clone()] };
            if let Some(index) = tensor.first_not_finite() {
                let value = tensor.values_in(index, 1).next().unwrap_or(f32::NAN);
                return Err(Error::NotFinite { file: self.file.clone(), name: name.clone(), index, value });
            }
        }
        Ok(())
    }

    /// Number of values in all tensors.
    pub fn num_values(&self) -> u64 {
        self.tensors.values().map(|entry| entry.shape.iter().product::<usize>() as u64).sum()
    }
}

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
    EmbeddingNorm,
    /// From the width of the tables to that of the layers.
    EmbeddingProjection,
    /// An image model's first tokens, which are learned: `Anchor(0)` is `[CLS]`.
    Anchor(usize),
    /// From a patch to a hidden state.
    Projection,
    Query,
    Key,
    Value,
    /// All three, one after another.
    QueryKeyValue,
    AttentionOutput,
    /// A factor of each feature that attention adds.
    AttentionScale,
    /// Of a layer's two norms the one that belongs to attention: after it, or before.
    AttentionNorm,
    Intermediate,
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
    Classifier,
    /// Of the second anchor.
    DistillationClassifier,
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
