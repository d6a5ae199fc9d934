//! The pruning rules in f64, straight from the paper's formulas, and maps to try them on.
//!
//! A set of kept tokens has no tolerance, so each rule refuses a case where f32 could decide either way.

use sttabt::backend::Selection;

use crate::data::Random;

/// Which kind of maps.
#[derive(Debug, Clone, Copy)]
pub enum Maps {
    /// Rows sum to 1, and some columns receive more than others.
    Random,
    /// As if of Φ: between 0 and 1.
    Phi,
    /// Three kinds of columns; those of a kind are equal to the last bit.
    Ties,
    /// All values are 1, the most that a map can hold.
    Equal,
    /// Columns whose sums differ by one ulp of a single value, the larger ones last.
    OneUlp,
}

/// `[length, length]`, of which `count` rows and columns are in use; the rest is NaN.
pub fn map(kind: Maps, length: usize, count: usize, layer: usize) -> Vec<f32> {
    let mut random = Random::new((length * 64 + layer) as u64);
    let importance: Vec<f32> = (0..count).map(|_| random.unit()).collect();
    let mut map = vec![f32::NAN; length * length];
    for i in 0..count {
        let row = &mut map[i * length..][..count];
        let classes = [random.unit(), random.unit(), random.unit()];
        for (j, value) in row.iter_mut().enumerate() {
            *value = match kind {
                Maps::Random => (0.1 + importance[j]) * random.unit(),
                Maps::Phi => 0.05 + 0.9 * (0.6 * importance[j] + 0.4 * random.unit()),
                // The first column receives least: [CLS] is kept for another reason.
                Maps::Ties => (0.5 + classes[j % 3]) / if j == 0 { 64.0 } else { 4.0 },
                Maps::Equal => 1.0,
                Maps::OneUlp => f32::from_bits(0.003_906_25f32.to_bits() + if i == j { j as u32 } else { 0 }),
            };
        }
        if matches!(kind, Maps::Random) {
            let sum: f32 = row.iter().sum();
            row.iter_mut().for_each(|value| *value /= sum);
        }
    }
    map
}

/// Kept positions, and the scores of all tokens.
pub struct Layer {
    pub kept: Vec<usize>,
    pub scores: Vec<f64>,
}

/// Which scores are among the k largest, equal ones in order of their index.
fn largest(scores: &[f64], k: usize, min_gap: impl Fn(f64) -> f64) -> Result<Vec<bool>, String> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    // A stable sort.
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    if let (Some(&last), Some(&next)) = (order.get(k.wrapping_sub(1)), order.get(k)) {
        let gap = scores[last] - scores[next];
        if gap != 0.0 && gap < min_gap(scores[last]) {
            return Err(format!("scores {} and {} are {gap:.1e} apart", scores[last], scores[next]));
        }
    }
    let mut picked = vec![false; scores.len()];
    order.iter().take(k).for_each(|&token| picked[token] = true);
    Ok(picked)
}

/// Rule 1.
pub fn top_k(maps: &[Vec<f32>], length: usize, k: &[usize], q: f64, num_anchors: usize) -> Result<Vec<Layer>, String> {
    let mut kept: Vec<usize> = (0..num_anchors.min(length)).collect();
    let mut w = vec![0.0; length];
    kept.iter().for_each(|&token| w[token] = 1.0 / kept.len() as f64);
    let mut layers = Vec::new();
    for (map, &k) in maps.iter().zip(k).rev() {
        let m: Vec<f64> = (0..length)
            .map(|j| {
                let received = |&i: &usize| f64::from(map[i * length + j]) * ((1.0 - q) + q * w[i]);
                kept.iter().map(received).sum::<f64>() / kept.len() as f64
            })
            .collect();
        let picked = largest(&m, k, |score| 4e-6 * score)?;
        kept = (0..length).filter(|token| picked[*token] || kept.contains(token)).collect();
        let total: f64 = kept.iter().map(|&token| m[token]).sum();
        w = m.iter().map(|m| m / (total + 1e-8)).collect();
        layers.insert(0, Layer { kept: kept.clone(), scores: m });
    }
    Ok(layers)
}

/// Rule 2.
pub fn concrete(
    maps: &[Vec<f32>],
    length: usize,
    thresholds: &[f32],
    [q, temperature, hard_threshold]: [f64; 3],
    num_anchors: usize,
) -> Result<Vec<Layer>, String> {
    const EPS: f64 = 1e-7;
    let mut mask: Vec<f64> = (0..length).map(|token| f64::from(token < num_anchors)).collect();
    let mut c = mask.clone();
    let mut layers = Vec::new();
    for (map, &threshold) in maps.iter().zip(thresholds).rev() {
        let total = mask.iter().sum::<f64>() + EPS;
        let u: Vec<f64> = (0..length)
            .map(|j| {
                let received = |i: usize| mask[i] * f64::from(map[i * length + j]) * ((1.0 - q) + q * c[i]);
                (0..length).map(received).sum::<f64>() / total
            })
            .collect();
        let maximum = u.iter().copied().fold(f64::NEG_INFINITY, f64::max) + EPS;
        c = u.iter().map(|u| 0.01 + 0.99 * (u / maximum)).collect();
        for (mask, c) in mask.iter_mut().zip(&c) {
            let logit = (c + EPS).ln() - (1.0 - c + EPS).ln();
            let g = 1.0 / (1.0 + (-(f64::from(threshold) + logit) / temperature).exp());
            *mask = mask.max(g);
            if (*mask - hard_threshold).abs() < 5e-5 {
                return Err(format!("a mask of {mask} is at the threshold {hard_threshold}"));
            }
        }
        let kept = (0..length).filter(|&token| mask[token] >= hard_threshold).collect();
        layers.insert(0, Layer { kept, scores: c.clone() });
    }
    Ok(layers)
}

/// `forward` and `ltp`: row and column i of the map are the token `positions[i]`.
pub fn select(
    selection: Selection,
    map: &[f32],
    length: usize,
    positions: &[usize],
    k: usize,
    num_anchors: usize,
) -> Result<Layer, String> {
    let count = positions.len();
    let received: Vec<f64> =
        (0..count).map(|j| (0..count).map(|i| f64::from(map[i * length + j])).sum::<f64>()).collect();
    // Every value is cut to a multiple of 2^−40.
    let cut = count as f64 / (1u64 << 40) as f64;
    let (picked, divisor) = match selection {
        Selection::Largest => (largest(&received, k, |_| cut)?, count),
        Selection::Above(threshold) => {
            let least = f64::from(threshold) * length as f64;
            // What is equal to the last bit is not above.
            let is_near = |sum: &&f64| (**sum - least).abs() < length as f64 * cut && **sum != least;
            if let Some(sum) = received.iter().find(is_near) {
                return Err(format!("a sum of {sum} is at the threshold {least}"));
            }
            (received.iter().map(|&sum| sum > least).collect(), length)
        }
    };
    let mut scores = vec![0.0; length];
    positions.iter().zip(&received).for_each(|(&position, received)| scores[position] = received / divisor as f64);
    let kept = positions.iter().zip(picked).filter(|&(&position, picked)| picked || position < num_anchors);
    Ok(Layer { kept: kept.map(|(&position, _)| position).collect(), scores })
}
