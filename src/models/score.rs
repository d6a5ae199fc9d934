//! What a score is made of the one output of a cross-encoder: `activation_fn` of sentence-transformers.

use serde_json::Value;

use super::fields::{json_object, shortened};
use super::files::{ModelFiles, PROMPTS};
use crate::error::{Error, Result};

/// What a score is made of an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Activation {
    /// The output itself: what the files say, or where they say nothing.
    Identity,
    /// Its sigmoid.
    Sigmoid,
    /// Something that is not computed here.
    Other(String),
}

impl Activation {
    /// What the files of a model say. The newest place of the name counts, as in sentence-transformers.
    ///
    /// # Errors
    /// [`Error::File`] for a broken file.
    pub fn of(files: &ModelFiles) -> Result<Self> {
        let object = |name: &str| files.get(name).map(|json| json_object(name, json)).transpose();
        let (own, config) = (object(PROMPTS)?.unwrap_or_default(), object("config.json")?.unwrap_or_default());
        // The same file of an embedder is not about scores.
        let own = own.get("activation_fn").filter(|_| own.get("model_type").is_some_and(|kind| kind == "CrossEncoder"));
        let nested = config.get("sentence_transformers").and_then(|settings| settings.get("activation_fn"));
        let named = [own, nested, config.get("sbert_ce_default_activation_function")];
        let name = match named.into_iter().flatten().find(|name| !name.is_null()) {
            None => return Ok(Self::Identity),
            Some(Value::String(name)) => name.clone(),
            Some(other) => other.to_string(),
        };
        Ok(match name.strip_prefix("torch.nn.").and_then(|path| path.rsplit('.').next()) {
            Some("Identity") => Self::Identity,
            Some("Sigmoid") => Self::Sigmoid,
            _ => Self::Other(shortened(&name)),
        })
    }

    /// Whether a score is the sigmoid of the output.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a function that is not computed here.
    pub fn is_sigmoid(&self) -> Result<bool> {
        match self {
            Self::Identity => Ok(false),
            Self::Sigmoid => Ok(true),
            Self::Other(name) => Err(Error::Unsupported {
                what: "activation of scores (`activation_fn`)",
                found: name.clone(),
                supported: "torch.nn.modules.linear.Identity, torch.nn.modules.activation.Sigmoid",
            }),
        }
    }
}
