//! output[i] = concat_h softmax_j(Q_h[i] · K_h[j] / √d) · V_h[j], j over the key rows of i's sample.

use super::GpuBackend;
use super::buffers::{GpuIndex, GpuMatrix};
use super::kernel::{INVOCATIONS, params, shader};
use super::queue::{Dispatch, Recorder};
use super::variant::Variant;
use crate::backend::{Attention, MatrixShape, check};
use crate::error::Result;

/// Query rows that an invocation owns.
const TILE_ROWS: usize = 4;
/// Query rows of the scores that a workgroup computes together.
pub const SCORE_ROWS: usize = 16;
/// Keys of those scores.
pub const SCORE_KEYS: usize = 64;

params! {
    struct Params {
        num_rows_at: u32,
        sample_of_row_at: u32,
        query_offsets_at: u32,
        key_offsets_at: u32,
        num_heads: u32,
        head_size: u32,
        head_stride4: u32,
        query_stride4: u32,
        qkv_stride4: u32,
        output_stride4: u32,
        stats_stride: u32,
        scale: f32,
    }
}

shader!(
    "attention",
    ["exp", "vectors", "scores", "stats", "attention_parts"],
    [Read, Read, Read, ReadWrite, ReadWrite],
    [TILE_ROWS, INVOCATIONS]
);
shader!(
    TILED = "attention_tiled",
    ["exp", "vectors", "score_tile", "score_rows", "attention_parts"],
    [Read, Read, Read, ReadWrite, ReadWrite],
    [SCORE_ROWS]
);

pub fn dispatch(
    recorder: &mut Recorder,
    call: &Attention<'_, GpuBackend>,
    index: &GpuIndex,
    output: &GpuMatrix,
    stats: Option<&GpuMatrix>,
) -> Result<()> {
    let heads = call.heads;
    let stride = heads.stride();
    check(call.query.stride() >= stride, "attention", "query", call.query.stride(), stride)?;
    check(call.qkv.stride() == 3 * stride, "attention", "qkv", call.qkv.stride(), 3 * stride)?;
    check(output.stride() == stride, "attention", "output", output.stride(), stride)?;
    let num_rows = output.num_rows.min(call.query.num_rows);
    check(call.query_rows.bound <= num_rows, "attention", "rows", call.query_rows.bound, num_rows)?;
    check(call.key_rows.bound <= call.qkv.num_rows, "attention", "key rows", call.key_rows.bound, call.qkv.num_rows)?;
    let layout = index.layout;
    let params = Params {
        num_rows_at: layout.num_rows(call.query_rows.level) as u32,
        sample_of_row_at: layout.sample_of_row(call.query_rows.level) as u32,
        query_offsets_at: layout.offsets(call.query_rows.level) as u32,
        key_offsets_at: layout.offsets(call.key_rows.level) as u32,
        num_heads: heads.num_heads as u32,
        head_size: heads.head_size as u32,
        head_stride4: (heads.head_stride() / 4) as u32,
        query_stride4: call.query.stride4(),
        qkv_stride4: call.qkv.stride4(),
        output_stride4: output.stride4(),
        stats_stride: stats.map_or(0, GpuMatrix::stride) as u32,
        scale: heads.scale(),
    };
    let unused = recorder.unused.clone();
    let num_rows = call.query_rows.bound;
    let (shader, num_workgroups) = match recorder.variants.attention {
        Variant::Wide => (&SHADER, (num_rows.div_ceil(TILE_ROWS) * heads.num_heads).div_ceil(INVOCATIONS)),
        Variant::Tiled => (&TILED, num_rows.div_ceil(SCORE_ROWS) * heads.num_heads),
    };
    recorder.dispatch(Dispatch {
        shader,
        constants: &[("STORE_STATS", f64::from(u8::from(stats.is_some())))],
        params: bytemuck::bytes_of(&params),
        buffers: &[
            &call.query.buffer,
            &call.qkv.buffer,
            &index.buffer,
            &output.buffer,
            stats.map_or(&unused, |stats| &stats.buffer),
        ],
        num_workgroups,
        multiply_adds: 2 * num_rows as u64 * layout.max_tokens as u64 * heads.width() as u64,
    });
    Ok(())
}
