//! Text to tokens, through the `tokenizers` crate.

mod charsmap;
mod check;
mod class;
mod pieces;
mod query;
mod rewrite;
mod settings;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::{Map, Value};
use tokenizers::normalizers::{Lowercase, NormalizerWrapper, Sequence};
use tokenizers::processors::bert::BertProcessing;
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::tokenizer::{OffsetReferential, OffsetType};
use tokenizers::utils::truncation::{TruncationDirection, TruncationParams, TruncationStrategy};
use tokenizers::{EncodeInput, Encoding, Model as _, PostProcessor, PreTokenizedString, PreTokenizer as _};

use super::config::TextConfig;
use super::fields::json_object;
use super::files::ModelFiles;
use super::input::{Input, TextTokens};
use crate::error::{Error, Result};
use class::Class;
use pieces::Marks;
pub use pieces::Piece;
use pieces::separators;
pub use query::{Passage, Query};
use settings::{Settings, file_error};

/// A text model's tokenizer. It makes the same tokens as today's transformers from the same files, and cuts them at
/// the model's limit.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// What the model's embeddings can look up.
    limits: TextConfig,
    /// Tokens of an input: the model's limit, or fewer if the settings say so.
    max_tokens: usize,
    /// Whether the beginning of a long text is cut.
    truncates_left: bool,
    /// Whether a pair's second text has other token types; else all are 0.
    gives_types: bool,
    marks: Marks,
    /// White space on whose sides words are always tokens of their own.
    separators: &'static [char],
}

impl Tokenizer {
    /// Reads `tokenizer.json`, or without one `vocab.txt`, or `vocab.json` and `merges.txt`; and the settings beside them.
    pub fn from_files(files: &ModelFiles, limits: TextConfig) -> Result<Self> {
        let (file, mut json) = vocabulary(files)?;
        let own = settings::tokens_of(&json).map_err(|reason| file_error(file, &reason))?;
        let settings = Settings::read(files, &own)?;
        let (class, gives_types) = settings.class.unwrap_or_else(|| rewrite::usual_class(&json));
        if class == Class::AsItIs && file != "tokenizer.json" {
            return Err(file_error("tokenizer.json", &format!("missing, and {} is nothing without it", class.name())));
        }
        let truncates_left = settings
            .truncates_left
            .unwrap_or_else(|| json.get("truncation").is_some_and(|truncation| truncation["direction"] == "Left"));
        // Not used here; and the crate panics on a decoder that it cannot read. Tokens are added below.
        for unused in ["decoder", "truncation", "padding", "added_tokens"] {
            json.remove(unused);
        }
        rewrite::rewrite(&mut json, class, &settings).map_err(|reason| file_error(file, &reason))?;
        check::parts(&json).map_err(|reason| file_error(file, &reason))?;
        let (marks, separators) = (Marks::of(&json), separators(&json));
        let mut inner: tokenizers::Tokenizer =
            serde_json::from_value(Value::Object(json)).map_err(|error| file_error(file, &error))?;
        check_ids(&inner, file, limits)?;
        let own = if class == Class::AsItIs { &own[..] } else { &[] };
        let is_token = |token: &str| inner.get_model().token_to_id(token).is_some();
        let tokens = check::added_tokens(settings.tokens(class, own), inner.get_normalizer(), is_token);
        let mut tokens = tokens.map_err(|reason| file_error(file, &reason))?;
        // A special token that neither the vocabulary nor the embeddings have is not made up; its text is a text like any other.
        let specials = settings.specials(class);
        let (mut next, mut seen) = (inner.get_model().get_vocab_size(), HashSet::new());
        tokens.retain(|token| {
            let is_known = is_token(&token.content) || !seen.insert(token.content.clone());
            next += usize::from(!is_known);
            is_known || next <= limits.vocab_size || specials.iter().all(|special| special.content != token.content)
        });
        inner.add_tokens(tokens).map_err(|error| file_error(file, &error))?;
        check_ids(&inner, file, limits)?;
        match class {
            Class::AsItIs => check::special_tokens(inner.get_post_processor(), file)?,
            class => frame(&mut inner, class, &settings, file, limits)?,
        }
        inner.set_encode_special_tokens(settings.split_special_tokens);
        let max_tokens = settings.max_length.unwrap_or(usize::MAX).min(limits.max_position_embeddings);
        let num_special = num_special(&inner, 1);
        if num_special >= max_tokens {
            let reason = format!("{num_special} special tokens around a text, of {max_tokens} tokens at most");
            return Err(file_error(file, &reason));
        }
        let truncation = TruncationParams {
            max_length: max_tokens,
            strategy: TruncationStrategy::LongestFirst,
            direction: if truncates_left { TruncationDirection::Left } else { TruncationDirection::Right },
            ..Default::default()
        };
        inner.with_truncation(Some(truncation)).map_err(|error| file_error(file, &error))?;
        inner.with_padding(None);
        if settings.lowers_texts {
            // Before all others. Special tokens are found in the text as it is.
            let own = inner.get_normalizer().cloned();
            let all = [Some(NormalizerWrapper::from(Lowercase)), own].into_iter().flatten().collect();
            inner.with_normalizer(Some(Sequence::new(all))).map_err(|error| file_error(file, &error))?;
        }
        let gives_types = settings.gives_types.unwrap_or(gives_types) && limits.type_vocab_size > 0;
        Ok(Self { inner, limits, max_tokens, truncates_left, gives_types, marks, separators })
    }

    /// See [`Model::max_tokens`](crate::Model::max_tokens).
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// See [`Model::truncates_left`](crate::Model::truncates_left).
    pub fn truncates_left(&self) -> bool {
        self.truncates_left
    }

    /// The token of an id.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Tokens as people read them.
    pub fn pieces(&self, tokens: &[String]) -> Vec<Piece> {
        let added = self.inner.get_added_vocabulary().get_vocab();
        self.marks.pieces(tokens, |token| added.contains_key(token))
    }

    /// The tokens of an input, `[CLS]` first. `index` is its place in the batch, for messages.
    ///
    /// # Errors
    /// [`Error::Input`] when a text holds no token, the model has no embedding for one of its tokens, or the input is no text.
    pub fn encode(&self, index: usize, input: &Input<'_>) -> Result<TextTokens> {
        let error = |reason: String| Error::Input { index, reason };
        let (names, texts): (&[&str], EncodeInput<'_>) = match *input {
            Input::Text(text) => (&["the text"], text.into()),
            Input::Pair(text, pair) => (&["the first text", "the second text"], (text, pair).into()),
            Input::Image(_) => return Err(error("an image, but the model classifies texts".to_owned())),
        };
        // The crate's limit minus the special tokens would wrap around below 0.
        let (num_special, max_tokens) = (num_special(&self.inner, names.len()), self.max_tokens);
        if max_tokens < num_special + names.len() {
            let reason =
                format!("no room for its words: {max_tokens} tokens at most, of which {num_special} are special");
            return Err(error(reason));
        }
        let encoding = self.encoding(input, texts, max_tokens - num_special);
        let encoding = encoding.map_err(|failure| error(format!("the tokenizer failed: {failure}")))?;
        for (sequence, name) in names.iter().enumerate() {
            if !encoding.get_sequence_ids().contains(&Some(sequence)) {
                return Err(error(format!("{name} is empty, expected at least one word")));
            }
        }
        self.text_tokens(&encoding).map_err(error)
    }

    /// What the model reads of an encoding; the reason if it has no embedding for one of its tokens.
    fn text_tokens(&self, encoding: &Encoding) -> Result<TextTokens, String> {
        let types = encoding.get_type_ids();
        let tokens = TextTokens {
            input_ids: encoding.get_ids().to_vec(),
            token_type_ids: if self.gives_types { types.to_vec() } else { vec![0; types.len()] },
            tokens: encoding.get_tokens().to_vec(),
            truncated: !encoding.get_overflowing().is_empty(),
        };
        // The ids of special tokens stand in the tokenizer's file on their own, apart from its vocabulary.
        let checks = [
            ("id", &tokens.input_ids, "vocab_size", self.limits.vocab_size),
            ("token type", &tokens.token_type_ids, "type_vocab_size", self.limits.type_vocab_size),
        ];
        // A size of 0: the model has none of these.
        for (what, ids, key, size) in checks.into_iter().filter(|&(_, _, _, size)| size > 0) {
            if let Some(position) = ids.iter().position(|&id| id as usize >= size) {
                let (token, id) = (&tokens.tokens[position], ids[position]);
                return Err(format!("token `{token}` has {what} {id}, expected less than `{key}`, {size}"));
            }
        }
        Ok(tokens)
    }

    /// A text, or a pair of which both texts are cut as transformers cuts them.
    fn encoding(&self, input: &Input<'_>, texts: EncodeInput<'_>, room: usize) -> Result<Encoding, String> {
        let encode = || {
            let encoding = self.inner.encode(texts, true)?;
            match *input {
                Input::Pair(text, pair) if room % 2 == 1 && !encoding.get_overflowing().is_empty() => {
                    self.halved(text, pair, room).map(|other| other.unwrap_or(encoding))
                }
                _ => Ok(encoding),
            }
        };
        caught(encode)
    }

    /// A pair of texts that are both cut, to half of an odd number of tokens each. The longer one has one token more,
    /// or the second one if both are as long. The crate compares their lengths when it has cut them once already.
    /// `None` where it is right.
    fn halved(&self, text: &str, pair: &str, room: usize) -> tokenizers::Result<Option<Encoding>> {
        let half = room / 2;
        let (length, pair_length) = (self.num_tokens(text)?, self.num_tokens(pair)?);
        if length.min(pair_length) <= half {
            return Ok(None);
        }
        let kept = if length > pair_length { [half + 1, half] } else { [half, half + 1] };
        let direction = if self.truncates_left { TruncationDirection::Left } else { TruncationDirection::Right };
        let cut = |text: &str, length: usize| {
            let mut encoding = self.inner.encode(text, false)?;
            encoding.truncate(length, 0, direction);
            Ok::<_, tokenizers::Error>(encoding)
        };
        let (text, pair) = (cut(text, kept[0])?, cut(pair, kept[1])?);
        self.inner.post_process(text, Some(pair), true).map(Some)
    }

    /// Of a whole text, without special tokens.
    fn num_tokens(&self, text: &str) -> tokenizers::Result<usize> {
        let parts = self.parts(text)?;
        let splits = parts.get_splits(OffsetReferential::Original, OffsetType::None);
        Ok(splits.iter().filter_map(|(_, _, tokens)| tokens.as_ref().map(Vec::len)).sum())
    }

    /// The words of a whole text with their tokens, without special ones. (The crate's own `encode` stops at the limit.)
    fn parts(&self, text: &str) -> tokenizers::Result<PreTokenizedString> {
        let mut parts = self.inner.get_added_vocabulary().extract_and_normalize(self.inner.get_normalizer(), text);
        if let Some(pre_tokenizer) = self.inner.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut parts)?;
        }
        parts.tokenize(|part| self.inner.get_model().tokenize(part.get()))?;
        Ok(parts)
    }
}

/// A panic of the crate is an error, where panics unwind. What it leaves behind is at worst a cache that is locked for good, and then not used.
fn caught<T>(encode: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    let encoded = catch_unwind(AssertUnwindSafe(encode));
    encoded.map_err(|_| "it panicked".to_owned())?.map_err(|error| error.to_string())
}

/// The file that holds the vocabulary, as a `tokenizer.json`.
fn vocabulary(files: &ModelFiles) -> Result<(&'static str, Map<String, Value>)> {
    let text = |name: &'static str, bytes| std::str::from_utf8(bytes).map_err(|_| file_error(name, &"not UTF-8"));
    if let Some(json) = files.get("tokenizer.json") {
        return Ok(("tokenizer.json", json_object("tokenizer.json", json)?));
    }
    if let Some(vocab) = files.get("vocab.txt") {
        return Ok(("vocab.txt", rewrite::of_vocab_txt(text("vocab.txt", vocab)?)));
    }
    if let Some(vocab) = files.get("vocab.json") {
        let merges = files.get("merges.txt").ok_or_else(|| file_error("merges.txt", &"missing beside vocab.json"))?;
        let vocab = json_object("vocab.json", vocab)?;
        return Ok(("vocab.json", rewrite::of_merges(vocab, text("merges.txt", merges)?)));
    }
    let sentence_piece = ModelFiles::KNOWN.vocabularies.iter().filter(|name| name.ends_with(".model"));
    if let Some(name) = sentence_piece.copied().find(|name| files.get(name).is_some()) {
        let way_out = "save tokenizer.json with transformers: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)";
        return Err(file_error(name, &format!("a SentencePiece model, which is not read: {way_out}")));
    }
    let reason = "missing, and no vocab.txt either, nor vocab.json with merges.txt: a text model needs one of them";
    Err(file_error("tokenizer.json", &reason))
}

/// Every token must have an embedding, but the one that blank lines of a `vocab.txt` make.
fn check_ids(tokenizer: &tokenizers::Tokenizer, file: &str, limits: TextConfig) -> Result<()> {
    let tokens = tokenizer.get_vocab(true).into_iter();
    let tokens = tokens.filter(|(token, id)| *id as usize >= limits.vocab_size && !token.is_empty());
    match tokens.max_by(|(a, a_id), (b, b_id)| (a_id, a).cmp(&(b_id, b))) {
        Some((token, id)) => {
            let size = limits.vocab_size;
            Err(file_error(file, &format!("token `{token}` has id {id}, expected less than `vocab_size`, {size}")))
        }
        None => Ok(()),
    }
}

/// Puts the class's special tokens around the texts.
fn frame(
    tokenizer: &mut tokenizers::Tokenizer,
    class: Class,
    settings: &Settings,
    file: &str,
    limits: TextConfig,
) -> Result<()> {
    let token = |name: &str| {
        let content = settings.special(class, name).map(|token| token.content).unwrap_or_default();
        let id = tokenizer.token_to_id(&content).filter(|&id| (id as usize) < limits.vocab_size);
        id.map(|id| (content.clone(), id)).ok_or_else(|| file_error(file, &format!("the token {content} is missing")))
    };
    let [first, last] = class.frame();
    let (last, first) = (token(last)?, token(first)?);
    if class == Class::Bert {
        tokenizer.with_post_processor(Some(BertProcessing::new(last, first)));
    } else {
        // XLM-R's template is the same: <s> A </s>, and for a pair </s> B </s>.
        tokenizer.with_post_processor(Some(RobertaProcessing::new(last, first)));
    }
    Ok(())
}

/// How many tokens are put around one text or two.
fn num_special(tokenizer: &tokenizers::Tokenizer, num_texts: usize) -> usize {
    tokenizer.get_post_processor().map_or(0, |processor| processor.added_tokens(num_texts == 2))
}

#[cfg(test)]
mod fuzz_tests;
#[cfg(test)]
mod tokenizer_tests;
