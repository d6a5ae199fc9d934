//! Attention back-tracking: the paper's two recursions, from the last layer's `[CLS]` to the input, over all samples of a chunk. Their
//! steps are those of the room `pruning`.

use super::cores::Cores;
use super::{CpuBackend, CpuIndex, CpuMatrix, MAX_PRUNED_TOKENS};
use crate::backend::{ALL, BackTracking, BackTrackingRule, MatrixShape, check};
use crate::error::Result;
use crate::pruning::{Concrete, TopK};

/// What back-tracking finds at one layer.
struct LayerTokens {
    layer: usize,
    /// Whether token j is in K_l.
    is_kept: Vec<bool>,
    /// m\[j\] of Rule 1, c\[j\] of Rule 2.
    token_scores: Vec<f32>,
}

pub fn run(
    cores: &Cores,
    call: &BackTracking<'_, CpuBackend>,
    index: &mut CpuIndex,
    token_scores: &mut CpuMatrix,
) -> Result<()> {
    let layout = index.layout;
    let num_layers = layout.num_layers;
    check(layout.max_tokens <= MAX_PRUNED_TOKENS, "back_tracking", "tokens", layout.max_tokens, MAX_PRUNED_TOKENS)?;
    let num_values = num_layers * layout.num_map_values;
    check(call.maps.values.len() >= num_values, "back_tracking", "maps", call.maps.values.len(), num_values)?;
    check(call.thresholds.stride() >= num_layers, "back_tracking", "thresholds", call.thresholds.stride(), num_layers)?;
    check(token_scores.num_rows >= num_layers, "back_tracking", "token_scores", token_scores.num_rows, num_layers)?;
    check(
        token_scores.width >= layout.num_tokens,
        "back_tracking",
        "token_scores",
        token_scores.width,
        layout.num_tokens,
    )?;
    let num_anchors = call.num_anchors;
    let mut samples: Vec<Vec<LayerTokens>> = (0..layout.num_samples).map(|_| Vec::new()).collect();
    cores.for_each(samples.iter_mut().enumerate().collect(), |(sample, layers): (usize, &mut Vec<LayerTokens>)| {
        let num_tokens = index.sample_rows(ALL, sample).len();
        let map = |layer: usize| {
            let first_value = layer * layout.num_map_values + index.map_offset(sample);
            &call.maps.values[first_value..][..num_tokens * num_tokens]
        };
        let downwards = (0..num_layers).rev();
        match call.rule {
            BackTrackingRule::TopK { impact_weight } => {
                let mut recursion = TopK::new(num_tokens, num_anchors);
                layers.extend(downwards.map(|layer| {
                    let k = index.words[layout.k(layer) + sample] as usize;
                    let token_scores = recursion.step(map(layer), k, impact_weight);
                    LayerTokens { layer, is_kept: recursion.is_kept().to_vec(), token_scores }
                }));
            }
            BackTrackingRule::Concrete { impact_weight, temperature, hard_threshold } => {
                let mut recursion = Concrete::new(num_tokens, num_anchors);
                layers.extend(downwards.map(|layer| {
                    let threshold = call.thresholds.row(0)[layer];
                    let token_scores = recursion.step(map(layer), threshold, impact_weight, temperature);
                    LayerTokens { layer, is_kept: recursion.is_kept(hard_threshold), token_scores }
                }));
            }
        }
    });
    let stride = token_scores.stride();
    for (sample, layers) in samples.iter().enumerate() {
        let rows = index.sample_rows(ALL, sample);
        let num_tokens = rows.len();
        for tokens in layers {
            index.write_kept(tokens.layer, sample, (0..num_tokens).filter(|&token| tokens.is_kept[token]));
            let scores = &mut token_scores.values[tokens.layer * stride + rows.start..][..num_tokens];
            scores.copy_from_slice(&tokens.token_scores);
        }
        index.write_kept(num_layers, sample, 0..num_anchors.min(num_tokens));
    }
    Ok(())
}
