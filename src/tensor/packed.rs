//! Weights repacked for the kernels.

use std::borrow::Cow;

use half::f16;

use super::{DType, Heads, Tensor, row_stride};
use crate::error::{Error, Result};

/// Values of a [`PackedLinear`]: f16 stays f16 (as bits) and int8 stays int8, everything else is f32.
#[derive(Debug, Clone, PartialEq)]
pub enum PackedValues {
    /// Values.
    F32(Vec<f32>),
    /// Bits of f16 values.
    F16(Vec<u16>),
    /// Whole numbers, and the scale of each output, `[out_stride]`.
    I8 {
        /// As the others.
        values: Vec<i8>,
        /// 0 where padded.
        scales: Vec<f32>,
    },
}

/// Weight and bias of a linear layer `output = input · weightᵀ + bias`, repacked for the kernels.
#[derive(Debug, Clone, PartialEq)]
pub struct PackedLinear {
    /// Columns of the input, without padding.
    pub in_features: usize,
    /// Columns of the input with padding.
    pub in_stride: usize,
    /// Columns of the output, without padding.
    pub out_features: usize,
    /// Columns of the output with padding.
    pub out_stride: usize,
    /// `[out_stride, in_stride]`, zero where padded.
    pub weight: PackedValues,
    /// `[out_stride]`, zero where padded.
    pub bias: Vec<f32>,
}

/// Where attention heads stand in the weights of a linear layer, and so where padding goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadSide {
    /// No heads: plain columns on both sides.
    None,
    /// The outputs are heads (query, key, value).
    Output(Heads),
    /// The inputs are heads (the projection after attention).
    Input(Heads),
}

impl PackedLinear {
    /// Stacks linear layers of equal shape along their outputs: `[(weight [out, in], bias [out])]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when a weight is no matrix of the first one's shape, or a bias does not fit it.
    pub fn stack(parts: &[(Tensor<'_>, Tensor<'_>)], heads: HeadSide) -> Result<Self> {
        let shape_error = |argument, found: &dyn std::fmt::Debug, expected: String| Error::Shape {
            kernel: "linear",
            argument,
            found: format!("{found:?}"),
            expected,
        };
        let Some(&[part_out, in_features]) = parts.first().map(|(weight, _)| weight.shape.as_slice()) else {
            return Err(shape_error("weight", &parts.first().map(|part| &part.0.shape), "a matrix".into()));
        };
        let (part_stride, in_stride) = match heads {
            HeadSide::None => (row_stride(part_out), row_stride(in_features)),
            HeadSide::Output(heads) => (heads.stride(), row_stride(in_features)),
            HeadSide::Input(heads) => (row_stride(part_out), heads.stride()),
        };
        let place = |row: usize, column: usize| match heads {
            HeadSide::None => row * in_stride + column,
            HeadSide::Output(heads) => heads.column(row) * in_stride + column,
            HeadSide::Input(heads) => row * in_stride + heads.column(column),
        };
        let out_stride = part_stride * parts.len();
        let all_are = |dtype: DType| parts.iter().all(|(weight, _)| weight.dtype == dtype);
        // A scale for every output.
        let has_scales = parts.iter().all(|(weight, _)| weight.num_scales() == part_out);
        let mut weight = if all_are(DType::F16) {
            PackedValues::F16(vec![0; out_stride * in_stride])
        } else if all_are(DType::I8) && has_scales {
            PackedValues::I8 { values: vec![0; out_stride * in_stride], scales: vec![0.0; out_stride] }
        } else {
            PackedValues::F32(vec![0.0; out_stride * in_stride])
        };
        let mut bias = vec![0.0; out_stride];
        for (part, (part_weight, part_bias)) in parts.iter().enumerate() {
            if part_weight.shape != [part_out, in_features] {
                return Err(shape_error("weight", &part_weight.shape, format!("[{part_out}, {in_features}]")));
            }
            if part_bias.shape != [part_out] {
                return Err(shape_error("bias", &part_bias.shape, format!("[{part_out}]")));
            }
            let base = part * part_stride * in_stride;
            let at = |flat: usize| base + place(flat / in_features, flat % in_features);
            let output = |row: usize| part * part_stride + place(row, 0) / in_stride;
            match &mut weight {
                PackedValues::F16(packed) => {
                    part_weight.f16_bits().enumerate().for_each(|(flat, bits)| packed[at(flat)] = bits);
                }
                PackedValues::I8 { values, scales } => {
                    part_weight.bytes.iter().enumerate().for_each(|(flat, &byte)| values[at(flat)] = byte as i8);
                    (0..part_out).for_each(|row| scales[output(row)] = part_weight.scale(row));
                }
                PackedValues::F32(packed) => {
                    part_weight.values().enumerate().for_each(|(flat, value)| packed[at(flat)] = value);
                }
            }
            for (row, value) in part_bias.values().enumerate() {
                bias[output(row)] = value;
            }
        }
        Ok(Self { in_features, in_stride, out_features: part_out * parts.len(), out_stride, weight, bias })
    }

    /// Multiplies every output by its factor, `[out_features]`. Outputs must not be heads.
    pub fn scale_outputs(&mut self, factors: &Tensor<'_>) {
        if let PackedValues::I8 { scales, .. } = &mut self.weight {
            for ((scale, bias), factor) in scales.iter_mut().zip(&mut self.bias).zip(factors.values()) {
                *scale *= factor;
                *bias *= factor;
            }
            return;
        }
        let mut weight = self.weight_f32().into_owned();
        let rows = weight.chunks_exact_mut(self.in_stride).zip(&mut self.bias);
        for ((row, bias), factor) in rows.zip(factors.values()) {
            row.iter_mut().chain([bias]).for_each(|value| *value *= factor);
        }
        self.weight = PackedValues::F32(weight);
    }

    /// The weight widened to f32, `[out_stride, in_stride]`.
    pub fn weight_f32(&self) -> Cow<'_, [f32]> {
        match &self.weight {
            PackedValues::F32(values) => Cow::Borrowed(values),
            PackedValues::F16(bits) => bits.iter().map(|&bits| f16::from_bits(bits).to_f32()).collect(),
            PackedValues::I8 { values, scales } => {
                let rows = values.chunks_exact(self.in_stride).zip(scales);
                rows.flat_map(|(row, &scale)| row.iter().map(move |&value| f32::from(value) * scale)).collect()
            }
        }
    }
}

/// Weight and bias of a layer normalisation, padded with zeros to a multiple of [`ROW_ALIGN`].
#[derive(Debug, Clone, PartialEq)]
pub struct PackedLayerNorm {
    /// Columns without padding.
    pub width: usize,
    /// `[row_stride(width)]`.
    pub weight: Vec<f32>,
    /// `[row_stride(width)]`.
    pub bias: Vec<f32>,
    /// Added to the variance.
    pub eps: f32,
}

impl PackedLayerNorm {
    /// Pads `weight` and `bias`, both `[width]`.
    pub fn new(weight: &Tensor<'_>, bias: &Tensor<'_>, eps: f32) -> Self {
        let width = weight.len();
        let pad = |tensor: &Tensor<'_>| {
            let mut values: Vec<f32> = tensor.values().collect();
            values.resize(row_stride(width), 0.0);
            values
        };
        Self { width, weight: pad(weight), bias: pad(bias), eps }
    }
}
