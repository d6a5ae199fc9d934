//! What goes into [`Engine::classify`](crate::Engine::classify) and what comes out.

use serde::Serialize;

use crate::models::Picture;
use crate::pruning::{Flops, Prune};

/// What comes back besides the result; both cost memory and time to read back.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Outputs {
    /// [`Classification::token_scores`]
    pub token_scores: bool,
    /// [`Classification::attention_maps`]
    pub attention_maps: bool,
    /// For a model with one output: [`Classification::probs`] is its sigmoid.
    pub sigmoid: bool,
    /// For a multi-label model: [`Classification::labels`] are those of at least this probability; `None` is 0.5.
    pub threshold: Option<f32>,
}

/// The result for one input of T tokens, by a model of L layers. What was not asked for and what the input does not have is left
/// out when it is serialised.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Classification {
    /// The rule of the run.
    pub prune: Prune,
    /// T
    pub num_tokens: usize,
    /// The wordpieces, `[CLS]` first; `[T]`, empty for an image.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<String>,
    /// Their ids; `[T]`, empty for an image.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub input_ids: Vec<u32>,
    /// Rows and columns of an image's patches. `[CLS]` is position 0. A patch is position `num_prefix_tokens` + row ·
    /// columns + column.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grid: Option<[usize; 2]>,
    /// An image's tokens before its patches: `[CLS]`, and with some models another learned one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_prefix_tokens: Option<usize>,
    /// The image as the model saw it: resized and cropped to the model's size, 3 bytes a pixel (150 KB for 224 × 224). `None` for a text.
    ///
    /// It is what [`Preprocessor::resized`](crate::Preprocessor::resized) gives; the run has it anyway. Set it to `None` to keep many results in
    /// little memory.
    #[serde(skip)]
    pub picture: Option<Picture>,
    /// The classifier's outputs, `[num_labels]`; empty for an embedder.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logits: Vec<f32>,
    /// Softmax of the logits; of a multi-label model the sigmoid of each, of a regression model too if it was asked for. Empty for an embedder.
    pub probs: Vec<f32>,
    /// Index of the largest logit (0 for regression); `None` for an embedder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_index: Option<usize>,
    /// Its name in `id2label`; `None` for an embedder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Of a multi-label model: the labels whose probability is at least the threshold, by index; perhaps none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<String>>,
    /// An embedder's vector, `[hidden_size]` or [`Pooling::truncate_dim`](crate::Pooling::truncate_dim), normalised if
    /// [`Pooling::normalize`](crate::Pooling::normalize) says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding: Option<Vec<f32>>,
    /// K_l as sorted token positions, l = 0 … L. K_L is `[0]` (with a distillation token `[0, 1]`); a dense run has all positions everywhere.
    pub kept: Vec<Vec<u32>>,
    /// The paper's average retention: mean over l = 0 … L of |K_l| / T.
    pub retention: f64,
    /// What was computed, counted from the rows.
    pub flops: Flops,
    /// Whether the text was longer than what the model reads, and lost its end (or with `truncation_side` its beginning).
    pub truncated: bool,
    /// Whether the rule chooses while the model runs: the scores of layer l choose K_{l+1} (`forward`, `ltp`) instead of K_l.
    pub layer_by_layer: bool,
    /// Scores that the rule gave every token, `[L][T]`: m of Rule 1, c of Rule 2. For `forward` and `ltp` they are
    /// `[L − 1][T]`, the attention received (0 for removed tokens). `None` for `dense`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_scores: Option<Vec<Vec<f32>>>,
    /// The maps that the rule looked at, `[L][T · T]`, rows attend to columns: mean attention probabilities, or for
    /// `concrete` the mean of Φ(Z). For `forward` and `ltp`, `[L − 1][|K_l| · |K_l|]` over kept tokens. `None` for `dense`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention_maps: Option<Vec<Vec<f32>>>,
}

/// Which device an engine runs on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BackendKind {
    /// A hardware GPU if there is one, otherwise the CPU.
    #[default]
    Auto,
    /// A GPU adapter, software adapters included.
    Gpu,
    /// The kernels on the CPU.
    Cpu,
}

/// How to choose the device of an engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackendOptions {
    /// Which kind of device.
    pub kind: BackendKind,
    /// Take the first adapter whose name contains this (case ignored). Software adapters count then, for `Auto` too.
    pub adapter: Option<String>,
    /// Use no buffer larger than this many bytes; larger batches run in chunks. Default: the device's limit.
    pub max_buffer_bytes: Option<u64>,
    /// Have a GPU compute a small model with known answers first, because drivers exist that compute something else in silence. A GPU
    /// that fails gives [`Error::Gpu`](crate::Error::Gpu); `Auto` takes no CPU instead.
    pub self_test: bool,
}

impl From<BackendKind> for BackendOptions {
    fn from(kind: BackendKind) -> Self {
        Self { kind, ..Self::default() }
    }
}

/// The device that an engine runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackendInfo {
    /// `gpu` or `cpu`
    pub backend: &'static str,
    /// The adapter's name, or what the CPU path is.
    pub adapter: String,
    /// Whether the adapter is software.
    pub software: bool,
    /// Why `auto` did not take a GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}
