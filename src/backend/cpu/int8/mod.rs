//! The matrix product of int8: sums[r, c] = Σ_k numbers[r][k] · weight[c, k] · scale_r · scale_c.
//!
//! Inputs become whole numbers on the fly, with one scale for each row, so that no row depends on another. The sums of products are
//! whole numbers too, and exact: they are the same on every CPU.
//!
//! Two or four numbers of a row stand in one word, and so do those of a column: the CPU multiplies and adds them in one instruction.

mod dot;
mod tiles;

use std::ops::Range;

use fearless_simd::prelude::*;
use fearless_simd::{Simd, dispatch};

use super::CpuMatrix;
use super::cores::Cores;
use super::product::{MAX_LANES, panel_width};
use crate::backend::MatrixShape;
use crate::tensor::PackedLinear;
pub use dot::Dot;
use dot::{Pairs, Word};
use tiles::SomePanels;

/// The largest number of an input.
const MAX: f32 = 127.0;

/// Rows of numbers: first the scale of a row, as the bits of an f32, then its words.
#[derive(Debug, Default)]
pub struct Int8Rows {
    words: Vec<i32>,
    row_words: usize,
}

impl Int8Rows {
    /// The first rows of a matrix as numbers, to be multiplied by a weight.
    pub fn quantize(&mut self, cores: &Cores, weight: &Int8Panels, input: &CpuMatrix, num_rows: usize) {
        let word = weight.dot.word();
        self.row_words = 1 + input.stride() / word.len();
        self.words.resize(num_rows * self.row_words, 0);
        cores.for_each_block_of(&mut self.words, self.row_words, |first_row, words| {
            dispatch!(cores.level, simd => {
                for (row, words) in words.chunks_exact_mut(self.row_words).enumerate() {
                    quantize(simd, input.row(first_row + row), word, words);
                }
            });
        });
    }

    pub fn row(&self, row: usize) -> &[i32] {
        &self.words[row * self.row_words..][..self.row_words]
    }
}

/// number = value / scale, rounded to the nearest whole number; the scale is the largest absolute value over 127.
#[inline(always)]
fn quantize<S: Simd>(simd: S, values: &[f32], word: Word, words: &mut [i32]) {
    let (scale, factor) = scale_and_factor(largest(simd, values));
    let Some((first, words)) = words.split_first_mut() else { return };
    *first = scale.to_bits() as i32;
    let (lanes, per_word) = (S::i32s::LEN, word.len());
    let chunks = values.chunks_exact(per_word * lanes);
    let last = chunks.remainder();
    let (whole, last_words) = words.split_at_mut(values.len() / (per_word * lanes) * lanes);
    for (values, words) in chunks.zip(whole.chunks_exact_mut(lanes)) {
        words_of(simd, values, factor, word).store_slice(words);
    }
    if !last.is_empty() {
        let (mut padded, mut padded_words) = ([0.0; 4 * MAX_LANES], [0; MAX_LANES]);
        padded[..last.len()].copy_from_slice(last);
        words_of(simd, &padded[..per_word * lanes], factor, word).store_slice(&mut padded_words[..lanes]);
        last_words.copy_from_slice(&padded_words[..last_words.len()]);
    }
}

/// A vector of words.
#[inline(always)]
fn words_of<S: Simd>(simd: S, values: &[f32], factor: f32, word: Word) -> S::i32s {
    let lanes = S::f32s::LEN;
    let pairs = |at: usize| -> S::i16s {
        let numbers = |at: usize| -> S::i32s {
            (S::f32s::from_slice(simd, &values[at * lanes..][..lanes]) * factor).round_ties_even().to_int()
        };
        numbers(at).saturating_narrow(numbers(at + 1))
    };
    let fours = || pairs(0).saturating_narrow(pairs(2));
    match word {
        Word::Pair => pairs(0).bitcast(),
        Word::Signed => fours().bitcast(),
        // Another highest bit adds 128.
        Word::Unsigned => (fours() ^ S::i8s::splat(simd, i8::MIN)).bitcast(),
    }
}

/// The largest absolute value; infinity or NaN where there is one. As whole numbers, bits have the order of what they mean.
#[inline(always)]
fn largest<S: Simd>(simd: S, values: &[f32]) -> f32 {
    let without_sign = S::i32s::splat(simd, i32::MAX);
    let mut largest = S::i32s::splat(simd, 0);
    let vectors = values.chunks_exact(S::f32s::LEN);
    let last = vectors.remainder().iter().map(|value| value.abs().to_bits() as i32).max().unwrap_or(0);
    for vector in vectors {
        largest = largest.max(S::f32s::from_slice(simd, vector).bitcast::<S::i32s>() & without_sign);
    }
    f32::from_bits(largest.reduce_max().max(last) as u32)
}

/// The scale, and 1 over it. A row of zeros, or of values that have no scale among normal numbers, has 0. One with an infinity or NaN
/// has NaN, and so have its sums.
fn scale_and_factor(largest: f32) -> (f32, f32) {
    let scale = largest / MAX;
    if !largest.is_finite() {
        (f32::NAN, 0.0)
    } else if scale < f32::MIN_POSITIVE {
        (0.0, 0.0)
    } else {
        (scale, scale.recip())
    }
}

/// A weight: `[num_panels, words, panel_width, numbers_per_word]`, zero where the matrix has no column.
#[derive(Debug, Clone)]
pub struct Int8Panels {
    dot: Dot,
    width: usize,
    /// Bytes of a panel.
    panel_bytes: usize,
    values: Vec<i8>,
    /// Of each column.
    scales: Vec<f32>,
    /// 128 times the sum of each column, which unsigned inputs add.
    excesses: Vec<i32>,
}

impl Int8Panels {
    /// Packs the weight of a linear layer, `[out_stride, in_stride]`, and the scales of its outputs.
    pub fn new(cores: &Cores, linear: &PackedLinear, weight: &[i8], scales: &[f32]) -> Self {
        let (dot, width) = (cores.dot, panel_width(cores.level));
        let (depth, per_word) = (linear.in_stride, dot.word().len());
        let num_columns = linear.out_stride.next_multiple_of(width);
        let panel_bytes = depth * width;
        let mut values = vec![0; num_columns * depth];
        let mut excesses = vec![0; num_columns];
        for (column, numbers) in weight.chunks_exact(depth.max(1)).enumerate() {
            let panel = &mut values[column / width * panel_bytes..][..panel_bytes];
            let words = panel.chunks_exact_mut(width * per_word);
            for (word, numbers) in words.zip(numbers.chunks_exact(per_word)) {
                word[column % width * per_word..][..per_word].copy_from_slice(numbers);
            }
            if dot.word() == Word::Unsigned {
                excesses[column] = 128 * numbers.iter().map(|&number| i32::from(number)).sum::<i32>();
            }
        }
        let mut scales = scales.to_vec();
        scales.resize(num_columns, 0.0);
        Self { dot, width, panel_bytes, values, scales, excesses }
    }

    #[inline(always)]
    fn panels(&self, panels: Range<usize>) -> SomePanels<'_> {
        let columns = panels.start * self.width..panels.end * self.width;
        SomePanels {
            values: &self.values[panels.start * self.panel_bytes..panels.end * self.panel_bytes],
            scales: &self.scales[columns.clone()],
            excesses: &self.excesses[columns],
        }
    }
}

/// The product of rows with some panels. Row r of the p-th of them starts at `sums[r · stride + p · width]`.
#[inline(always)]
pub fn product<S: Simd>(
    simd: S,
    rows: &[&[i32]],
    weight: &Int8Panels,
    panels: Range<usize>,
    sums: &mut [f32],
    stride: usize,
) {
    match weight.dot {
        Dot::Pairs => tiles::product(simd, Pairs, rows, weight.panels(panels), sums, stride),
        #[cfg(target_arch = "x86_64")]
        Dot::Avx512(simd, dot) => tiles::product(simd, dot, rows, weight.panels(panels), sums, stride),
        #[cfg(target_arch = "x86_64")]
        Dot::Avx2(simd, dot) => tiles::product(simd, dot, rows, weight.panels(panels), sums, stride),
        #[cfg(target_arch = "aarch64")]
        Dot::Neon(simd, dot) => tiles::product(simd, dot, rows, weight.panels(panels), sums, stride),
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128", feature = "relaxed-simd"))]
        Dot::Wasm(simd, dot) => tiles::product(simd, dot, rows, weight.panels(panels), sums, stride),
    }
}

#[cfg(test)]
mod tests {
    use fearless_simd::Level;

    use super::*;

    /// All kinds of words hold the same numbers, also in a row that ends within a vector.
    #[test]
    fn words_hold_the_same_numbers() {
        let level = Level::new();
        for len in (8..=200).step_by(8) {
            let values: Vec<f32> = (0..len).map(|place| (place as f32 * 0.37).sin() * (place % 11) as f32).collect();
            let [pairs, signed, unsigned] = [Word::Pair, Word::Signed, Word::Unsigned].map(|word| {
                let mut words = vec![-1; 1 + len / word.len()];
                dispatch!(level, simd => quantize(simd, &values, word, &mut words));
                words
            });
            assert_eq!((pairs[0], pairs[0]), (signed[0], unsigned[0]));
            let scale = f32::from_bits(pairs[0] as u32);
            let pairs: Vec<i32> =
                pairs[1..].iter().flat_map(|word| [*word as i16, (word >> 16) as i16]).map(i32::from).collect();
            let bytes = |words: &[i32]| words[1..].iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
            assert!(bytes(&signed).into_iter().map(|byte| i32::from(byte as i8)).eq(pairs.iter().copied()), "{len}");
            assert!(bytes(&unsigned).into_iter().map(|byte| i32::from(byte) - 128).eq(pairs.iter().copied()), "{len}");
            for (value, number) in values.iter().zip(pairs) {
                assert!(
                    (value - number as f32 * scale).abs() <= 0.5001 * scale,
                    "{value} became {number} times {scale}"
                );
            }
        }
    }
}
