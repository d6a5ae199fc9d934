//! What stands beside a vocabulary: `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json`, read as transformers reads them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use super::class::Class;
use crate::error::{Error, Result};
use crate::models::fields::{Fields, json_object, shortened};
use crate::models::files::{MODULES, ModelFiles};
use crate::models::json::INFINITY;

const CONFIG: &str = "tokenizer_config.json";
const MAP: &str = "special_tokens_map.json";
const ADDED: &str = "added_tokens.json";

/// The special tokens that have names, in the order in which they are added.
const NAMES: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

const EXTRA: &str = "extra_special_tokens";
/// Its older name.
const ADDITIONAL: &str = "additional_special_tokens";

/// A length that means none; transformers writes 1e30.
const NO_LENGTH: f64 = 1e20;

/// The settings of a tokenizer.
pub struct Settings {
    /// Of its name, or of the model's type, and whether it gives token types; `None` where no file says.
    pub class: Option<(Class, bool)>,
    /// `model_input_names`: whether token types are among them.
    pub gives_types: Option<bool>,
    pub lowercase: bool,
    pub strip_accents: Option<bool>,
    pub chinese_chars: bool,
    pub add_prefix_space: Option<bool>,
    /// Whether special tokens in a text are split like others.
    pub split_special_tokens: bool,
    /// Whether texts are lowercased before any other normaliser: sentence-transformers' own setting.
    pub lowers_texts: bool,
    /// Tokens of an input at most.
    pub max_length: Option<usize>,
    /// `truncation_side`
    pub truncates_left: Option<bool>,
    /// Those that files name.
    named: BTreeMap<String, AddedToken>,
    /// Special tokens with names of the model's own.
    own: Vec<AddedToken>,
    /// More special tokens; the first list that is not empty counts.
    extra: Vec<AddedToken>,
    /// By the ids that the files give them, which is the order of adding.
    added: BTreeMap<u32, AddedToken>,
}

impl Settings {
    /// Reads the files that are there. `of_tokenizer_json` are the added tokens of `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Config`] or [`Error::Unsupported`] names what cannot be read or is not computed.
    pub fn read(files: &ModelFiles, of_tokenizer_json: &[(u32, AddedToken)]) -> Result<Self> {
        let object = |name: &str| files.get(name).map_or(Ok(Map::new()), |json| json_object(name, json));
        let config = object(CONFIG)?;
        let fields = Fields { file: CONFIG, path: "", object: &config };
        let length = length(&fields)?;
        let (sentence_length, lowers_texts) = sentence_settings(files)?;
        let mut settings = Self {
            class: class(&fields, &object("config.json")?)?,
            gives_types: match config.get("model_input_names") {
                None | Some(Value::Null) => None,
                Some(Value::Array(names)) => Some(names.iter().any(|name| name == "token_type_ids")),
                Some(other) => return Err(fields.error("model_input_names", other, "a list of names")),
            },
            lowercase: fields.flag("do_lower_case")?.unwrap_or(true),
            strip_accents: fields.flag("strip_accents")?,
            chinese_chars: fields.flag("tokenize_chinese_chars")?.unwrap_or(true),
            add_prefix_space: fields.flag("add_prefix_space")?,
            split_special_tokens: fields.flag("split_special_tokens")?.unwrap_or(false),
            lowers_texts,
            max_length: sentence_length.or(length),
            truncates_left: match fields.text("truncation_side")? {
                None => None,
                Some("left") => Some(true),
                Some("right") => Some(false),
                Some(other) => return Err(fields.error("truncation_side", format!("{other:?}"), "left or right")),
            },
            named: BTreeMap::new(),
            own: Vec::new(),
            extra: Vec::new(),
            added: BTreeMap::new(),
        };
        settings.read_special(&fields)?;
        match config.get("added_tokens_decoder") {
            // This list replaces all others.
            Some(Value::Object(tokens)) => {
                let expected = "added tokens by their ids";
                for (id, value) in tokens {
                    let id = id.parse().map_err(|_| fields.error("added_tokens_decoder", id, expected))?;
                    let token = token(value, false).filter(|_| value.is_object());
                    let token = token.ok_or_else(|| fields.error("added_tokens_decoder", value, expected))?;
                    settings.added.insert(id, token);
                }
            }
            None | Some(Value::Null) => {
                let map = object(MAP)?;
                settings.read_special(&Fields { file: MAP, path: "", object: &map })?;
                settings.read_added(&object(ADDED)?)?;
                settings.added.extend(of_tokenizer_json.iter().cloned());
            }
            Some(other) => return Err(fields.error("added_tokens_decoder", other, "an object")),
        }
        // A token that is listed keeps what the list says of it.
        for listed in settings.added.values_mut() {
            for named in settings.named.values_mut().filter(|named| named.content == listed.content) {
                listed.special = true;
                *named = listed.clone();
            }
        }
        Ok(settings)
    }

    /// Special tokens, of either file that has them.
    fn read_special(&mut self, fields: &Fields<'_>) -> Result<()> {
        let expected = "a token, or an object with its `content`";
        let read = |key: &str, value: &Value| token(value, true).ok_or_else(|| fields.error(key, value, expected));
        for (key, value) in fields.object {
            match (key.as_str(), value) {
                (EXTRA, Value::Object(values)) => {
                    for value in values.values() {
                        self.own.push(read(key, value)?);
                    }
                }
                (EXTRA | ADDITIONAL, Value::Array(_) | Value::Null) => {}
                (EXTRA | ADDITIONAL, other) => return Err(fields.error(key, other, "a list of tokens")),
                (name, value) if NAMES.contains(&name) && !value.is_null() => {
                    self.named.insert(name.to_owned(), read(name, value)?);
                }
                // Other keys may end so too.
                (name, Value::String(_)) if name.ends_with("_token") => self.own.push(read(name, value)?),
                _ => {}
            }
        }
        for key in [EXTRA, ADDITIONAL] {
            if let (true, Some(Value::Array(values))) = (self.extra.is_empty(), fields.object.get(key)) {
                self.extra = values.iter().map(|value| read(key, value)).collect::<Result<_>>()?;
            }
        }
        Ok(())
    }

    /// `added_tokens.json`: ids by token.
    fn read_added(&mut self, tokens: &Map<String, Value>) -> Result<()> {
        let fields = Fields { file: ADDED, path: "", object: tokens };
        for (content, id) in tokens {
            let id = fields.size_of(&shortened(content), id, 0..=u32::MAX as usize)?;
            let is_special =
                self.named.values().chain(&self.own).chain(&self.extra).any(|token| token.content == *content);
            self.added.insert(id as u32, AddedToken::from(content.as_str(), is_special));
        }
        Ok(())
    }

    /// A special token: of the files, else the class's own.
    pub fn special(&self, class: Class, name: &str) -> Option<AddedToken> {
        let (_, own) = class.special_tokens().iter().find(|(own, _)| *own == name)?;
        let named = self.named.get(name).cloned();
        Some(named.unwrap_or_else(|| {
            let listed = self.added.values().find(|listed| listed.content == *own).cloned();
            listed.unwrap_or_else(|| AddedToken::from(*own, true).lstrip((class, name) == MASK_OF_CAMEMBERT))
        }))
    }

    /// All special tokens that have names.
    pub fn specials(&self, class: Class) -> Vec<AddedToken> {
        let special = |name: &&str| match class {
            Class::AsItIs => self.named.get(*name).cloned(),
            class => self.special(class, name).or_else(|| self.named.get(*name).cloned()),
        };
        NAMES.iter().filter_map(special).collect()
    }

    /// The tokens to add, in this order. `own` are those of `tokenizer.json` where it is taken as it is.
    pub fn tokens(&self, class: Class, own: &[(u32, AddedToken)]) -> Vec<AddedToken> {
        let mut tokens: Vec<AddedToken> = own.iter().map(|(_, token)| token.clone()).collect();
        tokens.extend(self.added.values().cloned());
        for token in self.specials(class).into_iter().chain(self.own.iter().chain(&self.extra).cloned()) {
            if tokens.iter().all(|known| known.content != token.content) {
                tokens.push(token);
            }
        }
        tokens
    }
}

/// The one whose spaces before it belong to it.
const MASK_OF_CAMEMBERT: (Class, &str) = (Class::Camembert, "mask_token");

/// The class that `tokenizer_config.json` names, else `config.json`, else that of the model's type.
fn class(fields: &Fields<'_>, model: &Map<String, Value>) -> Result<Option<(Class, bool)>> {
    let model = Fields { file: "config.json", path: "", object: model };
    if let Some(name) = fields.text("tokenizer_class")?.or(model.text("tokenizer_class")?) {
        return Class::named(name).map(Some);
    }
    // Its folders name the class in config.json alone, which may not be at hand.
    if ["word_tokenizer_type", "subword_tokenizer_type", "mecab_kwargs"]
        .iter()
        .any(|key| fields.object.contains_key(*key))
    {
        return Class::named("BertJapaneseTokenizer").map(Some);
    }
    Ok(model.text("model_type")?.and_then(Class::of_model_type))
}

/// `model_max_length`, or its older name.
fn length(fields: &Fields<'_>) -> Result<Option<usize>> {
    let key = if fields.object.contains_key("model_max_length") { "model_max_length" } else { "max_len" };
    match fields.object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) if value == INFINITY || value.as_f64().is_some_and(|length| length > NO_LENGTH) => Ok(None),
        Some(value) => {
            // Some files have 512.0.
            let length = value.as_f64().filter(|length| *length >= 1.0 && length.fract() == 0.0);
            let length = length.ok_or_else(|| fields.error(key, value, "a whole number from 1"))?;
            Ok(Some(length as usize))
        }
    }
}

/// Of sentence-transformers: the limit that takes the place of the tokenizer's, and whether texts are lowercased.
fn sentence_settings(files: &ModelFiles) -> Result<(Option<usize>, bool)> {
    let names = ModelFiles::KNOWN.others.iter().filter(|name| name.starts_with("sentence_"));
    let found = names.filter_map(|name| Some((*name, files.get(name)?))).next();
    let Some((file, json)) = found.filter(|_| files.get(MODULES).is_some()) else { return Ok((None, false)) };
    let object = json_object(file, json)?;
    let fields = Fields { file, path: "", object: &object };
    let length = |fields: &Fields<'_>, key: &str| {
        let length = fields.object.get(key).filter(|length| !length.is_null());
        length.map(|length| fields.size_of(key, length, 1..=1 << 20)).transpose()
    };
    let own = length(&fields, "max_seq_length")?;
    let mut of_call = None;
    for (kind, settings) in object.get("processing_kwargs").and_then(Value::as_object).into_iter().flatten() {
        let Value::Object(settings) = settings else {
            return Err(fields.error(&format!("processing_kwargs.{kind}"), settings, "an object"));
        };
        let path = format!("processing_kwargs.{kind}.");
        let fields = Fields { file, path: &path, object: settings };
        for (key, value) in settings {
            match (kind.as_str(), key.as_str(), value) {
                ("text", "max_length", _) => of_call = length(&fields, key)?,
                // Nothing is padded here, and texts are always cut.
                ("text", "padding" | "return_tensors", _) | ("text", "truncation", Value::Bool(true)) => {}
                ("text", "truncation", Value::String(strategy)) if strategy == "longest_first" => {}
                _ => return Err(fields.error(key, value, "max_length of text alone, with truncation")),
            }
        }
    }
    Ok((of_call.or(own), fields.flag("do_lower_case")?.unwrap_or(false)))
}

/// A token as its text, or with its settings.
fn token(value: &Value, is_special: bool) -> Option<AddedToken> {
    let object = match value {
        Value::String(content) => return Some(AddedToken::from(content.as_str(), is_special)),
        Value::Object(object) => object,
        _ => return None,
    };
    let flag = |key: &str, default: bool| match object.get(key) {
        None => Some(default),
        Some(value) => value.as_bool(),
    };
    let token = AddedToken::from(object.get("content")?.as_str()?, is_special || flag("special", false)?);
    Some(AddedToken {
        single_word: flag("single_word", false)?,
        lstrip: flag("lstrip", false)?,
        rstrip: flag("rstrip", false)?,
        normalized: flag("normalized", !token.special)?,
        ..token
    })
}

/// The added tokens of a `tokenizer.json`, with the ids that it gives them.
pub fn tokens_of(json: &Map<String, Value>) -> Result<Vec<(u32, AddedToken)>, String> {
    let tokens = match json.get("added_tokens") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(tokens)) => tokens,
        Some(_) => return Err("`added_tokens` is not a list".to_owned()),
    };
    let read = |value: &Value| {
        let id = value.get("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
        id.zip(token(value, false))
    };
    let bad = |value: &Value| format!("`added_tokens`: {} is no token with an id", shortened(&value.to_string()));
    tokens.iter().map(|value| read(value).ok_or_else(|| bad(value))).collect()
}

/// What is wrong with a file.
pub fn file_error(file: &str, error: &dyn ToString) -> Error {
    Error::File { file: file.to_owned(), reason: error.to_string() }
}
