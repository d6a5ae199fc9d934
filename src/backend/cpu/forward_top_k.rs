//! K_{l+1}: of K_l, the k tokens with the largest mean attention received from the rows of K_l, and `[CLS]`.
//!
//! Sums are exact, in fixed point of 2⁻⁴⁰: real sentences have tokens whose means differ by less than one ulp.

use super::back_tracking::largest;
use super::{CpuIndex, CpuMatrix};
use crate::backend::{ALL, FIXED_POINT, MAX_PRUNED_TOKENS, MatrixShape, check};
use crate::error::Result;

pub fn run(maps: &CpuMatrix, layer: usize, index: &mut CpuIndex, token_scores: &mut CpuMatrix) -> Result<()> {
    let layout = index.layout;
    check(layout.max_tokens <= MAX_PRUNED_TOKENS, "forward_top_k", "tokens", layout.max_tokens, MAX_PRUNED_TOKENS)?;
    let num_values = (layer + 1) * layout.num_map_values;
    check(maps.values.len() >= num_values, "forward_top_k", "maps", maps.values.len(), num_values)?;
    check(layer < layout.num_layers, "forward_top_k", "layer", layer, format_args!("less than {}", layout.num_layers))?;
    check(token_scores.num_rows > layer, "forward_top_k", "token_scores", token_scores.num_rows, layer + 1)?;
    check(
        token_scores.width >= layout.num_tokens,
        "forward_top_k",
        "token_scores",
        token_scores.width,
        layout.num_tokens,
    )?;
    for sample in 0..layout.num_samples {
        let rows = index.sample_rows(ALL, sample);
        let num_tokens = rows.len();
        let map = &maps.values[layer * layout.num_map_values + index.map_offset(sample)..][..num_tokens * num_tokens];
        let positions = index.kept(layer, sample).to_vec();
        let k = index.words[layout.k(layer) + sample] as usize;
        let mut received = vec![0u64; positions.len()];
        for i in 0..positions.len() {
            for (sum, &a) in received.iter_mut().zip(&map[i * num_tokens..]) {
                *sum += (f64::from(a) * FIXED_POINT as f64) as u64;
            }
        }
        let is_largest = largest(&received, k);
        let stride = token_scores.stride();
        let scores = &mut token_scores.values[layer * stride + rows.start..][..num_tokens];
        scores.fill(0.0);
        for (&position, received) in positions.iter().zip(received) {
            scores[position as usize] = (received as f64 / FIXED_POINT as f64 / positions.len() as f64) as f32;
        }
        // Position 0 is `[CLS]`, which always stays.
        let kept = positions.iter().zip(is_largest).filter(|&(&position, is_largest)| position == 0 || is_largest);
        index.write_kept(layer + 1, sample, kept.map(|(&position, _)| position as usize));
    }
    Ok(())
}
