//! maps[layer][i, j] = mean_h exp(S_h[i, j] − maximum) / sum, or mean_h Φ((S_h[i, j] − mean) / (std + EPS)).

use super::GpuBackend;
use super::attention::{SCORE_KEYS, SCORE_ROWS};
use super::attention_stats::kind;
use super::buffers::{GpuIndex, GpuMatrix};
use super::kernel::{INVOCATIONS, params, shader};
use super::queue::{Dispatch, Recorder};
use super::variant::Variant;
use crate::backend::{ALL, AttentionMap, MatrixShape};
use crate::error::Result;

/// Rows and columns that an invocation owns.
const TILE: usize = 4;

params! {
    struct Params {
        num_rows_at: u32,
        sample_of_row_at: u32,
        offsets_at: u32,
        all_offsets_at: u32,
        map_offsets_at: u32,
        first_value: u32,
        max_tokens: u32,
        num_heads: u32,
        head_size: u32,
        head_stride4: u32,
        qkv_stride4: u32,
        key_column4: u32,
        stats_stride: u32,
        scale: f32,
    }
}

shader!(
    "attention_maps",
    ["erf", "exp", "scores", "attention_maps_parts"],
    [Read, Read, Read, ReadWrite],
    [TILE, INVOCATIONS]
);
shader!(
    TILED = "attention_maps_tiled",
    ["erf", "exp", "score_tile", "attention_maps_parts"],
    [Read, Read, Read, ReadWrite],
    [SCORE_ROWS, SCORE_KEYS]
);

pub fn dispatch(
    recorder: &mut Recorder,
    call: &AttentionMap<'_, GpuBackend>,
    stats: &GpuMatrix,
    index: &GpuIndex,
    maps: &GpuMatrix,
) -> Result<()> {
    let heads = call.heads;
    let layout = index.layout;
    let first_value = call.layer * layout.num_map_values;
    let params = Params {
        num_rows_at: layout.num_rows(call.rows.level) as u32,
        sample_of_row_at: layout.sample_of_row(call.rows.level) as u32,
        offsets_at: layout.offsets(call.rows.level) as u32,
        all_offsets_at: layout.offsets(ALL) as u32,
        map_offsets_at: layout.map_offsets() as u32,
        first_value: first_value as u32,
        max_tokens: layout.max_tokens as u32,
        num_heads: heads.num_heads as u32,
        head_size: heads.head_size as u32,
        head_stride4: (heads.head_stride() / 4) as u32,
        qkv_stride4: call.qkv.stride4(),
        key_column4: (heads.stride() / 4) as u32,
        stats_stride: stats.stride() as u32,
        scale: heads.scale(),
    };
    let (num_rows, num_columns) = (call.rows.bound, layout.max_tokens);
    let (shader, num_workgroups) = match recorder.variants.attention {
        Variant::Wide => (&SHADER, (num_rows.div_ceil(TILE) * num_columns.div_ceil(TILE)).div_ceil(INVOCATIONS)),
        Variant::Tiled => (&TILED, num_rows.div_ceil(SCORE_ROWS) * num_columns.div_ceil(SCORE_KEYS)),
    };
    recorder.dispatch(Dispatch {
        shader,
        constants: &[("KIND", kind(call.kind))],
        params: bytemuck::bytes_of(&params),
        buffers: &[&call.qkv.buffer, &stats.buffer, &index.buffer, &maps.buffer],
        num_workgroups,
        multiply_adds: num_rows as u64 * num_columns as u64 * heads.width() as u64,
    });
    Ok(())
}
