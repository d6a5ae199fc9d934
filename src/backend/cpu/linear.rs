//! output[r, c] = activation(Σ_k input[r, k] · weight[c, k] + bias[c]) + residual[r, c]

use std::ops::Range;

use fearless_simd::prelude::*;
use fearless_simd::{Level, Simd, dispatch};

use super::math::normal_cdf;
use super::panels::Panels;
use super::product::{MAX_PANEL_WIDTH, MAX_TILE_ROWS, product, tile_rows};
use super::threads::{for_each, num_tasks};
use super::{CpuBackend, CpuIndex, CpuMatrix};
use crate::backend::{Activation, Linear, MatrixShape, check};
use crate::error::Result;
use crate::tensor::PackedLinear;

/// Rows of a task: their inputs stay in the cache while panels of the weight pass by.
const MAX_TASK_ROWS: usize = 8 * MAX_TILE_ROWS;
/// The same where each task widens the panels that it uses: more rows share that.
const MAX_TASK_ROWS_OF_F16: usize = 22 * MAX_TILE_ROWS;

/// Weight and bias of a linear layer, as the product wants them.
#[derive(Debug, Clone)]
pub struct CpuLinear {
    out_stride: usize,
    weight: Panels,
    /// `[num_panels · panel_width]`
    bias: Vec<f32>,
}

impl CpuLinear {
    pub(super) fn new(level: Level, linear: &PackedLinear, is_compact: bool) -> Self {
        let weight = Panels::new(level, linear, is_compact);
        let mut bias = linear.bias.clone();
        bias.resize(linear.out_stride.next_multiple_of(weight.width()), 0.0);
        Self { out_stride: linear.out_stride, weight, bias }
    }
}

/// A part of the output.
struct Task<'a> {
    first_row: usize,
    features: Range<usize>,
    /// These features of the rows from the first one.
    rows: Vec<&'a mut [f32]>,
}

pub fn linear(level: Level, call: &Linear<'_, CpuBackend>, index: &CpuIndex, output: &mut CpuMatrix) -> Result<()> {
    let (in_stride, out_stride) = (call.linear.weight.depth(), call.linear.out_stride);
    let features = call.features.clone();
    check(call.input.stride() == in_stride, "linear", "input", call.input.stride(), in_stride)?;
    check(features.end <= out_stride, "linear", "features", format!("{features:?}"), out_stride)?;
    let columns = call.output_column..call.output_column + features.len();
    check(columns.end <= output.stride(), "linear", "output", output.stride(), columns.end)?;
    let num_rows = index.num_rows(call.rows.level);
    let max_rows = output.num_rows.min(call.input.num_rows);
    check(num_rows <= max_rows, "linear", "rows", num_rows, max_rows)?;
    if let Some(residual) = call.residual {
        check(residual.stride() >= features.len(), "linear", "residual", residual.stride(), features.len())?;
        check(residual.num_rows >= num_rows, "linear", "residual rows", residual.num_rows, num_rows)?;
    }
    for_each(tasks(call, num_rows, output), |task| dispatch!(level, simd => compute(simd, call, task)));
    Ok(())
}

/// Cuts the output into blocks of rows, and where they are few those into panels: then every thread reads its own part of the weight.
fn tasks<'a>(call: &Linear<'_, CpuBackend>, num_rows: usize, output: &'a mut CpuMatrix) -> Vec<Task<'a>> {
    let Range { start, end } = call.features;
    let width = call.linear.weight.width();
    let max_task_rows = if call.linear.weight.is_f16() { MAX_TASK_ROWS_OF_F16 } else { MAX_TASK_ROWS };
    let num_blocks = num_rows.div_ceil(max_task_rows);
    let rows_per_block = num_rows.div_ceil(num_blocks.max(1)).max(1).next_multiple_of(MAX_TILE_ROWS);
    let num_parts = num_tasks().div_ceil(num_blocks.max(1));
    let features_per_part = (end - start).div_ceil(num_parts).next_multiple_of(width);
    let stride = output.stride();
    let mut tasks = Vec::new();
    for (block, values) in output.values[..num_rows * stride].chunks_mut(rows_per_block * stride).enumerate() {
        let first_task = tasks.len();
        let mut at = start;
        while at < end {
            // Parts end where panels do.
            let next = (at + features_per_part).next_multiple_of(width).min(end);
            tasks.push(Task { first_row: block * rows_per_block, features: at..next, rows: Vec::new() });
            at = next;
        }
        for row in values.chunks_mut(stride) {
            let mut rest = &mut row[call.output_column..];
            for task in &mut tasks[first_task..] {
                let (part, after) = rest.split_at_mut(task.features.len());
                task.rows.push(part);
                rest = after;
            }
        }
    }
    tasks
}

#[inline(always)]
fn compute<S: Simd>(simd: S, call: &Linear<'_, CpuBackend>, mut task: Task<'_>) {
    let CpuLinear { weight, bias, .. } = call.linear;
    let (features, width) = (task.features, weight.width());
    let mut scratch = Vec::new();
    let inputs: Vec<&[f32]> =
        (task.first_row..task.first_row + task.rows.len()).map(|row| call.input.row(row)).collect();
    for panel in features.start / width..features.end.div_ceil(width) {
        let weight = weight.panel(simd, panel, &mut scratch);
        let bias = &bias[panel * width..][..width];
        // The panel's features that are asked for.
        let asked = features.start.max(panel * width)..features.end.min((panel + 1) * width);
        let in_panel = asked.start - panel * width..asked.end - panel * width;
        let mut sums = [0.0; MAX_TILE_ROWS * MAX_PANEL_WIDTH];
        let tiles = inputs.chunks(tile_rows::<S>()).zip(task.rows.chunks_mut(tile_rows::<S>()));
        for (tile, (inputs, rows)) in tiles.enumerate() {
            let first_row = task.first_row + tile * tile_rows::<S>();
            product(simd, inputs, weight, width, &mut sums, width);
            for (row, (sums, output)) in sums.chunks_exact(width).zip(rows).enumerate() {
                let output = &mut output[asked.start - features.start..][..asked.len()];
                let residual = call
                    .residual
                    .map(|residual| &residual.row(first_row + row)[asked.start - call.features.start..][..asked.len()]);
                if asked.len() == width {
                    finish(simd, call.activation, sums, bias, residual, output);
                } else {
                    let (mut padded, mut padded_residual) = ([0.0; MAX_PANEL_WIDTH], [0.0; MAX_PANEL_WIDTH]);
                    if let Some(residual) = residual {
                        padded_residual[in_panel.clone()].copy_from_slice(residual);
                    }
                    finish(simd, call.activation, sums, bias, Some(&padded_residual), &mut padded);
                    output.copy_from_slice(&padded[in_panel.clone()]);
                }
            }
        }
    }
}

/// output = activation(sums + bias) + residual, for a whole panel.
#[inline(always)]
fn finish<S: Simd>(
    simd: S,
    activation: Activation,
    sums: &[f32],
    bias: &[f32],
    residual: Option<&[f32]>,
    output: &mut [f32],
) {
    let lanes = S::f32s::LEN;
    for (vector, (sums, bias)) in sums.chunks_exact(lanes).zip(bias.chunks_exact(lanes)).enumerate() {
        let sum = S::f32s::from_slice(simd, sums) + S::f32s::from_slice(simd, bias);
        let mut value = match activation {
            Activation::Identity => sum,
            Activation::Gelu => sum * normal_cdf(simd, sum),
            Activation::Tanh => S::f32s::from_fn(simd, |lane| sum[lane].tanh()),
        };
        if let Some(residual) = residual {
            value += S::f32s::from_slice(simd, &residual[vector * lanes..][..lanes]);
        }
        value.store_slice(&mut output[vector * lanes..][..lanes]);
    }
}
