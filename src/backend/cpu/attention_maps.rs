//! maps[layer][i, j] = mean_h exp(S_h[i, j] − maximum) / sum, or mean_h Φ((S_h[i, j] − mean) / (std + EPS)).

use super::math::{dot, normal_cdf};
use super::{CpuBackend, CpuIndex, CpuMatrix};
use crate::backend::{ALL, AttentionMap, MapKind, MatrixShape, check};
use crate::error::Result;

/// S_head[query, key]: the scaled score before softmax.
pub fn score(call: &AttentionMap<'_, CpuBackend>, head: usize, query: usize, key: usize) -> f32 {
    let size = call.heads.head_stride();
    let query = &call.qkv.row(query)[head * size..][..size];
    let key = &call.qkv.row(key)[call.heads.stride() + head * size..][..size];
    dot(query, key) * call.heads.scale()
}

pub fn attention_maps(
    call: &AttentionMap<'_, CpuBackend>,
    stats: &CpuMatrix,
    layer: usize,
    index: &CpuIndex,
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
    for sample in 0..index.layout.num_samples {
        let rows = index.sample_rows(call.rows.level, sample);
        let num_tokens = index.sample_rows(ALL, sample).len();
        let sample_map = &mut maps.values[layer_maps + index.map_offset(sample)..][..num_tokens * num_tokens];
        let compute = |i: usize, map_row: &mut [f32]| {
            let query = rows.start + i;
            for (key, value) in rows.clone().zip(map_row) {
                let sum: f32 = (0..num_heads)
                    .map(|head| {
                        let score = score(call, head, query, key);
                        let stats = &stats.row(query)[2 * head..];
                        match call.kind {
                            MapKind::MeanProbs => (score - stats[0]).exp() / stats[1],
                            MapKind::MeanPhi => normal_cdf((score - stats[0]) * stats[1]),
                        }
                    })
                    .sum();
                *value = sum / num_heads as f32;
            }
        };
        #[cfg(feature = "threads")]
        {
            use rayon::prelude::*;
            sample_map.par_chunks_mut(num_tokens).take(rows.len()).enumerate().for_each(|(i, row)| compute(i, row));
        }
        #[cfg(not(feature = "threads"))]
        sample_map.chunks_mut(num_tokens).take(rows.len()).enumerate().for_each(|(i, row)| compute(i, row));
    }
    Ok(())
}
