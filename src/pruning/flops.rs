//! FLOPs of a run, from the rows that it computes: 2 per multiply-add of every matrix product.
//!
//! With n = |K_l| key rows, q = |K_{l+1}| query rows, hidden size h and intermediate size i, layer l has
//!
//! | product | multiply-adds |
//! |---|---|
//! | key, value | n · 2h² |
//! | query | q · h² |
//! | scores and context | q · n · 2h |
//! | attention output | q · h² |
//! | intermediate, output | q · 2hi |
//!
//! An attention map over n rows costs n² · 2h more. A GPU computes its scores for the statistics of each row, then
//! again for the map. So it keeps no T × T scratch per head. It is n² · h where attention itself finds the
//! statistics: those of attention probabilities, where all the layer's rows are queries. (The CPU has a row's scores
//! at hand and computes them once. That is not subtracted.)
//!
//! - ViT's patch embedding costs 3 · patch_size² · h for each row of K_0.
//! - The head reads one row: the pooler (BERT) costs h², the classifier h · num_labels.
//! - ApproxNet needs its maps alone. In its last layer only queries, keys and the map are computed.

use std::ops::AddAssign;

use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::attention::MapKind;

/// FLOPs of one or more inputs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flops {
    /// The same inputs without pruning.
    pub dense: u64,
    /// The model over the kept tokens.
    pub pruned: u64,
    /// What finding the kept tokens costs outside the model's own pass: ApproxNet, or for `oracle` the dense pass.
    pub approx: u64,
}

impl Flops {
    /// All that was computed: `pruned + approx`.
    pub fn total(&self) -> u64 {
        self.pruned + self.approx
    }
}

/// With the total, which readers would have to know how to make.
impl Serialize for Flops {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Flops", 4)?;
        fields.serialize_field("dense", &self.dense)?;
        fields.serialize_field("pruned", &self.pruned)?;
        fields.serialize_field("approx", &self.approx)?;
        fields.serialize_field("total", &self.total())?;
        fields.end()
    }
}

impl AddAssign for Flops {
    fn add_assign(&mut self, other: Self) {
        self.dense += other.dense;
        self.pruned += other.pruned;
        self.approx += other.approx;
    }
}

/// The sizes that FLOPs depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncoderSize {
    /// L
    pub num_hidden_layers: usize,
    /// h; heads divide it evenly.
    pub hidden_size: usize,
    /// i
    pub intermediate_size: usize,
    /// Multiply-adds per row of K_0 before the first layer (ViT's patch embedding).
    pub embedding: u64,
    /// Multiply-adds of the head on `[CLS]`.
    pub head: u64,
}

impl EncoderSize {
    /// FLOPs of a dense pass over `num_tokens`, with the head.
    pub fn dense(&self, num_tokens: usize) -> u64 {
        self.pruned(&vec![num_tokens; self.num_hidden_layers + 1])
    }

    /// FLOPs of a pass over `kept[l]` = |K_l|, l = 0 … L, with the head.
    pub fn pruned(&self, kept: &[usize]) -> u64 {
        let layers: u64 = kept.windows(2).map(|pair| self.key_value(pair[0]) + self.rest(pair[0], pair[1])).sum();
        2 * (layers + self.embed(kept[0]) + self.head)
    }

    /// FLOPs of a dense pass over `num_tokens` that ends at the last layer's attention map (ApproxNet; the oracle's own pass).
    pub fn maps(&self, num_tokens: usize, kind: MapKind) -> u64 {
        let n = num_tokens;
        let inner_map = match kind {
            MapKind::MeanProbs => self.map(n) / 2,
            MapKind::MeanPhi => self.map(n),
        };
        let inner = self.key_value(n) + self.rest(n, n) + inner_map;
        let last = 2 * self.square(n) + self.map(n);
        2 * (self.embed(n) + inner * (self.num_hidden_layers as u64 - 1) + last)
    }

    /// FLOPs of the forward rule over `kept[l]`: the queries of layers before the last are computed for all of K_l, and their map.
    pub fn forward(&self, kept: &[usize]) -> u64 {
        let scoring: u64 =
            kept[..kept.len() - 1].windows(2).map(|pair| self.square(pair[0] - pair[1]) + self.map(pair[0])).sum();
        self.pruned(kept) + 2 * scoring
    }

    fn embed(&self, n: usize) -> u64 {
        self.embedding * n as u64
    }

    /// A product of n rows with a square matrix. In 64 bits, as all here: `usize` has 32 in WebAssembly.
    fn square(&self, n: usize) -> u64 {
        n as u64 * self.hidden_size as u64 * self.hidden_size as u64
    }

    fn key_value(&self, n: usize) -> u64 {
        2 * self.square(n)
    }

    fn rest(&self, n: usize, q: usize) -> u64 {
        let attention_and_mlp = 2 * n as u64 + 2 * self.intermediate_size as u64;
        2 * self.square(q) + q as u64 * self.hidden_size as u64 * attention_and_mlp
    }

    fn map(&self, n: usize) -> u64 {
        2 * n as u64 * n as u64 * self.hidden_size as u64
    }
}
