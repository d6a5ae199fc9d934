//! Host tensors: views into safetensors bytes, and weights repacked for the kernels.
//!
//! Kernels read rows in steps of 8 values. So every row is padded with zeros to a multiple of 8, and every attention
//! head to a multiple of 4. No kernel has a ragged inner loop.

mod packed;

use half::{bf16, f16};

pub use packed::{HeadSide, PackedLayerNorm, PackedLinear, PackedValues};

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
    /// A whole number from −128 to 127, times the scale of its row.
    I8,
}

impl DType {
    /// The format's name, as in `f16`.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::Bf16 => "bf16",
            DType::I8 => "int8",
        }
    }

    /// Bytes per value.
    pub const fn num_bytes(self) -> usize {
        match self {
            DType::F32 => 4,
            DType::F16 | DType::Bf16 => 2,
            DType::I8 => 1,
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
    /// Of [`DType::I8`]: the scales of its rows as f32, equally many values to a row. Of other formats empty.
    pub scales: &'a [u8],
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
        let row_scales = self.scales.len() / self.shape[0].max(1);
        let mut shape = self.shape.clone();
        shape[0] = num_rows;
        Self {
            dtype: self.dtype,
            shape,
            bytes: &self.bytes[start * row_bytes..][..num_rows * row_bytes],
            scales: &self.scales[start * row_scales..][..num_rows * row_scales],
        }
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
        let values = self.bytes[start * size..(start + len) * size].chunks_exact(size).enumerate();
        values.map(move |(place, bytes)| match dtype {
            DType::F32 => f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            DType::F16 => f16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
            DType::Bf16 => bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
            DType::I8 => f32::from(bytes[0] as i8) * self.scale((start + place) / self.row_len()),
        })
    }

    /// Values that share a scale.
    fn row_len(&self) -> usize {
        self.len() / self.num_scales().max(1)
    }

    fn num_scales(&self) -> usize {
        self.scales.len() / 4
    }

    fn scale(&self, row: usize) -> f32 {
        self.scales[4 * row..].first_chunk().map_or(0.0, |bytes| f32::from_le_bytes(*bytes))
    }

    /// Index of the first NaN or infinity: a value whose exponent bits are all ones.
    pub fn first_not_finite(&self) -> Option<usize> {
        match self.dtype {
            DType::F32 => self.bytes.chunks_exact(4).position(|bytes| bytes[3] & 0x7f == 0x7f && bytes[2] & 0x80 != 0),
            DType::F16 => self.bytes.chunks_exact(2).position(|bytes| bytes[1] & 0x7c == 0x7c),
            DType::Bf16 => self.bytes.chunks_exact(2).position(|bytes| bytes[1] & 0x7f == 0x7f && bytes[0] & 0x80 != 0),
            DType::I8 => None,
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
        if self.dtype == DType::I8 && self.row_len() == width {
            let scale = self.scale(row);
            for (sum, &byte) in out.iter_mut().zip(&self.bytes[row * width..(row + 1) * width]) {
                *sum += f32::from(byte as i8) * scale;
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
