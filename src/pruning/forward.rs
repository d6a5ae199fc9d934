//! The forward rule (the paper's "Manual Top-k"). Each layer passes on the k tokens that received most attention in
//! it, on average over the heads and the rows that are there.

use super::plan::{Facts, Plan, Search};
use super::rule::{Argument, Ratio, Rule};
use super::select::{Selection, kth_largest};
use super::why::significant;

pub const FORWARD: Rule = Rule {
    name: "forward",
    argument: Argument::Ratios,
    needs: &[],
    about: "each layer keeps the tokens that received most attention in it, without looking ahead",
};

/// The tokens of every layer from the map of the layer before.
pub fn plan(ratios: &[Ratio], facts: &Facts<'_>, lengths: &[usize]) -> Plan {
    let num_layers = ratios.len();
    let mut k: Vec<Vec<usize>> =
        ratios.iter().map(|ratio| lengths.iter().map(|&length| ratio.floor_of(length)).collect()).collect();
    let mut bounds = vec![0; num_layers + 1];
    for (sample, &length) in lengths.iter().enumerate() {
        let (mut bound, anchors) = (length, facts.num_anchors.min(length));
        bounds[0] += length;
        for layer in 1..num_layers {
            // K_{l+1} is the picks of layer l and the anchors, all out of K_l.
            bound = bound.min(k[layer - 1][sample] + anchors);
            bounds[layer] += bound;
        }
        bounds[num_layers] += anchors;
    }
    // After the last layer only `[CLS]` counts; its ratio is unused.
    k[num_layers - 1].fill(0);
    Plan::new(Search::LayerByLayer { selections: vec![Selection::Largest; num_layers - 1] }, facts, k, bounds)
}

/// The smallest score that was picked, and what is said of a score that is picked or not.
pub fn cut(scores: &[f32], k: usize, score: f32) -> (f32, [String; 2]) {
    let cut = kth_largest(scores, k);
    let (score, from) = (significant(score), significant(cut));
    let texts = [
        format!("the attention it received, {score}, is among the {k} largest (from {from})"),
        format!("the attention it received, {score}, is not among the {k} largest (from {from})"),
    ];
    (cut, texts)
}
