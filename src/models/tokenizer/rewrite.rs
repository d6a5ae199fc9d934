//! A `tokenizer.json` as its class would have it: transformers takes vocabulary and merges from the file, and all else from the settings.

use serde_json::{Map, Value, json};

use super::class::Class;
use super::settings::Settings;

/// Lines of `vocab.txt` as a `tokenizer.json`.
pub fn of_vocab_txt(vocab: &str) -> Map<String, Value> {
    // Of two lines alike the last counts; blank ones are one token, which no text has.
    let vocab = vocab.lines().enumerate().map(|(id, token)| (token.trim_end().to_owned(), Value::from(id)));
    of_model([("type", "WordPiece".into()), ("vocab", Value::Object(vocab.collect()))])
}

/// `vocab.json` and `merges.txt` as a `tokenizer.json`.
pub fn of_merges(vocab: Map<String, Value>, merges: &str) -> Map<String, Value> {
    let merges = merges.lines().filter(|line| !line.starts_with("#version") && !line.is_empty());
    let merges = merges.map(Value::from).collect();
    of_model([("type", "BPE".into()), ("vocab", Value::Object(vocab)), ("merges", Value::Array(merges))])
}

fn of_model<const N: usize>(model: [(&str, Value); N]) -> Map<String, Value> {
    let model = model.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Map::from_iter([("model".to_owned(), Value::Object(model))])
}

/// The class that files mean which do not say: that of the model's kind.
pub fn usual_class(json: &Map<String, Value>) -> (Class, bool) {
    match kind(json.get("model")) {
        Some("WordPiece") => (Class::Bert, true),
        Some("BPE") => (Class::Roberta, false),
        // XLM-R's is the same, if its unknown token is in its place.
        Some("Unigram") => (Class::Camembert, false),
        _ => (Class::AsItIs, false),
    }
}

/// Puts the parts of the class in place of the file's. The reason is the error.
pub fn rewrite(json: &mut Map<String, Value>, class: Class, settings: &Settings) -> Result<(), String> {
    let expected = match class {
        Class::AsItIs => return Ok(()),
        Class::Bert => "WordPiece",
        Class::Roberta => "BPE",
        Class::XlmRoberta | Class::Camembert => "Unigram",
    };
    match kind(json.get("model")) {
        // The crate says what is wrong with the model.
        None => return Ok(()),
        Some(found) if found != expected => {
            let way_out = "where tokenizer.json holds as it is, `tokenizer_class` must be PreTrainedTokenizerFast";
            return Err(format!("a model of the kind {found}, but a {} is {expected}; {way_out}", class.name()));
        }
        Some(_) => {}
    }
    let mut model = json.remove("model").unwrap_or_default();
    let mut take = |key: &str| model.get_mut(key).map(Value::take).unwrap_or_default();
    let (vocab, merges) = (take("vocab"), take("merges"));
    let unknown = settings.special(class, "unk_token").map(|token| token.content).unwrap_or_default();
    let (mut model, normalizer, pre_tokenizer) = match class {
        Class::AsItIs => return Ok(()),
        Class::Bert => (
            json!({"type": "WordPiece", "unk_token": unknown, "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100}),
            json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": settings.chinese_chars,
                "strip_accents": settings.strip_accents, "lowercase": settings.lowercase}),
            json!({"type": "BertPreTokenizer"}),
        ),
        Class::Roberta => (
            json!({"type": "BPE", "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": false,
                "byte_fallback": false}),
            Value::Null,
            json!({"type": "ByteLevel", "add_prefix_space": settings.add_prefix_space.unwrap_or(false),
                "trim_offsets": true, "use_regex": true}),
        ),
        Class::XlmRoberta | Class::Camembert => {
            let is_unknown = |piece: &Value| piece[0] == unknown.as_str();
            let named = vocab.as_array().and_then(|vocab| vocab.iter().position(is_unknown)).unwrap_or(0);
            let unknown = if class == Class::XlmRoberta { 3 } else { named };
            let scheme = if settings.add_prefix_space.unwrap_or(true) { "always" } else { "never" };
            (
                json!({"type": "Unigram", "unk_id": unknown, "byte_fallback": false}),
                json.get_mut("normalizer").and_then(precompiled).unwrap_or_default(),
                json!({"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"},
                    {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": true}]}),
            )
        }
    };
    if class == Class::Roberta {
        model["merges"] = merges;
    }
    model["vocab"] = vocab;
    for (key, part) in [("model", model), ("normalizer", normalizer), ("pre_tokenizer", pre_tokenizer)] {
        json.insert(key.to_owned(), part);
    }
    json.remove("post_processor");
    Ok(())
}

/// A model's `type`, which old files lack.
fn kind(model: Option<&Value>) -> Option<&str> {
    let model = model?.as_object()?;
    match model.get("type") {
        Some(kind) => kind.as_str(),
        None if model.contains_key("merges") => Some("BPE"),
        None if model.get("vocab")?.is_array() => Some("Unigram"),
        None if model.contains_key("continuing_subword_prefix") => Some("WordPiece"),
        None => None,
    }
}

/// The map of characters, alone or in a sequence.
fn precompiled(normalizer: &mut Value) -> Option<Value> {
    let is_map = |part: &Value| part["type"] == "Precompiled";
    if is_map(normalizer) {
        return Some(normalizer.take());
    }
    normalizer.get_mut("normalizers")?.as_array_mut()?.iter_mut().find(|part| is_map(part)).map(Value::take)
}
