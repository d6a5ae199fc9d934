//! Models on the host: what a Hugging Face folder holds, checked and ready to upload.

mod checkpoint;
mod config;
mod download;
mod embedding;
mod family;
mod fields;
mod files;
#[cfg(feature = "files")]
mod folder;
mod formats;
mod info;
mod input;
mod int8;
mod json;
#[cfg(feature = "files")]
mod mapped;
mod network;
#[cfg(feature = "bin")]
mod pickle;
mod picture;
mod pooling;
mod prepared;
mod preprocessor;
mod score;
mod tokenizer;
#[cfg(feature = "bin")]
mod torch;
#[cfg(feature = "internals")]
pub mod training;
mod weights;
mod wrappers;

use std::borrow::Cow;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::pruning::{Facts, Need, Prune};

use checkpoint::Part;
pub(crate) use checkpoint::{LayerNormTensors, LinearTensors};
pub(crate) use config::{Activation, PoolerKind};
pub use config::{Config, ImageConfig, InputConfig, Task, TextConfig};
pub(crate) use family::NormOrder;
use family::{Asked, pretrained_cfg};
use files::MODULES;
pub use files::{Bytes, KnownFiles, ModelFiles};
pub use info::{ModelInfo, RuleInfo};
pub use input::Input;
pub(crate) use input::{TextTokens, Tokens};
pub use json::without_not_finite;
#[cfg(feature = "files")]
pub use mapped::MappedFile;
pub(crate) use network::{EmbeddingTensors, LayerTensors, Network};
pub use picture::Picture;
use pooling::default_prompt;
pub use pooling::{Pooling, PoolingMode};
pub use prepared::Prepared;
pub use preprocessor::Preprocessor;
pub(crate) use score::Activation as ScoreActivation;
pub use tokenizer::Piece;
use tokenizer::Tokenizer;
pub(crate) use tokenizer::{Passage, Query};
pub use weights::Weights;

/// What turns an input into tokens.
enum Reader {
    Text(Box<Tokenizer>),
    Image(ImageConfig, Preprocessor),
}

struct ModelData {
    main: Network,
    approx: Option<Network>,
    p_logits: Option<Vec<f32>>,
    ltp_thresholds: Option<Vec<f32>>,
    /// Of an embedder.
    pooling: Option<Pooling>,
    /// See [`default_prompt`].
    prompt: String,
    score: ScoreActivation,
    reader: Reader,
}

/// A model on the host, with its tokenizer or image preprocessor and, if it has them, ApproxNet and learned thresholds.
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
    /// let mut files = ModelFiles::new();
    /// for name in ["config.json", "model.safetensors", "tokenizer.json"] {
    ///     files.insert(name, read(name));
    /// }
    /// let model = Model::from_bytes(files)?;
    /// assert_eq!(model.config().num_hidden_layers, 4);
    /// # Ok::<(), sttabt::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::Unsupported`], [`Error::File`], [`Error::MissingTensor`], [`Error::TensorShape`] or
    /// [`Error::NotFinite`], naming the file and the thing in it.
    pub fn from_bytes(mut files: ModelFiles) -> Result<Self> {
        files.check()?;
        let listed_pooling = Pooling::from_files(&files)?;
        let approx = files.remove_folder("approx");
        let preprocessor = files.remove(preprocessor::file_of(&files)?);
        let timm = files.get("config.json").and_then(pretrained_cfg);
        let asked =
            Asked { embedding: listed_pooling.is_some(), preprocessor: preprocessor.as_ref().map(AsRef::as_ref) };
        let main = Network::new("", &mut files, asked)?;
        let approx = match approx {
            mut approx if !approx.is_empty() => {
                let approx = Network::new("approx/", &mut approx, asked)?;
                check_approx(&main, &approx)?;
                Some(approx)
            }
            _ => None,
        };
        let p_logits = main.thresholds(Part::PLogit, f32::NEG_INFINITY)?;
        let ltp_thresholds = main.thresholds(Part::LtpThreshold, 0.0)?;
        let pooling = (main.config.task == Task::Embedding).then(|| listed_pooling.unwrap_or(Pooling::DEFAULT));
        let is_listed = files.get(MODULES).is_some();
        if main.config.task == Task::Embedding && is_listed && listed_pooling.is_none() {
            let reason = "no Pooling in it, which says how a vector is made: save the model with sentence-transformers";
            return Err(Error::File { file: MODULES.to_owned(), reason: reason.to_owned() });
        }
        let prompt = default_prompt(&files, main.config.task == Task::Embedding)?;
        let score = ScoreActivation::of(&files)?;
        let reader = match main.config.input {
            InputConfig::Text(text) => Reader::Text(Box::new(Tokenizer::from_files(&files, text)?)),
            InputConfig::Image(image) => {
                let preprocessor = match (preprocessor, timm) {
                    (None, Some(timm)) => Preprocessor::from_timm(&timm, image.image_size)?,
                    (None, None) => Preprocessor::from_json(None, image.image_size)?,
                    (Some(json), _) => Preprocessor::of(main.family.processor(), json.as_ref(), image.image_size)?,
                };
                Reader::Image(image, preprocessor)
            }
        };
        Ok(Self(Arc::new(ModelData { main, approx, p_logits, ltp_thresholds, pooling, prompt, score, reader })))
    }

    /// The tokens of an input. `index` is its place in the batch, for messages.
    ///
    /// # Errors
    /// [`Error::Input`] when a text is empty, or the input is not what the model reads.
    pub(crate) fn prepare(&self, index: usize, input: &Input<'_>) -> Result<Tokens> {
        match (&self.0.reader, input) {
            (Reader::Text(tokenizer), input) => {
                let encoded = match *input {
                    Input::Text(text) => tokenizer.encode(index, &Input::Text(&self.prompted(text))),
                    Input::Pair(text, pair) => tokenizer.encode(index, &Input::Pair(&self.prompted(text), pair)),
                    Input::Image(_) => tokenizer.encode(index, input),
                };
                encoded.map(Tokens::Text)
            }
            (Reader::Image(image, preprocessor), Input::Image(picture)) => {
                let resized = preprocessor.resized(picture).map_err(|error| match error {
                    Error::Input { reason, .. } => Error::Input { index, reason },
                    other => other,
                })?;
                let rows = embedding::patch_rows(image, &resized, &preprocessor.channel_values());
                Ok(Tokens::Patches { rows, num_tokens: image.num_tokens(), picture: Some(resized) })
            }
            (Reader::Image(..), Input::Text(_) | Input::Pair(..)) => {
                Err(Error::Input { index, reason: "a text, but the model classifies images".to_owned() })
            }
        }
    }

    /// A query that is to be read with passages.
    ///
    /// # Errors
    /// [`Error::Query`] when it is empty or too long; [`Error::Head`] for a model of images.
    pub(crate) fn query(&self, text: &str) -> Result<Query<'_>> {
        match &self.0.reader {
            Reader::Text(tokenizer) => tokenizer.query(&self.prompted(text)),
            Reader::Image(..) => {
                Err(Error::Head { asked: "rank", needs: "a model that reads texts", found: "one that reads images" })
            }
        }
    }

    /// What a score is made of the model's one output.
    pub(crate) fn score_activation(&self) -> &ScoreActivation {
        &self.0.score
    }

    /// The text behind the default prompt. An empty text stays one.
    fn prompted<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match &*self.0.prompt {
            prompt if prompt.is_empty() || text.trim().is_empty() => Cow::Borrowed(text),
            prompt => Cow::Owned(format!("{prompt}{text}")),
        }
    }

    /// How an embedder makes its vectors; `None` for models with a classifier.
    pub fn pooling(&self) -> Option<Pooling> {
        self.0.pooling
    }

    /// What stands before every text that an embedder reads, or before the first text of a cross-encoder's pair. The
    /// files say it, and most say nothing.
    pub fn default_prompt(&self) -> &str {
        &self.0.prompt
    }

    /// The token of an id; `None` beyond the vocabulary and for an image model.
    pub fn token(&self, id: u32) -> Option<String> {
        match &self.0.reader {
            Reader::Text(tokenizer) => tokenizer.token(id),
            Reader::Image(..) => None,
        }
    }

    /// The tokens of an input as people read them; none for an image model.
    pub fn pieces(&self, tokens: &[String]) -> Vec<Piece> {
        match &self.0.reader {
            Reader::Text(tokenizer) => tokenizer.pieces(tokens),
            Reader::Image(..) => Vec::new(),
        }
    }

    /// How images become the pixels that the network sees; `None` for a text model.
    pub fn preprocessor(&self) -> Option<&Preprocessor> {
        match &self.0.reader {
            Reader::Text(_) => None,
            Reader::Image(_, preprocessor) => Some(preprocessor),
        }
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

    /// The thresholds of Learned Token Pruning, one `ltp_threshold` of at least 0 per layer.
    pub fn ltp_thresholds(&self) -> Option<&[f32]> {
        self.0.ltp_thresholds.as_deref()
    }

    /// What pruning rules ask of it.
    pub(crate) fn facts(&self) -> Facts<'_> {
        Facts {
            main: self.config().encoder_size(),
            approx: self.approx_config().map(Config::encoder_size),
            constants: self.config().prune.constants(),
            p_logits: self.p_logits(),
            ltp_thresholds: self.ltp_thresholds(),
            num_anchors: self.config().num_anchors,
            outputs_all_tokens: self.pooling().is_some_and(|pooling| pooling.mode == PoolingMode::Mean),
        }
    }

    /// What a rule needs and the model does not have.
    pub fn lacks(&self, prune: &Prune) -> Option<Need> {
        self.facts().lacks(prune)
    }

    /// The rule for callers who name none: `sttabt.default_prune`, else `topk:0.5` with ApproxNet, else `dense`.
    pub fn default_prune(&self) -> Prune {
        let top_k = || Prune::top_k(0.5).filter(|top_k| self.lacks(top_k).is_none());
        self.config().prune.default_prune.clone().or_else(top_k).unwrap_or(Prune::Dense)
    }

    /// Number of weights, ApproxNet not counted.
    pub fn num_parameters(&self) -> u64 {
        self.0.main.num_values()
    }

    /// Number of weights of ApproxNet.
    pub fn approx_num_parameters(&self) -> Option<u64> {
        self.0.approx.as_ref().map(|approx| approx.num_values())
    }

    /// The number format of the weights: `f32`, `f16`, `bf16` or `int8`.
    pub fn weights_dtype(&self) -> &'static str {
        self.0.main.embeddings().map_or("unknown", |embeddings| embeddings.matrix().dtype.name())
    }

    /// Both networks, if no other handle shares them.
    pub(crate) fn networks_mut(&mut self) -> Option<(&mut Network, Option<&mut Network>)> {
        Arc::get_mut(&mut self.0).map(|data| (&mut data.main, data.approx.as_mut()))
    }

    /// Whether both are handles to one model.
    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn main(&self) -> &Network {
        &self.0.main
    }

    pub(crate) fn approx(&self) -> Option<&Network> {
        self.0.approx.as_ref()
    }
}

/// ApproxNet predicts the main network's attention: it has the same layers and heads, and reads the same input.
fn check_approx(main: &Network, approx: &Network) -> Result<()> {
    let error = |key: &str, found: &dyn ToString, expected: &dyn ToString| Error::Config {
        file: "approx/config.json".to_owned(),
        key: key.to_owned(),
        found: found.to_string(),
        expected: format!("{} as in the main model", expected.to_string()),
    };
    if approx.family.name != main.family.name {
        return Err(error("architectures", &approx.family.name, &main.family.name));
    }
    if approx.config.num_anchors != main.config.num_anchors {
        return Err(error("architectures", &approx.family.architecture, &main.family.architecture));
    }
    let sizes = |network: &Network| {
        let (keys, config) = (&network.family.keys, &network.config);
        let layers_and_heads = [
            (keys.num_hidden_layers, config.num_hidden_layers),
            (keys.num_attention_heads, config.num_attention_heads),
        ];
        layers_and_heads.into_iter().chain(config.input.sizes())
    };
    match sizes(approx).zip(sizes(main)).find(|(found, expected)| found != expected) {
        Some(((key, found), (_, expected))) => Err(error(key, &found, &expected)),
        None => Ok(()),
    }
}
