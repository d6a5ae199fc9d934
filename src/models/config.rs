//! `config.json`: the sizes and constants of a network, checked before anything is computed from them.

use std::str::FromStr;

use serde::Serialize;
use serde_json::{Map, Value};

use super::fields::{Fields, shortened};
use crate::error::{Error, Result};
use crate::pruning::{EncoderSize, Prune, PruneConfig};
use crate::tensor::Heads;

/// What a model reads, and its sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputConfig {
    /// Wordpieces.
    Text(TextConfig),
    /// Patches of an image.
    Image(ImageConfig),
}

/// The sizes of a text model's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextConfig {
    /// Wordpieces that the model knows.
    pub vocab_size: usize,
    /// Tokens of an input at most.
    pub max_position_embeddings: usize,
    /// Rows of the table of positions before that of the first token.
    pub position_offset: usize,
    /// Rows of the table of token types: 2 where the model tells a first text from a second, and 0 without a table.
    pub type_vocab_size: usize,
    /// Width of the tables; where it is not `hidden_size`, the embeddings are projected.
    pub(crate) embedding_size: usize,
}

/// Red, green and blue.
pub(crate) const NUM_CHANNELS: usize = 3;

/// The sizes of an image model's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageConfig {
    /// Height and width in pixels.
    pub image_size: [usize; 2],
    /// Height and width of a patch; divides the image's.
    pub patch_size: usize,
    /// Tokens before the patches; the first is `[CLS]`.
    pub num_prefix_tokens: usize,
    /// Rows and columns of the table of positions: where they are not those of [`Self::grid`], the table is resized.
    pub(crate) table_grid: [usize; 2],
}

impl ImageConfig {
    /// Rows and columns of patches.
    pub fn grid(&self) -> [usize; 2] {
        self.image_size.map(|size| size / self.patch_size)
    }

    /// T: the patches and the tokens before them.
    pub fn num_tokens(&self) -> usize {
        self.num_prefix_tokens + self.grid()[0] * self.grid()[1]
    }

    /// Values of a patch: channels · height · width.
    pub fn patch_values(&self) -> usize {
        NUM_CHANNELS * self.patch_size * self.patch_size
    }
}

impl InputConfig {
    /// The sizes that an ApproxNet shares with its main network, under their keys.
    pub(super) fn sizes(&self) -> Vec<(&'static str, usize)> {
        match self {
            Self::Text(text) => vec![
                ("vocab_size", text.vocab_size),
                ("max_position_embeddings", text.max_position_embeddings),
                ("type_vocab_size", text.type_vocab_size),
            ],
            Self::Image(image) => vec![
                ("image_size", image.image_size[0]),
                ("image_size", image.image_size[1]),
                ("patch_size", image.patch_size),
            ],
        }
    }
}

/// What of a text's embeddings is not the same everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextKind {
    /// Whether the first token's position stands in the row after that of `pad_token_id`, in place of row 0.
    pub starts_after_padding: bool,
    /// Whether there is a table of token types.
    pub has_token_types: bool,
    /// The key of the tables' width, where it may differ from `hidden_size`.
    pub embedding_size: Option<&'static str>,
}

/// A function between two products.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// With the exact error function.
    Gelu,
    /// With the hyperbolic tangent in its place.
    GeluTanh,
    /// x · sigmoid(1.702 · x)
    QuickGelu,
    /// max(0, x)
    Relu,
    /// The hyperbolic tangent.
    Tanh,
}

/// What transformers calls them in `hidden_act`.
const ACTIVATIONS: [(&str, Activation); 10] = [
    ("gelu", Activation::Gelu),
    ("gelu_new", Activation::GeluTanh),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("gelu_python_tanh", Activation::GeluTanh),
    ("gelu_fast", Activation::GeluTanh),
    ("gelu_accurate", Activation::GeluTanh),
    ("gelu_python", Activation::Gelu),
    ("relu", Activation::Relu),
    ("quick_gelu", Activation::QuickGelu),
    ("tanh", Activation::Tanh),
];

/// The activation inside the MLP.
pub(super) fn activation(fields: &Fields<'_>, key: &'static str) -> Result<Activation> {
    let name = fields.text(key)?.unwrap_or("gelu");
    let known = ACTIVATIONS.iter().find(|(known, _)| *known == name);
    let supported = "gelu, gelu_new, gelu_pytorch_tanh, gelu_python, gelu_python_tanh, \
             gelu_fast, gelu_accurate, relu, quick_gelu, tanh";
    let unknown = || Error::Unsupported { what: "activation", found: shortened(name), supported };
    known.map(|&(_, activation)| activation).ok_or_else(unknown)
}

/// What stands between the last hidden state of `[CLS]` and the classifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolerKind {
    /// Nothing.
    None,
    /// A square dense layer.
    Dense(Activation),
    /// The last layer normalisation.
    Norm,
}

/// What the classifier's outputs mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// One of the labels; softmax over the logits.
    Classification,
    /// Any of the labels; sigmoid of each logit.
    MultiLabel,
    /// One number.
    Regression,
    /// No classifier: a vector.
    Embedding,
}

/// A network's `config.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The model family, such as `Bert` or `Vit`.
    pub family: &'static str,
    /// What it reads.
    pub input: InputConfig,
    /// Width of a hidden state.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// L
    pub num_hidden_layers: usize,
    /// H; divides `hidden_size`.
    pub num_attention_heads: usize,
    /// Tokens that every rule keeps to the end, the first ones of an input: `[CLS]`.
    pub num_anchors: usize,
    /// Added to variances.
    pub layer_norm_eps: f32,
    /// What the outputs mean.
    pub task: Task,
    /// The names of the labels; `[num_labels]`, none for embeddings.
    pub labels: Vec<String>,
    /// Inside the MLP.
    pub(crate) activation: Activation,
    /// What stands before the classifier.
    pub(crate) pooler: PoolerKind,
    /// Constants of the pruning rules.
    pub prune: PruneConfig,
    /// Whether weights are int8.
    pub(crate) is_int8: bool,
}

impl Config {
    /// How the attention matrices are split into heads.
    pub fn heads(&self) -> Heads {
        Heads { num_heads: self.num_attention_heads, head_size: self.hidden_size / self.num_attention_heads }
    }

    /// The sizes that FLOPs depend on.
    pub fn encoder_size(&self) -> EncoderSize {
        let hidden_size = self.hidden_size as u64;
        let embedding = match &self.input {
            InputConfig::Text(text) if text.embedding_size == self.hidden_size => 0,
            InputConfig::Text(text) => text.embedding_size as u64 * hidden_size,
            InputConfig::Image(image) => image.patch_values() as u64 * hidden_size,
        };
        let pooler = match self.pooler {
            PoolerKind::Dense(_) => hidden_size * hidden_size,
            PoolerKind::None | PoolerKind::Norm => 0,
        };
        EncoderSize {
            num_hidden_layers: self.num_hidden_layers,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            embedding,
            head: self.num_anchors as u64 * (pooler + hidden_size * self.labels.len() as u64),
        }
    }
}

pub(super) fn text_config(fields: &Fields<'_>, kind: &TextKind, hidden_size: usize) -> Result<TextConfig> {
    fields.require("position_embedding_type", "position embedding", "absolute")?;
    let position_offset = if kind.starts_after_padding { 1 + fields.size_or("pad_token_id", 1, 0..=64)? } else { 0 };
    let vocab_size = fields.size("vocab_size", 1..=1 << 24)?;
    let num_positions = fields.size("max_position_embeddings", 3 + position_offset..=1 << 20)?;
    Ok(TextConfig {
        vocab_size,
        max_position_embeddings: num_positions - position_offset,
        position_offset,
        type_vocab_size: if kind.has_token_types { fields.size_or("type_vocab_size", 2, 1..=1 << 10)? } else { 0 },
        embedding_size: match kind.embedding_size {
            Some(key) => fields.size_or(key, hidden_size, 1..=1 << 16)?,
            None => hidden_size,
        },
    })
}

pub(super) fn image_config(fields: &Fields<'_>, num_prefix_tokens: usize) -> Result<ImageConfig> {
    let num_channels = fields.size_or("num_channels", NUM_CHANNELS, 1..=1 << 10)?;
    if num_channels != NUM_CHANNELS {
        return Err(fields.error("num_channels", num_channels, "3 (red, green, blue)"));
    }
    fields.require_flag("qkv_bias", true)?;
    // DINOv2's giant.
    fields.require_flag("use_swiglu_ffn", false)?;
    let image_size = sides(fields, "image_size", 1 << 14)?;
    let [patch_size, patch_width] = sides(fields, "patch_size", 1 << 10)?;
    if patch_size != patch_width {
        return Err(fields.error("patch_size", format!("{patch_size} x {patch_width}"), "a square"));
    }
    if !image_size.iter().all(|size| size.is_multiple_of(patch_size)) {
        let expected = format!("a divisor of `image_size`, {} x {}", image_size[0], image_size[1]);
        return Err(fields.error("patch_size", patch_size, &expected));
    }
    let table_grid = image_size.map(|size| size / patch_size);
    Ok(ImageConfig { image_size, patch_size, num_prefix_tokens, table_grid })
}

/// One size for a square, or height and width.
fn sides(fields: &Fields<'_>, key: &str, max: usize) -> Result<[usize; 2]> {
    match fields.object.get(key) {
        Some(Value::Array(sides)) => match sides.as_slice() {
            [height, width] => Ok([fields.size_of(key, height, 1..=max)?, fields.size_of(key, width, 1..=max)?]),
            _ => Err(fields.error(key, Value::from(sides.clone()), "a size, or [height, width]")),
        },
        _ => Ok([fields.size(key, 1..=max)?; 2]),
    }
}

/// `id2label` in order, else `LABEL_i` for `num_labels` (Hugging Face's default: 2). Where both are there and differ, the number counts, as in
/// transformers.
pub(super) fn labels(fields: &Fields<'_>) -> Result<Vec<String>> {
    let number = fields.object.get("num_labels").filter(|value| !value.is_null());
    let number = number.map(|number| fields.size_of("num_labels", number, 1..=1 << 20)).transpose()?;
    let numbered = |num_labels: usize| (0..num_labels).map(|label| format!("LABEL_{label}")).collect();
    let Some(names) = fields.object.get("id2label").filter(|value| !value.is_null()) else {
        return Ok(numbered(number.unwrap_or(2)));
    };
    let expected = "an object with a name for every index from \"0\"";
    let found = || names.to_string();
    let names = names.as_object().filter(|names| !names.is_empty());
    let names = names.ok_or_else(|| fields.error("id2label", found(), expected))?;
    if let Some(num_labels) = number.filter(|&number| number != names.len()) {
        return Ok(numbered(num_labels));
    }
    (0..names.len())
        .map(|label| match names.get(&label.to_string()) {
            Some(Value::String(name)) => Ok(name.clone()),
            // transformers shows such names as they are.
            Some(Value::Number(name)) => Ok(name.to_string()),
            Some(other) => Err(fields.error(&format!("id2label.{label}"), other, "a name")),
            None => Err(fields.error("id2label", format!("without a name for \"{label}\""), expected)),
        })
        .collect()
}

/// Softmax over several labels, a sigmoid of each, or one number.
pub(super) fn task(fields: &Fields<'_>, num_labels: usize) -> Result<Task> {
    match fields.text("problem_type")? {
        Some("regression") if num_labels > 1 => {
            Err(fields.error("problem_type", "regression", "one label for regression"))
        }
        Some("multi_label_classification") => Ok(Task::MultiLabel),
        None | Some("regression" | "single_label_classification") if num_labels == 1 => Ok(Task::Regression),
        None | Some("regression" | "single_label_classification") => Ok(Task::Classification),
        Some(other) => Err(Error::Unsupported {
            what: "problem type",
            found: shortened(other),
            supported: "single_label_classification, multi_label_classification, regression with one label",
        }),
    }
}

pub(super) fn prune_config(fields: &Fields<'_>) -> Result<PruneConfig> {
    let empty = Map::new();
    let object = match fields.object.get("sttabt") {
        None | Some(Value::Null) => &empty,
        Some(Value::Object(object)) => object,
        Some(other) => return Err(fields.error("sttabt", other, "an object")),
    };
    let fields = Fields { file: fields.file, path: "sttabt.", object };
    let default_prune = match fields.text("default_prune")? {
        Some(rule) => Some(Prune::from_str(rule).map_err(|error| {
            let expected = match error {
                Error::Rule { reason, .. } => match reason.strip_prefix("expected ") {
                    Some(rules) => rules.to_owned(),
                    None => format!("a rule: {reason}"),
                },
                other => other.to_string(),
            };
            fields.error("default_prune", format!("{rule:?}"), &expected)
        })?),
        None => None,
    };
    Ok(PruneConfig {
        concrete_temperature: fields.number("concrete_temperature", 0.1, 1e-6..=1e6)? as f32,
        concrete_hard_threshold: fields.number("concrete_hard_threshold", 0.5, 0.0..=1.0)? as f32,
        topk_impact_weight: fields.number("topk_impact_weight", 0.1, 0.0..=1.0)? as f32,
        concrete_impact_weight: fields.number("concrete_impact_weight", 0.1, 0.0..=1.0)? as f32,
        default_prune,
    })
}
