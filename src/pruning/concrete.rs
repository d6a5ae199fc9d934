//! Rule 2, concrete masking: keeps the tokens whose soft mask reaches the hard threshold.
//!
//! ```text
//! u[j] = Σ_i M[i] · U[i, j] · ((1 − q) + q · c[i]) / (Σ M + EPS), then divided by its maximum
//! c = 0.01 + 0.99 u;   M = max(sigmoid((logit(p_l) + logit(c)) / τ), M);   K_l = {M ≥ hard threshold}
//! ```

use super::attention::{MapKind, MapsOf};
use super::logistic::{CONCRETE_EPS, logit, sigmoid};
use super::plan::{BackTrackingRule, Facts, Plan, Search};
use super::rule::{Argument, Need, Rule};
use super::why::{Contribution, Found, significant};

pub const CONCRETE: Rule = Rule {
    name: "concrete",
    argument: Argument::None,
    needs: &[Need::ApproxNet, Need::PLogits],
    about: "keeps the tokens that the next layer asks for more than a threshold, which is learned for every layer",
};

/// logit(p) of every layer, p = sigmoid(p_logit).
pub fn thresholds(p_logits: &[f32]) -> Vec<f32> {
    p_logits.iter().map(|&p_logit| logit(sigmoid(p_logit))).collect()
}

/// The tokens of every layer from ApproxNet's maps; how many is not known before.
pub fn plan(facts: &Facts<'_>, lengths: &[usize]) -> Plan {
    let num_layers = facts.main.num_hidden_layers;
    let mut bounds = vec![lengths.iter().sum(); num_layers + 1];
    bounds[num_layers] = lengths.iter().map(|&length| facts.num_anchors.min(length)).sum();
    let rule = BackTrackingRule::Concrete {
        impact_weight: facts.constants.concrete_impact_weight,
        temperature: facts.constants.concrete_temperature,
        hard_threshold: facts.constants.concrete_hard_threshold,
    };
    let search = Search::BackTracking { maps_of: MapsOf::ApproxNet, kind: MapKind::MeanPhi, rule };
    Plan::new(search, facts, Vec::new(), bounds)
}

/// Where the recursion stands: the soft mask M and the scores c of the layer above.
pub struct Concrete {
    mask: Vec<f32>,
    c: Vec<f32>,
}

impl Concrete {
    /// Above the last layer: the anchors alone.
    pub fn new(num_tokens: usize, num_anchors: usize) -> Self {
        let mask: Vec<f32> = (0..num_tokens).map(|token| f32::from(token < num_anchors)).collect();
        Self { c: mask.clone(), mask }
    }

    /// What row i of a map counts.
    fn impact(&self, i: usize, impact_weight: f32) -> f32 {
        self.mask[i] * ((1.0 - impact_weight) + impact_weight * self.c[i])
    }

    /// Goes on to a layer with these scores c.
    fn raise(&mut self, c: &[f32], threshold: f32, temperature: f32) {
        for ((mask, own), &c) in self.mask.iter_mut().zip(&mut self.c).zip(c) {
            *own = c;
            *mask = mask.max(sigmoid((threshold + logit(c)) / temperature));
        }
    }

    /// One layer down, whose `threshold` is logit(p); gives the scores c of all tokens.
    pub fn step(&mut self, map: &[f32], threshold: f32, impact_weight: f32, temperature: f32) -> Vec<f32> {
        let num_tokens = self.mask.len();
        let mut u = vec![0.0; num_tokens];
        for i in 0..num_tokens {
            let impact = self.impact(i, impact_weight);
            for (u, phi) in u.iter_mut().zip(&map[i * num_tokens..]) {
                *u += phi * impact;
            }
        }
        let total = self.mask.iter().sum::<f32>() + CONCRETE_EPS;
        u.iter_mut().for_each(|u| *u /= total);
        let maximum = u.iter().copied().fold(f32::NEG_INFINITY, f32::max) + CONCRETE_EPS;
        let c: Vec<f32> = u.iter().map(|u| 0.01 + 0.99 * (u / maximum)).collect();
        self.raise(&c, threshold, temperature);
        c
    }

    /// Whether token j is in K_l.
    pub fn is_kept(&self, hard_threshold: f32) -> Vec<bool> {
        self.mask.iter().map(|&mask| mask >= hard_threshold).collect()
    }
}

/// Who asked for a token, in the scale of c.
pub fn explain(
    found: &Found<'_>,
    num_anchors: usize,
    thresholds: &[f32],
    (impact_weight, temperature): (f32, f32),
    layer: usize,
    position: usize,
) -> Vec<Contribution> {
    let num_tokens = found.token_scores[layer].len();
    let mut recursion = Concrete::new(num_tokens, num_anchors);
    for above in (layer + 1..thresholds.len()).rev() {
        recursion.raise(&found.token_scores[above], thresholds[above], temperature);
    }
    let map = &found.attention_maps[layer];
    let given = |i: usize, j: usize| map[i * num_tokens + j] * recursion.impact(i, impact_weight);
    let sums = (0..num_tokens).map(|j| (0..num_tokens).map(|i| given(i, j)).sum::<f32>());
    // u is divided by the sum of the mask, and then by the largest u.
    let total = recursion.mask.iter().sum::<f32>() + CONCRETE_EPS;
    let maximum = sums.fold(0.0, f32::max) / total + CONCRETE_EPS;
    let scale = 0.99 / total / maximum;
    (0..num_tokens).map(|i| Contribution { position: i, value: given(i, position) * scale }).collect()
}

/// The score from which on a token is kept, and what is said of a score that reaches it or not.
pub fn cut(threshold: f32, temperature: f32, hard_threshold: f32, score: f32) -> (f32, [String; 2]) {
    let cut = gate_at(threshold, temperature, hard_threshold);
    let (score, from) = (significant(score), significant(cut));
    let texts = [
        format!("its score {score} reaches the learned threshold {from}"),
        format!("its score {score} is below the learned threshold {from}"),
    ];
    (cut, texts)
}

/// The c at which sigmoid((logit(p) + logit(c)) / τ) is the hard threshold.
fn gate_at(threshold: f32, temperature: f32, hard_threshold: f32) -> f32 {
    // The odds may be 0 or infinite; their sigmoid is not.
    let c = sigmoid(temperature * (hard_threshold / (1.0 - hard_threshold)).ln() - threshold);
    c + CONCRETE_EPS * (2.0 * c - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At the cut the gate is the hard threshold; extremes give a number too.
    #[test]
    fn the_cut_is_where_the_gate_reaches_the_hard_threshold() {
        for (threshold, temperature, hard_threshold) in
            [(0.0, 0.1, 0.5), (-2.0, 0.1, 0.5), (1.5, 0.7, 0.9), (0.3, 1.0, 0.2)]
        {
            let c = gate_at(threshold, temperature, hard_threshold);
            let gate = sigmoid((threshold + logit(c)) / temperature);
            assert!((gate - hard_threshold).abs() < 1e-4, "p_logit {threshold}: the gate at {c} is {gate}");
        }
        for (threshold, hard_threshold, expected) in
            [(0.0, 1.0, 1.0), (0.0, 0.0, 0.0), (-200.0, 0.5, 1.0), (200.0, 0.5, 0.0)]
        {
            let c = gate_at(threshold, 0.1, hard_threshold);
            assert!((c - expected).abs() < 1e-6, "p_logit {threshold}, hard threshold {hard_threshold}: {c}");
        }
    }
}
