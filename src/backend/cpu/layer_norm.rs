//! output[r, c] = (input[r, c] − mean_r) / √(variance_r + eps) · weight[c] + bias[c]

use fearless_simd::{Simd, dispatch};

use super::cores::Cores;
use super::math::{sum, sum_of_squares};
use super::{CpuIndex, CpuMatrix};
use crate::backend::{MatrixShape, Rows, check};
use crate::error::Result;
use crate::tensor::PackedLayerNorm;

pub fn layer_norm(
    cores: &Cores,
    input: &CpuMatrix,
    layer_norm: &PackedLayerNorm,
    index: &CpuIndex,
    rows: Rows,
    output: &mut CpuMatrix,
) -> Result<()> {
    let width = layer_norm.width;
    check(input.width == width, "layer_norm", "input", input.width, width)?;
    check(output.width == width, "layer_norm", "output", output.width, width)?;
    let num_rows = index.num_rows(rows.level);
    let max_rows = output.num_rows.min(input.num_rows);
    check(num_rows <= max_rows, "layer_norm", "rows", num_rows, max_rows)?;
    cores.for_each_block(output, num_rows, |first_row, values| {
        dispatch!(cores.level, simd => block(simd, input, layer_norm, first_row, values));
    });
    Ok(())
}

/// The rows from `first_row` that `output` holds.
#[inline(always)]
fn block<S: Simd>(simd: S, input: &CpuMatrix, layer_norm: &PackedLayerNorm, first_row: usize, output: &mut [f32]) {
    let PackedLayerNorm { width, weight, bias, eps } = layer_norm;
    for (row, output) in output.chunks_exact_mut(input.stride()).enumerate() {
        let input = input.row(first_row + row);
        let mean = (sum(simd, &input[..*width]) / *width as f64) as f32;
        let variance = sum_of_squares(simd, &input[..*width], mean) / *width as f64;
        let factor = (variance + f64::from(*eps)).sqrt().recip() as f32;
        // Padding has weight and bias 0, so it stays 0.
        for (output, (input, (weight, bias))) in output.iter_mut().zip(input.iter().zip(weight.iter().zip(bias))) {
            *output = (input - mean) * factor * weight + bias;
        }
    }
}
