//! `config.json`: the sizes and constants of a network, checked before anything is computed from them.

use std::str::FromStr;

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
    /// 2 where the model tells a first text from a second; 0 where it has no token types.
    pub type_vocab_size: usize,
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
    pub num_anchors: usize,
}

impl ImageConfig {
    /// Rows and columns of patches.
    pub fn grid(&self) -> [usize; 2] {
        self.image_size.map(|size| size / self.patch_size)
    }

    /// T: the patches and the tokens before them.
    pub fn num_tokens(&self) -> usize {
        self.num_anchors + self.grid()[0] * self.grid()[1]
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

/// A function between two products.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// With the exact error function.
    Gelu,
    Tanh,
}

impl Activation {
    /// As `config.json` names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gelu => "gelu",
            Self::Tanh => "tanh",
        }
    }
}

/// What stands between the last hidden state of `[CLS]` and the classifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PoolerKind {
    /// A square dense layer.
    Dense(Activation),
    /// The last layer normalisation.
    Norm,
}

/// What the classifier's outputs mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// One of the labels; softmax over the logits.
    Classification,
    /// One number.
    Regression,
}

/// A network's `config.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The model family, `Bert` or `Vit`.
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
    /// The names of the labels; `[num_labels]`.
    pub labels: Vec<String>,
    /// What stands before the classifier.
    pub(crate) pooler: PoolerKind,
    /// Constants of the pruning rules.
    pub prune: PruneConfig,
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
            InputConfig::Text(_) => 0,
            InputConfig::Image(image) => image.patch_values() as u64 * hidden_size,
        };
        let pooler = match self.pooler {
            PoolerKind::Dense(_) => hidden_size * hidden_size,
            PoolerKind::Norm => 0,
        };
        EncoderSize {
            num_hidden_layers: self.num_hidden_layers,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            embedding,
            head: pooler + hidden_size * self.labels.len() as u64,
        }
    }
}

pub(super) fn text_config(fields: &Fields<'_>, position_offset: usize, has_token_types: bool) -> Result<TextConfig> {
    fields.require("position_embedding_type", "position embedding", "absolute")?;
    let vocab_size = fields.size("vocab_size", 1..=1 << 24)?;
    let num_positions = fields.size("max_position_embeddings", 3 + position_offset..=1 << 20)?;
    let type_vocab_size = if has_token_types { fields.size_or("type_vocab_size", 2, 1..=1 << 10)? } else { 0 };
    Ok(TextConfig {
        vocab_size,
        max_position_embeddings: num_positions - position_offset,
        position_offset,
        type_vocab_size,
    })
}

pub(super) fn image_config(fields: &Fields<'_>, num_anchors: usize) -> Result<ImageConfig> {
    let num_channels = fields.size_or("num_channels", NUM_CHANNELS, 1..=1 << 10)?;
    if num_channels != NUM_CHANNELS {
        return Err(fields.error("num_channels", num_channels, "3 (red, green, blue)"));
    }
    if fields.object.get("qkv_bias") == Some(&Value::Bool(false)) {
        return Err(fields.error("qkv_bias", false, "true"));
    }
    let image_size = match fields.object.get("image_size") {
        Some(Value::Array(sizes)) => match sizes.as_slice() {
            [height, width] => {
                [fields.size_of("image_size", height, 1..=1 << 14)?, fields.size_of("image_size", width, 1..=1 << 14)?]
            }
            _ => return Err(fields.error("image_size", Value::from(sizes.clone()), "a size, or [height, width]")),
        },
        _ => [fields.size("image_size", 1..=1 << 14)?; 2],
    };
    let patch_size = fields.size("patch_size", 1..=1 << 10)?;
    if !image_size.iter().all(|size| size.is_multiple_of(patch_size)) {
        let expected = format!("a divisor of `image_size`, {} x {}", image_size[0], image_size[1]);
        return Err(fields.error("patch_size", patch_size, &expected));
    }
    Ok(ImageConfig { image_size, patch_size, num_anchors })
}

/// `id2label` in order, else `LABEL_i` for `num_labels` (Hugging Face's default: 2).
pub(super) fn labels(fields: &Fields<'_>) -> Result<Vec<String>> {
    let Some(names) = fields.object.get("id2label").filter(|value| !value.is_null()) else {
        let num_labels = fields.size_or("num_labels", 2, 1..=1 << 20)?;
        return Ok((0..num_labels).map(|label| format!("LABEL_{label}")).collect());
    };
    let expected = "an object with a name for every index from \"0\"";
    let found = || names.to_string();
    let names = names.as_object().filter(|names| !names.is_empty());
    let names = names.ok_or_else(|| fields.error("id2label", found(), expected))?;
    (0..names.len())
        .map(|label| match names.get(&label.to_string()).and_then(Value::as_str) {
            Some(name) => Ok(name.to_owned()),
            None => Err(fields.error("id2label", format!("without a name for \"{label}\""), expected)),
        })
        .collect()
}

/// Softmax over several labels, or one number.
pub(super) fn task(fields: &Fields<'_>, num_labels: usize) -> Result<Task> {
    match fields.text("problem_type")? {
        Some("regression") if num_labels > 1 => {
            Err(fields.error("problem_type", "regression", "one label for regression"))
        }
        None | Some("regression" | "single_label_classification") if num_labels == 1 => Ok(Task::Regression),
        None | Some("regression" | "single_label_classification") => Ok(Task::Classification),
        Some(other) => Err(Error::Unsupported {
            what: "problem type",
            found: shortened(other),
            supported: "single_label_classification, regression with one label",
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
