//! The families of models that this crate computes, one file each, and how a `config.json` names its own.

pub mod bert;
mod facts;
pub mod vit;

use std::sync::LazyLock;

use serde_json::Value;

use super::config::Config;
use super::fields::{Fields, json_object, shortened};
use crate::error::{Error, Result};
pub use facts::{Family, NormOrder};
#[cfg(test)]
pub use facts::{InputKind, Keys};

/// Of several families with one `model_type`, the first is that of a file which names no class.
pub const FAMILIES: &[Family] = &[bert::BERT, vit::VIT];

/// Every class, for a message.
static SUPPORTED: LazyLock<String> =
    LazyLock::new(|| FAMILIES.iter().map(|family| family.architecture).collect::<Vec<_>>().join(", "));

/// Reads a `config.json`: its family, and its sizes and constants. `file` is for messages alone.
///
/// # Errors
/// [`Error::Config`] names the key; [`Error::Unsupported`] names an architecture or something else that this crate does not
/// compute.
pub fn read_config(file: &str, json: &[u8]) -> Result<(&'static Family, Config)> {
    let object = json_object(file, json)?;
    let fields = Fields { file, path: "", object: &object };
    let family = named(&fields)?;
    if let Some(Value::Bool(true)) = object.get("is_decoder") {
        return Err(fields.error("is_decoder", true, "false"));
    }
    Ok((family, family.config(&fields)?))
}

/// The family of the class in `architectures`, else of `model_type`; both must agree.
fn named(fields: &Fields<'_>) -> Result<&'static Family> {
    let class = match fields.object.get("architectures") {
        Some(Value::Array(names)) => names.first().and_then(Value::as_str),
        _ => None,
    };
    let model_type = fields.text("model_type")?;
    let is_named = |family: &&Family| match class {
        Some(class) => family.architecture == class,
        None => Some(family.model_type) == model_type,
    };
    let Some(family) = FAMILIES.iter().find(is_named) else {
        // timm's config.json has neither, but names the model.
        let found = class.or(model_type).or(fields.text("architecture")?).unwrap_or("(none)");
        return Err(Error::Unsupported { what: "architecture", found: shortened(found), supported: &SUPPORTED });
    };
    match model_type {
        Some(found) if found != family.model_type => {
            Err(fields.error("model_type", found, &format!("{} as in `architectures`", family.model_type)))
        }
        _ => Ok(family),
    }
}
