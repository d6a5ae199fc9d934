//! output[r, c] = activation(Σ_k input[r, k] · weight[c, k] + bias[c]) + residual[r, c]

use super::math::normal_cdf;
use super::rows::for_each_row;
use super::{CpuBackend, CpuIndex, CpuLinear, CpuMatrix};
use crate::backend::{Activation, Linear, MatrixShape, check};
use crate::error::Result;

/// Running sums per output: enough for the compiler to use SIMD, fixed so that every row adds in the same order.
const LANES: usize = 8;

pub fn linear(call: &Linear<'_, CpuBackend>, index: &CpuIndex, output: &mut CpuMatrix) -> Result<()> {
    let CpuLinear { in_stride, out_stride, weight, bias } = call.linear;
    let features = call.features.clone();
    check(call.input.stride() == *in_stride, "linear", "input", call.input.stride(), in_stride)?;
    check(features.end <= *out_stride, "linear", "features", format!("{features:?}"), out_stride)?;
    let columns = call.output_column..call.output_column + features.len();
    check(columns.end <= output.stride(), "linear", "output", output.stride(), columns.end)?;
    let num_rows = index.num_rows(call.rows.level);
    let max_rows = output.num_rows.min(call.input.num_rows);
    check(num_rows <= max_rows, "linear", "rows", num_rows, max_rows)?;
    if let Some(residual) = call.residual {
        check(residual.stride() >= features.len(), "linear", "residual", residual.stride(), features.len())?;
        check(residual.num_rows >= num_rows, "linear", "residual rows", residual.num_rows, num_rows)?;
    }
    for_each_row(output, num_rows, |row, values| {
        let input = call.input.row(row);
        let residual = call.residual.map(|residual| residual.row(row));
        for (place, feature) in features.clone().enumerate() {
            let weight = &weight[feature * in_stride..][..*in_stride];
            let mut sums = [0.0f32; LANES];
            for (input, weight) in input.chunks_exact(LANES).zip(weight.chunks_exact(LANES)) {
                for lane in 0..LANES {
                    sums[lane] += input[lane] * weight[lane];
                }
            }
            let sum = sums.iter().sum::<f32>() + bias[feature];
            let active = match call.activation {
                Activation::Identity => sum,
                Activation::Gelu => sum * normal_cdf(sum),
                Activation::Tanh => sum.tanh(),
            };
            values[call.output_column + place] = active + residual.map_or(0.0, |residual| residual[place]);
        }
    });
    Ok(())
}
