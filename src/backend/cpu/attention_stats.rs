//! Of the scores S_h[i, ·]: (maximum, Σ exp(S − maximum)), or (mean, 1 / (population std + EPS)).

use fearless_simd::prelude::*;
use fearless_simd::{Level, Simd, dispatch};

use super::math::{exp, maximum, sum};
use super::product::MAX_TILE_ROWS;
use super::scores::{PackedHeads, tile_columns, tiles};
use super::threads::for_each_block;
use super::{CpuBackend, CpuIndex, CpuMatrix};
use crate::backend::{AttentionMap, CONCRETE_EPS, MapKind, MatrixShape, check};
use crate::error::Result;

pub fn attention_stats(
    level: Level,
    call: &AttentionMap<'_, CpuBackend>,
    index: &CpuIndex,
    scratch: &mut Vec<f32>,
    stats: &mut CpuMatrix,
) -> Result<()> {
    let heads = call.heads;
    check(call.qkv.stride() == 3 * heads.stride(), "attention_stats", "qkv", call.qkv.stride(), 3 * heads.stride())?;
    check(stats.width >= 2 * heads.num_heads, "attention_stats", "stats", stats.width, 2 * heads.num_heads)?;
    let num_rows = index.num_rows(call.rows.level);
    let max_rows = stats.num_rows.min(call.qkv.num_rows);
    check(num_rows <= max_rows, "attention_stats", "rows", num_rows, max_rows)?;
    let keys = PackedHeads::new(level, call.qkv, heads, index, call.rows.level, false, scratch);
    let stride = stats.stride();
    for_each_block(stats, num_rows, |first_row, values| {
        dispatch!(level, simd => block(simd, call, index, &keys, first_row, values, stride));
    });
    Ok(())
}

/// The rows from `first_row` that `stats` holds.
#[inline(always)]
fn block<S: Simd>(
    simd: S,
    call: &AttentionMap<'_, CpuBackend>,
    index: &CpuIndex,
    keys: &PackedHeads<'_>,
    first_row: usize,
    stats: &mut [f32],
    stride: usize,
) {
    let size = call.heads.head_stride();
    let mut scores = Vec::new();
    for (sample, tile) in tiles::<S>(index, call.rows.level, first_row..first_row + stats.len() / stride) {
        let (num_keys, scores_stride) = (keys.num_keys(sample), keys.scores_stride(sample));
        scores.resize(MAX_TILE_ROWS * scores_stride, 0.0);
        let stats = &mut stats[(tile.start - first_row) * stride..][..tile.len() * stride];
        for head in 0..call.heads.num_heads {
            let queries = tile_columns(call.qkv, tile.clone(), head * size..(head + 1) * size);
            keys.scores(simd, sample, head, &queries[..tile.len()], &mut scores);
            for (scores, stats) in scores.chunks_exact_mut(scores_stride).zip(stats.chunks_exact_mut(stride)) {
                let pair = match call.kind {
                    MapKind::MeanProbs => maximum_and_sum(simd, scores, num_keys),
                    MapKind::MeanPhi => mean_and_factor(simd, &mut scores[..num_keys]),
                };
                stats[2 * head..][..2].copy_from_slice(&pair);
            }
        }
    }
}

/// (maximum, Σ exp(S − maximum)); the scores are padded to whole vectors, and are overwritten.
#[inline(always)]
fn maximum_and_sum<S: Simd>(simd: S, scores: &mut [f32], num_keys: usize) -> [f32; 2] {
    let maximum = maximum(simd, &scores[..num_keys]);
    scores[num_keys..].fill(f32::NEG_INFINITY);
    for scores in scores.chunks_exact_mut(S::f32s::LEN) {
        exp(simd, S::f32s::from_slice(simd, scores) - maximum).store_slice(scores);
    }
    [maximum, sum(simd, scores) as f32]
}

/// (mean, 1 / (population std + EPS)); the scores are overwritten.
#[inline(always)]
fn mean_and_factor<S: Simd>(simd: S, scores: &mut [f32]) -> [f32; 2] {
    let count = scores.len() as f64;
    let mean = (sum(simd, scores) / count) as f32;
    scores.iter_mut().for_each(|score| *score = (*score - mean) * (*score - mean));
    [mean, 1.0 / ((sum(simd, scores) / count).sqrt() as f32 + CONCRETE_EPS)]
}
