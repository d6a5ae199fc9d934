//! sentence-transformers' `modules.json`: how an embedder makes one vector of its hidden states.

use serde_json::Value;

use super::fields::{Fields, json_object, shortened};
use super::files::{MODULES, ModelFiles, PROMPTS};
use super::json;
use crate::error::{Error, Result};

/// How an embedder makes one vector of its last hidden states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pooling {
    /// Which hidden states.
    pub mode: PoolingMode,
    /// Whether the vector gets the length 1 (L2).
    pub normalize: bool,
    /// So many numbers of the vector are given, the first ones, as they are in the whole; all without.
    pub truncate_dim: Option<usize>,
}

/// Which hidden states an embedding is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolingMode {
    /// That of `[CLS]`.
    Cls,
    /// The mean of all tokens', special ones included.
    Mean,
}

impl Pooling {
    /// Where no file says how: `[CLS]`, normalised.
    pub const DEFAULT: Self = Self { mode: PoolingMode::Cls, normalize: true, truncate_dim: None };

    /// Reads `modules.json` and the pooling's `config.json`; `None` where the folder is no embedder of sentence-transformers.
    ///
    /// # Errors
    /// [`Error::File`] and [`Error::Config`] for broken files; [`Error::Unsupported`] names a module or a way of pooling that is not computed
    /// here.
    pub fn from_files(files: &ModelFiles) -> Result<Option<Self>> {
        const FILE: &str = MODULES;
        let Some(bytes) = files.get(FILE) else { return Ok(None) };
        let error = |reason: String| Error::File { file: FILE.to_owned(), reason };
        let Value::Array(modules) = json::parse(bytes).map_err(error)? else {
            return Err(error("no list of modules".to_owned()));
        };
        let text = |module: &Value, key| module.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (mut mode, mut normalize) = (None, false);
        for module in &modules {
            let name = text(module, "type");
            match name.rsplit('.').next().unwrap_or_default() {
                "Transformer" if !text(module, "path").trim_end_matches('/').is_empty() => {
                    return Err(error(format!(
                        "the transformer is in the folder `{}`, where it is not looked for: save the model again with sentence-transformers",
                        shortened(&text(module, "path"))
                    )));
                }
                "Transformer" => {}
                "Pooling" => mode = Some(mode_of(files, &text(module, "path"))?),
                "Normalize" if mode.is_none() => {
                    let reason = "vectors are made of hidden states as they are, and normalised after that";
                    return Err(Error::Refused { what: "module of modules.json", found: shortened(&name), reason });
                }
                "Normalize" => {
                    check_normalize(files, &text(module, "path"))?;
                    normalize = true;
                }
                // What a reranker is listed with.
                "CrossEncoder" => return Ok(None),
                _ => {
                    let supported = "Transformer, Pooling, Normalize";
                    return Err(Error::Unsupported {
                        what: "module of modules.json",
                        found: shortened(&name),
                        supported,
                    });
                }
            }
        }
        let Some(mode) = mode else { return Ok(None) };
        Ok(Some(Self { mode, normalize, truncate_dim: truncate_dim(files)? }))
    }
}

/// `truncate_dim` of `config_sentence_transformers.json`.
fn truncate_dim(files: &ModelFiles) -> Result<Option<usize>> {
    const KEY: &str = "truncate_dim";
    let Some(json) = files.get(PROMPTS) else { return Ok(None) };
    let object = json_object(PROMPTS, json)?;
    let fields = Fields { file: PROMPTS, path: "", object: &object };
    let dim = object.get(KEY).filter(|dim| !dim.is_null());
    dim.map(|dim| fields.size_of(KEY, dim, 1..=1 << 20)).transpose()
}

/// Refuses to normalise anything but the vector.
fn check_normalize(files: &ModelFiles, path: &str) -> Result<()> {
    let file = format!("{}/config.json", path.trim_end_matches('/'));
    let Some(json) = files.get(&file) else { return Ok(()) };
    let object = json_object(&file, json)?;
    let fields = Fields { file: &file, path: "", object: &object };
    for key in ["module_input_name", "module_output_name"] {
        if let Some(found) = fields.text(key)?.filter(|name| *name != "sentence_embedding") {
            return Err(fields.error(key, format!("{found:?}"), "sentence_embedding"));
        }
    }
    Ok(())
}

/// What stands before every text of an embedder, or before the first text of a cross-encoder's pair. It is the prompt
/// that `config_sentence_transformers.json` names as the default one, and in most files nothing.
/// sentence-transformers does the same, unless its caller says otherwise. A file of another kind of model is not this
/// model's.
///
/// # Errors
/// [`Error::File`] and [`Error::Config`] for a broken file, or a name without a prompt.
pub fn default_prompt(files: &ModelFiles, embeds: bool) -> Result<String> {
    const KEY: &str = "default_prompt_name";
    let Some(json) = files.get(PROMPTS) else { return Ok(String::new()) };
    let object = json_object(PROMPTS, json)?;
    let fields = Fields { file: PROMPTS, path: "", object: &object };
    let is_own = match fields.text("model_type")? {
        Some("CrossEncoder") => !embeds && files.get(MODULES).is_some(),
        // Older files say nothing.
        None | Some("SentenceTransformer") => embeds,
        Some(_) => false,
    };
    if !is_own {
        return Ok(String::new());
    }
    let Some(name) = fields.text(KEY)? else { return Ok(String::new()) };
    let prompts = object.get("prompts").and_then(Value::as_object);
    let prompt = prompts.and_then(|prompts| prompts.get(name)?.as_str());
    prompt.map(str::to_owned).ok_or_else(|| Error::Config {
        file: PROMPTS.to_owned(),
        key: KEY.to_owned(),
        found: format!("`{}`", shortened(name)),
        expected: "a name that `prompts` has a text for".to_owned(),
    })
}

/// The one way of pooling in a module's `config.json`.
fn mode_of(files: &ModelFiles, path: &str) -> Result<PoolingMode> {
    let folder = path.trim_end_matches('/');
    let file = if folder.is_empty() { "config.json".to_owned() } else { format!("{folder}/config.json") };
    let missing = || Error::File { file: file.clone(), reason: "missing, and modules.json names it".to_owned() };
    let object = json_object(&file, files.get(&file).ok_or_else(missing)?)?;
    let fields = Fields { file: &file, path: "", object: &object };
    let chosen: Vec<&str> = match object.get("pooling_mode") {
        Some(Value::Array(modes)) if modes.iter().all(Value::is_string) => {
            modes.iter().filter_map(Value::as_str).collect()
        }
        Some(Value::String(mode)) => vec![mode],
        Some(other) if !other.is_null() => return Err(fields.error("pooling_mode", other, "a way of pooling")),
        _ => {
            // A mean is what a file asks for that does not speak of it.
            let mean = ("pooling_mode_mean_tokens", &Value::Bool(true));
            let unsaid = if object.contains_key(mean.0) { None } else { Some(mean) };
            let said = object.iter().map(|(key, value)| (key.as_str(), value));
            let modes = said.chain(unsaid).filter(|(_, value)| **value == Value::Bool(true));
            modes.filter_map(|(key, _)| key.strip_prefix("pooling_mode_")).collect()
        }
    };
    match chosen.as_slice() {
        ["cls" | "cls_token"] => Ok(PoolingMode::Cls),
        ["mean" | "mean_tokens"]
            if fields.flag("include_prompt")? == Some(false) && !default_prompt(files, true)?.is_empty() =>
        {
            Err(Error::Refused {
                what: "pooling",
                found: "include_prompt = false".to_owned(),
                reason: "a mean without the tokens of the default prompt is not computed here",
            })
        }
        ["mean" | "mean_tokens"] => Ok(PoolingMode::Mean),
        other => Err(Error::Unsupported {
            what: "pooling",
            found: if other.is_empty() { "(none)".to_owned() } else { other.join(" + ") },
            supported: "cls_token or mean_tokens, one of them",
        }),
    }
}
