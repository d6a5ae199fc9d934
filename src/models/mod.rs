//! Models on the host: what a Hugging Face folder holds, checked and ready to upload.

mod bert;
mod config;
mod encoder;
mod input;
mod picture;
mod preprocessor;
mod tensors;
mod tokenizer;
mod weights;

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::pruning::Prune;

pub use config::{Architecture, Config, PruneConfig, Task};
pub(crate) use encoder::{Encoder, HeadRows, MapTarget, Workspace};
pub use input::Input;
pub use picture::Picture;
pub use preprocessor::Preprocessor;
use tokenizer::Limits;
pub(crate) use tokenizer::{Tokenizer, Tokens};
pub use weights::Bytes;
use weights::Weights;

/// The bytes of a model folder as it is downloaded; the core opens no files.
pub struct ModelFiles {
    /// `config.json`
    pub config: Vec<u8>,
    /// `model.safetensors`
    pub weights: Bytes,
    /// `tokenizer.json`; preferred over `vocab_txt`.
    pub tokenizer_json: Option<Vec<u8>>,
    /// `vocab.txt`
    pub vocab_txt: Option<Vec<u8>>,
    /// `tokenizer_config.json`, read with `vocab_txt` alone.
    pub tokenizer_config: Option<Vec<u8>>,
    /// The folder `approx/`.
    pub approx: Option<ApproxFiles>,
}

/// The bytes of ApproxNet's folder.
pub struct ApproxFiles {
    /// `approx/config.json`
    pub config: Vec<u8>,
    /// `approx/model.safetensors`
    pub weights: Bytes,
}

/// A network's sizes and tensors.
pub(crate) struct Network {
    pub config: Config,
    weights: Weights,
}

impl Network {
    fn new(folder: &str, config: &[u8], weights: Bytes) -> Result<Self> {
        let config = Config::from_json(&format!("{folder}config.json"), config)?;
        let weights = Weights::new(&format!("{folder}model.safetensors"), weights)?;
        let network = Self { config, weights };
        network.tensors()?;
        network.weights.check_finite()?;
        Ok(network)
    }

    pub fn tensors(&self) -> Result<tensors::NetworkTensors<'_>> {
        bert::tensors(&self.config, &self.weights)
    }

    /// The embeddings of many inputs, one after another, `[Σ T, row_stride(hidden_size)]`.
    pub fn embed(&self, inputs: &[Tokens]) -> Result<Vec<f32>> {
        let tensors = self.tensors()?;
        let mut rows = Vec::new();
        for input in inputs {
            bert::embed(&tensors, self.config.hidden_size, &input.input_ids, &input.token_type_ids, &mut rows);
        }
        Ok(rows)
    }
}

struct ModelData {
    main: Network,
    approx: Option<Network>,
    p_logits: Option<Vec<f32>>,
    tokenizer: Tokenizer,
}

/// A classifier on the host, with its tokenizer and, if it has them, ApproxNet and learned thresholds.
///
/// Cheap to clone. An [`Engine`](crate::Engine) uploads it to a device; after a lost device, make another engine from it.
#[derive(Clone)]
pub struct Model(Arc<ModelData>);

impl Model {
    /// Reads and checks a model's files; see [`ModelFiles`].
    ///
    /// ```
    /// # fn read(name: &str) -> Vec<u8> { std::fs::read(format!("tests/fixtures/tiny-bert/{name}")).unwrap() }
    /// use sttabt::{Model, ModelFiles};
    /// let model = Model::from_bytes(ModelFiles {
    ///     config: read("config.json"),
    ///     weights: Box::new(read("model.safetensors")),
    ///     tokenizer_json: Some(read("tokenizer.json")),
    ///     vocab_txt: None,
    ///     tokenizer_config: None,
    ///     approx: None,
    /// })?;
    /// assert_eq!(model.config().num_hidden_layers, 4);
    /// # Ok::<(), sttabt::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::Unsupported`], [`Error::File`], [`Error::MissingTensor`], [`Error::TensorShape`] or
    /// [`Error::NotFinite`], naming the file and the thing in it.
    pub fn from_bytes(files: ModelFiles) -> Result<Self> {
        let main = Network::new("", &files.config, files.weights)?;
        let approx = match files.approx {
            Some(files) => {
                let approx = Network::new("approx/", &files.config, files.weights)?;
                check_approx(&main.config, &approx.config)?;
                Some(approx)
            }
            None => None,
        };
        let p_logits = bert::p_logits(&main.config, &main.weights)?;
        let limits = Limits {
            max_tokens: main.config.max_position_embeddings,
            vocab_size: main.config.vocab_size,
            type_vocab_size: main.config.type_vocab_size,
        };
        let tokenizer = match (files.tokenizer_json, files.vocab_txt) {
            (Some(json), _) => Tokenizer::from_tokenizer_json(&json, limits)?,
            (None, Some(vocab)) => Tokenizer::from_vocab_txt(&vocab, files.tokenizer_config.as_deref(), limits)?,
            (None, None) => {
                let reason = "missing, and no vocab.txt either: a text model needs one of them".to_owned();
                return Err(Error::File { file: "tokenizer.json".to_owned(), reason });
            }
        };
        Ok(Self(Arc::new(ModelData { main, approx, p_logits, tokenizer })))
    }

    /// The main network's `config.json`.
    pub fn config(&self) -> &Config {
        &self.0.main.config
    }

    /// ApproxNet's `config.json`.
    pub fn approx_config(&self) -> Option<&Config> {
        self.0.approx.as_ref().map(|approx| &approx.config)
    }

    /// Whether ApproxNet is there, which `topk` and `concrete` need.
    pub fn has_approx_net(&self) -> bool {
        self.0.approx.is_some()
    }

    /// Whether learned thresholds are there, which `concrete` needs.
    pub fn has_thresholds(&self) -> bool {
        self.0.p_logits.is_some()
    }

    /// The learned thresholds, one `p_logit` per layer.
    pub fn p_logits(&self) -> Option<&[f32]> {
        self.0.p_logits.as_deref()
    }

    /// The rule for callers who name none: `sttabt.default_prune`, else `topk:0.5` with ApproxNet, else `dense`.
    pub fn default_prune(&self) -> Prune {
        let top_k = || if self.has_approx_net() { Prune::top_k(0.5) } else { None };
        self.config().prune.default_prune.clone().or_else(top_k).unwrap_or(Prune::Dense)
    }

    /// Number of weights, ApproxNet not counted.
    pub fn num_parameters(&self) -> u64 {
        self.0.main.weights.num_values()
    }

    /// Number of weights of ApproxNet.
    pub fn approx_num_parameters(&self) -> Option<u64> {
        self.0.approx.as_ref().map(|approx| approx.weights.num_values())
    }

    /// The number format of the encoder's weights: `f32`, `f16` or `bf16`.
    pub fn weights_dtype(&self) -> &'static str {
        self.0.main.tensors().map_or("unknown", |tensors| tensors.pooler.0.dtype.name())
    }

    pub(crate) fn main(&self) -> &Network {
        &self.0.main
    }

    pub(crate) fn approx(&self) -> Option<&Network> {
        self.0.approx.as_ref()
    }

    pub(crate) fn tokenizer(&self) -> &Tokenizer {
        &self.0.tokenizer
    }
}

/// ApproxNet predicts the main network's attention: layers, heads, vocabulary and positions are the same.
fn check_approx(main: &Config, approx: &Config) -> Result<()> {
    let pairs = [
        ("num_hidden_layers", approx.num_hidden_layers, main.num_hidden_layers),
        ("num_attention_heads", approx.num_attention_heads, main.num_attention_heads),
        ("vocab_size", approx.vocab_size, main.vocab_size),
        ("max_position_embeddings", approx.max_position_embeddings, main.max_position_embeddings),
        ("type_vocab_size", approx.type_vocab_size, main.type_vocab_size),
    ];
    for (key, found, expected) in pairs {
        if found != expected {
            return Err(Error::Config {
                file: "approx/config.json".to_owned(),
                key: key.to_owned(),
                found: found.to_string(),
                expected: format!("{expected} as in the main model"),
            });
        }
    }
    Ok(())
}
