//! output[r, c] = (input[r, c] − mean_r) / √(variance_r + eps) · weight[c] + bias[c]

use super::buffers::{GpuIndex, GpuLayerNorm, GpuMatrix};
use super::kernel::{params, shader};
use super::queue::{Dispatch, Recorder};
use crate::backend::{MatrixShape, Rows, check};
use crate::error::Result;

/// Rows that a workgroup owns.
const ROWS: usize = 4;

params! {
    struct Params {
        num_rows_at: u32,
        width: u32,
        stride4: u32,
        eps: f32,
    }
}

shader!("layer_norm", [], [Read, Read, Read, ReadWrite], [ROWS]);

pub fn dispatch(
    recorder: &mut Recorder,
    input: &GpuMatrix,
    layer_norm: &GpuLayerNorm,
    index: &GpuIndex,
    rows: Rows,
    output: &GpuMatrix,
) -> Result<()> {
    check(input.width == layer_norm.width, "layer_norm", "input", input.width, layer_norm.width)?;
    check(output.width == layer_norm.width, "layer_norm", "output", output.width, layer_norm.width)?;
    let max_rows = output.num_rows.min(input.num_rows);
    check(rows.bound <= max_rows, "layer_norm", "rows", rows.bound, max_rows)?;
    let params = Params {
        num_rows_at: index.layout.num_rows(rows.level) as u32,
        width: layer_norm.width as u32,
        stride4: input.stride4(),
        eps: layer_norm.eps,
    };
    recorder.dispatch(Dispatch {
        shader: &SHADER,
        constants: &[],
        params: bytemuck::bytes_of(&params),
        buffers: &[&input.buffer, &layer_norm.weight, &index.buffer, &output.buffer],
        num_workgroups: rows.bound.div_ceil(ROWS),
        multiply_adds: rows.bound as u64 * 4 * input.stride() as u64,
    });
    Ok(())
}
