//! Of the scores S_h[i, ·]: (maximum, Σ exp(S − maximum)), or (mean, 1 / (population std + EPS)).

use super::attention_maps::score;
use super::rows::for_each_row;
use super::{CpuBackend, CpuIndex, CpuMatrix};
use crate::backend::{AttentionMap, CONCRETE_EPS, MapKind, MatrixShape, check};
use crate::error::Result;

pub fn attention_stats(call: &AttentionMap<'_, CpuBackend>, index: &CpuIndex, stats: &mut CpuMatrix) -> Result<()> {
    let heads = call.heads;
    check(call.qkv.stride() == 3 * heads.stride(), "attention_stats", "qkv", call.qkv.stride(), 3 * heads.stride())?;
    check(stats.width >= 2 * heads.num_heads, "attention_stats", "stats", stats.width, 2 * heads.num_heads)?;
    let num_rows = index.num_rows(call.rows.level);
    let max_rows = stats.num_rows.min(call.qkv.num_rows);
    check(num_rows <= max_rows, "attention_stats", "rows", num_rows, max_rows)?;
    for_each_row(stats, num_rows, |row, values| {
        let keys = index.sample_rows(call.rows.level, index.sample_of_row(call.rows.level, row));
        for head in 0..heads.num_heads {
            let scores = keys.clone().map(|key| score(call, head, row, key));
            let pair = match call.kind {
                MapKind::MeanProbs => maximum_and_sum(scores),
                MapKind::MeanPhi => mean_and_factor(scores),
            };
            values[2 * head..][..2].copy_from_slice(&pair);
        }
    });
    Ok(())
}

/// (maximum, Σ exp(S − maximum)), streamed.
fn maximum_and_sum(scores: impl Iterator<Item = f32>) -> [f32; 2] {
    let (mut maximum, mut sum) = (f32::NEG_INFINITY, 0.0);
    for score in scores {
        let larger = score.max(maximum);
        sum = sum * (maximum - larger).exp() + (score - larger).exp();
        maximum = larger;
    }
    [maximum, sum]
}

/// (mean, 1 / (population std + EPS)), streamed by Welford's recurrence.
fn mean_and_factor(scores: impl Iterator<Item = f32>) -> [f32; 2] {
    let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0f32);
    for score in scores {
        count += 1.0;
        let difference = score - mean;
        mean += difference / count;
        squares += difference * (score - mean);
    }
    [mean, 1.0 / ((squares / count).sqrt() + CONCRETE_EPS)]
}
