//! Why a token survived a layer, or did not: its score taken apart into what each row that asked for it gave.

use crate::backend::{CONCRETE_EPS, TOP_K_EPS, logit, sigmoid};

/// How a token got its score at one layer (paper, section 3).
#[derive(Debug, Clone, PartialEq)]
pub struct Why {
    /// l, from 0.
    pub layer: usize,
    /// j
    pub position: usize,
    /// Whether it is in K_l; under `forward`, whether layer l passes it on (K_{l+1}).
    pub kept: bool,
    /// m\[j\] of Rule 1, c\[j\] of Rule 2, the attention received under `forward`.
    pub score: f32,
    /// The smallest score that was picked; under `concrete` the score from which the layer's learned threshold keeps a token.
    pub cut: f32,
    /// One sentence.
    pub reason: String,
    /// Who asked for it, largest value first. The values add up to the score; under `concrete` to the score less 0.01, which
    /// every token has.
    pub contributions: Vec<Contribution>,
}

/// What one row of the next layer (under `forward`, of this one) adds to a score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Contribution {
    /// i
    pub position: usize,
    /// Its share.
    pub value: f32,
}

/// How a rule chose, with its constants.
#[derive(Debug, Clone, PartialEq)]
pub enum Choice {
    /// `topk` and `oracle`: k of the layer, q.
    TopK { k: usize, impact_weight: f32 },
    /// `concrete`: logit(p) of all layers, q, τ and the hard threshold.
    Concrete { thresholds: Vec<f32>, impact_weight: f32, temperature: f32, hard_threshold: f32 },
    /// `forward`: k of the layer.
    Forward { k: usize },
}

/// What a run under a rule found: the fields of `Classification`.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// K_0 … K_L
    pub kept: &'a [Vec<u32>],
    /// `[L][T]`
    pub token_scores: &'a [Vec<f32>],
    /// `[L][T · T]`; under `forward` `[|K_l| · |K_l|]`
    pub attention_maps: &'a [Vec<f32>],
}

/// Takes the score of `position` at `layer` apart; both are in range.
pub fn why(found: &Found<'_>, choice: &Choice, layer: usize, position: usize) -> Why {
    let scores = &found.token_scores[layer];
    let score = scores[position];
    let asked_for = found.kept[layer + 1].binary_search(&(position as u32)).is_ok();
    let (cut, mut contributions) = match choice {
        Choice::TopK { k, impact_weight } => (kth_largest(scores, *k), top_k(found, *impact_weight, layer, position)),
        Choice::Concrete { thresholds, impact_weight, temperature, hard_threshold } => (
            concrete_cut(thresholds[layer], *temperature, *hard_threshold),
            concrete(found, thresholds, *impact_weight, *temperature, layer, position),
        ),
        Choice::Forward { k } => (kth_largest(scores, *k), forward(found, layer, position)),
    };
    contributions.sort_by(|one, other| other.value.total_cmp(&one.value));
    let (kept, reason) = match choice {
        Choice::Forward { k } => {
            let entered = found.kept[layer].binary_search(&(position as u32)).is_ok();
            (asked_for, forward_reason(score, cut, *k, position, entered, asked_for))
        }
        _ => {
            let kept = found.kept[layer].binary_search(&(position as u32)).is_ok();
            (kept, reason(choice, score, cut, position, kept, asked_for))
        }
    };
    Why { layer, position, kept, score, cut, reason, contributions }
}

/// Rule 1: Ā\[i, j\] · ((1 − q) + q · w\[i\]) / |K_{l+1}| of every i in K_{l+1}.
fn top_k(found: &Found<'_>, impact_weight: f32, layer: usize, position: usize) -> Vec<Contribution> {
    let rows = &found.kept[layer + 1];
    let num_tokens = found.token_scores[layer].len();
    let (map, above) = (&found.attention_maps[layer], found.token_scores.get(layer + 1));
    let total = above.map_or(0.0, |m| rows.iter().map(|&i| m[i as usize]).sum::<f32>());
    let contribution = |&i: &u32| {
        let i = i as usize;
        // Above the last layer all weight lies on `[CLS]`.
        let w = above.map_or(1.0, |m| m[i] / (total + TOP_K_EPS));
        let impact = (1.0 - impact_weight) + impact_weight * w;
        Contribution { position: i, value: map[i * num_tokens + position] * impact / rows.len() as f32 }
    };
    rows.iter().map(contribution).collect()
}

/// Rule 2: row i of the soft mask M_{l+1} adds M\[i\] · U\[i, j\] · ((1 − q) + q · c\[i\]), in the scale of c.
fn concrete(
    found: &Found<'_>,
    thresholds: &[f32],
    impact_weight: f32,
    temperature: f32,
    layer: usize,
    position: usize,
) -> Vec<Contribution> {
    let num_tokens = found.token_scores[layer].len();
    let one_hot: Vec<f32> = (0..num_tokens).map(|token| f32::from(token == 0)).collect();
    let mut mask = one_hot.clone();
    for above in (layer + 1..thresholds.len()).rev() {
        for (mask, &c) in mask.iter_mut().zip(&found.token_scores[above]) {
            *mask = mask.max(sigmoid((thresholds[above] + logit(c)) / temperature));
        }
    }
    let c = found.token_scores.get(layer + 1).unwrap_or(&one_hot);
    let map = &found.attention_maps[layer];
    let given = |i: usize, j: usize| mask[i] * map[i * num_tokens + j] * ((1.0 - impact_weight) + impact_weight * c[i]);
    let sums = (0..num_tokens).map(|j| (0..num_tokens).map(|i| given(i, j)).sum::<f32>());
    // u is divided by the sum of the mask, and then by the largest u.
    let total = mask.iter().sum::<f32>() + CONCRETE_EPS;
    let maximum = sums.fold(0.0, f32::max) / total + CONCRETE_EPS;
    let scale = 0.99 / total / maximum;
    (0..num_tokens).map(|i| Contribution { position: i, value: given(i, position) * scale }).collect()
}

/// The attention that each row of K_l pays, over their number.
fn forward(found: &Found<'_>, layer: usize, position: usize) -> Vec<Contribution> {
    let rows = &found.kept[layer];
    let Ok(column) = rows.binary_search(&(position as u32)) else { return Vec::new() };
    let value = |row: usize| found.attention_maps[layer][row * rows.len() + column] / rows.len() as f32;
    rows.iter().enumerate().map(|(row, &i)| Contribution { position: i as usize, value: value(row) }).collect()
}

/// The c at which sigmoid((logit(p) + logit(c)) / τ) is the hard threshold.
fn concrete_cut(threshold: f32, temperature: f32, hard_threshold: f32) -> f32 {
    // The odds may be 0 or infinite; their sigmoid is not.
    let c = sigmoid(temperature * (hard_threshold / (1.0 - hard_threshold)).ln() - threshold);
    c + CONCRETE_EPS * (2.0 * c - 1.0)
}

fn kth_largest(scores: &[f32], k: usize) -> f32 {
    let mut sorted = scores.to_vec();
    sorted.sort_by(|one, other| other.total_cmp(one));
    sorted[k.clamp(1, sorted.len()) - 1]
}

/// With three digits that say something: scores of a picture's many patches are small.
fn significant(value: f32) -> String {
    let digits = if value == 0.0 { 0.0 } else { 2.0 - value.abs().log10().floor() };
    format!("{value:.*}", digits.clamp(0.0, 9.0) as usize)
}

fn reason(choice: &Choice, score: f32, cut: f32, position: usize, kept: bool, asked_for: bool) -> String {
    let (shown, cut_shown) = (significant(score), significant(cut));
    let (reaches, misses) = match choice {
        Choice::TopK { k, .. } | Choice::Forward { k } => (
            format!("its score {shown} is among the {k} largest (from {cut_shown})"),
            format!("its score {shown} is not among the {k} largest (from {cut_shown})"),
        ),
        Choice::Concrete { .. } => (
            format!("its score {shown} reaches the learned threshold {cut_shown}"),
            format!("its score {shown} is below the learned threshold {cut_shown}"),
        ),
    };
    match (position, kept, asked_for) {
        (0, ..) => "kept: [CLS] carries the answer".to_owned(),
        (_, true, true) if score >= cut => format!("kept: {reaches}, and the next layer keeps it"),
        (_, true, true) => format!("kept because the next layer keeps it: {misses}"),
        (_, true, false) => format!("kept: {reaches}"),
        (_, false, _) if score == cut => format!("removed: {misses}; of equal scores the earlier token is taken"),
        (_, false, _) => format!("removed: {misses}, and the next layer does not keep it"),
    }
}

fn forward_reason(score: f32, cut: f32, k: usize, position: usize, entered: bool, kept: bool) -> String {
    let (score, cut) = (significant(score), significant(cut));
    match (position, entered, kept) {
        (0, ..) => "kept: [CLS] carries the answer".to_owned(),
        (_, false, _) => "removed by an earlier layer".to_owned(),
        (_, true, true) => {
            format!("passed on: the attention it received, {score}, is among the {k} largest (from {cut})")
        }
        (_, true, false) => {
            format!("removed: the attention it received, {score}, is not among the {k} largest (from {cut})")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At the cut the gate is the hard threshold; extremes give a number too.
    #[test]
    fn the_concrete_cut_is_where_the_gate_reaches_the_hard_threshold() {
        for (threshold, temperature, hard_threshold) in
            [(0.0, 0.1, 0.5), (-2.0, 0.1, 0.5), (1.5, 0.7, 0.9), (0.3, 1.0, 0.2)]
        {
            let c = concrete_cut(threshold, temperature, hard_threshold);
            let gate = sigmoid((threshold + logit(c)) / temperature);
            assert!((gate - hard_threshold).abs() < 1e-4, "p_logit {threshold}: the gate at {c} is {gate}");
        }
        for (threshold, hard_threshold, expected) in
            [(0.0, 1.0, 1.0), (0.0, 0.0, 0.0), (-200.0, 0.5, 1.0), (200.0, 0.5, 0.0)]
        {
            let c = concrete_cut(threshold, 0.1, hard_threshold);
            assert!((c - expected).abs() < 1e-6, "p_logit {threshold}, hard threshold {hard_threshold}: {c}");
        }
    }
}
