//! What a rule needs for a chunk: whose attention is looked at, which map, how many tokens are picked, and what it costs.

use super::flops::{EncoderSize, Flops};
use super::rule::{Need, Prune, PruneConfig};
use super::select::Selection;
use super::{concrete, forward, ltp, top_k};
use crate::error::{Error, Result};

/// What an attention map holds for a row i and a column j, averaged over heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MapKind {
    /// Ā\[i, j\]: attention probabilities (Rule 1).
    MeanProbs,
    /// U\[i, j\]: Φ of the row-standardised attention scores (Rule 2).
    MeanPhi,
}

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

/// Whose maps back-tracking walks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapsOf {
    ApproxNet,
    /// The model itself, from a dense pass.
    Model,
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
    pub constants: &'a PruneConfig,
    pub p_logits: Option<&'a [f32]>,
    pub ltp_thresholds: Option<&'a [f32]>,
    /// How many tokens, from the first on, are always kept and make K_L.
    pub num_anchors: usize,
}

impl Facts<'_> {
    /// What a rule needs and the model does not have.
    pub fn lacks(&self, prune: &Prune) -> Option<Need> {
        prune.needs().iter().copied().find(|need| !self.has(*need))
    }

    /// Whether the model has it.
    pub fn has(&self, need: Need) -> bool {
        match need {
            Need::ApproxNet => self.approx.is_some(),
            Need::PLogits => self.p_logits.is_some(),
            Need::LtpThresholds => self.ltp_thresholds.is_some(),
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
    main: EncoderSize,
    approx: Option<EncoderSize>,
}

impl Plan {
    pub(super) fn new(search: Search, facts: &Facts<'_>, k: Vec<Vec<usize>>, bounds: Vec<usize>) -> Self {
        Self { search, k, bounds, num_anchors: facts.num_anchors, main: facts.main, approx: facts.approx }
    }

    /// For samples of `lengths` tokens.
    ///
    /// # Errors
    /// [`Error::RuleNeeds`] when the model lacks what the rule looks at, or has another number of layers than the rule has numbers.
    pub fn of(prune: &Prune, facts: &Facts<'_>, lengths: &[usize]) -> Result<Self> {
        if let Some(need) = facts.lacks(prune) {
            return Err(prune.needs_error(&format!("{need}, and this model has none")));
        }
        let num_layers = facts.main.num_hidden_layers;
        let each = |numbers: &str, found: usize| {
            prune.needs_error(&format!("one {numbers} or {num_layers}, one per layer, not {found}"))
        };
        let ratios = || match prune.ratios() {
            Some(ratios) => ratios.for_layers(num_layers).ok_or_else(|| each("ratio", ratios.len())),
            None => Ok(Vec::new()),
        };
        Ok(match prune {
            Prune::Dense => Self::new(Search::Nothing, facts, Vec::new(), vec![lengths.iter().sum(); num_layers + 1]),
            Prune::TopK(_) => top_k::plan(MapsOf::ApproxNet, &ratios()?, facts, lengths),
            Prune::Oracle(_) => top_k::plan(MapsOf::Model, &ratios()?, facts, lengths),
            Prune::Concrete => concrete::plan(facts, lengths),
            Prune::Forward(_) => forward::plan(&ratios()?, facts, lengths),
            Prune::Ltp(Some(given)) => {
                let thresholds = given.for_layers(num_layers).ok_or_else(|| each("threshold", given.len()))?;
                ltp::plan(&thresholds, facts, lengths)
            }
            Prune::Ltp(None) => ltp::plan(facts.ltp_thresholds.unwrap_or_default(), facts, lengths),
        })
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

/// [`Error::RuleNeeds`] when a rule that keeps attention maps gets more tokens than its kernels hold; `first` is the place of the first
/// input in its request.
pub fn check_lengths(prune: &Prune, first: usize, lengths: &[usize], max_tokens: usize) -> Result<()> {
    let too_long = |&(_, &length): &(usize, &usize)| *prune != Prune::Dense && length > max_tokens;
    let Some((sample, length)) = lengths.iter().enumerate().find(too_long) else { return Ok(()) };
    Err(prune.needs_error(&format!(
        "inputs of at most {max_tokens} tokens, input {} has {length}; `dense` has no such limit",
        first + sample + 1
    )))
}

impl Prune {
    fn needs_error(&self, needs: &str) -> Error {
        Error::RuleNeeds { rule: self.to_string(), needs: needs.to_owned() }
    }
}
