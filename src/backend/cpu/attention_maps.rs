//! maps[layer][i, j] = mean_h exp(S_h[i, j] − maximum) / sum, or mean_h Φ((S_h[i, j] − mean) / (std + EPS)); and from the same
//! scores, what attention gives.

use std::ops::Range;

use fearless_simd::prelude::*;
use fearless_simd::{Simd, dispatch};

use super::cores::Cores;
use super::math::{exponentials, normal_cdf, sum, sum_of_squares};
use super::product::{MAX_TILE_ROWS, tile_rows_on};
use super::scores::{PackedHeads, head_columns};
use super::{CpuBackend, CpuIndex, CpuMatrix};
use crate::backend::{ALL, AttentionMap, MapKind};
use crate::error::Result;
use crate::pruning::CONCRETE_EPS;

/// A few rows of a sample's map.
struct Task<'a> {
    sample: usize,
    /// The same of the level.
    rows: Range<usize>,
    num_tokens: usize,
    /// `[rows, num_tokens]`
    map: &'a mut [f32],
    /// `[rows, heads.stride()]`
    context: Option<&'a mut [f32]>,
}

/// `stats` has its size checked and is not used: a row's scores are kept until all is done with them.
pub fn attention_maps(
    cores: &Cores,
    call: &AttentionMap<'_, CpuBackend>,
    index: &CpuIndex,
    scratch: &mut Vec<f32>,
    stats: &CpuMatrix,
    maps: &mut CpuMatrix,
    context: Option<&mut CpuMatrix>,
) -> Result<()> {
    call.check(index.num_rows(call.rows.level), &index.layout, stats, maps, context.as_deref())?;
    let stride = call.heads.stride();
    let layer_maps = call.layer * index.layout.num_map_values;
    let keys = PackedHeads::new(cores, call.qkv, call.heads, index, call.rows.level, context.is_some(), scratch);
    let tile_rows = tile_rows_on(cores.level);
    let mut tasks = Vec::new();
    let mut maps = &mut maps.values[layer_maps..][..index.layout.num_map_values];
    let mut contexts = context.map(|context| context.values.as_mut_slice());
    for sample in 0..index.layout.num_samples {
        let rows = index.sample_rows(call.rows.level, sample);
        let num_tokens = index.sample_rows(ALL, sample).len();
        let (map, after) = maps.split_at_mut(num_tokens * num_tokens);
        maps = after;
        let tiles = map[..rows.len() * num_tokens].chunks_mut((tile_rows * num_tokens).max(1));
        for (tile, map) in tiles.enumerate() {
            let start = rows.start + tile * tile_rows;
            let rows = start..rows.end.min(start + tile_rows);
            // Rows are packed in the order of the samples.
            let context = contexts.take().map(|rest| {
                let (context, after) = rest.split_at_mut(rows.len() * stride);
                contexts = Some(after);
                context
            });
            tasks.push(Task { sample, rows, num_tokens, map, context });
        }
    }
    cores.for_each(tasks, |task| dispatch!(cores.level, simd => tile(simd, call, &keys, task)));
    Ok(())
}

#[inline(always)]
fn tile<S: Simd>(simd: S, call: &AttentionMap<'_, CpuBackend>, keys: &PackedHeads<'_>, mut task: Task<'_>) {
    let (num_heads, size) = (call.heads.num_heads, call.heads.head_stride());
    let (num_rows, num_keys, stride) = (task.rows.len(), keys.num_keys(task.sample), keys.scores_stride(task.sample));
    let mut scratch = Vec::new();
    let mut scores = vec![0.0; 2 * MAX_TILE_ROWS * stride];
    let (scores, sums) = scores.split_at_mut(MAX_TILE_ROWS * stride);
    let (scores, sums) = (&mut scores[..num_rows * stride], &mut sums[..num_rows * stride]);
    if let Some(context) = &mut task.context {
        call.heads.clear_padding(context);
    }
    for head in 0..num_heads {
        let queries: [_; MAX_TILE_ROWS] = head_columns(call.qkv, task.rows.clone(), head * size..(head + 1) * size);
        keys.scores(simd, task.sample, head, &queries[..num_rows], scores);
        if call.kind == MapKind::MeanPhi {
            for (scores, sums) in scores.chunks_exact(stride).zip(sums.chunks_exact_mut(stride)) {
                let (scores_of_keys, count) = (&scores[..num_keys], num_keys as f64);
                let mean = (sum(simd, scores_of_keys) / count) as f32;
                let std = (sum_of_squares(simd, scores_of_keys, mean) / count).sqrt() as f32;
                let factor = 1.0 / (std + CONCRETE_EPS);
                add(simd, scores, sums, |score| normal_cdf(simd, (score - mean) * factor));
            }
        }
        if call.kind == MapKind::MeanProbs || task.context.is_some() {
            let mut totals = [0.0; MAX_TILE_ROWS];
            for (scores, total) in scores.chunks_exact_mut(stride).zip(&mut totals) {
                *total = exponentials(simd, scores);
            }
            if call.kind == MapKind::MeanProbs {
                let rows = scores.chunks_exact(stride).zip(sums.chunks_exact_mut(stride));
                for ((scores, sums), total) in rows.zip(totals) {
                    let factor = 1.0 / total;
                    add(simd, scores, sums, |exponential| exponential * factor);
                }
            }
            if let Some(context) = &mut task.context {
                keys.context(simd, (task.sample, head), scores, &totals[..num_rows], context, &mut scratch);
            }
        }
    }
    let factor = (num_heads as f32).recip();
    for (map, sums) in task.map.chunks_exact_mut(task.num_tokens).zip(sums.chunks_exact(stride)) {
        for (value, sum) in map.iter_mut().zip(&sums[..num_keys]) {
            *value = sum * factor;
        }
    }
}

/// Adds a function of whole vectors of values to sums.
#[inline(always)]
fn add<S: Simd>(simd: S, values: &[f32], sums: &mut [f32], function: impl Fn(S::f32s) -> S::f32s) {
    for (values, sums) in values.chunks_exact(S::f32s::LEN).zip(sums.chunks_exact_mut(S::f32s::LEN)) {
        let value = function(S::f32s::from_slice(simd, values));
        (S::f32s::from_slice(simd, sums) + value).store_slice(sums);
    }
}
