//! Text to wordpieces, through the `tokenizers` crate.

use serde_json::Value;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::utils::truncation::{TruncationParams, TruncationStrategy};

use super::input::Input;
use crate::error::{Error, Result};

/// One input as the model sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Tokens {
    /// `[T]`
    pub input_ids: Vec<u32>,
    /// 0 for the first text, 1 for the second; `[T]`.
    pub token_type_ids: Vec<u32>,
    /// `[T]`
    pub tokens: Vec<String>,
    /// Whether the end was cut off.
    pub truncated: bool,
}

/// A BERT tokenizer that truncates at the model's own limit; such settings in its file are ignored.
pub struct Tokenizer(tokenizers::Tokenizer);

impl Tokenizer {
    /// Reads a `tokenizer.json`.
    pub fn from_tokenizer_json(json: &[u8], max_tokens: usize) -> Result<Self> {
        const FILE: &str = "tokenizer.json";
        let mut tokenizer = tokenizers::Tokenizer::from_bytes(json).map_err(|error| file_error(FILE, &error))?;
        if tokenizer.get_post_processor().is_none() {
            add_special_tokens(&mut tokenizer, FILE)?;
        }
        Self::limited(tokenizer, FILE, max_tokens)
    }

    /// Reads a `vocab.txt`, with the settings of `tokenizer_config.json` if there is one (default: lower case).
    pub fn from_vocab_txt(vocab: &[u8], tokenizer_config: Option<&[u8]>, max_tokens: usize) -> Result<Self> {
        const FILE: &str = "vocab.txt";
        let settings: Value = match tokenizer_config {
            Some(json) => serde_json::from_slice(json).map_err(|error| file_error("tokenizer_config.json", &error))?,
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
        Self::limited(tokenizer, FILE, max_tokens)
    }

    fn limited(mut tokenizer: tokenizers::Tokenizer, file: &str, max_tokens: usize) -> Result<Self> {
        let truncation = TruncationParams {
            max_length: max_tokens,
            strategy: TruncationStrategy::LongestFirst,
            ..Default::default()
        };
        tokenizer.with_truncation(Some(truncation)).map_err(|error| file_error(file, &error))?;
        tokenizer.with_padding(None);
        Ok(Self(tokenizer))
    }

    /// The tokens of an input, `[CLS]` first. `index` is its place in the batch, for messages.
    ///
    /// # Errors
    /// [`Error::Input`] when a text holds no token.
    pub fn encode(&self, index: usize, input: &Input<'_>) -> Result<Tokens> {
        let error = |reason: String| Error::Input { index, reason };
        let encoding = match *input {
            Input::Text(text) => self.0.encode(text, true),
            Input::Pair(text, pair) => self.0.encode((text, pair), true),
        };
        let encoding = encoding.map_err(|failure| error(format!("the tokenizer failed: {failure}")))?;
        let num_texts = match input {
            Input::Text(_) => 1,
            Input::Pair(..) => 2,
        };
        for sequence in 0..num_texts {
            let has_tokens = encoding.get_sequence_ids().contains(&Some(sequence));
            if !has_tokens {
                let which = ["the text", "the second text"][sequence];
                return Err(error(format!("{which} is empty, expected at least one word")));
            }
        }
        Ok(Tokens {
            input_ids: encoding.get_ids().to_vec(),
            token_type_ids: encoding.get_type_ids().to_vec(),
            tokens: encoding.get_tokens().to_vec(),
            truncated: !encoding.get_overflowing().is_empty(),
        })
    }
}

/// `[CLS]` text `[SEP]`, and for a pair text `[SEP]`.
fn add_special_tokens(tokenizer: &mut tokenizers::Tokenizer, file: &str) -> Result<()> {
    let special = |token: &str| match tokenizer.token_to_id(token) {
        Some(id) => Ok((token.to_owned(), id)),
        None => Err(file_error(file, &format!("the token {token} is missing"))),
    };
    let (sep, cls) = (special("[SEP]")?, special("[CLS]")?);
    let tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(|token| tokenizers::AddedToken::from(token, true));
    tokenizer.add_special_tokens(tokens).map_err(|error| file_error(file, &error))?;
    tokenizer.with_post_processor(Some(BertProcessing::new(sep, cls)));
    Ok(())
}

fn file_error(file: &str, error: &dyn ToString) -> Error {
    Error::File { file: file.to_owned(), reason: error.to_string() }
}
