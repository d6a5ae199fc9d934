//! Rule 1, top-k back-tracking (Algorithm 1): keeps the k tokens that the kept tokens of the next layer attend to most.
//!
//! ```text
//! m[j] = mean over i in K_{l+1} of Ā[i, j] · ((1 − q) + q · w[i])
//! K_l  = the k largest m ∪ K_{l+1};   w = m / (Σ_{K_l} m + EPS)
//! ```

use super::attention::{MapKind, MapsOf};
use super::plan::{BackTrackingRule, Facts, Plan, Search};
use super::rule::{Argument, Need, Ratio, Rule};
use super::select::{kth_largest, largest};
use super::why::{Contribution, Found, significant};

/// Added to the normaliser of w.
pub const TOP_K_EPS: f32 = 1e-8;

pub const TOP_K: Rule = Rule {
    name: "topk",
    argument: Argument::Ratios,
    needs: &[Need::ApproxNet],
    about: "keeps the tokens that the next layer asks for most, as ApproxNet predicts its attention",
};

pub const ORACLE: Rule = Rule {
    name: "oracle",
    argument: Argument::Ratios,
    needs: &[],
    about: "topk on the model's own attention, from a dense pass: an upper bound, and never faster",
};

/// The tokens of every layer from the maps of a pass before.
pub fn plan(maps_of: MapsOf, ratios: &[Ratio], facts: &Facts<'_>, lengths: &[usize]) -> Plan {
    let k: Vec<Vec<usize>> =
        ratios.iter().map(|ratio| lengths.iter().map(|&length| ratio.ceil_of(length)).collect()).collect();
    let mut bounds = vec![0; k.len() + 1];
    for (sample, &length) in lengths.iter().enumerate() {
        // What the layer above keeps does not count towards k.
        let mut bound = facts.num_anchors.min(length);
        bounds[k.len()] += bound;
        for layer in (0..k.len()).rev() {
            bound = length.min(k[layer][sample] + bound);
            bounds[layer] += bound;
        }
    }
    let rule = BackTrackingRule::TopK { impact_weight: facts.constants.topk_impact_weight };
    Plan::new(Search::BackTracking { maps_of, kind: MapKind::MeanProbs, rule }, facts, k, bounds)
}

/// Where the recursion stands: K_{l+1}, and w.
pub struct TopK {
    is_kept: Vec<bool>,
    w: Vec<f32>,
}

impl TopK {
    /// Above the last layer: K_L is the anchors, which share all weight.
    pub fn new(num_tokens: usize, num_anchors: usize) -> Self {
        let num_anchors = num_anchors.min(num_tokens);
        let is_kept: Vec<bool> = (0..num_tokens).map(|token| token < num_anchors).collect();
        let w = is_kept.iter().map(|&kept| if kept { 1.0 / num_anchors as f32 } else { 0.0 }).collect();
        Self { is_kept, w }
    }

    /// After a layer that has kept these tokens for these scores.
    fn after(is_kept: Vec<bool>, m: &[f32]) -> Self {
        let total: f32 = is_kept.iter().zip(m).filter(|(kept, _)| **kept).map(|(_, m)| m).sum();
        Self { is_kept, w: m.iter().map(|m| m / (total + TOP_K_EPS)).collect() }
    }

    /// What the attention of row i counts, if the row is kept.
    fn impact(&self, i: usize, impact_weight: f32) -> Option<f32> {
        self.is_kept[i].then(|| (1.0 - impact_weight) + impact_weight * self.w[i])
    }

    /// The k of a layer's tokens that are picked join those kept; gives the scores m of all.
    pub fn step(&mut self, map: &[f32], k: usize, impact_weight: f32) -> Vec<f32> {
        let num_tokens = self.is_kept.len();
        let num_kept = self.is_kept.iter().filter(|&&kept| kept).count() as f32;
        let mut m = vec![0.0; num_tokens];
        for i in 0..num_tokens {
            let Some(impact) = self.impact(i, impact_weight) else { continue };
            for (m, a) in m.iter_mut().zip(&map[i * num_tokens..]) {
                *m += a * impact;
            }
        }
        m.iter_mut().for_each(|m| *m /= num_kept);
        let mut is_kept = std::mem::take(&mut self.is_kept);
        for (kept, is_largest) in is_kept.iter_mut().zip(largest(&m, k)) {
            *kept |= is_largest;
        }
        *self = Self::after(is_kept, &m);
        m
    }

    /// Whether token j is in K_l.
    pub fn is_kept(&self) -> &[bool] {
        &self.is_kept
    }
}

/// Who asked for a token, and from which score on one is picked.
pub fn explain(
    found: &Found<'_>,
    num_anchors: usize,
    impact_weight: f32,
    layer: usize,
    position: usize,
) -> Vec<Contribution> {
    let num_tokens = found.token_scores[layer].len();
    let rows = &found.kept[layer + 1];
    let recursion = match found.token_scores.get(layer + 1) {
        Some(above) => {
            let mut is_kept = vec![false; num_tokens];
            rows.iter().for_each(|&row| is_kept[row as usize] = true);
            TopK::after(is_kept, above)
        }
        None => TopK::new(num_tokens, num_anchors),
    };
    let map = &found.attention_maps[layer];
    let contribution = |&i: &u32| {
        let i = i as usize;
        let impact = recursion.impact(i, impact_weight)?;
        Some(Contribution { position: i, value: map[i * num_tokens + position] * impact / rows.len() as f32 })
    };
    rows.iter().filter_map(contribution).collect()
}

/// The smallest score that was picked, and what is said of a score that is picked or not.
pub fn cut(scores: &[f32], k: usize, score: f32) -> (f32, [String; 2]) {
    let cut = kth_largest(scores, k);
    let (score, from) = (significant(score), significant(cut));
    let texts = [
        format!("its score {score} is among the {k} largest (from {from})"),
        format!("its score {score} is not among the {k} largest (from {from})"),
    ];
    (cut, texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_lower_index() {
        let mut recursion = TopK::new(4, 1);
        let uniform = vec![0.25; 16];
        recursion.step(&uniform, 2, 0.1);
        assert_eq!(recursion.is_kept(), [true, true, false, false]);
        recursion.step(&uniform, 3, 0.1);
        assert_eq!(recursion.is_kept(), [true, true, true, false]);
    }

    /// The k picks do not count the tokens that are kept anyway.
    #[test]
    fn kept_tokens_do_not_count_towards_k() {
        let map = [0.0, 0.1, 0.2, 0.7, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let mut recursion = TopK::new(4, 1);
        recursion.step(&map, 2, 0.1);
        assert_eq!(recursion.is_kept(), [true, false, true, true], "the two picks and [CLS]");
    }

    /// Two anchors: each has half of the weight.
    #[test]
    fn two_anchors_share_the_weight() {
        let map = [0.0, 0.0, 0.6, 0.4, 0.0, 0.0, 0.2, 0.8, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let mut recursion = TopK::new(4, 2);
        let m = recursion.step(&map, 1, 0.1);
        assert_eq!(recursion.is_kept(), [true, true, false, true]);
        for (m, expected) in m.iter().zip([0.0, 0.0, 0.4 * 0.95, 0.6 * 0.95]) {
            assert!((m - expected).abs() < 1e-6, "{m}, expected {expected}");
        }
    }
}
