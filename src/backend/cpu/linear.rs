//! output[r, c] = activation(Σ_k input[r, k] · weight[c, k] + bias[c]) + residual[r, c]
//!
//! Where the weight is int8, the input is rounded to int8 too, once for all features.

use std::ops::{Range, RangeInclusive};

use fearless_simd::prelude::*;
use fearless_simd::{Simd, dispatch};

use super::cores::Cores;
use super::int8::{self, Int8Panels, Int8Rows};
use super::math::{gelu_tanh, normal_cdf, quick_gelu, relu};
use super::panels::Panels;
use super::product::{MAX_LANES, MAX_PANEL_WIDTH, MAX_TILE_ROWS, MIN_TILE_ROWS, product};
use super::{CpuBackend, CpuIndex, CpuMatrix};
use crate::backend::{Activation, Linear, MatrixShape, check};
use crate::error::Result;
use crate::parallel::Threads;
use crate::tensor::PackedLinear;

/// Values of a task's inputs, if the fewest rows have no more: they stay in the second cache while panels of the weight pass by.
const MAX_TASK_VALUES: usize = 64 * 1024;
/// Rows of a task where they are many. With fewer, the weight is read more often; with more, threads wait longer for the last task.
const TASK_ROWS: RangeInclusive<usize> = 8 * MAX_TILE_ROWS..=16 * MAX_TILE_ROWS;
/// The most rows where panels cost something: each task widens those that it uses, or reads them from memory. More rows share that.
const MAX_TASK_ROWS: usize = 22 * MAX_TILE_ROWS;
/// Values of a weight that is read from memory each time: the caches hold no more.
const LARGE_WEIGHT: usize = 1 << 20;
/// Blocks of rows per thread from which on they get larger instead of more.
const BLOCKS_PER_THREAD: usize = 6;
/// Rows whose sums are finished together.
const BLOCK_ROWS: usize = 24;
const _: () = assert!(BLOCK_ROWS.is_multiple_of(MIN_TILE_ROWS) && BLOCK_ROWS.is_multiple_of(MAX_TILE_ROWS));
/// Panels that are computed together: a row's outputs are written in runs then.
const GROUP_PANELS: usize = 8;

/// Weight and bias of a linear layer, as the product wants them.
#[derive(Debug, Clone)]
pub struct CpuLinear {
    out_stride: usize,
    weight: Panels,
    /// `[num_panels · panel_width]`
    bias: Vec<f32>,
}

impl CpuLinear {
    pub(super) fn new(cores: &Cores, linear: &PackedLinear, is_compact: bool) -> Self {
        let weight = Panels::new(cores, linear, is_compact);
        let mut bias = linear.bias.clone();
        bias.resize(linear.out_stride.next_multiple_of(weight.width()), 0.0);
        Self { out_stride: linear.out_stride, weight, bias }
    }
}

/// A part of the output: a block of rows, or some of their features.
struct Task<'a> {
    first_row: usize,
    features: Range<usize>,
    output: TaskOutput<'a>,
}

enum TaskOutput<'a> {
    /// Whole rows of the output, with all features that are asked for.
    Rows(&'a mut [f32]),
    /// The task's features of every row.
    Parts(Vec<&'a mut [f32]>),
}

/// Rows of the input, as the product wants them.
enum Inputs<'a> {
    F32(Vec<&'a [f32]>),
    Int8(Vec<&'a [i32]>, &'a Int8Panels),
}

pub fn linear(
    cores: &Cores,
    call: &Linear<'_, CpuBackend>,
    index: &CpuIndex,
    int8_rows: &mut Int8Rows,
    output: &mut CpuMatrix,
) -> Result<()> {
    let (in_stride, out_stride) = (call.linear.weight.depth(), call.linear.out_stride);
    let features = call.features.clone();
    check(call.input.stride() == in_stride, "linear", "input", call.input.stride(), in_stride)?;
    check(features.end <= out_stride, "linear", "features", format_args!("{features:?}"), out_stride)?;
    let columns = call.output_column..call.output_column + features.len();
    check(columns.end <= output.stride(), "linear", "output", output.stride(), columns.end)?;
    let num_rows = index.num_rows(call.rows.level);
    let max_rows = output.num_rows.min(call.input.num_rows);
    check(num_rows <= max_rows, "linear", "rows", num_rows, max_rows)?;
    if let Some(residual) = call.residual {
        check(residual.stride() >= features.len(), "linear", "residual", residual.stride(), features.len())?;
        check(residual.num_rows >= num_rows, "linear", "residual rows", residual.num_rows, num_rows)?;
    }
    if let Some(weight) = call.linear.weight.int8() {
        int8_rows.quantize(cores, weight, call.input, num_rows);
    }
    let int8_rows = &*int8_rows;
    let stride = output.stride();
    cores.for_each(tasks(cores, call, num_rows, output), |task| {
        let rows = match task.output {
            TaskOutput::Rows(values) => values.chunks_mut(stride).map(|row| &mut row[columns.clone()]).collect(),
            TaskOutput::Parts(rows) => rows,
        };
        dispatch!(cores.level, simd => compute(simd, call, int8_rows, task.first_row, task.features, rows));
    });
    Ok(())
}

/// Cuts the output into blocks of rows, and where they are few those into panels: then every thread reads its own part of the weight.
fn tasks<'a>(
    cores: &Cores,
    call: &Linear<'_, CpuBackend>,
    num_rows: usize,
    output: &'a mut CpuMatrix,
) -> Vec<Task<'a>> {
    let Range { start, end } = call.features;
    let width = call.linear.weight.width();
    let num_threads = cores.threads_per_caller();
    let weight = &call.linear.weight;
    let task_rows = if weight.is_f16() || weight.depth() * call.linear.out_stride >= LARGE_WEIGHT {
        MAX_TASK_ROWS
    } else {
        let max_rows = (MAX_TASK_VALUES / call.linear.weight.depth().max(1)).min(*TASK_ROWS.end());
        (num_rows / (BLOCKS_PER_THREAD * num_threads)).min(max_rows).max(*TASK_ROWS.start())
    };
    let num_blocks = match num_rows.div_ceil(task_rows).max(1) {
        few if few < num_threads => few,
        many => many.next_multiple_of(num_threads),
    };
    let rows_per_block = num_rows.div_ceil(num_blocks).max(1).next_multiple_of(MAX_TILE_ROWS);
    let num_parts = Threads::num_tasks(num_threads).div_ceil(num_blocks);
    let features_per_part = (end - start).div_ceil(num_parts).next_multiple_of(width);
    let stride = output.stride();
    let mut tasks = Vec::new();
    for (block, values) in output.values[..num_rows * stride].chunks_mut(rows_per_block * stride).enumerate() {
        let first_row = block * rows_per_block;
        if num_parts == 1 {
            tasks.push(Task { first_row, features: start..end, output: TaskOutput::Rows(values) });
            continue;
        }
        let mut parts = Vec::new();
        let mut at = start;
        while at < end {
            // Parts end where panels do.
            let next = (at + features_per_part).next_multiple_of(width).min(end);
            parts.push((at..next, Vec::with_capacity(rows_per_block)));
            at = next;
        }
        for row in values.chunks_mut(stride) {
            let mut rest = &mut row[call.output_column..];
            for (features, rows) in &mut parts {
                let (part, after) = rest.split_at_mut(features.len());
                rows.push(part);
                rest = after;
            }
        }
        let tasks_of_parts =
            parts.into_iter().map(|(features, rows)| Task { first_row, features, output: TaskOutput::Parts(rows) });
        tasks.extend(tasks_of_parts);
    }
    tasks
}

#[inline(always)]
fn compute<S: Simd>(
    simd: S,
    call: &Linear<'_, CpuBackend>,
    int8_rows: &Int8Rows,
    first_row: usize,
    features: Range<usize>,
    mut outputs: Vec<&mut [f32]>,
) {
    let CpuLinear { weight, bias, .. } = call.linear;
    let width = weight.width();
    let (mut widened, mut sums) = (Vec::new(), [0.0; BLOCK_ROWS * GROUP_PANELS * MAX_PANEL_WIDTH]);
    let rows = first_row..first_row + outputs.len();
    let inputs = match weight.int8() {
        None => Inputs::F32(rows.clone().map(|row| call.input.row(row)).collect()),
        Some(panels) => Inputs::Int8(rows.clone().map(|row| int8_rows.row(row)).collect(), panels),
    };
    let first_residual = features.start - call.features.start;
    let residuals: Option<Vec<&[f32]>> =
        call.residual.map(|residual| rows.map(|row| &residual.row(row)[first_residual..]).collect());
    let end_panel = features.end.div_ceil(width);
    for first_panel in (features.start / width..end_panel).step_by(GROUP_PANELS) {
        let panels = first_panel..end_panel.min(first_panel + GROUP_PANELS);
        let (start, stride) = (first_panel * width, panels.len() * width);
        let weight = weight.panels(simd, panels.clone(), &mut widened);
        // The features of these panels that are asked for, and where they are in a row of the sums and of the output.
        let asked = features.start.max(start)..features.end.min(start + stride);
        let in_sums = asked.start - start..asked.end - start;
        let in_rows = asked.start - features.start..asked.end - features.start;
        for (block, outputs) in outputs.chunks_mut(BLOCK_ROWS).enumerate() {
            let rows = block * BLOCK_ROWS..block * BLOCK_ROWS + outputs.len();
            match &inputs {
                Inputs::F32(inputs) => product(simd, &inputs[rows], weight, width, &mut sums, stride),
                Inputs::Int8(inputs, weight) => {
                    int8::product(simd, &inputs[rows], weight, panels.clone(), &mut sums, stride);
                }
            }
            for (row, (sums, output)) in sums.chunks_exact(stride).zip(outputs).enumerate() {
                let residual =
                    residuals.as_ref().map(|residuals| &residuals[block * BLOCK_ROWS + row][in_rows.clone()]);
                let output = &mut output[in_rows.clone()];
                finish(simd, call.activation, &sums[in_sums.clone()], &bias[asked.clone()], residual, output);
            }
        }
    }
}

/// output = activation(sums + bias) + residual
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
    let whole = output.len() - output.len() % lanes;
    let vectors = sums.chunks_exact(lanes).zip(bias.chunks_exact(lanes)).zip(output.chunks_exact_mut(lanes));
    if let Some(residual) = residual {
        for (((sums, bias), output), residual) in vectors.zip(residual.chunks_exact(lanes)) {
            (activated(simd, activation, sums, bias) + S::f32s::from_slice(simd, residual)).store_slice(output);
        }
    } else {
        for ((sums, bias), output) in vectors {
            activated(simd, activation, sums, bias).store_slice(output);
        }
    }
    if whole < output.len() {
        let count = output.len() - whole;
        let (mut last_sums, mut last_bias) = ([0.0; MAX_LANES], [0.0; MAX_LANES]);
        last_sums[..count].copy_from_slice(&sums[whole..]);
        last_bias[..count].copy_from_slice(&bias[whole..]);
        let mut last_outputs = [0.0; MAX_LANES];
        activated(simd, activation, &last_sums[..lanes], &last_bias[..lanes]).store_slice(&mut last_outputs[..lanes]);
        output[whole..].copy_from_slice(&last_outputs[..count]);
        for (output, residual) in output[whole..].iter_mut().zip(residual.unwrap_or_default().iter().skip(whole)) {
            *output += residual;
        }
    }
}

/// activation(sums + bias), one vector.
#[inline(always)]
fn activated<S: Simd>(simd: S, activation: Activation, sums: &[f32], bias: &[f32]) -> S::f32s {
    let sum = S::f32s::from_slice(simd, sums) + S::f32s::from_slice(simd, bias);
    match activation {
        Activation::Identity => sum,
        Activation::Gelu => sum * normal_cdf(simd, sum),
        Activation::GeluTanh => gelu_tanh(simd, sum),
        Activation::QuickGelu => quick_gelu(simd, sum),
        Activation::Relu => relu(simd, sum),
        Activation::Tanh => S::f32s::from_fn(simd, |lane| sum[lane].tanh()),
    }
}
