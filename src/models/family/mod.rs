//! The families of models that this crate computes, one file each, and how a `config.json` names its own.

pub mod bert;
mod dinov2;
mod distilbert;
mod electra;
mod facts;
mod refused;
mod roberta;
mod timm;
pub mod vit;

use std::sync::LazyLock;

use serde_json::Value;

use super::config::Config;
use super::fields::{Fields, json_object, shortened};
use crate::error::{Error, Result};
#[cfg(any(test, feature = "internals"))]
pub use facts::IntermediateSize;
pub use facts::{Family, HeadKind, NormOrder};
#[cfg(test)]
pub use facts::{InputKind, Keys};
pub use timm::pretrained_cfg;
#[cfg(feature = "internals")]
pub use timm::translated as timm_translated;

/// Of several families with one `model_type`, the first with the wanted kind of head is that of a file which names no class.
pub const FAMILIES: &[Family] = &[
    bert::BERT,
    bert::BERT_EMBEDDER,
    distilbert::DISTILBERT,
    distilbert::DISTILBERT_EMBEDDER,
    roberta::ROBERTA,
    roberta::ROBERTA_EMBEDDER,
    roberta::XLM_ROBERTA,
    roberta::XLM_ROBERTA_EMBEDDER,
    roberta::CAMEMBERT,
    roberta::CAMEMBERT_EMBEDDER,
    electra::ELECTRA,
    electra::ELECTRA_EMBEDDER,
    vit::VIT,
    vit::VIT_EMBEDDER,
    vit::DEIT,
    vit::DEIT_DISTILLED,
    vit::DEIT_EMBEDDER,
    dinov2::DINOV2_EMBEDDER,
];

/// `quant_method` of weights that are int8 with a scale for each row: `sttabt quantize` writes them.
pub const INT8_METHOD: &str = "sttabt-int8";

/// Every class, for a message.
static SUPPORTED: LazyLock<String> = LazyLock::new(|| {
    let all: Vec<_> = FAMILIES.iter().map(|family| family.architecture).collect();
    format!("{}; and timm's vit and deit", all.join(", "))
});

/// What other files of the folder say.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'a> {
    /// That the model embeds, whatever the class in `config.json`, which is often that of its pretraining.
    pub embedding: bool,
    /// How pictures are made, and how large: `preprocessor_config.json`.
    pub preprocessor: Option<&'a [u8]>,
}

/// Reads a `config.json`: its family, and its sizes and constants. `file` is for messages alone.
///
/// # Errors
/// [`Error::Config`] names the key; [`Error::Unsupported`] names an architecture or something else that this crate does not
/// compute.
pub fn read_config(file: &str, json: &[u8], asked: Asked<'_>) -> Result<(&'static Family, Config)> {
    let object = json_object(file, json)?;
    let is_int8 = is_int8(&Fields { file, path: "", object: &object })?;
    let object = timm::translated(file, &object)?.unwrap_or(object);
    let fields = Fields { file, path: "", object: &object };
    let family = named(&fields, asked.embedding)?;
    fields.require_flag("is_decoder", false)?;
    fields.require_flag("add_cross_attention", false)?;
    if let Some(heads) = object.get("pruned_heads").and_then(Value::as_object).filter(|heads| !heads.is_empty()) {
        let found = format!("pruned_heads = {}", shortened(&Value::from(heads.clone()).to_string()));
        let reason = "layers with fewer heads than others are not computed here, nor by transformers 5";
        return Err(Error::Refused { what: "setting", found, reason });
    }
    Ok((family, Config { is_int8, ..family.config(&fields, asked.preprocessor)? }))
}

/// The two heads of the family that a `config.json` names, whatever its own head is: the embedder, and the classifier.
///
/// # Errors
/// [`Error::Unsupported`] or [`Error::Refused`] names an architecture that has not both.
#[cfg(feature = "internals")]
pub fn both_heads(file: &str, object: &serde_json::Map<String, Value>) -> Result<[&'static Family; 2]> {
    let embedder = named(&Fields { file, path: "", object }, true)?;
    let with_head = |embeds: bool| {
        let mut of_type = FAMILIES.iter().filter(|family| family.model_type == embedder.model_type);
        of_type.find(|family| matches!(family.head, HeadKind::Embedding(_)) == embeds)
    };
    let both = with_head(true).zip(with_head(false)).map(|(embedder, classifier)| [embedder, classifier]);
    let found = || shortened(embedder.architecture);
    both.ok_or_else(|| Error::Unsupported { what: "architecture", found: found(), supported: &SUPPORTED })
}

/// Whether weights are int8, as `quantization_config` says. Other quantized weights are not computed here.
fn is_int8(fields: &Fields<'_>) -> Result<bool> {
    let object = match fields.object.get("quantization_config") {
        None | Some(Value::Null) => return Ok(false),
        Some(Value::Object(object)) => object,
        Some(other) => return Err(fields.error("quantization_config", other, "an object")),
    };
    let fields = Fields { path: "quantization_config.", object, ..*fields };
    let method = fields.text("quant_method")?.unwrap_or("(none)");
    if method != INT8_METHOD {
        let what = "`quant_method` of `quantization_config`";
        return Err(Error::Unsupported { what, found: shortened(method), supported: INT8_METHOD });
    }
    match object.iter().find(|(key, _)| *key != "quant_method") {
        Some((key, value)) => Err(fields.error(key, value, "no other key than `quant_method`")),
        None => Ok(true),
    }
}

/// The family. `model_type` names it where both are there, as in transformers' Auto classes; the class in `architectures` its head.
fn named(fields: &Fields<'_>, is_embedder: bool) -> Result<&'static Family> {
    let class = match fields.object.get("architectures") {
        Some(Value::Array(names)) => names.first().and_then(Value::as_str),
        _ => None,
    };
    let model_type = fields.text("model_type")?;
    let embeds = |family: &Family| matches!(family.head, HeadKind::Embedding(_));
    let of_class = FAMILIES.iter().find(|family| Some(family.architecture) == class);
    let of_type = |wants: Option<bool>| {
        let mut families = FAMILIES.iter().filter(|family| Some(family.model_type) == model_type);
        families.find(|family| wants.is_none_or(|embedding| embedding == embeds(family)))
    };
    let family = match (of_class, model_type) {
        (_, Some(_)) if is_embedder => of_type(Some(true)),
        (Some(of_class), Some(found)) if of_class.model_type != found => of_type(Some(embeds(of_class))),
        (Some(_), _) => of_class,
        (None, _) if class.is_some() => None,
        (None, _) => of_type(None),
    };
    family.ok_or_else(|| {
        // Where the class is known, it is the type that is not.
        let class = class.filter(|_| of_class.is_none());
        let found = shortened(class.or(model_type).unwrap_or("(none)"));
        match refused::reason(class, model_type) {
            Some(reason) => Error::Refused { what: "architecture", found, reason },
            None => Error::Unsupported { what: "architecture", found, supported: &SUPPORTED },
        }
    })
}
