//! output[r, c] = activation(Σ_k input[r, k] · weight[c, k] + bias[c]) + residual[r, c]

use std::borrow::Cow;

use super::GpuBackend;
use super::buffers::{GpuIndex, GpuLinear, GpuMatrix, Int8Rows, WeightType};
use super::kernel::{params, shader};
use super::quantize_rows;
use super::queue::{Dispatch, Recorder};
use super::variant::Variant;
use crate::backend::{Activation, Linear, MatrixShape, check, check_int8_inputs};
use crate::error::Result;
use crate::tensor::{PackedLinear, PackedValues};

/// Rows of the tile that an invocation owns in the wide variant.
const TILE_ROWS: usize = 8;
/// Features of that tile.
const TILE_FEATURES: usize = 8;
/// Invocations of a workgroup there.
const WORKGROUP_SIZE: usize = 32;
/// Rows and features of a workgroup's tile in the tiled variant.
const TILE: usize = 64;

params! {
    struct Params {
        num_rows_at: u32,
        in_stride8: u32,
        num_features4: u32,
        first_feature: u32,
        output_stride4: u32,
        output_column4: u32,
        residual_stride4: u32,
        multiply_adds_per_row: u32,
        scales_at4: u32,
    }
}

shader!(
    "linear",
    ["erf", "exp", "linear_parts", "linear_floats", "linear_wide"],
    [Read, Read, Read, Read, Read, ReadWrite],
    [TILE_ROWS, TILE_FEATURES, WORKGROUP_SIZE]
);
shader!(
    TILED = "linear_tiled",
    ["erf", "exp", "linear_parts", "linear_floats", "linear_tiles"],
    [Read, Read, Read, Read, Read, ReadWrite],
    [TILE]
);
shader!(
    INT8 = "linear_int8",
    ["erf", "exp", "linear_parts", "linear_int8_parts", "linear_wide"],
    [Read, Read, Read, Read, Read, ReadWrite, Read],
    [TILE_ROWS, TILE_FEATURES, WORKGROUP_SIZE]
);
shader!(
    INT8_TILED = "linear_int8_tiled",
    ["erf", "exp", "linear_parts", "linear_int8_parts", "linear_tiles"],
    [Read, Read, Read, Read, Read, ReadWrite, Read],
    [TILE]
);

/// Uploads weight and bias, of int8 as the shaders want them.
pub fn create(recorder: &mut Recorder, label: &str, linear: &PackedLinear) -> Result<GpuLinear> {
    let mut bias = Cow::Borrowed(&linear.bias);
    let (weight, weight_type) = match &linear.weight {
        PackedValues::F32(values) => (recorder.upload(label, bytemuck::cast_slice(values))?, WeightType::F32),
        PackedValues::F16(bits) => (recorder.upload(label, bytemuck::cast_slice(bits))?, WeightType::F16),
        PackedValues::I8 { values, scales } => {
            check_int8_inputs(linear)?;
            bias.to_mut().extend(scales);
            let row_bytes = linear.in_stride.next_multiple_of(16);
            let mut rows = vec![0; linear.out_stride * row_bytes];
            for (padded, row) in rows.chunks_exact_mut(row_bytes).zip(values.chunks_exact(linear.in_stride)) {
                padded[..row.len()].copy_from_slice(bytemuck::cast_slice(row));
            }
            (recorder.upload(label, &rows)?, WeightType::Int8)
        }
    };
    Ok(GpuLinear {
        weight,
        bias: recorder.upload(label, bytemuck::cast_slice(bias.as_slice()))?,
        weight_type,
        in_features: linear.in_features,
        in_stride: linear.in_stride,
        out_features: linear.out_features,
        out_stride: linear.out_stride,
    })
}

pub fn dispatch(
    recorder: &mut Recorder,
    call: &Linear<'_, GpuBackend>,
    index: &GpuIndex,
    int8_rows: &mut Option<Int8Rows>,
    output: &GpuMatrix,
) -> Result<()> {
    let linear = call.linear;
    let features = call.features.clone();
    check(call.input.stride() == linear.in_stride, "linear", "input", call.input.stride(), linear.in_stride)?;
    check(features.end <= linear.out_stride, "linear", "features", format_args!("{features:?}"), linear.out_stride)?;
    check(
        features.start.is_multiple_of(4) && features.len().is_multiple_of(4),
        "linear",
        "features",
        format_args!("{features:?}"),
        "multiples of 4",
    )?;
    let end = call.output_column + features.len();
    check(end <= output.stride() && call.output_column.is_multiple_of(4), "linear", "output", output.stride(), end)?;
    let num_rows = output.num_rows.min(call.input.num_rows);
    check(call.rows.bound <= num_rows, "linear", "rows", call.rows.bound, num_rows)?;
    if let Some(residual) = call.residual {
        check(residual.stride() >= features.len(), "linear", "residual", residual.stride(), features.len())?;
        check(residual.num_rows >= call.rows.bound, "linear", "residual rows", residual.num_rows, call.rows.bound)?;
    }
    let multiply_adds_per_row = linear.in_features * (linear.out_features * features.len() / linear.out_stride);
    let params = Params {
        num_rows_at: index.layout.num_rows(call.rows.level) as u32,
        in_stride8: (linear.in_stride / 8) as u32,
        num_features4: (features.len() / 4) as u32,
        first_feature: features.start as u32,
        output_stride4: output.stride4(),
        output_column4: (call.output_column / 4) as u32,
        residual_stride4: call.residual.map_or(0, GpuMatrix::stride4),
        multiply_adds_per_row: multiply_adds_per_row as u32,
        scales_at4: (linear.out_stride / 4) as u32,
    };
    let is_wide = recorder.variants.linear == Variant::Wide;
    let num_workgroups = if is_wide {
        (call.rows.bound.div_ceil(TILE_ROWS) * features.len().div_ceil(TILE_FEATURES)).div_ceil(WORKGROUP_SIZE)
    } else {
        call.rows.bound.div_ceil(TILE) * features.len().div_ceil(TILE)
    };
    let constants =
        [("ACTIVATION", activation(call.activation)), ("WEIGHT_F16", f64::from(linear.weight_type == WeightType::F16))];
    let is_int8 = linear.weight_type == WeightType::Int8;
    if is_int8 {
        quantize_rows::dispatch(recorder, call.input, index, call.rows, int8_rows)?;
    }
    let (input, scales, constants) = match int8_rows {
        Some(rows) if is_int8 => (&rows.numbers, &rows.scales, &constants[..1]),
        _ => (&call.input.buffer, &call.input.buffer, &constants[..]),
    };
    let shader = match (is_int8, is_wide) {
        (false, true) => &SHADER,
        (false, false) => &TILED,
        (true, true) => &INT8,
        (true, false) => &INT8_TILED,
    };
    // Without a residual its binding holds the input, unread.
    let residual = call.residual.map_or(input, |residual| &residual.buffer);
    let num_buffers = shader.bindings.len();
    let buffers = [input, &linear.weight, &linear.bias, residual, &index.buffer, &output.buffer, scales];
    recorder.dispatch(Dispatch {
        shader,
        constants,
        params: bytemuck::bytes_of(&params),
        buffers: &buffers[..num_buffers],
        num_workgroups,
        multiply_adds: call.rows.bound as u64 * multiply_adds_per_row as u64,
    });
    Ok(())
}

/// Its number in the shader.
fn activation(activation: Activation) -> f64 {
    match activation {
        Activation::Identity => 0.0,
        Activation::Gelu => 1.0,
        Activation::Tanh => 2.0,
        Activation::GeluTanh => 3.0,
        Activation::QuickGelu => 4.0,
        Activation::Relu => 5.0,
    }
}
