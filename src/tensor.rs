//! Host tensors: views into safetensors bytes, and weights repacked for the kernels.
//!
//! Kernels read rows in steps of 8 values, so every row is padded with zeros to a multiple of 8, and
//! every attention head to a multiple of 4; no kernel has a ragged inner loop.

use std::borrow::Cow;

use half::{bf16, f16};

use crate::error::{Error, Result};

/// Rows of matrices are padded to a multiple of this many values.
pub const ROW_ALIGN: usize = 8;
/// Attention heads are padded to a multiple of this many values.
pub const HEAD_ALIGN: usize = 4;

/// `width` rounded up to [`ROW_ALIGN`].
pub const fn row_stride(width: usize) -> usize {
    width.next_multiple_of(ROW_ALIGN)
}

/// How the columns of an attention matrix are split into heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Number of attention heads.
    pub num_heads: usize,
    /// Values per head, without padding.
    pub head_size: usize,
}

impl Heads {
    /// Values per head with padding: `head_size` rounded up to [`HEAD_ALIGN`].
    pub const fn head_stride(self) -> usize {
        self.head_size.next_multiple_of(HEAD_ALIGN)
    }

    /// Columns of one of Q, K or V with padding: `num_heads · head_stride` rounded up to [`ROW_ALIGN`].
    pub const fn stride(self) -> usize {
        row_stride(self.num_heads * self.head_stride())
    }

    /// Sets the columns after the last head to zero, in rows of [`Heads::stride`] values.
    pub(crate) fn clear_padding(self, rows: &mut [f32]) {
        let end = self.num_heads * self.head_stride();
        if end < self.stride() {
            rows.chunks_exact_mut(self.stride()).for_each(|row| row[end..].fill(0.0));
        }
    }

    /// `num_heads · head_size`, the width without padding.
    pub const fn width(self) -> usize {
        self.num_heads * self.head_size
    }

    /// The padded column of the unpadded column `column`.
    const fn column(self, column: usize) -> usize {
        column / self.head_size * self.head_stride() + column % self.head_size
    }

    /// The factor of the attention scores: 1 / √head_size.
    pub fn scale(self) -> f32 {
        (self.head_size as f32).sqrt().recip()
    }
}

/// Number format of a stored tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DType {
    /// IEEE 754, 32 bits.
    F32,
    /// IEEE 754, 16 bits.
    F16,
    /// The upper half of an f32.
    Bf16,
}

impl DType {
    /// The format's name, as in `f16`.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::Bf16 => "bf16",
        }
    }

    /// Bytes per value.
    pub const fn num_bytes(self) -> usize {
        match self {
            DType::F32 => 4,
            DType::F16 | DType::Bf16 => 2,
        }
    }
}

/// A tensor in the bytes of a safetensors file (little-endian, any alignment).
#[derive(Debug, Clone)]
pub struct Tensor<'a> {
    /// Number format.
    pub dtype: DType,
    /// Rows first.
    pub shape: Vec<usize>,
    /// The values, row by row.
    pub bytes: &'a [u8],
}

impl Tensor<'_> {
    /// The same values under another shape of the same size.
    pub fn with_shape(self, shape: &[usize]) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), self.len());
        Self { shape: shape.to_vec(), ..self }
    }

    /// `num_rows` entries of the first dimension, from `start`.
    pub fn rows(&self, start: usize, num_rows: usize) -> Self {
        let row_bytes = self.shape[1..].iter().product::<usize>() * self.dtype.num_bytes();
        let mut shape = self.shape.clone();
        shape[0] = num_rows;
        Self { dtype: self.dtype, shape, bytes: &self.bytes[start * row_bytes..][..num_rows * row_bytes] }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.dtype.num_bytes()
    }

    /// Whether the tensor has no value.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// All values in order, widened to f32.
    pub fn values(&self) -> impl Iterator<Item = f32> + '_ {
        self.values_in(0, self.len())
    }

    /// `len` values from index `start`, widened to f32.
    pub fn values_in(&self, start: usize, len: usize) -> impl Iterator<Item = f32> + '_ {
        let size = self.dtype.num_bytes();
        let dtype = self.dtype;
        self.bytes[start * size..(start + len) * size].chunks_exact(size).map(move |bytes| match dtype {
            DType::F32 => f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            DType::F16 => f16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
            DType::Bf16 => bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
        })
    }

    /// Index of the first NaN or infinity: a value whose exponent bits are all ones.
    pub fn first_not_finite(&self) -> Option<usize> {
        match self.dtype {
            DType::F32 => self.bytes.chunks_exact(4).position(|bytes| bytes[3] & 0x7f == 0x7f && bytes[2] & 0x80 != 0),
            DType::F16 => self.bytes.chunks_exact(2).position(|bytes| bytes[1] & 0x7c == 0x7c),
            DType::Bf16 => self.bytes.chunks_exact(2).position(|bytes| bytes[1] & 0x7f == 0x7f && bytes[0] & 0x80 != 0),
        }
    }

    /// Adds row `row` of a matrix `[_, out.len()]` to `out`.
    pub fn add_row_to(&self, row: usize, out: &mut [f32]) {
        let width = out.len();
        if self.dtype == DType::F16 {
            let bytes = &self.bytes[row * width * 2..(row + 1) * width * 2];
            for (sum, bytes) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                *sum += widened(u16::from_le_bytes([bytes[0], bytes[1]]));
            }
            return;
        }
        for (sum, value) in out.iter_mut().zip(self.values_in(row * width, width)) {
            *sum += value;
        }
    }

    /// The stored bits of an f16 tensor.
    fn f16_bits(&self) -> impl Iterator<Item = u16> + '_ {
        self.bytes.chunks_exact(2).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]))
    }
}

/// A finite f16 as f32, without branches, so that loops over it become vectors.
fn widened(bits: u16) -> f32 {
    // Sign, exponent and fraction where an f32 has them; the exponent is 112 too small.
    let small = f32::from_bits((u32::from(bits) & 0x8000) << 16 | (u32::from(bits) & 0x7fff) << 13);
    small * f32::from_bits((127 + 112) << 23)
}

/// Values of a [`PackedLinear`]: f16 stays f16 (as bits), everything else is f32.
#[derive(Debug, Clone, PartialEq)]
pub enum PackedValues {
    /// Values.
    F32(Vec<f32>),
    /// Bits of f16 values.
    F16(Vec<u16>),
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
        let keep_f16 = parts.iter().all(|(weight, _)| weight.dtype == DType::F16);
        let mut weight = if keep_f16 {
            PackedValues::F16(vec![0; out_stride * in_stride])
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
            match &mut weight {
                PackedValues::F16(packed) => {
                    part_weight.f16_bits().enumerate().for_each(|(flat, bits)| packed[at(flat)] = bits);
                }
                PackedValues::F32(packed) => {
                    part_weight.values().enumerate().for_each(|(flat, value)| packed[at(flat)] = value);
                }
            }
            for (row, value) in part_bias.values().enumerate() {
                bias[part * part_stride + place(row, 0) / in_stride] = value;
            }
        }
        Ok(Self { in_features, in_stride, out_features: part_out * parts.len(), out_stride, weight, bias })
    }

    /// Multiplies every output by its factor, `[out_features]`. Outputs must not be heads.
    pub fn scale_outputs(&mut self, factors: &Tensor<'_>) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_f16_is_widened_exactly() {
        for bits in (0..=u16::MAX).filter(|&bits| f16::from_bits(bits).is_finite()) {
            assert_eq!(widened(bits).to_bits(), f16::from_bits(bits).to_f32().to_bits(), "{bits:#06x}");
        }
    }
}
