//! What a model classifies, as callers give it and as the network sees it.

use super::picture::Picture;

/// One input of a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Input<'a> {
    /// One text.
    Text(&'a str),
    /// Two texts, separated by the model's separator.
    Pair(&'a str, &'a str),
    /// An image of any size.
    Image(&'a Picture),
}

/// One input as the network sees it: T rows.
#[derive(Debug, Clone, PartialEq)]
pub enum Tokens {
    /// Wordpieces.
    Text(TextTokens),
    /// `[T, row_stride(patch_values)]`, see [`super::embedding::patch_rows`], and the resized picture that they are from, unless they are made up.
    Patches {
        /// One for each token.
        rows: Vec<f32>,
        /// T
        num_tokens: usize,
        /// As the model sees it.
        picture: Option<Picture>,
    },
}

impl Tokens {
    /// Never: there is `[CLS]` at least.
    #[cfg(feature = "internals")]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// T
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.input_ids.len(),
            Self::Patches { num_tokens, .. } => *num_tokens,
        }
    }
}

/// The tokens of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct TextTokens {
    /// `[T]`
    pub input_ids: Vec<u32>,
    /// 0 for the first text, 1 for the second; `[T]`.
    pub token_type_ids: Vec<u32>,
    /// `[T]`
    pub tokens: Vec<String>,
    /// Whether the end was cut off.
    pub truncated: bool,
}
