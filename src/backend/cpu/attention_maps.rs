//! maps[layer][i, j] = mean_h exp(S_h[i, j] − maximum) / sum, or mean_h Φ((S_h[i, j] − mean) / (std + EPS)).

use std::ops::Range;

use fearless_simd::prelude::*;
use fearless_simd::{Level, Simd, dispatch};

use super::math::{exp, normal_cdf};
use super::product::{MAX_TILE_ROWS, tile_rows_on};
use super::scores::{PackedHeads, tile_columns};
use super::threads::for_each;
use super::{CpuBackend, CpuIndex, CpuMatrix};
use crate::backend::{ALL, AttentionMap, MapKind, MatrixShape, check};
use crate::error::Result;

/// A few rows of a sample's map.
struct Task<'a> {
    sample: usize,
    /// The same of the level.
    rows: Range<usize>,
    num_tokens: usize,
    /// `[rows, num_tokens]`
    map: &'a mut [f32],
}

pub fn attention_maps(
    level: Level,
    call: &AttentionMap<'_, CpuBackend>,
    stats: &CpuMatrix,
    layer: usize,
    index: &CpuIndex,
    scratch: &mut Vec<f32>,
    maps: &mut CpuMatrix,
) -> Result<()> {
    let num_heads = call.heads.num_heads;
    check(
        call.qkv.stride() == 3 * call.heads.stride(),
        "attention_maps",
        "qkv",
        call.qkv.stride(),
        3 * call.heads.stride(),
    )?;
    check(stats.width >= 2 * num_heads, "attention_maps", "stats", stats.width, 2 * num_heads)?;
    let (num_rows, max_rows) = (index.num_rows(call.rows.level), stats.num_rows.min(call.qkv.num_rows));
    check(num_rows <= max_rows, "attention_maps", "rows", num_rows, max_rows)?;
    let layer_maps = layer * index.layout.num_map_values;
    check(
        layer_maps + index.layout.num_map_values <= maps.values.len(),
        "attention_maps",
        "maps",
        maps.values.len(),
        layer_maps + index.layout.num_map_values,
    )?;
    let keys = PackedHeads::new(level, call.qkv, call.heads, index, call.rows.level, false, scratch);
    let tile_rows = tile_rows_on(level);
    let mut tasks = Vec::new();
    let mut rest = &mut maps.values[layer_maps..][..index.layout.num_map_values];
    for sample in 0..index.layout.num_samples {
        let rows = index.sample_rows(call.rows.level, sample);
        let num_tokens = index.sample_rows(ALL, sample).len();
        let (map, after) = rest.split_at_mut(num_tokens * num_tokens);
        rest = after;
        let tiles = map[..rows.len() * num_tokens].chunks_mut((tile_rows * num_tokens).max(1));
        for (tile, map) in tiles.enumerate() {
            let start = rows.start + tile * tile_rows;
            tasks.push(Task { sample, rows: start..rows.end.min(start + tile_rows), num_tokens, map });
        }
    }
    for_each(tasks, |task| dispatch!(level, simd => tile(simd, call, stats, &keys, task)));
    Ok(())
}

#[inline(always)]
fn tile<S: Simd>(
    simd: S,
    call: &AttentionMap<'_, CpuBackend>,
    stats: &CpuMatrix,
    keys: &PackedHeads<'_>,
    task: Task<'_>,
) {
    let (num_heads, size) = (call.heads.num_heads, call.heads.head_stride());
    let stride = keys.scores_stride(task.sample);
    let mut scores = vec![0.0; 2 * MAX_TILE_ROWS * stride];
    let (scores, sums) = scores.split_at_mut(MAX_TILE_ROWS * stride);
    for head in 0..num_heads {
        let queries = tile_columns(call.qkv, task.rows.clone(), head * size..(head + 1) * size);
        keys.scores(simd, task.sample, head, &queries[..task.rows.len()], scores);
        let rows = scores.chunks_exact(stride).zip(sums.chunks_exact_mut(stride));
        for (row, (scores, sums)) in task.rows.clone().zip(rows) {
            // The centre of the row's scores, and the weight or the factor of what lies around it.
            let stats = &stats.row(row)[2 * head..];
            for (scores, sums) in scores.chunks_exact(S::f32s::LEN).zip(sums.chunks_exact_mut(S::f32s::LEN)) {
                let centred = S::f32s::from_slice(simd, scores) - stats[0];
                let value = match call.kind {
                    MapKind::MeanProbs => exp(simd, centred) / stats[1],
                    MapKind::MeanPhi => normal_cdf(simd, centred * stats[1]),
                };
                (S::f32s::from_slice(simd, sums) + value).store_slice(sums);
            }
        }
    }
    let num_keys = task.rows.len().min(1) * keys.num_keys(task.sample);
    for (map, sums) in task.map.chunks_exact_mut(task.num_tokens).zip(sums.chunks_exact(stride)) {
        for (value, sum) in map.iter_mut().zip(&sums[..num_keys]) {
            *value = sum / num_heads as f32;
        }
    }
}
