//! Of the scores S_h[i, ·]: (maximum, Σ exp(S − maximum)), or (mean, 1 / (population std + EPS)).

use super::GpuBackend;
use super::attention::SCORE_ROWS;
use super::buffers::{GpuIndex, GpuMatrix};
use super::kernel::{INVOCATIONS, params, shader};
use super::queue::{Dispatch, Recorder};
use super::variant::Variant;
use crate::backend::{AttentionMap, MapKind, MatrixShape};
use crate::error::Result;
use crate::pruning::CONCRETE_EPS;

/// Rows that an invocation owns.
const TILE_ROWS: usize = 4;

params! {
    struct Params {
        num_rows_at: u32,
        sample_of_row_at: u32,
        offsets_at: u32,
        num_heads: u32,
        head_size: u32,
        head_stride4: u32,
        qkv_stride4: u32,
        key_column4: u32,
        stats_stride: u32,
        scale: f32,
        eps: f32,
    }
}

shader!(
    "attention_stats",
    ["exp", "vectors", "scores", "stats", "attention_stats_parts"],
    [Read, Read, ReadWrite],
    [TILE_ROWS, INVOCATIONS]
);
shader!(
    TILED = "attention_stats_tiled",
    ["exp", "vectors", "score_tile", "score_rows", "attention_stats_parts"],
    [Read, Read, ReadWrite],
    [SCORE_ROWS]
);

/// The override `KIND` of both shaders.
pub fn kind(kind: MapKind) -> f64 {
    match kind {
        MapKind::MeanProbs => 0.0,
        MapKind::MeanPhi => 1.0,
    }
}

pub fn dispatch(
    recorder: &mut Recorder,
    call: &AttentionMap<'_, GpuBackend>,
    index: &GpuIndex,
    stats: &GpuMatrix,
) -> Result<()> {
    let heads = call.heads;
    let layout = index.layout;
    let params = Params {
        num_rows_at: layout.num_rows(call.rows.level) as u32,
        sample_of_row_at: layout.sample_of_row(call.rows.level) as u32,
        offsets_at: layout.offsets(call.rows.level) as u32,
        num_heads: heads.num_heads as u32,
        head_size: heads.head_size as u32,
        head_stride4: (heads.head_stride() / 4) as u32,
        qkv_stride4: call.qkv.stride4(),
        key_column4: (heads.stride() / 4) as u32,
        stats_stride: stats.stride() as u32,
        scale: heads.scale(),
        eps: CONCRETE_EPS,
    };
    let num_rows = call.rows.bound;
    let (shader, num_workgroups) = match recorder.variants.attention {
        Variant::Wide => (&SHADER, (num_rows.div_ceil(TILE_ROWS) * heads.num_heads).div_ceil(INVOCATIONS)),
        Variant::Tiled => (&TILED, num_rows.div_ceil(SCORE_ROWS) * heads.num_heads),
    };
    recorder.dispatch(Dispatch {
        shader,
        constants: &[("KIND", kind(call.kind))],
        params: bytemuck::bytes_of(&params),
        buffers: &[&call.qkv.buffer, &index.buffer, &stats.buffer],
        num_workgroups,
        multiply_adds: num_rows as u64 * layout.max_tokens as u64 * heads.width() as u64,
    });
    Ok(())
}
