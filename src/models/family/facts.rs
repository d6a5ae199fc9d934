//! What a family is: one value of [`Family`] says all that this crate knows of it and of no other.

use crate::error::{Error, Result};
use crate::models::checkpoint::{Names, Part, Weights};
use crate::models::config::{
    Activation, Config, InputConfig, PoolerKind, image_config, labels, prune_config, task, text_config,
};
use crate::models::fields::Fields;

/// A family of models.
pub struct Family {
    /// In messages.
    pub name: &'static str,
    /// The class in `architectures`.
    pub architecture: &'static str,
    /// `model_type`, for files that name no class.
    pub model_type: &'static str,
    pub keys: Keys,
    pub input: InputKind,
    /// Tokens that stay to the end, the first ones of an input: `[CLS]`.
    pub num_anchors: usize,
    pub norm_order: NormOrder,
    /// Inside the MLP.
    pub activation: Activation,
    pub pooler: PoolerKind,
    /// Hugging Face's names, and those of the thresholds, which are ours.
    pub names: Names,
    /// Names of other programs, and a tensor that only their files have.
    pub other_names: &'static [(&'static str, Names)],
    /// What some files hold beyond what is computed here.
    pub refused: &'static [Refused],
}

/// Keys of `config.json` that families call differently.
pub struct Keys {
    pub hidden_size: &'static str,
    pub intermediate_size: &'static str,
    pub num_hidden_layers: &'static str,
    pub num_attention_heads: &'static str,
    pub hidden_act: &'static str,
}

impl Keys {
    /// BERT's, which most families took over.
    pub const BERT: Self = Self {
        hidden_size: "hidden_size",
        intermediate_size: "intermediate_size",
        num_hidden_layers: "num_hidden_layers",
        num_attention_heads: "num_attention_heads",
        hidden_act: "hidden_act",
    };
}

/// What the first hidden states are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputKind {
    /// The sum of a wordpiece's rows in tables, normalised. Token types are there if the names have them.
    Text {
        /// Rows of the table of positions before that of the first token.
        position_offset: usize,
    },
    /// A projected patch, or a learned anchor, and the row of its position.
    Image,
}

/// Where a layer normalises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormOrder {
    /// After the residual sums of attention and MLP.
    Post,
    /// Before attention and MLP.
    Pre,
}

/// Tensors that change what a model computes, in a way that this crate does not follow.
pub struct Refused {
    pub what: &'static str,
    pub tensors: &'static [&'static str],
    pub supported: &'static str,
}

impl Family {
    /// Reads the rest of a `config.json` whose names chose this family.
    ///
    /// # Errors
    /// [`Error::Config`] names the key; [`Error::Unsupported`] names an activation, position embedding or problem type that this
    /// crate does not compute.
    pub fn config(&self, fields: &Fields<'_>) -> Result<Config> {
        let keys = &self.keys;
        fields.require(keys.hidden_act, "activation", self.activation.name())?;
        let input = match self.input {
            InputKind::Text { position_offset } => {
                InputConfig::Text(text_config(fields, position_offset, self.names.has(Part::TokenTypes))?)
            }
            InputKind::Image => InputConfig::Image(image_config(fields, self.num_anchors)?),
        };
        let hidden_size = fields.size(keys.hidden_size, 1..=1 << 16)?;
        let num_attention_heads = fields.size(keys.num_attention_heads, 1..=1 << 12)?;
        if !hidden_size.is_multiple_of(num_attention_heads) {
            let expected = format!("a divisor of `{}`, {hidden_size}", keys.hidden_size);
            return Err(fields.error(keys.num_attention_heads, num_attention_heads, &expected));
        }
        let labels = labels(fields)?;
        Ok(Config {
            family: self.name,
            input,
            hidden_size,
            task: task(fields, labels.len())?,
            intermediate_size: fields.size(keys.intermediate_size, 1..=1 << 18)?,
            num_hidden_layers: fields.size(keys.num_hidden_layers, 1..=256)?,
            num_attention_heads,
            num_anchors: self.num_anchors,
            layer_norm_eps: fields.number("layer_norm_eps", 1e-12, 1e-30..=0.1)? as f32,
            labels,
            pooler: self.pooler,
            prune: prune_config(fields)?,
        })
    }

    /// How this file names its tensors.
    ///
    /// # Errors
    /// [`Error::Unsupported`] names a tensor that is refused.
    pub fn names_in(&self, weights: &Weights) -> Result<&Names> {
        for Refused { what, tensors, supported } in self.refused {
            if let Some(found) = tensors.iter().find(|name| weights.contains(name)) {
                return Err(Error::Unsupported { what, found: (*found).to_owned(), supported });
            }
        }
        let other = self.other_names.iter().find(|(sign, _)| weights.contains(sign));
        Ok(other.map_or(&self.names, |(_, names)| names))
    }
}
