//! K_{l+1}: those of K_l that receive most attention from the rows of K_l, or more than a threshold, and the anchors.

use super::{CpuBackend, CpuIndex, CpuMatrix, MAX_PRUNED_TOKENS};
use crate::backend::{ALL, MatrixShape, SelectTokens, check};
use crate::error::Result;
use crate::pruning::choose;

pub fn run(call: &SelectTokens<'_, CpuBackend>, index: &mut CpuIndex, token_scores: &mut CpuMatrix) -> Result<()> {
    let (layout, layer) = (index.layout, call.layer);
    let maps = &call.maps.values;
    check(layout.max_tokens <= MAX_PRUNED_TOKENS, "select_tokens", "tokens", layout.max_tokens, MAX_PRUNED_TOKENS)?;
    let num_values = (layer + 1) * layout.num_map_values;
    check(maps.len() >= num_values, "select_tokens", "maps", maps.len(), num_values)?;
    let is_layer = layer < layout.num_layers;
    check(is_layer, "select_tokens", "layer", layer, format_args!("less than {}", layout.num_layers))?;
    check(token_scores.num_rows > layer, "select_tokens", "token_scores", token_scores.num_rows, layer + 1)?;
    let width = token_scores.width;
    check(width >= layout.num_tokens, "select_tokens", "token_scores", width, layout.num_tokens)?;
    let stride = token_scores.stride();
    for sample in 0..layout.num_samples {
        let rows = index.sample_rows(ALL, sample);
        let num_tokens = rows.len();
        let map = &maps[layer * layout.num_map_values + index.map_offset(sample)..][..num_tokens * num_tokens];
        let positions = index.kept(layer, sample).to_vec();
        let k = index.words[layout.k(layer) + sample] as usize;
        let (goes_on, chosen) = choose(call.selection, map, num_tokens, &positions, k, call.num_anchors);
        let scores = &mut token_scores.values[layer * stride + rows.start..][..num_tokens];
        scores.fill(0.0);
        for (&position, score) in positions.iter().zip(chosen) {
            scores[position as usize] = score;
        }
        let kept = positions.iter().zip(goes_on).filter(|(_, goes_on)| *goes_on);
        index.write_kept(layer + 1, sample, kept.map(|(&position, _)| position as usize));
    }
    Ok(())
}
