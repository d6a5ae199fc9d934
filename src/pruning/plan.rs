//! What a rule needs for a chunk: whose attention is looked at, which map, how many tokens are picked, and what it costs.

use super::attention::{MapKind, MapsOf};
use super::flops::{EncoderSize, Flops};
use super::rule::{Constants, Need};
use super::select::Selection;

/// A recursion of back-tracking with its constants (paper, section 3).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum BackTrackingRule {
    /// Algorithm 1; the k of every layer and sample stands in the index buffer.
    TopK {
        /// q
        impact_weight: f32,
    },
    /// Concrete masking; the threshold of every layer is an argument of the kernel.
    Concrete {
        /// q
        impact_weight: f32,
        /// τ
        temperature: f32,
        /// Tokens with a soft mask of at least this are kept.
        hard_threshold: f32,
    },
}

/// How the kept tokens are found.
#[derive(Debug, Clone, PartialEq)]
pub enum Search {
    /// Nobody's attention is looked at: all tokens are kept.
    Nothing,
    /// From the maps of a pass over all tokens, last layer to first.
    BackTracking { maps_of: MapsOf, kind: MapKind, rule: BackTrackingRule },
    /// While the model runs: from the map of layer l, over the tokens of K_l, those of K_{l+1}, l = 0 … L − 2.
    LayerByLayer { selections: Vec<Selection> },
}

/// What rules ask of a model.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    pub main: EncoderSize,
    pub approx: Option<EncoderSize>,
    pub constants: Constants,
    pub p_logits: Option<&'a [f32]>,
    pub ltp_thresholds: Option<&'a [f32]>,
    /// How many tokens, from the first on, are always kept and make K_L.
    pub num_anchors: usize,
    /// Whether the output is made of the last hidden states of all tokens, so that none can be left out.
    pub outputs_all_tokens: bool,
}

impl Facts<'_> {
    /// Whether the model has it.
    pub fn has(&self, need: Need) -> bool {
        match need {
            Need::ApproxNet => self.approx.is_some(),
            Need::PLogits => self.p_logits.is_some(),
            Need::LtpThresholds => self.ltp_thresholds.is_some(),
            Need::ClsOutput => !self.outputs_all_tokens,
        }
    }
}

/// A chunk under a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub search: Search,
    /// k of every layer and sample; empty where none is given.
    pub k: Vec<Vec<usize>>,
    /// Upper bound of Σ |K_l| over the samples, l = 0 … L.
    pub bounds: Vec<usize>,
    /// See [`Facts::num_anchors`].
    pub num_anchors: usize,
    /// See [`Facts::outputs_all_tokens`].
    pub outputs_all_tokens: bool,
    main: EncoderSize,
    approx: Option<EncoderSize>,
}

impl Plan {
    pub(super) fn new(search: Search, facts: &Facts<'_>, k: Vec<Vec<usize>>, bounds: Vec<usize>) -> Self {
        let Facts { main, approx, num_anchors, outputs_all_tokens, .. } = *facts;
        Self { search, k, bounds, num_anchors, outputs_all_tokens, main, approx }
    }

    /// Whether attention maps are kept, for as many values as there are pairs of tokens.
    pub fn has_maps(&self) -> bool {
        self.search != Search::Nothing
    }

    /// Whether a layer's map has rows and columns for its kept tokens alone, and layer l's scores choose K_{l+1}.
    pub fn is_layer_by_layer(&self) -> bool {
        matches!(self.search, Search::LayerByLayer { .. })
    }

    /// Layers whose tokens get scores.
    pub fn num_scored_layers(&self) -> usize {
        match &self.search {
            Search::Nothing => 0,
            Search::BackTracking { .. } => self.bounds.len() - 1,
            Search::LayerByLayer { selections } => selections.len(),
        }
    }

    /// FLOPs of a sample of `num_tokens` of which `kept[l]` = |K_l| were kept, l = 0 … L.
    pub fn flops(&self, num_tokens: usize, kept: &[usize]) -> Flops {
        let dense = self.main.dense(num_tokens);
        match &self.search {
            Search::Nothing => Flops { dense, pruned: self.main.pruned(kept), approx: 0 },
            Search::BackTracking { maps_of, kind, .. } => {
                let looked_at = match maps_of {
                    MapsOf::ApproxNet => self.approx,
                    MapsOf::Model => Some(self.main),
                };
                let approx = looked_at.map_or(0, |size| size.maps(num_tokens, *kind));
                Flops { dense, pruned: self.main.pruned(kept), approx }
            }
            Search::LayerByLayer { .. } => Flops { dense, pruned: self.main.forward(kept), approx: 0 },
        }
    }
}
