//! From what a run found back to the reason for one of its choices.

use super::plan::{BackTrackingRule, Plan, Search};
use super::select::Selection;
use super::why::{Contribution, Found, Why};
use super::{concrete, forward, ltp, top_k};

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
        _ if position < anchors => {
            let name = if position == 0 { "[CLS]" } else { "the distillation token" };
            (true, format!("kept: {name} carries the answer"))
        }
        true if !here => (false, "removed by an earlier layer".to_owned()),
        true if next => (true, format!("passed on: {reaches}")),
        true => (false, format!("removed: {misses}")),
        false if here && next && score >= cut => (true, format!("kept: {reaches}, and the next layer keeps it")),
        false if here && next => (true, format!("kept because the next layer keeps it, although {misses}")),
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
