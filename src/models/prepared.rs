//! Inputs that are made into tokens before a device is asked. This is for programs that count tokens, and compute
//! inputs of several callers in one run.

use super::{Input, InputConfig, Model, Reader, Tokens};
use crate::error::{Error, Result};
use crate::pruning::{Plan, Prune};

/// An input as a model reads it, for [`Engine::run`](crate::Engine::run).
#[derive(Clone)]
pub struct Prepared {
    model: Model,
    tokens: Tokens,
}

impl Prepared {
    /// The number of tokens, special ones included: T of the other pages.
    pub fn num_tokens(&self) -> usize {
        self.tokens.len()
    }

    /// Whether it was longer than what the model reads, and was cut.
    pub fn truncated(&self) -> bool {
        matches!(&self.tokens, Tokens::Text(text) if text.truncated)
    }

    /// Only the model that made them has embeddings for all of them.
    pub(crate) fn tokens_for(&self, model: &Model) -> Option<&Tokens> {
        self.model.is_same(model).then_some(&self.tokens)
    }
}

impl Model {
    /// Makes inputs into tokens. The texts of the tokens are not kept, so [`Classification::tokens`](crate::Classification::tokens) is empty then.
    ///
    /// # Errors
    /// [`Error::Input`] names the input that the model cannot read.
    pub fn read(&self, inputs: &[Input<'_>]) -> Result<Vec<Prepared>> {
        let read = |(index, input): (usize, &Input<'_>)| {
            let mut tokens = self.prepare(index, input)?;
            if let Tokens::Text(text) = &mut tokens {
                text.tokens = Vec::new();
            }
            Ok(Prepared { model: self.clone(), tokens })
        };
        inputs.iter().enumerate().map(read).collect()
    }

    /// Makes passages into tokens, each together with the query: the pairs of [`Engine::rank`](crate::Engine::rank). The query is never cut, and an
    /// empty passage is one.
    ///
    /// # Errors
    /// [`Error::Query`] for a query that is empty or leaves no room for a passage; [`Error::Passage`] names a passage that the model cannot read.
    pub fn read_passages(&self, query: &str, passages: &[&str]) -> Result<Vec<Prepared>> {
        let query = self.query(query)?;
        let read = |(index, text): (usize, &&str)| {
            let passage = query.passage(text, false, false).map_err(|reason| Error::Passage { index, reason })?;
            let tokens = Tokens::Text(query.pair(&passage.ids, &[], passage.truncated));
            Ok(Prepared { model: self.clone(), tokens })
        };
        passages.iter().enumerate().map(read).collect()
    }

    /// Most tokens of an input, special ones included: the model's limit, or fewer if the tokenizer's settings say so.
    pub fn max_tokens(&self) -> usize {
        match (&self.0.reader, &self.config().input) {
            (Reader::Text(tokenizer), _) => tokenizer.max_tokens(),
            (_, InputConfig::Text(text)) => text.max_position_embeddings,
            (_, InputConfig::Image(image)) => image.num_tokens(),
        }
    }

    /// Whether a text that is too long loses its beginning instead of its end: `truncation_side`.
    pub fn truncates_left(&self) -> bool {
        matches!(&self.0.reader, Reader::Text(tokenizer) if tokenizer.truncates_left())
    }

    /// Whether the model can run under a rule, as far as that does not depend on the input.
    ///
    /// # Errors
    /// [`Error::RuleNeeds`] says what the model lacks, or how many numbers the rule needs.
    pub fn check_rule(&self, prune: &Prune) -> Result<()> {
        Plan::of(prune, &self.facts(), &[]).map(drop)
    }
}
