//! output[r, c] = input[source_row[level][r], columns.start + c]

use std::ops::Range;

use super::cores::Cores;
use super::{CpuIndex, CpuMatrix};
use crate::backend::{MatrixShape, Rows, check};
use crate::error::Result;

pub fn gather_rows(
    cores: &Cores,
    input: &CpuMatrix,
    columns: Range<usize>,
    index: &CpuIndex,
    rows: Rows,
    output: &mut CpuMatrix,
) -> Result<()> {
    check(columns.end <= input.stride(), "gather_rows", "columns", columns.end, input.stride())?;
    check(columns.len() <= output.stride(), "gather_rows", "output", output.stride(), columns.len())?;
    let num_rows = index.num_rows(rows.level);
    check(num_rows <= output.num_rows, "gather_rows", "rows", num_rows, output.num_rows)?;
    let source_row = &index.words[index.layout.source_row(rows.level)..];
    let stride = output.stride();
    cores.for_each_block(output, num_rows, |first_row, values| {
        for (values, &source) in values.chunks_exact_mut(stride).zip(&source_row[first_row..]) {
            values[..columns.len()].copy_from_slice(&input.row(source as usize)[columns.clone()]);
        }
    });
    Ok(())
}
