//! Attention back-tracking: the paper's two recursions, from the last layer's `[CLS]` to the input.
//!
//! Both take the attention maps of one sample (`maps[l]`, `[T, T]`, row i attends to column j) and give the tokens to keep,
//! K_0 ⊇ K_1 ⊇ … ⊇ K_{L−1} ⊇ K_L = {0}, as flags, and every token's score at every layer.

use super::cores::Cores;
use super::{CpuBackend, CpuIndex, CpuMatrix};
use crate::backend::{
    ALL, BackTracking, BackTrackingRule, CONCRETE_EPS, MAX_PRUNED_TOKENS, MatrixShape, TOP_K_EPS, check, logit, sigmoid,
};
use crate::error::Result;

/// What back-tracking finds at one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerTokens {
    /// Whether token j is in K_l.
    pub is_kept: Vec<bool>,
    /// m\[j\] of Rule 1, c\[j\] of Rule 2.
    pub token_scores: Vec<f32>,
}

/// Rule 1, top-k back-tracking (Algorithm 1): keeps the `k[l]` tokens that the kept tokens of the next layer attend to most.
pub fn top_k(maps: &[&[f32]], num_tokens: usize, k: &[usize], impact_weight: f32) -> Vec<LayerTokens> {
    let mut is_kept: Vec<bool> = (0..num_tokens).map(|token| token == 0).collect();
    let mut w: Vec<f32> = is_kept.iter().map(|&kept| f32::from(kept)).collect();
    let mut layers: Vec<LayerTokens> = Vec::with_capacity(maps.len());
    for (map, &k) in maps.iter().zip(k).rev() {
        let num_kept = is_kept.iter().filter(|&&kept| kept).count() as f32;
        let mut m = vec![0.0; num_tokens];
        for i in (0..num_tokens).filter(|&i| is_kept[i]) {
            let impact = (1.0 - impact_weight) + impact_weight * w[i];
            for (m, a) in m.iter_mut().zip(&map[i * num_tokens..]) {
                *m += a * impact;
            }
        }
        m.iter_mut().for_each(|m| *m /= num_kept);
        for (kept, is_largest) in is_kept.iter_mut().zip(largest(&m, k)) {
            *kept |= is_largest;
        }
        let total: f32 = (0..num_tokens).filter(|&j| is_kept[j]).map(|j| m[j]).sum();
        w = m.iter().map(|m| m / (total + TOP_K_EPS)).collect();
        layers.push(LayerTokens { is_kept: is_kept.clone(), token_scores: m });
    }
    layers.reverse();
    layers
}

/// Rule 2, concrete masking: keeps the tokens whose soft mask reaches the hard threshold. `thresholds[l]` is logit(p_l).
pub fn concrete(
    maps: &[&[f32]],
    num_tokens: usize,
    thresholds: &[f32],
    (impact_weight, temperature, hard_threshold): (f32, f32, f32),
) -> Vec<LayerTokens> {
    let mut mask: Vec<f32> = (0..num_tokens).map(|token| f32::from(token == 0)).collect();
    let mut c = mask.clone();
    let mut layers: Vec<LayerTokens> = Vec::with_capacity(maps.len());
    for (map, threshold) in maps.iter().zip(thresholds).rev() {
        let mut u = vec![0.0; num_tokens];
        for i in 0..num_tokens {
            let impact = mask[i] * ((1.0 - impact_weight) + impact_weight * c[i]);
            for (u, phi) in u.iter_mut().zip(&map[i * num_tokens..]) {
                *u += phi * impact;
            }
        }
        let total = mask.iter().sum::<f32>() + CONCRETE_EPS;
        u.iter_mut().for_each(|u| *u /= total);
        let maximum = u.iter().copied().fold(f32::NEG_INFINITY, f32::max) + CONCRETE_EPS;
        for j in 0..num_tokens {
            c[j] = 0.01 + 0.99 * (u[j] / maximum);
            mask[j] = mask[j].max(sigmoid((threshold + logit(c[j])) / temperature));
        }
        let is_kept = mask.iter().map(|&mask| mask >= hard_threshold).collect();
        layers.push(LayerTokens { is_kept, token_scores: c.clone() });
    }
    layers.reverse();
    layers
}

/// Which of the values are the k largest; of equal ones, those with the lower index.
pub fn largest<T: PartialOrd>(values: &[T], k: usize) -> Vec<bool> {
    // What is no number comes first: the scores of an overflow become an error, and until then any order will do.
    let is_nan = |value: &T| value.partial_cmp(value).is_none();
    let descending = |i: &usize, j: &usize| {
        let (one, other) = (&values[*i], &values[*j]);
        other.partial_cmp(one).unwrap_or_else(|| is_nan(other).cmp(&is_nan(one))).then(i.cmp(j))
    };
    let mut order: Vec<usize> = (0..values.len()).collect();
    if k < order.len() {
        order.select_nth_unstable_by(k, descending);
        order.truncate(k);
    }
    let mut is_largest = vec![false; values.len()];
    order.into_iter().for_each(|place| is_largest[place] = true);
    is_largest
}

/// The kernel: both rules over all samples of the chunk.
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
    let mut samples: Vec<Vec<LayerTokens>> = vec![Vec::new(); layout.num_samples];
    cores.for_each(samples.iter_mut().enumerate().collect(), |(sample, layers): (usize, &mut Vec<LayerTokens>)| {
        let num_tokens = index.sample_rows(ALL, sample).len();
        let maps: Vec<&[f32]> = (0..num_layers)
            .map(|layer| {
                &call.maps.values[layer * layout.num_map_values + index.map_offset(sample)..][..num_tokens * num_tokens]
            })
            .collect();
        *layers = match call.rule {
            BackTrackingRule::TopK { impact_weight } => {
                let k: Vec<usize> =
                    (0..num_layers).map(|layer| index.words[layout.k(layer) + sample] as usize).collect();
                top_k(&maps, num_tokens, &k, impact_weight)
            }
            BackTrackingRule::Concrete { impact_weight, temperature, hard_threshold } => {
                concrete(&maps, num_tokens, call.thresholds.row(0), (impact_weight, temperature, hard_threshold))
            }
        };
    });
    for (sample, layers) in samples.iter().enumerate() {
        let rows = index.sample_rows(ALL, sample);
        let num_tokens = rows.len();
        for (layer, tokens) in layers.iter().enumerate() {
            index.write_kept(layer, sample, (0..num_tokens).filter(|&token| tokens.is_kept[token]));
            let stride = token_scores.stride();
            token_scores.values[layer * stride + rows.start..][..num_tokens].copy_from_slice(&tokens.token_scores);
        }
        index.write_kept(num_layers, sample, std::iter::once(0));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Equal values keep the order of their indices: the lower index is picked first.
    #[test]
    fn ties_go_to_the_lower_index() {
        // The places in the order in which they are picked.
        for (values, order) in
            [([1.0, 3.0, 3.0, 2.0, 3.0], [1, 2, 4, 3, 0]), ([0.0, f64::NAN, -0.0, 1.0, f64::NAN], [1, 4, 3, 0, 2])]
        {
            for k in 0..=6 {
                let picks = &order[..k.min(5)];
                assert_eq!(
                    largest(&values, k),
                    [0, 1, 2, 3, 4].map(|place| picks.contains(&place)),
                    "{k} of {values:?}"
                );
            }
        }
        let uniform = vec![0.25; 16];
        let layers = top_k(&[&uniform, &uniform], 4, &[3, 2], 0.1);
        assert_eq!(layers[1].is_kept, [true, true, false, false]);
        assert_eq!(layers[0].is_kept, [true, true, true, false]);
    }

    /// The k picks do not count the tokens that are kept anyway.
    #[test]
    fn kept_tokens_do_not_count_towards_k() {
        let map = [0.0, 0.1, 0.2, 0.7, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let layers = top_k(&[&map], 4, &[2], 0.1);
        assert_eq!(layers[0].is_kept, [true, false, true, true], "the two picks and [CLS]");
    }
}
