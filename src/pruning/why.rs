//! Why a token survived a layer, or did not: its score taken apart into what each row that asked for it gave.

use serde::Serialize;

/// How a token got its score at one layer (paper, section 3).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Why {
    /// l, from 0.
    pub layer: usize,
    /// j
    pub position: usize,
    /// Whether it is in K_l; under `forward` and `ltp`, whether layer l passes it on (K_{l+1}).
    pub kept: bool,
    /// m\[j\] of Rule 1, c\[j\] of Rule 2, the attention received under `forward` and `ltp`.
    pub score: f32,
    /// The smallest score that was picked. Under `concrete` it is the score from which the layer's learned threshold
    /// keeps a token, and under `ltp` the threshold itself.
    pub cut: f32,
    /// One sentence.
    pub reason: String,
    /// Who asked for it, largest value first. The values add up to the score. Under `concrete` they add up to the
    /// score less 0.01, which every token has.
    pub contributions: Vec<Contribution>,
}

/// What one row of the next layer (under `forward` and `ltp`, of this one) adds to a score.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Contribution {
    /// i
    pub position: usize,
    /// Its share.
    pub value: f32,
}

/// What a run under a rule found: the fields of `Classification`.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// K_0 … K_L
    pub kept: &'a [Vec<u32>],
    /// `[L][T]`
    pub token_scores: &'a [Vec<f32>],
    /// `[L][T · T]`; under `forward` and `ltp` `[|K_l| · |K_l|]`
    pub attention_maps: &'a [Vec<f32>],
}

/// With three digits that say something: scores of a picture's many patches are small.
pub fn significant(value: f32) -> String {
    let digits = if value == 0.0 { 0.0 } else { 2.0 - value.abs().log10().floor() };
    format!("{value:.*}", digits.clamp(0.0, 9.0) as usize)
}
