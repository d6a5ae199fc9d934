//! Text to wordpieces, through the `tokenizers` crate.

use serde_json::Value;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::PostProcessorWrapper;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::utils::truncation::{TruncationParams, TruncationStrategy};
use tokenizers::{AddedToken, EncodeInput, PostProcessor};

use super::config::TextConfig;
use super::files::ModelFiles;
use super::input::{Input, TextTokens};
use crate::error::{Error, Result};

/// A BERT tokenizer that truncates at the model's own limit; such settings in its file are ignored.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// What the model's embeddings can look up.
    limits: TextConfig,
}

impl Tokenizer {
    /// Reads `tokenizer.json`, or without one `vocab.txt`.
    pub fn from_files(files: &ModelFiles, limits: TextConfig) -> Result<Self> {
        match (files.get("tokenizer.json"), files.get("vocab.txt")) {
            (Some(json), _) => Self::from_tokenizer_json(json, limits),
            (None, Some(vocab)) => Self::from_vocab_txt(vocab, files.get("tokenizer_config.json"), limits),
            (None, None) => {
                Err(file_error("tokenizer.json", &"missing, and no vocab.txt either: a text model needs one of them"))
            }
        }
    }

    /// Reads a `tokenizer.json`.
    fn from_tokenizer_json(json: &[u8], limits: TextConfig) -> Result<Self> {
        const FILE: &str = "tokenizer.json";
        let mut parts: Value =
            serde_json::from_slice(json).map_err(|error| file_error(FILE, &format!("not JSON: {error}")))?;
        let Value::Object(object) = &mut parts else {
            return Err(file_error(FILE, &"expected a JSON object"));
        };
        // Not used here; and the crate panics on a decoder that it cannot read.
        for unused in ["decoder", "truncation", "padding"] {
            object.remove(unused);
        }
        // The crate panics on a broken map of characters and on a length of 0. No BERT has either.
        for (part, name) in [("normalizer", "Precompiled"), ("pre_tokenizer", "FixedLength")] {
            if object.get(part).is_some_and(|part| holds_type(part, name)) {
                let supported = "the other kinds of normalizers and pre-tokenizers";
                return Err(Error::Unsupported { what: "tokenizer.json: the kind", found: name.to_owned(), supported });
            }
        }
        let mut tokenizer: tokenizers::Tokenizer =
            serde_json::from_value(parts).map_err(|error| file_error(FILE, &error))?;
        match tokenizer.get_post_processor() {
            Some(processor) => check_special_tokens(processor, FILE)?,
            None => add_special_tokens(&mut tokenizer, FILE)?,
        }
        Self::limited(tokenizer, FILE, limits)
    }

    /// Reads a `vocab.txt`, with the settings of `tokenizer_config.json` if there is one (default: lower case).
    fn from_vocab_txt(vocab: &[u8], tokenizer_config: Option<&[u8]>, limits: TextConfig) -> Result<Self> {
        const FILE: &str = "vocab.txt";
        let settings: Value = match tokenizer_config {
            Some(json) => serde_json::from_slice(json)
                .map_err(|error| file_error("tokenizer_config.json", &format!("not JSON: {error}")))?,
            None => Value::Null,
        };
        let flag = |key: &str| settings.get(key).and_then(Value::as_bool);
        let vocab = WordPiece::read_bytes(vocab).map_err(|error| file_error(FILE, &error))?;
        let model = WordPiece::builder().vocab(vocab).build().map_err(|error| file_error(FILE, &error))?;
        let mut tokenizer = tokenizers::Tokenizer::new(model);
        let normalizer = BertNormalizer::new(
            true,
            flag("tokenize_chinese_chars").unwrap_or(true),
            flag("strip_accents"),
            flag("do_lower_case").unwrap_or(true),
        );
        tokenizer.with_normalizer(Some(normalizer)).map_err(|error| file_error(FILE, &error))?;
        tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
        add_special_tokens(&mut tokenizer, FILE)?;
        Self::limited(tokenizer, FILE, limits)
    }

    fn limited(mut inner: tokenizers::Tokenizer, file: &str, limits: TextConfig) -> Result<Self> {
        let last = inner.get_vocab(true).into_iter().max_by(|(a, a_id), (b, b_id)| (a_id, a).cmp(&(b_id, b)));
        if let Some((token, id)) = last.filter(|&(_, id)| id as usize >= limits.vocab_size) {
            let reason = format!("token `{token}` has id {id}, expected less than `vocab_size`, {}", limits.vocab_size);
            return Err(file_error(file, &reason));
        }
        let num_special = num_special(&inner, 1);
        if num_special >= limits.max_position_embeddings {
            let reason = format!(
                "{num_special} special tokens around a text, of {} tokens at most",
                limits.max_position_embeddings
            );
            return Err(file_error(file, &reason));
        }
        let truncation = TruncationParams {
            max_length: limits.max_position_embeddings,
            strategy: TruncationStrategy::LongestFirst,
            ..Default::default()
        };
        inner.with_truncation(Some(truncation)).map_err(|error| file_error(file, &error))?;
        inner.with_padding(None);
        Ok(Self { inner, limits })
    }

    /// The tokens of an input, `[CLS]` first. `index` is its place in the batch, for messages.
    ///
    /// # Errors
    /// [`Error::Input`] when a text holds no token, the model has no embedding for one of its tokens, or the input is no text.
    pub fn encode(&self, index: usize, input: &Input<'_>) -> Result<TextTokens> {
        let error = |reason: String| Error::Input { index, reason };
        let TextConfig { max_position_embeddings: max_tokens, vocab_size, type_vocab_size, .. } = self.limits;
        let (names, texts): (&[&str], EncodeInput<'_>) = match *input {
            Input::Text(text) => (&["the text"], text.into()),
            Input::Pair(text, pair) => (&["the first text", "the second text"], (text, pair).into()),
            Input::Image(_) => return Err(error("an image, but the model classifies texts".to_owned())),
        };
        // The crate's limit minus the special tokens would wrap around below 0.
        let num_special = num_special(&self.inner, names.len());
        if max_tokens < num_special + names.len() {
            let reason =
                format!("no room for its words: {max_tokens} tokens at most, of which {num_special} are special");
            return Err(error(reason));
        }
        let encoding = self.inner.encode(texts, true);
        let encoding = encoding.map_err(|failure| error(format!("the tokenizer failed: {failure}")))?;
        for (sequence, name) in names.iter().enumerate() {
            if !encoding.get_sequence_ids().contains(&Some(sequence)) {
                return Err(error(format!("{name} is empty, expected at least one word")));
            }
        }
        let tokens = TextTokens {
            input_ids: encoding.get_ids().to_vec(),
            token_type_ids: encoding.get_type_ids().to_vec(),
            tokens: encoding.get_tokens().to_vec(),
            truncated: !encoding.get_overflowing().is_empty(),
        };
        // The ids of special tokens stand in the tokenizer's file on their own, apart from its vocabulary.
        let checks = [
            ("id", &tokens.input_ids, "vocab_size", vocab_size),
            ("token type", &tokens.token_type_ids, "type_vocab_size", type_vocab_size),
        ];
        // A size of 0: the model has none of these.
        for (what, ids, key, size) in checks.into_iter().filter(|&(_, _, _, size)| size > 0) {
            if let Some(position) = ids.iter().position(|&id| id as usize >= size) {
                let (token, id) = (&tokens.tokens[position], ids[position]);
                return Err(error(format!("token `{token}` has {what} {id}, expected less than `{key}`, {size}")));
            }
        }
        Ok(tokens)
    }
}

/// Whether a part of a `tokenizer.json`, or one inside it, is of this type.
fn holds_type(part: &Value, name: &str) -> bool {
    match part {
        Value::Object(object) => {
            object.get("type").is_some_and(|found| found == name) || object.values().any(|part| holds_type(part, name))
        }
        Value::Array(parts) => parts.iter().any(|part| holds_type(part, name)),
        _ => false,
    }
}

/// How many tokens are put around one text or two.
fn num_special(tokenizer: &tokenizers::Tokenizer, num_texts: usize) -> usize {
    tokenizer.get_post_processor().map_or(0, |processor| processor.added_tokens(num_texts == 2))
}

/// What the `tokenizers` crate takes for granted when it applies a template, and that token 0 is `[CLS]`.
fn check_special_tokens(processor: &PostProcessorWrapper, file: &str) -> Result<()> {
    let bad = |reason: &str| Err(file_error(file, &format!("post_processor: {reason}")));
    match processor {
        PostProcessorWrapper::Bert(_) => return Ok(()),
        PostProcessorWrapper::Template(_) => {}
        _ => return bad("expected TemplateProcessing or BertProcessing"),
    }
    let template = serde_json::to_value(processor).map_err(|error| file_error(file, &error))?;
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

/// `[CLS]` text `[SEP]`, and for a pair text `[SEP]`.
fn add_special_tokens(tokenizer: &mut tokenizers::Tokenizer, file: &str) -> Result<()> {
    let special = |token: &str| match tokenizer.token_to_id(token) {
        Some(id) => Ok((token.to_owned(), id)),
        None => Err(file_error(file, &format!("the token {token} is missing"))),
    };
    let (sep, cls) = (special("[SEP]")?, special("[CLS]")?);
    // A special token that the vocabulary lacks would get an id that the model has no embedding for.
    let known =
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].iter().filter(|token| tokenizer.token_to_id(token).is_some());
    let tokens: Vec<_> = known.map(|token| AddedToken::from(*token, true)).collect();
    tokenizer.add_special_tokens(tokens).map_err(|error| file_error(file, &error))?;
    tokenizer.with_post_processor(Some(BertProcessing::new(sep, cls)));
    Ok(())
}

fn file_error(file: &str, error: &dyn ToString) -> Error {
    Error::File { file: file.to_owned(), reason: error.to_string() }
}
