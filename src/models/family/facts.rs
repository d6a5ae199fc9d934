//! What a family is: one value of [`Family`] says all that this crate knows of it and of no other.

use crate::error::{Error, Result};
use crate::models::checkpoint::{Names, Weights};
use crate::models::config::{
    Config, InputConfig, PoolerKind, Task, TextKind, activation, image_config, labels, prune_config, task, text_config,
};
use crate::models::fields::Fields;
use crate::models::preprocessor::Preprocessor;

/// A family of models with one kind of head.
pub struct Family {
    /// In messages; the same for all heads.
    pub name: &'static str,
    /// The class in `architectures`.
    pub architecture: &'static str,
    /// `model_type`, for files that name no class.
    pub model_type: &'static str,
    pub keys: Keys,
    pub input: InputKind,
    /// Tokens that stay to the end, the first ones of an input: `[CLS]`. Each has its own classifier.
    pub num_anchors: usize,
    pub norm_order: NormOrder,
    pub head: HeadKind,
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
    pub intermediate_size: IntermediateSize,
    pub num_hidden_layers: &'static str,
    pub num_attention_heads: &'static str,
    pub hidden_act: &'static str,
    pub layer_norm_eps: LayerNormEps,
}

/// What layer normalisations add to the variance.
pub enum LayerNormEps {
    /// The file's `layer_norm_eps`, or this.
    Default(f64),
    /// This, whatever the file says.
    Fixed(f64),
}

/// How the width inside the MLP is written.
pub enum IntermediateSize {
    Key(&'static str),
    /// The key of its ratio to `hidden_size`.
    Ratio(&'static str),
}

impl Keys {
    /// BERT's, which most families took over.
    pub const BERT: Self = Self {
        hidden_size: "hidden_size",
        intermediate_size: IntermediateSize::Key("intermediate_size"),
        num_hidden_layers: "num_hidden_layers",
        num_attention_heads: "num_attention_heads",
        hidden_act: "hidden_act",
        layer_norm_eps: LayerNormEps::Default(1e-12),
    };
}

/// What the first hidden states are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputKind {
    /// The sum of a wordpiece's rows in tables, normalised.
    Text(TextKind),
    /// A projected patch, or a learned token, and the row of its position.
    Image {
        /// Learned tokens before the patches.
        num_prefix_tokens: usize,
        /// Whether the table of positions is resized for images of another size.
        resizes_positions: bool,
        /// The class whose defaults count where no file names one.
        processor: &'static str,
    },
}

/// Where a layer normalises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormOrder {
    /// After the residual sums of attention and MLP.
    Post,
    /// Before attention and MLP.
    Pre,
}

/// What follows the layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadKind {
    /// What stands before the classifier, and a classifier for each anchor.
    Classifier(PoolerKind),
    /// The vector that comes out.
    Embedding(PoolerKind),
}

/// Tensors that change what a model computes, in a way that this crate does not follow.
pub struct Refused {
    pub what: &'static str,
    pub tensors: &'static [&'static str],
    pub supported: &'static str,
}

/// Of the size that the preprocessor makes.
fn check_patches(image_size: [usize; 2], patch_size: usize) -> Result<()> {
    if image_size.iter().all(|size| size.is_multiple_of(patch_size)) {
        return Ok(());
    }
    Err(Error::Config {
        file: "preprocessor_config.json".to_owned(),
        key: "size".to_owned(),
        found: format!("{} x {}", image_size[0], image_size[1]),
        expected: format!("multiples of the model's `patch_size`, {patch_size}"),
    })
}

impl Family {
    /// Reads the rest of a `config.json` whose names chose this family; `preprocessor` is the file that goes with it.
    ///
    /// # Errors
    /// [`Error::Config`] names the key; [`Error::Unsupported`] names an activation, position embedding or problem type that this
    /// crate does not compute.
    pub fn config(&self, fields: &Fields<'_>, preprocessor: Option<&[u8]>) -> Result<Config> {
        let keys = &self.keys;
        let activation = activation(fields, keys.hidden_act)?;
        let hidden_size = fields.size(keys.hidden_size, 1..=1 << 16)?;
        let input = match &self.input {
            InputKind::Text(kind) => InputConfig::Text(text_config(fields, kind, hidden_size)?),
            InputKind::Image { num_prefix_tokens, resizes_positions, processor } => {
                let mut image = image_config(fields, *num_prefix_tokens)?;
                if *resizes_positions {
                    image.image_size = Preprocessor::output_size_of(processor, preprocessor, image.image_size)?;
                    check_patches(image.image_size, image.patch_size)?;
                }
                InputConfig::Image(image)
            }
        };
        let num_attention_heads = fields.size(keys.num_attention_heads, 1..=1 << 12)?;
        if !hidden_size.is_multiple_of(num_attention_heads) {
            let expected = format!("a divisor of `{}`, {hidden_size}", keys.hidden_size);
            return Err(fields.error(keys.num_attention_heads, num_attention_heads, &expected));
        }
        let (task, labels, pooler) = match self.head {
            HeadKind::Classifier(pooler) => {
                let labels = labels(fields)?;
                (task(fields, labels.len())?, labels, pooler)
            }
            HeadKind::Embedding(pooler) => (Task::Embedding, Vec::new(), pooler),
        };
        Ok(Config {
            family: self.name,
            input,
            hidden_size,
            task,
            intermediate_size: match keys.intermediate_size {
                IntermediateSize::Key(key) => fields.size(key, 1..=1 << 18)?,
                IntermediateSize::Ratio(key) => (fields.number(key, 4.0, 0.01..=64.0)? * hidden_size as f64) as usize,
            },
            num_hidden_layers: fields.size(keys.num_hidden_layers, 1..=256)?,
            num_attention_heads,
            num_anchors: self.num_anchors,
            layer_norm_eps: match keys.layer_norm_eps {
                LayerNormEps::Default(eps) => fields.number("layer_norm_eps", eps, 1e-30..=0.1)? as f32,
                LayerNormEps::Fixed(eps) => eps as f32,
            },
            labels,
            activation,
            pooler,
            prune: prune_config(fields)?,
            is_int8: false,
        })
    }

    /// The class of what makes pictures where no file names one; of texts none.
    pub fn processor(&self) -> &'static str {
        match self.input {
            InputKind::Text(_) => "",
            InputKind::Image { processor, .. } => processor,
        }
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
