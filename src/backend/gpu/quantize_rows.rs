//! numbers[r, k] = round(input[r, k] / scale_r), scale_r = max_k |input[r, k]| / 127

use super::buffers::{GpuIndex, GpuMatrix, Int8Rows};
use super::kernel::{params, shader};
use super::queue::{Dispatch, Recorder};
use crate::backend::{MatrixShape, Rows};
use crate::error::Result;

/// Rows that a workgroup owns.
const ROWS: usize = 4;

params! {
    struct Params {
        num_rows_at: u32,
        stride4: u32,
    }
}

shader!("quantize_rows", [], [Read, Read, ReadWrite, ReadWrite], [ROWS]);

/// Makes the first rows of a matrix int8.
pub fn dispatch(
    recorder: &mut Recorder,
    input: &GpuMatrix,
    index: &GpuIndex,
    rows: Rows,
    int8_rows: &mut Option<Int8Rows>,
) -> Result<()> {
    let num_words = input.num_rows * input.stride().next_multiple_of(16) / 4;
    let room = Int8Rows::with_room(recorder, int8_rows, input.num_rows, num_words)?;
    recorder.dispatch(Dispatch {
        shader: &SHADER,
        constants: &[],
        params: bytemuck::bytes_of(&Params {
            num_rows_at: index.layout.num_rows(rows.level) as u32,
            stride4: input.stride4(),
        }),
        buffers: &[&input.buffer, &index.buffer, &room.numbers, &room.scales],
        num_workgroups: rows.bound.div_ceil(ROWS),
        multiply_adds: rows.bound as u64 * 2 * input.stride() as u64,
    });
    Ok(())
}

impl Int8Rows {
    /// Room for so many rows, words in all, grown if there is less.
    fn with_room<'a>(
        recorder: &mut Recorder,
        rows: &'a mut Option<Self>,
        num_rows: usize,
        num_words: usize,
    ) -> Result<&'a Self> {
        let before = rows.take();
        let [old_words, old_rows] = before.as_ref().map_or([0; 2], |rows| [rows.num_words, rows.num_rows]);
        let room = match before {
            Some(rows) if num_words <= old_words && num_rows <= old_rows => rows,
            _ => {
                let [num_words, num_rows] = [num_words.max(old_words), num_rows.max(old_rows)];
                let numbers = recorder.create_buffer("int8 rows", 4 * num_words as u64)?;
                let scales = recorder.create_buffer("int8 scales", 4 * num_rows as u64)?;
                Self { numbers, scales, num_rows, num_words }
            }
        };
        Ok(rows.insert(room))
    }
}
