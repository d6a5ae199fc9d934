//! What a trainer needs of a model: the values of its networks under their names, its sizes, and tokens.
//!
//! Other programs' names, wrappers and joined matrices are gone here: a trainer sees each part once, as Hugging Face calls it.

use serde_json::{Map, Value};

pub use super::checkpoint::Part;
use super::config::InputConfig;
pub use super::config::{Activation, PoolerKind};
use super::family::{IntermediateSize, both_heads, timm_translated};
use super::fields::json_object;
use super::files::{MODULES, ModelFiles, PROMPTS};
use super::input::Input;
pub use super::input::{TextTokens, Tokens};
use super::network::{EmbeddingTensors, Network};
use super::{Config, Model, NormOrder};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Which network of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The model's own.
    Main,
    /// The one that predicts attention.
    ApproxNet,
}

/// A network's values and what says how to compute with them.
#[derive(Debug, Clone)]
pub struct NetworkValues {
    /// Its `config.json`.
    pub config: Config,
    /// Whether layers normalise before attention and MLP, instead of after.
    pub is_pre_norm: bool,
    /// Inside the MLP.
    pub activation: Activation,
    /// What stands before the classifier.
    pub pooler: PoolerKind,
    /// Width of a text's tables; where it is not `hidden_size`, the embeddings are projected.
    pub embedding_size: usize,
    /// Every tensor that the network computes with.
    pub tensors: Vec<NamedValues>,
    /// The network's keys of `hidden_size` and of `intermediate_size` in `config.json`; the second may be fixed by the first.
    pub size_keys: [Option<&'static str>; 2],
}

impl NetworkValues {
    /// Whether it reads texts.
    pub fn is_text(&self) -> bool {
        matches!(self.config.input, InputConfig::Text(_))
    }
}

/// A tensor.
#[derive(Debug, Clone)]
pub struct NamedValues {
    /// What it is.
    pub part: Part,
    /// Of a layer's part; 0 for others.
    pub layer: usize,
    /// The second tensor of a part with two.
    pub is_bias: bool,
    /// As Hugging Face writes it, with the prefix.
    pub name: String,
    /// As in a file.
    pub shape: Vec<usize>,
    /// Row by row.
    pub values: Vec<f32>,
}

/// The name of a part in a file of this network: of its weight, or of the one tensor that it is.
pub fn name_of(model: &Model, which: Which, part: Part, layer: usize) -> Option<String> {
    network(model, which)?.family.names.name(part, layer)
}

fn network(model: &Model, which: Which) -> Option<&Network> {
    match which {
        Which::Main => Some(model.main()),
        Which::ApproxNet => model.approx(),
    }
}

/// The values of a network; `None` for an ApproxNet that is not there.
///
/// # Errors
/// [`Error::Unsupported`] for int8 weights, and for pictures of another size than the table of positions was made for.
pub fn values(model: &Model, which: Which) -> Result<Option<NetworkValues>> {
    let Some(network) = network(model, which) else { return Ok(None) };
    if network.config.is_int8 {
        return Err(Error::Unsupported {
            what: "training of weights that are",
            found: "int8".to_owned(),
            supported: "F32, F16 or BF16: train the model that the int8 one was made of, and quantize the result",
        });
    }
    if let Some(dim) = model.pooling().and_then(|pooling| pooling.truncate_dim) {
        return Err(Error::Unsupported {
            what: "training of vectors with",
            found: format!("truncate_dim = {dim}"),
            supported: "whole vectors: take truncate_dim out of config_sentence_transformers.json, and put it into the result's",
        });
    }
    let mut tensors = Collected { network, tensors: Vec::new() };
    tensors.embeddings(network.embeddings()?)?;
    for layer in 0..network.config.num_hidden_layers {
        let found = network.layer(layer)?;
        let pairs = [
            (Part::Query, found.query),
            (Part::Key, found.key),
            (Part::Value, found.value),
            (Part::AttentionOutput, found.attention_output),
            (Part::AttentionNorm, found.attention_norm),
            (Part::Intermediate, found.intermediate),
            (Part::Output, found.output),
            (Part::MlpNorm, found.mlp_norm),
        ];
        for (part, pair) in pairs {
            tensors.pair(part, layer, &pair)?;
        }
        for (part, scale) in [(Part::AttentionScale, found.attention_scale), (Part::MlpScale, found.mlp_scale)] {
            scale.iter().try_for_each(|scale| tensors.one(part, layer, scale, None))?;
        }
    }
    let head = network.head()?;
    head.pooler.iter().try_for_each(|pooler| tensors.pair(Part::Pooler, 0, pooler))?;
    for (part, classifier) in [Part::Classifier, Part::DistillationClassifier].into_iter().zip(&head.classifiers) {
        tensors.pair(part, 0, classifier)?;
    }
    let keys = &network.family.keys;
    let intermediate = match keys.intermediate_size {
        IntermediateSize::Key(key) => Some(key),
        IntermediateSize::Ratio(_) => None,
    };
    Ok(Some(NetworkValues {
        config: network.config.clone(),
        is_pre_norm: network.family.norm_order == NormOrder::Pre,
        activation: network.config.activation,
        pooler: network.config.pooler,
        embedding_size: network.embedding_size(),
        tensors: tensors.tensors,
        size_keys: [Some(keys.hidden_size), intermediate],
    }))
}

struct Collected<'a> {
    network: &'a Network,
    tensors: Vec<NamedValues>,
}

impl Collected<'_> {
    fn one(&mut self, part: Part, layer: usize, tensor: &Tensor<'_>, shape: Option<Vec<usize>>) -> Result<()> {
        let name = self.name(part, layer)?;
        self.add(part, layer, false, name, tensor, shape);
        Ok(())
    }

    fn pair(&mut self, part: Part, layer: usize, (weight, bias): &(Tensor<'_>, Tensor<'_>)) -> Result<()> {
        let name = self.name(part, layer)?;
        // The projection of patches is a convolution in a file.
        let shape = match (part, self.network.config.input) {
            (Part::Projection, InputConfig::Image(image)) => {
                Some(vec![self.network.config.hidden_size, 3, image.patch_size, image.patch_size])
            }
            _ => None,
        };
        self.add(part, layer, false, format!("{name}.weight"), weight, shape);
        self.add(part, layer, true, format!("{name}.bias"), bias, None);
        Ok(())
    }

    fn name(&self, part: Part, layer: usize) -> Result<String> {
        let file = "config.json".to_owned();
        let missing = || Error::MissingTensor { file, name: format!("{part:?}") };
        self.network.family.names.name(part, layer).ok_or_else(missing)
    }

    fn add(
        &mut self,
        part: Part,
        layer: usize,
        is_bias: bool,
        name: String,
        tensor: &Tensor<'_>,
        shape: Option<Vec<usize>>,
    ) {
        let shape = shape.unwrap_or_else(|| tensor.shape.clone());
        self.tensors.push(NamedValues { part, layer, is_bias, name, shape, values: tensor.values().collect() });
    }

    fn embeddings(&mut self, embeddings: EmbeddingTensors<'_>) -> Result<()> {
        match embeddings {
            EmbeddingTensors::Text { words, positions, token_types, norm, projection } => {
                self.one(Part::Words, 0, &words, None)?;
                self.one(Part::Positions, 0, &positions, None)?;
                token_types.iter().try_for_each(|types| self.one(Part::TokenTypes, 0, types, None))?;
                self.pair(Part::EmbeddingNorm, 0, &norm)?;
                projection.iter().try_for_each(|projection| self.pair(Part::EmbeddingProjection, 0, projection))
            }
            EmbeddingTensors::Image { prefix, positions, grids: [table, grid], projection } => {
                if table != grid {
                    return Err(Error::Unsupported {
                        what: "training on pictures of another size than the table of positions was made for: patches",
                        found: format!("{} x {}", grid[0], grid[1]),
                        supported: "pictures of the size that `image_size` in config.json says",
                    });
                }
                for (anchor, token) in prefix.iter().enumerate() {
                    self.one(Part::Anchor(anchor), 0, token, Some(vec![1, 1, token.len()]))?;
                }
                let shape = vec![1, positions.shape[0], positions.shape[1]];
                self.one(Part::Positions, 0, &positions, Some(shape))?;
                self.pair(Part::Projection, 0, &projection)
            }
        }
    }
}

/// The tokens of an input; `index` is for messages.
///
/// # Errors
/// [`Error::Input`] when a text is empty, or the input is not what the model reads.
pub fn tokens(model: &Model, index: usize, input: &Input<'_>) -> Result<Tokens> {
    model.prepare(index, input)
}

/// A `config.json` in Hugging Face's keys, whichever program wrote it.
///
/// # Errors
/// [`Error::File`] when it is no JSON object; [`Error::Unsupported`] for a model of timm's that is not computed here.
pub fn hugging_face_config(file: &str, json: &[u8]) -> Result<Map<String, Value>> {
    let object = json_object(file, json)?;
    Ok(timm_translated(file, &object)?.unwrap_or(object))
}

/// The keys of a `config.json` that speak of its head.
const OF_HEAD: [&str; 5] = ["id2label", "label2id", "num_labels", "problem_type", "architectures"];

/// What a classifier on a model's encoder has in its `config.json`.
#[derive(Debug, Clone)]
pub struct WithoutHead {
    /// All but the class, the labels and what is computed from them.
    pub config: Map<String, Value>,
    /// The class of the family's classifier, for `architectures`.
    pub classifier: &'static str,
}

/// Makes the files of a model those of its encoder alone, whatever its head is: an embedder without sentence-transformers' settings,
/// without ApproxNet. Tensors of a head stay in the file.
///
/// # Errors
/// [`Error::File`] for a `config.json` that is missing or broken; [`Error::Unsupported`] or [`Error::Refused`] names an architecture
/// that is not computed here.
pub fn leave_out_head(files: &mut ModelFiles) -> Result<WithoutHead> {
    const FILE: &str = ModelFiles::KNOWN.config;
    let mut config = hugging_face_config(FILE, files.required("", FILE)?.as_ref())?;
    let [embedder, classifier] = both_heads(FILE, &config)?;
    OF_HEAD.iter().for_each(|key| {
        config.remove(*key);
    });
    config.insert("model_type".to_owned(), embedder.model_type.into());
    let without_head = WithoutHead { config: config.clone(), classifier: classifier.architecture };
    config.insert("architectures".to_owned(), vec![embedder.architecture].into());
    files.insert(FILE, Value::Object(config).to_string().into_bytes());
    let is_of_embedder = |name: &str| {
        name == MODULES || name == PROMPTS || name.starts_with("sentence_") || name.ends_with("/config.json")
    };
    let names: Vec<String> = files.names().filter(|name| is_of_embedder(name)).map(str::to_owned).collect();
    files.remove_folder("approx");
    names.iter().for_each(|name| {
        files.remove(name);
    });
    Ok(without_head)
}

/// The pooler that a text model's file has for its family's classifier, though an embedder leaves it aside: weight and bias, or nothing.
///
/// # Errors
/// [`Error::TensorShape`] for one of another size.
pub fn pooler(model: &Model) -> Result<Vec<NamedValues>> {
    let network = model.main();
    let hidden = network.config.hidden_size;
    let found = match network.parts()?.linear(Part::Pooler, 0, hidden, hidden) {
        Ok(found) => found,
        Err(Error::MissingTensor { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut tensors = Collected { network, tensors: Vec::new() };
    tensors.pair(Part::Pooler, 0, &found)?;
    Ok(tensors.tensors)
}
