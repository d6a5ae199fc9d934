//! A weight as panels for the matrix product: int8, f32, or f16 that is widened as it is needed.
//!
//! Staying f16 halves the memory. Widening takes seven instructions for two vectors. That is little beside the
//! product with a block of rows. With the few rows of a short text it is a tenth of that, or more.

use std::borrow::Cow;
use std::ops::Range;

use fearless_simd::Simd;
use fearless_simd::prelude::*;
use half::f16;

use super::cores::Cores;
use super::int8::Int8Panels;
use super::product::{pack_columns, panel_width};
use crate::tensor::{PackedLinear, PackedValues};

/// Stored f16 values are 2^SCALE_BITS times the weights: then none that is not 0 is subnormal in f32 on its way to an f32, which
/// is where CPUs are slow.
const SCALE_BITS: i32 = 10;
/// Larger weights stay f32: times the scale they are no f16.
const MAX_F16: f32 = 63.0;

/// `[num_panels, depth, panel_width]`, zero where the matrix has no column.
#[derive(Debug, Clone)]
pub struct Panels {
    depth: usize,
    width: usize,
    values: Values,
}

#[derive(Debug, Clone)]
enum Values {
    F32(Vec<f32>),
    /// The two vectors of a row of a panel as pairs: bits of the first one's value below those of the second one's.
    F16(Vec<i32>),
    /// For a product of its own.
    I8(Int8Panels),
}

impl Panels {
    /// Packs the weight of a linear layer, `[out_stride, in_stride]`. Only if `is_compact` does f16 stay f16.
    pub fn new(cores: &Cores, linear: &PackedLinear, is_compact: bool) -> Self {
        let (depth, width) = (linear.in_stride, panel_width(cores.level));
        let num_columns = linear.out_stride.next_multiple_of(width);
        let values = match &linear.weight {
            PackedValues::F16(bits) if is_compact && bits.iter().copied().all(is_small) => {
                Values::F16(f16_panels(bits, depth, width, num_columns))
            }
            PackedValues::I8 { values, scales } => Values::I8(Int8Panels::new(cores, linear, values, scales)),
            PackedValues::F16(_) | PackedValues::F32(_) => {
                let mut panels = vec![0.0; num_columns * depth];
                let columns: Cow<'_, [f32]> = linear.weight_f32();
                pack_columns(columns.chunks_exact(depth.max(1)), depth, width, 1.0, &mut panels);
                Values::F32(panels)
            }
        };
        Self { depth, width, values }
    }

    /// Whether panels have to be widened.
    pub fn is_f16(&self) -> bool {
        matches!(self.values, Values::F16(_))
    }

    /// The weight, if it is int8.
    pub fn int8(&self) -> Option<&Int8Panels> {
        match &self.values {
            Values::I8(panels) => Some(panels),
            Values::F32(_) | Values::F16(_) => None,
        }
    }

    /// Columns of a panel.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows of a panel.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Some panels, `[panels, depth, width]`; in `scratch` if they have to be widened. Of int8 there are none: see [`Panels::int8`].
    #[inline(always)]
    pub fn panels<'a, S: Simd>(&'a self, simd: S, panels: Range<usize>, scratch: &'a mut Vec<f32>) -> &'a [f32] {
        let len = self.depth * self.width;
        let (start, end) = (panels.start * len, panels.end * len);
        match &self.values {
            Values::F32(values) => &values[start..end],
            Values::I8(_) => &[],
            Values::F16(pairs) => {
                scratch.resize(end - start, 0.0);
                simd.vectorize(
                    #[inline(always)]
                    || widen(simd, &pairs[start / 2..end / 2], scratch),
                );
                scratch
            }
        }
    }
}

fn is_small(bits: u16) -> bool {
    f16::from_bits(bits).to_f32().abs() < MAX_F16
}

fn f16_panels(bits: &[u16], depth: usize, width: usize, num_columns: usize) -> Vec<i32> {
    let scale = 2f32.powi(SCALE_BITS);
    let mut pairs = vec![0; num_columns * depth / 2];
    let half_width = width / 2;
    for (column, values) in bits.chunks_exact(depth.max(1)).enumerate() {
        let (panel, place) = (column / width, column % width);
        let shift = if place < half_width { 0 } else { 16 };
        let panel = &mut pairs[panel * depth * half_width..][..depth * half_width];
        for (pair, &value) in panel[place % half_width..].iter_mut().step_by(half_width).zip(values) {
            let scaled = f16::from_f32(f16::from_bits(value).to_f32() * scale);
            *pair |= (u32::from(scaled.to_bits()) << shift) as i32;
        }
    }
    pairs
}

/// Widens pairs of vectors, one after the other.
#[inline(always)]
fn widen<S: Simd>(simd: S, pairs: &[i32], values: &mut [f32]) {
    let lanes = S::f32s::LEN;
    for (pairs, values) in pairs.chunks_exact(lanes).zip(values.chunks_exact_mut(2 * lanes)) {
        let pairs = S::i32s::from_slice(simd, pairs);
        let (first, second) = values.split_at_mut(lanes);
        upper_half(simd, pairs << 16).store_slice(first);
        upper_half(simd, pairs).store_slice(second);
    }
}

/// The f16 in the upper half of every lane, over the scale.
#[inline(always)]
fn upper_half<S: Simd>(simd: S, lanes: S::i32s) -> S::f32s {
    // Sign, exponent and fraction where an f32 has them; the exponent is 112 too small.
    let bits = (lanes >> 3) & S::i32s::splat(simd, 0x8fff_e000_u32 as i32);
    bits.bitcast::<S::f32s>() * f32::from_bits(((127 + 112 - SCALE_BITS) as u32) << 23)
}

#[cfg(test)]
mod tests {
    use fearless_simd::{Level, dispatch};

    use super::*;

    /// A panel of a weight `[out_stride, 8]`.
    fn first_panel(weight: Vec<u16>) -> (Panels, Vec<f32>) {
        let (in_stride, out_stride) = (8, weight.len() / 8);
        let linear = PackedLinear {
            in_features: in_stride,
            in_stride,
            out_features: out_stride,
            out_stride,
            weight: PackedValues::F16(weight),
            bias: vec![0.0; out_stride],
        };
        let level = Level::new();
        let panels = Panels::new(&Cores::new(level), &linear, true);
        let mut scratch = Vec::new();
        let values = dispatch!(level, simd => panels.panels(simd, 0..1, &mut scratch).to_vec());
        (panels, values)
    }

    #[test]
    fn every_small_f16_is_widened_exactly() {
        let small: Vec<u16> = (0..=u16::MAX).filter(|&bits| is_small(bits)).collect();
        assert!(small.len() > 40_000, "{}", small.len());
        for bits in small.chunks_exact(8) {
            let (_, values) = first_panel(bits.to_vec());
            let width = values.len() / 8;
            for (k, &bits) in bits.iter().enumerate() {
                assert_eq!(values[k * width].to_bits(), f16::from_bits(bits).to_f32().to_bits(), "{bits:#06x}");
            }
        }
    }

    #[test]
    fn large_weights_stay_f32() {
        for (weight, is_f32) in
            [(62.9, false), (63.0, true), (-60_000.0, true), (f32::INFINITY, true), (f32::NAN, true)]
        {
            let (panels, values) = first_panel(vec![f16::from_f32(weight).to_bits(); 8]);
            assert_eq!(matches!(panels.values, Values::F32(_)), is_f32, "{weight}");
            assert_eq!(values[0].to_bits(), f16::from_f32(weight).to_f32().to_bits(), "{weight}");
        }
    }
}
