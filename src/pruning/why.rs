//! Why a token survived a layer, or did not: its score taken apart into what each row that asked for it gave.

use serde::Serialize;

use super::plan::{BackTrackingRule, Plan, Search};
use super::select::Selection;
use super::{concrete, forward, ltp, top_k};

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
    /// The smallest score that was picked; under `concrete` the score from which the layer's learned threshold keeps a token, under
    /// `ltp` the threshold itself.
    pub cut: f32,
    /// One sentence.
    pub reason: String,
    /// Who asked for it, largest value first. The values add up to the score; under `concrete` to the score less 0.01, which
    /// every token has.
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

/// Takes the score of `position` at `layer` apart; both are in range. `thresholds` are those of Rule 2, see [`concrete::thresholds`].
pub fn why(found: &Found<'_>, plan: &Plan, thresholds: &[f32], layer: usize, position: usize) -> Option<Why> {
    let (scores, anchors) = (&found.token_scores[layer], plan.num_anchors);
    let score = scores[position];
    let k = plan.k.get(layer).and_then(|k| k.first()).copied().unwrap_or(0);
    let ((cut, texts), mut contributions) = match &plan.search {
        Search::Nothing => return None,
        Search::BackTracking { rule: BackTrackingRule::TopK { impact_weight }, .. } => {
            (top_k::cut(scores, k, score), top_k::explain(found, anchors, *impact_weight, layer, position))
        }
        Search::BackTracking {
            rule: BackTrackingRule::Concrete { impact_weight, temperature, hard_threshold },
            ..
        } => (
            concrete::cut(*thresholds.get(layer)?, *temperature, *hard_threshold, score),
            concrete::explain(found, anchors, thresholds, (*impact_weight, *temperature), layer, position),
        ),
        Search::LayerByLayer { selections } => {
            let selection = *selections.get(layer)?;
            let cut = match selection {
                Selection::Largest => forward::cut(scores, k.min(found.kept[layer].len()), score),
                Selection::Above(threshold) => ltp::cut(threshold, score),
            };
            (cut, received(found, selection, layer, position))
        }
    };
    contributions.sort_by(|one, other| other.value.total_cmp(&one.value));
    let is_in = |level: usize| found.kept[level].binary_search(&(position as u32)).is_ok();
    let (here, next) = (is_in(layer), is_in(layer + 1));
    let [reaches, misses] = texts;
    let (kept, reason) = match plan.is_layer_by_layer() {
        _ if position < anchors => (true, "kept: [CLS] carries the answer".to_owned()),
        true if !here => (false, "removed by an earlier layer".to_owned()),
        true if next => (true, format!("passed on: {reaches}")),
        true => (false, format!("removed: {misses}")),
        false if here && next && score >= cut => (true, format!("kept: {reaches}, and the next layer keeps it")),
        false if here && next => (true, format!("kept because the next layer keeps it: {misses}")),
        false if here => (true, format!("kept: {reaches}")),
        false if score == cut => (false, format!("removed: {misses}; of equal scores the earlier token is taken")),
        false => (false, format!("removed: {misses}, and the next layer does not keep it")),
    };
    Some(Why { layer, position, kept, score, cut, reason, contributions })
}

/// The attention that each row of K_l pays, over what the rule divides by.
fn received(found: &Found<'_>, selection: Selection, layer: usize, position: usize) -> Vec<Contribution> {
    let (rows, num_tokens) = (&found.kept[layer], found.token_scores[layer].len());
    let Ok(column) = rows.binary_search(&(position as u32)) else { return Vec::new() };
    let divisor = selection.divisor(rows.len(), num_tokens) as f32;
    let value = |row: usize| found.attention_maps[layer][row * rows.len() + column] / divisor;
    rows.iter().enumerate().map(|(row, &i)| Contribution { position: i as usize, value: value(row) }).collect()
}

/// With three digits that say something: scores of a picture's many patches are small.
pub fn significant(value: f32) -> String {
    let digits = if value == 0.0 { 0.0 } else { 2.0 - value.abs().log10().floor() };
    format!("{value:.*}", digits.clamp(0.0, 9.0) as usize)
}
