//! A query with its passages: pairs that share their first text, which is never cut.

use std::ops::Range;

use tokenizers::Encoding;
use tokenizers::tokenizer::OffsetType;
use tokenizers::utils::truncation::TruncationDirection;

use super::{Tokenizer, caught, num_special};
use crate::error::{Error, Result};
use crate::models::input::TextTokens;

/// A window shares one of so many parts of its tokens with the one before it.
const OVERLAP: usize = 4;

/// How many bytes of a long passage are read at first, for each token that is wanted of it. English has about five.
const BYTES_PER_TOKEN: usize = 8;
/// Tokens that are read beyond those that are wanted: the end of a text may change the tokens just before it.
const SLACK: usize = 32;

/// A query, and what stands around a passage in a pair with it.
pub struct Query<'t> {
    tokenizer: &'t Tokenizer,
    /// A pair with a passage of one token.
    pair: TextTokens,
    /// Where that token stands.
    place: usize,
    /// Tokens of a passage at most.
    room: usize,
}

/// The tokens of a passage.
pub struct Passage {
    /// Those that are read.
    pub ids: Vec<u32>,
    /// Their texts, if they were asked for.
    pub tokens: Vec<String>,
    /// What is read at once, as places in `ids`: one range at least.
    pub windows: Vec<Range<usize>>,
    /// Whether the passage has more tokens than `ids`.
    pub truncated: bool,
}

impl Tokenizer {
    /// A query that leaves room for a passage.
    ///
    /// # Errors
    /// [`Error::Query`] when it is empty, or so long that a passage has no room.
    pub fn query(&self, text: &str) -> Result<Query<'_>> {
        let error = |reason: String| Error::Query { reason };
        let failed = |failure: String| error(format!("the tokenizer failed: {failure}"));
        let encoding = caught(|| self.whole(text, true)).map_err(failed)?;
        // To some tokenizers white space is a token.
        if text.trim().is_empty() || encoding.is_empty() {
            return Err(error("it is empty, expected at least one word".to_owned()));
        }
        let (length, num_special, max_tokens) = (encoding.len(), num_special(&self.inner, 2), self.max_tokens);
        if max_tokens < num_special + 2 {
            let reason = format!("no room for a pair: {max_tokens} tokens at most, of which {num_special} are special");
            return Err(error(reason));
        }
        let Some(room) = max_tokens.checked_sub(num_special + length).filter(|room| *room > 0) else {
            let most = max_tokens - num_special - 1;
            let reason = format!(
                "{length} tokens and {num_special} special ones leave no room for a passage in the {max_tokens} that the model reads; shorten it \
                 to {most} tokens or fewer"
            );
            return Err(error(reason));
        };
        let mut one = encoding.clone();
        one.truncate(1, 0, TruncationDirection::Right);
        one.take_overflowing();
        let pair = caught(|| self.inner.post_process(encoding, Some(one), true)).map_err(failed)?;
        let place = pair.get_sequence_ids().iter().position(|sequence| *sequence == Some(1));
        let place = place.ok_or_else(|| error("the tokenizer leaves the second text of a pair out".to_owned()))?;
        Ok(Query { tokenizer: self, pair: self.text_tokens(&pair).map_err(error)?, place, room })
    }

    /// The tokens of one text, however many they are. Without `tokens` they have no texts, which is faster.
    fn whole(&self, text: &str, tokens: bool) -> tokenizers::Result<Encoding> {
        let offsets = if tokens { OffsetType::Byte } else { OffsetType::None };
        self.parts(text)?.into_encoding(None, 0, offsets)
    }

    /// The first tokens of a text, more than `wanted` if it has more: of a long one, only the beginning is looked at.
    fn start(&self, text: &str, wanted: usize, tokens: bool) -> tokenizers::Result<Encoding> {
        let mut num_bytes = BYTES_PER_TOKEN.saturating_mul(wanted + SLACK);
        while let Some(end) = word_end(text, num_bytes, self.separators) {
            let encoding = self.whole(&text[..end], tokens)?;
            if encoding.len() >= wanted + SLACK {
                return Ok(encoding);
            }
            num_bytes = num_bytes.saturating_mul(4);
        }
        self.whole(text, tokens)
    }
}

impl Query<'_> {
    /// Where the passage begins in a pair.
    pub fn passage_start(&self) -> usize {
        self.place
    }

    /// Tokens of a pair with so many tokens of a passage.
    pub fn pair_length(&self, num_passage_tokens: usize) -> usize {
        self.pair.input_ids.len() - 1 + num_passage_tokens
    }

    /// The tokens of a passage: as many as a pair has room for, or with `windows` all, in windows that overlap by a quarter. An empty passage
    /// has none. The error is the reason.
    pub fn passage(&self, text: &str, windows: bool, tokens: bool) -> Result<Passage, String> {
        let Self { tokenizer, room, .. } = *self;
        let reads_all = windows || tokenizer.truncates_left;
        let encode = || if reads_all { tokenizer.whole(text, tokens) } else { tokenizer.start(text, room, tokens) };
        let encoding = caught(encode).map_err(|failure| format!("the tokenizer failed: {failure}"))?;
        let num_tokens = encoding.len();
        let (read, windows) = if windows {
            (0..num_tokens, self::windows(num_tokens, room))
        } else {
            let num_read = num_tokens.min(room);
            let first = if tokenizer.truncates_left { num_tokens - num_read } else { 0 };
            (first..first + num_read, std::iter::once(0..num_read).collect())
        };
        let ids = encoding.get_ids()[read.clone()].to_vec();
        let vocab_size = tokenizer.limits.vocab_size;
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= vocab_size) {
            let token = tokenizer.token(id).unwrap_or_default();
            return Err(format!("token `{token}` has id {id}, expected less than `vocab_size`, {vocab_size}"));
        }
        let truncated = read.len() < num_tokens;
        let tokens = if tokens { encoding.get_tokens()[read].to_vec() } else { Vec::new() };
        Ok(Passage { ids, tokens, windows, truncated })
    }

    /// The pair with these tokens of a passage; without their texts the pair has none.
    pub fn pair(&self, ids: &[u32], tokens: &[String], truncated: bool) -> TextTokens {
        let passage_type = self.pair.token_type_ids[self.place];
        TextTokens {
            input_ids: self.around(&self.pair.input_ids, ids),
            token_type_ids: self.around(&self.pair.token_type_ids, &vec![passage_type; ids.len()]),
            tokens: if tokens.len() == ids.len() { self.around(&self.pair.tokens, tokens) } else { Vec::new() },
            truncated,
        }
    }

    fn around<T: Clone>(&self, pair: &[T], passage: &[T]) -> Vec<T> {
        [&pair[..self.place], passage, &pair[self.place + 1..]].concat()
    }
}

/// Ranges of at most `room` of so many tokens; each begins a quarter of `room` before the end of the one before it.
fn windows(num_tokens: usize, room: usize) -> Vec<Range<usize>> {
    let step = room - room / OVERLAP;
    let (mut first, mut windows) = (0, Vec::new());
    loop {
        let end = num_tokens.min(first + room);
        windows.push(first..end);
        if end == num_tokens {
            return windows;
        }
        first += step;
    }
}

/// The first place from byte `from` on where a word ends before one of these.
fn word_end(text: &str, from: usize, separators: &[char]) -> Option<usize> {
    if separators.is_empty() {
        return None;
    }
    let from = text.ceil_char_boundary(from);
    let mut is_word = false;
    for (at, char) in text.get(from..)?.char_indices() {
        if is_word && separators.contains(&char) {
            return Some(from + at);
        }
        is_word = !char.is_whitespace();
    }
    None
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;
