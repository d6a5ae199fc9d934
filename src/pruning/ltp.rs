//! Learned Token Pruning (Kim et al. 2022), the baseline that the paper compares with. Each layer passes on the
//! tokens that receive more attention in it than its learned threshold θ_l.
//!
//! ```text
//! s[j] = 1 / (H · T) · Σ over heads and rows i of K_l of A[i, j];   K_{l+1} = {j in K_l : s[j] > θ_l} ∪ [CLS]
//! ```
//!
//! T is the original length, so that a token's score falls as rows are removed.

use super::plan::{Facts, Plan, Search};
use super::rule::{Argument, Need, Rule};
use super::select::Selection;
use super::why::significant;

pub const LTP: Rule = Rule {
    name: "ltp",
    argument: Argument::Thresholds,
    needs: &[Need::LtpThresholds],
    about: "each layer keeps the tokens that receive more attention in it than a threshold, which is learned for every layer",
};

/// The tokens of every layer from the map of the layer before; how many is not known before.
pub fn plan(thresholds: &[f32], facts: &Facts<'_>, lengths: &[usize]) -> Plan {
    let num_layers = thresholds.len();
    let mut bounds = vec![lengths.iter().sum(); num_layers + 1];
    bounds[num_layers] = lengths.iter().map(|&length| facts.num_anchors.min(length)).sum();
    // After the last layer only `[CLS]` counts; its threshold is unused.
    let selections = thresholds[..num_layers - 1].iter().map(|&threshold| Selection::Above(threshold)).collect();
    Plan::new(Search::LayerByLayer { selections }, facts, Vec::new(), bounds)
}

/// What is said of a score that is above the threshold or not.
pub fn cut(threshold: f32, score: f32) -> (f32, [String; 2]) {
    let (score, from) = (significant(score), significant(threshold));
    let texts = [
        format!("the attention it received, {score}, is above the threshold {from}"),
        format!("the attention it received, {score}, is not above the threshold {from}"),
    ];
    (threshold, texts)
}
