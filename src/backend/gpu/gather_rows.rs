//! output[r, c] = input[source_row[level][r], columns.start + c]

use std::ops::Range;

use super::buffers::{GpuIndex, GpuMatrix};
use super::kernel::{INVOCATIONS, params, shader};
use super::queue::{Dispatch, Recorder};
use crate::backend::{MatrixShape, Rows, check};
use crate::error::Result;

params! {
    struct Params {
        num_rows_at: u32,
        source_row_at: u32,
        width4: u32,
        first_column4: u32,
        input_stride4: u32,
        output_stride4: u32,
    }
}

shader!("gather_rows", [], [Read, Read, ReadWrite], [INVOCATIONS]);

pub fn dispatch(
    recorder: &mut Recorder,
    input: &GpuMatrix,
    columns: Range<usize>,
    index: &GpuIndex,
    rows: Rows,
    output: &GpuMatrix,
) -> Result<()> {
    check(columns.end <= input.stride(), "gather_rows", "columns", columns.end, input.stride())?;
    check(
        columns.start.is_multiple_of(4) && columns.len().is_multiple_of(4),
        "gather_rows",
        "columns",
        format_args!("{columns:?}"),
        "multiples of 4",
    )?;
    check(columns.len() <= output.stride(), "gather_rows", "output", output.stride(), columns.len())?;
    check(rows.bound <= output.num_rows, "gather_rows", "rows", rows.bound, output.num_rows)?;
    let params = Params {
        num_rows_at: index.layout.num_rows(rows.level) as u32,
        source_row_at: index.layout.source_row(rows.level) as u32,
        width4: (columns.len() / 4) as u32,
        first_column4: (columns.start / 4) as u32,
        input_stride4: input.stride4(),
        output_stride4: output.stride4(),
    };
    recorder.dispatch(Dispatch {
        shader: &SHADER,
        constants: &[],
        params: bytemuck::bytes_of(&params),
        buffers: &[&input.buffer, &index.buffer, &output.buffer],
        num_workgroups: (rows.bound * columns.len() / 4).div_ceil(INVOCATIONS),
        multiply_adds: rows.bound as u64 * columns.len() as u64,
    });
    Ok(())
}
