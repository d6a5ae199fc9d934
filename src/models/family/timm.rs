//! timm's own `config.json`: it names a model of timm's, whose sizes stand in its source, not in the file.

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::models::fields::{Fields, json_object};

/// The sizes behind a name: width, layers, heads.
const SIZES: &[(&str, [usize; 3])] =
    &[("tiny", [192, 12, 3]), ("small", [384, 12, 6]), ("base", [768, 12, 12]), ("large", [1024, 24, 16])];

const SUPPORTED: &str = "vit and deit (also distilled), tiny, small, base and large, as in vit_base_patch16_224";

/// What timm's `config.json` says of preprocessing; `None` where the file is another's.
pub fn pretrained_cfg(json: &[u8]) -> Option<Map<String, Value>> {
    let config = json_object("", json).ok()?;
    let is_timm = config.contains_key("architecture") && !config.contains_key("architectures");
    config.get("pretrained_cfg").filter(|_| is_timm)?.as_object().cloned()
}

/// The same in Hugging Face's keys; `None` where the file is not timm's.
///
/// # Errors
/// [`Error::Unsupported`] for a model of timm's that is not ViT or DeiT, [`Error::Config`] for settings that change them.
pub fn translated(file: &str, object: &Map<String, Value>) -> Result<Option<Map<String, Value>>> {
    let fields = Fields { file, path: "", object };
    let Some(name) = fields.text("architecture")?.filter(|_| !object.contains_key("architectures")) else {
        return Ok(None);
    };
    let Some((class, [width, layers, heads], patch_size, image_size)) = parts(name) else {
        return Err(Error::Unsupported { what: "timm's architecture", found: name.to_owned(), supported: SUPPORTED });
    };
    if let Some(found) = object.get("global_pool").filter(|pool| !pool.is_null() && *pool != "token") {
        return Err(fields.error("global_pool", found, "token: a head that averages tokens needs all of them"));
    }
    if let Some(found) = object.get("model_args").filter(|args| args.as_object().is_none_or(|args| !args.is_empty())) {
        return Err(fields.error("model_args", found, "none: they change what the name says"));
    }
    let pretrained = object.get("pretrained_cfg").and_then(Value::as_object);
    let setting = |key: &str| object.get(key).or_else(|| pretrained?.get(key)).filter(|value| !value.is_null());
    let image_size = match setting("input_size").and_then(Value::as_array).map(Vec::as_slice) {
        Some([_, height, width]) => json!([height, width]),
        _ => json!([image_size, image_size]),
    };
    let num_labels = fields.size_or("num_classes", 1000, 0..=1 << 20)?;
    let (class, model_type) = match (class, num_labels) {
        (_, 0) => ("ViTModel", "vit"),
        ("distilled", _) => ("DeiTForImageClassificationWithTeacher", "deit"),
        _ => ("ViTForImageClassification", "vit"),
    };
    let mut config = json!({
        "architectures": [class],
        "model_type": model_type,
        "image_size": image_size,
        "patch_size": patch_size,
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "num_labels": num_labels,
    });
    if let Some(names) = setting("label_names").and_then(Value::as_array) {
        if names.len() != num_labels {
            let found = format!("{} names", names.len());
            return Err(fields.error("label_names", found, &format!("{num_labels} as in `num_classes`")));
        }
        config["id2label"] = names.iter().enumerate().map(|(label, name)| (label.to_string(), name.clone())).collect();
    }
    if let Some(ours) = object.get("sttabt") {
        config["sttabt"] = ours.clone();
    }
    match config {
        Value::Object(config) => Ok(Some(config)),
        _ => Ok(None),
    }
}

/// Class, sizes, patch and image size: `deit_tiny_distilled_patch16_224`.
fn parts(name: &str) -> Option<(&str, [usize; 3], usize, usize)> {
    let (family, rest) = name.split_once('_')?;
    let (size, rest) = rest.split_once('_')?;
    let (class, rest) = match rest.strip_prefix("distilled_") {
        Some(rest) if family == "deit" => ("distilled", rest),
        None if matches!(family, "vit" | "deit") => (family, rest),
        _ => return None,
    };
    let (patch_size, image_size) = rest.strip_prefix("patch")?.split_once('_')?;
    let (_, sizes) = SIZES.iter().find(|(named, _)| *named == size)?;
    Some((class, *sizes, patch_size.parse().ok()?, image_size.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_models() {
        assert_eq!(parts("vit_base_patch16_224"), Some(("vit", [768, 12, 12], 16, 224)));
        assert_eq!(parts("deit_tiny_distilled_patch16_224"), Some(("distilled", [192, 12, 3], 16, 224)));
        for other in [
            "vit_base_patch16_clip_224",
            "vit_small_patch14_dinov2",
            "resnet50",
            "vit_giant_patch14_224",
            "deit3_base_patch16_224",
        ] {
            assert_eq!(parts(other), None, "{other}");
        }
    }
}
