//! What the `tokenizers` crate takes for granted, and panics without. In WebAssembly a panic is the end of the page's model.

use std::collections::HashMap;

use serde_json::{Map, Value};
use tokenizers::processors::PostProcessorWrapper;
use tokenizers::utils::SysRegex;
use tokenizers::{AddedToken, NormalizedString, Normalizer, NormalizerWrapper};

use super::charsmap;
use crate::error::{Error, Result};
use crate::models::fields::shortened;

/// Far above BERT's 100; the time for a word grows with the square of its length.
const MAX_CHARS_PER_WORD: u64 = 1000;

/// Far above what normalizers do to any text: a fraction becomes some characters.
const MAX_GROWTH: usize = 64;

/// Whether the crate can read the parts of a `tokenizer.json`; the reason if it cannot.
pub fn parts(json: &Map<String, Value>) -> Result<(), String> {
    component("normalizer", json.get("normalizer"))?;
    let growth = json.get("normalizer").map_or(1, growth);
    if growth > MAX_GROWTH {
        return Err(format!("normalizer: it makes a text up to {growth} times as long, expected at most {MAX_GROWTH}"));
    }
    component("pre_tokenizer", json.get("pre_tokenizer"))?;
    match json.get("model") {
        Some(Value::Object(model)) => self::model(model),
        _ => Ok(()),
    }
}

/// A normalizer or a pre-tokenizer, and those inside a sequence.
fn component(key: &str, part: Option<&Value>) -> Result<(), String> {
    let object = match part {
        Some(Value::Object(object)) => object,
        _ => return Ok(()),
    };
    let bad = |reason: &str| Err(format!("{key}: {reason}"));
    match object.get("type").and_then(Value::as_str) {
        None => return bad("a part without a `type`"),
        Some("Precompiled") => match object.get("precompiled_charsmap").and_then(Value::as_str) {
            Some(map) => {
                charsmap::check(map).or_else(|reason| bad(&format!("a broken map of characters: {reason}")))?
            }
            None => return bad("Precompiled without `precompiled_charsmap`"),
        },
        Some("Replace") if inserts(object) => {
            return bad("Replace puts text between any two characters: its pattern matches an empty text");
        }
        Some("FixedLength") if object.get("length") == Some(&Value::from(0)) => return bad("FixedLength of 0"),
        Some(_) => {}
    }
    for key in ["normalizers", "pretokenizers"] {
        let parts = object.get(key).and_then(Value::as_array);
        parts.into_iter().flatten().try_for_each(|part| component(key, Some(part)))?;
    }
    Ok(())
}

/// Whether a replacement puts something between any two characters, of which the crate loses count then.
fn inserts(replace: &Map<String, Value>) -> bool {
    let is_something = replace.get("content").and_then(Value::as_str).is_some_and(|content| !content.is_empty());
    let pattern = |kind: &str| replace.get("pattern")?.get(kind)?.as_str();
    // An expression that is none is an error of the crate.
    let is_match =
        |pattern: &str| SysRegex::new(pattern).is_ok_and(|regex| regex.find_iter("aa").any(|at| at == (1, 1)));
    is_something && (pattern("String") == Some("") || pattern("Regex").is_some_and(is_match))
}

/// How many times as long a text can become by replacements and prefixes, one after another.
fn growth(normalizer: &Value) -> usize {
    let length = |key: &str| normalizer.get(key).and_then(Value::as_str).map_or(0, str::len);
    match normalizer.get("type").and_then(Value::as_str) {
        Some("Sequence") => {
            let parts = normalizer.get("normalizers").and_then(Value::as_array);
            parts.into_iter().flatten().map(growth).fold(1, usize::saturating_mul)
        }
        Some("Replace") => {
            // What an expression finds may be a single byte, or nothing between any two.
            let pattern = normalizer.get("pattern").and_then(|pattern| pattern.get("String")?.as_str());
            match pattern.map_or(0, str::len) {
                0 => 1 + length("content"),
                found => length("content").div_ceil(found).max(1),
            }
        }
        _ => 1,
    }
}

fn model(model: &Map<String, Value>) -> Result<(), String> {
    if let Some(max) =
        model.get("max_input_chars_per_word").and_then(Value::as_u64).filter(|&max| max > MAX_CHARS_PER_WORD)
    {
        return Err(format!("model: `max_input_chars_per_word` is {max}, expected at most {MAX_CHARS_PER_WORD}"));
    }
    if let Some(dropout) = model.get("dropout").and_then(Value::as_f64).filter(|&dropout| dropout != 0.0) {
        return Err(format!("model: `dropout` is {dropout}: the same text would have other tokens each time"));
    }
    let (Some(Value::Object(vocab)), Some(Value::Array(merges))) = (model.get("vocab"), model.get("merges")) else {
        return Ok(());
    };
    let prefix = model.get("continuing_subword_prefix").and_then(Value::as_str).unwrap_or_default();
    for merge in merges {
        let pair = match merge {
            Value::String(pair) if pair.starts_with("#version") => continue,
            Value::String(pair) => pair.split_once(' '),
            Value::Array(pair) => match pair.as_slice() {
                [left, right] => left.as_str().zip(right.as_str()),
                _ => None,
            },
            _ => None,
        };
        let pair = pair.ok_or_else(|| format!("model: `merges`: {} is no pair", shortened(&merge.to_string())))?;
        self::merge(pair, prefix, |token| vocab.contains_key(token)).map_err(|reason| format!("model: {reason}"))?;
    }
    Ok(())
}

/// Both parts of a merge, and what they become, must be tokens.
pub fn merge((left, right): (&str, &str), prefix: &str, is_token: impl Fn(&str) -> bool) -> Result<(), String> {
    let merged = right.get(prefix.len()..).map(|rest| format!("{left}{rest}"));
    if merged.is_some_and(|merged| [left, right, &merged].into_iter().all(is_token)) {
        return Ok(());
    }
    Err(format!("the merge of `{}` and `{}` is not in the vocabulary", shortened(left), shortened(right)))
}

/// The added tokens as the crate can find them, in their order.
///
/// One whose normalized form is empty would be found everywhere, without end (huggingface/tokenizers#1349). Of two with the same form the crate
/// finds one or the other by chance; here the first. What cannot be found keeps its id, under a text that none holds.
///
/// # Errors
/// The token that would end before it begins: spaces that belong to the token before them.
pub fn added_tokens(
    tokens: Vec<AddedToken>,
    normalizer: Option<&NormalizerWrapper>,
    is_in_vocabulary: impl Fn(&str) -> bool,
) -> Result<Vec<AddedToken>, String> {
    let eats_spaces = tokens.iter().any(|token| token.rstrip);
    let mut findable = Vec::with_capacity(tokens.len());
    let mut contents: HashMap<String, String> = HashMap::new();
    for mut token in tokens {
        let mut normalized = NormalizedString::from(token.content.as_str());
        if let Some(normalizer) = normalizer.filter(|_| token.normalized) {
            normalizer.normalize(&mut normalized).map_err(|error| error.to_string())?;
        }
        let form = normalized.get();
        if eats_spaces && token.lstrip && form.trim().is_empty() && !form.is_empty() {
            return Err(format!("the added token {:?} is of spaces, with `lstrip` beside `rstrip`", token.content));
        }
        let is_first = !token.normalized
            || *contents.entry(form.to_owned()).or_insert_with(|| token.content.clone()) == token.content;
        if !is_first || (form.is_empty() && !token.content.is_empty()) {
            if is_in_vocabulary(&token.content) {
                continue;
            }
            // Noncharacters are for a program's own use.
            token.content = format!("\u{fdd0}{}\u{fdd1}", token.content);
            token.normalized = false;
        }
        findable.push(token);
    }
    Ok(findable)
}

/// What the crate takes for granted when it applies a template, and that token 0 is `[CLS]`.
pub fn special_tokens(processor: Option<&PostProcessorWrapper>, file: &str) -> Result<()> {
    let error = |reason: &str| Error::File { file: file.to_owned(), reason: format!("post_processor: {reason}") };
    let bad = |reason: &str| Err(error(reason));
    match processor {
        Some(PostProcessorWrapper::Bert(_) | PostProcessorWrapper::Roberta(_)) => return Ok(()),
        Some(PostProcessorWrapper::Template(_)) => {}
        // LLaMA's kind of file has the template beside one that moves offsets.
        _ => return bad("expected TemplateProcessing, BertProcessing or RobertaProcessing, which put [CLS] first"),
    }
    let template = serde_json::to_value(processor).map_err(|failure| error(&failure.to_string()))?;
    for (key, sequences) in [("single", &["A"][..]), ("pair", &["A", "B"])] {
        let pieces = template[key].as_array().map_or(&[][..], Vec::as_slice);
        let ids = |kind: &'static str| pieces.iter().filter_map(move |piece| piece[kind]["id"].as_str());
        if let Some(missing) = ids("SpecialToken").find(|id| template["special_tokens"].get(id).is_none()) {
            return bad(&format!("`{key}` names {missing}, which is not in `special_tokens`"));
        }
        let is_special = pieces.first().is_some_and(|piece| piece.get("SpecialToken").is_some());
        if !is_special || !ids("Sequence").eq(sequences.iter().copied()) {
            return bad(&format!("`{key}` is not [CLS] and then the sequences {}, each once", sequences.join(", ")));
        }
    }
    Ok(())
}
