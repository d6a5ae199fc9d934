//! What goes into [`Engine::rank`](crate::Engine::rank) and what comes out.

use serde::Serialize;

use crate::pruning::{Flops, Prune};

/// How to rank. The default ranks all passages under the model's own rule, and cuts those that are too long.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RankOptions {
    /// How many of the best passages come back; `None` is all.
    pub top_n: Option<usize>,
    /// Which tokens to keep; `None` is [`Model::default_prune`](crate::Model::default_prune).
    pub prune: Option<Prune>,
    /// Read a passage that is too long in windows. Each window shares a quarter of its tokens with the one before it,
    /// and the best one's score counts. Without this, a passage is cut at the model's limit.
    pub windows: bool,
    /// For a model with several labels: the one whose probability is the score. It is a name, or an index where no
    /// label is called so.
    pub label: Option<String>,
}

/// How far a call has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RankProgress {
    /// Pairs whose score is known.
    pub num_done: usize,
    /// All that are computed: the query with each passage, or each window of one; equal ones count once.
    pub num_pairs: usize,
}

/// Passages in the order of their scores.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ranking {
    /// The rule of the run.
    pub prune: Prune,
    /// The label whose probability the scores are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The best first. Where `logit` is equal, the passage that was given first.
    pub results: Vec<RankedPassage>,
    /// All that were given.
    pub num_passages: usize,
    /// All that were computed; see [`RankProgress::num_pairs`].
    pub num_pairs: usize,
    /// The mean of the pairs that were computed.
    pub retention: f64,
    /// The sum over the pairs that were computed.
    pub flops: Flops,
}

/// A passage, and what the model read of it: of several windows, the best one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RankedPassage {
    /// Its place in the list that was given, from 0.
    pub index: usize,
    /// The model's one output; its sigmoid, if the model's `activation_fn` says so; or the probability of the label that was asked for.
    pub score: f32,
    /// What decides the order: the output, or the logarithm of the odds of the label, p / (1 − p). Scores near 1 are equal where this is not.
    pub logit: f32,
    /// Which window is the best, if the passage was read in windows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<RankWindow>,
    /// T, of the pair.
    pub num_tokens: usize,
    /// The pair's wordpieces, `[CLS]` and the query first; `[T]`
    pub tokens: Vec<String>,
    /// The positions of the passage's tokens: the first one, and the one after the last.
    pub passage: [usize; 2],
    /// Which tokens survived to the last layer: K_{L−1} as sorted positions.
    pub kept_tokens: Vec<u32>,
    /// See [`Classification::retention`](crate::Classification::retention).
    pub retention: f64,
    /// What this pair costs if it is computed alone.
    pub flops: Flops,
    /// Whether the passage was longer than what the model reads, and was cut.
    pub truncated: bool,
}

/// A window of a passage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RankWindow {
    /// From 0.
    pub index: usize,
    /// How many windows the passage was read in.
    pub num_windows: usize,
}
