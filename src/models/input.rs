//! What a model classifies.

/// One input of a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Input<'a> {
    /// One text.
    Text(&'a str),
    /// Two texts, separated by the model's separator.
    Pair(&'a str, &'a str),
}
