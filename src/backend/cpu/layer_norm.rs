//! output[r, c] = (input[r, c] − mean_r) / √(variance_r + eps) · weight[c] + bias[c]

use super::rows::for_each_row;
use super::{CpuIndex, CpuMatrix};
use crate::backend::{Rows, check};
use crate::error::Result;
use crate::tensor::PackedLayerNorm;

pub fn layer_norm(
    input: &CpuMatrix,
    layer_norm: &PackedLayerNorm,
    index: &CpuIndex,
    rows: Rows,
    output: &mut CpuMatrix,
) -> Result<()> {
    let PackedLayerNorm { width, weight, bias, eps } = layer_norm;
    check(input.width == *width, "layer_norm", "input", input.width, width)?;
    check(output.width == *width, "layer_norm", "output", output.width, width)?;
    let num_rows = index.num_rows(rows.level);
    let max_rows = output.num_rows.min(input.num_rows);
    check(num_rows <= max_rows, "layer_norm", "rows", num_rows, max_rows)?;
    for_each_row(output, num_rows, |row, values| {
        let input = input.row(row);
        let mean = input[..*width].iter().sum::<f32>() / *width as f32;
        let variance = input[..*width].iter().map(|value| (value - mean) * (value - mean)).sum::<f32>() / *width as f32;
        let deviation = (variance + eps).sqrt();
        for (column, value) in values.iter_mut().enumerate() {
            // Padding has weight and bias 0, so it stays 0.
            *value = (input[column] - mean) / deviation * weight[column] + bias[column];
        }
    });
    Ok(())
}
