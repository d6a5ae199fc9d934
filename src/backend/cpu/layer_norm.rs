//! output[r, c] = (input[r, c] − mean_r) / √(variance_r + eps) · weight[c] + bias[c]

use fearless_simd::{Level, Simd, dispatch};

use super::math::sum;
use super::threads::for_each_block;
use super::{CpuIndex, CpuMatrix};
use crate::backend::{MatrixShape, Rows, check};
use crate::error::Result;
use crate::tensor::PackedLayerNorm;

pub fn layer_norm(
    level: Level,
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
    let stride = output.stride();
    for_each_block(output, num_rows, |first_row, values| {
        for (row, values) in values.chunks_exact_mut(stride).enumerate() {
            dispatch!(level, simd => normalise(simd, input.row(first_row + row), layer_norm, values));
        }
    });
    Ok(())
}

#[inline(always)]
fn normalise<S: Simd>(simd: S, input: &[f32], layer_norm: &PackedLayerNorm, output: &mut [f32]) {
    let PackedLayerNorm { width, weight, bias, eps } = layer_norm;
    let mean = (sum(simd, &input[..*width]) / *width as f64) as f32;
    // First the squares, then the result in the same place.
    for (square, input) in output.iter_mut().zip(input) {
        *square = (input - mean) * (input - mean);
    }
    let deviation = (sum(simd, &output[..*width]) / *width as f64 + f64::from(*eps)).sqrt() as f32;
    // Padding has weight and bias 0, so it stays 0.
    for (output, (input, (weight, bias))) in output.iter_mut().zip(input.iter().zip(weight.iter().zip(bias))) {
        *output = (input - mean) / deviation * weight + bias;
    }
}
